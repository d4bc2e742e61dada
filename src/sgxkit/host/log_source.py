"""Where logs come from: files (also compressed with gzip), standard input, texts read already, and commands."""

from __future__ import annotations

import gzip
import io
import os
import signal
import stat
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from sgxkit.errors import HostError, InputError
from sgxkit.host.recogniser import Stream
from sgxkit.messages import msg

_GZIP = b"\x1f\x8b"
_COMPLAINTS = 4096


class LogSource(Protocol):
    """A log that can be opened.

    `name` is what its lines are shown by, `size` its bytes where they are known before.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int | None: ...

    def open(self) -> AbstractContextManager[Stream]: ...


@dataclass(frozen=True, slots=True)
class FileLog:
    """A file; InputError where it cannot be read. What begins as gzip does is decompressed on the way."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    @contextmanager
    def open(self) -> Iterator[Stream]:
        try:
            with self.path.open("rb") as file:
                yield _Guarded(gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == _GZIP else file, self.name)
        except OSError as error:
            raise InputError(
                msg("{path} cannot be read: {reason}", path=self.path, reason=error.strerror or error)
            ) from error


@dataclass(frozen=True, slots=True)
class StreamLog:
    """A stream that is open already, such as standard input; it is not closed."""

    name: str
    stream: BinaryIO

    @property
    def size(self) -> int | None:
        return None

    @contextmanager
    def open(self) -> Iterator[Stream]:
        yield self.stream


@dataclass(frozen=True, slots=True)
class TextLog:
    """A text that was read already."""

    name: str
    data: bytes

    @property
    def size(self) -> int | None:
        return len(self.data)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        yield io.BytesIO(self.data)


@dataclass(frozen=True, slots=True)
class CommandLog:
    """What a command prints; HostError where it cannot be started, or fails."""

    name: str
    command: tuple[str, ...]

    @property
    def size(self) -> int | None:
        return None

    @contextmanager
    def open(self) -> Iterator[Stream]:
        with tempfile.TemporaryFile() as complaints:
            process = self._start(complaints)
            assert process.stdout is not None
            output = _Counted(process.stdout)
            try:
                yield output
            except BaseException:
                process.send_signal(signal.SIGTERM)
                raise
            finally:
                process.stdout.close()
                code = process.wait()
            complaints.seek(0)
            lines = complaints.read(_COMPLAINTS).decode("utf-8", "replace").strip().splitlines()
            if code != 0 or (lines and output.empty):  # a journal that may not be read is empty, with a hint
                reason = lines[0][:300] if lines else f"exit status {code}"
                raise HostError(msg("{command} failed: {reason}", command=self.command[0], reason=reason))

    def _start(self, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - fixed argument lists of ours, no shell
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except OSError as error:
            raise HostError(
                msg("{command} cannot be run: {reason}", command=self.command[0], reason=error.strerror or error)
            ) from error


def journal_of_aesm() -> CommandLog:
    """AESM's journal, of all boots that the journal holds."""
    units = [f"--unit={unit}" for unit in ("aesmd", "qgsd", "pccs", "mpa_registration_tool", "container-aesmd")]
    return CommandLog("journal", ("journalctl", "--no-pager", "--output=short-iso", *units))


def kernel_log() -> CommandLog:
    """The kernel's log of this boot."""
    return CommandLog("dmesg", ("dmesg",))


class _Counted:
    """What a command prints; `empty` where it printed no line of a log."""

    def __init__(self, output: IO[bytes]) -> None:
        self.output = output
        self.empty = True

    def read(self, size: int, /) -> bytes:
        data = self.output.read(size)
        self.empty = self.empty and (not data or data.startswith(b"-- No entries"))
        return data


class _Guarded:
    """A file whose faults on the way are errors of ours."""

    def __init__(self, file: Stream, name: str) -> None:
        self.file = file
        self.name = name

    def read(self, size: int, /) -> bytes:
        try:
            return self.file.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(msg("{path} cannot be decompressed: {reason}", path=self.name, reason=error)) from error
