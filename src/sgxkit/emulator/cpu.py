"""A Unicorn processor that executes an enclave's code until something happens that is not Unicorn's business.

Unicorn asks for each page when it is first used (`Space`), and works on the memory of the EPC and of the caller in
place. Its processor executes at privilege level 0, so each piece of code is looked at once, when Unicorn translates
it: an instruction that must not, or cannot, be executed there is made a place where Unicorn stops. All else runs at
Unicorn's own speed. It takes turns with all others on the same emulated processor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgxkit.emulator.chunk import CHUNK_SIZE, Chunk
from sgxkit.emulator.decode import MAX_LENGTH, Instruction, decode
from sgxkit.emulator.faults import Fault
from sgxkit.emulator.illegal import exception_of
from sgxkit.emulator.space import Area, Place, Space
from sgxkit.emulator.turns import CLOCK
from sgxkit.emulator.xsave import LEGACY_SIZE, XFRM, XsaveInstruction, xsave_instruction
from sgxkit.isa.page import PAGE_SIZE, PageFlags

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from sgxkit.emulator.coverage import Coverage

GPRS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
ENCLU = b"\x0f\x01\xd7"
_UNDEFINED = 6

# Unicorn's physical addresses.
_PHYSICAL = {Area.EPC: 1 << 50, Area.OUTSIDE: 1 << 49, Area.ABORT: 1 << 48}
_OWN = 1 << 47
_NEVER = 1 << 46
# Where the processor's own instructions and their memory are: an address that no code can form a canonical one of.
_SCRATCH = 0x5A << 56
_AREA = _SCRATCH + PAGE_SIZE
_SNIPPETS = {"xsetbv": "0f01d1f4", "fxrstor": "480fae08f4", "fxsave": "480fae00f4"}
"""Each with HLT, at which Unicorn stops."""
_SNIPPET_SIZE = 16
_TCG_BUFFER = 32 << 20
_CONTROL = 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18
"""CR4: OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE."""
_NO_BLOCK = (0, 0)
_BLOCKS_A_LOOK = 1000
"""How many blocks of code pass between two looks at the clock, where blocks are counted."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """ENCLU is next."""


@dataclass(frozen=True, slots=True)
class Trap:
    """The instruction raises an exception."""

    vector: int


@dataclass(frozen=True, slots=True)
class Xsave:
    """An instruction of the XSAVE family is next."""

    kind: XsaveInstruction
    instruction: Instruction


@dataclass(frozen=True, slots=True)
class Access:
    """The EPCM, or the memory outside, does not allow what the instruction does to the page."""

    fault: Fault
    page: int
    permission: PageFlags


@dataclass(frozen=True, slots=True)
class Enough:
    """So many instructions have been executed as may be."""


@dataclass(frozen=True, slots=True)
class Late:
    """It has lasted as long as it may."""


Event = Leaf | Trap | Xsave | Access | Enough | Late
Special = Leaf | Trap | Xsave


@dataclass(slots=True)
class Limits:
    """What one stay in the enclave may use; `count` is what it has executed, where that is counted."""

    instructions: int | None
    deadline: float
    count: int = 0


@dataclass(slots=True)
class _Stop:
    """What hooks have to say of why Unicorn stopped.

    missing   memory that Unicorn does not have yet.
    new       code that has just been translated, from and to, and the address in it that is to be a place to stop.
    broken    what must not happen in a hook.
    """

    event: Special | Enough | None = None
    refused: Access | None = None
    missing: Place | None = None
    new: tuple[int, int, int] | None = None
    broken: BaseException | None = None


class Cpu:
    """One Unicorn processor; used for one stay in one enclave at a time, and kept for the next.

    spent   it has raised an exception, which nobody delivers: it would take another one for a double fault.
    """

    def __init__(self, unicorn: ModuleType, space: Space, *, sgx2: bool) -> None:
        from unicorn import x86_const  # noqa: PLC0415

        self.space = space
        self.limits = Limits(None, 0.0)
        self.coverage: Coverage | None = None
        self._sgx2 = sgx2
        self._error: type[Exception] = unicorn.UcError
        names = {name: name.upper() for name in GPRS} | {"rip": "RIP", "rflags": "EFLAGS"}
        names |= {"fsbase": "FS_BASE", "gsbase": "GS_BASE"}
        self._numbers = {name: getattr(x86_const, f"UC_X86_REG_{register}") for name, register in names.items()}
        self._everything = unicorn.UC_PROT_ALL
        self._accesses = {
            unicorn.UC_MEM_READ: PageFlags.R,
            unicorn.UC_MEM_WRITE: PageFlags.W,
            unicorn.UC_MEM_FETCH: PageFlags.X,
        }
        self._stop = _Stop()
        self._interrupt: Callable[[], object] | None = None
        self._chunks: dict[tuple[Area, int], Chunk] = {}
        self._exits: set[int] = set()
        self._examined: dict[int, int] = {}
        self._rewritable = self._own_code = False
        self._seen = (-1, -1)
        self._code_seen = -1
        self.spent = False
        self._abort = Chunk()
        self._own = Chunk()
        uc: Any = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._uc = uc
        uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_ICELAKE_SERVER)
        uc.ctl_set_tcg_buffer_size(_TCG_BUFFER)
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        uc.ctl_exits_enabled(True)
        uc.mem_map_ptr(_PHYSICAL[Area.ABORT], PAGE_SIZE, self._everything, self._abort.pointer)
        uc.mem_map_ptr(_OWN, 2 * PAGE_SIZE, self._everything, self._own.pointer)
        uc.hook_add(unicorn.UC_HOOK_TLB_FILL, self._on_page)
        uc.hook_add(unicorn.UC_HOOK_EDGE_GENERATED, self._on_translation)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        uc.hook_add(unicorn.UC_HOOK_INSN_INVALID, self._on_invalid)
        self._block_hook, self._code_hook = unicorn.UC_HOOK_BLOCK, unicorn.UC_HOOK_CODE
        self._counting: int | None = None
        self._block = _NO_BLOCK
        self._executed: dict[tuple[int, ...], int] = {}
        self._blocks = 0
        self._starts: dict[tuple[int, int], tuple[int, ...]] = {}
        self._snippets: dict[str, int] = {}
        for number, (name, code) in enumerate(_SNIPPETS.items()):
            machine_code, start = bytes.fromhex(code), number * _SNIPPET_SIZE
            self._own.view[start : start + len(machine_code)] = machine_code
            self._snippets[name] = _SCRATCH + start
        cr4 = uc.reg_read(x86_const.UC_X86_REG_CR4)
        uc.reg_write(x86_const.UC_X86_REG_CR4, cr4 | _CONTROL)
        self._execute_own("xsetbv", rax=XFRM, rcx=0, rdx=0)

    # Registers

    def read(self, name: str) -> int:
        return int(self._uc.reg_read(self._numbers[name]))

    def write(self, name: str, value: int) -> None:
        self._uc.reg_write(self._numbers[name], value)

    def load_state(self, state: bytes) -> None:
        """Set x87 and SSE registers from a legacy area."""
        self._own.view[PAGE_SIZE : PAGE_SIZE + LEGACY_SIZE] = state
        self._execute_own("fxrstor", rax=_AREA)

    def save_state(self) -> bytes:
        """The legacy area of the x87 and SSE registers."""
        self._execute_own("fxsave", rax=_AREA)
        return bytes(self._own.view[PAGE_SIZE : PAGE_SIZE + LEGACY_SIZE])

    def _execute_own(self, snippet: str, **registers: int) -> None:
        """Execute an instruction of the processor's own, outside the enclave's sight."""
        saved = {name: self.read(name) for name in (*registers, "rip")}
        for name, value in registers.items():
            self.write(name, value)
        start, self._own_code = self._snippets[snippet], True
        try:
            self._uc.emu_start(start, 0)
        except self._error:
            # As in `_is_afterwards`: it may have been executed all the same.
            if self.read("rip") == start:
                raise
        finally:
            self._own_code = False
        for name, value in saved.items():
            self.write(name, value)

    # Running

    def begin(self, limits: Limits, coverage: Coverage | None) -> None:
        """Begin a stay: what was known of pages and code may have changed."""
        self.limits, self.coverage = limits, coverage
        self._executed.clear()
        self._interrupt = None
        blocks = limits.instructions is not None or coverage is not None
        if blocks and self._counting is None:
            self._counting = self._uc.hook_add(self._block_hook, self._on_block)
            self._uc.ctl_flush_tb()
        elif not blocks and self._counting is not None:
            self._uc.hook_del(self._counting)
            self._counting = None
            self._uc.ctl_flush_tb()
        if coverage is not None:
            self._seen = (-1, -1)  # pages are to be seen again
        self.refresh()

    def refresh(self) -> None:
        """Forget what no longer holds, after somebody else may have changed the EPC or the memory outside."""
        epc = self.space.thread.processor.epc
        if self._code_seen != epc.code_generation or self._rewritable:
            self._code_seen, self._rewritable = epc.code_generation, False
            self._examined.clear()
            self._starts.clear()
            self._exits.clear()
            self._uc.ctl_set_exits([])
            self._uc.ctl_flush_tb()
            self._seen = (-1, -1)
        seen = (epc.generation, self.space.memory.generation)
        if self._seen != seen:
            self._seen = seen
            self._forget_pages()
        self._abort.view[:PAGE_SIZE] = b"\xff" * PAGE_SIZE

    def interrupt(self, then: Callable[[], object]) -> None:
        """Stop, and do `then`, which may raise; may be called at any time."""
        self._interrupt = then
        self._uc.emu_stop()

    def run(self) -> Event:
        """Execute until something happens; RIP is at the instruction that it happens to."""
        turns = self.space.thread.processor.turns
        while True:
            rip = self.read("rip")
            if rip in self._exits:
                special = self._special_at(rip)
                if special is not None:
                    if self.limits.instructions is not None and self.limits.count >= self.limits.instructions:
                        return Enough()
                    self.limits.count += 1
                    if self.coverage is not None:
                        self.coverage.executed((rip,))
                    return special
                self._rewritable = True
                self.refresh()
            event = self._run_from(rip)
            if event is not None:
                return event
            if self._interrupt is not None:
                interrupt, self._interrupt = self._interrupt, None
                interrupt()
            if time.monotonic() > self.limits.deadline:
                return Late()
            if turns.wanted:
                turns.yield_turn()
                self.refresh()

    def _run_from(self, rip: int) -> Event | None:
        """Run until Unicorn stops; None where nothing has happened to the code."""
        stop = self._stop = _Stop()
        self._block = _NO_BLOCK
        failed = False
        try:
            if self.limits.instructions is not None or self.coverage is not None:
                self._uc.emu_start(rip, 0)  # hooks look at the clock
            else:
                with CLOCK.ticking(self._uc.emu_stop):
                    self._uc.emu_start(rip, 0)
        except self._error:
            failed = True
        if stop.broken is not None:
            raise stop.broken
        if stop.refused is not None and self._is_afterwards(stop.refused):
            stop.refused, failed = None, stop.event is not None
        if self._counting is not None:
            self._settle_block(failed=failed)
        if stop.missing is not None:
            self._map(stop.missing)
            return None
        if failed and stop.refused is not None:
            return stop.refused
        if stop.new is not None:
            start, end, special = stop.new
            self._exits.add(special)
            self._uc.ctl_set_exits([*self._exits])
            self._uc.ctl_remove_cache(start, end)
            return None
        if stop.event is None and failed:
            # What no hook has explained is a bug of ours or of Unicorn, never the enclave's.
            raise RuntimeError(f"Unicorn stopped at {self.read('rip'):#x} without a reason")
        if isinstance(stop.event, Enough) and self._counting is not None:
            return self._step_to_limit()
        return stop.event

    def _is_afterwards(self, refused: Access) -> bool:
        """Whether a page was looked for after the code had stopped.

        Unicorn then forgets what it has translated at the byte before each place to stop, which may be on a page that
        cannot be executed; it reports that as a failure of the code.
        """
        rip = self.read("rip")
        near = (rip & -PAGE_SIZE, rip + MAX_LENGTH - 1 & -PAGE_SIZE)
        return refused.permission is PageFlags.X and refused.page not in near

    def _step_to_limit(self) -> Event | None:
        """Execute what is left of the allowed instructions, in the middle of a block, one by one."""
        counting, self._counting = self._counting, None
        before: list[int] = []

        def on_instruction(_uc: object, address: int, _size: int, _data: object) -> None:
            if self._stop.event is None and self._stop.new is None:
                if self.limits.count == self.limits.instructions:
                    self._stop.event = Enough()
                    self._uc.emu_stop()
                else:
                    self.limits.count += 1
                    before.append(address)

        hook = self._uc.hook_add(self._code_hook, on_instruction)
        self._uc.ctl_flush_tb()
        try:
            return self._run_from(self.read("rip"))
        finally:
            self._uc.hook_del(hook)
            self._uc.ctl_flush_tb()
            self._counting = counting
            if before and self._stop.missing is not None:
                before.pop()
                self.limits.count -= 1
            if self.coverage is not None:
                self.coverage.executed(before)

    # Hooks: they only say what happened, and stop

    def _on_page(self, _uc: object, page: int, access: int, entry: Any, _data: object) -> bool:
        if self._own_code and _SCRATCH <= page <= _AREA:
            entry.paddr, entry.perms = _OWN + page - _SCRATCH, self._everything
            return True
        permission = self._accesses[access]
        try:
            place = self.space.find(page, permission)
        except Fault as fault:
            self._stop.refused = Access(fault, page, permission)
            return False
        except BaseException as error:  # noqa: BLE001 - raised again when Unicorn has stopped
            self._stop.broken = error
            return False
        if place.area is not Area.ABORT and (place.area, place.offset // CHUNK_SIZE) not in self._chunks:
            self._stop.missing = place
            return False
        if place.permissions & PageFlags.W and place.permissions & PageFlags.X:
            self._rewritable = True
        if self.coverage is not None:
            self.coverage.touched(page, permission)
            entry.perms = int(permission)
        else:
            entry.perms = int(place.permissions & PageFlags.RWX)
        entry.paddr = _PHYSICAL[place.area] + place.offset
        return True

    def _on_translation(self, _uc: object, block: Any, _before: object, _data: object) -> None:
        start, end = block.pc, block.pc + block.size
        if self._own_code or self._examined.get(start, 0) >= end:
            return
        special = self._examine(start, end)
        if special is not None:
            self._stop.new = (start, end, special)
            self._uc.emu_stop()
        elif not self._rewritable:
            self._examined[start] = end

    def _on_exception(self, _uc: object, vector: int, _data: object) -> None:
        self.spent = True
        self._stop.event = Trap(vector)
        self._uc.emu_stop()

    def _on_invalid(self, _uc: object, _data: object) -> bool:
        self._stop.event = Trap(_UNDEFINED)
        return False

    def _on_block(self, _uc: object, start: int, size: int, _data: object) -> None:
        stop, limits = self._stop, self.limits
        if (
            self._counting is None
            or self._own_code
            or self._interrupt
            or stop.event is not None
            or stop.new is not None
        ):
            return
        block = (start, size)
        instructions = self._starts.get(block)
        if instructions is None:
            instructions = self._instructions(start, size)
        if limits.instructions is not None and limits.count + len(instructions) > limits.instructions:
            stop.event = Enough()
            self._block = _NO_BLOCK
            self._uc.emu_stop()
            return
        self._blocks += 1
        if self._blocks >= _BLOCKS_A_LOOK:
            self._blocks = 0
            if time.monotonic() > limits.deadline or self.space.thread.processor.turns.wanted:
                self._block = _NO_BLOCK
                self._uc.emu_stop()
                return
        limits.count += len(instructions)
        if self.coverage is not None:
            self._executed[instructions] = self._executed.get(instructions, 0) + 1
        self._block = block

    # Code

    def _examine(self, start: int, end: int) -> int | None:
        """The address of the first instruction from `start` on that Unicorn must not execute."""
        code = self.space.code(start, end - start + MAX_LENGTH)
        offset = 0
        while start + offset < end:
            instruction = decode(code, offset)
            if instruction is None:
                return None
            if self._special(code[offset : offset + MAX_LENGTH], instruction) is not None:
                return start + offset
            offset += instruction.length
        return None

    def _special_at(self, address: int) -> Special | None:
        code = self.space.code(address, MAX_LENGTH)
        instruction = decode(code)
        return None if instruction is None else self._special(code, instruction)

    def _special(self, code: bytes, instruction: Instruction) -> Special | None:
        if code.startswith(ENCLU):
            return Leaf()
        xsave = xsave_instruction(instruction)
        if xsave is not None:
            return Xsave(xsave, instruction)
        vector = exception_of(code, sgx2=self._sgx2)
        return None if vector is None else Trap(vector)

    def _instructions(self, start: int, size: int) -> tuple[int, ...]:
        """The addresses of the instructions in a block."""
        found = self._starts.get((start, size))
        if found is None:
            code, offset, starts = self.space.code(start, size + MAX_LENGTH), 0, []
            while offset < max(size, 1):
                starts.append(start + offset)
                instruction = decode(code, offset)
                offset += MAX_LENGTH if instruction is None else instruction.length
            found = tuple(starts)
            if not self._rewritable:
                self._starts[start, size] = found
        return found

    def _settle_block(self, *, failed: bool) -> None:
        """Note what was executed, but for what is left of a block that was left in its middle."""
        if self.coverage is not None:
            for instructions, times in self._executed.items():
                self.coverage.executed(instructions, times)
            self._executed.clear()
        start, size = self._block
        rip = self.read("rip")
        if not size or not (failed or self._stop.event is not None) or not start <= rip < start + size:
            return
        over = [address for address in self._instructions(start, size) if address >= rip]
        # The instruction that something happened to counts, but not one that begins again.
        again = self._stop.missing is not None or self._stop.new is not None
        taken_back = len(over) if again else len(over) - 1
        self.limits.count -= taken_back
        if self.coverage is not None:
            self.coverage.not_executed(over if again else over[1:])

    # Memory

    def _map(self, place: Place) -> None:
        index = place.offset // CHUNK_SIZE
        chunk = self.space.chunk(place)
        self._chunks[place.area, index] = chunk
        self._uc.mem_map_ptr(_PHYSICAL[place.area] + index * CHUNK_SIZE, CHUNK_SIZE, self._everything, chunk.pointer)

    def _forget_pages(self) -> None:
        """Empty the TLB: Unicorn does so when its memory map changes."""
        self._uc.mem_map(_NEVER, PAGE_SIZE)
        self._uc.mem_unmap(_NEVER, PAGE_SIZE)
