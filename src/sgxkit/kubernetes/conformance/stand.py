"""Where a plugin is tested: a fake kubelet, the plugin's process where we may start it, and what a check says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.kubernetes.fake_kubelet import FakeKubelet, Registered
from sgxkit.messages import Message, msg


@dataclass(frozen=True, slots=True)
class Setup:
    """What may be done to the plugin.

    folder         its device plugin folder, where the fake kubelet serves.
    command        how to start it; without one a plugin is expected to run already, and to go on running.
    device_folder  device nodes (or links to some) that checks may take away and put back.
    http           HOST:PORT of its /readyz and /metrics.
    cdi_folder     where it writes CDI specifications.
    wait           seconds for the first registration; restarts: how many in a row.
    within         seconds within which it must have reacted.
    """

    folder: Path
    command: tuple[str, ...] = ()
    device_folder: Path | None = None
    http: tuple[str, int] | None = None
    cdi_folder: Path | None = None
    wait: float = 30.0
    within: float = 2.0
    restarts: int = 20


class FailedError(Exception):
    """The plugin does not keep what a check is about."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


class SkippedError(Exception):
    """What a check needs is not there."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(slots=True)
class Stand:
    """A test under way."""

    setup: Setup
    kubelet: FakeKubelet
    resources: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    def require(self, condition: object, message: Message) -> None:
        """Fail the check unless `condition` holds."""
        if not condition:
            raise FailedError(message)

    def start_plugin(self) -> subprocess.Popen[bytes]:
        """Start the plugin's command; its output goes to standard error. Raises SkippedError without a command."""
        if not self.setup.command:
            raise SkippedError(msg("needs --plugin-command, to start the plugin"))
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own command, an argument list, no shell
                self.setup.command, stdin=subprocess.DEVNULL, stdout=2
            )
        except OSError as error:
            raise InputError(
                msg("{path} cannot be run: {reason}", path=self.setup.command[0], reason=error.strerror or error)
            ) from error

    async def all_watched(self, seconds: float) -> bool:
        """Wait until every resource known so far is watched."""
        return await self.kubelet.wait_until(lambda: all(map(self.kubelet.watches, self.resources)), seconds)

    async def require_watched(self, why: Message) -> None:
        """Fail unless every resource is watched in time."""
        if not await self.all_watched(self.setup.within):
            missing = next(one for one in self.resources if not self.kubelet.watches(one))
            raise FailedError(msg("{why}: {resource} is not watched", why=why, resource=missing))

    def since(self, moment: float) -> list[Registered]:
        """The registrations after `moment`."""
        return [one for one in self.kubelet.registered if one.at >= moment]

    async def settle(self) -> None:
        """Bring everything back to work after a check that may have left it otherwise."""
        self.kubelet.refuses, self.kubelet.delay = False, 0.0
        if self.setup.command and (self.process is None or self.process.poll() is not None):
            self.process = self.start_plugin()
        if not await self.all_watched(0.0):
            await self.kubelet.restart()
            await self.all_watched(self.setup.wait)

    @property
    def process_id(self) -> int:
        """The plugin's; raises SkippedError where it is not ours."""
        if self.process is None:
            raise SkippedError(msg("needs --plugin-command, to start the plugin"))
        return self.process.pid

    @asynccontextmanager
    async def without_device(self, name: str) -> AsyncIterator[Path]:
        """Take a device node away until the block ends; raises SkippedError where that may not be done."""
        if self.setup.device_folder is None:
            raise SkippedError(msg("needs --device-dir, to take a device away"))
        path = self.setup.device_folder / name
        kept = path.with_name(f".{name}.kept")
        try:
            path.rename(kept)
        except OSError as error:
            raise SkippedError(msg("{path}: {reason}", path=path, reason=error.strerror or error)) from error
        try:
            yield path
        finally:
            kept.replace(path)


async def end_process(process: subprocess.Popen[bytes], seconds: float = 5.0) -> int | None:
    """Ask a process to end, and kill it after `seconds`; returns its exit code, None if it had to be killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    if await exited(process, seconds):
        return process.returncode
    process.kill()
    await exited(process, seconds)
    return None


async def exited(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until a process ends."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return process.poll() is not None


def open_files(process_id: int) -> int:
    """How many files a process has open."""
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())
    raise SkippedError(msg("needs /proc, to count open files"))


def processor_seconds(process_id: int) -> float:
    """Processor time of a process so far, from /proc/PID/stat (proc_pid_stat(5), fields 14 and 15)."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process_id}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise SkippedError(msg("needs /proc, to read the processor time"))


@dataclass(frozen=True, slots=True)
class ConformanceCheck:
    """One thing that a plugin must keep."""

    id: str
    title: Message
    run: Callable[[Stand], Awaitable[None]]
