"""The host that is set up: this one, one that lies in a folder (a chroot tree, a mounted image), or one far away.

All reading, writing and running of programs goes through `Target`, with paths as the host itself sees them, and all
of it by the operations of `primitives.py`, in this process or at the other end of a connection. In a folder no
service runs: units are enabled but not started, and nothing is mounted or rebooted. Programs are run by argument
lists, never through a shell, with a fixed environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sgxkit.errors import SetupError
from sgxkit.host.setup.observed import SeenFile
from sgxkit.host.setup.primitives import ENVIRONMENT, MAX_FILE, Primitives
from sgxkit.messages import msg

Call = Callable[..., Any]
"""Performs a primitive by its name with its arguments; raises OSError as the system does."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, and what it printed."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class PathStatus:
    """What lstat(2) says of a path."""

    kind: Literal["file", "link", "folder", "other"]
    target: str | None
    mode: int
    uid: int
    gid: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Target:
    """A host, by the folder that is its root, or by what performs primitives on it (`remote`)."""

    root: Path = Path("/")
    remote: Call | None = None
    _local: Primitives = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_local", Primitives(str(self.root)))

    @property
    def live(self) -> bool:
        """Whether it is a host that runs, not one in a folder."""
        return self.root == Path("/")

    @property
    def booted(self) -> bool:
        """Whether its systemd runs, so that units can be started."""
        return self.live and self.exists("/run/systemd/system")

    @property
    def boot(self) -> str:
        """The kernel's identifier of this boot; empty in a folder."""
        return (self.read("/proc/sys/kernel/random/boot_id") or b"").decode().strip() if self.live else ""

    def place(self, path: str) -> str:
        """Where a path of a host on this machine lies."""
        return self._local.place(path)

    def status(self, path: str) -> PathStatus | None:
        """What has this name; None where nothing has."""
        found = self._call("status", path)
        return None if found is None else PathStatus(**found)

    def exists(self, path: str) -> bool:
        """Whether anything has this name."""
        return self.status(path) is not None

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, links followed; None where there is no such file."""
        data: bytes | None = self._call("read", path, MAX_FILE)
        if data is not None and len(data) > MAX_FILE:
            raise SetupError(msg("{path} is larger than {limit} bytes", path=path, limit=MAX_FILE))
        return data

    def look(self, path: str) -> SeenFile | None:
        """See a file as actions compare it; None where nothing has that name."""
        found = self.status(path)
        if found is None:
            return None
        return SeenFile(None, None) if found.kind == "folder" else SeenFile(self.read(path), found.mode)

    def write(
        self, path: str, data: bytes, mode: int, owner: tuple[int, int] = (0, 0), modified_ns: int | None = None
    ) -> None:
        """Write a file whole: to a temporary name beside it, to the disk, then renamed."""
        self._call("write", path, data, mode, list(owner), modified_ns)

    def digest(self, path: str) -> str | None:
        """SHA-256 of a file's bytes, in hexadecimal; None where there is no such file."""
        found: str | None = self._call("digest", path)
        return found

    def keep(self, path: str, folder: str) -> str:
        """Copy a file's bytes into `folder` under their SHA-256, and return that."""
        return str(self._call("keep", path, folder))

    def keep_bytes(self, data: bytes, folder: str) -> str:
        """Write bytes into `folder` under their SHA-256, and return that."""
        return str(self._call("keep_bytes", data, folder))

    def kept(self, name: str, folder: str) -> bytes | None:
        """Return bytes that were kept; None where they are gone or damaged."""
        data: bytes | None = self._call("kept", name, folder)
        return data

    def restore(
        self, path: str, name: str, folder: str, *, mode: int, owner: tuple[int, int], modified_ns: int
    ) -> bool:
        """Write a file from bytes that were kept; False where they are gone or damaged."""
        return bool(self._call("restore", path, [name, folder], mode, list(owner), modified_ns))

    @property
    def interpreter(self) -> str:
        """The host's Python."""
        return str(self._call("interpreter"))

    def write_once(self, path: str, data: bytes) -> None:
        """Write bytes by one write(2) to the file itself."""
        self._call("write_once", path, data)

    def remove(self, path: str) -> None:
        """Remove a file or a link, if it is there."""
        self._call("remove", path)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link in the place of whatever file has its name."""
        self._call("link", path, target)

    def make_folders(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it."""
        self._call("make_folders", path, mode)

    def make_folder(self, path: str, mode: int, owner: tuple[int, int]) -> None:
        """Make a folder again that is gone."""
        self._call("make_folder", path, mode, list(owner))

    def names(self, path: str) -> list[str]:
        """Names in a folder, sorted; none where there is no such folder."""
        names: list[str] = self._call("names", path)
        return names

    def tree(self, path: str) -> list[str]:
        """Every path below a folder."""
        paths: list[str] = self._call("tree", path)
        return paths

    def empty_folders(self, paths: Sequence[str], depth: int) -> list[str]:
        """Folders without anything in them, at most `depth` levels below `paths`."""
        found: list[str] = self._call("empty_folders", list(paths), depth)
        return found

    def missing_folders(self, path: str) -> tuple[str, ...]:
        """Folders above `path` that do not exist yet, the innermost first."""
        found = []
        folder = Path(path).parent
        while str(folder) != "/" and not self.exists(str(folder)):
            found.append(str(folder))
            folder = folder.parent
        return tuple(found)

    def remove_empty(self, folders: Sequence[str]) -> None:
        """Remove folders that are empty; one that is not stays, with those after it."""
        self._call("remove_empty", list(folders))

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        self._call("remove_tree", path)

    def rename(self, old: str, new: str) -> None:
        """Rename what is at `old`."""
        self._call("rename", old, new)

    def lock(self, path: str) -> bool:
        """Hold a lock for as long as this process, or the connection, lives; False where another holds it."""
        return bool(self._call("lock", path))

    def unlock(self, path: str) -> None:
        """Let go of a lock."""
        self._call("unlock", path)

    @property
    def rooted(self) -> bool:
        """Whether root's rights are there."""
        return bool(self._call("root_user"))

    def has(self, program: str) -> bool:
        """Whether a program is on the host's search path."""
        return any(self.exists(f"{folder}/{program}") for folder in ENVIRONMENT["PATH"].split(":"))

    def run(
        self, arguments: Sequence[str], *, timeout: float = 1800, check: bool = True, data: bytes | None = None
    ) -> Completed:
        """Run a program on the host and wait for it; SetupError where it cannot be run or, with `check`, fails.

        It runs in a session of its own, so that Ctrl-C does not reach a package manager at work: here the first one
        is heeded when the program has ended, and the second ends it.
        """
        if self.remote is not None:
            status, output = self._call("run", list(arguments), timeout, data)
            interrupted = False
        else:
            status, output, interrupted = self._run_here(arguments, timeout, data)
        if status == -1:
            raise SetupError(msg("a program did not end within {seconds:g} seconds", seconds=timeout))
        completed = Completed(status, output.decode("utf-8", "replace"))
        if interrupted:
            raise KeyboardInterrupt
        if check and completed.status != 0:
            lines = [line for line in completed.output.splitlines() if line.strip()][-8:]
            raise SetupError(
                msg("`{command}` ended with status {status}", command=" ".join(arguments), status=completed.status),
                hint=msg("It said: {text}", text=" / ".join(lines)[-1500:] or "-"),
            )
        return completed

    def _run_here(self, arguments: Sequence[str], timeout: float, data: bytes | None) -> tuple[int, bytes, bool]:
        command = list(arguments)
        if not self.live:
            inside = ("--mount", "--pid", "--fork", "--kill-child", f"--root={self.root}", "--mount-proc=/proc")
            command = ["unshare", *inside, "--", *command]
        try:
            process = subprocess.Popen(  # noqa: S603 - an argument list of checked names, no shell
                command,
                stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SetupError(msg("program {name} is not installed", name=command[0])) from error
        except OSError as error:
            raise SetupError(msg("{name} cannot be run: {reason}", name=command[0], reason=error.strerror)) from error
        return _wait(process, timeout, data)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            if self.remote is not None:
                return self.remote(name, *arguments)
            return getattr(self._local, name)(*arguments)
        except OSError as error:
            path = arguments[0] if arguments and isinstance(arguments[0], str) else error.filename or name
            raise SetupError(
                msg("{path}: {name} failed: {reason}", path=path, name=name, reason=error.strerror or str(error))
            ) from error


def _wait(process: subprocess.Popen[bytes], timeout: float, data: bytes | None) -> tuple[int, bytes, bool]:
    interrupted = False
    while True:
        try:
            output, _ = process.communicate(data, timeout=timeout)
            return process.returncode, output, interrupted
        except KeyboardInterrupt:
            if interrupted:
                _end(process)
                raise
            interrupted, data = True, None
        except subprocess.TimeoutExpired:
            _end(process)
            return -1, b"", interrupted


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
