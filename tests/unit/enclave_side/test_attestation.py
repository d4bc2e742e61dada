"""What a program inside an enclave asks of /dev/attestation; a folder of files stands in for it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from sgxkit import enclave_side
from sgxkit.dcap.envelope import find_quotes
from sgxkit.emulator.fuses import Fuses
from sgxkit.enclave_side import EnclaveSideError
from sgxkit.enclave_side.provisioning import DEFAULT_PORT, _addresses
from sgxkit.lab.quoting import SAMPLE_ENCLAVE


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    for name, content in {
        "attestation_type": b"dcap",
        "user_report_data": b"",
        "target_info": b"",
        "my_target_info": bytes(512),
        "report": bytes(432),
        "quote": b"a quote",
        "keys/default": b"",
        "keys/_sgx_mrsigner": bytes(range(16)),
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_user_data_is_written_in_full_before_the_quote_is_read(device: Path) -> None:
    assert enclave_side.attestation_type(device) == "dcap"
    assert enclave_side.quote(b"nonce", device) == b"a quote"
    assert (device / "user_report_data").read_bytes() == b"nonce".ljust(64, b"\0")
    assert enclave_side.report(bytes(range(256)) * 2, b"", device) == bytes(432)
    assert (device / "target_info").read_bytes() == bytes(range(256)) * 2
    assert enclave_side.my_target_info(device) == bytes(512)


def test_keys(device: Path) -> None:
    assert enclave_side.seal_key("mrsigner", device) == bytes(range(16))
    with pytest.raises(EnclaveSideError, match="not set"):
        enclave_side.get_key("default", device)
    enclave_side.set_key("default", bytes(16), device)
    assert enclave_side.get_key("default", device) == bytes(16)
    with pytest.raises(EnclaveSideError):  # a key of no mount is not made
        enclave_side.set_key("another", bytes(16), device)
    for wrong in ("", "..", "a/b"):
        with pytest.raises(ValueError, match="name of a key"):
            enclave_side.get_key(wrong, device)


@pytest.mark.parametrize(
    "call", [lambda d: enclave_side.quote(bytes(65), d), lambda d: enclave_side.report(b"", b"", d)]
)
def test_what_does_not_fit_is_refused_before_anything_is_written(device: Path, call: object) -> None:
    with pytest.raises(ValueError, match="bytes"):
        call(device)
    assert (device / "user_report_data").read_bytes() == b""


def test_outside_an_enclave(tmp_path: Path) -> None:
    with pytest.raises(EnclaveSideError, match="Gramine"):
        enclave_side.quote(b"", tmp_path)


def test_the_certificate_is_one_that_others_read(lab_quote: object) -> None:
    made = enclave_side.make_certificate("service", ("a.example", "10.0.0.1"), days=3, quote=lab_quote)
    parsed = x509.load_pem_x509_certificate(made.certificate_pem.encode())
    key = serialization.load_pem_private_key(made.private_key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == parsed.public_key()
    parsed.verify_directly_issued_by(parsed)
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    found = find_quotes(made.certificate)
    assert len(found) == 2
    assert all(binding.holds for one in found for binding in one.bindings)


@pytest.fixture
def lab_quote() -> object:
    """Quotes of the right shape, signed by nobody."""
    report = SAMPLE_ENCLAVE.report_body
    cpusvn = Fuses.from_seed(b"").cpusvn
    header = (
        bytes.fromhex("0300020000000000") + bytes(4) + bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)
    )
    signature = bytes(64 + 64 + 384 + 64) + bytes(2) + bytes.fromhex("050000000000")

    def quote(data: bytes) -> bytes:
        body = report(cpusvn, data.ljust(64, b"\0")).to_bytes()
        return header + body + len(signature).to_bytes(4, "little") + signature

    return quote


def test_the_servers_of_gramine() -> None:
    assert _addresses("a:1, b:2;[::1]:3 d") == [("a", 1), ("b", 2), ("::1", 3), ("d", DEFAULT_PORT)]


@given(st.binary(max_size=64))
def test_the_claims_name_the_hash(data: bytes) -> None:
    asked: list[bytes] = []

    def quote(report_data: bytes) -> bytes:
        asked.append(report_data)
        return b"q" * 500 + data

    made = enclave_side.make_certificate(quote=quote)
    spki = x509.load_der_x509_certificate(made.certificate).public_key()
    digest = sha256(
        spki.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).digest()
    claims = b"\xa1\x6bpubkey-hash\x58\x24\x82\x01\x58\x20" + digest
    assert sorted(asked) == sorted((digest, sha256(claims).digest()))
    assert claims in made.certificate
