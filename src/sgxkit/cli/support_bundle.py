"""`sgxkit support-bundle`: one file for whoever is asked for help, without secrets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.doctor import TO_STANDARD_OUTPUT, ProfileName
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import msg


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "support-bundle")
    def support_bundle(
        file: Annotated[
            str, typer.Argument(metavar="FILE", help="The tar archive to write, 0600; - for standard output.")
        ],
        *,
        include: Annotated[
            list[Path] | None,
            typer.Option(
                "--include", metavar="FILE", help="A further text, such as a log or a manifest; repeatable."
            ),
        ] = None,
        profile: Annotated[ProfileName, typer.Option("--for", help="What doctor judges the host for.")] = "attest",
        timeout: Annotated[
            float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=600.0, help="Time limit for the facts.")
        ] = 5.0,
        no_network: Annotated[bool, typer.Option("--no-network", help="Do not ask the PCCS or the cluster.")] = False,
    ) -> None:
        """Pack facts, doctor's judgement, logs and configuration of this host into one file, without secrets.

        Nothing is sent anywhere. Look through the file before you give it away.

        Exit code: 0 written, 2 the host could not be read, 3 wrong use or a place that cannot be written.
        """
        _run(file, include or [], profile, timeout=timeout, network=not no_network)


def _run(file: str, include: list[Path], profile: str, *, timeout: float, network: bool) -> None:
    from sgxkit.cli.progress import progress
    from sgxkit.host.collect import collect_facts
    from sgxkit.host.support_bundle import (
        MAX_MEMBERS,
        included_files,
        make_bundle,
        own_files,
        own_logs,
        pack,
        write_bundle,
    )

    to_output = file == TO_STANDARD_OUTPUT
    if to_output and settings().json:
        raise InputError(msg("--json and - both write to standard output"))
    if to_output and sys.stdout.isatty():
        raise InputError(msg("an archive is nothing for a terminal"), hint=msg("redirect it, or name a file"))
    if len(include) > MAX_MEMBERS // 2:
        raise InputError(msg("at most {limit} files can be included", limit=MAX_MEMBERS // 2))
    for path in include:
        if not path.is_file():
            raise InputError(msg("{path} is no file", path=path))
    with progress(msg("Reading this host ...")):
        facts = collect_facts(timeout, network)
        files = (*own_files(), *included_files(include))
        bundle = make_bundle(facts, own_logs(), files, version=__version__, profile=profile)
    if to_output:
        sys.stdout.buffer.write(pack(bundle))
        sys.stdout.buffer.flush()
    else:
        write_bundle(bundle, Path(file))
    _print(bundle, file)


def _print(bundle: object, file: str) -> None:
    from rich.text import Text

    from sgxkit.host.support_bundle import Bundle, manifest

    assert isinstance(bundle, Bundle)
    if settings().json:
        output.print_json({"file": file, **manifest(bundle, version=__version__)})
        return
    console = output.console(stderr=file == TO_STANDARD_OUTPUT)
    for member in bundle.members:
        note = ""
        if member.truncated:
            note += output.say(msg(", cut to size"))
        if member.removed:
            note += output.say(msg(", {count} secrets removed", count=member.removed))
        size = output.say(msg("{size} bytes", size=len(member.data)))
        console.print(Text(output.printable(f"  {member.name}  {size}{note}")))
    for entry in bundle.left_out:
        console.print(
            Text(
                output.say(msg("  left out: {source}: {reason}", source=entry.source, reason=entry.reason)), "yellow"
            )
        )
    console.print(
        Text(output.say(msg("{file}: look through it before you give it away (tar -xOf {file})", file=file)), "bold")
    )
