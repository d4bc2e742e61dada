"""`sgxkit doctor`: is this host ready for SGX, and if not, what is missing?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.fleet import (
    AskSshOption,
    AskSudoOption,
    FleetOptions,
    HostsOption,
    ParallelOption,
    ReportOption,
    SerialOption,
    run_on_hosts,
)
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from sgxkit.host.checks.check import Verdict
    from sgxkit.host.facts import Facts
    from sgxkit.host.remedies.remedy import Remedy
    from sgxkit.host.report import Diagnosis, Finding, Kind
    from sgxkit.host.tree import Line

ProfileName = Literal["run", "attest", "oasis-node", "gramine", "kubernetes-node", "vm-host"]

_GLYPHS = {
    "supported": "✔",
    "unsupported": "✘",
    "fatal": "✘",
    "unknown": "？",
    "not-reached": "–",
    "not-applicable": "–",
}
_PLAIN = {
    "supported": "yes",
    "unsupported": "no ",
    "fatal": "no ",
    "unknown": "???",
    "not-reached": "-  ",
    "not-applicable": "-  ",
}
_STYLES = {
    "supported": "green",
    "unsupported": "yellow",
    "fatal": "red",
    "unknown": "magenta",
    "not-reached": "dim",
    "not-applicable": "dim",
}
TO_STANDARD_OUTPUT = "-"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "doctor")
    def doctor(
        *,
        profile: Annotated[
            ProfileName, typer.Option("--for", help="What the host is wanted for; decides the verdict and exit code.")
        ] = "run",
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every check with its evidence.")] = False,
        html: Annotated[
            Path | None, typer.Option("--html", metavar="FILE", help="Also write the diagnosis as one HTML page.")
        ] = None,
        export: Annotated[
            str | None,
            typer.Option(
                "--export",
                metavar="FACTS.json",
                help="Also write the facts, to be judged elsewhere; - for standard output.",
            ),
        ] = None,
        facts: Annotated[
            Path | None,
            typer.Option(
                "--facts",
                metavar="FILE",
                help="Judge captured facts (our JSON, sgx-detect's YAML, a support bundle, - stdin), not this host.",
            ),
        ] = None,
        timeout: Annotated[
            float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=600.0, help="Time limit for reading.")
        ] = 5.0,
        no_network: Annotated[bool, typer.Option("--no-network", help="Do not ask the PCCS or the cluster.")] = False,
        hosts: HostsOption = None,
        parallel: ParallelOption = 20,
        serial: SerialOption = 0,
        report: ReportOption = None,
        ask_sudo_password: AskSudoOption = False,
        ask_ssh_password: AskSshOption = False,
    ) -> None:
        """Is this host ready for SGX? What exactly is missing?

        Exit code: 0 ready, 1 not ready, 2 could not tell, 3 wrong use.
        """
        if hosts is not None:
            if verbose or html is not None or export is not None or facts is not None:
                raise InputError(msg("--hosts cannot be combined with --verbose, --html, --export or --facts"))
            chosen = FleetOptions(hosts, parallel, serial, report, ask_sudo_password, ask_ssh_password)
            run_on_hosts("doctor", profile, None, chosen, timeout=timeout, network=not no_network)
        _run(
            profile,
            verbose=verbose,
            html=html,
            export=export,
            source=facts,
            timeout=timeout,
            network=not no_network,
        )


def _run(
    profile: str,
    *,
    verbose: bool,
    html: Path | None,
    export: str | None,
    source: Path | None,
    timeout: float,
    network: bool,
) -> None:
    from sgxkit.cli.input import read_input
    from sgxkit.cli.progress import progress
    from sgxkit.host.collect import collect_facts, load_facts
    from sgxkit.host.facts import MAX_DOCUMENT
    from sgxkit.host.launch_test import with_launch_test
    from sgxkit.host.profiles import PROFILES
    from sgxkit.host.report import diagnose, document

    if export == TO_STANDARD_OUTPUT and settings().json:
        raise InputError(msg("--json and --export - both write to standard output"))
    if export is not None and html is not None and Path(export) == html:
        raise InputError(msg("{first} and {second} name the same file", first="--export", second="--html"))
    if str(source) == TO_STANDARD_OUTPUT:
        facts = load_facts(read_input(Path(TO_STANDARD_OUTPUT), MAX_DOCUMENT))
    elif source is not None:
        facts = load_facts(source)
    else:
        with progress(msg("Reading this host ...")):
            facts = with_launch_test(collect_facts(timeout, network), timeout)
    diagnosis = diagnose(facts, PROFILES[profile])
    _write_files(diagnosis, html, export)
    if settings().json:
        output.print_json(document(diagnosis, version=__version__))
    else:
        _Printer(diagnosis, verbose=verbose, stderr=export == TO_STANDARD_OUTPUT).print(source)
    raise typer.Exit(diagnosis.readiness.value)


def _write_files(diagnosis: Diagnosis, html: Path | None, export: str | None) -> None:
    from sgxkit.host.output_file import write_whole

    if export is not None:
        text = json.dumps(diagnosis.facts.to_json(), indent=1) + "\n"
        if export == TO_STANDARD_OUTPUT:
            sys.stdout.write(text)
        else:
            write_whole(Path(export), text)
    if html is not None:
        from sgxkit.host.html import page

        write_whole(html, page(diagnosis, version=__version__, language=settings().language))


def captured(source: Path, facts: Facts) -> Message:
    """Say where and when captured facts come from."""
    from sgxkit.host.checks.evidence import known
    from sgxkit.host.report import captured_at

    time = captured_at(facts)
    return msg(
        "judged from {file}, captured on {host} at {time} by {producer}",
        file=source,
        host=known(facts.system.hostname) or msg("an unnamed host"),
        time=msg("an unrecorded time") if time is None else time.isoformat(" ", "seconds"),
        producer=facts.source.producer,
    )


def print_causes(diagnosis: Diagnosis) -> None:
    """Print what is missing, or could not be told, with the remedies."""
    from sgxkit.host.report import Kind

    printer = _Printer(diagnosis, verbose=False, stderr=False)
    for kind in (Kind.MISSING, Kind.UNKNOWN):
        if diagnosis.of_kind(kind):
            printer.findings(kind)
            printer.console.print()


class _Printer:
    """Prints one diagnosis for people."""

    def __init__(self, diagnosis: Diagnosis, *, verbose: bool, stderr: bool) -> None:
        self.diagnosis = diagnosis
        self.verbose = verbose
        stream = sys.stderr if stderr else sys.stdout
        # A terminal that cannot show a character shows a replacement; a diagnosis is not lost for it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        self.console: Console = output.console(stderr=stderr)
        plain = not stream.isatty() or not settings().color or bool(os.environ.get("NO_COLOR"))
        self.glyphs = _PLAIN if plain or not _can_show("".join(_GLYPHS.values()), stream.encoding) else _GLYPHS

    def print(self, source: Path | None) -> None:
        from sgxkit.host.report import Kind
        from sgxkit.host.tree import lines
        from sgxkit.host.wording import conclusion

        if source is not None:
            self.console.print(self.plain(output.say(captured(source, self.diagnosis.facts)), "dim"))
        self.console.print(self.plain(self.headline(), "bold"))
        for line in lines(self.diagnosis, verbose=self.verbose):
            self.console.print(self.line(line))
            if self.verbose and line.check is not None:
                self.grounds(line.depth, self.diagnosis.verdicts[line.check])
        for kind in Kind:
            if self.diagnosis.of_kind(kind):
                self.console.print()
                self.findings(kind)
        self.console.print()
        style = {0: "bold green", 1: "bold red", 2: "bold magenta"}[self.diagnosis.readiness.value]
        self.console.print(self.plain(output.say(conclusion(self.diagnosis)), style))

    def findings(self, kind: Kind) -> None:
        from sgxkit.host.wording import HEADINGS

        self.console.print(self.plain(output.say(HEADINGS[kind]), "bold"))
        for number, finding in enumerate(self.diagnosis.of_kind(kind), 1):
            self.finding(number, finding)

    def headline(self) -> str:
        summary = self.diagnosis.summary
        parts = (summary.host, summary.operating_system, summary.kernel, summary.processor)
        return ", ".join(printable(part) for part in parts if part)

    def plain(self, text: str, style: str = "") -> Text:
        from rich.text import Text

        return Text(printable(text), style=style)

    def line(self, line: Line) -> Text:
        from rich.text import Text

        text = Text("  " * line.depth)
        if line.folded:
            titles = "; ".join(output.say(title) for title in line.folded)
            text.append(f"{self.glyphs['not-reached']} ", "dim")
            return text.append(output.say(msg("not reached: {titles}", titles=titles)), "dim")
        for position, entry in enumerate(line.entries):
            text.append("  " if position else "").append(f"{self.glyphs[entry.mark]} ", _STYLES[entry.mark])
            text.append(output.say(entry.title))
            if entry.detail:
                detail = entry.detail if isinstance(entry.detail, str) else output.say(entry.detail)
                text.append(f" ({printable(detail)})", "dim")
        if line.note is not None:
            text.append(f"  {output.say(line.note)}", "dim")
        return text

    def grounds(self, depth: int, verdict: Verdict) -> None:
        indent = "  " * depth + "    "
        if verdict.cause is not None:
            self.console.print(self.plain(indent + output.say(verdict.cause), "dim"))
        for evidence in verdict.evidence:
            self.console.print(self.plain(f"{indent}{evidence.fact} = {evidence.value}", "dim"))

    def finding(self, number: int, finding: Finding) -> None:
        cause = finding.verdict.cause
        self.console.print(self.plain(f"{number}. {'' if cause is None else output.say(cause)}"))
        for evidence in finding.verdict.evidence:
            self.console.print(self.plain(f"     {evidence.fact} = {evidence.value}", "dim"))
        for letter, remedy in zip("abcdefgh", finding.verdict.remedies, strict=False):
            for text in self.remedy(letter, remedy):
                self.console.print(text)

    def remedy(self, letter: str, remedy: Remedy) -> Iterator[Text]:
        from sgxkit.host.wording import title_of

        yield self.plain(f"   {letter}) {output.say(title_of(remedy))}")
        for command_line in remedy.commands:
            for part in command_line.splitlines():
                yield self.plain(f"        {part}", "cyan")
        if remedy.link is not None:
            yield self.plain(f"        {remedy.link}", "dim")


def printable(text: str) -> str:
    """Show control characters of facts as escapes, so that a host cannot steer the reader's terminal."""
    return "".join(
        character if character.isprintable() or character == " " else character.encode("unicode_escape").decode()
        for character in text
    )


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
