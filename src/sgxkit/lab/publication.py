"""What Intel publishes about platforms and quoting enclaves, signed as Intel signs: compact JSON, r and s in hex.

Intel PCS API v4 (and v3 for TCB info of version 2): "Get TCB Info", "Get Quoting Enclave Identity", "Retrieve TCB
Evaluation Data Numbers". The advisories are the lab's own: LAB-SA-...
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from sgxkit.aesm.key_id import INTEL_QE_SIGNER
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.identity import EnclaveIdentityId
from sgxkit.dcap.signed_json import split_signed_json
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.lab.authority import PCEID, PCESVN, Lab, components
from sgxkit.lab.certificates import raw_signature, utc
from sgxkit.lab.world import FIRST_NUMBER, Event, World

FIRST_TCB_DATE = utc(2025, 5, 14)
FIRST_QE_SVN = 8
KEPT_NUMBERS = 4
"""How many evaluation data numbers are on offer; those before are retired."""

_OLDEST = -2
_ROWS = (
    (3, TcbStatus.UP_TO_DATE, ()),
    (2, TcbStatus.SW_HARDENING_NEEDED, ("LAB-SA-00001",)),
    (1, TcbStatus.CONFIGURATION_NEEDED, ("LAB-SA-00002",)),
    (0, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED, ("LAB-SA-00001", "LAB-SA-00002")),
)
# The names that Intel gives the components (category, type); the others have none.
_NAMES = {
    0: ("BIOS", "Early Microcode Update"),
    1: ("OS/VMM", "SGX Late Microcode Update"),
    2: ("OS/VMM", "TXT SINIT"),
    3: ("BIOS", ""),
    5: ("BIOS", "Configuration"),
}
# ATTRIBUTES of Intel's enclaves, as report bytes: INIT, and for those that provision, PROVISIONKEY.
_PROVISIONING, _PLAIN = "11", "01"


def numbers_on_offer(world: World) -> tuple[int, ...]:
    """The evaluation data numbers that can be asked for, newest first."""
    newest = world.number(early=True)
    return tuple(range(newest, max(FIRST_NUMBER, newest - KEPT_NUMBERS + 1) - 1, -1))


def tcb_info(lab: Lab, number: int, clock: datetime, *, version: Literal[2, 3] = 3) -> str:
    """The signed answer about the platform's TCB as of an evaluation data number."""
    document: dict[str, Any] = {"id": "SGX"} if version == 3 else {}
    document |= {"version": version, **_validity(lab, clock)}
    document |= {"fmspc": lab.profile.fmspc.hex().upper(), "pceId": PCEID.hex(), "tcbType": 0}
    document |= {"tcbEvaluationDataNumber": number}
    recoveries = lab.world.platform_events(number)
    levels = [
        _level(version, components(len(recoveries), row), _tcb_date(recoveries), status, advisories)
        for row, status, advisories in _ROWS
    ]
    for generation in range(len(recoveries) - 1, _OLDEST, -1):
        since = _tcb_date(recoveries[: max(generation, 0)])
        advisories = tuple(_advisory(event) for event in recoveries[max(generation, 0) :])
        for row, status, more in (
            (2, TcbStatus.OUT_OF_DATE, ()),
            (0, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, ("LAB-SA-00002",)),
        ):
            levels.append(_level(version, components(generation, row), since, status, (*more, *advisories)))
    levels.append(_level(version, components(_OLDEST, 0), utc(2020, 1, 1), TcbStatus.REVOKED, ("LAB-SA-00003",)))
    return _signed(lab, "tcbInfo", document | {"tcbLevels": levels})


def enclave_identity(lab: Lab, which: EnclaveIdentityId, number: int, clock: datetime) -> str:
    """The signed answer about one of Intel's enclaves as of an evaluation data number."""
    events = lab.world.qe_events(number)
    attributes = _PROVISIONING if which in (EnclaveIdentityId.QE, EnclaveIdentityId.TD_QE) else _PLAIN
    levels = []
    for generation in range(len(events), -1, -1):
        level: dict[str, Any] = {
            "tcb": {"isvsvn": FIRST_QE_SVN + generation},
            "tcbDate": _time(_tcb_date(events[:generation])),
            "tcbStatus": TcbStatus.UP_TO_DATE if generation == len(events) else TcbStatus.OUT_OF_DATE,
        }
        if advisories := [_advisory(event) for event in events[generation:]]:
            level["advisoryIDs"] = advisories
        levels.append(level)
    document = {
        "id": which,
        "version": 2,
        **_validity(lab, clock),
        "tcbEvaluationDataNumber": number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": attributes.ljust(32, "0"),
        # MODE64BIT is left out; XFRM does not count.
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": INTEL_QE_SIGNER.hex().upper(),
        "isvprodid": {EnclaveIdentityId.QE: 1, EnclaveIdentityId.QAE: 3}.get(which, 2),
        "tcbLevels": levels,
    }
    return _signed(lab, "enclaveIdentity", document)


def evaluation_numbers(lab: Lab, clock: datetime) -> str:
    """The signed list of evaluation data numbers on offer."""
    world = lab.world
    listed = []
    for number in numbers_on_offer(world):
        event = next((event for event in world.events if event.number == number), None)
        at = FIRST_TCB_DATE if event is None else event.at
        listed.append({"tcbEvaluationDataNumber": number, "tcbRecoveryEventDate": _time(at), "tcbDate": _time(at)})
    document = {"id": "SGX", "version": 1, **_validity(lab, clock), "tcbEvalNumbers": listed}
    return _signed(lab, "tcbEvaluationDataNumbers", document)


def collateral(lab: Lab, clock: datetime, *, early: bool = False) -> Collateral:
    """All that a quote of this lab's platform is judged by, as a service would put it together."""
    number = lab.world.number(early=early)
    info, info_signature = split_signed_json(tcb_info(lab, number, clock), "tcbInfo")
    identity, identity_signature = split_signed_json(
        enclave_identity(lab, EnclaveIdentityId.QE, number, clock), "enclaveIdentity"
    )
    chain = lab.hierarchy.tcb_signing_chain
    return Collateral(
        pck_crl_issuer_chain=lab.hierarchy.pck_ca_chain(lab.profile.ca),
        root_ca_crl=lab.root_crl(clock),
        pck_crl=lab.pck_crl(lab.profile.ca, clock),
        tcb_info_issuer_chain=chain,
        tcb_info=info,
        tcb_info_signature=info_signature,
        qe_identity_issuer_chain=chain,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )


def _level(
    version: int, svns: tuple[int, ...], since: datetime, status: TcbStatus, advisories: tuple[str, ...]
) -> dict[str, Any]:
    if version == 2:
        tcb: dict[str, Any] = {f"sgxtcbcomp{number:02}svn": svn for number, svn in enumerate(svns, 1)}
    else:
        tcb = {"sgxtcbcomponents": [_component(index, svn) for index, svn in enumerate(svns)]}
    level = {"tcb": tcb | {"pcesvn": PCESVN}, "tcbDate": _time(since), "tcbStatus": status}
    return level | {"advisoryIDs": sorted(advisories)} if advisories else level


def _component(index: int, svn: int) -> dict[str, Any]:
    if index not in _NAMES:
        return {"svn": svn}
    category, kind = _NAMES[index]
    return {"svn": svn, "category": category, "type": kind}


def _tcb_date(events: tuple[Event, ...]) -> datetime:
    return events[-1].at if events else FIRST_TCB_DATE


def _advisory(event: Event) -> str:
    return f"LAB-SA-{10_000 + event.number:05}"


def _validity(lab: Lab, clock: datetime) -> dict[str, str]:
    issued, until = lab.world.published(clock)
    return {"issueDate": _time(issued), "nextUpdate": _time(until)}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _signed(lab: Lab, member: str, document: dict[str, Any]) -> str:
    text = json.dumps(document, separators=(",", ":"))
    signature = raw_signature(lab.hierarchy.tcb_signing.key, text.encode())
    return f'{{"{member}":{text},"signature":"{signature.hex()}"}}'
