"""Opening files that hold enclaves or their signatures, whatever their format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

from sgxkit.enclave import elf
from sgxkit.enclave.image import EnclaveImage
from sgxkit.enclave.measure import ECREATE
from sgxkit.enclave.sdk_elf import MAX_FILE_SIZE, read_sdk_elf
from sgxkit.enclave.sgxs import UNSIZED, read_sgxs
from sgxkit.errors import FormatError, InputError
from sgxkit.isa.sigstruct import SIGSTRUCT_SIZE, Sigstruct
from sgxkit.messages import msg

_TAG_SIZE = 8


def open_image(path: Path, *, edmm: bool = True) -> EnclaveImage:
    """Read an enclave image: SGXS, ESGXS or a signed enclave of Intel's SDK, told apart by their first bytes.

    `edmm` says for what platform an SDK enclave is laid out. Raises FormatError, and InputError where the file cannot
    be read.
    """

    def opener() -> BinaryIO:
        try:
            return path.open("rb")
        except OSError as error:
            raise InputError(
                msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)
            ) from error

    begin = _read(path, _TAG_SIZE)
    if begin in (ECREATE, UNSIZED):
        return read_sgxs(opener)
    if begin.startswith(elf.MAGIC):
        return read_sdk_elf(_read(path, MAX_FILE_SIZE + 1), edmm=edmm)
    raise FormatError(
        str(path),
        msg("this is no enclave image"),
        offset=0,
        hint=msg("SGXS, ESGXS and enclaves that Intel's sgx_sign has signed can be read"),
    )


def read_signature(path: Path, *, edmm: bool = True) -> Sigstruct:
    """Read a SIGSTRUCT from a file of its own, or from a signed enclave of Intel's SDK."""
    data = _read(path, SIGSTRUCT_SIZE + 1)
    if data.startswith(elf.MAGIC):
        found = open_image(path, edmm=edmm).sigstruct
        assert found is not None, "an SDK enclave that can be read has its signature"
        return found
    return Sigstruct.from_bytes(data)


def write_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file whole or not at all, by `write`; InputError where that cannot be done."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            write(file)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(
                msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
            ) from error
        raise


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
