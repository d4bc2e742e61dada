"""Frames and fields: what is written is read back, and any other bytes are a FormatError or fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.aesm.wire import MAX_REQUEST, decode_fields, encode_fields, frame, frame_length
from sgxkit.errors import FormatError

NUMBERS = st.integers(1, (1 << 29) - 1)
VALUES = st.integers(0, (1 << 64) - 1) | st.binary(max_size=300)


@given(st.dictionaries(NUMBERS, VALUES, max_size=20))
def test_fields_come_back(fields: dict[int, int | bytes]) -> None:
    assert decode_fields(encode_fields(fields), "message") == fields


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_a_format_error(data: bytes) -> None:
    try:
        fields = decode_fields(data, "message")
    except FormatError:
        return
    assert sum(len(value) for value in fields.values() if isinstance(value, bytes)) <= len(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x80", "ends inside a number"),
        (b"\xff" * 10, "more than 64 bits"),
        (b"\x80" * 9 + b"\x02", "more than 64 bits"),
        (b"\x00\x00", "no field 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x05abc", "longer than the message"),
        (b"\x0a\xff\xff\xff\xff\x0f", "longer than the message"),
        (b"\x08\x01\x08\x01", "comes twice"),
        (b"".join(bytes([number << 3 & 0x7F | 0x80, number >> 4, 0]) for number in range(16, 90)), "more than 64"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        decode_fields(data, "message")


def test_fixed_width_fields_are_read_as_bytes() -> None:
    assert decode_fields(b"\x0d1234\x1112345678", "message") == {1: b"1234", 2: b"12345678"}


@pytest.mark.parametrize("length", [0, MAX_REQUEST + 1, 0xFFFFFFFF])
def test_frames_have_a_limit(length: int) -> None:
    with pytest.raises(FormatError):
        frame_length(length.to_bytes(4, "little"), MAX_REQUEST)


def test_a_frame_says_how_long_its_message_is() -> None:
    assert frame(b"abc") == b"\x03\0\0\0abc"
    assert frame_length(b"\x03\0\0\0", MAX_REQUEST) == 3
