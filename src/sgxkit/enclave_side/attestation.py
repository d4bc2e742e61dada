"""Gramine's /dev/attestation: reports, quotes and keys of the enclave that this program runs in.

Gramine, "Attestation and Secret Provisioning", pseudo-files under /dev/attestation. What is written there is of the
whole process, and what is read is computed when the file is opened: so writing and reading are done under one lock.
"""

from __future__ import annotations

import threading
from pathlib import Path

DEVICE = Path("/dev/attestation")

REPORT_DATA_SIZE = 64
TARGET_INFO_SIZE = 512
REPORT_SIZE = 432
KEY_SIZE = 16
_MAX_QUOTE_SIZE = 64 << 10

_lock = threading.Lock()


class EnclaveSideError(Exception):
    """What this needs is not there: the program is not in an enclave, or has no attestation in its manifest."""


def attestation_type(device: Path = DEVICE) -> str:
    """Return ``dcap`` or ``none``: what `sgx.remote_attestation` in the manifest says."""
    return _read(device / "attestation_type", 64).decode("ascii", "replace")


def quote(user_data: bytes, device: Path = DEVICE) -> bytes:
    """Return a DCAP quote whose REPORTDATA is `user_data`, at most 64 bytes, and zeros behind it."""
    padded = _report_data(user_data)
    with _lock:
        _write(device / "user_report_data", padded)
        return _read(device / "quote", _MAX_QUOTE_SIZE)


def report(target_info: bytes, user_data: bytes, device: Path = DEVICE) -> bytes:
    """Return a REPORT, 432 bytes, for the enclave that the TARGETINFO of 512 bytes names (EREPORT)."""
    padded = _report_data(user_data)
    if len(target_info) != TARGET_INFO_SIZE:
        raise ValueError(f"a TARGETINFO is {TARGET_INFO_SIZE} bytes, not {len(target_info)}")
    with _lock:
        _write(device / "target_info", target_info)
        _write(device / "user_report_data", padded)
        return _exactly(device / "report", REPORT_SIZE)


def my_target_info(device: Path = DEVICE) -> bytes:
    """Return the TARGETINFO, 512 bytes, by which other enclaves address reports to this one."""
    return _exactly(device / "my_target_info", TARGET_INFO_SIZE)


def seal_key(policy: str, device: Path = DEVICE) -> bytes:
    """Return a sealing key of 16 bytes (EGETKEY), the same in every run on this platform.

    `policy` is ``mrenclave``, for this enclave alone, or ``mrsigner``, for all of its signer's with this ISVPRODID.
    """
    if policy not in ("mrenclave", "mrsigner"):
        raise ValueError("the policy is mrenclave or mrsigner")
    return get_key(f"_sgx_{policy}", device)


def get_key(name: str, device: Path = DEVICE) -> bytes:
    """Return the key, 16 bytes, of the encrypted mounts with this `key_name`."""
    return _exactly(device / "keys" / _key_name(name), KEY_SIZE)


def set_key(name: str, key: bytes, device: Path = DEVICE) -> None:
    """Set the key, 16 bytes, of the encrypted mounts with this `key_name`; a mount of the manifest must name it."""
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key is {KEY_SIZE} bytes, not {len(key)}")
    _write(device / "keys" / _key_name(name), key)


def _report_data(user_data: bytes) -> bytes:
    if len(user_data) > REPORT_DATA_SIZE:
        raise ValueError(f"user data is at most {REPORT_DATA_SIZE} bytes, not {len(user_data)}")
    return user_data.ljust(REPORT_DATA_SIZE, b"\0")


def _key_name(name: str) -> str:
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} cannot be the name of a key")
    return name


def _exactly(path: Path, size: int) -> bytes:
    data = _read(path, size)
    if len(data) != size:
        raise EnclaveSideError(f"{path} has {len(data)} bytes instead of {size}: it was not set")
    return data


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            data = b""
            while len(data) <= limit and (piece := file.read(limit + 1 - len(data))):
                data += piece
    except OSError as error:
        raise _unusable(path, error) from error
    if len(data) > limit:
        raise EnclaveSideError(f"{path} has more than {limit} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        # Not created where it is missing, and written in one call: each call replaces the whole value.
        with path.open("r+b", buffering=0) as file:
            written = file.write(data)
    except OSError as error:
        raise _unusable(path, error) from error
    if written != len(data):
        raise EnclaveSideError(f"{path} took {written} of {len(data)} bytes")


def _unusable(path: Path, error: OSError) -> EnclaveSideError:
    reason = error.strerror or str(error)
    return EnclaveSideError(
        f"{path}: {reason}; it is there inside a Gramine enclave, quotes with sgx.remote_attestation = 'dcap'"
    )
