"""Run a program and everything it starts, and step in where it meets SGX.

One process supervises one tree of processes: it is their tracer, and they die with it (PTRACE_O_EXITKILL). Programs
run natively; they stop for the system calls that the filters of `seccomp` name, for signals, and for new tasks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgxkit.emulator.processor import LogicalProcessor, Processor
from sgxkit.emulator.tracer import agent, fast_transitions, ptrace, seccomp, vdso
from sgxkit.emulator.tracer.agent import AGENT, AGENT_SIZE
from sgxkit.emulator.tracer.device import Driver, EnclaveFile
from sgxkit.emulator.tracer.device_calls import ioctl, mmap, mprotect, munmap, release_unused
from sgxkit.emulator.tracer.faults import raise_in_enclave, signalled
from sgxkit.emulator.tracer.launch import passing_on_signals, start_program
from sgxkit.emulator.tracer.leaf_functions import (
    UD,
    Exception_,
    xcr0,
)
from sgxkit.emulator.tracer.machine import Ending, Machine, Observer, RunError
from sgxkit.emulator.tracer.path_calls import connect, list_folder, path_call, stat_descriptor
from sgxkit.emulator.tracer.ptrace import Registers
from sgxkit.emulator.tracer.shared_epc import SharedEpc
from sgxkit.emulator.tracer.signal_actions import sigaction
from sgxkit.emulator.tracer.syscalls import NONE, Syscall, failure
from sgxkit.emulator.tracer.tracee import AddressSpace, EndedError, Thread
from sgxkit.emulator.tracer.virtual_files import (
    VirtualFiles,
    sgx_files,
)
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.cpuid import CpuidRegisters
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import Message, msg

EPC_BASE = 0x8000_0000
_SYSCALL = b"\x0f\x05"
_ARCH_SET_CPUID = 0x1012
_MAP_PRIVATE = 2
_MAP_ANONYMOUS = 0x20
_MAP_FIXED_NOREPLACE = 0x100000
_MADV_WIPEONFORK = 18
_CLONE_VM = 0x100
_XFRM = 0x6_06FF
"""Components of XCR0 that enclaves may have: x87 to AVX-512, PKRU, AMX."""
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
    folders: dict[str, str] = field(default_factory=dict)
    listed: dict[tuple[int, int], int] = field(default_factory=dict)
    first: int = 0
    ending: Ending | None = None
    xcr0: int = 3
    host_cpuid: dict[tuple[int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    registers: Registers = field(default_factory=Registers)
    warned: set[str] = field(default_factory=set)

    def run(self, program: Sequence[str], environment: Mapping[str, str]) -> Ending:
        """Run a program to its end, with everything it starts; raises RunError where it cannot be started."""
        self.first, failure_pipe = start_program(program, environment)
        with passing_on_signals(self.first):
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
                release_unused(self)

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
            signalled(self, thread, stop)

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
        space.filtered = set(old.filtered)
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
            self.answer(thread, registers, failure(error.errno or errno.EIO))
            return
        if not done:
            thread.in_call = False
            ptrace.resume(thread.tid)

    def _judge_call(self, thread: Thread, registers: Registers, number: int) -> bool:
        """Do a system call, or see to it that something is done behind it; returns False to let it be."""
        if number in _PATH_ARGUMENT:
            return path_call(self, thread, registers, Syscall(number))
        if number == Syscall.IOCTL:
            return ioctl(self, thread, registers)
        if number == Syscall.MMAP:
            return mmap(self, thread, registers)
        if number in (Syscall.MPROTECT, Syscall.PKEY_MPROTECT):
            return mprotect(self, thread, registers)
        if number == Syscall.MUNMAP:
            return munmap(self, thread, registers)
        if number == Syscall.MREMAP:
            raise OSError(errno.EFAULT, "mappings of enclaves cannot be moved")
        if number == Syscall.CONNECT:
            return connect(self, thread, registers)
        if number == Syscall.GETDENTS64:
            return list_folder(self, thread, registers)
        if number == Syscall.RT_SIGACTION:
            return sigaction(self, thread, registers)
        if number == Syscall.FSTAT:
            return stat_descriptor(self, thread, registers, registers.rdi, registers.rsi)
        return False

    def answer(self, thread: Thread, registers: Registers, result: int) -> None:
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
        raise_in_enclave(self, thread, registers, Exception_(UD), at_signal=False)

    def call(self, thread: Thread, number: Syscall, *arguments: int) -> int:
        """Make a system call in a thread's name."""
        if thread.space.agent:
            return thread.call(agent.SYSCALL, number, *arguments)
        ptrace.get_registers(thread.tid, self.registers)
        at = self.registers.rip - len(_SYSCALL)
        return thread.call(at, number, *arguments)

    # -- the device --------------------------------------------------------------------------------------------------

    def leave_call(self, thread: Thread, registers: Registers) -> None:
        """Go behind the system call without doing it, to where others can be made."""
        if thread.in_call:
            thread.skip_call(registers, 0)
            thread.finish_call()
            registers.orig_rax = NONE

    # -- signals and faults ------------------------------------------------------------------------------------------


def _thread_group(tid: int) -> int | None:
    try:
        with open(f"/proc/{tid}/status") as file:  # noqa: PTH123 - a file of proc
            return next((int(line.split()[1]) for line in file if line.startswith("Tgid:")), None)
    except (OSError, ValueError):
        return None
