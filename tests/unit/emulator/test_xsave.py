"""XSAVE, XSAVEC, XSAVEOPT and XRSTOR in enclave code, in the standard and in the compacted format."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from doubles.enclaves import CODE, DATA, TCS
from doubles.running import BUFFER, OUTSIDE_REGISTERS, Enclave, code
from sgxkit.enclave.platform import ExitRegisters

SET = "66480f6ec7"  # movq xmm0, rdi
CLEAR = "660fefc0"  # pxor xmm0, xmm0
GET = "66480f7ec7"  # movq rdi, xmm0
FULL = "b803000000 31d2"  # mov eax, 3; xor edx, edx
COMPACTED = 1 << 63
XSAVE, XSAVEC, XSAVEOPT, XRSTOR = "480fae26", "480fc726", "480fae36", "480fae2e"
VALUE = 0x1122334455667788


def run(*parts: str, area: bytes = b"", rsi: int = DATA) -> tuple[Enclave, ExitRegisters]:
    enclave = Enclave(code(*parts), data=area)
    return enclave, enclave.engine.enter(TCS, replace(OUTSIDE_REGISTERS, rdi=VALUE, rsi=rsi))


def header(enclave: Enclave) -> tuple[int, int]:
    return struct.unpack("<QQ", enclave.memory(DATA + 512, 16))  # type: ignore[return-value]


def area(state: int, format_: int = 0, *, xmm0: int = 0, mxcsr: int = 0x1F80, rest: int = 0) -> bytes:
    legacy = bytearray(512)
    struct.pack_into("<H", legacy, 0, 0x37F)
    struct.pack_into("<I", legacy, 24, mxcsr)
    struct.pack_into("<Q", legacy, 160, xmm0)
    return bytes(legacy) + struct.pack("<QQQ", state, format_, rest)


@pytest.mark.parametrize(
    ("save", "state", "format_"),
    [(XSAVE, 3, 0), (XSAVEOPT, 3, 0), (XSAVEC, 2, 3 | COMPACTED)],
)
def test_what_is_saved_is_restored(save: str, state: int, format_: int) -> None:
    enclave, left = run(SET, FULL, save, CLEAR, FULL, XRSTOR, GET)
    assert left.exception is None
    assert left.registers.rdi == VALUE
    assert header(enclave) == (state, format_)


def test_components_that_are_not_asked_for_stay() -> None:
    enclave, left = run(SET, "b801000000 31d2", XSAVE, area=area(2, xmm0=5))
    assert left.exception is None
    assert header(enclave) == (3, 0)
    assert enclave.memory(DATA + 160, 8) == (5).to_bytes(8, "little")
    _, left = run(SET, "b801000000 31d2", XRSTOR, GET, area=area(3, xmm0=5))
    assert left.registers.rdi == VALUE


@pytest.mark.parametrize(("state", "expected"), [(3, 5), (1, 0)])
@pytest.mark.parametrize("format_", [0, 3 | COMPACTED])
def test_components_that_the_area_does_not_have_become_initial(state: int, expected: int, format_: int) -> None:
    _, left = run(SET, FULL, XRSTOR, GET, area=area(state, format_, xmm0=5))
    assert left.exception is None
    assert left.registers.rdi == expected


@pytest.mark.parametrize(
    "refused",
    [
        area(4),
        area(4, 7 | COMPACTED),
        area(3, 1 | COMPACTED),
        area(0, 1),
        area(0, rest=1),
        area(0, 3 | COMPACTED, rest=1),
        area(3, mxcsr=1 << 16),
        area(0, mxcsr=1 << 16),
        area(2, 3 | COMPACTED, mxcsr=1 << 16),
    ],
)
def test_areas_that_xrstor_refuses(refused: bytes) -> None:
    enclave, left = run(SET, FULL, XRSTOR, area=refused)
    assert left.exception is not None
    assert left.exception.vector == 13
    assert enclave.saved().rip == CODE + 3 + 5 + 7
    assert enclave.memory(CODE - 0x3000 + 160, 8) == VALUE.to_bytes(8, "little")  # the SSA frame has XMM0


def test_mxcsr_of_a_compacted_area_without_sse_is_not_looked_at() -> None:
    _, left = run(FULL, XRSTOR, area=area(1, 3 | COMPACTED, mxcsr=1 << 16))
    assert left.exception is None


@pytest.mark.parametrize("instruction", [XSAVE, XSAVEC, XSAVEOPT, XRSTOR])
def test_operands(instruction: str) -> None:
    _, left = run(FULL, instruction, rsi=DATA + 8)
    assert left.exception is not None
    assert left.exception.vector == 13
    _, left = run(FULL, instruction, rsi=BUFFER)
    assert left.exception is not None
    assert (left.exception.vector, left.exception.address) == (14, BUFFER)
    assert left.exception.error_code == (4 if instruction == XRSTOR else 6)


@pytest.mark.parametrize("instruction", ["480fc72e", "480fc71e"])
def test_the_supervisors_are_refused(instruction: str) -> None:
    _, left = run(FULL, instruction)
    assert left.exception is not None
    assert left.exception.vector == 13
