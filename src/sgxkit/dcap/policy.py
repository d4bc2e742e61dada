"""What a relying party asks of a genuine quote.

A `Policy` is plain data; `judge` returns one error for each rule that is not met. What a policy does not mention is
as strict as can be: only the status UpToDate, no debug mode, no service TD, SEPT_VE_DISABLE set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sgxkit.dcap.errors import PolicyError
from sgxkit.dcap.pck import PckPlatform, SgxType
from sgxkit.dcap.quote import Quote
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.dcap.td_report import TdAttributes, TdReport, TdReport15
from sgxkit.dcap.verification import CollateralFacts, TcbVerdict
from sgxkit.errors import InputError
from sgxkit.isa.report import ReportBody
from sgxkit.messages import msg

NO_SERVICE_TD = bytes(48)

_OUT_OF_DATE = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED})


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules; None means that the value is not asked about.

    `accepted_advisories`: every advisory of the platform must be in it. `reportdata`: all 64 bytes. `tdattributes`: a
    value and the mask of the bits that must equal it. `mrservicetd`: the service TDs that may be bound to the TD; 48
    zero bytes stand for none. `platform_grace_period`: OutOfDate and OutOfDateConfigurationNeeded are accepted while
    the TCB date is no older than this. `collateral_grace_period`: for so long after their nextUpdate, CRLs, TCB info
    and identities still count as in force; certificates do not.

    Raises InputError for a policy that would accept Revoked, or whose values have the wrong size.
    """

    accepted_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    accepted_advisories: frozenset[str] | None = None
    minimum_tcb_evaluation_data_number: int | None = None
    platform_grace_period: timedelta = timedelta(0)
    collateral_grace_period: timedelta = timedelta(0)
    allow_debug: bool = False
    reportdata: bytes | None = None
    sgx_types: frozenset[SgxType] | None = None
    platform_instance_ids: frozenset[bytes] | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None
    mrenclave: frozenset[bytes] | None = None
    mrsigner: frozenset[bytes] | None = None
    isvprodid: int | None = None
    minimum_isvsvn: int | None = None
    mrtd: frozenset[bytes] | None = None
    mrseam: frozenset[bytes] | None = None
    rtmr0: frozenset[bytes] | None = None
    rtmr1: frozenset[bytes] | None = None
    rtmr2: frozenset[bytes] | None = None
    rtmr3: frozenset[bytes] | None = None
    tdattributes: tuple[int, int] | None = None
    mrservicetd: frozenset[bytes] = frozenset({NO_SERVICE_TD})
    require_sept_ve_disable: bool = True
    sgx_only: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The rules in use that only an SGX quote can meet."""
    tdx_only: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The rules in use that only a TDX quote can meet."""

    def __post_init__(self) -> None:
        if TcbStatus.REVOKED in self.accepted_statuses:
            raise InputError(msg("a policy cannot accept the status Revoked"))
        for names, size in _SIZES:
            for name in names:
                for value in getattr(self, name) or ():
                    if len(value) != size:
                        raise InputError(
                            msg("{name}: {size} bytes, must be {expected}", name=name, size=len(value), expected=size)
                        )
        if self.reportdata is not None and len(self.reportdata) != 64:
            raise InputError(
                msg(
                    "{name}: {size} bytes, must be {expected}",
                    name="reportdata",
                    size=len(self.reportdata),
                    expected=64,
                )
            )
        if min(self.platform_grace_period, self.collateral_grace_period) < timedelta(0):
            raise InputError(msg("a grace period cannot be negative"))
        for attribute, rules in (("sgx_only", _SGX_RULES), ("tdx_only", _TDX_RULES)):
            object.__setattr__(self, attribute, tuple(name for name in rules if getattr(self, name) is not None))

    @property
    def asks_whose_code(self) -> bool:
        """Whether it asks which enclave or TD it is; without that, any genuine one passes."""
        return any(getattr(self, name) is not None for name in _MEASUREMENTS)


_MEASUREMENTS = ("mrenclave", "mrsigner", "mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
_SIZES = (
    (("mrenclave", "mrsigner"), 32),
    (("mrtd", "mrseam", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrservicetd"), 48),
    (("platform_instance_ids",), 16),
)
_SGX_RULES = ("mrenclave", "mrsigner", "isvprodid", "minimum_isvsvn")
_TDX_RULES = ("mrtd", "mrseam", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "tdattributes")


def judge_report(policy: Policy, quote: Quote) -> Iterator[PolicyError]:
    """Yield what the policy has against the enclave or TD itself, which the quote alone tells."""
    body = quote.body
    if policy.reportdata is not None and body.reportdata != policy.reportdata:
        yield PolicyError(
            "reportdata", msg("REPORTDATA is {value}, not what was expected", value=body.reportdata.hex())
        )
    debug = body.attributes.debug if isinstance(body, ReportBody) else body.debug
    if debug and not policy.allow_debug:
        yield PolicyError(
            "debug",
            msg("it runs in debug mode: whoever runs the machine can read and change its memory"),
            hint=msg("where that is meant (development), allow it: allow_debug = true, or --allow-debug"),
        )
    if isinstance(body, ReportBody):
        yield from _judge_enclave(policy, body)
    else:
        yield from _judge_td(policy, body)


def _judge_enclave(policy: Policy, body: ReportBody) -> Iterator[PolicyError]:
    for name in policy.tdx_only:
        yield PolicyError(name, msg("{name} is asked for, and an SGX enclave has none", name=name.upper()))
    yield from _one_of("mrenclave", body.mrenclave, policy.mrenclave)
    yield from _one_of("mrsigner", body.mrsigner, policy.mrsigner)
    if policy.isvprodid is not None and body.isvprodid != policy.isvprodid:
        yield PolicyError(
            "isvprodid", msg("ISVPRODID is {value}, not {expected}", value=body.isvprodid, expected=policy.isvprodid)
        )
    if policy.minimum_isvsvn is not None and body.isvsvn < policy.minimum_isvsvn:
        yield PolicyError(
            "minimum_isvsvn",
            msg("ISVSVN is {value}, below {minimum}", value=body.isvsvn, minimum=policy.minimum_isvsvn),
        )


def _judge_td(policy: Policy, body: TdReport) -> Iterator[PolicyError]:
    for name in policy.sgx_only:
        yield PolicyError(name, msg("{name} is asked for, and a TD has none", name=name.upper()))
    for name in ("mrtd", "mrseam", "rtmr0", "rtmr1", "rtmr2", "rtmr3"):
        yield from _one_of(name, getattr(body, name), getattr(policy, name))
    if policy.tdattributes is not None:
        value, mask = policy.tdattributes
        if body.tdattributes & mask != value & mask:
            yield PolicyError(
                "tdattributes",
                msg(
                    "TDATTRIBUTES are {value}, not {expected} under the mask {mask}",
                    value=f"{body.tdattributes:#018x}",
                    expected=f"{value:#018x}",
                    mask=f"{mask:#018x}",
                ),
            )
    if policy.require_sept_ve_disable and not body.tdattributes & TdAttributes.SEPT_VE_DISABLE:
        yield PolicyError(
            "require_sept_ve_disable",
            msg("SEPT_VE_DISABLE is not set: the host can inject faults into the TD by taking its pages away"),
            hint=msg("where the TD's kernel is known to cope: require_sept_ve_disable = false"),
        )
    if isinstance(body, TdReport15) and body.mrservicetd not in policy.mrservicetd:
        yield PolicyError(
            "mrservicetd",
            msg(
                "a service TD is bound to it that the policy does not name: MRSERVICETD is {value}",
                value=body.mrservicetd.hex(),
            ),
            hint=msg(
                "a service TD can read the TD's secrets, to migrate it: name those that you trust in mrservicetd"
            ),
        )


def _one_of(name: str, value: bytes, accepted: frozenset[bytes] | None) -> Iterator[PolicyError]:
    if accepted is not None and value not in accepted:
        yield PolicyError(name, msg("{name} is {value}, not what was expected", name=name.upper(), value=value.hex()))


def judge_platform(
    policy: Policy, platform: PckPlatform, tcb: TcbVerdict, collateral: CollateralFacts, at: datetime
) -> Iterator[PolicyError]:
    """Yield what the policy has against the platform and against the collateral that rates it."""
    if tcb.status not in policy.accepted_statuses and not _in_grace(policy, tcb, at):
        yield PolicyError(
            "accepted_statuses",
            msg(
                "the TCB status is {status}, accepted: {accepted}",
                status=tcb.status.value,
                accepted=_listing(status.value for status in policy.accepted_statuses),
            ),
            hint=STATUS_HINTS.get(tcb.status),
        )
    if policy.accepted_advisories is not None:
        others = sorted(set(tcb.advisory_ids) - policy.accepted_advisories)
        if others:
            yield PolicyError(
                "accepted_advisories", msg("advisories that the policy does not accept: {ids}", ids=_listing(others))
            )
    minimum = policy.minimum_tcb_evaluation_data_number
    if minimum is not None and collateral.tcb_evaluation_data_number < minimum:
        yield PolicyError(
            "minimum_tcb_evaluation_data_number",
            msg(
                "the collateral's evaluation data number is {number}, below {minimum}",
                number=collateral.tcb_evaluation_data_number,
                minimum=minimum,
            ),
            hint=msg("older collateral may not know of a vulnerability yet: fetch the current one"),
        )
    if policy.sgx_types is not None and platform.sgx_type not in policy.sgx_types:
        yield PolicyError(
            "sgx_types", msg("the platform's SGX type is {type}, which is not accepted", type=platform.sgx_type.name)
        )
    instance = platform.platform_instance_id
    if policy.platform_instance_ids is not None and instance not in policy.platform_instance_ids:
        yield PolicyError(
            "platform_instance_ids",
            msg(
                "the platform instance {id} is not one of those accepted",
                id="(none)" if instance is None else instance.hex(),
            ),
        )

    for name in ("dynamic_platform", "cached_keys", "smt_enabled"):
        wanted, found = getattr(policy, name), getattr(platform, name)
        if wanted is not None and found is not wanted:
            yield PolicyError(
                name,
                msg(
                    "{name} of the platform is {value}, not {expected}",
                    name=name,
                    value=_yes_or_no(found),
                    expected=_yes_or_no(wanted),
                ),
            )


def _yes_or_no(flag: bool | None) -> str:
    return "not stated" if flag is None else str(flag).lower()


def _in_grace(policy: Policy, tcb: TcbVerdict, at: datetime) -> bool:
    return (
        tcb.status in _OUT_OF_DATE
        and bool(policy.platform_grace_period)
        and at - tcb.tcb_date <= policy.platform_grace_period
    )


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "-"


STATUS_HINTS = {
    TcbStatus.SW_HARDENING_NEEDED: msg(
        "the enclave itself must mitigate the advisories; if yours does, accept SWHardeningNeeded"
    ),
    TcbStatus.CONFIGURATION_NEEDED: msg(
        "the platform's firmware settings leave it open to the advisories (often hyper-threading); if they do not "
        "concern you, accept ConfigurationNeeded"
    ),
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: msg(
        "firmware settings and the enclave must mitigate the advisories; if they do, accept "
        "ConfigurationAndSWHardeningNeeded"
    ),
    TcbStatus.OUT_OF_DATE: msg("the platform's owner must update microcode, firmware or SGX software"),
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: msg(
        "the platform's owner must update microcode, firmware or SGX software, and change firmware settings"
    ),
    TcbStatus.REVOKED: msg("Intel has revoked this TCB: nothing that it says can be trusted"),
    TcbStatus.TD_RELAUNCH_ADVISED: msg("the TDX module was updated after the TD was started: start the TD again"),
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: msg(
        "the TDX module was updated after the TD was started: start the TD again, and see to the firmware settings"
    ),
}
