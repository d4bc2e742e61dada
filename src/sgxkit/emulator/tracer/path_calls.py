"""System calls with paths, where the path is one of a machine with SGX: what they are answered."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import stat
import struct
from typing import TYPE_CHECKING

from sgxkit.emulator.tracer import ptrace
from sgxkit.emulator.tracer.device import EnclaveFile
from sgxkit.emulator.tracer.device_calls import file_of
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.syscalls import NONE, Syscall, failure
from sgxkit.emulator.tracer.tracee import Thread
from sgxkit.emulator.tracer.tracee_memory import TraceeMemory
from sgxkit.emulator.tracer.virtual_files import (
    AESM_SOCKETS,
    ENCLAVE_DEVICE,
    PROVISION_DEVICE,
    VirtualFile,
)

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.supervisor import Supervisor

_MFD_CLOEXEC = 1
_MFD_EXEC = 0x10
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_ATTRIBUTES = (Syscall.GETXATTR, Syscall.LGETXATTR, Syscall.LISTXATTR, Syscall.LLISTXATTR)
_AF_UNIX = struct.pack("<H", 1)
_PATH_ARGUMENT = {
    Syscall.OPEN: None,
    Syscall.STAT: None,
    Syscall.LSTAT: None,
    Syscall.ACCESS: None,
    Syscall.READLINK: None,
    Syscall.GETXATTR: None,
    Syscall.LGETXATTR: None,
    Syscall.LISTXATTR: None,
    Syscall.LLISTXATTR: None,
    Syscall.OPENAT: 0,
    Syscall.OPENAT2: 0,
    Syscall.NEWFSTATAT: 0,
    Syscall.STATX: 0,
    Syscall.FACCESSAT: 0,
    Syscall.FACCESSAT2: 0,
    Syscall.READLINKAT: 0,
}


def path_of(tracer: Supervisor, thread: Thread, directory: int | None, address: int) -> str | None:
    """The absolute path of an argument, if it may be one of ours."""
    raw = thread.space.memory.string(address)
    if not tracer.files.names(raw):
        return None
    path = os.fsdecode(raw)
    if path.startswith("/"):
        return path
    base = f"/proc/{thread.tid}/cwd"
    if directory is not None:
        descriptor = ctypes.c_int(directory & 0xFFFF_FFFF).value
        if descriptor != _AT_FDCWD:
            folder = folder_of(tracer, thread, descriptor)
            return None if folder is None else posixpath.join(folder, path)
    with contextlib.suppress(OSError):
        return os.path.join(os.readlink(base), path)  # noqa: PTH115, PTH118 - text of another process
    return None


def path_call(tracer: Supervisor, thread: Thread, registers: Registers, number: Syscall) -> bool:
    has_directory = _PATH_ARGUMENT[number] is not None
    pointer = registers.rsi if has_directory else registers.rdi
    third, fourth = after_path(registers, number)
    try:
        path = path_of(tracer, thread, registers.rdi if has_directory else None, pointer)
    except OSError:
        return False  # the kernel says what is wrong with the pointer
    if path is None:
        if number is Syscall.NEWFSTATAT and fourth & _AT_EMPTY_PATH:
            return stat_descriptor(tracer, thread, registers, registers.rdi, third)
        return False
    follow = not (number is Syscall.LSTAT or (number is Syscall.NEWFSTATAT and fourth & _AT_SYMLINK_NOFOLLOW))
    if number is Syscall.STATX:
        follow = not third & _AT_SYMLINK_NOFOLLOW
    if number in (Syscall.READLINK, Syscall.READLINKAT):
        follow = False
    found = tracer.files.find(path, follow=follow)
    if found is None:
        return False
    path, file = found
    memory = thread.space.memory
    if file.contents is not None or stat.S_ISDIR(file.mode) or stat.S_ISSOCK(file.mode):
        if number in (Syscall.OPEN, Syscall.OPENAT, Syscall.OPENAT2) and file.contents is not None:
            return open_file(tracer, thread, registers, found, open_flags(memory, number, third))
        if os.path.lexists(path) or stat.S_ISREG(file.mode):
            if not os.path.lexists(path) and file.contents is not None:
                tracer.answer(thread, registers, look_at(tracer, thread, registers, number, found))
                return True
            return False
    if number in (Syscall.OPEN, Syscall.OPENAT, Syscall.OPENAT2):
        if stat.S_ISDIR(file.mode):
            return open_folder(tracer, thread, registers, number, path)
        if not stat.S_ISCHR(file.mode):
            return False
        return open_file(tracer, thread, registers, found, open_flags(memory, number, third))
    tracer.answer(thread, registers, look_at(tracer, thread, registers, number, found))
    return True


def open_flags(memory: TraceeMemory, number: Syscall, argument: int) -> int:
    """The flags of an open, where they are."""
    if number is Syscall.OPENAT2:
        (flags,) = struct.unpack("<Q", memory.read(argument, 8))
        return int(flags)
    return argument


def look_at(
    tracer: Supervisor, thread: Thread, registers: Registers, number: Syscall, found: tuple[str, VirtualFile]
) -> int:
    """stat, access, readlink: what the file is."""
    path, file = found
    write = thread.space.memory.write
    third, fourth = after_path(registers, number)
    if number in (Syscall.ACCESS, Syscall.FACCESSAT, Syscall.FACCESSAT2):
        executes = third & os.X_OK and not stat.S_ISDIR(file.mode)
        return failure(errno.EACCES) if executes or (third & os.W_OK and not file.mode & 0o222) else 0
    if number in _ATTRIBUTES:
        return failure(errno.EOPNOTSUPP)
    if number in (Syscall.READLINK, Syscall.READLINKAT):
        if not file.target:
            return failure(errno.EINVAL)
        target = file.target.encode()[: fourth & 0x7FFF_FFFF]
        write(third, target)
        return len(target)
    if number is Syscall.STATX:
        write(registers.r8, file.statx(tracer.files.number(path)))
    else:
        write(third, file.stat(tracer.files.number(path)))
    return 0


def open_folder(tracer: Supervisor, thread: Thread, registers: Registers, number: Syscall, path: str) -> bool:
    """Open the folder above in the place of one that the host has not; its entries are replaced, too.

    O_APPEND, which says nothing of a folder, tells it from the folder above, opened for itself.
    """
    memory = thread.space.memory
    before = (registers.rdi, registers.rsi, registers.rdx)
    above = os.fsencode(path.rpartition("/")[0]) + b"\0"
    at = (registers.rsp - 512) & -16
    replaced = [(at, memory.read(at, len(above)))]
    memory.write(at, above)
    if number is Syscall.OPEN:
        registers.rdi, registers.rsi = at, registers.rsi | os.O_APPEND
    elif number is Syscall.OPENAT:
        registers.rsi, registers.rdx = at, registers.rdx | os.O_APPEND
    else:
        registers.rsi = at
        replaced.append((registers.rdx, memory.read(registers.rdx, 8)))
        flags = open_flags(memory, number, registers.rdx) | os.O_APPEND
        memory.write(registers.rdx, struct.pack("<Q", flags))
    ptrace.set_registers(thread.tid, registers)

    def behind(thread: Thread) -> None:
        ptrace.get_registers(thread.tid, tracer.registers)
        tracer.registers.rdi, tracer.registers.rsi, tracer.registers.rdx = before
        ptrace.set_registers(thread.tid, tracer.registers)
        for address, text in replaced:
            memory.write(address, text)
        with contextlib.suppress(OSError):  # it could not be opened
            tracer.folders[os.readlink(f"/proc/{thread.tid}/fd/{tracer.registers.rax}")] = path  # noqa: PTH115
            tracer.listed.pop((thread.pid, tracer.registers.rax), None)

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def folder_of(tracer: Supervisor, thread: Thread, descriptor: int) -> str | None:
    """The folder that a descriptor is for the program."""
    try:
        real = os.readlink(f"/proc/{thread.tid}/fd/{descriptor}")  # noqa: PTH115 - text of another process
    except OSError:
        return None
    shown = tracer.folders.get(real)
    return real if shown is None or not _appends(thread, descriptor) else shown


def _appends(thread: Thread, descriptor: int) -> bool:
    """Whether a descriptor was opened with O_APPEND (proc_pid_fdinfo(5))."""
    with contextlib.suppress(OSError), open(f"/proc/{thread.tid}/fdinfo/{descriptor}", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"flags:"):
                return bool(int(line.split()[1], 8) & os.O_APPEND)
    return False


def open_file(
    tracer: Supervisor, thread: Thread, registers: Registers, found: tuple[str, VirtualFile], flags: int
) -> bool:
    """Give the program a memfd in the file's place."""
    path, file = found
    if flags & os.O_DIRECTORY:
        raise OSError(errno.ENOTDIR, path)
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise OSError(errno.EEXIST, path)
    if file.contents is not None and flags & os.O_ACCMODE != os.O_RDONLY:
        raise OSError(errno.EACCES, path)
    contents = None if file.contents is None else file.contents()
    tracer.observer.opened(thread, path)
    thread.skip_call(registers, 0)
    thread.finish_call()
    memory = thread.space.memory
    name_at = (registers.rsp - 512) & -16
    saved = memory.read(name_at, 64)
    memory.write(name_at, path.rpartition("/")[2].encode() + b"\0")
    close = _MFD_CLOEXEC if flags & os.O_CLOEXEC else 0
    result = tracer.call(thread, Syscall.MEMFD_CREATE, name_at, close | _MFD_EXEC)
    if result == failure(errno.EINVAL):  # before Linux 6.3
        result = tracer.call(thread, Syscall.MEMFD_CREATE, name_at, close)
    memory.write(name_at, saved)
    if result < 1 << 31:
        own = os.open(f"/proc/{thread.tid}/fd/{result}", os.O_RDWR | os.O_CLOEXEC)
        status = os.fstat(own)
        key = (status.st_dev, status.st_ino)
        if path == ENCLAVE_DEVICE:
            tracer.enclaves[key] = EnclaveFile(tracer.driver, own)
        else:
            if contents is not None:
                os.pwrite(own, contents, 0)
            elif path == PROVISION_DEVICE:
                tracer.provision.add(key)
            os.close(own)
    registers.rax = result
    registers.orig_rax = NONE
    ptrace.set_registers(thread.tid, registers)
    tracer.go_on(thread)
    return True


def stat_descriptor(tracer: Supervisor, thread: Thread, registers: Registers, descriptor: int, buffer: int) -> bool:
    if not tracer.enclaves and not tracer.provision:
        return False
    key = file_of(thread, descriptor)
    path = ENCLAVE_DEVICE if key in tracer.enclaves else PROVISION_DEVICE if key in tracer.provision else None
    found = None if path is None else tracer.files.find(path)
    if path is None or found is None:
        return False
    thread.space.memory.write(buffer, found[1].stat(tracer.files.number(path)))
    tracer.answer(thread, registers, 0)
    return True


def list_folder(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    key = (thread.pid, registers.rdi)
    folder = folder_of(tracer, thread, registers.rdi & 0x7FFF_FFFF)
    more = b"" if folder is None else tracer.files.entries(folder)
    if not more:
        return False
    alone = folder in tracer.folders.values()
    buffer, size = registers.rsi, registers.rdx & 0xFFFF_FFFF

    def behind(thread: Thread) -> None:
        ptrace.get_registers(thread.tid, tracer.registers)
        if tracer.registers.rax and alone and key not in tracer.listed and len(more) <= size:
            tracer.listed[key] = 1
            thread.space.memory.write(buffer, more)
            tracer.registers.rax = len(more)
            ptrace.set_registers(thread.tid, tracer.registers)
        elif tracer.registers.rax and alone:
            tracer.registers.rax = 0
            ptrace.set_registers(thread.tid, tracer.registers)
        elif tracer.registers.rax or len(more) > size:
            tracer.listed.pop(key, None)
        elif key not in tracer.listed:
            tracer.listed[key] = 1
            thread.space.memory.write(buffer, more)
            tracer.registers.rax = len(more)
            ptrace.set_registers(thread.tid, tracer.registers)
        else:
            del tracer.listed[key]

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def connect(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    size = registers.rdx & 0xFFFF_FFFF
    if not 2 < size <= 110:
        return False
    try:
        address = thread.space.memory.read(registers.rsi, size)
    except OSError:
        return False
    path = address[2:].partition(b"\0")[0].decode(errors="replace")
    if address[:2] != _AF_UNIX or path not in AESM_SOCKETS:
        return False
    if tracer.machine.injected.aesm:
        raise OSError(errno.ECONNREFUSED, "injected")
    target = _AF_UNIX + tracer.machine.aesm() + b"\0"
    if target[2:3] == b"\0":
        target = target[:-1]  # an abstract address has no end mark
    memory = thread.space.memory
    at = (registers.rsp - 512) & -16
    saved, before = memory.read(at, len(target)), (registers.rsi, registers.rdx)
    memory.write(at, target)
    registers.rsi, registers.rdx = at, len(target)
    ptrace.set_registers(thread.tid, registers)

    def behind(thread: Thread) -> None:
        ptrace.get_registers(thread.tid, tracer.registers)
        tracer.registers.rsi, tracer.registers.rdx = before
        ptrace.set_registers(thread.tid, tracer.registers)
        memory.write(at, saved)

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def after_path(registers: Registers, number: Syscall) -> tuple[int, int]:
    """The two arguments behind the path."""
    has_directory = _PATH_ARGUMENT[number] is not None
    return (registers.rdx, registers.r10) if has_directory else (registers.rsi, registers.rdx)
