"""The pages that the tracer puts into each traced process: where they are, and their code (agent.s)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

AGENT, AGENT_SIZE = 0x5358_4700_0000, 0x1_0000
"""Linux puts nothing there, wherever it loads programs."""

CODE_SIZE = 0x8000
"""Pages that can be executed; the rest can be written."""

VDSO, SYSCALL, SCRATCH = AGENT, AGENT + 0x2F00, AGENT + 0xF000
_CODE_AT, _TABLE_AT, _BY_GS_AT = 0x3000, 0x8000, 0xA000
_ENTRY_SIZE, _ENTRIES = 128, 64

CODE = bytes.fromhex(
    "554889e55389c8448d50fe4183fa0177594c8b5d10b91b00000049837ccb20007548ffc975f4498b1b488d0d0500000083f80274"
    "5a0f01d7488b5d10c7430804000000eb13488b5d1089430866897b0c6689730e48895310488b43184885c07510488b5df84889ec"
    "5dc3b8eaffffffebf04889e14989e24883e4f0415253fcffd0488b64240885c07ed7e978ffffff4989da49c1ea0c4183e23f41c1"
    "e2074c8d1d5b4f00004d01da49391a7588f3490faec34d395a080f8579ffffff4d8b5a10f0410fba2b000f8269ffffff49894b28"
    "4d8b5a184989a3900000004989ab98000000f3490faecb4d895a3849ff425041c74248010000004d8b5a28f3490faed34d8b5a30"
    "f3490faedb498b4240488d0d24ffffff41ff62204d31ff4801d2fcf3480faec848c1e80c83e03f488d0dce6e0000488b0cc1e340"
    "f3480faec848394130753583794801752f488b4108f3480faed0488b4138f3480faed8c7414800000000488b4110488b482848c7"
    "0000000000b804000000ffe3b8040000000f01d7"
)
"""agent.s, assembled; a test assembles it again and compares."""

SYMBOLS = {
    "enter_enclave": 0x00,
    "aep": 0x35,
    "exception": 0x45,
    "entering": 0xBC,
    "entered": 0x118,
    "exit_after_ocall": 0x118,
    "exit": 0x11F,
    "slow_exit": 0x178,
    "exited": 0x180,
}
"""Offsets in CODE."""

_ENTRY = struct.Struct("<11Q")
ACTIVE_AT = 72


def address_of(symbol: str) -> int:
    return AGENT + _CODE_AT + SYMBOLS[symbol]


VDSO_SIZE = _CODE_AT + len(CODE)
"""The vDSO's image covers the code, so that its functions are inside of it."""


def code() -> bytes:
    """What is written at SYSCALL: a system call for the tracer's own use, and the code behind it."""
    return b"\x0f\x05".ljust(AGENT + _CODE_AT - SYSCALL, b"\xcc") + CODE


AEP, EXCEPTION, ENTER = (address_of(name) for name in ("aep", "exception", "enter_enclave"))


def in_transition(rip: int) -> bool:
    """Whether a thread at RIP is between outside and inside."""
    return address_of("entering") < rip < address_of("entered") or address_of("exit") <= rip < address_of("slow_exit")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the table says of one TCS (agent.s)."""

    tcs: int
    owner: int
    tcs_alias: int
    gprsgx_alias: int
    rip: int
    fs: int
    gs: int
    outside_gs: int
    rax: int
    active: int = 0

    def to_bytes(self) -> bytes:
        return _ENTRY.pack(
            self.tcs,
            self.owner,
            self.tcs_alias,
            self.gprsgx_alias,
            self.rip,
            self.fs,
            self.gs,
            self.outside_gs,
            self.rax,
            self.active,
            0,
        )


def entry_address(tcs: int) -> int:
    """Where the table's entry for a TCS is."""
    return AGENT + _TABLE_AT + (tcs >> 12) % _ENTRIES * _ENTRY_SIZE


def gs_slot(gs: int) -> int:
    """Where the pointer to the entry of a GS base is."""
    return AGENT + _BY_GS_AT + (gs >> 12) % _ENTRIES * 8
