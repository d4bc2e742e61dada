"""Run a program and everything it starts, and step in where it meets SGX.

One process supervises one tree of processes: it is their tracer, and they die with it (PTRACE_O_EXITKILL). Programs
run natively; they stop for the system calls that the filters of `seccomp` name, for signals, and for new tasks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import posixpath
import signal
import stat
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sgxkit.emulator.faults import Fault, PageFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.processor import LogicalProcessor, Processor
from sgxkit.emulator.tracer import agent, device, fast_transitions, ptrace, seccomp, vdso
from sgxkit.emulator.tracer.agent import AGENT, AGENT_SIZE
from sgxkit.emulator.tracer.compacted_xrstor import restore_compacted
from sgxkit.emulator.tracer.device import Driver, EnclaveFile
from sgxkit.emulator.tracer.leaf_functions import (
    AC,
    BP,
    DB,
    DE,
    ENCLU,
    GP,
    MF,
    PF,
    SIGNALS,
    UD,
    XM,
    Exception_,
    execute,
    leave,
    page_fault_code,
    xcr0,
)
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.shared_epc import SharedEpc
from sgxkit.emulator.tracer.syscalls import NONE, Syscall, failure
from sgxkit.emulator.tracer.tracee import MAPPED, AddressSpace, EndedError, Mapped, Thread, page_range
from sgxkit.emulator.tracer.virtual_files import (
    AESM_SOCKETS,
    ENCLAVE_DEVICE,
    PROVISION_DEVICE,
    VirtualFile,
    VirtualFiles,
    sgx_files,
)
from sgxkit.errors import SgxkitError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.cpuid import CpuidRegisters
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import Message, msg

EPC_BASE = 0x8000_0000

_CPUID = b"\x0f\xa2"
_SYSCALL = b"\x0f\x05"
_ARCH_SET_CPUID = 0x1012
_MAP_SHARED, _MAP_PRIVATE, _MAP_TYPE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_FIXED_NOREPLACE = (
    1,
    2,
    0xF,
    0x10,
    0x20,
    0x100000,
)
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10
_AT_FDCWD, _AT_EMPTY_PATH, _AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x100
_SI_KERNEL, _SEGV_ACCERR, _ILL_ILLOPN, _FPE_INTDIV = 0x80, 2, 2, 1
_SIGACTION_SIZE = 32
_MADV_WIPEONFORK = 18
_MAP_NORESERVE = 0x4000
_CLONE_VM = 0x100
_XFRM = 0x6_06FF
"""Components of XCR0 that enclaves may have: x87 to AVX-512, PKRU, AMX."""
_READ_IMPLIES_EXEC = 0x0400000
_MXCSR_EXCEPTIONS = 0x3F
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


class RunError(SgxkitError):
    """The program could not be run: 126 it cannot be executed, 127 it was not found, 125 anything else."""

    code = "run"

    def __init__(self, message: Message, exit_code: int = 125, *, hint: Message | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Injected:
    """What fails on purpose.

    ioctls   errno by ioctl command.
    aesm     nobody listens at AESM's socket.
    quote    AESM gives no quotes.
    """

    ioctls: Mapping[int, int] = field(default_factory=dict)
    aesm: bool = False
    quote: bool = False


_NOTHING = Injected()


@dataclass(frozen=True, slots=True)
class Machine:
    """What a program is to find.

    fuses           of the emulated processor.
    epc_size        in bytes.
    aesm            path of the socket that leads to an AESM daemon; asked for when it is connected to.
    qcnl            contents of /etc/sgx_default_qcnl.conf; asked for when it is opened.
    device_names    more names for /dev/sgx_enclave.
    """

    fuses: Fuses
    epc_size: int
    aesm: Callable[[], bytes]
    qcnl: Callable[[], bytes]
    device_names: tuple[str, ...] = ()
    injected: Injected = _NOTHING


@dataclass(frozen=True, slots=True)
class Ending:
    """How the program ended: `signal` is 0 where it exited."""

    status: int
    signal: int


class Observer:
    """What is told of a run: the base of statistics and traces; does nothing itself."""

    def entered(self, thread: Thread, registers: Registers, leaf: Enclu) -> None: ...
    def executed(self, thread: Thread, leaf: Enclu, result: int) -> None: ...
    def left(self, thread: Thread, registers: Registers) -> None: ...
    def interrupted(self, thread: Thread, exception: Exception_ | None, number: int, rip: int) -> None: ...
    def ioctl(self, thread: Thread, command: int, result: int, reason: str) -> None: ...
    def opened(self, thread: Thread, path: str) -> None: ...
    def warned(self, message: Message) -> None: ...


@dataclass(slots=True, eq=False)
class Supervisor:
    """The tracer of one tree of processes.

    fast   whether entries and exits may happen without the tracer; an observer does not see those.
    """

    machine: Machine
    observer: Observer
    fast: bool = True
    processor: Processor = field(init=False)
    driver: Driver = field(init=False)
    files: VirtualFiles = field(init=False)
    cpuid: Mapping[tuple[int, int], CpuidRegisters] = field(init=False)
    threads: dict[int, Thread] = field(default_factory=dict)
    enclaves: dict[tuple[int, int], EnclaveFile] = field(default_factory=dict)
    provision: set[tuple[int, int]] = field(default_factory=set)
    unborn: dict[int, int] = field(default_factory=dict)
    actions: dict[int, dict[int, bytes]] = field(default_factory=dict)
    folders: dict[tuple[int, int], str] = field(default_factory=dict)
    listed: dict[tuple[int, int], int] = field(default_factory=dict)
    first: int = 0
    ending: Ending | None = None
    xcr0: int = 3
    host_cpuid: dict[tuple[int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    registers: Registers = field(default_factory=Registers)
    warned: set[str] = field(default_factory=set)

    def run(self, program: Sequence[str], environment: Mapping[str, str]) -> Ending:
        """Run a program to its end, with everything it starts; raises RunError where it cannot be started."""
        self.first, failure_pipe = _start(program, environment)
        with _passing_on_signals(self.first):
            try:
                self._supervise()
            finally:
                reason = os.read(failure_pipe, 64)
                os.close(failure_pipe)
                for file in self.enclaves.values():
                    with contextlib.suppress(OSError):
                        os.close(file.descriptor)
        if reason:
            number = int(reason)
            raise RunError(
                msg("{program} cannot be run: {reason}", program=program[0], reason=os.strerror(number)),
                127 if number == errno.ENOENT else 126,
            )
        assert self.ending is not None
        return self.ending

    @property
    def epc_use(self) -> tuple[int, int]:
        """Pages of the EPC that were in use at most, and how many there are."""
        return self.driver.free.most_used, self.driver.free.total

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while self.ending is None or self.threads:
            try:
                tid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                break
            self._dispatch(tid, status)
        if self.ending is None:
            self.ending = Ending(1, 0)

    def _dispatch(self, tid: int, status: int) -> None:
        try:
            if not os.WIFSTOPPED(status):
                self._ended(tid, status)
                return
            thread = self.threads.get(tid)
            if thread is None:
                if tid == self.first and not self.threads:
                    thread = self._begin(tid)
                else:
                    self.unborn[tid] = status
                    return
            self._stopped(thread, status >> 8 & 0xFF, status >> 16)
        except EndedError as ended:
            self._ended(ended.tid, ended.status)
        except ProcessLookupError:
            pass  # killed while it was stopped: its end is reported next

    def _begin(self, tid: int) -> Thread:
        self.xcr0 = xcr0(ptrace.get_xstate(tid))
        fuses = self.machine.fuses
        profile = fuses.profile
        # XCR0 cannot be changed: extended state is what this machine has, whatever the profile says.
        attributes = Attributes(profile.attributes.flags, self.xcr0 & _XFRM)
        fuses = replace(fuses, profile=replace(profile, attributes=attributes))
        epc = SharedEpc(EPC_BASE, self.machine.epc_size & -PAGE_SIZE)
        self.processor = Processor(fuses, epc)
        self.driver = Driver(self.processor, epc)
        self.cpuid = self.processor.cpuid()
        lc = " sgx_lc" if profile.flexible_launch_control else ""
        self.files = sgx_files(
            flexible_launch_control=profile.flexible_launch_control,
            enclave_names=self.machine.device_names,
            qcnl=self.machine.qcnl,
            cpuinfo_flags="sgx" + lc,
        )
        return self._new_thread(tid, tid, AddressSpace(tid))

    def _new_thread(self, tid: int, pid: int, space: AddressSpace) -> Thread:
        thread = Thread(tid, pid, space, LogicalProcessor(self.processor, space, xcr0=self.xcr0))
        space.threads.add(thread)
        self.threads[tid] = thread
        return thread

    def _ended(self, tid: int, status: int) -> None:
        self.unborn.pop(tid, None)
        thread = self.threads.pop(tid, None)
        if thread is not None:
            self._forget(thread)
        if tid == self.first:
            self.ending = (
                Ending(os.WEXITSTATUS(status), 0) if os.WIFEXITED(status) else Ending(0, os.WTERMSIG(status))
            )

    def _forget(self, thread: Thread) -> None:
        """A thread is gone: if it was inside an enclave, its TCS stays busy, as on a real machine."""
        self.processor.inside.discard(thread.cpu)
        fast_transitions.withdraw(thread)
        thread.space.threads.discard(thread)
        if not thread.space.threads:
            thread.space.memory.close()
            thread.space.enclaves = []
            if self.threads:
                self.release_unused()

    def _stopped(self, thread: Thread, stop: int, event: int) -> None:
        if event == ptrace.EVENT_SECCOMP:
            thread.in_call = True
            self._system_call(thread)
        elif event in ptrace.NEW_TASK_EVENTS:
            self._new_task(thread, event)
        elif event == ptrace.EVENT_EXEC:
            self._executed(thread)
        elif event == ptrace.EVENT_STOP:
            if stop in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
                ptrace.listen(thread.tid)
            else:
                ptrace.resume(thread.tid)
        elif stop == ptrace.SYSCALL_STOP:
            action, thread.at_exit, thread.in_call = thread.at_exit, None, False
            if action is not None:
                action(thread)
            self.go_on(thread)
        else:
            self._signalled(thread, stop)

    def go_on(self, thread: Thread) -> None:
        """Let a thread run, giving it first what signals had to wait."""
        if thread.redeliver is not None:
            (number,) = struct.unpack_from("<i", thread.redeliver)
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
        elif thread.postponed:
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, thread.postponed.pop(0))
        else:
            ptrace.resume(thread.tid)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _new_task(self, parent: Thread, event: int) -> None:
        tid = ptrace.event_message(parent.tid)
        pid = _thread_group(tid)
        if pid is not None:
            shares = event == ptrace.EVENT_VFORK or self._shares_memory(parent, event)
            space = parent.space if shares else self._forked(parent.space, pid)
            if pid != parent.pid and parent.pid in self.actions:
                self.actions[pid] = dict(self.actions[parent.pid])
            self._new_thread(tid, pid, space)
            status = self.unborn.pop(tid, None)
            if status is not None:
                self._dispatch(tid, status)
        ptrace.resume(parent.tid)

    def _shares_memory(self, parent: Thread, event: int) -> bool:
        if event == ptrace.EVENT_FORK:
            ptrace.get_registers(parent.tid, self.registers)
            number = self.registers.orig_rax
            if number not in (56, 435):
                return False
        ptrace.get_registers(parent.tid, self.registers)
        if self.registers.orig_rax == 435:  # clone3: struct clone_args begins with the flags
            (flags,) = struct.unpack("<Q", parent.space.memory.read(self.registers.rdi, 8))
        elif self.registers.orig_rax == 56:
            flags = self.registers.rdi
        else:
            return False
        return bool(flags & _CLONE_VM)

    def _forked(self, old: AddressSpace, pid: int) -> AddressSpace:
        space = AddressSpace(pid)
        space.agent, space.low_page = old.agent, old.low_page
        for mapped in old.enclaves:
            new = space.mapped(mapped.file)
            new.alias = mapped.alias
            for start, end, value in mapped.asked.runs(0, 1 << 64):
                new.asked.set(start, end, value)
            for start, end, value in mapped.actual.runs(0, 1 << 64):
                new.actual.set(start, end, value)
        return space

    def _executed(self, thread: Thread) -> None:
        """After execve: a new address space, in which CPUID does not fault and nothing of ours is mapped yet."""
        former = ptrace.event_message(thread.tid)
        gone = [other for other in self.threads.values() if other.pid == thread.pid and other is not thread]
        for other in gone:
            if other.tid == former or other.tid != thread.tid:
                self.threads.pop(other.tid, None)
                self._forget(other)
        self._forget(thread)
        thread.cpu.active_secs = None
        space = AddressSpace(thread.tid)
        space.threads.add(thread)
        thread.space = space
        thread.cpu = LogicalProcessor(self.processor, space, xcr0=self.xcr0)
        thread.in_call, thread.at_exit = False, None
        self.actions.pop(thread.pid, None)
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        thread.wait_for_syscall_stop()
        self._prepare(thread)
        self.go_on(thread)

    def _prepare(self, thread: Thread) -> None:
        """Map the agent's page, and let CPUID fault from now on."""
        tid, memory = thread.tid, thread.space.memory
        ptrace.get_registers(tid, self.registers)
        if self.registers.cs != 0x33:
            return  # a 32-bit program: it runs without SGX
        entry = self.registers.rip
        original = memory.read(entry, len(_SYSCALL))
        memory.write(entry, _SYSCALL)
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        at = thread.call(entry, Syscall.MMAP, AGENT, AGENT_SIZE, 3, flags, NONE, 0)
        if at == AGENT:
            thread.call(entry, Syscall.MPROTECT, AGENT, agent.CODE_SIZE, 5)
            memory.write(agent.SYSCALL, agent.code())
            data = AGENT + agent.CODE_SIZE
            thread.call(agent.SYSCALL, Syscall.MADVISE, data, AGENT_SIZE - agent.CODE_SIZE, _MADV_WIPEONFORK)
            thread.space.agent = True
            self._give_vdso(thread, self.registers.rsp)
            result = thread.call(agent.SYSCALL, Syscall.ARCH_PRCTL, _ARCH_SET_CPUID, 0)
        else:
            result = thread.call(entry, Syscall.ARCH_PRCTL, _ARCH_SET_CPUID, 0)
        memory.write(entry, original)
        if result:
            self.warn(
                "cpuid",
                msg(
                    "this machine cannot make CPUID fault: programs that ask the processor for SGX will not find it; "
                    "those that do not ask run"
                ),
            )

    def _give_vdso(self, thread: Thread, stack: int) -> None:
        """Let a program that was just executed find a vDSO with __vdso_sgx_enter_enclave (the auxiliary vector)."""
        memory = thread.space.memory
        with contextlib.suppress(OSError, struct.error):
            (count,) = struct.unpack("<Q", memory.read(stack, 8))
            at = stack + 8 * (count + 2)
            while memory.read(at, 8) != bytes(8):
                at += 8
            at += 8
            while (tag := struct.unpack("<Q", memory.read(at, 8))[0]) not in (0, vdso.AT_SYSINFO_EHDR):
                at += 16
            if tag == 0:
                return
            (kernel,) = struct.unpack("<Q", memory.read(at + 8, 8))
            functions = vdso.functions_of(memory.read(kernel, 0x1000), kernel)
            functions[vdso.ENTER_ENCLAVE] = agent.ENTER
            memory.write(agent.VDSO, vdso.image(agent.VDSO, functions, size=agent.VDSO_SIZE))
            memory.write(at + 8, struct.pack("<Q", agent.VDSO))

    def catch_up(self) -> None:
        """Learn what all threads have done by themselves."""
        for thread in self.threads.values():
            fast_transitions.catch_up(thread, self.processor)

    def warn(self, key: str, message: Message) -> None:
        if key not in self.warned:
            self.warned.add(key)
            self.observer.warned(message)

    # -- system calls ------------------------------------------------------------------------------------------------

    def _system_call(self, thread: Thread) -> None:
        registers = self.registers
        ptrace.get_registers(thread.tid, registers)
        fast_transitions.catch_up(thread, self.processor)
        if ptrace.event_message(thread.tid) == seccomp.FROM_ENCLAVE and thread.cpu.active_secs is not None:
            self._call_from_enclave(thread, registers)
            return
        number = registers.orig_rax
        try:
            done = self._judge_call(thread, registers, number)
        except EndedError:
            raise
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise ProcessLookupError from error
            self._answer(thread, registers, failure(error.errno or errno.EIO))
            return
        if not done:
            thread.in_call = False
            ptrace.resume(thread.tid)

    def _judge_call(self, thread: Thread, registers: Registers, number: int) -> bool:
        """Do a system call, or see to it that something is done behind it; returns False to let it be."""
        if number in _PATH_ARGUMENT:
            return self._path_call(thread, registers, Syscall(number))
        if number == Syscall.IOCTL:
            return self._ioctl(thread, registers)
        if number == Syscall.MMAP:
            return self._mmap(thread, registers)
        if number in (Syscall.MPROTECT, Syscall.PKEY_MPROTECT):
            return self._mprotect(thread, registers)
        if number == Syscall.MUNMAP:
            return self._munmap(thread, registers)
        if number == Syscall.MREMAP:
            raise OSError(errno.EFAULT, "mappings of enclaves cannot be moved")
        if number == Syscall.CONNECT:
            return self._connect(thread, registers)
        if number == Syscall.GETDENTS64:
            return self._getdents(thread, registers)
        if number == Syscall.RT_SIGACTION:
            return self._sigaction(thread, registers)
        if number == Syscall.FSTAT:
            return self._stat_descriptor(thread, registers, registers.rdi, registers.rsi)
        return False

    def _answer(self, thread: Thread, registers: Registers, result: int) -> None:
        """The system call was done by us, or refused."""
        if thread.in_call:
            thread.in_call = False
            thread.skip_call(registers, result)
        else:
            registers.rax, registers.orig_rax = result & NONE, NONE
            ptrace.set_registers(thread.tid, registers)
        self.go_on(thread)

    def _call_from_enclave(self, thread: Thread, registers: Registers) -> None:
        """SYSCALL is an illegal instruction inside; RCX and R11 are gone by now, which hardware would have kept."""
        registers.rax = registers.orig_rax
        registers.orig_rax = NONE
        ptrace.set_registers(thread.tid, registers)
        thread.finish_call()
        ptrace.get_registers(thread.tid, registers)
        registers.rip -= len(_SYSCALL)
        self.raise_in_enclave(thread, registers, Exception_(UD), at_signal=False)

    def _path(self, thread: Thread, directory: int | None, address: int) -> str | None:
        """The absolute path of an argument, if it may be one of ours."""
        raw = thread.space.memory.string(address)
        if not self.files.names(raw):
            return None
        path = os.fsdecode(raw)
        if path.startswith("/"):
            return path
        base = f"/proc/{thread.tid}/cwd"
        if directory is not None:
            descriptor = ctypes.c_int(directory & 0xFFFF_FFFF).value
            if descriptor != _AT_FDCWD:
                folder = self._folder(thread, descriptor)
                return None if folder is None else posixpath.join(folder, path)
        with contextlib.suppress(OSError):
            return os.path.join(os.readlink(base), path)  # noqa: PTH115, PTH118 - text of another process
        return None

    def _path_call(self, thread: Thread, registers: Registers, number: Syscall) -> bool:
        has_directory = _PATH_ARGUMENT[number] is not None
        pointer = registers.rsi if has_directory else registers.rdi
        third, fourth = _after_path(registers, number)
        try:
            path = self._path(thread, registers.rdi if has_directory else None, pointer)
        except OSError:
            return False  # the kernel says what is wrong with the pointer
        if path is None:
            if number is Syscall.NEWFSTATAT and fourth & _AT_EMPTY_PATH:
                return self._stat_descriptor(thread, registers, registers.rdi, third)
            return False
        follow = not (number is Syscall.LSTAT or (number is Syscall.NEWFSTATAT and fourth & _AT_SYMLINK_NOFOLLOW))
        if number is Syscall.STATX:
            follow = not third & _AT_SYMLINK_NOFOLLOW
        if number in (Syscall.READLINK, Syscall.READLINKAT):
            follow = False
        found = self.files.find(path, follow=follow)
        if found is None:
            return False
        path, file = found
        memory = thread.space.memory
        if file.contents is not None or stat.S_ISDIR(file.mode) or stat.S_ISSOCK(file.mode):
            if number in (Syscall.OPEN, Syscall.OPENAT, Syscall.OPENAT2) and file.contents is not None:
                return self._open(thread, registers, path, file, self._open_flags(memory, number, third))
            if os.path.lexists(path) or stat.S_ISREG(file.mode):
                if not os.path.lexists(path) and file.contents is not None:
                    self._answer(thread, registers, self._look(thread, registers, number, path, file))
                    return True
                return False
        if number in (Syscall.OPEN, Syscall.OPENAT, Syscall.OPENAT2):
            if stat.S_ISDIR(file.mode):
                return self._open_folder(thread, registers, path, has_directory=has_directory)
            if not stat.S_ISCHR(file.mode):
                return False
            return self._open(thread, registers, path, file, self._open_flags(memory, number, third))
        self._answer(thread, registers, self._look(thread, registers, number, path, file))
        return True

    @staticmethod
    def _open_flags(memory: object, number: Syscall, argument: int) -> int:
        if number is Syscall.OPENAT2:
            (flags,) = struct.unpack("<Q", memory.read(argument, 8))  # type: ignore[attr-defined]
            return int(flags)
        return argument

    def _look(self, thread: Thread, registers: Registers, number: Syscall, path: str, file: VirtualFile) -> int:
        """stat, access, readlink: what the file is."""
        write = thread.space.memory.write
        third, fourth = _after_path(registers, number)
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
            write(registers.r8, file.statx(self.files.number(path)))
        else:
            write(third, file.stat(self.files.number(path)))
        return 0

    def _open_folder(self, thread: Thread, registers: Registers, path: str, *, has_directory: bool) -> bool:
        """Open the folder above in the place of one that the host has not; its entries are replaced, too."""
        memory = thread.space.memory
        at = (registers.rsp - 512) & -16
        above = os.fsencode(path.rpartition("/")[0]) + b"\0"
        saved, before = memory.read(at, len(above)), (registers.rdi, registers.rsi)
        memory.write(at, above)
        if has_directory:
            registers.rsi = at
        else:
            registers.rdi = at
        ptrace.set_registers(thread.tid, registers)

        def behind(thread: Thread) -> None:
            ptrace.get_registers(thread.tid, self.registers)
            self.registers.rdi, self.registers.rsi = before
            ptrace.set_registers(thread.tid, self.registers)
            memory.write(at, saved)
            self.folders[thread.pid, self.registers.rax] = path

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    def _folder(self, thread: Thread, descriptor: int) -> str | None:
        """The folder that a descriptor is for the program."""
        try:
            real = os.readlink(f"/proc/{thread.tid}/fd/{descriptor}")  # noqa: PTH115 - text of another process
        except OSError:
            return None
        shown = self.folders.get((thread.pid, descriptor))
        return shown if shown is not None and shown.rpartition("/")[0] == real else real

    def _open(self, thread: Thread, registers: Registers, path: str, file: VirtualFile, flags: int) -> bool:
        """Give the program a memfd in the file's place."""
        if flags & os.O_DIRECTORY:
            raise OSError(errno.ENOTDIR, path)
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise OSError(errno.EEXIST, path)
        if file.contents is not None and flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EACCES, path)
        contents = None if file.contents is None else file.contents()
        self.observer.opened(thread, path)
        thread.skip_call(registers, 0)
        thread.finish_call()
        memory = thread.space.memory
        name_at = (registers.rsp - 512) & -16
        saved = memory.read(name_at, 64)
        memory.write(name_at, path.rpartition("/")[2].encode() + b"\0")
        close = _MFD_CLOEXEC if flags & os.O_CLOEXEC else 0
        result = self.call(thread, Syscall.MEMFD_CREATE, name_at, close | _MFD_EXEC)
        if result == failure(errno.EINVAL):  # before Linux 6.3
            result = self.call(thread, Syscall.MEMFD_CREATE, name_at, close)
        memory.write(name_at, saved)
        if result < 1 << 31:
            own = os.open(f"/proc/{thread.tid}/fd/{result}", os.O_RDWR | os.O_CLOEXEC)
            status = os.fstat(own)
            key = (status.st_dev, status.st_ino)
            if path == ENCLAVE_DEVICE:
                self.enclaves[key] = EnclaveFile(self.driver, own)
            else:
                if contents is not None:
                    os.pwrite(own, contents, 0)
                elif path == PROVISION_DEVICE:
                    self.provision.add(key)
                os.close(own)
        registers.rax = result
        registers.orig_rax = NONE
        ptrace.set_registers(thread.tid, registers)
        self.go_on(thread)
        return True

    def call(self, thread: Thread, number: Syscall, *arguments: int) -> int:
        """Make a system call in a thread's name."""
        if thread.space.agent:
            return thread.call(agent.SYSCALL, number, *arguments)
        ptrace.get_registers(thread.tid, self.registers)
        at = self.registers.rip - len(_SYSCALL)
        return thread.call(at, number, *arguments)

    def _file(self, thread: Thread, descriptor: int) -> tuple[int, int] | None:
        """Which file a descriptor of the program's is, if it can be told."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{thread.tid}/fd/{ctypes.c_int(descriptor & 0xFFFF_FFFF).value}").stat()
            return status.st_dev, status.st_ino
        return None

    def _stat_descriptor(self, thread: Thread, registers: Registers, descriptor: int, buffer: int) -> bool:
        if not self.enclaves and not self.provision:
            return False
        key = self._file(thread, descriptor)
        path = ENCLAVE_DEVICE if key in self.enclaves else PROVISION_DEVICE if key in self.provision else None
        found = None if path is None else self.files.find(path)
        if path is None or found is None:
            return False
        thread.space.memory.write(buffer, found[1].stat(self.files.number(path)))
        self._answer(thread, registers, 0)
        return True

    def _getdents(self, thread: Thread, registers: Registers) -> bool:
        key = (thread.pid, registers.rdi)
        folder = self._folder(thread, registers.rdi & 0x7FFF_FFFF)
        more = b"" if folder is None else self.files.entries(folder)
        if not more:
            return False
        alone = (thread.pid, registers.rdi) in self.folders and folder == self.folders[thread.pid, registers.rdi]
        buffer, size = registers.rsi, registers.rdx & 0xFFFF_FFFF

        def behind(thread: Thread) -> None:
            ptrace.get_registers(thread.tid, self.registers)
            if self.registers.rax and alone and key not in self.listed and len(more) <= size:
                self.listed[key] = 1
                thread.space.memory.write(buffer, more)
                self.registers.rax = len(more)
                ptrace.set_registers(thread.tid, self.registers)
            elif self.registers.rax and alone:
                self.registers.rax = 0
                ptrace.set_registers(thread.tid, self.registers)
            elif self.registers.rax or len(more) > size:
                self.listed.pop(key, None)
            elif key not in self.listed:
                self.listed[key] = 1
                thread.space.memory.write(buffer, more)
                self.registers.rax = len(more)
                ptrace.set_registers(thread.tid, self.registers)
            else:
                del self.listed[key]

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    def _connect(self, thread: Thread, registers: Registers) -> bool:
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
        if self.machine.injected.aesm:
            raise OSError(errno.ECONNREFUSED, "injected")
        target = _AF_UNIX + self.machine.aesm() + b"\0"
        if target[2:3] == b"\0":
            target = target[:-1]  # an abstract address has no end mark
        memory = thread.space.memory
        at = (registers.rsp - 512) & -16
        saved, before = memory.read(at, len(target)), (registers.rsi, registers.rdx)
        memory.write(at, target)
        registers.rsi, registers.rdx = at, len(target)
        ptrace.set_registers(thread.tid, registers)

        def behind(thread: Thread) -> None:
            ptrace.get_registers(thread.tid, self.registers)
            self.registers.rsi, self.registers.rdx = before
            ptrace.set_registers(thread.tid, self.registers)
            memory.write(at, saved)

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    def _sigaction(self, thread: Thread, registers: Registers) -> bool:
        """A new action for one of the signals that our own traps may reset to the default."""
        number, new = registers.rdi & 0xFFFF_FFFF, registers.rsi
        self._restore_action(thread, number)
        if not thread.in_call:  # it was skipped to restore the action before: do it now
            registers.rax = self.call(thread, Syscall.RT_SIGACTION, number, new, registers.rdx, registers.r10)
            registers.orig_rax = NONE
            ptrace.set_registers(thread.tid, registers)
            if registers.rax == 0 and new:
                self._note_action(thread, number, new)
            self.go_on(thread)
            return True
        if not new:
            return False

        def behind(thread: Thread) -> None:
            ptrace.get_registers(thread.tid, self.registers)
            if self.registers.rax == 0:
                self._note_action(thread, number, new)

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    def _note_action(self, thread: Thread, number: int, address: int) -> None:
        with contextlib.suppress(OSError):
            action = thread.space.memory.read(address, _SIGACTION_SIZE)
            self.actions.setdefault(thread.pid, {})[number] = action

    def _restore_action(self, thread: Thread, number: int) -> bool:
        """Set the program's action for a signal again if a trap of ours has reset it; says whether it was so.

        The kernel resets an action when a fault's signal is blocked or ignored: ENCLU in a signal handler is both.
        """
        action = self.actions.get(thread.pid, {}).get(number)
        if action is None or action[:8] == bytes(8):
            return False
        caught, ignored = _dispositions(thread.tid)
        if (caught | ignored) >> (number - 1) & 1:
            return False
        ptrace.get_registers(thread.tid, self.registers)
        registers = self.registers.copy()
        self._leave_call(thread, registers)
        memory = thread.space.memory
        at = (registers.rsp - 1024) & -16 if thread.cpu.active_secs is None else self._scratch(thread)
        saved = memory.read(at, _SIGACTION_SIZE)
        memory.write(at, action)
        self.call(thread, Syscall.RT_SIGACTION, number, at, 0, 8)
        memory.write(at, saved)
        return True

    @staticmethod
    def _scratch(thread: Thread) -> int:
        """Memory of the agent's, for operands of system calls made inside an enclave."""
        del thread
        return agent.SCRATCH

    # -- the device --------------------------------------------------------------------------------------------------

    def _ioctl(self, thread: Thread, registers: Registers) -> bool:
        key = self._file(thread, registers.rdi)
        file = None if key is None else self.enclaves.get(key)
        if file is None:
            return False
        command, argument = registers.rsi & 0xFFFF_FFFF, registers.rdx
        provision = False
        if command == device.PROVISION:
            with contextlib.suppress(OSError):
                (descriptor,) = struct.unpack("<Q", thread.space.memory.read(argument, 8))
                provision = self._file(thread, descriptor) in self.provision
        was_created, result, reason = file.created, 0, ""
        if command in (device.RESTRICT_PERMISSIONS, device.MODIFY_TYPES, device.REMOVE_PAGES):
            self.catch_up()
            fast_transitions.withdraw_all(file, list(self.threads.values()), self.processor)
        if command in (device.CREATE, device.ADD_PAGES) and self.driver.free.left < 2:
            self.release_unused()
        try:
            if command in self.machine.injected.ioctls:
                raise OSError(self.machine.injected.ioctls[command], "injected")
            file.ioctl(
                command,
                argument,
                thread.space.memory,
                interrupted=lambda: _has_pending_signal(thread.tid),
                provision=provision,
            )
        except OSError as error:
            result, reason = failure(error.errno or errno.EIO), str(error.strerror)
        self.observer.ioctl(thread, command, result, reason)
        if not was_created and file.created:
            self._created(thread, registers, file)
        if command in (device.RESTRICT_PERMISSIONS, device.MODIFY_TYPES, device.REMOVE_PAGES):
            self._leave_call(thread, registers)
            for mapped in thread.space.enclaves:
                if mapped.file is file:
                    self.protect(thread, mapped, file.base, file.end, grant=False)
        self._answer(thread, registers, result)
        return True

    def _leave_call(self, thread: Thread, registers: Registers) -> None:
        """Go behind the system call without doing it, to where others can be made."""
        if thread.in_call:
            thread.skip_call(registers, 0)
            thread.finish_call()
            registers.orig_rax = NONE

    def _created(self, thread: Thread, registers: Registers, file: EnclaveFile) -> None:
        """A new enclave: filter its range, and give mappings from before their place in it."""
        self._leave_call(thread, registers)
        program = seccomp.enclave_filter(file.base, file.end)
        at = (registers.rsp - 1024 - len(program)) & -16
        memory = thread.space.memory
        saved = memory.read(at, len(program) + 16)
        memory.write(at, seccomp.program_header(len(program), at + 16) + program)
        result = self.call(thread, Syscall.SECCOMP, seccomp.SECCOMP_SET_MODE_FILTER, seccomp.TSYNC, at)
        memory.write(at, saved)
        if result:
            self.warn("filter", msg("system calls from inside enclaves are not seen: {number}", number=result))
        descriptor = registers.rdi
        if self.fast and thread.space.agent:
            flags = _MAP_SHARED | _MAP_NORESERVE
            alias = self.call(thread, Syscall.MMAP, 0, file.size, 3, flags, descriptor, 0)
            if alias < NONE - 4095:
                thread.space.mapped(file).alias = alias
        for mapped in thread.space.enclaves:
            if mapped.file is file:
                for start, end, value in mapped.asked.runs(file.base, file.end):
                    if value:
                        flags, offset = _MAP_SHARED | _MAP_FIXED, start - file.base
                        self.call(thread, Syscall.MMAP, start, end - start, 0, flags, descriptor, offset)

    def _mmap(self, thread: Thread, registers: Registers) -> bool:
        start, length, protection, flags = registers.rdi, registers.rsi, registers.rdx, registers.r10 & 0xFFFF_FFFF
        key = None if flags & _MAP_ANONYMOUS else self._file(thread, registers.r8)
        file = None if key is None else self.enclaves.get(key)
        first, last = page_range(start, length)
        if file is None:
            if flags & _MAP_FIXED and any(mapped.asked[first] for mapped in thread.space.enclaves):
                self._unmapped(thread.space, first, last)
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
                self._unmapped(thread.space, at, end)
                mapped = thread.space.mapped(file)
                mapped.asked.set(at, end, protection | MAPPED)
                mapped.actual.set(at, end, 0)
                if file.created:
                    self.protect(thread, mapped, at, end, grant=True)
            ptrace.set_registers(thread.tid, registers)

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    def _mprotect(self, thread: Thread, registers: Registers) -> bool:
        start, end = page_range(registers.rdi, registers.rsi)
        mapped = next((mapped for mapped in thread.space.enclaves if mapped.asked[start]), None)
        if mapped is None:
            return False
        protection = registers.rdx & 7
        if any(not value for _, _, value in mapped.asked.runs(start, end)):
            return False  # partly something else: the kernel says what
        mapped.file.require_may_map(start, end, protection)
        mapped.asked.set(start, end, protection | MAPPED)
        self._leave_call(thread, registers)
        self.protect(thread, mapped, start, end, grant=True)
        self._answer(thread, registers, 0)
        return True

    def _munmap(self, thread: Thread, registers: Registers) -> bool:
        first, last = page_range(registers.rdi, registers.rsi)
        self._unmapped(thread.space, first, last)

        def behind(_: Thread) -> None:
            self.release_unused()

        thread.at_exit = behind
        ptrace.resume(thread.tid, ptrace.PTRACE_SYSCALL)
        return True

    @staticmethod
    def _unmapped(space: AddressSpace, start: int, end: int) -> None:
        for mapped in space.enclaves:
            mapped.asked.set(start, end, 0)
            mapped.actual.set(start, end, 0)

    def protect(self, thread: Thread, mapped: Mapped, start: int, end: int, *, grant: bool) -> bool:
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
                        self.call(thread, Syscall.MPROTECT, at, until - at, wanted)
                        mapped.actual.set(at, until, wanted)
                        changed = True
        return changed

    def release_unused(self) -> None:
        """Destroy the enclaves of files that nobody has open or mapped any more."""
        if not self.enclaves and not self.provision:
            return
        self.catch_up()
        used: set[tuple[int, int]] = set()
        for pid in {thread.pid for thread in self.threads.values()}:
            used |= _open_files(pid)
        for key in [key for key in self.enclaves if key not in used]:
            file = self.enclaves[key]
            if any(mapped.file is file and any(value for _, _, value in mapped.asked.runs(0, 1 << 64))
                   for thread in self.threads.values() for mapped in thread.space.enclaves):  # fmt: skip
                continue
            if any(cpu.active_secs == file.secs for cpu in self.processor.inside):
                continue
            del self.enclaves[key]
            for thread in self.threads.values():
                thread.space.enclaves = [mapped for mapped in thread.space.enclaves if mapped.file is not file]
            file.release()
        self.provision &= used

    # -- signals and faults ------------------------------------------------------------------------------------------

    def _signalled(self, thread: Thread, number: int) -> None:
        if thread.redeliver is not None:
            ptrace.set_siginfo(thread.tid, thread.redeliver)
            thread.redeliver = None
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
            return
        registers = self.registers
        if thread.published is not None and self._between(thread, number):
            return
        fast_transitions.catch_up(thread, self.processor)
        if number in (signal.SIGILL, signal.SIGSEGV):
            ptrace.get_registers(thread.tid, registers)
            try:
                code = thread.space.memory.read(registers.rip, 3)
            except OSError:
                code = b""
            if number == signal.SIGILL and code == ENCLU:
                self._enclu(thread, registers)
                return
            if code[:2] == _CPUID and number == signal.SIGSEGV:
                if thread.cpu.active_secs is not None:
                    self.raise_in_enclave(thread, registers, Exception_(UD))
                elif self._is_from_instruction(thread):
                    self._answer_cpuid(thread, registers)
                else:
                    ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
                return
            if number == signal.SIGSEGV and thread.cpu.active_secs is None and self._outside_fault(thread):
                return
        if thread.cpu.active_secs is None:
            if number in seccomp.TRAPS:
                information = ptrace.get_siginfo(thread.tid)
                if self._restore_action(thread, number):
                    thread.redeliver = information
                    self.go_on(thread)
                    return
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
            return
        ptrace.get_registers(thread.tid, registers)
        self._signalled_inside(thread, registers, number)

    def _between(self, thread: Thread, number: int) -> bool:
        """A signal between outside and inside waits until the thread is through; says whether it was one."""
        ptrace.get_registers(thread.tid, self.registers)
        if not agent.in_transition(self.registers.rip):
            return False
        information = ptrace.get_siginfo(thread.tid)
        fast_transitions.step_out(thread, self.registers)
        # It is stopped for SIGTRAP now, in whose place it can be given what it was stopped for before.
        ptrace.set_siginfo(thread.tid, information)
        self._signalled(thread, number)
        return True

    @staticmethod
    def _is_from_instruction(thread: Thread) -> bool:
        return ptrace.code_and_address(ptrace.get_siginfo(thread.tid))[0] == _SI_KERNEL

    def _answer_cpuid(self, thread: Thread, registers: Registers) -> None:
        leaf, subleaf = registers.rax & 0xFFFF_FFFF, registers.rcx & 0xFFFF_FFFF
        if leaf == 0x12:
            found = self.cpuid.get((leaf, subleaf))
            values = (found.eax, found.ebx, found.ecx, found.edx) if found else (0, 0, 0, 0)
        else:
            values = host_cpuid(leaf, subleaf)
            if leaf == 0:
                values = (max(values[0], 0x12), *values[1:])
            elif leaf == 7 and subleaf == 0:
                lc = self.processor.fuses.profile.flexible_launch_control
                values = (values[0], values[1] | 1 << 2, values[2] & ~(1 << 30) | lc << 30, values[3])
        registers.rax, registers.rbx, registers.rcx, registers.rdx = values
        registers.rip += len(_CPUID)
        ptrace.set_registers(thread.tid, registers)
        ptrace.resume(thread.tid)

    def _outside_fault(self, thread: Thread) -> bool:
        """A fault outside, at an address of an enclave that is not protected as it should be yet."""
        code, address = ptrace.code_and_address(ptrace.get_siginfo(thread.tid))
        mapped = thread.space.find(address) if code in (1, 2) else None
        if mapped is None or not self.protect(thread, mapped, *_around(mapped, address), grant=True):
            return False
        ptrace.resume(thread.tid)
        return True

    def _enclu(self, thread: Thread, registers: Registers) -> None:
        inside, at = thread.cpu.active_secs, registers.rip
        for _ in range(8):
            try:
                leaf = execute(thread, registers)
            except PageFault as fault:
                if self._augmented(thread, fault.address):
                    continue
                self._leaf_fault(thread, registers, fault)
                return
            except Fault as fault:
                self._leaf_fault(thread, registers, fault)
                return
            break
        ptrace.set_registers(thread.tid, registers)
        if leaf is Enclu.EEXIT:
            self.observer.left(thread, registers)
            self._left(thread, at)
        elif leaf in (Enclu.EENTER, Enclu.ERESUME, Enclu.EDECCSSA):
            if leaf is not Enclu.EDECCSSA:
                self.observer.entered(thread, registers, leaf)
            mapped = thread.space.find(thread.cpu.tcs)
            if self.fast and mapped is not None:
                fast_transitions.publish(thread, mapped, registers)
        else:
            self.observer.executed(thread, leaf, registers.rax)
            if leaf in (Enclu.EACCEPT, Enclu.EMODPE, Enclu.EACCEPTCOPY) and inside is not None:
                mapped = thread.space.find(registers.rcx)
                if mapped is not None:
                    mapped.file.note(registers.rcx & -PAGE_SIZE)
        ptrace.resume(thread.tid)

    def _left(self, thread: Thread, at: int) -> None:
        """After an EEXIT at `at` that reached the tracer: the next one there is not to."""
        published = thread.published
        if published is None:
            return
        with contextlib.suppress(OSError):
            thread.space.memory.write(published.entry + agent.ACTIVE_AT, bytes(8))
        mapped = thread.space.find(at)
        if mapped is not None and at not in mapped.file.exits:
            self.catch_up()
            if not any(cpu.active_secs == mapped.file.secs for cpu in self.processor.inside):
                fast_transitions.bypass_exit(thread, mapped, at, self.call)

    def _augmented(self, thread: Thread, address: int) -> bool:
        """Do what the driver's fault handler does for an address without a page: EAUG one."""
        mapped = thread.space.find(address)
        if mapped is None or not mapped.file.initialized or address & -PAGE_SIZE in mapped.file.pages:
            return False
        if not self.processor.fuses.profile.sgx2:
            return False
        try:
            mapped.file.augment(address)
        except OSError:
            self.release_unused()
            try:
                mapped.file.augment(address)
            except OSError:
                return False
        return True

    def _leaf_fault(self, thread: Thread, registers: Registers, fault: Fault) -> None:
        address = fault.address if isinstance(fault, PageFault) else 0
        exception = Exception_(fault.vector, fault.error_code | (4 if fault.vector == PF else 0), address)
        if thread.cpu.active_secs is not None:
            self.raise_in_enclave(thread, registers, exception)
        else:
            self._raise_outside(thread, registers, exception, at_signal=True)

    def _signalled_inside(self, thread: Thread, registers: Registers, number: int) -> None:
        """A signal for a thread inside: a fault of the enclave's, or an interrupt."""
        information = ptrace.get_siginfo(thread.tid)
        code, address = ptrace.code_and_address(information)
        exception: Exception_ | None = None
        if code > 0:  # from the kernel
            if number == signal.SIGSEGV and code == _SI_KERNEL:
                exception = Exception_(GP)
            elif number == signal.SIGSEGV and restore_compacted(thread, registers, xcr0=self.xcr0):
                ptrace.set_registers(thread.tid, registers)
                self._let_probe(thread, address & -PAGE_SIZE)
                ptrace.resume(thread.tid)
                return
            elif number == signal.SIGSEGV:
                found = self._page_fault(thread, registers, address)
                if found is None:
                    ptrace.resume(thread.tid)
                    return
                exception = found
            elif number == signal.SIGBUS:
                exception = Exception_(AC)
            elif number == signal.SIGILL:
                exception = Exception_(UD)
            elif number == signal.SIGFPE:
                exception = Exception_(DE if code == _FPE_INTDIV else _floating_point(thread.tid))
            elif number == signal.SIGTRAP:
                exception = Exception_(BP if code == _SI_KERNEL else DB)
                if exception.vector == BP:
                    registers.rip -= 1
        if exception is None:
            self.observer.interrupted(thread, None, number, registers.rip)
            fast_transitions.withdraw(thread)
            leave(thread, registers, None)
            ptrace.set_registers(thread.tid, registers)
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
            return
        self.raise_in_enclave(thread, registers, exception)

    def _let_probe(self, thread: Thread, page: int) -> None:
        """Let XRSTOR look at a page where the enclave has none: the next one there is to need no help."""
        mapped = next((mapped for mapped in thread.space.enclaves if mapped.file.covers(page)), None)
        if mapped is not None and page not in thread.space.probed and page not in mapped.file.pages:
            thread.space.probed.add(page)
            self.call(thread, Syscall.MPROTECT, page, PAGE_SIZE, 1)

    def _page_fault(self, thread: Thread, registers: Registers, address: int) -> Exception_ | None:
        """What a page fault inside is; None if it was but our mapping that lagged behind."""
        cpu = thread.cpu
        enclave = self.processor.enclaves[cpu.active_secs or 0]
        if not enclave.covers(address):
            return Exception_(PF, page_fault_code(present=False, write=False, epcm=False), address)
        mapped = thread.space.find(address)
        if mapped is None:
            return Exception_(PF, page_fault_code(present=False, write=False, epcm=False), address)
        if address & -PAGE_SIZE not in mapped.file.pages:
            self._augmented(thread, address)
            epcm = address & -PAGE_SIZE in mapped.file.pages
            return Exception_(PF, page_fault_code(present=False, write=False, epcm=epcm), address)
        if self.protect(thread, mapped, *_around(mapped, address), grant=True):
            return None
        accessible, asked = mapped.file.accessible[address], mapped.asked[address]
        writes = bool(accessible & asked & 1) and registers.rip & -PAGE_SIZE != address & -PAGE_SIZE
        epcm = accessible & 7 != 7 and asked & 7 & ~accessible != 0
        return Exception_(PF, page_fault_code(present=True, write=writes, epcm=epcm), address)

    def raise_in_enclave(
        self, thread: Thread, registers: Registers, exception: Exception_, *, at_signal: bool = True
    ) -> None:
        """Leave the enclave because of an exception, and let the outside have its signal."""
        self.observer.interrupted(thread, exception, SIGNALS[exception.vector], registers.rip)
        fast_transitions.withdraw(thread)
        leave(thread, registers, exception)
        self._raise_outside(thread, registers, exception, at_signal=at_signal)

    def _raise_outside(self, thread: Thread, registers: Registers, exception: Exception_, *, at_signal: bool) -> None:
        """Give the program the signal of an exception at RIP, as the kernel does."""
        vector, number = exception.vector, SIGNALS[exception.vector]
        if registers.rip == agent.AEP:  # the vDSO's own: its caller is told instead
            registers.rdi, registers.rsi = vector, exception.error_code
            registers.rdx = exception.address & -PAGE_SIZE
            registers.rip = agent.EXCEPTION
            ptrace.set_registers(thread.tid, registers)
            self.go_on(thread)
            return
        code, address = _SI_KERNEL, 0
        if vector == PF:
            code, address = _SEGV_ACCERR, exception.address & -PAGE_SIZE
        elif vector == UD:
            code, address = _ILL_ILLOPN, registers.rip
        elif vector == DE:
            code, address = _FPE_INTDIV, registers.rip
        elif vector in (MF, XM):
            code, address = 7, registers.rip
        elif vector == AC:
            code = 1
        ptrace.set_registers(thread.tid, registers)
        information = ptrace.siginfo(number, code, address)
        if number in seccomp.TRAPS and self._restore_action(thread, number):
            at_signal = False
        if at_signal:
            ptrace.set_siginfo(thread.tid, information)
            ptrace.resume(thread.tid, ptrace.PTRACE_CONT, number)
        else:
            thread.redeliver = information
            self.go_on(thread)


def _after_path(registers: Registers, number: Syscall) -> tuple[int, int]:
    """The two arguments behind the path."""
    has_directory = _PATH_ARGUMENT[number] is not None
    return (registers.rdx, registers.r10) if has_directory else (registers.rsi, registers.rdx)


def _around(mapped: Mapped, address: int) -> tuple[int, int]:
    """As much around an address as is to be brought up to date with it: what the EPCM treats alike."""
    reach = 1 << 26
    for start, end, _ in mapped.file.accessible.runs(
        max(mapped.file.base, address - reach), min(mapped.file.end, address + reach)
    ):
        if start <= address < end:
            return start, end
    return address & -PAGE_SIZE, (address & -PAGE_SIZE) + PAGE_SIZE


def _floating_point(tid: int) -> int:
    """#XM if an exception that MXCSR does not mask is pending, else #MF."""
    (mxcsr,) = struct.unpack_from("<I", ptrace.get_xstate(tid), 24)
    return XM if mxcsr & ~(mxcsr >> 7) & _MXCSR_EXCEPTIONS else MF


def _thread_group(tid: int) -> int | None:
    try:
        with open(f"/proc/{tid}/status") as file:  # noqa: PTH123 - a file of proc
            return next((int(line.split()[1]) for line in file if line.startswith("Tgid:")), None)
    except (OSError, ValueError):
        return None


def _dispositions(tid: int) -> tuple[int, int]:
    """Signals that a process catches and ignores, one bit each."""
    caught = ignored = 0
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{tid}/status") as file:  # noqa: PTH123 - of proc
        for line in file:
            if line.startswith("SigIgn:"):
                ignored = int(line[7:], 16)
            elif line.startswith("SigCgt:"):
                caught = int(line[7:], 16)
    return caught, ignored


def _has_pending_signal(tid: int) -> bool:
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


def _open_files(pid: int) -> set[tuple[int, int]]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.add((status.st_dev, status.st_ino))
    return found


_cpuid_cache: dict[tuple[int, int], tuple[int, int, int, int]] = {}


def host_cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """CPUID of the processor that this runs on."""
    key = (leaf, subleaf)
    if key not in _cpuid_cache or leaf in (1, 0xB, 0x1F, 0xD):
        _cpuid_cache[key] = _execute_cpuid(leaf, subleaf)
    return _cpuid_cache[key]


def _execute_cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    result = (ctypes.c_uint32 * 4)()
    _cpuid_function()(leaf, subleaf, result)
    return (result[0], result[1], result[2], result[3])


_code_page: list[object] = []


def _cpuid_function() -> Callable[[int, int, object], None]:
    if not _code_page:
        import mmap  # noqa: PLC0415 - only where it is asked for

        # push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; mov [r8], eax; ... ; pop rbx; ret
        code = bytes.fromhex("5389f889f14989d00fa24189004189580441894808418950 0c5bc3".replace(" ", ""))
        page = mmap.mmap(-1, PAGE_SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)
        _code_page.extend((function, page))
    return _code_page[0]  # type: ignore[return-value]


def _start(program: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int]:
    """Start a program under the filter, traced by this thread; returns its process and where failures are read."""
    ready, go = os.pipe()
    failure_read, failure_write = os.pipe()
    code = seccomp.program_filter(AGENT, AGENT + AGENT_SIZE)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(ready, 1)
            for number in range(1, signal.NSIG):
                with contextlib.suppress(OSError, ValueError):
                    if signal.getsignal(number) is not signal.SIG_IGN or number in (signal.SIGPIPE, signal.SIGXFSZ):
                        signal.signal(number, signal.SIG_DFL)
            seccomp.install(code)
            os.execvpe(program[0], list(program), dict(environment))  # noqa: S606 - what the user asked for
        except OSError as error:
            os.write(failure_write, str(error.errno).encode())
        except BaseException:  # noqa: BLE001 - nothing of this process may go on
            os.write(failure_write, str(errno.EINVAL).encode())
        finally:
            os._exit(125)
    os.close(ready)
    os.close(failure_write)
    try:
        ptrace.seize(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(failure_read)
        raise RunError(
            msg("programs cannot be traced here: {reason}", reason=error.strerror or error),
            hint=msg("a container needs the capability SYS_PTRACE; Yama's ptrace_scope must be below 3"),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.write(go, b"x")
        os.close(go)
    return pid, failure_read


_PASSED_ON = {
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


@contextlib.contextmanager
def _passing_on_signals(pid: int):  # type: ignore[no-untyped-def]
    """Pass signals for this process on to the program; those that a terminal sends it has already."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    stop = signal.SIGRTMAX
    signal.pthread_sigmask(signal.SIG_BLOCK, {stop})

    def pass_on() -> None:
        while True:
            information = signal.sigwaitinfo({*_PASSED_ON, stop})
            if information.si_signo == stop:
                return
            if information.si_code != _SI_KERNEL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, information.si_signo)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.pthread_kill(thread.ident or 0, stop)
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
