"""What a program does: the files it opens, what it runs, its threads, its network, its memory; seen through strace.

The program runs as it would without sgxkit, with the caller's environment, terminal and rights.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import join, normpath

from sgxkit.errors import InputError
from sgxkit.messages import msg

_CALLS = "open,openat,creat,execve,clone,clone3,fork,vfork,connect,bind,chdir"
_MAX_LINE = 1 << 20
_GRACE_SECONDS = 10

_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_UNFINISHED = re.compile(r"^(?P<begin>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(?P<end>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<rest>.*)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PLACE = re.compile(r"^AT_FDCWD<((?:\\x[0-9a-f]{2})*)>|^\d+<((?:\\x[0-9a-f]{2})*)>")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_WRITES = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND)\b")


@dataclass(slots=True)
class Observed:
    """What was seen. Paths are absolute and as the program wrote them, links and all.

    programs    that were executed, the first first.
    read        files that were opened to be read alone; `written` those that were opened to be written or made.
    folders     whose names were listed.
    threads     the most that one process had at a time; `processes` how many there were in all.
    connects    addresses and ports that it connected to; `listens` those that it bound.
    peak_bytes  the most memory that one process had resident.
    """

    programs: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    threads: int = 1
    processes: int = 1
    connects: set[str] = field(default_factory=set)
    listens: set[str] = field(default_factory=set)
    peak_bytes: int = 0
    exit_code: int = 0


def trace(command: Sequence[str], *, seconds: float | None = None) -> Observed:
    """Run a command to its end, for so many seconds, or until Ctrl-C, and return what it did.

    Raises InputError where strace is not installed or may not trace, or where the program cannot be started.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise InputError(
            msg("this needs {package}, which is not installed", package="strace"),
            hint=msg("{command} installs it", command="apt install strace"),
        )
    if not command or shutil.which(command[0]) is None:
        raise InputError(msg("{program} is no program that can be run", program=command[0] if command else ""))
    with tempfile.TemporaryDirectory(prefix="sgxkit-") as folder:
        log = Path(folder) / "trace"
        options = ["-f", "-q", "-I2", "-y", "-xx", "-s", "65535", "-e", f"trace={_CALLS}", "-o", str(log), "--"]
        stopped = _run([strace, *options, *command], seconds)
        if not log.exists() or not log.stat().st_size:
            raise InputError(
                msg("{program} could not be traced", program=command[0]),
                hint=msg("containers need the capability SYS_PTRACE for it"),
            )
        with log.open(encoding="ascii", errors="replace") as lines:
            observed = read_trace(lines, str(Path.cwd()))
    observed.exit_code = stopped
    observed.peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return observed


def _run(arguments: list[str], seconds: float | None) -> int:
    """Run strace; Ctrl-C, or the end of the time, ends the program and not us."""
    output = None if sys.stdout.isatty() else sys.stderr.fileno()
    process = subprocess.Popen(arguments, stdout=output)  # noqa: S603 - the caller's own command
    try:
        return process.wait(seconds)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        try:
            process.send_signal(signal.SIGTERM)  # with -I2 strace ends its program, and itself
            return process.wait(_GRACE_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            process.kill()
            return process.wait()


def read_trace(lines: Iterable[str], cwd: str) -> Observed:
    """Read what ``strace -f -y -xx`` wrote; what is not understood is passed over."""
    reader = _Reader(cwd)
    for line in lines:
        if len(line) <= _MAX_LINE and (found := _LINE.match(line.rstrip("\n"))):
            reader.line(int(found["pid"]), found["rest"])
    return reader.observed


class _Reader:
    """Puts the halves of interrupted lines together, and follows threads and folders."""

    def __init__(self, cwd: str) -> None:
        self.observed = Observed()
        self._cwd = cwd
        self._folders: dict[int, str] = {}
        self._pending: dict[int, str] = {}
        self._group: dict[int, int] = {}
        self._living: dict[int, set[int]] = {}

    def line(self, pid: int, rest: str) -> None:
        group = self._group.setdefault(pid, pid)
        self._living.setdefault(group, {group}).add(pid)
        if unfinished := _UNFINISHED.match(rest):
            self._pending[pid] = unfinished["begin"]
            return
        if resumed := _RESUMED.match(rest):
            rest = self._pending.pop(pid, "") + resumed["end"]
        if rest.startswith("+++"):
            self._living[group].discard(pid)
        elif found := _CALL.match(rest):
            self._call(pid, found["name"], found["arguments"], int(found["result"]))

    def _call(self, pid: int, name: str, arguments: str, result: int) -> None:
        seen = self.observed
        if name in ("connect", "bind"):
            if address := _address(arguments):
                (seen.connects if name == "connect" else seen.listens).add(address)
            return
        if result < 0:
            return
        group = self._group[pid]
        if name in ("clone", "clone3", "fork", "vfork"):
            if "CLONE_THREAD" in arguments:
                self._group[result] = group
                self._living[group].add(result)
                seen.threads = max(seen.threads, len(self._living[group]))
            else:
                seen.processes += 1
                self._folders[result] = self._folders.get(group, self._cwd)
            return
        path = self._path(group, name, arguments)
        if path is None:
            return
        if name == "chdir":
            self._folders[group] = path
        elif name == "execve":
            if path not in seen.programs:
                seen.programs.append(path)
        elif "O_DIRECTORY" in arguments:
            seen.folders.add(path)
        elif name == "creat" or _WRITES.search(arguments):
            seen.written.add(path)
        else:
            seen.read.add(path)

    def _path(self, group: int, name: str, arguments: str) -> str | None:
        text = _TEXT.search(arguments)
        if text is None:
            return None
        base = self._folders.get(group, self._cwd)
        if name == "openat" and (place := _PLACE.match(arguments)):
            base = _plain(place[1] or place[2] or "") or base
        return normpath(join(base, _plain(text[1])))


def _plain(escaped: str) -> str:
    return os.fsdecode(bytes.fromhex(escaped.replace("\\x", "")))


def _address(arguments: str) -> str | None:
    port, text = _PORT.search(arguments), _TEXT.search(arguments)
    if port is None or text is None or port[1] == "0":
        return None
    address = _plain(text[1])
    return f"[{address}]:{port[1]}" if ":" in address else f"{address}:{port[1]}"
