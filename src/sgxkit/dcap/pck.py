"""The PCK certificate's SGX extension: which platform this is, and at which TCB.

Intel SGX PCK Certificate and CRL Specification, 2.3.1 "SGX extensions", OID 1.2.840.113741.1.13.1: a SEQUENCE of
(OID, value) pairs, of which .2 is such a SEQUENCE again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from sgxkit.dcap import der
from sgxkit.dcap.certificate import Certificate
from sgxkit.errors import FormatError
from sgxkit.messages import msg

_FIELD = "PCK certificate, SGX extension"

# The content of the OID 1.2.840.113741.1.13.1, below which every OID of the extension lies.
_ARC = bytes.fromhex("2a864886f84d010d01")

PPID, TCB, PCEID, FMSPC, SGX_TYPE, PLATFORM_INSTANCE_ID, CONFIGURATION = range(1, 8)
TCB_PCESVN, TCB_CPUSVN = 17, 18
DYNAMIC_PLATFORM, CACHED_KEYS, SMT_ENABLED = range(1, 4)


class SgxType(IntEnum):
    """What protects the EPC: Scalable has neither integrity nor replay protection in hardware."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PckPlatform:
    """What Intel certified of the platform: identity, TCB and configuration.

    `tcb_components` are 16 SVNs, one a byte; `pceid` and `fmspc` are bytes in the order in which they are printed.
    `platform_instance_id` and the three flags are None in certificates of the Processor CA, which has no such fields.
    """

    ppid: bytes
    tcb_components: bytes
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: SgxType
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_pck_platform(certificate: Certificate) -> PckPlatform:
    """Read the SGX extension of a PCK certificate; raises FormatError where it is absent or not as specified."""
    extension = certificate.extensions.get(_ARC)
    if extension is None:
        raise FormatError(_FIELD, msg("the certificate has none"))
    return _parse_extension(extension)


@lru_cache(maxsize=256)
def _parse_extension(data: bytes) -> PckPlatform:
    outer = der.element(data, 0, len(data), _FIELD)
    if outer.end != len(data):
        raise FormatError(_FIELD, msg("bytes follow it"), offset=outer.end)
    values = _pairs(data, outer, _ARC)
    tcb = _pairs(data, _need(values, TCB), _ARC + bytes([TCB]))
    components = bytes(der.unsigned(data, _typed(tcb, number, der.INTEGER), _FIELD, 0xFF) for number in range(1, 17))
    configuration: dict[int, der.Element] = {}
    if CONFIGURATION in values:
        configuration = _pairs(data, values[CONFIGURATION], _ARC + bytes([CONFIGURATION]))
    sgx_type = der.unsigned(data, _typed(values, SGX_TYPE, der.ENUMERATED), _FIELD, 0xFF)
    if sgx_type not in (SgxType.STANDARD, SgxType.SCALABLE, SgxType.SCALABLE_WITH_INTEGRITY):
        raise FormatError(_FIELD, msg("SGX type {type} is not defined", type=sgx_type))
    return PckPlatform(
        ppid=_octets(data, values, PPID, 16),
        tcb_components=components,
        pcesvn=der.unsigned(data, _typed(tcb, TCB_PCESVN, der.INTEGER), _FIELD, 0xFFFF),
        cpusvn=_octets(data, tcb, TCB_CPUSVN, 16),
        pceid=_octets(data, values, PCEID, 2),
        fmspc=_octets(data, values, FMSPC, 6),
        sgx_type=SgxType(sgx_type),
        platform_instance_id=(
            _octets(data, values, PLATFORM_INSTANCE_ID, 16) if PLATFORM_INSTANCE_ID in values else None
        ),
        dynamic_platform=_flag(data, configuration, DYNAMIC_PLATFORM),
        cached_keys=_flag(data, configuration, CACHED_KEYS),
        smt_enabled=_flag(data, configuration, SMT_ENABLED),
    )


def _pairs(data: bytes, parent: der.Element, arc: bytes) -> dict[int, der.Element]:
    """Read a SEQUENCE of SEQUENCE { OID, value } into value by the OID's last number; each may come once."""
    found: dict[int, der.Element] = {}
    position, end = der.expect(parent, der.SEQUENCE, _FIELD).content, parent.end
    header = bytes([der.OBJECT_IDENTIFIER, len(arc) + 1]) + arc
    while position < end:
        pair = der.expect(der.element(data, position, end, _FIELD), der.SEQUENCE, _FIELD)
        position = pair.end
        value_start = pair.content + len(header) + 1
        if value_start >= position or not data.startswith(header, pair.content):
            raise FormatError(_FIELD, msg("a pair that the specification does not have"), offset=pair.start)
        number = data[value_start - 1]
        value = der.element(data, value_start, position, _FIELD)
        if value.end != position:
            raise FormatError(_FIELD, msg("a pair that the specification does not have"), offset=pair.start)
        if number in found:
            raise FormatError(_FIELD, msg("field {number} comes twice", number=number), offset=pair.start)
        found[number] = value
    return found


def _need(values: dict[int, der.Element], number: int) -> der.Element:
    try:
        return values[number]
    except KeyError:
        raise FormatError(_FIELD, msg("field {number} is missing", number=number)) from None


def _typed(values: dict[int, der.Element], number: int, tag: int) -> der.Element:
    return der.expect(_need(values, number), tag, _FIELD)


def _octets(data: bytes, values: dict[int, der.Element], number: int, size: int) -> bytes:
    found = _typed(values, number, der.OCTET_STRING)
    if found.end - found.content != size:
        raise FormatError(_FIELD, msg("field {number} must have {expected} bytes", number=number, expected=size))
    return data[found.content : found.end]


def _flag(data: bytes, values: dict[int, der.Element], number: int) -> bool | None:
    return der.boolean(data, values[number], _FIELD) if number in values else None
