"""An enclave of two threads, with machine code in it, ready to be entered."""

from __future__ import annotations

from dataclasses import replace

from doubles import enclave_code
from doubles.enclaves import (
    AEP,
    BASE,
    CODE,
    DATA,
    FRESH,
    RBP,
    REG_RX,
    RSP,
    SECS,
    SSA,
    TCS,
    TCS_PAGE,
    THREAD,
    Os,
    new_processor,
    sigstruct_for,
)
from sgxkit.emulator.engine import Engine
from sgxkit.emulator.loading import LoadedEnclave
from sgxkit.enclave.platform import Registers
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.page import PAGE_SIZE, SecInfo
from sgxkit.isa.ssa import EXINFO_SIZE, GPRSGX_SIZE, GprSgx
from sgxkit.isa.status import Status
from sgxkit.isa.tcs import Tcs

CALLER, BUFFER = 0x40_0000, 0x50_0000
"""Where the caller's ENCLU and his buffer are."""
SECOND_TCS, EXTRA = FRESH, BASE + 0xA000
OUTSIDE_REGISTERS = Registers(rcx=AEP, rsp=RSP, rbp=RBP, rip=CALLER)


class Enclave:
    """An enclave of two threads around `code`."""

    def __init__(
        self,
        code: bytes = enclave_code.CODE,
        *,
        miscselect: int = 0,
        flags: int = 0,
        thread: Tcs = THREAD,
        data: bytes = b"",
        code_page: SecInfo = REG_RX,
        last: bytes = b"",
        **fuses: object,
    ) -> None:
        self.os = system = Os(new_processor(**fuses))
        attributes = Attributes(SECS.attributes.flags | flags, SECS.attributes.xfrm)
        system.create(replace(SECS, miscselect=miscselect, attributes=attributes))
        system.add(TCS, TCS_PAGE, thread.to_bytes())
        system.add(SSA)
        system.add(SSA + PAGE_SIZE)
        system.add(DATA, data=data.ljust(PAGE_SIZE, b"\0"))
        system.add(CODE, code_page, code.ljust(PAGE_SIZE, b"\xf4"))
        system.add(CODE + PAGE_SIZE, REG_RX, last.rjust(PAGE_SIZE, b"\xf4"))
        system.add(SECOND_TCS, TCS_PAGE, replace(thread, ossa=SECOND_TCS + PAGE_SIZE - BASE, nssa=1).to_bytes())
        system.add(SECOND_TCS + PAGE_SIZE)
        system.add(EXTRA, data=bytes([0x55]) * PAGE_SIZE)
        assert (
            system.init(sigstruct_for(system.measurement, miscselect=miscselect, attributes=attributes))
            is Status.SGX_SUCCESS
        )
        self.loaded = LoadedEnclave(system.processor, system.secs, system.pages, (TCS, SECOND_TCS))
        self.engine = Engine(self.loaded, instructions=1_000_000)

    def memory(self, address: int, size: int) -> bytes:
        return self.os.processor.epc.read(self.os.pages[address & -PAGE_SIZE] + address % PAGE_SIZE, size)

    def saved(self, frame: int = SSA) -> GprSgx:
        return GprSgx.from_bytes(self.memory(frame + PAGE_SIZE - GPRSGX_SIZE, GPRSGX_SIZE))

    def exinfo(self) -> bytes:
        return self.memory(SSA + PAGE_SIZE - GPRSGX_SIZE - EXINFO_SIZE, EXINFO_SIZE)

    def thread_control(self) -> Tcs:
        return Tcs.from_bytes(self.memory(TCS, PAGE_SIZE))


def code(*parts: str) -> bytes:
    """Machine code, then EEXIT to where the enclave was entered from."""
    return bytes.fromhex("".join(("4989cf", *parts, "4c89fbb8040000000f01d7")).replace(" ", ""))
