"""`sgxkit gramine containerize`: from a container image to one with its program in an enclave."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.messages import msg

DEFAULT_BASE = "docker.io/gramineproject/gramine:stable-jammy"


def register(group: typer.Typer) -> None:
    """Add the command to the group `gramine`."""
    command(group, "containerize")(containerize)


def containerize(
    image: Annotated[
        Path, typer.Argument(help="An OCI image layout (folder or tar archive), or a `docker save` archive.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The folder to make [default: the image's name and -gramine].", metavar="FOLDER"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--image", help="Which image, where there are more in it.", metavar="REFERENCE")
    ] = None,
    base: Annotated[
        str, typer.Option("--base", help="The image with Gramine to build on.", metavar="REFERENCE")
    ] = DEFAULT_BASE,
    size: Annotated[str, typer.Option("--size", help="Of the enclave: a power of two.")] = "1G",
    threads: Annotated[int, typer.Option("--threads", help="Of the enclave.", min=1, max=4096)] = 16,
    insecure_args: Annotated[
        bool,
        typer.Option("--insecure-args", help="Let whoever starts the container choose the program's arguments."),
    ] = False,
) -> None:
    """Make an image's program one in an enclave: a Containerfile, a manifest with every file's hash, the files.

    No daemon and no registry are asked, and nothing of the image is run. The same image gives the same bytes.

    Exit code: 0 made, 3 no image, a damaged or hostile one, a folder that is there already, bad option.
    """
    from sgxkit.gramine.containerize import Choices
    from sgxkit.gramine.containerize import containerize as make
    from sgxkit.gramine.oci import open_image

    choices = Choices(base, size, threads, insecure_args)
    with open_image(image, name) as opened, progress(msg("reading layers ...")):
        folder = out or Path(_default_name(opened.references, image))
        made = make(opened, folder, choices)
    if settings().json:
        output.print_json(
            {
                "made": [str(file) for file in made.files],
                "image": opened.config.digest,
                "program": made.program,
                "trusted_files": made.trusted_files,
                "left_out": made.left_out,
                "unnamed": made.unnamed,
            }
        )
        return
    errors = output.console(stderr=True)
    if made.left_out:
        said = msg("{count} devices, sockets and pipes of the image are left out", count=made.left_out)
        errors.print(output.say(msg("warning: {text}", text=said)), style="yellow")
    if made.unnamed:
        said = msg(
            "{count} files are not trusted: no manifest can have their names, which are no UTF-8", count=made.unnamed
        )
        errors.print(output.say(msg("warning: {text}", text=said)), style="yellow")
    console = output.console()
    for file in made.files:
        console.print(output.printable(str(file)))
    console.print(output.say(msg("{program}: {count} trusted files", program=made.program, count=made.trusted_files)))
    console.print(output.say(msg("next: {command}", command=f"cd {folder} && make doctor && make image")))


def _default_name(references: tuple[str, ...], image: Path) -> str:
    """The last word of the image's reference, without tag; else the file's name."""
    said = references[0].rsplit("/", 1)[-1].split("@")[0] if references else ""
    word = said.split(":")[0] or image.absolute().name.removesuffix(".tar")
    return re.sub(r"[^A-Za-z0-9._-]", "-", word).strip(".-_")[:50] + "-gramine"
