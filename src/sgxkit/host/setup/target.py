"""The host that is set up: this one, or one that lies in a folder (a chroot tree, an image that is mounted).

All reading, writing and running of programs goes through `Target`, with paths as the host itself sees them. In a
folder no service runs: units are enabled but not started, and nothing is mounted or rebooted. Programs are run by
argument lists, never through a shell, with a fixed environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgxkit.errors import SetupError
from sgxkit.host.setup.observed import SeenFile
from sgxkit.messages import msg

MAX_FILE = 64 * 1024 * 1024
"""Largest file that is read, in bytes; dpkg's status of a full desktop has 10 MiB."""
_LINKS = 40
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "NEEDRESTART_MODE": "l",
    "UCF_FORCE_CONFFOLD": "1",
}


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, and the end of what it printed."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Target:
    """A host, by the folder that is its root."""

    root: Path = Path("/")

    @property
    def live(self) -> bool:
        """Whether this is the host that this program runs on."""
        return self.root == Path("/")

    @property
    def booted(self) -> bool:
        """Whether its systemd runs, so that units can be started."""
        return self.live and Path("/run/systemd/system").is_dir()

    def path(self, path: str) -> Path:
        """Where `path` lies here; in a folder, links are followed as the host would, so that none leads out of it."""
        if self.live:
            return Path(path)
        parts, done, links = [part for part in path.split("/") if part], Path(), 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = done.parent
                continue
            here = self.root / done / part
            if parts and here.is_symlink():
                links += 1
                if links > _LINKS:
                    raise SetupError(msg("{path} has too many symbolic links", path=path))
                target = here.readlink()
                if target.is_absolute():
                    done = Path()
                parts = [*(name for name in target.parts if name != "/"), *parts]
                continue
            done = done / part
        return self.root / done

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None where there is no such file."""
        here = self.path(path)
        if here.is_symlink() and not self.live:
            here = self.path(str(Path(path).parent / here.readlink()))
        try:
            with here.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SetupError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror)) from error
        if len(data) > MAX_FILE:
            raise SetupError(msg("{path} is larger than {limit} bytes", path=path, limit=MAX_FILE))
        return data

    def look(self, path: str) -> SeenFile | None:
        """See a file as actions compare it; None where nothing has that name."""
        here = self.path(path)
        try:
            status = here.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SetupError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror)) from error
        if stat.S_ISDIR(status.st_mode):
            return SeenFile(None, None)
        return SeenFile(self.read(path), stat.S_IMODE(status.st_mode))

    def write(self, path: str, data: bytes, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        """Write a file whole: to a temporary name beside it, to the disk, then renamed."""
        here = self.path(path)
        try:
            here.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor, temporary = tempfile.mkstemp(prefix=".sgxkit-", dir=here.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    if os.geteuid() == 0:
                        os.fchown(file.fileno(), *owner)
                    os.fsync(file.fileno())
                Path(temporary).replace(here)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            sync_folder(here.parent)
        except OSError as error:
            raise SetupError(
                msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or str(error))
            ) from error

    def missing_folders(self, path: str) -> tuple[str, ...]:
        """Folders above `path` that do not exist yet, the innermost first."""
        found = []
        folder = Path(path).parent
        while str(folder) != "/" and not self.path(str(folder)).exists():
            found.append(str(folder))
            folder = folder.parent
        return tuple(found)

    def remove_empty(self, folders: Sequence[str]) -> None:
        """Remove folders that are empty; one that is not stays, with those above it."""
        for folder in folders:
            try:
                self.path(folder).rmdir()
            except OSError:
                return

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        here = self.path(path)
        if here.is_dir() and not here.is_symlink():
            shutil.rmtree(here)

    def run(self, arguments: Sequence[str], *, timeout: float = 1800, check: bool = True) -> Completed:
        """Run a program on the host and wait for it; SetupError where it cannot be run or, with `check`, fails.

        It runs in a session of its own, so that Ctrl-C does not reach a package manager at work: the first one is
        heeded when the program has ended, the second ends it.
        """
        command = list(arguments)
        if not self.live:
            inside = ("--mount", "--pid", "--fork", "--kill-child", f"--root={self.root}", "--mount-proc=/proc")
            command = ["unshare", *inside, "--", *command]
        try:
            process = subprocess.Popen(  # noqa: S603 - an argument list of checked names, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SetupError(msg("program {name} is not installed", name=command[0])) from error
        except OSError as error:
            raise SetupError(msg("{name} cannot be run: {reason}", name=command[0], reason=error.strerror)) from error
        output, interrupted = _wait(process, timeout)
        completed = Completed(process.returncode, output.decode("utf-8", "replace"))
        if interrupted:
            raise KeyboardInterrupt
        if check and completed.status != 0:
            lines = [line for line in completed.output.splitlines() if line.strip()][-8:]
            raise SetupError(
                msg("`{command}` ended with status {status}", command=" ".join(arguments), status=completed.status),
                hint=msg("It said: {text}", text=" / ".join(lines)[-1500:] or "-"),
            )
        return completed

    def has(self, program: str) -> bool:
        """Whether a program is on the host's search path."""
        folders = _ENVIRONMENT["PATH"].split(":")
        return any(self.path(f"{folder}/{program}").exists() for folder in folders)

    @property
    def boot(self) -> str:
        """The kernel's identifier of this boot; empty in a folder."""
        return (self.read("/proc/sys/kernel/random/boot_id") or b"").decode().strip() if self.live else ""


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bool]:
    interrupted = False
    while True:
        try:
            output, _ = process.communicate(timeout=timeout)
            return output, interrupted
        except KeyboardInterrupt:
            if interrupted:
                _end(process)
                raise
            interrupted = True
        except subprocess.TimeoutExpired as error:
            _end(process)
            raise SetupError(msg("a program did not end within {seconds:g} seconds", seconds=timeout)) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
