"""The clock: certificates and collateral have dates, and Oasis nodes stop at half a second."""

from __future__ import annotations

from sgxkit.host.checks.check import Check, Verdict, Verdicts, fatal, supported, unknown, unsupported
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.facts import Facts, HttpReply
from sgxkit.host.remedies import surroundings as remedies
from sgxkit.messages import msg

LIMIT_SECONDS = 0.5
HTTP_RESOLUTION_SECONDS = 2.0
"""A Date header has whole seconds, and the answer takes its time."""


def _http_offset(facts: Facts) -> float | None:
    offsets = [
        endpoint.reply.clock_offset_seconds
        for endpoint in known(facts.network.endpoints) or ()
        if isinstance(endpoint.reply, HttpReply) and endpoint.reply.clock_offset_seconds is not None
    ]
    return min(offsets, key=abs, default=None)


def _judge(facts: Facts, _verdicts: Verdicts) -> Verdict:
    state = known(facts.clock.state)
    by_http = _http_offset(facts)
    active = [
        unit.name
        for unit in known(facts.services.units) or ()
        if unit.active_state == "active" and unit.name.split(".")[0] in _TIME_SERVICES
    ]
    evidence = (
        shown("clock.state", facts.clock.state)
        if state is None
        else Evidence(
            "clock.state",
            f"synchronised {str(state.synchronised).lower()}, offset {_seconds(state.offset_seconds)}, "
            f"error at most {_seconds(state.max_error_seconds)}, by {state.via}",
        ),
        shown("services.units (time)", active),
        *((Evidence("network.endpoints (Date header)", f"{by_http:+.1f} s"),) if by_http is not None else ()),
    )
    offset = None if state is None else state.offset_seconds
    if by_http is not None and abs(by_http) > HTTP_RESOLUTION_SECONDS:
        offset = by_http
    if offset is not None and abs(offset) > LIMIT_SECONDS:
        return fatal(
            "clock-off",
            msg("The clock is off by {offset}.", offset=_seconds(offset)),
            evidence,
            (remedies.synchronise_clock(facts),),
        )
    if state is None:
        return unknown("clock-unread", msg("Whether the clock is right could not be read."), evidence)
    if not state.synchronised:
        return unsupported(
            "clock-unsynchronised",
            msg("Nothing keeps the clock: it may be off, and will be."),
            evidence,
            (remedies.synchronise_clock(facts),),
        )
    return supported(evidence)


_TIME_SERVICES = frozenset({"chrony", "chronyd", "systemd-timesyncd", "ntp", "ntpd", "ntpsec", "openntpd"})


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} s"


CHECKS: tuple[Check, ...] = (Check("clock", msg("Clock"), _judge, parent="host"),)
