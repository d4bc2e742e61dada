"""`sgxkit collateral`: fetch, keep, hand on and look at what quotes are judged by."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.input import read_input
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.cli.tree import Node, lines
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from datetime import datetime

    from sgxkit.dcap.cache import CacheEntry
    from sgxkit.dcap.collateral import Collateral
    from sgxkit.dcap.collateral_summary import CollateralSummary
    from sgxkit.dcap.pcs import Service
    from sgxkit.dcap.quote import Quote
    from sgxkit.dcap.sources import CollateralRequest, CollateralSource
    from sgxkit.dcap.tcb import SvnLevel, TcbLevel
    from sgxkit.dcap.transport import Trust

collateral_app = typer.Typer(
    name="collateral",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Fetch, keep, hand on and look at what quotes are judged by.",
)

STANDARD_STREAM = "-"
WHOLE_CACHE = "cached"


class Tee(StrEnum):
    SGX = "sgx"
    TDX = "tdx"


class Ca(StrEnum):
    PLATFORM = "platform"
    PROCESSOR = "processor"


class Update(StrEnum):
    STANDARD = "standard"
    EARLY = "early"


PcsOption = Annotated[str | None, typer.Option("--pcs", metavar="URL", help="A PCS; Intel's unless said otherwise.")]
PccsOption = Annotated[
    str | None, typer.Option("--pccs", metavar="URL", help="A PCCS, such as https://localhost:8081.")
]
RootCrlOption = Annotated[
    str | None, typer.Option("--root-crl", metavar="URL", help="The root CRL beside a PCS that is not Intel's.")
]
UpdateOption = Annotated[
    Update,
    typer.Option("--update", help="early: as soon as Intel publishes a TCB recovery; standard: when it is due."),
]
NumberOption = Annotated[
    int | None,
    typer.Option("--evaluation-number", metavar="N", min=1, help="One TCB recovery, by evaluation data number."),
]
CacheDirOption = Annotated[
    Path | None, typer.Option("--cache-dir", metavar="DIR", help="The cache's folder.", show_default=False)
]
FmspcOption = Annotated[str | None, typer.Option("--fmspc", metavar="HEX", help="12 hexadecimal digits.")]
CaOption = Annotated[Ca | None, typer.Option("--ca", help="Who issued the platform's PCK certificate.")]
TeeOption = Annotated[Tee | None, typer.Option("--tee", help="What kind of quotes it is for.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(collateral_app)


@command(collateral_app, "fetch")
def fetch(
    *,
    fmspc: FmspcOption = None,
    ca: CaOption = None,
    tee: TeeOption = None,
    quote: Annotated[
        str | None,
        typer.Option("--quote", metavar="FILE", help="Take all three from a quote; - reads standard input."),
    ] = None,
    pcs: PcsOption = None,
    pccs: PccsOption = None,
    root_crl: RootCrlOption = None,
    subscription_key: Annotated[
        str | None,
        typer.Option(
            "--subscription-key",
            envvar="SGXKIT_PCS_SUBSCRIPTION_KEY",
            metavar="KEY",
            help="For PCK certificates of Intel's PCS; better in the environment.",
            show_envvar=True,
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", help="PEM: who may have issued the service's TLS certificate."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Believe any TLS certificate.")] = False,
    update: UpdateOption = Update.STANDARD,
    evaluation_number: NumberOption = None,
    output_file: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a bundle; - writes standard output."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither use nor fill the cache.")] = False,
    cache_dir: CacheDirOption = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for everything.")] = 60.0,
) -> None:
    """Fetch the collateral for a platform, or for a quote, into the cache and a bundle."""
    from dataclasses import replace

    from sgxkit.dcap import sources
    from sgxkit.dcap.cache import cache_folder
    from sgxkit.dcap.collateral_summary import summarize
    from sgxkit.dcap.transport import DEFAULT_PATIENCE, Trust

    service = _service(pcs, pccs, root_crl, Trust(ca_file, insecure), subscription_key)
    if insecure:
        _note(_INSECURE)
    patience = replace(DEFAULT_PATIENCE, total=timeout)
    online = sources.ServiceSource(service, patience, _note)
    folder = cache_dir or cache_folder()
    source: sources.CollateralSource = online if no_cache else sources.CachedSource(folder, online, note=_note)
    if quote is not None:
        if fmspc is not None or ca is not None or tee is not None:
            raise InputError(msg("--quote and --fmspc, --ca, --tee exclude each other"))
        parsed = _read_quote(quote)
        with progress(msg("asking {service}", service=service)):
            collateral = sources.collateral_for_quote(
                parsed, source, update=update.value, tcb_evaluation_data_number=evaluation_number
            )
    else:
        request = _request(fmspc, ca, tee, update, evaluation_number)
        with progress(msg("asking {service}", service=service)):
            collateral = source.collateral(request)
    written = _write(output_file, collateral)
    if written == STANDARD_STREAM:
        return
    _print_done(
        summarize(collateral), {"service": str(service), "cache": None if no_cache else str(folder), "file": written}
    )


@command(collateral_app, "export")
def export(
    *,
    fmspc: FmspcOption = None,
    ca: CaOption = None,
    tee: TeeOption = None,
    update: Annotated[Update | None, typer.Option("--update", help="Of this update only.")] = None,
    evaluation_number: NumberOption = None,
    output_file: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")
    ] = STANDARD_STREAM,
    cache_dir: CacheDirOption = None,
) -> None:
    """Write one set of collateral from the cache to a bundle."""
    from sgxkit.dcap.cache import cache_folder, find
    from sgxkit.dcap.collateral_summary import summarize
    from sgxkit.dcap.pcs import parse_fmspc
    from sgxkit.dcap.sources import NotCachedError

    if update is not None and evaluation_number is not None:
        raise InputError(msg("an evaluation number and an update exclude each other"))
    folder = cache_dir or cache_folder()
    found = find(
        folder,
        _note,
        tee=None if tee is None else tee.value,
        fmspc=None if fmspc is None else parse_fmspc(fmspc).hex(),
        ca=None if ca is None else ca.value,
        choice=update.value if update is not None else None if evaluation_number is None else str(evaluation_number),
    )
    if not found:
        raise NotCachedError(
            msg("the cache {path} has no such collateral", path=folder),
            hint=msg("`sgxkit collateral show cached` lists what it has"),
        )
    if len(found) > 1:
        raise InputError(
            msg("{count} sets of collateral in the cache fit", count=len(found)),
            hint=msg("choose one by --fmspc, --ca, --tee, --update; `sgxkit collateral show cached` lists them"),
        )
    (entry,) = found
    if not entry.is_fresh(_now()):
        _note(_ended(entry))
    if _write(output_file, entry.collateral) != STANDARD_STREAM:
        _print_done(
            summarize(entry.collateral), {"service": entry.key.source, "cache": str(folder), "file": output_file}
        )


@command(collateral_app, "import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle of any shape; - reads standard input.")],
    *,
    pcs: PcsOption = None,
    pccs: PccsOption = None,
    update: UpdateOption = Update.STANDARD,
    cache_dir: CacheDirOption = None,
) -> None:
    """Put a bundle into the cache, as if the service named had answered it."""
    from sgxkit.dcap.cache import cache_folder
    from sgxkit.dcap.checked import check_collateral
    from sgxkit.dcap.sources import import_collateral
    from sgxkit.dcap.transport import PUBLIC_AUTHORITIES
    from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA

    service = _service(pcs, pccs, None, PUBLIC_AUTHORITIES, None)
    folder = cache_dir or cache_folder()
    entry = import_collateral(folder, _read_bundle(file), service, update=update.value)
    for error in list(check_collateral(entry.collateral, INTEL_SGX_ROOT_CA).failures.values())[:1]:
        _note(msg("warning: under Intel's root, every quote judged by it is refused: {reason}", reason=error.message))
    if not entry.is_fresh(_now()):
        _note(_ended(entry))
    _print_done(entry.summary, {"service": str(service), "cache": str(folder), "file": None})


@command(collateral_app, "show")
def show(
    what: Annotated[
        str, typer.Argument(metavar="FILE|cached", help="A bundle (- reads standard input), or all of the cache.")
    ],
    *,
    cache_dir: CacheDirOption = None,
) -> None:
    """Show what collateral says of itself. Nothing of it is verified."""
    from sgxkit.dcap.cache import cache_folder, entries
    from sgxkit.dcap.collateral_summary import summarize, summary_json

    if what == WHOLE_CACHE:
        folder = cache_dir or cache_folder()
        _show_cache(folder, entries(folder, _note))
        return
    summary = summarize(_read_bundle(what))
    if settings().json:
        output.print_json(summary_json(summary))
        return
    _print(_tree(summary, _now()))


def chosen_source(
    *,
    bundle: Path | None,
    pcs: str | None,
    pccs: str | None,
    root_crl: str | None,
    ca_file: Path | None,
    insecure: bool,
    offline: bool,
) -> CollateralSource:
    """Return the source that the options of a command name: a bundle, or the cache before a service."""
    from sgxkit.dcap.cache import cache_folder
    from sgxkit.dcap.collateral import read_bundle
    from sgxkit.dcap.sources import BundleSource, CachedSource, ServiceSource
    from sgxkit.dcap.transport import Trust

    if bundle is not None:
        if pcs is not None or pccs is not None:
            raise InputError(msg("--collateral and --pcs, --pccs exclude each other: a bundle is all that is used"))
        return BundleSource(read_bundle(bundle))
    service = _service(pcs, pccs, root_crl, Trust(ca_file, insecure), None)
    if insecure and not offline:
        _note(_INSECURE)
    return CachedSource(cache_folder(), ServiceSource(service, note=_note), offline=offline, note=_note)


_INSECURE = msg("warning: any TLS certificate is believed; who answers may be an impostor")


def _now() -> datetime:
    from sgxkit.dcap.sources import utc_now

    return utc_now()


def _note(message: Message) -> None:
    # A name out of a certificate must not steer the terminal.
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in output.say(message))
    output.console(stderr=True).print(text, markup=False)


def _ended(entry: CacheEntry) -> Message:
    ended = entry.summary.first_to_end
    return msg(
        "warning: no longer in force since {date} ({piece})", date=ended.end.date().isoformat(), piece=ended.name
    )


def _service(
    pcs_url: str | None, pccs_url: str | None, root_crl: str | None, trust: Trust, subscription_key: str | None
) -> Service:
    from sgxkit.dcap import pcs

    if pcs_url is not None and pccs_url is not None:
        raise InputError(msg("--pcs and --pccs exclude each other"))
    if pccs_url is not None:
        if root_crl is not None:
            raise InputError(msg("a PCCS serves the root CRL itself; --root-crl goes with --pcs"))
        return pcs.pccs(pccs_url, trust=trust)
    return pcs.pcs(
        pcs_url or pcs.INTEL_PCS,
        root_crl_url=root_crl,
        trust=trust,
        subscription_key=subscription_key,
    )


def _request(
    fmspc: str | None, ca: Ca | None, tee: Tee | None, update: Update, number: int | None
) -> CollateralRequest:
    from sgxkit.dcap.chains import PckCa
    from sgxkit.dcap.pcs import parse_fmspc
    from sgxkit.dcap.quote import TeeType
    from sgxkit.dcap.sources import CollateralRequest

    if fmspc is None or ca is None:
        raise InputError(
            msg("--fmspc and --ca are needed, or --quote"),
            hint=msg("`sgxkit quote inspect QUOTE` shows a quote's FMSPC and who certified its platform"),
        )
    return CollateralRequest(
        TeeType[(tee or Tee.SGX).name], parse_fmspc(fmspc), PckCa(ca.value), update.value, number
    )


def _read_bundle(name: str) -> Collateral:
    from sgxkit.dcap.collateral import MAX_BUNDLE, parse_bundle

    return parse_bundle(read_input(Path(name), MAX_BUNDLE))


def _read_quote(name: str) -> Quote:
    from sgxkit.dcap.envelope import MAX_INPUT_SIZE, find_quotes
    from sgxkit.dcap.quote import parse_quote

    found = find_quotes(read_input(Path(name), MAX_INPUT_SIZE))
    if len(found) > 1:
        _note(msg("{count} quotes found; the collateral is for the first", count=len(found)))
    return parse_quote(found[0].data)


def _write(name: str | None, collateral: Collateral) -> str | None:
    from sgxkit.dcap.collateral import export_bundle, write_bundle

    if name == STANDARD_STREAM:
        sys.stdout.write(export_bundle(collateral))
    elif name is not None:
        write_bundle(Path(name), collateral)
    return name


def _print_done(summary: CollateralSummary, where: dict[str, str | None]) -> None:
    """Say in short what is there now, and where; the whole is for `show`."""
    from sgxkit.dcap.collateral_summary import summary_json

    if settings().json:
        output.print_json({**where, "collateral": summary_json(summary)})
        return
    root = Node(_title(summary))
    root.add(msg("from"), where["service"])
    root.add(*_end(summary, _now()))
    if where["cache"] is not None:
        root.add(msg("in the cache"), where["cache"])
    if where["file"] is not None:
        root.add(msg("written to"), where["file"])
    _print(root)


def _print(tree: Node) -> None:
    console = output.console()
    for line in lines(tree, console.encoding):
        console.print(line)


def _title(summary: CollateralSummary) -> Message:
    info = summary.tcb_info
    return msg(
        "{tee} collateral for FMSPC {fmspc}, {ca} CA, evaluation number {number} (not verified)",
        tee=info.tee_type.name,
        fmspc=info.fmspc.hex(),
        ca=summary.ca or "?",
        number=info.tcb_evaluation_data_number,
    )


def _end(summary: CollateralSummary, now: datetime) -> tuple[Message, str, str, str]:
    """Say when the collateral as a whole ends: label, value, style and the piece that ends first."""
    last = summary.first_to_end
    return msg("in force until"), _time(last.end), "green" if now < last.end else "red", last.name


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ")


def _show_cache(folder: Path, found: tuple[CacheEntry, ...]) -> None:
    from sgxkit.dcap.collateral_summary import summary_json

    now = _now()
    if settings().json:
        output.print_json(
            [
                {
                    "service": entry.key.source,
                    "choice": entry.key.choice,
                    "file": str(entry.path),
                    "in_force": entry.is_fresh(now),
                    "collateral": summary_json(entry.summary),
                }
                for entry in found
            ]
        )
        return
    root = Node(msg("the cache"), str(folder))
    for entry in found:
        node = root.add(_title(entry.summary))
        node.add(msg("from"), entry.key.source, note=entry.key.choice)
        node.add(*_end(entry.summary, now))
    if not found:
        root.add(msg("empty"))
    _print(root)


_STYLES = {"UpToDate": "green", "Revoked": "red", "OutOfDate": "red", "OutOfDateConfigurationNeeded": "red"}


def _tree(summary: CollateralSummary, now: datetime) -> Node:
    from sgxkit.dcap.collateral_summary import level_text

    info, identity = summary.tcb_info, summary.qe_identity

    def period(begin: datetime, end: datetime) -> tuple[str, str]:
        return f"{_time(begin)} - {_time(end)}", "green" if begin <= now < end else "red"

    root = Node(_title(summary))
    root.add(*_end(summary, now))
    node = root.add(
        msg("TCB info, version {version}", version=info.version), *period(info.issue_date, info.next_update)
    )
    for level in info.levels:
        _add_level(node, level, level_text(level))
    for module in info.tdx_module_identities:
        _add_svn_levels(node.add(msg("TDX module {id}", id=module.id)), module.levels)
    node = root.add(
        msg("identity {id}, evaluation number {number}", id=identity.id, number=identity.tcb_evaluation_data_number),
        *period(identity.issue_date, identity.next_update),
    )
    _add_svn_levels(node, identity.levels)
    for name, crl in (("root_ca_crl", summary.root_ca_crl), ("pck_crl", summary.pck_crl)):
        root.add(
            msg("{name}, {count} revoked", name=name, count=len(crl.entries)),
            *period(crl.this_update, crl.next_update),
        )
    for name, chain in summary.chains.items():
        node = root.add(name)
        for certificate in chain:
            node.add(certificate.common_name, *period(certificate.not_before, certificate.not_after))
    return root


def _add_svn_levels(node: Node, levels: tuple[SvnLevel, ...]) -> None:
    for level in levels:
        _add_level(node, level, f"ISVSVN {level.isvsvn}")


def _add_level(node: Node, level: TcbLevel | SvnLevel, versions: str) -> None:
    status = str(level.status)
    node.add(
        f"{versions}  {level.tcb_date.date().isoformat()}",
        status,
        _STYLES.get(status, "yellow"),
        note=", ".join(level.advisory_ids),
    )
