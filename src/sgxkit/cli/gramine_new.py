"""`sgxkit gramine new`: a project for a program in Gramine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
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
    template: Annotated[KindName, typer.Option("--template", "-t", help="What kind of program it is.")] = "custom",
) -> None:
    """Make a project: manifest template, Makefile, Containerfile, README and a test.

    Exit code: 0 made, 3 the folder is there already or cannot be made, bad option.
    """
    from sgxkit.gramine.project import create_project

    files = create_project(app, template)
    if settings().json:
        output.print_json({"made": [str(file) for file in files]})
        return
    console = output.console()
    for file in files:
        console.print(output.printable(str(file)))
    console.print(output.say(msg("next: {command}", command=f"cd {app} && make && make doctor")))
