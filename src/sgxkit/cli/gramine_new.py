"""`sgxkit gramine new`: a project for a program in Gramine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import msg

KindName = Literal[
    "helloworld", "python", "pytorch", "tensorflow", "openjdk", "sqlite", "redis", "nginx", "nodejs", "custom"
]


def register(group: typer.Typer) -> None:
    """Add the command to the group `gramine`."""
    command(group, "new")(new)


def new(
    app: Annotated[Path, typer.Argument(help="The folder to make; its name is the program's.")],
    *,
    template: Annotated[
        KindName | None, typer.Option("--template", "-t", help="What kind of program it is [default: custom].")
    ] = None,
    from_command: Annotated[
        str | None,
        typer.Option(
            "--from-command",
            help="Run this, and write a manifest for what it does (needs strace).",
            metavar="COMMAND",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="With --from-command: end it after so long [default: Ctrl-C].", min=0.1),
    ] = None,
) -> None:
    """Make a project: manifest template, Makefile, Containerfile, README and a test.

    With --from-command the manifest has the files, mounts, size and threads that were seen. A server is ended with
    Ctrl-C once it has done what it is to do.

    Exit code: 0 made, 3 the folder is there already or cannot be made, a command that cannot be run, bad option.
    """
    from sgxkit.gramine.project import create_project, require_new

    if from_command is None:
        files = create_project(app, template or "custom")
    else:
        if template is not None:
            raise InputError(msg("one of --template and --from-command is needed, not both"))
        require_new(app)
        files = create_project(app, "custom", manifest=_observed_manifest(from_command, seconds))
    if settings().json:
        output.print_json({"made": [str(file) for file in files]})
        return
    console = output.console()
    for file in files:
        console.print(output.printable(str(file)))
    console.print(output.say(msg("next: {command}", command=f"cd {app} && make && make doctor")))


def _observed_manifest(text: str, seconds: float | None) -> str:
    import shlex

    from sgxkit.gramine.from_trace import manifest_of
    from sgxkit.gramine.trace import trace

    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise InputError(msg("{text} is no command: {reason}", text=text, reason=problem)) from problem
    seen = trace(words, seconds=seconds)
    said = msg(
        "seen: {files} files, {threads} threads, {processes} processes; exit code {code}",
        files=len(seen.read | seen.written),
        threads=seen.threads,
        processes=seen.processes,
        code=seen.exit_code,
    )
    output.console(stderr=True).print(output.say(said))
    return manifest_of(words, seen, str(Path.cwd()))
