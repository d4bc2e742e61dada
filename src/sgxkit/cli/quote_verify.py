"""`sgxkit quote verify`: is this quote genuine, up to date, and from the enclave that is expected?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.quote import quote_app
from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.dcap import Collateral, Policy, Quote, Verification
    from sgxkit.dcap.found_quote import Binding, FoundQuote
    from sgxkit.dcap.sources import CollateralSource
    from sgxkit.dcap.trust import TrustAnchor

EXIT_REFUSED = 1
EXIT_CANNOT_TELL = 2


def _option(name: str, help_: str, *, metavar: str | None = None) -> Any:
    return typer.Option(name, help=help_, metavar=metavar, show_default=False)


def register(app: typer.Typer) -> None:
    """Add the command to the quote commands; `app` has those already."""
    del app

    @command(quote_app, "verify")
    def verify(
        quote: Annotated[Path, typer.Argument(help="A quote in any form (docs/quotes.md); - reads standard input.")],
        *,
        collateral: Annotated[Path | None, _option("--collateral", "A bundle file; nothing is fetched.")] = None,
        pcs: Annotated[str | None, _option("--pcs", "Fetch from this PCS [default: Intel's].", metavar="URL")] = None,
        pccs: Annotated[str | None, _option("--pccs", "Fetch from this PCCS.", metavar="URL")] = None,
        root_crl: Annotated[
            str | None, _option("--root-crl", "The root CRL of a PCS that is not Intel's.", metavar="URL")
        ] = None,
        ca_file: Annotated[
            Path | None, _option("--ca-file", "PEM certificates that the service's TLS certificate may be by.")
        ] = None,
        insecure: Annotated[
            bool, _option("--insecure", "Do not check the service's TLS certificate (collateral is signed anyway).")
        ] = False,
        offline: Annotated[bool, _option("--offline", "Use a bundle or the cache only.")] = False,
        policy: Annotated[Path | None, _option("--policy", "A TOML file of what is expected.")] = None,
        at: Annotated[
            str | None, _option("--at", "Judge as of this time, as 2026-01-31T12:00:00Z [default: now].")
        ] = None,
        trusted_root: Annotated[
            Path | None, _option("--trusted-root", "PEM certificate of the root to trust instead of Intel's.")
        ] = None,
        index: Annotated[int | None, _option("--index", "Which quote, where the input has several, from 0.")] = None,
        quote_only: Annotated[
            bool, _option("--quote-only", "Judge the quote alone, whatever its envelope claims that it binds.")
        ] = False,
        accept: Annotated[
            list[str] | None, _option("--accept", "TCB status to accept beside UpToDate; may be repeated.")
        ] = None,
        accept_advisory: Annotated[
            list[str] | None, _option("--accept-advisory", "Accept this advisory, and none that is not named so.")
        ] = None,
        min_evaluation_number: Annotated[
            int | None, _option("--min-evaluation-number", "Lowest TCB evaluation data number of the collateral.")
        ] = None,
        platform_grace: Annotated[
            str | None, _option("--platform-grace", "Accept OutOfDate with a TCB date no older than this, as 30d.")
        ] = None,
        collateral_grace: Annotated[
            str | None, _option("--collateral-grace", "Accept lists for so long after they expired, as 7d.")
        ] = None,
        allow_debug: Annotated[bool, _option("--allow-debug", "Accept enclaves and TDs in debug mode.")] = False,
        reportdata: Annotated[
            str | None, _option("--reportdata", "REPORTDATA, padded with zeros to 64 bytes.", metavar="HEX")
        ] = None,
        reportdata_file: Annotated[
            Path | None, _option("--reportdata-file", "REPORTDATA is the SHA-256 of this file, then zeros.")
        ] = None,
        mrenclave: Annotated[list[str] | None, _option("--mrenclave", "MRENCLAVE; may be repeated.")] = None,
        mrsigner: Annotated[list[str] | None, _option("--mrsigner", "MRSIGNER; may be repeated.")] = None,
        isvprodid: Annotated[int | None, _option("--isvprodid", "ISVPRODID.")] = None,
        min_isvsvn: Annotated[int | None, _option("--min-isvsvn", "Lowest ISVSVN.")] = None,
        mrtd: Annotated[list[str] | None, _option("--mrtd", "MRTD; may be repeated.")] = None,
        mrseam: Annotated[list[str] | None, _option("--mrseam", "MRSEAM; may be repeated.")] = None,
        rtmr0: Annotated[list[str] | None, _option("--rtmr0", "RTMR0; may be repeated.")] = None,
        rtmr1: Annotated[list[str] | None, _option("--rtmr1", "RTMR1; may be repeated.")] = None,
        rtmr2: Annotated[list[str] | None, _option("--rtmr2", "RTMR2; may be repeated.")] = None,
        rtmr3: Annotated[list[str] | None, _option("--rtmr3", "RTMR3; may be repeated.")] = None,
        tdattributes: Annotated[
            str | None,
            _option("--tdattributes", "TDATTRIBUTES, with a mask if not all bits count.", metavar="HEX[/HEX]"),
        ] = None,
        mrservicetd: Annotated[
            list[str] | None, _option("--mrservicetd", "Service TD that may be bound to the TD; may be repeated.")
        ] = None,
        allow_sept_ve: Annotated[bool, _option("--allow-sept-ve", "Accept TDs without SEPT_VE_DISABLE.")] = False,
    ) -> None:
        """Is this quote genuine, up to date, and from the enclave that is expected?

        Exit code: 0 verified and as expected, 1 refused, 2 cannot tell (collateral is missing), 3 bad input.
        """
        given = {
            "trust_anchor": None if trusted_root is None else str(trusted_root.absolute()),
            "accepted_statuses": ["UpToDate", *accept] if accept else None,
            "accepted_advisories": accept_advisory,
            "minimum_tcb_evaluation_data_number": min_evaluation_number,
            "platform_grace_period": platform_grace,
            "collateral_grace_period": collateral_grace,
            "allow_debug": allow_debug or None,
            "reportdata": reportdata,
            "reportdata_file": None if reportdata_file is None else str(reportdata_file.absolute()),
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "isvprodid": isvprodid,
            "minimum_isvsvn": min_isvsvn,
            "mrtd": mrtd,
            "mrseam": mrseam,
            "rtmr0": rtmr0,
            "rtmr1": rtmr1,
            "rtmr2": rtmr2,
            "rtmr3": rtmr3,
            "tdattributes": tdattributes,
            "mrservicetd": mrservicetd,
            "require_sept_ve_disable": False if allow_sept_ve else None,
        }
        from sgxkit.cli.collateral import chosen_source
        from sgxkit.dcap import Verifier, parse_quote
        from sgxkit.dcap.policy_file import policy_from_settings, read_policy_file

        base = None if policy is None else read_policy_file(policy)
        chosen = policy_from_settings({name: value for name, value in given.items() if value is not None}, base=base)
        moment = None if at is None else parse_moment(at)
        found, count = _find(quote, index)
        parsed = parse_quote(found.data)
        source = chosen_source(
            bundle=collateral,
            pcs=pcs,
            pccs=pccs,
            root_crl=root_crl,
            ca_file=ca_file,
            insecure=insecure,
            offline=offline,
        )
        pieces, problem = _collateral_for(parsed, source)
        verification = Verifier(chosen.policy, trust_anchor=chosen.trust_anchor).examine(parsed, pieces, at=moment)
        unbound = () if quote_only else tuple(binding for binding in found.bindings if not binding.holds)
        raise typer.Exit(_show(_Outcome(verification, chosen.policy, found, count, problem, unbound)))


def parse_moment(text: str) -> datetime:
    """Read a time of the command line; raises InputError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            msg("{text} is not a time with a time zone", text=text), hint=msg("write it as 2026-01-31T12:00:00Z")
        )
    return moment


def _find(path: Path, index: int | None) -> tuple[FoundQuote, int]:
    """Return the quote to judge and how many there are; of several, which one it is must be said."""
    from sgxkit.cli.input import read_input
    from sgxkit.dcap.envelope import MAX_INPUT_SIZE, find_quotes

    found = find_quotes(read_input(path, MAX_INPUT_SIZE))
    if index is None:
        if len(found) > 1:
            raise InputError(
                msg("the input has {count} quotes", count=len(found)), hint=msg("choose one with --index")
            )
        index = 0
    if not 0 <= index < len(found):
        raise InputError(msg("--index {index}: the input has {count} quotes", index=index, count=len(found)))
    return found[index], len(found)


def _collateral_for(quote: Quote, source: CollateralSource) -> tuple[Collateral | None, SgxkitError | None]:
    """Return the collateral, or why there is none: then what can be judged without it still is."""
    from sgxkit.cli.progress import progress
    from sgxkit.dcap.collateral import CollateralError
    from sgxkit.dcap.sources import collateral_for_quote

    try:
        with progress(msg("fetching collateral ...")):
            return collateral_for_quote(quote, source), None
    except CollateralError as error:
        return None, error
    except FormatError:
        # The quote's own certificates cannot be read: the verification says so as its first step.
        return None, None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """All that there is to say: the record, where the quote was, and why there is no collateral if there is none."""

    verification: Verification
    policy: Policy
    found: FoundQuote
    count: int
    problem: SgxkitError | None
    unbound: tuple[Binding, ...]

    @property
    def word(self) -> str:
        from sgxkit.dcap.verification_document import verdict_word

        return "refused" if self.unbound else verdict_word(self.verification)


def _show(outcome: _Outcome) -> int:
    if settings().json:
        output.print_json(_document(outcome))
    else:
        _print(outcome)
    return {"verified": 0, "refused": EXIT_REFUSED, "cannot tell": EXIT_CANNOT_TELL}[outcome.word]


def _document(outcome: _Outcome) -> dict[str, Any]:
    from sgxkit.dcap.inspection_document import binding_document
    from sgxkit.dcap.verification_document import verification_document

    problem = outcome.problem
    return verification_document(outcome.verification) | {
        "verdict": outcome.word,
        "lab": lab_of(outcome.verification.trust_anchor),
        "envelope": {
            "where": outcome.found.where,
            "kind": outcome.found.envelope.value,
            "quotes": outcome.count,
            "bindings": [binding_document(binding) for binding in outcome.found.bindings],
        },
        "collateral_problem": None
        if problem is None
        else {
            "code": problem.code,
            "message": str(problem),
            "hint": None if problem.hint is None else str(problem.hint),
        },
    }


_GLYPHS = {"passed": ("✔", "green"), "failed": ("✘", "red"), "not reached": ("？", "magenta")}
_PLAIN = {"passed": ("yes", ""), "failed": ("no ", ""), "not reached": ("???", "")}

STEP_TITLES = {
    "pck-chain": msg("the PCK certificate leads to the trust anchor"),
    "root-crl": msg("nothing that the root issued is revoked"),
    "pck-crl": msg("the platform is not revoked"),
    "tcb-info": msg("the TCB info is signed and about this platform"),
    "qe-identity": msg("the identity of the quoting enclave is signed and the right one"),
    "freshness": msg("everything was in force at that time"),
    "tdx-module": msg("Intel vouches for the TDX module"),
    "qe-report-signature": msg("the platform signed the report of its quoting enclave"),
    "attestation-key": msg("the quoting enclave made the attestation key"),
    "quoting-enclave": msg("Intel vouches for the quoting enclave"),
    "quote-signature": msg("the attestation key signed the quote"),
    "tcb-level": msg("Intel rates the platform"),
    "policy": msg("the policy is met"),
}


def _print(outcome: _Outcome) -> None:
    """Print what was found, each step, the TCB status, and the verdict."""
    from rich.text import Text

    from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA

    console, say = output.console(), output.say
    verification = outcome.verification
    for line in identity_lines(verification.quote):
        console.print(line)
    if outcome.found.path or outcome.count > 1:
        console.print(say(msg("found in: {where} ({count} in all)", where=outcome.found.where, count=outcome.count)))
    anchor = verification.trust_anchor
    console.print(say(msg("judged as of {at}, under {anchor}", at=_time(verification.at), anchor=anchor.name)))
    if anchor.point != INTEL_SGX_ROOT_CA.point:
        console.print(Text(say(other_root(anchor)), "bold yellow"))
    console.print()

    glyphs = _GLYPHS if output.draws("✔✘？", console) else _PLAIN
    for result in verification.steps:
        mark, color = glyphs[result.verdict.value]
        console.print(Text.assemble("  ", (mark, color), f" {say(STEP_TITLES[result.step.value])}"))
    for binding in outcome.unbound:
        mark, color = glyphs["failed"]
        console.print(Text.assemble("  ", (mark, color), f" {say(_unbound_sentence(binding))}"))
    console.print()

    for sentence in _ratings(verification):
        console.print(say(sentence))
    console.print()
    for sentence, style in _conclusion(outcome):
        console.print(Text(say(sentence), style))


def lab_of(anchor: TrustAnchor) -> str | None:
    """The name of the reader's own lab that the trust anchor is the root of."""
    from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
    from sgxkit.lab.store import lab_of_root

    if anchor.point == INTEL_SGX_ROOT_CA.point:
        return None
    try:
        return lab_of_root(anchor.point)
    except (RuntimeError, SgxkitError):
        return None  # without a home folder there are no labs of one's own


def other_root(anchor: TrustAnchor) -> Message:
    """Say what a root that is not Intel's is."""
    lab = lab_of(anchor)
    if lab is not None:
        return msg("this is an emulated platform of lab {name}: it protects nothing", name=lab)
    return msg("this is not Intel's root: the verdict says nothing about real SGX hardware")


def identity_lines(quote: Quote) -> Iterator[str]:
    """Who was quoted, a line each."""
    from sgxkit.isa.report import ReportBody

    body = quote.body
    if isinstance(body, ReportBody):
        yield f"MRENCLAVE   {body.mrenclave.hex()}"
        yield f"MRSIGNER    {body.mrsigner.hex()}"
        yield f"ISVPRODID   {body.isvprodid}   ISVSVN {body.isvsvn}"
    else:
        yield f"MRTD        {body.mrtd.hex()}"
        for number, rtmr in enumerate(body.rtmrs):
            yield f"RTMR{number}       {rtmr.hex()}"
    yield f"REPORTDATA  {body.reportdata.hex()}"


def _ratings(verification: Verification) -> Iterator[Message]:
    if (tcb := verification.tcb) is not None:
        parts = [f"platform {tcb.platform_status.value}", f"QE {tcb.qe_status.value}"]
        if tcb.tdx_module_status is not None:
            parts.append(f"TDX module {tcb.tdx_module_status.value}")
        if tcb.current_status is not None:
            parts.append(f"launch {tcb.launch_status.value}, now {tcb.current_status.value}")
        yield msg(
            "TCB status  {status} ({parts}), TCB date {date}",
            status=tcb.status.value,
            parts="; ".join(parts),
            date=tcb.tcb_date.date().isoformat(),
        )
        if tcb.advisory_ids:
            yield msg("advisories  {ids}", ids=", ".join(tcb.advisory_ids))
    if (facts := verification.collateral) is not None:
        yield msg(
            "collateral  evaluation data number {number}, in force until {end}",
            number=facts.tcb_evaluation_data_number,
            end=_time(facts.earliest_expiration),
        )


def _conclusion(outcome: _Outcome) -> Iterator[tuple[Message, str]]:
    """The verdict in a line, the reasons, and what to do about the first of them."""
    verification = outcome.verification
    if outcome.word == "verified":
        yield msg("VERIFIED: genuine, in force, and what the policy asks for"), "bold green"
        if not outcome.policy.asks_whose_code:
            yield ANY_CODE, "yellow"
        return
    if outcome.word == "cannot tell":
        error = outcome.problem or verification.error
        if error is not None:
            yield msg("CANNOT TELL: {reason}", reason=error.message), "bold magenta"
            if error.hint is not None:
                yield msg("hint: {hint}", hint=error.hint), ""
        return
    from sgxkit.dcap.errors import CollateralMissingError

    reasons: list[tuple[Message, Message | None]] = [
        (error.message, error.hint) for error in verification.errors if not isinstance(error, CollateralMissingError)
    ]
    reasons += [(_unbound_sentence(binding), _UNBOUND_HINT) for binding in outcome.unbound]
    for number, (reason, hint) in enumerate(reasons):
        if number == 0:
            yield msg("REFUSED: {reason}", reason=reason), "bold red"
        else:
            yield msg("and: {reason}", reason=reason), "red"
        if hint is not None:
            yield msg("hint: {hint}", hint=hint), ""


ANY_CODE = msg(
    "note: nobody asked which code it runs, so any genuine enclave passes; name what you expect: --mrenclave, "
    "--mrsigner, --mrtd, --rtmr0 to --rtmr3, or a policy file"
)
_UNBOUND_HINT = msg(
    "what carries the quote is not what the enclave quoted; to judge the quote alone, whatever carries it, "
    "add --quote-only"
)


def _unbound_sentence(binding: Binding) -> Message:
    if binding.expected is None:
        return msg(
            "the input lacks the {content} that {place} should be compared with",
            content=binding.content,
            place=binding.place,
        )
    return msg("{place} does not bind the {content}", place=binding.place, content=binding.content)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
