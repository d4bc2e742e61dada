from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import replace
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from doubles.sdk_enclave import blank_sigstruct
from sgxkit.enclave import signing
from sgxkit.errors import FormatError, InputError
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.sigstruct import Sigstruct

MEASUREMENT = sha256(b"an enclave").digest()


@cache
def key() -> rsa.RSAPrivateKey:
    return signing.generate_key()


def private_pem(some: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return some.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(some: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return some.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_signed_enclave_verifies() -> None:
    signed = signing.sign(signing.unsigned_sigstruct(MEASUREMENT, on=date(2026, 1, 31)), key())
    again = Sigstruct.from_bytes(signed.to_bytes())
    assert again == signed
    assert signing.refusals(again, MEASUREMENT) == ()
    assert again.date_text == "2026-01-31"
    assert again.mrsigner == sha256(key().public_key().public_numbers().n.to_bytes(384, "little")).digest()


def test_what_is_changed_after_signing_is_refused() -> None:
    signed = signing.sign(signing.unsigned_sigstruct(MEASUREMENT), key())
    (reason,) = signing.refusals(replace(signed, isvsvn=7), MEASUREMENT)
    assert "SGX_INVALID_SIGNATURE" in str(reason)
    (reason,) = signing.refusals(replace(signed, q1=signed.q2), MEASUREMENT)
    assert "Q1" in str(reason)
    (reason,) = signing.refusals(signed, bytes(32))
    assert "SGX_INVALID_MEASUREMENT" in str(reason)


def test_by_default_a_signature_allows_no_debugging() -> None:
    strict = signing.unsigned_sigstruct(MEASUREMENT)
    assert not strict.debug
    assert strict.attributemask.debug
    loose = blank_sigstruct(attributemask=Attributes(0, 0))
    debug = signing.unsigned_sigstruct(MEASUREMENT, like=loose, debug=True)
    assert debug.debug
    assert debug.attributemask.debug


def test_fields_of_another_signature_are_kept() -> None:
    pattern = blank_sigstruct(isvprodid=5, isvsvn=6, vendor=0x8086, isvfamilyid=b"f" * 16)
    made = signing.unsigned_sigstruct(MEASUREMENT, like=pattern)
    assert made == replace(pattern, enclavehash=MEASUREMENT)


def test_two_steps_give_the_same_signature_as_one() -> None:
    unsigned = signing.unsigned_sigstruct(MEASUREMENT, on=date(2026, 1, 31))
    at_once = signing.sign(unsigned, key())
    taken_back = signing.parse_signed_bytes(unsigned.signed_bytes)
    assert taken_back == unsigned
    assert signing.with_signature(taken_back, key().public_key(), at_once.signature[::-1]) == at_once


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_the_signature_that_openssl_makes_is_taken(tmp_path: Path) -> None:
    unsigned = signing.unsigned_sigstruct(MEASUREMENT)
    (tmp_path / "key.pem").write_bytes(private_pem(key()))
    (tmp_path / "bytes").write_bytes(unsigned.signed_bytes)
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "bytes"], cwd=tmp_path, check=True
    )
    signature = (tmp_path / "signature").read_bytes()
    assert signing.with_signature(unsigned, key().public_key(), signature) == signing.sign(unsigned, key())


@pytest.mark.parametrize("signature", [b"", bytes(383), b"\xff" * 384, bytes(384)])
def test_another_signature_is_not_taken(signature: bytes) -> None:
    with pytest.raises(InputError):
        signing.with_signature(signing.unsigned_sigstruct(MEASUREMENT), key().public_key(), signature)


@given(st.binary(max_size=300) | st.binary(min_size=256, max_size=256))
def test_other_bytes_to_sign_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        signing.parse_signed_bytes(data)


def test_keys_of_another_kind_are_refused() -> None:
    short, common = rsa.generate_private_key(3, 2048), rsa.generate_private_key(65537, 3072)
    elliptic = ec.generate_private_key(ec.SECP256R1())
    for other in (short, common, elliptic):
        with pytest.raises(InputError) as caught:
            signing.load_private_key(private_pem(other))
        assert "generate-key" in str(caught.value.hint)
        with pytest.raises(InputError):
            signing.load_public_key(public_pem(other))
    for garbage in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(InputError, match="cannot be read"):
            signing.load_private_key(garbage)
        with pytest.raises(InputError, match="cannot be read"):
            signing.load_public_key(garbage)


def test_encrypted_keys() -> None:
    locked = private_pem(key(), b"secret")
    assert signing.load_private_key(locked, b"secret").private_numbers() == key().private_numbers()
    with pytest.raises(InputError, match="encrypted") as caught:
        signing.load_private_key(locked)
    assert "--password-file" in str(caught.value.hint)
    with pytest.raises(InputError, match="password is wrong"):
        signing.load_private_key(locked, b"wrong")
    with pytest.raises(InputError, match="not encrypted"):
        signing.load_private_key(private_pem(key()), b"secret")


def test_a_key_file_is_its_owners_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    signing.write_private_key(path, key())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signing.load_private_key(path.read_bytes()).private_numbers() == key().private_numbers()
    before = path.read_bytes()
    with pytest.raises(InputError, match="never overwritten"):
        signing.write_private_key(path, key())
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="cannot be written"):
        signing.write_private_key(tmp_path / "absent" / "key.pem", key())


def test_where_a_key_is_stored_is_warned_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "key.pem"
    assert [str(one) for one in signing.storage_warnings(path, encrypted=True)] == []
    assert "not encrypted" in str(signing.storage_warnings(path, encrypted=False)[0])
    (tmp_path / ".git").mkdir()
    assert "git" in str(signing.storage_warnings(path, encrypted=True)[0])
    tmp_path.chmod(0o777)
    assert "others may write" in str(signing.storage_warnings(path, encrypted=True)[1])
