from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_quotes import SHARED
from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.sigstruct import KEY_SIZE, SIGSTRUCT_SIZE, Sigstruct, encoded_digest, quotients

FIXTURES = SHARED / "fixtures" / "sigstruct"
REAL = ("gramine-test.sig", "le_prod_css.bin", "sig1.sigstruct.bin", "test_enclave.sig")
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="the real SIGSTRUCTs (../shared/fixtures/sigstruct) are not here"
)

key_bytes = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
attributes = st.builds(Attributes, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
b16 = st.binary(min_size=16, max_size=16)
sigstructs = st.builds(
    Sigstruct,
    vendor=st.sampled_from((0, 0x8086)),
    date=u32,
    swdefined=u32,
    modulus=key_bytes,
    signature=key_bytes,
    miscselect=u32,
    miscmask=u32,
    cet_attributes=u8,
    cet_attributes_mask=u8,
    isvfamilyid=b16,
    attributes=attributes,
    attributemask=attributes,
    enclavehash=st.binary(min_size=32, max_size=32),
    isvextprodid=b16,
    isvprodid=u16,
    isvsvn=u16,
    q1=key_bytes,
    q2=key_bytes,
)


def real(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


@needs_fixtures
@pytest.mark.parametrize("name", REAL)
def test_real_ones_round_trip_and_verify(name: str) -> None:
    data = real(name)
    parsed = Sigstruct.from_bytes(data)
    assert parsed.to_bytes() == data
    assert parsed.signed_bytes == data[:128] + data[900:1028]
    assert parsed.mrsigner == sha256(data[128:512]).digest()
    assert parsed.quotients_hold
    assert parsed.signature_holds


@needs_fixtures
def test_fields_are_where_the_manual_has_them() -> None:
    launch = Sigstruct.from_bytes(real("le_prod_css.bin"))
    assert launch.vendor == 0x8086
    assert "EINITTOKEN_KEY" in launch.attributes.names
    assert not launch.debug
    fortanix = Sigstruct.from_bytes(real("test_enclave.sig"))
    assert fortanix.attributes.flags == 4
    assert fortanix.attributes.xfrm == 3


@needs_fixtures
def test_quotients_of_a_known_signature() -> None:
    assert quotients(real("sig1.sig.bin"), real("sig1.key_n.bin")) == (real("sig1.q1.bin"), real("sig1.q2.bin"))


@needs_fixtures
@pytest.mark.parametrize("bit", [0, 7, 128 * 8, 515 * 8, 516 * 8, 900 * 8, 960 * 8 + 3, 1027 * 8 + 7])
def test_a_changed_bit_is_noticed(bit: int) -> None:
    data = bytearray(real("gramine-test.sig"))
    data[bit // 8] ^= 1 << bit % 8
    try:
        changed = Sigstruct.from_bytes(bytes(data))
    except FormatError:
        return
    assert not (changed.signature_holds and changed.quotients_hold)


@needs_fixtures
def test_wrong_quotients_do_not_hold() -> None:
    good = Sigstruct.from_bytes(real("gramine-test.sig"))
    assert not replace(good, q1=good.q2).quotients_hold
    assert not replace(good, q2=good.q1).quotients_hold


@given(sigstructs)
def test_round_trip(value: Sigstruct) -> None:
    data = value.to_bytes()
    assert len(data) == SIGSTRUCT_SIZE
    assert Sigstruct.from_bytes(data) == value


@given(sigstructs)
def test_any_numbers_can_be_asked_whether_they_hold(value: Sigstruct) -> None:
    assert not value.signature_holds
    assert not replace(value, modulus=bytes(KEY_SIZE)).signature_holds
    assert not replace(value, modulus=bytes(KEY_SIZE)).quotients_hold


@given(sigstructs, st.integers(0, SIGSTRUCT_SIZE - 1), st.integers(1, 255))
def test_every_byte_counts_or_is_refused(value: Sigstruct, at: int, change: int) -> None:
    data = bytearray(value.to_bytes())
    data[at] ^= change
    try:
        changed = Sigstruct.from_bytes(bytes(data))
    except FormatError as refused:
        error = refused
    else:
        assert changed != value
        assert changed.to_bytes() == bytes(data)
        return
    assert error.offset is not None
    assert error.offset <= at


@pytest.mark.parametrize(
    ("at", "field"),
    [
        (0, "SIGSTRUCT.HEADER"),
        (17, "SIGSTRUCT.VENDOR"),
        (24, "SIGSTRUCT.HEADER2"),
        (50, "SIGSTRUCT.reserved"),
        (512, "SIGSTRUCT.EXPONENT"),
        (911, "SIGSTRUCT.reserved"),
        (1000, "SIGSTRUCT.reserved"),
        (1039, "SIGSTRUCT.reserved"),
    ],
)
def test_constants_and_reserved_bytes_are_held(at: int, field: str) -> None:
    zero = Attributes(0, 0)
    blank = Sigstruct(
        *(0, 0, 0, bytes(384), bytes(384), 0, 0, 0, 0, bytes(16)),
        *(zero, zero, bytes(32), bytes(16), 0, 0, bytes(384), bytes(384)),
    )
    data = bytearray(blank.to_bytes())
    data[at] ^= 0x40
    with pytest.raises(FormatError) as caught:
        Sigstruct.from_bytes(bytes(data))
    assert caught.value.field == field


@given(st.binary(max_size=2000))
def test_other_lengths_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Sigstruct.from_bytes(data)


def test_the_padding_is_that_of_pkcs1() -> None:
    encoded = encoded_digest(b"x").to_bytes(KEY_SIZE, "big")
    assert encoded.startswith(b"\x00\x01" + b"\xff" * 8)
    assert encoded.endswith(b"\x00\x30\x31" + encoded[-49:-32] + sha256(b"x").digest())
