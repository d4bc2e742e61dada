"""`sgxkit gramine run|bench`: a program in Gramine, on SGX or without, and what that costs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.gramine_build import GramineOption
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.gramine.comparison import Measured
    from sgxkit.gramine.running import Place

AppArgument = Annotated[Path, typer.Argument(help="The program, as for gramine-sgx: its folder and name.")]
DirectOption = Annotated[bool, typer.Option("--direct", help="Without SGX: gramine-direct.")]
EmulatedOption = Annotated[
    bool, typer.Option("--emulated", help="On a lab's emulated machine, also where there is SGX.")
]
LabOption = Annotated[
    str, typer.Option("--lab", metavar="NAME", help="Whose machine; default is made when there is none.")
]
ArgumentsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="Its arguments, if the manifest takes any.")
]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `gramine`."""
    command(group, "run", options_first=True)(run)
    command(group, "bench", options_first=True)(bench)


def run(
    app: AppArgument,
    arguments: ArgumentsArgument = None,
    *,
    direct: DirectOption = False,
    emulated: EmulatedOption = False,
    lab: LabOption = "default",
    gramine: GramineOption = None,
) -> None:
    """Run a program in Gramine: on this machine's SGX, or else on an emulated machine; with --direct without SGX.

    Which of them is said first, on standard error. Where the program fails, what it said there is explained.

    Exit code: the program's; 3 no Gramine, not rendered or signed, bad option.
    """
    from sgxkit.gramine.installation import find_installation
    from sgxkit.gramine.running import run as run_program
    from sgxkit.gramine.running import runner

    how = runner(app, _place(direct=direct, emulated=emulated), lab, find_installation(gramine))
    if settings().json:
        sys.stderr.write(f'{{"place": "{how.place}"}}\n')
    else:
        output.console(stderr=True).print(output.say(how.says()), style="dim")
    sys.stderr.flush()
    code, said = run_program(how, arguments or [], sys.stderr.buffer)
    if code:
        _explain(said)
    raise typer.Exit(code)


def bench(
    app: AppArgument,
    arguments: ArgumentsArgument = None,
    *,
    rounds: Annotated[int, typer.Option("--rounds", "-n", help="How often each is run.", min=1, max=1000)] = 3,
    emulated: EmulatedOption = False,
    lab: LabOption = "default",
    gramine: GramineOption = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw the times to this file.", metavar="OUT")] = None,
) -> None:
    """Compare a program natively, in Gramine without SGX, and in an enclave: times, EPC, entries and exits.

    Exit code: 0 compared, 1 compared, but one of them failed, 3 bad input.
    """
    from sgxkit.enclave.files import write_file
    from sgxkit.gramine.build import read_manifest
    from sgxkit.gramine.check import parse
    from sgxkit.gramine.comparison import native_command, picture, time_command, time_enclave
    from sgxkit.gramine.installation import find_installation
    from sgxkit.gramine.running import Place, runner

    installation = find_installation(gramine)
    without = runner(app, Place.DIRECT, lab, installation)
    within = runner(app, Place.EMULATED if emulated else None, lab, installation)
    source = without.folder / f"{without.command[-1]}.manifest"
    words, environment = native_command(parse(read_manifest(source), str(source)), without.folder)
    given = arguments or []
    found: list[Measured] = []
    with progress(msg("measuring ...")):
        found.append(time_command("native", [*words, *given], without.folder, environment, rounds))
        found.append(time_command("direct", [*without.command, *given], without.folder, None, rounds))
        found.append(time_enclave(within, given, rounds))
    if svg is not None:
        drawn = picture(app.name, found).encode()
        write_file(svg, lambda file: _write(file, drawn))
    _report(found)
    if any(each.exit_code for each in found):
        raise typer.Exit(1)


def _place(*, direct: bool, emulated: bool) -> Place | None:
    from sgxkit.gramine.running import Place

    if direct and emulated:
        raise InputError(msg("one of --direct and --emulated is possible, not both"))
    return Place.DIRECT if direct else Place.EMULATED if emulated else None


def _explain(said: bytes) -> None:
    """Show on standard error what the catalogue of failures knows of what was said."""
    from io import BytesIO

    from sgxkit.host.catalogue.shelf import load_catalogue
    from sgxkit.host.diagnose import Result, diagnose_logs
    from sgxkit.host.log_source import StreamLog

    diagnosis = diagnose_logs(load_catalogue(), [StreamLog("stderr", BytesIO(said))])
    if diagnosis.result is not Result.RECOGNISED:
        return
    console = output.console(stderr=True)
    for known in diagnosis.explanations:
        texts = known.entry.texts(settings().language)
        console.print(output.printable(f"{texts.title} ({known.entry.id})"), style="bold")
        for text in (texts.cause, texts.fix):
            console.print(output.printable(f"  {text}"))


def _report(found: list[Measured]) -> None:
    if settings().json:
        from dataclasses import asdict

        output.print_json({"compared": [asdict(each) for each in found]})
        return
    console = output.console()
    base = found[0].wall
    for each in found:
        name = output.say(msg("{way}, emulated", way=each.way)) if each.emulated else each.way
        first = "-" if each.first_output is None else f"{each.first_output:.3f}"
        line = msg(
            "{name}  {wall} s ({ratio} times native), first output after {first} s, {cpu} s of processors",
            name=f"{name:<15}",
            wall=f"{each.wall:8.3f}",
            ratio=f"{each.wall / base:.1f}" if base else "-",
            first=first,
            cpu=f"{each.cpu:.3f}",
        )
        console.print(output.say(line), style="red" if each.exit_code else "")
        if each.exit_code:
            console.print("  " + output.say(msg("it failed: exit code {code}", code=each.exit_code)), style="red")
        if each.entries is not None:
            counts = msg(
                "{epc} MiB of EPC at most, {entries} entries, {exits} asynchronous exits",
                epc="-" if each.epc_bytes is None else each.epc_bytes >> 20,
                entries=each.entries,
                exits=each.asynchronous_exits,
            )
            console.print("  " + output.say(counts))


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
