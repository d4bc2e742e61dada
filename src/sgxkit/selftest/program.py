"""Running samples: programs of others, built in a copy, with a time limit, and the end of what they print."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from sgxkit.messages import Message, msg

MAX_OUTPUT = 16 << 10
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where samples run.

    lab           the lab whose machine is emulated; None on hardware.
    environment   variables of the samples.
    """

    lab: str | None
    environment: Mapping[str, str] = field(repr=False)

    @property
    def runs_programs(self) -> bool:
        """Whether programs that know nothing of sgxkit find SGX here."""
        return self.lab is None or (sys.platform == "linux" and platform.machine() == "x86_64")

    def command(self, program: Sequence[str]) -> list[str]:
        """Return how `program` is started so that it finds SGX."""
        if self.lab is None:
            return list(program)
        return [sys.executable, "-m", "sgxkit", "run", "--lab", self.lab, "--", *program]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its exit code (negative: the signal), what it printed, and why it did not start or end."""

    code: int | None
    output: str
    problem: Message | None = None

    @property
    def happened(self) -> Message:
        """In a sentence."""
        if self.problem is not None:
            return self.problem
        if self.code is not None and self.code < 0:
            return msg("it was ended by signal {number}", number=-self.code)
        return msg("it ended with exit code {code}", code=self.code)


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    answer: bytes = b"",
    seconds: float = _SECONDS,
) -> Ran:
    """Run a command in `folder` with `answer` as its standard input; it and all it started end with this call."""
    with TemporaryFile() as printed:
        try:
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, without a shell
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            problem = msg("{command} cannot be run: {reason}", command=command[0], reason=error.strerror or error)
            return Ran(None, "", problem)
        late: Message | None = None
        try:
            process.communicate(answer, timeout=seconds)
        except subprocess.TimeoutExpired:
            late = msg("it was not done after {seconds} seconds", seconds=int(seconds))
        finally:
            with suppress(ProcessLookupError):  # what it left running, or all of it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - MAX_OUTPUT))
        return Ran(process.returncode, printed.read().decode("utf-8", "replace"), late)


def copy_of(sample: Path, into: Path) -> Path:
    """Copy a sample to build it there; what is installed stays as it is."""
    return Path(shutil.copytree(sample, into / sample.name, symlinks=True))


def compiler() -> str | None:
    """The C compiler, where there is one."""
    return shutil.which("cc") or shutil.which("gcc")
