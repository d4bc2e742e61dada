"""System calls on the device: ioctls, mappings of enclaves, and what becomes of enclaves that nobody has any more."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from sgxkit.emulator.tracer import device, fast_transitions, ptrace, seccomp
from sgxkit.emulator.tracer.device import EnclaveFile
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.syscalls import NONE, Syscall, failure
from sgxkit.emulator.tracer.tracee import MAPPED, AddressSpace, Mapped, Thread, page_range
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.emulator.tracer.supervisor import Supervisor

_MAP_SHARED = 1
_MAP_PRIVATE = 2
_MAP_TYPE = 0xF
_MAP_FIXED = 0x10
_MAP_ANONYMOUS = 0x20
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000


def file_of(thread: Thread, descriptor: int) -> tuple[int, int] | None:
    """Which file a descriptor of the program's is, if it can be told."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{thread.tid}/fd/{ctypes.c_int(descriptor & 0xFFFF_FFFF).value}").stat()
        return status.st_dev, status.st_ino
    return None


def ioctl(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    key = file_of(thread, registers.rdi)
    file = None if key is None else tracer.enclaves.get(key)
    if file is None:
        return False
    command, argument = registers.rsi & 0xFFFF_FFFF, registers.rdx
    provision = False
    if command == device.PROVISION:
        with contextlib.suppress(OSError):
            (descriptor,) = struct.unpack("<Q", thread.space.memory.read(argument, 8))
            provision = file_of(thread, descriptor) in tracer.provision
    was_created, result, reason = file.created, 0, ""
    if command in (device.RESTRICT_PERMISSIONS, device.MODIFY_TYPES, device.REMOVE_PAGES):
        tracer.catch_up()
        fast_transitions.withdraw_all(file, list(tracer.threads.values()), tracer.processor)
    if command == device.CREATE or (command == device.ADD_PAGES and tracer.driver.free.left < 2):
        release_unused(tracer)
    try:
        if command in tracer.machine.injected.ioctls:
            raise OSError(tracer.machine.injected.ioctls[command], "injected")
        file.ioctl(
            command,
            argument,
            thread.space.memory,
            interrupted=lambda: has_pending_signal(thread.tid),
            provision=provision,
        )
    except OSError as error:
        result, reason = failure(error.errno or errno.EIO), str(error.strerror)
    tracer.observer.ioctl(thread, command, result, reason)
    if not was_created and file.created:
        has_created(tracer, thread, registers, file)
    if command in (device.RESTRICT_PERMISSIONS, device.MODIFY_TYPES, device.REMOVE_PAGES):
        tracer.leave_call(thread, registers)
        for mapped in thread.space.enclaves:
            if mapped.file is file:
                protect(tracer, thread, mapped, file.base, file.end, grant=False)
    tracer.answer(thread, registers, result)
    return True


def has_created(tracer: Supervisor, thread: Thread, registers: Registers, file: EnclaveFile) -> None:
    """A new enclave: filter its range, and give mappings from before their place in it."""
    tracer.leave_call(thread, registers)
    clear(tracer, thread)
    if (file.base, file.end) not in thread.space.filtered:
        thread.space.filtered.add((file.base, file.end))
        install_filter(tracer, thread, registers, seccomp.enclave_filter(file.base, file.end))
    descriptor = registers.rdi
    if tracer.fast and thread.space.agent:
        flags = _MAP_SHARED | _MAP_NORESERVE
        alias = tracer.call(thread, Syscall.MMAP, 0, file.size, 3, flags, descriptor, 0)
        if alias < NONE - 4095:
            thread.space.mapped(file).alias = alias
    for mapped in thread.space.enclaves:
        if mapped.file is file:
            for start, end, value in mapped.asked.runs(file.base, file.end):
                if value:
                    flags, offset = _MAP_SHARED | _MAP_FIXED, start - file.base
                    tracer.call(thread, Syscall.MMAP, start, end - start, 0, flags, descriptor, offset)


def install_filter(tracer: Supervisor, thread: Thread, registers: Registers, program: bytes) -> None:
    """Add a filter to all threads of a process."""
    at = (registers.rsp - 1024 - len(program)) & -16
    memory = thread.space.memory
    saved = memory.read(at, len(program) + 16)
    memory.write(at, seccomp.program_header(len(program), at + 16) + program)
    result = tracer.call(thread, Syscall.SECCOMP, seccomp.SECCOMP_SET_MODE_FILTER, seccomp.TSYNC, at)
    memory.write(at, saved)
    if result:
        tracer.warn("filter", msg("system calls from inside enclaves are not seen: {number}", number=result))


def mmap(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    start, length, protection, flags = registers.rdi, registers.rsi, registers.rdx, registers.r10 & 0xFFFF_FFFF
    key = None if flags & _MAP_ANONYMOUS else file_of(thread, registers.r8)
    file = None if key is None else tracer.enclaves.get(key)
    first, last = page_range(start, length)
    if file is None:
        if flags & _MAP_FIXED and any(mapped.asked[first] for mapped in thread.space.enclaves):
            unmapped(thread.space, first, last)
        return False
    if flags & _MAP_TYPE == _MAP_PRIVATE:
        raise OSError(errno.EINVAL, "enclaves are mapped shared")
    if not length or registers.r9 % PAGE_SIZE:
        raise OSError(errno.EINVAL, "length, offset")
    protection &= 7
    fixed = flags & (_MAP_FIXED | _MAP_FIXED_NOREPLACE)
    if fixed:
        file.require_may_map(first, last, protection)
    elif file.initialized and not (file.base <= first and last <= file.end):
        raise OSError(errno.EACCES, "outside the enclave")
    if file.created and fixed and not (file.base <= first and last <= file.end):
        raise OSError(errno.EACCES, "outside the enclave")
    changed = registers.copy()
    if file.created and fixed:
        changed.r9 = first - file.base
        changed.rdx = 0
    else:
        # Where the enclave will be is not known yet: reserve the addresses.
        changed.r10 = flags & ~_MAP_TYPE | _MAP_PRIVATE | _MAP_ANONYMOUS
        changed.r8, changed.r9, changed.rdx = NONE, 0, 0
    ptrace.set_registers(thread.tid, changed)

    def behind(thread: Thread) -> None:
        ptrace.get_registers(thread.tid, changed)
        registers.rax, registers.orig_rax = changed.rax, NONE
        if changed.rax < NONE - 4095:
            at, end = page_range(changed.rax, length)
            unmapped(thread.space, at, end)
            mapped = thread.space.mapped(file)
            mapped.asked.set(at, end, protection | MAPPED)
            mapped.actual.set(at, end, 0)
            if file.created:
                protect(tracer, thread, mapped, at, end, grant=True)
        ptrace.set_registers(thread.tid, registers)

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def mprotect(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    start, end = page_range(registers.rdi, registers.rsi)
    mapped = next((mapped for mapped in thread.space.enclaves if mapped.asked[start]), None)
    if mapped is None:
        return False
    protection = registers.rdx & 7
    if any(not value for _, _, value in mapped.asked.runs(start, end)):
        return False  # partly something else: the kernel says what
    mapped.file.require_may_map(start, end, protection)
    mapped.asked.set(start, end, protection | MAPPED)
    tracer.leave_call(thread, registers)
    protect(tracer, thread, mapped, start, end, grant=True)
    tracer.answer(thread, registers, 0)
    return True


def munmap(tracer: Supervisor, thread: Thread, registers: Registers) -> bool:
    first, last = page_range(registers.rdi, registers.rsi)
    unmapped(thread.space, first, last)

    def behind(thread: Thread) -> None:
        release_unused(tracer)
        clear(tracer, thread)

    thread.at_exit = behind
    ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
    return True


def unmapped(space: AddressSpace, start: int, end: int) -> None:
    """Addresses are not mapped to an enclave any more."""
    for thread in space.threads:
        if thread.published is not None and start <= thread.published.tcs < end:
            fast_transitions.forbid(thread)
    for mapped in space.enclaves:
        mapped.asked.set(start, end, 0)
        mapped.actual.set(start, end, 0)


def protect(tracer: Supervisor, thread: Thread, mapped: Mapped, start: int, end: int, *, grant: bool) -> bool:
    """Give mappings the protections that they should have; without `grant`, only take away. Says if any changed.

    The thread is not before a system call.
    """
    changed = False
    file = mapped.file
    for first, last, asked in list(mapped.asked.runs(max(start, file.base), min(end, file.end))):
        if not asked:
            continue
        for low, high, accessible in list(file.accessible.runs(first, last)):
            right = asked & accessible & 7
            for at, until, actual in list(mapped.actual.runs(low, high)):
                wanted = right if grant else right & actual
                if wanted != actual:
                    tracer.call(thread, Syscall.MPROTECT, at, until - at, wanted)
                    mapped.actual.set(at, until, wanted)
                    changed = True
    return changed


def release_unused(tracer: Supervisor) -> None:
    """Destroy the enclaves of files that nobody has open or mapped any more."""
    if not tracer.enclaves and not tracer.provision:
        return
    tracer.catch_up()
    used: set[tuple[int, int]] = set()
    for pid in {thread.pid for thread in tracer.threads.values()}:
        used |= open_files(pid)
    for key in [key for key in tracer.enclaves if key not in used]:
        file = tracer.enclaves[key]
        if any(mapped.file is file and any(value for _, _, value in mapped.asked.runs(0, 1 << 64))
               for thread in tracer.threads.values() for mapped in thread.space.enclaves):  # fmt: skip
            continue
        if any(cpu.active_secs == file.secs for cpu in tracer.processor.inside):
            continue
        del tracer.enclaves[key]
        for thread in tracer.threads.values():
            if thread.published is not None and thread.published.secs == file.secs:
                fast_transitions.withdraw(thread)
            space = thread.space
            space.garbage += [(one.alias, file.size) for one in space.enclaves if one.file is file and one.alias]
            space.enclaves = [mapped for mapped in space.enclaves if mapped.file is not file]
        file.release()
    tracer.provision &= used


def clear(tracer: Supervisor, thread: Thread) -> None:
    """Unmap what enclaves that are gone have left of the tracer's own; the thread is not before a system call."""
    while thread.space.garbage:
        tracer.call(thread, Syscall.MUNMAP, *thread.space.garbage.pop())


def open_files(pid: int) -> set[tuple[int, int]]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.add((status.st_dev, status.st_ino))
    return found


def has_pending_signal(tid: int) -> bool:
    pending = blocked = 0
    try:
        with open(f"/proc/{tid}/status") as file:  # noqa: PTH123 - a file of proc
            for line in file:
                name, _, value = line.partition(":")
                if name in ("SigPnd", "ShdPnd"):
                    pending |= int(value, 16)
                elif name == "SigBlk":
                    blocked = int(value, 16)
    except (OSError, ValueError):
        return False
    return bool(pending & ~blocked)
