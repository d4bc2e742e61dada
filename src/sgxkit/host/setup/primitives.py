"""What setting up does to a host's files, as few operations on plain values. One file, no dependencies, Python 3.6+.

It works in two places: imported here, and sent as it is to another host, where `serve` reads one JSON request a line
from standard input and writes one JSON answer a line. Bytes travel as base64. Paths are as the host sees them; `root`
is the folder that is its root, and no link leads out of it.
"""

import base64
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zlib
from typing import IO, Any, Dict, List, Optional

LINKS = 40
MAX_FILE = 64 * 1024 * 1024
"""Largest file that is read, in bytes; dpkg's status of a full desktop has 10 MiB."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "NEEDRESTART_MODE": "l",
    "UCF_FORCE_CONFFOLD": "1",
}


class Primitives:
    """Operations on one host; each raises OSError where the system refuses."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")
        self.locks = {}  # type: Dict[str, int]

    def place(self, path: str) -> str:
        """Where a path lies here, the last part unresolved; links are followed as the host itself would."""
        if not self.root:
            return path
        done = []  # type: List[str]
        parts, links = [part for part in path.split("/") if part], 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([self.root] + done + [part])
            if parts and os.path.islink(here):
                links += 1
                if links > LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                text = os.readlink(here)
                if text.startswith("/"):
                    done = []
                parts = [name for name in text.split("/") if name and name != "."] + parts
                continue
            done = done + [part]
        return "/".join([self.root] + done)

    def status(self, path: str) -> Optional[Dict[str, Any]]:
        """Kind, link text, mode, owner and time of change of a path itself; None where nothing has that name."""
        here = self.place(path)
        try:
            found = os.lstat(here)
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind, target = "other", None
        if stat.S_ISLNK(found.st_mode):
            kind, target = "link", os.readlink(here)
        elif stat.S_ISREG(found.st_mode):
            kind = "file"
        elif stat.S_ISDIR(found.st_mode):
            kind = "folder"
        return {
            "kind": kind,
            "target": target,
            "mode": stat.S_IMODE(found.st_mode),
            "uid": found.st_uid,
            "gid": found.st_gid,
            "modified_ns": found.st_mtime_ns,
        }

    def read(self, path: str, limit: int) -> Optional[bytes]:
        """Return at most `limit` bytes and one of a file, links followed; None where there is no such file."""
        here = self.place(path)
        if self.root and os.path.islink(here):
            here = self.place(os.path.join(os.path.dirname(path), os.readlink(here)))
        try:
            with open(here, "rb") as file:
                return file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, path: str, data: bytes, mode: int, owner: List[int], modified_ns: Optional[int] = None) -> None:
        """Write a file whole: to a temporary name beside it, to the disk, then renamed."""
        here = self.place(path)
        folder = os.path.dirname(here)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".sgxkit-", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), *owner)
                if modified_ns is not None:
                    os.utime(file.fileno(), ns=(modified_ns, modified_ns))
                os.fsync(file.fileno())
            os.replace(temporary, here)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        self._sync(folder)

    def digest(self, path: str) -> Optional[str]:
        """SHA-256 of a file's bytes; None where there is no such file."""
        data = self.read(path, MAX_FILE)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def keep(self, path: str, folder: str) -> str:
        """Copy a file's bytes, compressed, into `folder` under their SHA-256, and return that."""
        data = self.read(path, MAX_FILE) or b""
        if len(data) > MAX_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return self.keep_bytes(data, folder)

    def keep_bytes(self, data: bytes, folder: str) -> str:
        """Write bytes, compressed, into `folder` under their SHA-256, and return that."""
        name = hashlib.sha256(data).hexdigest()
        if self.status(folder + "/" + name) is None:
            self.write(folder + "/" + name, zlib.compress(data), 0o600, [0, 0])
        return name

    def kept(self, name: str, folder: str) -> Optional[bytes]:
        """Return bytes that were kept; None where they are gone or damaged."""
        packed = self.read(folder + "/" + name, MAX_FILE)
        try:
            data = b"" if packed is None else zlib.decompressobj().decompress(packed, MAX_FILE + 1)
        except zlib.error:
            return None
        return data if hashlib.sha256(data).hexdigest() == name else None

    def restore(self, path: str, kept: List[str], mode: int, owner: List[int], modified_ns: int) -> bool:
        """Write a file from bytes that were kept (name, folder); False where they are gone or damaged."""
        data = self.kept(*kept)
        if data is None:
            return False
        self.write(path, data, mode, owner, modified_ns)
        return True

    def interpreter(self) -> str:
        """The Python that this runs in."""
        return sys.executable

    def write_once(self, path: str, data: bytes) -> None:
        """Write bytes by one write(2) to the file itself, as efivarfs wants it."""
        descriptor = os.open(self.place(path), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file or link, if it is there."""
        here = self.place(path)
        try:
            os.unlink(here)
        except FileNotFoundError:
            return
        self._sync(os.path.dirname(here))

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link in the place of whatever file has its name."""
        self.remove(path)
        os.symlink(target, self.place(path))

    def make_folders(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it."""
        here = self.place(path)
        os.makedirs(here, exist_ok=True)
        os.chmod(here, mode)

    def make_folder(self, path: str, mode: int, owner: List[int]) -> None:
        """Make a folder with its mode and owner, unless something has its name."""
        here = self.place(path)
        if not os.path.lexists(here):
            os.mkdir(here)
            os.chmod(here, mode)
            os.chown(here, *owner)

    def names(self, path: str) -> List[str]:
        """Names in a folder, sorted; none where there is no such folder."""
        try:
            return sorted(os.listdir(self.place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove_empty(self, paths: List[str]) -> None:
        """Remove folders that are empty; one that is not stays, with those after it."""
        for path in paths:
            try:
                os.rmdir(self.place(path))
            except OSError:
                return

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        here = self.place(path)
        if os.path.isdir(here) and not os.path.islink(here):
            shutil.rmtree(here)

    def rename(self, old: str, new: str) -> None:
        """Rename what is at `old`."""
        os.rename(self.place(old), self.place(new))

    def tree(self, path: str) -> List[str]:
        """Every path below a folder."""
        top = self.place(path)
        return [
            path.rstrip("/") + folder[len(top) :] + "/" + name
            for folder, folders, files in os.walk(top)
            for name in folders + files
        ]

    def empty_folders(self, paths: List[str], depth: int) -> List[str]:
        """Folders without anything in them, at most `depth` levels below `paths`."""
        found = []
        for path in paths:
            top = self.place(path)
            for folder, folders, files in os.walk(top):
                inside = folder[len(top) :]
                if not folders and not files:
                    found.append(path + inside)
                if inside.count("/") >= depth:
                    del folders[:]
        return sorted(found)

    def lock(self, path: str) -> bool:
        """Hold a lock until this process ends or `unlock` is called; False where another process holds it."""
        descriptor = os.open(self.place(path), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self.locks[path] = descriptor
        return True

    def unlock(self, path: str) -> None:
        """Let go of a lock."""
        if path in self.locks:
            os.close(self.locks.pop(path))

    def root_user(self) -> bool:
        """Whether this process is root's."""
        return os.geteuid() == 0

    def run(self, arguments: List[str], timeout: float, data: Optional[bytes] = None) -> List[Any]:
        """Run a program and return its status and what it printed; -1 where it did not end in time."""
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return [-1, b""]
        return [process.returncode, output]

    @staticmethod
    def _sync(folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def encoded(value: Any) -> Any:
    """Make bytes in a value fit for JSON."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (list, tuple)):
        return [encoded(entry) for entry in value]
    return value


def decoded(value: Any) -> Any:
    """The reverse of `encoded`."""
    if isinstance(value, dict) and set(value) == {"base64"}:
        return base64.b64decode(value["base64"])
    if isinstance(value, list):
        return [decoded(entry) for entry in value]
    return value


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer requests, one JSON object a line, until the other side is gone; a lock is held no longer than that."""
    host = Primitives()
    for line in source:
        request = json.loads(line.decode("ascii"))
        try:
            result = getattr(host, request["op"])(*[decoded(value) for value in request["arguments"]])
            answer = {"result": encoded(result)}
        except OSError as error:
            answer = {"errno": error.errno, "text": error.strerror or str(error), "path": str(error.filename or "")}
        except subprocess.SubprocessError as error:
            answer = {"errno": 0, "text": str(error), "path": ""}
        sink.write(json.dumps(answer).encode("ascii") + b"\n")
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
