"""`sgxkit k8s conformance`: test a device plugin, anybody's, against a kubelet that behaves badly on purpose."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.kubernetes.conformance.run import Result


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "conformance")(conformance)


def conformance(
    *,
    plugin_dir: Annotated[
        Path,
        typer.Option(
            "--plugin-dir", metavar="DIR", help="The plugin's folder; a fake kubelet serves and empties it."
        ),
    ],
    plugin_command: Annotated[
        str | None,
        typer.Option("--plugin-command", metavar="COMMAND", help="How to start it; else it is expected to run."),
    ] = None,
    device_dir: Annotated[
        Path | None,
        typer.Option("--device-dir", metavar="DIR", help="Its device nodes, taken away and put back by checks."),
    ] = None,
    cdi_dir: Annotated[
        Path | None, typer.Option("--cdi-dir", metavar="DIR", help="Where it writes CDI specifications.")
    ] = None,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Where it serves /readyz and /metrics.")
    ] = None,
    restarts: Annotated[
        int, typer.Option("--restarts", metavar="N", min=1, max=10_000, help="Of the kubelet, in a row.")
    ] = 20,
    within: Annotated[
        float, typer.Option("--within", metavar="SECONDS", min=0.1, max=60, help="How soon it must react.")
    ] = 2.0,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, max=3600, help="For the first registration.")
    ] = 30.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Run this check alone; may be repeated.")
    ] = None,
) -> None:
    """Test a device plugin against a fake kubelet that restarts, refuses, hangs and removes files.

    Exit code: 0 no check failed, 1 one did, 2 no plugin registered, 3 bad option.
    """
    import asyncio

    from sgxkit.cli.k8s import need_grpc

    need_grpc()
    from sgxkit.kubernetes.conformance.run import CHECKS, check_conformance, conformance_document
    from sgxkit.kubernetes.conformance.stand import Setup
    from sgxkit.kubernetes.endpoint import parse_listen_address

    setup = Setup(
        folder=plugin_dir.absolute(),
        command=_words(plugin_command),
        device_folder=device_dir,
        http=None if http is None else parse_listen_address(http),
        cdi_folder=cdi_dir,
        wait=wait,
        within=within,
        restarts=restarts,
    )
    known = {check.id: check for check in CHECKS}
    for name in only or ():
        if name not in known:
            raise InputError(
                msg("there is no check {name}", name=name), hint=msg("there are: {names}", names=", ".join(known))
            )
    checks = tuple(check for check in CHECKS if only is None or check.id in only)
    as_json = settings().json
    found = asyncio.run(check_conformance(setup, checks=checks, found=repr if as_json else _print_result))
    if as_json:
        output.print_json(conformance_document(found))
    else:
        counts = {kind: sum(one.outcome == kind for one in found.results) for kind in ("passed", "failed", "skipped")}
        _say(msg("{passed} passed, {failed} failed, {skipped} skipped", **counts))
    if not found.passed:
        raise typer.Exit(1)


def _words(text: str | None) -> tuple[str, ...]:
    try:
        return () if text is None else tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(msg("--plugin-command: {reason}", reason=error)) from error


_WORDS = {"passed": msg("passed"), "failed": msg("FAILED"), "skipped": msg("skipped")}


def _print_result(result: Result) -> None:
    line = msg(
        "{outcome}  {id}: {title}", outcome=_WORDS[result.outcome], id=result.check.id, title=result.check.title
    )
    _say(line)
    if result.reason is not None:
        _say(msg("        {reason}", reason=result.reason))


def _say(message: Message) -> None:
    output.console().print(output.say(message), markup=False)
