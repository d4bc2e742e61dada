"""The architectural structures: every byte has its place, and reserved ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.einittoken import EINITTOKEN_SIZE, EinitToken
from sgxkit.isa.keyrequest import KEYREQUEST_SIZE, KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.layout import Layout
from sgxkit.isa.local_report import REPORT_SIZE, Report, ReportType
from sgxkit.isa.page import PAGEINFO_SIZE, SECINFO_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.report import ReportBody
from sgxkit.isa.secs import SECS_SIZE, Secs
from sgxkit.isa.ssa import EXINFO_SIZE, GPRSGX_SIZE, ExInfo, ExitInfo, GprSgx
from sgxkit.isa.targetinfo import TARGETINFO_SIZE, TargetInfo
from sgxkit.isa.tcs import TCS_SIZE, Tcs, TcsFlags


class Structure(Protocol):
    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Case:
    """One structure: its size, the bits that are defined, one value, and where each field of that value begins."""

    read: Callable[[bytes], Structure]
    size: int
    defined: bytes
    """A mask: bits that software or the processor may set."""
    example: Structure
    offsets: dict[str, int]


def defined(size: int, *ranges: tuple[int, int], bits: dict[int, int] | None = None) -> bytes:
    """A mask of `size` bytes: all bits of the (offset, size) ranges, and of single bytes those of `bits`."""
    mask = bytearray(size)
    for offset, length in ranges:
        mask[offset : offset + length] = b"\xff" * length
    for offset, byte in (bits or {}).items():
        mask[offset] = byte
    return bytes(mask)


def filled(size: int, byte: int) -> bytes:
    return bytes([byte]) * size


BODY = ReportBody(
    filled(16, 1),
    2,
    filled(16, 3),
    Attributes(4, 5),
    filled(32, 6),
    filled(32, 7),
    filled(64, 8),
    9,
    10,
    11,
    filled(16, 12),
    filled(64, 13),
)

# Offsets are those of the manual's tables.
CASES = {
    "SECINFO": Case(
        SecInfo.from_bytes,
        SECINFO_SIZE,
        defined(64, (1, 1), bits={0: 0x3F}),
        SecInfo(PageFlags.RW, PageType.REG),
        {"flags": 0, "page_type": 1},
    ),
    "PAGEINFO": Case(
        PageInfo.from_bytes,
        PAGEINFO_SIZE,
        defined(32, (0, 32)),
        PageInfo(1, 2, 3, 4),
        {"linaddr": 0, "srcpge": 8, "secinfo": 16, "secs": 24},
    ),
    "SECS": Case(
        Secs.from_bytes,
        SECS_SIZE,
        defined(4096, (0, 33), (48, 48), (128, 32), (192, 70)),
        Secs(1, 2, 3, 4, Attributes(5, 6), 7, 8, filled(32, 9), filled(32, 10), filled(64, 11), 12, 13, 14),
        {
            "size": 0,
            "baseaddr": 8,
            "ssaframesize": 16,
            "miscselect": 20,
            "cet_leg_bitmap_offset": 24,
            "cet_attributes": 32,
            "attributes": 48,
            "mrenclave": 64,
            "mrsigner": 128,
            "configid": 192,
            "isvprodid": 256,
            "isvsvn": 258,
            "configsvn": 260,
        },
    ),
    "TCS": Case(
        Tcs.from_bytes,
        TCS_SIZE,
        defined(4096, (0, 8), (16, 72), bits={8: 0x03}),
        Tcs(1, 2, 3, 4, 5, 6, 7, TcsFlags.DBGOPTIN, 8, 9, 10, 11, 12),
        {
            "state": 0,
            "flags": 8,
            "ossa": 16,
            "cssa": 24,
            "nssa": 28,
            "oentry": 32,
            "aep": 40,
            "ofsbase": 48,
            "ogsbase": 56,
            "fslimit": 64,
            "gslimit": 68,
            "ocetssa": 72,
            "prevssp": 80,
        },
    ),
    "KEYREQUEST": Case(
        KeyRequest.from_bytes,
        KEYREQUEST_SIZE,
        defined(512, (0, 2), (4, 3), (8, 70), bits={2: 0x3F}),
        KeyRequest(4, KeyPolicy.MRSIGNER, 1, filled(16, 2), Attributes(3, 4), filled(32, 5), 6, 7, 8),
        {
            "keyname": 0,
            "keypolicy": 2,
            "isvsvn": 4,
            "cet_attributes_mask": 6,
            "cpusvn": 8,
            "attributemask": 24,
            "keyid": 40,
            "miscmask": 72,
            "configsvn": 76,
        },
    ),
    "TARGETINFO": Case(
        TargetInfo.from_bytes,
        TARGETINFO_SIZE,
        defined(512, (0, 49), (50, 6), (64, 64)),
        TargetInfo(filled(32, 1), Attributes(2, 3), 4, filled(64, 5), 6, 7),
        {"measurement": 0, "attributes": 32, "cet_attributes": 48, "configsvn": 50, "miscselect": 52, "configid": 64},
    ),
    "REPORT": Case(
        Report.from_bytes,
        REPORT_SIZE,
        defined(432, (0, 21), (32, 64), (128, 32), (192, 70), (304, 128)),
        Report(BODY, filled(32, 1), filled(16, 2)),
        {"body": 0, "keyid": 384, "mac": 416},
    ),
    "REPORTTYPE": Case(
        ReportType.from_bytes, 4, defined(4, (0, 3)), ReportType(1, 2, 3), {"type": 0, "subtype": 1, "version": 2}
    ),
    "EINITTOKEN": Case(
        EinitToken.from_bytes,
        EINITTOKEN_SIZE,
        defined(304, (48, 48), (128, 32), (192, 21), (236, 68), bits={0: 1}),
        EinitToken(
            True,
            Attributes(1, 2),
            filled(32, 3),
            filled(32, 4),
            filled(16, 5),
            6,
            7,
            8,
            Attributes(9, 10),
            filled(32, 11),
            filled(16, 12),
            13,
        ),
        {
            "valid": 0,
            "attributes": 48,
            "mrenclave": 64,
            "mrsigner": 128,
            "cpusvnle": 192,
            "isvprodidle": 208,
            "isvsvnle": 210,
            "cet_masked_attributes_le": 212,
            "maskedmiscselectle": 236,
            "maskedattributesle": 240,
            "keyid": 256,
            "mac": 288,
        },
    ),
    "GPRSGX": Case(
        GprSgx.from_bytes,
        GPRSGX_SIZE,
        defined(184, (0, 161), (167, 17), bits={161: 0x07, 163: 0x80}),
        GprSgx(*range(1, 21), ExitInfo(14, 3, True), 1, 21, 22),
        {
            "rax": 0,
            "rcx": 8,
            "rdx": 16,
            "rbx": 24,
            "rsp": 32,
            "rbp": 40,
            "rsi": 48,
            "rdi": 56,
            "r8": 64,
            "r9": 72,
            "r10": 80,
            "r11": 88,
            "r12": 96,
            "r13": 104,
            "r14": 112,
            "r15": 120,
            "rflags": 128,
            "rip": 136,
            "ursp": 144,
            "urbp": 152,
            "exitinfo": 160,
            "aexnotify": 167,
            "fsbase": 168,
            "gsbase": 176,
        },
    ),
    "EXINFO": Case(ExInfo.from_bytes, EXINFO_SIZE, defined(16, (0, 12)), ExInfo(1, 2), {"maddr": 0, "errcd": 8}),
}

every_structure = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_structure
@given(data=st.data())
def test_defined_bits_make_the_round_trip(case: Case, data: st.DataObject) -> None:
    places = [at for at, mask in enumerate(case.defined) if mask]
    drawn = data.draw(st.binary(min_size=len(places), max_size=len(places)))
    raw = bytearray(case.size)
    for at, byte in zip(places, drawn, strict=True):
        raw[at] = byte & case.defined[at]
    assert case.read(bytes(raw)).to_bytes() == raw


@every_structure
def test_each_single_bit_is_either_kept_or_refused(case: Case) -> None:
    for bit in range(case.size * 8):
        raw = bytearray(case.size)
        raw[bit // 8] |= 1 << bit % 8
        if case.defined[bit // 8] >> bit % 8 & 1:
            assert case.read(bytes(raw)).to_bytes() == raw, bit
        else:
            with pytest.raises(FormatError) as refused:
                case.read(bytes(raw))
            assert refused.value.offset is not None
            assert refused.value.offset <= bit // 8


@every_structure
def test_another_length_is_refused(case: Case) -> None:
    for size in (0, case.size - 1, case.size + 1):
        with pytest.raises(FormatError) as refused:
            case.read(bytes(size))
        assert refused.value.offset == 0


@every_structure
def test_the_value_comes_back(case: Case) -> None:
    assert case.read(case.example.to_bytes()) == case.example


@every_structure
def test_each_field_stands_where_the_manual_has_it(case: Case) -> None:
    assert is_dataclass(case.example)
    assert not isinstance(case.example, type)
    assert {field.name for field in fields(case.example)} == set(case.offsets)
    whole = case.example.to_bytes()
    empty = case.read(bytes(case.size))
    assert is_dataclass(empty)
    assert not isinstance(empty, type)
    for name, offset in case.offsets.items():
        one = replace(empty, **{name: getattr(case.example, name)}).to_bytes()
        changed = [at for at, byte in enumerate(one) if byte]
        assert changed[0] == offset
        assert all(one[at] == whole[at] for at in changed)


def test_an_error_says_where_it_stood() -> None:
    raw = bytearray(KEYREQUEST_SIZE)
    raw[100] = 1
    with pytest.raises(FormatError) as refused:
        KeyRequest.from_bytes(bytes(raw), field="request", offset=1000)
    assert str(refused.value) == "request.reserved2 at offset 1078: reserved bytes must be zero"


def test_a_reserved_bit_is_named() -> None:
    with pytest.raises(FormatError) as refused:
        SecInfo.from_bytes((0x40).to_bytes(64, "little"))
    assert str(refused.value) == "SECINFO.FLAGS at offset 0: reserved bits must be zero: 0x40"


def test_bytes_of_another_length_are_never_cut_or_filled() -> None:
    for keyid in (bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="KEYREQUEST"):
            KeyRequest(KeyName.SEAL_KEY, keyid=keyid).to_bytes()


def test_reserved_bytes_can_be_ignored() -> None:
    raw = bytearray(TARGETINFO_SIZE)
    raw[511] = 1
    with pytest.raises(FormatError):
        TargetInfo.from_bytes(bytes(raw))
    assert TargetInfo.from_bytes(bytes(raw), ignore_reserved=True) == TargetInfo.from_bytes(bytes(TARGETINFO_SIZE))


def test_a_layout_knows_its_size() -> None:
    assert Layout("three", "H4xQ").size == 14


def test_the_target_of_a_report_is_the_enclave_it_describes() -> None:
    assert TargetInfo.of(BODY) == TargetInfo(filled(32, 6), Attributes(4, 5), 2, filled(64, 8), 11)


def test_secinfo_flags() -> None:
    assert SecInfo(PageFlags.RX | PageFlags.PENDING, PageType.REG).word == 0x020D
    assert SecInfo(PageFlags.RX | PageFlags.PENDING, PageType.REG).permissions == PageFlags.RX


def test_exitinfo_of_a_page_fault() -> None:
    assert ExitInfo(14, 3, True).word == 0x8000_030E
    assert ExitInfo().word == 0
