"""Attestation key identifiers, addresses and error codes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.aesm.address import TcpAddress, UnixAddress, parse_address
from sgxkit.aesm.codes import AesmCode, AesmError, code_name
from sgxkit.aesm.key_id import (
    INTEL_ECDSA_P256,
    Algorithm,
    AttestationKeyId,
    listed_key_ids,
    same_key,
)
from sgxkit.errors import FormatError, InputError
from sgxkit.host.probe import ECDSA_KEY_ID

KEY_IDS = st.builds(AttestationKeyId, st.binary(min_size=32, max_size=32), st.integers(0, 9), st.integers(0, 9))


@given(KEY_IDS)
def test_identifiers_come_back(key_id: AttestationKeyId) -> None:
    assert AttestationKeyId.from_bytes(key_id.to_bytes()) == key_id


@given(st.binary(max_size=300) | st.binary(min_size=256, max_size=256))
def test_any_bytes_are_an_identifier_or_a_format_error(data: bytes) -> None:
    for read in (AttestationKeyId.from_bytes, listed_key_ids):
        try:
            read(data)
        except FormatError:
            continue
        assert len(data) >= 256


def test_intels_key_is_the_one_that_the_probe_asks_for() -> None:
    assert INTEL_ECDSA_P256.to_bytes() == ECDSA_KEY_ID
    assert INTEL_ECDSA_P256.algorithm == Algorithm.ECDSA_P256


def test_lists_are_cut_into_identifiers() -> None:
    one, other = (AttestationKeyId(bytes([n]) * 32, n, 2).to_bytes() for n in (1, 2))
    assert listed_key_ids(struct.pack("<HHH", 0, 0, 2) + one + other) == (one, other)
    for broken in (
        struct.pack("<HHH", 0, 0, 2) + one,
        struct.pack("<HHH", 0, 1, 1) + one,
        struct.pack("<HHH", 0, 0, 0),
        struct.pack("<HHH", 0, 0, 11) + one * 11,
    ):
        with pytest.raises(FormatError):
            listed_key_ids(broken)


def test_what_follows_the_algorithm_is_not_compared() -> None:
    key = INTEL_ECDSA_P256.to_bytes()
    assert same_key(key, key[:158] + b"\xff" * 98)
    assert not same_key(key, b"\x01" + key[1:])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/a.sock", UnixAddress(Path("/run/a.sock"))),
        ("tcp://127.0.0.1:80", TcpAddress(80)),
        ("tcp://localhost:0", TcpAddress(0)),
    ],
)
def test_addresses_are_read(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "x" * 108, "tcp://127.0.0.1:65536", "tcp://10.0.0.1:80", "http://localhost:1", "tcp://localhost"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


def test_addresses_print_as_they_are_given() -> None:
    assert str(TcpAddress(80)) == "tcp://127.0.0.1:80"
    assert str(UnixAddress(Path("/run/a.sock"))) == "/run/a.sock"


def test_errors_have_intels_names() -> None:
    error = AesmError(42)
    assert (error.status, error.name) == (AesmCode.ATT_KEY_NOT_INITIALIZED, "ATT_KEY_NOT_INITIALIZED")
    assert error.hint is not None
    assert code_name(999) == "AESM error 999"
    assert AesmError(999).hint is None
