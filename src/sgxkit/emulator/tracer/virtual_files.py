"""Files that a program with SGX finds and this machine does not have: device nodes, processor flags, configuration.

Paths are judged lexically, after the working directory or the directory descriptor: no symbolic link of the host's
leads to them. Nothing is made on the host.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

ENCLAVE_DEVICE, PROVISION_DEVICE = "/dev/sgx_enclave", "/dev/sgx_provision"
CPUINFO, QCNL, AESM_SOCKET = "/proc/cpuinfo", "/etc/sgx_default_qcnl.conf", "/var/run/aesmd/aesm.socket"
AESM_SOCKETS = (AESM_SOCKET, "/run/aesmd/aesm.socket")

_MISC_MAJOR, _ENCLAVE_MINOR, _PROVISION_MINOR = 10, 125, 126
_STAT = struct.Struct("<QQQIIIxxxxQqqqqqqqqq24x")
_STATX = struct.Struct("<IIQIIIHxxQQQQ16s16s16s16sIIIIQ104x")
_STATX_BASIC = 0x7FF
_DIRENT = struct.Struct("<QqHB")
_INODE = 0x5358_4700
_DT = {stat.S_IFCHR: 2, stat.S_IFDIR: 4, stat.S_IFLNK: 10, stat.S_IFSOCK: 12}


@dataclass(frozen=True, slots=True)
class VirtualFile:
    """One of them.

    mode       type and permission bits.
    device     major and minor number of a device node.
    target     of a symbolic link.
    contents   of a regular file.
    """

    mode: int
    device: tuple[int, int] = (0, 0)
    target: str = ""
    contents: Callable[[], bytes] | None = None

    def stat(self, number: int) -> bytes:
        """struct stat (144 bytes)."""
        return _STAT.pack(
            5, _INODE + number, 1, self.mode, os.getuid(), os.getgid(), os.makedev(*self.device), self._size, 4096, 0,
            *(0,) * 6,
        )  # fmt: skip

    def statx(self, number: int) -> bytes:
        """struct statx (256 bytes)."""
        time = bytes(16)
        return _STATX.pack(
            _STATX_BASIC, 4096, 0, 1, os.getuid(), os.getgid(), self.mode, _INODE + number, self._size, 0, 0,
            time, time, time, time, *self.device, 0, 5, 0,
        )  # fmt: skip

    @property
    def _size(self) -> int:
        return len(self.target)


class VirtualFiles:
    """By path. `enclave_names` are further names of the enclave device (those of older drivers)."""

    def __init__(self, files: dict[str, VirtualFile]) -> None:
        self._files = files
        self._last = {posixpath.basename(path).encode() for path in files}
        self._numbers = {path: number for number, path in enumerate(files)}

    def names(self, path: bytes) -> bool:
        """Whether the last component is one of theirs: the first, cheap question."""
        return path.rstrip(b"/").rpartition(b"/")[2] in self._last

    def find(self, path: str, *, follow: bool = True) -> tuple[str, VirtualFile] | None:
        """The file at an absolute path, through symbolic links among them unless `follow` is off."""
        path = posixpath.normpath(path)
        if path.startswith("//"):
            path = path[1:]
        found = self._files.get(path)
        while found is not None and follow and found.target:
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
            found = self._files.get(path)
        return None if found is None else (path, found)

    def number(self, path: str) -> int:
        return self._numbers[path]

    def entries(self, folder: str) -> bytes:
        """struct linux_dirent64 of what there is more in a folder."""
        parts: list[bytes] = []
        for path, file in self._files.items():
            if posixpath.dirname(path) != folder or stat.S_IFMT(file.mode) not in _DT:
                continue
            name = posixpath.basename(path).encode() + b"\0"
            size = -(-(_DIRENT.size + len(name)) // 8) * 8
            parts.append(
                (
                    _DIRENT.pack(
                        _INODE + self.number(path), (1 << 62) + len(parts), size, _DT[stat.S_IFMT(file.mode)]
                    )
                    + name
                ).ljust(size, b"\0")
            )
        return b"".join(parts)


def sgx_files(
    *, flexible_launch_control: bool, enclave_names: tuple[str, ...], qcnl: Callable[[], bytes], cpuinfo_flags: str
) -> VirtualFiles:
    """What a machine with the in-tree driver has; its enclave device needs flexible launch control."""
    provision = VirtualFile(stat.S_IFCHR | 0o666, (_MISC_MAJOR, _PROVISION_MINOR))
    files = {
        PROVISION_DEVICE: provision,
        "/dev/sgx": VirtualFile(stat.S_IFDIR | 0o755),
        "/dev/sgx/provision": VirtualFile(stat.S_IFLNK | 0o777, target="../sgx_provision"),
        CPUINFO: VirtualFile(stat.S_IFREG | 0o444, contents=lambda: cpuinfo(cpuinfo_flags)),
        QCNL: VirtualFile(stat.S_IFREG | 0o644, contents=qcnl),
    }
    for path in AESM_SOCKETS:
        files[path] = VirtualFile(stat.S_IFSOCK | 0o777)
        files[posixpath.dirname(path)] = VirtualFile(stat.S_IFDIR | 0o755)
    if flexible_launch_control:
        files[ENCLAVE_DEVICE] = VirtualFile(stat.S_IFCHR | 0o666, (_MISC_MAJOR, _ENCLAVE_MINOR))
        files["/dev/sgx/enclave"] = VirtualFile(stat.S_IFLNK | 0o777, target="../sgx_enclave")
        for name in enclave_names:
            files[name] = VirtualFile(stat.S_IFLNK | 0o777, target=ENCLAVE_DEVICE)
    return VirtualFiles(files)


def cpuinfo(flags: str) -> bytes:
    """The host's /proc/cpuinfo with more flags."""
    with open("/proc/cpuinfo", "rb") as file:  # noqa: PTH123 - a file of proc has no size to read it by
        text = file.read()
    return re.sub(rb"^(flags\s*:.*)$", rb"\1 " + flags.encode(), text, flags=re.MULTILINE)
