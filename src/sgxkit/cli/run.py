"""`sgxkit run`: unmodified SGX programs on a machine without SGX."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.machine import Injected, Observer
    from sgxkit.emulator.tracer.observers import Statistics

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEAST_EPC = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "run", options_first=True)(run)


def run(
    program: Annotated[list[str], typer.Argument(metavar="PROGRAM [ARGUMENT]...", help="What to run, after --.")],
    *,
    lab: Annotated[
        str, typer.Option("--lab", metavar="NAME", help="Whose machine; default is made when there is none.")
    ] = "default",
    epc_limit: Annotated[
        str | None,
        typer.Option("--epc-limit", metavar="SIZE", help="EPC in bytes, or with K, M, G [default: the lab's]."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="PATH", help="One more name of /dev/sgx_enclave; can be repeated."),
    ] = None,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            "--inject",
            metavar="WHAT",
            help="Let it fail: create, add, init (or create=ENOMEM, ...), aesm, quote; can be repeated.",
        ),
    ] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show each event on standard error.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Count events, and show the counts at the end.")] = False,
    stats_output: Annotated[
        Path | None, typer.Option("--stats-output", metavar="FILE", help="Write the counts there, as JSON.")
    ] = None,
    edl: Annotated[
        Path | None,
        typer.Option("--edl", metavar="FILE", help="The enclave's EDL file: names of OCALLs for the counts."),
    ] = None,
) -> None:
    """Run a program that uses SGX on a lab's emulated machine. It protects nothing: it is for tests.

    The program and all it starts find SGX: the instructions, /dev/sgx_enclave, AESM. x86-64 Linux only.

    Exit code: the program's; where a signal ended it, sgxkit ends by the same; 125 it could not be traced here, 126
    it cannot be executed, 127 it was not found; 3 a bad option, or there is no such lab.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InputError(msg("programs run on x86-64 Linux only"))
    from sgxkit.emulator.tracer.observers import Both, Statistics, Trace
    from sgxkit.emulator.tracer.supervisor import Supervisor
    from sgxkit.lab.run import machine

    names = {} if edl is None else _ocall_names(edl)
    counts = Statistics() if stats or stats_output is not None else None
    observer: Observer = _Warnings()
    if counts is not None:
        observer = Both(observer, counts)
    if trace:
        observer = Both(observer, Trace(_write_line))
    size = None if epc_limit is None else _size(epc_limit)
    for path in device or ():
        if not path.startswith("/"):
            raise InputError(msg("{path} is not absolute", path=path))
    with machine(lab, epc_size=size, device_names=tuple(device or ()), injected=_injected(inject or [])) as found:
        supervisor = Supervisor(found, observer, fast=counts is None and not trace)
        ending = supervisor.run(program, os.environ)
        used, total = supervisor.epc_use
    if counts is not None:
        _show(counts, counts.document(used, total, names), stats_output)
    if ending.signal:
        _die(ending.signal)
    raise typer.Exit(ending.status)


def _observer_base() -> type[Observer]:
    from sgxkit.emulator.tracer.machine import Observer

    return Observer


def _Warnings() -> Observer:  # noqa: N802 - it makes one
    class Warnings(_observer_base()):  # type: ignore[misc]
        def warned(self, message: Message) -> None:
            _write_line(f"sgxkit: {output.say(message)}")

    return Warnings()


def _write_line(text: str) -> None:
    sys.stderr.write(output.printable(text) + "\n")
    sys.stderr.flush()


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text)
    if found is None:
        raise InputError(msg("{text} is not a size", text=text), hint=msg("such as 94M, 8G or a number of bytes"))
    size = int(found[1]) * _SIZE_UNITS[found[2]]
    if size < _LEAST_EPC:
        raise InputError(msg("an EPC has at least {size} bytes", size=_LEAST_EPC))
    return size


def _injected(wanted: list[str]) -> Injected:
    from sgxkit.emulator.tracer import device
    from sgxkit.emulator.tracer.machine import Injected

    commands = {"create": (device.CREATE, "EIO"), "add": (device.ADD_PAGES, "EIO"), "init": (device.INIT, "EPERM")}
    ioctls: dict[int, int] = {}
    for text in wanted:
        what, _, name = text.partition("=")
        if what in commands:
            number = getattr(errno, name or commands[what][1], None)
            if isinstance(number, int):
                ioctls[commands[what][0]] = number
                continue
        elif what in ("aesm", "quote") and not name:
            continue
        raise InputError(
            msg("{text} cannot be injected", text=text),
            hint=msg("create, add and init, each with =ERRNO if you like; aesm; quote"),
        )
    return Injected(ioctls, aesm="aesm" in wanted, quote="quote" in wanted)


def _ocall_names(file: Path) -> dict[int, str]:
    from sgxkit.sdk.edl.interface import read_interface

    return {index: ocall.name for index, ocall in enumerate(read_interface(file).ocalls)}


def _show(counts: Statistics, document: dict[str, Any], file: Path | None) -> None:
    import json

    if file is not None:
        try:
            file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                msg("{path} cannot be written: {reason}", path=file, reason=error.strerror or error)
            ) from error
        return
    if settings().json:
        sys.stderr.write(json.dumps(document, indent=2) + "\n")
        return
    _write_line(output.say(msg("emulated: it protects nothing")))
    for name, count in sorted(counts.leaves.items()):
        _write_line(f"{count:10}  {name}")
    for name, count in sorted(counts.ioctls.items()):
        _write_line(f"{count:10}  {name}")
    for vector, count in sorted(counts.exceptions.items()):
        kind = msg("AEX: interrupt") if vector < 0 else msg("AEX: exception {vector}", vector=vector)
        _write_line(f"{count:10}  {output.say(kind)}")
    for ocall in document["ocalls"]:
        index, name = ocall["index"], ocall["name"]
        if name is None:
            text = output.say(msg("EEXIT with {index} in RDI: an OCALL of the SDK", index=index))
        else:
            text = output.say(msg("OCALL {index}, {name}", index=index, name=name))
        _write_line(f"{ocall['count']:10}  {text}")
    used, total = document["epc_pages_most"], document["epc_pages"]
    _write_line(output.say(msg("EPC: {used} of {total} pages at most", used=used, total=total)))
    for tid, thread in counts.threads.items():
        _write_line(
            output.say(
                msg(
                    "thread {tid}: {entries} entries, {inside} s inside, {outside} s outside",
                    tid=tid,
                    entries=thread.entries,
                    inside=f"{thread.inside:.3f}",
                    outside=f"{thread.outside:.3f}",
                )
            )
        )


def _die(number: int) -> None:
    """End as the program did, so that whoever started sgxkit sees the same."""
    sys.stdout.flush()
    sys.stderr.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    raise typer.Exit(128 + number)
