"""Enclave identity: which quoting enclave Intel vouches for (PCS API v4, "Get Quoting Enclave Identity")."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from sgxkit.dcap.json_fields import as_object, date, hexadecimal, integer, string
from sgxkit.dcap.signed_json import parse_strict_json
from sgxkit.dcap.tcb import SvnLevel, svn_levels
from sgxkit.errors import FormatError
from sgxkit.isa.report import ReportBody
from sgxkit.messages import msg


class EnclaveIdentityId(StrEnum):
    """Whose identity it is. Intel signs all four with one key, so the id must be compared with what is wanted."""

    QE = "QE"
    TD_QE = "TD_QE"
    QVE = "QVE"
    QAE = "QAE"


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """The inner object of an identity answer.

    Masks and values are in the byte order of the report body (MISCSELECT 4 bytes, ATTRIBUTES 16); `levels` are from
    high to low.
    """

    id: EnclaveIdentityId
    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[SvnLevel, ...]


@lru_cache(maxsize=64)
def parse_enclave_identity(text: str) -> EnclaveIdentity:
    """Read the JSON text of an ``enclaveIdentity`` object; raises FormatError. The last few are remembered."""
    field = "enclaveIdentity"
    document = as_object(parse_strict_json(text, field, escapes=False), field)
    version = integer(document, "version", field, limit=0xFFFF)
    if version != 2:
        raise FormatError(f"{field}.version", msg("{version} is not a version that is read (2)", version=version))
    name = string(document, "id", field)
    if name not in set(EnclaveIdentityId):
        raise FormatError(f"{field}.id", msg("not an enclave of Intel's that is known"))
    return EnclaveIdentity(
        id=EnclaveIdentityId(name),
        issue_date=date(document, "issueDate", field),
        next_update=date(document, "nextUpdate", field),
        tcb_evaluation_data_number=integer(document, "tcbEvaluationDataNumber", field, limit=0xFFFFFFFF),
        miscselect=hexadecimal(document, "miscselect", field, size=4),
        miscselect_mask=hexadecimal(document, "miscselectMask", field, size=4),
        attributes=hexadecimal(document, "attributes", field, size=16),
        attributes_mask=hexadecimal(document, "attributesMask", field, size=16),
        mrsigner=hexadecimal(document, "mrsigner", field, size=32),
        isvprodid=integer(document, "isvprodid", field, limit=0xFFFF),
        levels=svn_levels(document, field),
    )


def first_mismatch(identity: EnclaveIdentity, report: ReportBody) -> str | None:
    """Return the name of the first field in which the report is not of this enclave, None where it is.

    The rule for masked fields is (report AND mask) = value.
    """
    miscselect = report.miscselect.to_bytes(4, "little")
    if masked(miscselect, identity.miscselect_mask) != identity.miscselect:
        return "MISCSELECT"
    if masked(report.attributes.to_bytes(), identity.attributes_mask) != identity.attributes:
        return "ATTRIBUTES"
    if report.mrsigner != identity.mrsigner:
        return "MRSIGNER"
    if report.isvprodid != identity.isvprodid:
        return "ISVPRODID"
    return None


def masked(value: bytes, mask: bytes) -> bytes:
    """Return the bitwise AND of two byte strings of one length."""
    return (int.from_bytes(value, "big") & int.from_bytes(mask, "big")).to_bytes(len(value), "big")
