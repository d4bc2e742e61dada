"""`sgxkit k8s preflight`: fail a pod with the reason, before its enclave does without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.aesm import AddressOption
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "preflight")(preflight)


def preflight(
    program: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run this then, in this process.")
    ] = None,
    *,
    need: Annotated[
        list[str] | None,
        typer.Option("--need", metavar="NEED", help="enclave, provision, aesm or quote; may be repeated."),
    ] = None,
    aesm: AddressOption = None,
    dev: Annotated[Path, typer.Option("--dev", metavar="DIR", help="Where device nodes are.")] = Path("/dev"),
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="DOMAIN", help="Domain of the resources' names, for what is advised.")
    ] = "sgx.intel.com",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=3600, help="For AESM.")
    ] = 30.0,
) -> None:
    """Try what this pod's enclaves need: its device, AESM, quotes. Without --need: enclave.

    What is lacking is also the container's termination message, so `kubectl describe pod` shows it.
    Exit code: 0 all is there (or that of COMMAND), 1 something is lacking, 3 bad option.
    """
    from sgxkit.aesm.address import AESMD_SOCKET, parse_address
    from sgxkit.kubernetes.preflight import NEEDS, write_termination_log
    from sgxkit.kubernetes.preflight import preflight as look

    wanted = need or ["enclave"]
    for name in wanted:
        if name not in NEEDS:
            raise InputError(
                msg("{name} is no need", name=name), hint=msg("there are: {names}", names=", ".join(NEEDS))
            )
    findings = look(
        [one for one in NEEDS if one in wanted],
        parse_address(aesm or str(AESMD_SOCKET)),
        dev=dev,
        prefix=prefix,
        timeout=timeout,
    )
    lacking = [one for one in findings if one.lack is not None]
    if settings().json:
        output.print_json(
            {
                "ready": not lacking,
                "findings": [
                    {
                        "need": one.need,
                        "met": one.lack is None,
                        "cause": None if one.lack is None else str(one.lack.cause),
                        "remedy": None if one.lack is None else str(one.lack.remedy),
                    }
                    for one in findings
                ],
            }
        )
    else:
        for one in findings:
            if one.lack is None:
                _say(msg("{need}: it is there", need=one.need))
            else:
                _say(msg("{need}: {problem}", need=one.need, problem=one.lack.cause))
                _say(msg("    {remedy}", remedy=one.lack.remedy))
    if lacking:
        write_termination_log(findings)
        raise typer.Exit(1)
    if program:
        _become(program)


def _become(program: list[str]) -> None:
    try:
        os.execvp(program[0], program)  # noqa: S606 - the user's own command, an argument list, no shell
    except OSError as error:
        raise InputError(
            msg("{path} cannot be run: {reason}", path=program[0], reason=error.strerror or error)
        ) from error


def _say(message: Message) -> None:
    output.console(stderr=True).print(output.say(message), markup=False)
