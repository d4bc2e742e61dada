"""`sgxkit selftest`: the samples that people try first, found, built, run and judged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.cli.termination import cleaning_up_when_terminated
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sgxkit.selftest.part import PartResult
    from sgxkit.selftest.parts import Selftest

EXIT_FAILED = 1
EXIT_NOT_INSTALLED = 2


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "selftest")
    def selftest(
        *,
        hardware: Annotated[bool, typer.Option("--hardware", help="Use SGX hardware and nothing else.")] = False,
        emulated: Annotated[
            bool, typer.Option("--emulated", help="Use an emulated platform, whatever is here.")
        ] = False,
        samples: Annotated[
            list[Path] | None,
            typer.Option("--samples", metavar="FOLDER", help="Look for samples here first; may be repeated."),
        ] = None,
        html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page, too.")] = None,
    ) -> None:
        """Build and run Intel's and Gramine's samples here, and say what was expected and what happened.

        SampleEnclave of Intel's SDK, QuoteGenerationSample and QuoteVerificationSample of DCAP, and Gramine's
        helloworld. For what is not installed something of sgxkit's own stands in, and says so.

        Exit code: 0 all passed, 1 one failed or the hardware is not ready, 2 something could not be run, 3 wrong use.
        """
        if hardware and emulated:
            raise InputError(msg("{first} and {second} exclude each other", first="--hardware", second="--emulated"))
        from sgxkit.selftest.document import OUTCOMES, conclusion, document, page, passed, platform_sentence
        from sgxkit.selftest.part import Outcome
        from sgxkit.up.choice import choose

        with progress(msg("Reading this host ...")):
            choice = choose("hardware" if hardware else "emulated" if emulated else "either")
        begin = time.perf_counter()
        results: list[PartResult] = []
        with cleaning_up_when_terminated(), _session(samples or [], on_hardware=choice.hardware) as session:
            lab = session.machine.lab
            if not settings().json:
                _print(output.say(platform_sentence(lab)))
            parts = session.results()
            while True:
                with progress(msg("building and running ...")):
                    result = next(parts, None)
                if result is None:
                    break
                results.append(result)
                if not settings().json:
                    _print_part(result, output.say(OUTCOMES[result.outcome]))
        if html is not None:
            from sgxkit.host.output_file import write_whole

            write_whole(html, page(results, lab=lab, language=settings().language))
        if settings().json:
            output.print_json(document(results, lab=lab, seconds=time.perf_counter() - begin))
        else:
            _print("")
            _print(output.say(conclusion(results)), "bold green" if passed(results) else "bold red")
        if any(result.outcome is Outcome.FAILED for result in results):
            raise typer.Exit(EXIT_FAILED)
        if not passed(results):
            raise typer.Exit(EXIT_NOT_INSTALLED)


def _session(samples: list[Path], *, on_hardware: bool) -> AbstractContextManager[Selftest]:
    from sgxkit.cli.collateral import chosen_source
    from sgxkit.selftest import session
    from sgxkit.selftest.installed import find_installed

    installed = find_installed(samples)
    if not on_hardware:
        return session.emulated(installed)
    source = chosen_source(
        bundle=None, pcs=None, pccs=None, root_crl=None, ca_file=None, insecure=False, offline=False
    )
    return session.on_hardware(installed, source)


def _print_part(result: PartResult, outcome: str) -> None:
    from sgxkit.selftest.part import Outcome

    style = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_INSTALLED: "yellow"}[result.outcome]
    _print("")
    _print(f"{result.id.value}: {outcome} ({result.seconds:.2f} s)", style)
    ran = msg("ran a stand-in: {name}", name=result.ran) if result.stand_in else msg("ran: {name}", name=result.ran)
    _print(f"  {output.say(ran)}")
    _print(f"  {output.say(msg('expected: {what}', what=result.expected))}")
    _print(f"  {output.say(msg('happened: {what}', what=result.happened))}")
    for sentence in result.missing:
        _print(f"  {output.say(sentence)}")
    for line in result.output.splitlines()[-20:]:
        _print(f"  | {output.printable(line)}")


def _print(text: str, style: str | None = None) -> None:
    output.console().print(text, style=style, markup=False)
