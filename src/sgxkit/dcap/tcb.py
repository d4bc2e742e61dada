"""TCB info: which versions of a platform's trusted parts Intel rates how.

Intel PCS API v4, "Get TCB Info", TCB info versions 2 and 3 (SGX and TDX). The levels are compared as "TCB Info
structure" there says: a platform is at the highest level of which it reaches every component and the PCESVN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from operator import ge
from typing import cast

from sgxkit.dcap.json_fields import array, as_object, date, hexadecimal, integer, member, string
from sgxkit.dcap.quote import TeeType
from sgxkit.dcap.signed_json import parse_strict_json
from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAX_LEVELS = 256
MAX_MODULE_IDENTITIES = 64
MAX_ADVISORIES = 256
_COMPONENTS = 16
_ADVISORY_IDS = re.compile(r"(?:[A-Za-z0-9._-]{1,64}\n)*")
_MODULE_ID = re.compile(r"TDX_[0-9A-Fa-f]{2}")


class TcbStatus(StrEnum):
    """Intel's words for how a TCB is rated; the last two come only of comparing a TD's launch with the present."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


_PLATFORM_STATUSES = frozenset(TcbStatus) - {
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
COMPONENT_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
"""What a quoting enclave or a TDX module can be."""


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """One row of the platform's table; components are 16 SVNs, None for TDX in an SGX table."""

    sgx_components: tuple[int, ...]
    pcesvn: int
    tdx_components: tuple[int, ...] | None
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One row of the table of a quoting enclave or a TDX module, which have a single SVN."""

    isvsvn: int
    tcb_date: datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModule:
    """Who must have signed the TDX module, and with which attributes."""

    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes


@dataclass(frozen=True, slots=True)
class TdxModuleIdentity:
    """The same for one major version of the module, with its levels from high to low."""

    id: str
    module: TdxModule
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """The inner object of a TCB info answer; `levels` are from high to low."""

    tee_type: TeeType
    version: int
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pceid: bytes
    tcb_evaluation_data_number: int
    levels: tuple[TcbLevel, ...]
    tdx_module: TdxModule | None
    tdx_module_identities: tuple[TdxModuleIdentity, ...]


@lru_cache(maxsize=64)
def parse_tcb_info(text: str) -> TcbInfo:
    """Read the JSON text of a ``tcbInfo`` object; raises FormatError.

    What a text says never changes, so the last few are remembered; whether it is signed and in force is judged anew
    by whoever asks.
    """
    field = "tcbInfo"
    document = as_object(parse_strict_json(text, field, escapes=False), field)
    version = integer(document, "version", field, limit=0xFFFF)
    if version not in (2, 3):
        raise FormatError(f"{field}.version", msg("{version} is not a version that is read (2, 3)", version=version))
    tee_type = TeeType.SGX if version == 2 else _tee_type(document, field)
    tcb_type = integer(document, "tcbType", field, limit=0xFFFF)
    if tcb_type != 0:
        raise FormatError(f"{field}.tcbType", msg("{type} is not a TCB type that is known (0)", type=tcb_type))
    tdx_members = {"tdxModule", "tdxModuleIdentities"} & document.keys()
    if tee_type is TeeType.SGX and tdx_members:
        raise FormatError(f"{field}.{min(tdx_members)}", msg("has no place in TCB info for SGX"))
    levels = tuple(
        _tcb_level(as_object(level, _LEVEL), version, tee_type)
        for level in array(document, "tcbLevels", field, limit=MAX_LEVELS)
    )
    if not levels:
        raise FormatError(f"{field}.tcbLevels", msg("no level in it"))
    ordered = tuple(sorted(levels, key=_height, reverse=True))
    if len({_height(level) for level in ordered}) != len(ordered):
        raise FormatError(f"{field}.tcbLevels", msg("the same level comes twice"))
    return TcbInfo(
        tee_type=tee_type,
        version=version,
        issue_date=date(document, "issueDate", field),
        next_update=date(document, "nextUpdate", field),
        fmspc=hexadecimal(document, "fmspc", field, size=6),
        pceid=hexadecimal(document, "pceId", field, size=2),
        tcb_evaluation_data_number=integer(document, "tcbEvaluationDataNumber", field, limit=0xFFFFFFFF),
        levels=ordered,
        tdx_module=_tdx_module(as_object(document["tdxModule"], field), f"{field}.tdxModule")
        if "tdxModule" in document
        else None,
        tdx_module_identities=_tdx_module_identities(document, field),
    )


def _tee_type(document: dict[str, object], field: str) -> TeeType:
    name = string(document, "id", field)
    if name not in TeeType.__members__:
        raise FormatError(f"{field}.id", msg("neither SGX nor TDX"))
    return TeeType[name]


def _height(level: TcbLevel) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    return level.sgx_components, level.pcesvn, level.tdx_components or ()


_LEVEL = "tcbInfo.tcbLevels"
_TCB = "tcbInfo.tcbLevels.tcb"
_COMPONENT_NAMES_V2 = tuple(f"sgxtcbcomp{number:02}svn" for number in range(1, _COMPONENTS + 1))


def _tcb_level(level: dict[str, object], version: int, tee_type: TeeType) -> TcbLevel:
    tcb = as_object(member(level, "tcb", _LEVEL), _TCB)
    if version == 2:
        sgx_components = tuple(integer(tcb, name, _TCB, limit=0xFF) for name in _COMPONENT_NAMES_V2)
    else:
        sgx_components = _components(tcb, "sgxtcbcomponents")
    return TcbLevel(
        sgx_components=sgx_components,
        pcesvn=integer(tcb, "pcesvn", _TCB, limit=0xFFFF),
        tdx_components=_components(tcb, "tdxtcbcomponents") if tee_type is TeeType.TDX else None,
        tcb_date=date(level, "tcbDate", _LEVEL),
        status=_status(level, _PLATFORM_STATUSES, _LEVEL),
        advisory_ids=advisory_ids(level, _LEVEL),
    )


def _components(tcb: dict[str, object], name: str) -> tuple[int, ...]:
    components = array(tcb, name, _TCB, limit=_COMPONENTS)
    if len(components) != _COMPONENTS:
        raise FormatError(f"{_TCB}.{name}", msg("{count} components, must be 16", count=len(components)))
    try:
        svns = [component["svn"] for component in components]  # type: ignore[index]  # the except below is the check
    except (TypeError, KeyError):
        svns = []
    # A platform's components are single bytes. Intel's own samples have levels above that, which nothing can reach.
    if set(map(type, svns)) != {int} or not 0 <= min(svns) <= max(svns) <= 0xFFFF:
        raise FormatError(f"{_TCB}.{name}", msg("each component needs an svn that is an integer from 0 to 65535"))
    return tuple(svns)


def _status(level: dict[str, object], allowed: frozenset[TcbStatus], field: str) -> TcbStatus:
    text = string(level, "tcbStatus", field)
    if text not in allowed:
        raise FormatError(f"{field}.tcbStatus", msg("not a status that is known"))
    return TcbStatus(text)


def advisory_ids(level: dict[str, object], field: str) -> tuple[str, ...]:
    """Return the identifiers of Intel's security advisories that a level names, in its order."""
    if "advisoryIDs" not in level:
        return ()
    found = array(level, "advisoryIDs", field, limit=MAX_ADVISORIES)
    if not set(map(type, found)) <= {str} or not _ADVISORY_IDS.fullmatch("".join(f"{name}\n" for name in found)):
        raise FormatError(f"{field}.advisoryIDs", msg("not identifiers of advisories"))
    return tuple(cast("list[str]", found))


def svn_levels(document: dict[str, object], field: str) -> tuple[SvnLevel, ...]:
    """Read the levels of something that has a single SVN, ordered from high to low; raises FormatError."""
    levels = [
        SvnLevel(
            isvsvn=integer(
                as_object(member(level, "tcb", field), f"{field}.tcb"), "isvsvn", f"{field}.tcb", limit=0xFFFF
            ),
            tcb_date=date(level, "tcbDate", field),
            status=_status(level, COMPONENT_STATUSES, field),
            advisory_ids=advisory_ids(level, field),
        )
        for level in (as_object(level, field) for level in array(document, "tcbLevels", field, limit=MAX_LEVELS))
    ]
    if not levels:
        raise FormatError(f"{field}.tcbLevels", msg("no level in it"))
    return tuple(sorted(levels, key=lambda level: level.isvsvn, reverse=True))


def _tdx_module(document: dict[str, object], field: str) -> TdxModule:
    return TdxModule(
        mrsigner=hexadecimal(document, "mrsigner", field, size=48),
        attributes=hexadecimal(document, "attributes", field, size=8),
        attributes_mask=hexadecimal(document, "attributesMask", field, size=8),
    )


def _tdx_module_identities(document: dict[str, object], field: str) -> tuple[TdxModuleIdentity, ...]:
    if "tdxModuleIdentities" not in document:
        return ()
    field = f"{field}.tdxModuleIdentities"
    found: list[TdxModuleIdentity] = []
    for value in array(document, "tdxModuleIdentities", "tcbInfo", limit=MAX_MODULE_IDENTITIES):
        identity = as_object(value, field)
        name = string(identity, "id", field)
        if _MODULE_ID.fullmatch(name) is None:
            raise FormatError(f"{field}.id", msg("not a TDX module's identifier"))
        found.append(TdxModuleIdentity(name.upper(), _tdx_module(identity, field), svn_levels(identity, field)))
    if len({identity.id for identity in found}) != len(found):
        raise FormatError(field, msg("the same module comes twice"))
    return tuple(found)


def select_level(
    levels: tuple[TcbLevel, ...], pck_components: bytes, pck_pcesvn: int, tee_tcb_svn: bytes | None = None
) -> TcbLevel | None:
    """Return the highest level that the platform reaches, None if it reaches none.

    `tee_tcb_svn` is given for a TD: its SVNs count from index 2 where [1], the TDX module's major version, is not 0,
    because modules from 1.5 on are rated by their own identity (PCS API v4, "Determining a TDX TCB status").
    """
    first_tdx = 0 if tee_tcb_svn is None or tee_tcb_svn[1] == 0 else 2
    for level in levels:
        if pck_pcesvn < level.pcesvn or not all(map(ge, pck_components, level.sgx_components)):
            continue
        if tee_tcb_svn is None or (
            level.tdx_components is not None
            and all(map(ge, tee_tcb_svn[first_tdx:], level.tdx_components[first_tdx:]))
        ):
            return level
    return None


def select_svn_level(levels: tuple[SvnLevel, ...], isvsvn: int) -> SvnLevel | None:
    """Return the highest level at or below `isvsvn`, None if all are above it."""
    return next((level for level in levels if level.isvsvn <= isvsvn), None)


_CONFIGURATION_PART = frozenset(
    {
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)


def converge(platform: TcbStatus, components: tuple[TcbStatus, ...]) -> TcbStatus:
    """Return the status of the whole from that of the platform and of its QE and TDX module.

    A component is up to date, out of date or revoked. A platform that needs configuration keeps saying so when a
    component is out of date, which is why this is not "the worst of them".
    """
    if platform is TcbStatus.REVOKED or TcbStatus.REVOKED in components:
        return TcbStatus.REVOKED
    if TcbStatus.OUT_OF_DATE not in components:
        return platform
    if platform in _CONFIGURATION_PART:
        return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    return TcbStatus.OUT_OF_DATE


_OUT_OF_DATE = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})
_GOOD = frozenset(
    {
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    }
)


def relaunch_advised(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """Return the status of a TD from that of its launch and that of the module which is loaded now.

    A TD that began on an old module stays suspect after the module was updated beneath it; launching it again would
    make it good. One beneath which a revoked module runs is in its hands whatever it began on: Intel's library, which
    starts from the launch alone, does not say so.
    """
    if current is TcbStatus.REVOKED:
        return TcbStatus.REVOKED
    if launch in _OUT_OF_DATE and current in _GOOD:
        if _CONFIGURATION_PART & {launch, current}:
            return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
        return TcbStatus.TD_RELAUNCH_ADVISED
    return launch
