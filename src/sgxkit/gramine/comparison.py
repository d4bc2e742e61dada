"""What an enclave costs a program: the same command natively, in Gramine without SGX, and in an enclave."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from sgxkit.errors import InputError
from sgxkit.gramine.file_rules import uri_of
from sgxkit.gramine.rules import at
from sgxkit.gramine.running import Place, Runner
from sgxkit.messages import msg

PAGE_SIZE = 4096
_ROW, _LEFT, _WIDTH = 26, 130, 640
_COLOURS = {"native": "#74c476", "direct": "#9ecae1", "sgx": "#fd8d3c"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of running, the medians of its rounds.

    way         native, direct or sgx; `emulated` where the SGX is.
    first_output   seconds to the first byte that the program prints; None where it prints nothing.
    wall, cpu   seconds to its end, and of processors for it and all it starts.
    epc_bytes   the most EPC at a time; `entries` and `asynchronous_exits` counts. None where nobody counts them.
    """

    way: str
    emulated: bool
    first_output: float | None
    wall: float
    cpu: float
    exit_code: int
    epc_bytes: int | None = None
    entries: int | None = None
    asynchronous_exits: int | None = None


def native_command(manifest: dict[str, Any], folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment by which the manifest's program runs outside, as near as can be told."""
    entrypoint = at(manifest, "libos", "entrypoint")
    kind, uri = uri_of(manifest, entrypoint if entrypoint.startswith("/") else f"/{entrypoint}")
    if kind != "chroot" or not uri.startswith("file:"):
        raise InputError(msg("{path} is no file of this machine, so it cannot run natively", path=entrypoint))
    program = (folder / uri.removeprefix("file:")).absolute()
    arguments = at(manifest, "loader", "argv")
    environment = dict(os.environ)
    for name, value in (at(manifest, "loader", "env") or {}).items():
        text = value.get("value") if isinstance(value, dict) else value
        if isinstance(text, str) and name != "LD_LIBRARY_PATH":
            environment[name] = text
    words = [_outside(manifest, word, folder) for word in arguments[1:]] if isinstance(arguments, list) else []
    return [str(program), *words], environment


def _outside(manifest: dict[str, Any], word: str, folder: Path) -> str:
    """An argument that is a path inside, as the path of the same file outside."""
    if not word.startswith("/"):
        return word
    kind, uri = uri_of(manifest, word)
    outside = folder / uri.removeprefix("file:")
    return str(outside.absolute()) if kind == "chroot" and uri.startswith("file:") and outside.exists() else word


def time_command(
    way: str, command: Sequence[str], folder: Path, environment: dict[str, str] | None, rounds: int
) -> Measured:
    """Run a command so many times and return the medians; the exit code is that of the worst round."""
    done = [_once(command, folder, environment) for _ in range(rounds)]
    firsts = [first for first, _, _, _ in done if first is not None]
    return Measured(
        way,
        emulated=False,
        first_output=median(firsts) if firsts else None,
        wall=median(wall for _, wall, _, _ in done),
        cpu=median(cpu for _, _, cpu, _ in done),
        exit_code=max((code for *_, code in done), key=abs),
    )


def time_enclave(how: Runner, arguments: Sequence[str], rounds: int) -> Measured:
    """The same for an enclave; on an emulated machine with what it counts."""
    if how.place is not Place.EMULATED:
        return time_command("sgx", [*how.command, *arguments], how.folder, None, rounds)
    with tempfile.TemporaryDirectory(prefix="sgxkit-") as name:
        counts = Path(name) / "counts.json"
        begin = how.command.index("run") + 1
        command = [*how.command[:begin], "--stats-output", str(counts), *how.command[begin:], *arguments]
        timed = time_command("sgx", command, how.folder, None, rounds)
        try:
            document = json.loads(counts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            document = {}
    exits = document.get("asynchronous_exits")
    pages = document.get("epc_pages_most")
    return Measured(
        "sgx",
        emulated=True,
        first_output=timed.first_output,
        wall=timed.wall,
        cpu=timed.cpu,
        exit_code=timed.exit_code,
        epc_bytes=pages * PAGE_SIZE if isinstance(pages, int) else None,
        entries=document.get("leaf_functions", {}).get("EENTER"),
        asynchronous_exits=sum(exits.values()) if isinstance(exits, dict) else None,
    )


def _once(
    command: Sequence[str], folder: Path, environment: dict[str, str] | None
) -> tuple[float | None, float, float, int]:
    before = _children()
    begin = time.perf_counter()
    try:
        process = subprocess.Popen(  # noqa: S603 - the caller's own
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be run: {reason}", path=command[0], reason=problem.strerror or problem)
        ) from problem
    assert process.stdout is not None
    first = None
    with process:
        while os.read(process.stdout.fileno(), 1 << 16):
            first = first if first is not None else time.perf_counter() - begin
    wall = time.perf_counter() - begin
    return first, wall, _children() - before, process.returncode


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def picture(title: str, found: Sequence[Measured]) -> str:
    """Draw the times as bars: all of a run, and in it, darker, the part before its first output."""
    longest = max(each.wall for each in found)
    rows = []
    for number, each in enumerate(found):
        y = (number + 1) * _ROW + 8
        colour = _COLOURS[each.way]
        whole = max(1.0, (_WIDTH - _LEFT - 90) * each.wall / longest)
        start = whole * (each.first_output or 0) / each.wall if each.wall else 0
        name = f"{each.way}, emulated" if each.emulated else each.way
        rows += [
            f'<text x="4" y="{y + 14}">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{whole:.1f}" height="18" fill="{colour}"/>',
            f'<rect x="{_LEFT}" y="{y}" width="{start:.1f}" height="18" fill="#000000" fill-opacity="0.25"/>',
            f'<text x="{_LEFT + whole + 6:.1f}" y="{y + 14}">{each.wall:.2f} s</text>',
        ]
    height = (len(found) + 2) * _ROW
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="13">',
            f'<text x="4" y="18">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        )
    )
