"""`sgxkit diagnose`: what do these logs say of a host's SGX?"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import PATIENCE_SECONDS
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from sgxkit.host.catalogue.entry import Entry
    from sgxkit.host.diagnose import Explanation, LogDiagnosis
    from sgxkit.host.facts import Facts
    from sgxkit.host.log_source import LogSource

STANDARD_INPUT = "-"


class _LogsUnlessNamed(TyperGroup):
    """A group whose first word is a file unless it is a command of it: `diagnose FILE` is `diagnose logs FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["logs", *args]
        return super().parse_args(ctx, args)


diagnose_app = typer.Typer(
    name="diagnose",
    cls=_LogsUnlessNamed,
    rich_markup_mode=None,
    help="Explain what logs say of SGX: `sgxkit diagnose FILE...` is short for `sgxkit diagnose logs FILE...`.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(diagnose_app)


@command(diagnose_app, "logs")
def logs(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Logs, also compressed with gzip; a support bundle; - for standard input. None: this host's own.",
        ),
    ] = None,
    *,
    journal: Annotated[bool, typer.Option("--journal", help="Read the journal of AESM and its like.")] = False,
    dmesg: Annotated[bool, typer.Option("--dmesg", help="Read the kernel's log.")] = False,
    facts: Annotated[
        Path | None,
        typer.Option(
            "--facts", metavar="FILE", help="Join the logs with captured facts of their host (`doctor --export`)."
        ),
    ] = None,
    this_host: Annotated[
        bool, typer.Option("--this-host", help="The files are of this host: join them with its facts.")
    ] = False,
    no_network: Annotated[
        bool, typer.Option("--no-network", help="Do not ask the PCCS or the cluster while reading this host's facts.")
    ] = False,
) -> None:
    """Explain what logs say of SGX: causes first, with the lines, and what to do.

    Without FILE, and with --journal or --dmesg, the logs are this host's, and its facts are read too.

    Exit code: 0 something wrong was recognised, 1 nothing was, 2 the same but a log could not be read, 3 wrong use.
    """
    if str(facts) == STANDARD_INPUT and Path(STANDARD_INPUT) in (files or ()):
        raise InputError(msg("logs and facts cannot both come from standard input"))
    if facts is not None and this_host:
        raise InputError(msg("{first} and {second} name two hosts", first="--facts", second="--this-host"))
    named = [str(path) for path in files or ()]
    if len(set(named)) < len(named):
        raise InputError(msg("a log is named twice"))
    own = not named and not journal and not dmesg and facts is None
    if own and _input_is_given():
        named, own = [STANDARD_INPUT], False
    _run(
        named,
        journal=journal or own,
        dmesg=dmesg or own,
        facts_file=facts,
        this_host=this_host or ((own or journal or dmesg) and facts is None),
        network=not no_network,
    )


def _input_is_given() -> bool:
    """Whether somebody pipes or redirects something into this command."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _run(
    named: Sequence[str], *, journal: bool, dmesg: bool, facts_file: Path | None, this_host: bool, network: bool
) -> None:
    from sgxkit.cli.input import read_input
    from sgxkit.host.catalogue.shelf import load_catalogue
    from sgxkit.host.collect import collect_facts, load_facts
    from sgxkit.host.diagnose import diagnose_logs, document, logs_in_facts
    from sgxkit.host.facts import MAX_DOCUMENT
    from sgxkit.host.log_source import FileLog, StreamLog, journal_of_aesm, kernel_log
    from sgxkit.host.support_bundle import bundle_in, facts_of, logs_of

    entries = load_catalogue()
    sources: list[LogSource] = []
    host: Facts | None = None
    for name in named:
        if name == STANDARD_INPUT:
            sources.append(StreamLog(name, sys.stdin.buffer))
        elif (bundle := bundle_in(Path(name))) is None:
            sources.append(FileLog(Path(name)))
        elif host is not None or facts_file is not None or this_host:
            raise InputError(msg("{bundle} brings facts of its own, and there are others", bundle=name))
        else:
            host = facts_of(bundle)
            sources += logs_of(bundle, name)
    if journal:
        sources.append(journal_of_aesm())
    if dmesg:
        sources.append(kernel_log())
    with _progress(sources) as advance:
        if facts_file is not None:
            host = load_facts(
                read_input(facts_file, MAX_DOCUMENT) if str(facts_file) == STANDARD_INPUT else facts_file
            )
            sources += logs_in_facts(host, str(facts_file))
        elif this_host:
            host = collect_facts(network=network)
        diagnosis = diagnose_logs(entries, sources, host, advance)
    if settings().json:
        output.print_json(document(diagnosis, version=__version__))
    else:
        _print(diagnosis)
    raise typer.Exit(diagnosis.result.value)


@contextmanager
def _progress(sources: Sequence[LogSource]) -> Iterator[Callable[[LogSource, int], None]]:
    """Show how far reading has come, once it has taken half a second and a person watches."""
    if not sys.stderr.isatty():
        yield lambda _log, _size: None
        return
    import time

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    sizes = [log.size for log in sources]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    begin = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=output.console(stderr=True),
        transient=True,
    )
    task = bar.add_task(output.say(msg("Reading logs ...")), total=total)

    def advance(_log: LogSource, size: int) -> None:
        bar.advance(task, size)
        if not bar.live.is_started and time.monotonic() - begin > PATIENCE_SECONDS:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


def _print(diagnosis: LogDiagnosis) -> None:
    from rich.text import Text

    from sgxkit.host.catalogue.entry import Severity
    from sgxkit.host.diagnose import Result

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # evidence is not lost for a character that the terminal lacks
    console = output.console()
    for log in diagnosis.logs:
        console.print(Text(output.say(_read(log.source, log.lines, log.recognised)), style="dim"))
    for unread in diagnosis.unread:
        console.print(
            Text(
                output.say(msg("{log}: not read: {reason}", log=unread.name, reason=unread.reason.message)), "yellow"
            )
        )
    harmless = [known for known in diagnosis.explanations if known.entry.severity is Severity.HARMLESS]
    numbers = {
        known.entry.id: number
        for number, known in enumerate((known for known in diagnosis.explanations if known not in harmless), 1)
    }
    for known in diagnosis.explanations:
        if known not in harmless:
            console.print()
            _print_explanation(console, known, numbers)
    if harmless:
        console.print()
        console.print(Text(output.say(msg("Harmless")), "bold"))
    for known in harmless:
        texts = known.entry.texts(settings().language)
        console.print(Text(output.printable(f"  - {texts.title} ({known.entry.id})")))
        _print_evidence(console, known)
    console.print()
    conclusions = {
        Result.RECOGNISED: msg("{count} explanations; begin with the first.", count=len(numbers)),
        Result.NOTHING: msg("Nothing that the catalogue knows as a fault was recognised. That proves no health."),
        Result.COULD_NOT_TELL: msg("Nothing was recognised as a fault, but not every log could be read."),
    }
    if len(numbers) == 1:
        conclusions[Result.RECOGNISED] = msg("1 explanation.")
    console.print(Text(output.say(conclusions[diagnosis.result]), "bold"))


def _read(log: str, lines: int, recognised: int) -> Message:
    return msg("{log}: {lines} lines, {recognised} recognised", log=log, lines=lines, recognised=recognised)


def _print_explanation(console: Console, known: Explanation, numbers: dict[str, int]) -> None:
    from rich.text import Text

    from sgxkit.host.catalogue.entry import Severity
    from sgxkit.host.diagnose import Standing, condition_text

    entry, language = known.entry, settings().language
    texts = entry.texts(language)
    colour = "red" if entry.severity is Severity.FAULT else "yellow"
    title = Text.assemble(
        (output.printable(f"{numbers[entry.id]}. {texts.title}"), f"bold {colour}"), f"  ({entry.id})"
    )
    standings = {
        Standing.CONFIRMED: msg("the facts of the host confirm it"),
        Standing.CONTRADICTED: msg("the facts of the host speak against it: the lines may be older than its repair"),
    }
    if known.standing in standings:
        title.append(f"  {output.say(standings[known.standing])}", "dim")
    console.print(title)
    earlier = [str(numbers[name]) for name in known.follows if name in numbers]
    if earlier:
        console.print(
            Text("   " + output.say(msg("This may only follow from {numbers}.", numbers=", ".join(earlier))), "dim")
        )
    _print_evidence(console, known)
    for ground in known.grounds:
        word = msg("for it") if ground.supports else msg("against it")
        cause = "" if ground.cause is None else f": {output.say(ground.cause)}"
        line = f"     {output.say(word)}: {condition_text(ground.condition)}{cause}"
        console.print(Text(output.printable(line), "dim"))
    for label, text in (
        (msg("Cause:"), texts.cause),
        (msg("Look for:"), texts.look_for),
        (msg("Do:"), texts.fix),
    ):
        console.print(Text.assemble(("   " + output.say(label) + " ", "bold"), output.printable(text)))
    for line in entry.commands:
        console.print(Text(output.printable(f"        {line}"), "cyan"))


def _print_evidence(console: Console, known: Explanation) -> None:
    from rich.text import Text

    for line in known.finding.lines:
        console.print(Text(output.printable(f"     {line.source}:{line.number}: {line.text}"), "dim"))
    more = known.finding.count - len(known.finding.lines)
    if not known.finding.complete:
        console.print(Text("     " + output.say(msg("and over {count} lines more", count=more)), "dim"))
    elif more:
        console.print(Text("     " + output.say(msg("and {count} lines more", count=more)), "dim"))


@command(diagnose_app, "list")
def list_entries() -> None:
    """List what can be recognised."""
    from rich.text import Text

    from sgxkit.host.catalogue.entry import STAGES
    from sgxkit.host.catalogue.shelf import load_catalogue

    entries = sorted(load_catalogue(), key=lambda entry: (STAGES.index(entry.stage), entry.id))
    if settings().json:
        output.print_json(
            {
                "entries": [
                    {
                        "id": entry.id,
                        "severity": entry.severity.value,
                        "stage": entry.stage,
                        "title": entry.english.title,
                        "origin": entry.origin,
                    }
                    for entry in entries
                ]
            }
        )
        return
    console = output.console()
    width = max(len(entry.id) for entry in entries)
    for entry in entries:
        title = entry.texts(settings().language).title
        console.print(Text(output.printable(f"{entry.id:<{width}}  {entry.severity.value:<8}  {title}")))


@command(diagnose_app, "show")
def show(name: Annotated[str, typer.Argument(metavar="ID", help="Of `sgxkit diagnose list`.")]) -> None:
    """Show an entry of the catalogue.

    Exit code: 0 shown, 3 there is none of that id.
    """
    from sgxkit.host.catalogue.shelf import load_catalogue
    from sgxkit.host.diagnose import entry_document

    entries = {entry.id: entry for entry in load_catalogue()}
    if name not in entries:
        from difflib import get_close_matches

        near = get_close_matches(name, entries, n=1) or ["aesm.error-30"]
        raise InputError(
            msg("there is no entry {name} in the catalogue", name=name),
            hint=msg("`sgxkit diagnose list` lists all, such as {near}", near=near[0]),
        )
    if settings().json:
        output.print_json(entry_document(entries[name]))
        return
    _print_entry(entries[name])


def _print_entry(entry: Entry) -> None:
    from rich.text import Text

    from sgxkit.host.diagnose import condition_text

    console = output.console()
    texts = entry.texts(settings().language)
    console.print(Text(output.printable(texts.title), "bold"))
    rows: list[tuple[Message, Sequence[str]]] = [
        (msg("Id:"), (f"{entry.id} ({entry.severity.value}, {entry.stage})",)),
        (msg("Recognised by:"), tuple(pattern.text for pattern in entry.patterns)),
        (msg("Cause:"), (texts.cause,)),
        (msg("Look for:"), (texts.look_for,)),
        (msg("Do:"), (texts.fix, *entry.commands)),
        (msg("Follows from:"), entry.consequence_of),
        (msg("For it:"), tuple(map(condition_text, entry.raised_by))),
        (msg("Against it:"), tuple(map(condition_text, entry.lowered_by))),
        (msg("Known from:"), entry.sources),
        (msg("Stands in:"), (entry.origin,)),
    ]
    for label, lines in rows:
        for position, line in enumerate(lines):
            if position == 0:
                console.print(Text.assemble((output.say(label) + " ", "bold"), output.printable(line)))
            else:
                console.print(Text("    " + output.printable(line)))


@command(diagnose_app, "lint")
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of the catalogue (TOML).")],
) -> None:
    """Check files of the catalogue: their form, their signatures, and that each recognises its examples.

    Exit code: 0 sound, 1 not, 3 a file cannot be read.
    """
    from sgxkit.host.catalogue.reader import read_file
    from sgxkit.host.catalogue.shelf import read_bytes

    readings = [(path, read_file(read_bytes(path), str(path))) for path in files]
    problems = [problem for _, reading in readings for problem in reading.problems]
    if settings().json:
        output.print_json(
            {
                "entries": sum(len(reading.entries) for _, reading in readings),
                "problems": [
                    {"file": problem.file, "line": problem.line, "key": problem.key, "problem": str(problem.text)}
                    for problem in problems
                ],
            }
        )
    else:
        console = output.console()
        for problem in problems:
            console.print(output.say(problem.message), markup=False)
        for path, reading in readings:
            if not reading.problems:
                count = len(reading.entries)
                console.print(output.say(msg("{file}: {count} entries, sound", file=path, count=count)), markup=False)
    raise typer.Exit(1 if problems else 0)
