"""The SIGSTRUCT that Gramine's signer makes of a manifest (release 1.9), up to the signature."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sgxkit.enclave.signing import unsigned_sigstruct
from sgxkit.errors import InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.messages import msg

_XFRM_LEGACY = 0x3
# Everything is fixed but AVX, AVX-512 and AMX, which the loader may turn on as the processor has them.
_XFRM_MASK = 0xFFFF_FFFF_FFF9_FF1B
_FLAGS_MASK = 0xFFFF_FFFF_FFFF_FFFF
_EXINFO = 1

# In this order: a later feature may clear a bit that an earlier one set.
_XFRM_BITS = {"avx": 0x4, "avx512": 0xE4, "amx": 0x60000, "mpx": 0x18, "pkru": 0x200}

_DATE = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})")


def manifest_sigstruct(manifest: dict[str, Any], mrenclave: bytes, date: int) -> Sigstruct:
    """Return what is to be signed for a manifest that has been checked and rendered; `date` as `parse_date` reads it.

    VENDOR, ISVFAMILYID and ISVEXTPRODID are 0 and KSS is off: a manifest cannot say otherwise.
    """
    sgx = manifest["sgx"]
    flags = AttributeFlags.MODE64BIT | (AttributeFlags.DEBUG if sgx["debug"] else 0)
    xfrm, xfrm_mask = _features(sgx["cpu_features"])
    return replace(
        unsigned_sigstruct(mrenclave),
        date=date,
        miscselect=_EXINFO if sgx["use_exinfo"] else 0,
        attributes=Attributes(int(flags), xfrm),
        attributemask=Attributes(_FLAGS_MASK, xfrm_mask),
        isvprodid=sgx["isvprodid"],
        isvsvn=sgx["isvsvn"],
    )


def parse_date(text: str | None) -> int:
    """Read YYYY-MM-DD (None: today, UTC) as SIGSTRUCT.DATE, binary-coded decimal.

    Dates that no calendar has, such as 0000-00-00, are taken: builds that are to be the same every day sign so.
    """
    if text is None:
        return int(f"{datetime.now(UTC):%Y%m%d}", 16)
    found = _DATE.fullmatch(text)
    if found is None:
        raise InputError(msg("{text} is not a date", text=text), hint=msg("write it as 2026-01-31"))
    return int("".join(found.groups()), 16)


def _features(wanted: dict[str, str]) -> tuple[int, int]:
    xfrm, mask = _XFRM_LEGACY, _XFRM_MASK
    for name, bits in _XFRM_BITS.items():
        if wanted[name] == "required":
            xfrm |= bits
        elif wanted[name] == "disabled":
            xfrm &= ~bits
        if wanted[name] != "unspecified":
            mask |= bits
    return xfrm, mask
