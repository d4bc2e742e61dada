"""`sgxkit gramine inspect|lock|diff`: what was built, what it was built of, and why it measures differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.cli.tree import Node
    from sgxkit.gramine.difference import BuildDifference
    from sgxkit.gramine.lock import Lock

EXIT_NO = 1

GramineOption = Annotated[
    Path | None,
    typer.Option("--gramine", help="Where Gramine is installed [default: found].", metavar="FOLDER"),
]
LibpalOption = Annotated[
    Path | None,
    typer.Option("--libpal", "-l", help="The PAL that is measured [default: Gramine's].", metavar="FILE"),
]
SignedArgument = Annotated[Path, typer.Argument(help="What was signed (app.manifest.sgx).")]


def register(group: typer.Typer) -> None:
    """Add the commands to the group `gramine`."""
    command(group, "inspect")(inspect)
    command(group, "lock")(lock)
    command(group, "diff")(diff)


def inspect(
    signed: SignedArgument,
    *,
    sigfile: Annotated[
        Path | None,
        typer.Option("--sigfile", "-s", help="Its SIGSTRUCT [default: app.sig, if there].", metavar="FILE"),
    ] = None,
    libpal: LibpalOption = None,
    gramine: GramineOption = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Draw the memory map to this file.", metavar="OUT")
    ] = None,
) -> None:
    """Show an enclave of Gramine: its measurement, its layout, its signature, and whether that is for it.

    Exit code: 0 shown, 1 the signature is not for this enclave, 3 bad input.
    """
    from sgxkit.cli.enclave_show import image_document, image_tree
    from sgxkit.cli.tree import lines
    from sgxkit.enclave.files import read_signature, write_file
    from sgxkit.enclave.measure import mrenclave
    from sgxkit.enclave.regions import memory_map, regions
    from sgxkit.enclave.signing import refusals
    from sgxkit.gramine.build import image_of_signed, read_libpal
    from sgxkit.gramine.lock import trusted_files_of
    from sgxkit.gramine.manifest import with_defaults
    from sgxkit.gramine.rules import at

    code = read_libpal(find_libpal(gramine, libpal))
    manifest, image = image_of_signed(_content(signed), str(signed), code)
    if sigfile is None:
        beside = signed.with_name(signed.name.removesuffix(".manifest.sgx") + ".sig")
        sigfile = beside if beside.is_file() else None
    if sigfile is not None:
        image = replace(image, sigstruct=read_signature(sigfile))
    with progress(msg("measuring ...")):
        measured = mrenclave(image)
    found = regions(image)
    reasons = () if image.sigstruct is None else refusals(image.sigstruct, measured)
    if svg is not None:
        picture = memory_map(image.size, found, f"{signed.name}  MRENCLAVE {measured.hex()}").encode()
        write_file(svg, lambda file: _write(file, picture))
    sgx = with_defaults(manifest, Path("/"))["sgx"]
    entrypoint = str(at(manifest, "libos", "entrypoint"))
    if settings().json:
        output.print_json(
            {
                **image_document(image, measured, found),
                "entrypoint": entrypoint,
                "max_threads": sgx["max_threads"],
                "edmm": sgx["edmm_enable"],
                "remote_attestation": sgx["remote_attestation"],
                "trusted_files": len(trusted_files_of(manifest)),
                "refused": [str(reason) for reason in reasons],
            }
        )
    else:
        tree = image_tree(str(signed), image, measured, found)
        _add_settings(tree, entrypoint, sgx, len(trusted_files_of(manifest)))
        console = output.console()
        for line in lines(tree, console.encoding):
            console.print(line)
        for reason in reasons:
            console.print(output.say(msg("REFUSED: {reason}", reason=reason)), style="red")
    if reasons:
        raise typer.Exit(EXIT_NO)


def lock(
    signed: SignedArgument,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the record here [default: app.lock.json].", metavar="OUT"),
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", help="Compare with this record instead.", metavar="LOCK")
    ] = None,
    libpal: LibpalOption = None,
    gramine: GramineOption = None,
) -> None:
    """Record what an enclave is made of, every key and every hash; or show that it was made again just so.

    Exit code: 0 written, or the same as the record, 1 another build than the record's, 3 bad input.
    """
    from sgxkit.enclave.files import write_file
    from sgxkit.gramine.lock import write_lock

    record = _build(signed, gramine, libpal)
    if check is not None:
        _report_differences(_build(check, gramine, libpal), record, check, signed)
        return
    target = out or signed.with_name(signed.name.removesuffix(".manifest.sgx") + ".lock.json")
    content = write_lock(record).encode()
    write_file(target, lambda file: _write(file, content))
    if settings().json:
        output.print_json({"written": str(target), "mrenclave": record.mrenclave})
    else:
        output.console().print(f"MRENCLAVE  {record.mrenclave}")


def diff(
    first: Annotated[Path, typer.Argument(help="What was signed (app.manifest.sgx), or a lock.")],
    second: Annotated[Path, typer.Argument(help="The other one.")],
    *,
    libpal: LibpalOption = None,
    second_libpal: Annotated[
        Path | None,
        typer.Option("--second-libpal", help="The PAL of the second [default: the same].", metavar="FILE"),
    ] = None,
    gramine: GramineOption = None,
) -> None:
    """Say why two builds have different MRENCLAVE: which keys, which files, which PAL, or only their order.

    Exit code: 0 the same MRENCLAVE, 1 not, 3 bad input.
    """
    one = _build(first, gramine, libpal)
    other = _build(second, gramine, second_libpal or libpal)
    _report_differences(one, other, first, second)


def find_libpal(gramine: Path | None, libpal: Path | None) -> Path:
    """The PAL that was named, else that of the installed Gramine; InputError where there is none."""
    from sgxkit.gramine.installation import require_installation

    return libpal or require_installation(gramine).libpal


def _build(path: Path, gramine: Path | None, libpal: Path | None) -> Lock:
    """Read a record, or make it of a signed manifest."""
    from sgxkit.gramine.build import read_libpal
    from sgxkit.gramine.lock import lock as make_lock
    from sgxkit.gramine.lock import read_lock

    content = _content(path)
    if content.lstrip()[:1] == b"{":
        return read_lock(content)
    with progress(msg("measuring ...")):
        return make_lock(content, str(path), read_libpal(find_libpal(gramine, libpal)))


def _report_differences(one: Lock, other: Lock, first: Path, second: Path) -> None:
    from sgxkit.gramine.difference import differences

    found = differences(one, other)
    if settings().json:
        output.print_json(
            {
                "same": one.mrenclave == other.mrenclave,
                "mrenclave": [one.mrenclave, other.mrenclave],
                "differences": [
                    {"what": each.what, "name": each.name, "first": each.first, "second": each.second}
                    for each in found
                ],
            }
        )
    elif one.mrenclave == other.mrenclave:
        output.console().print(output.say(msg("the same MRENCLAVE")))
    else:
        console = output.console()
        nothing = output.say(msg("nothing"))
        for each in found:
            console.print(output.say(_sentence(each)))
            console.print(f"  {output.printable(str(first))}: {output.printable(each.first or nothing)}")
            console.print(f"  {output.printable(str(second))}: {output.printable(each.second or nothing)}")
    if one.mrenclave != other.mrenclave:
        raise typer.Exit(EXIT_NO)


def _sentence(difference: BuildDifference) -> Message:
    name = difference.name
    return {
        "libpal": msg("the PAL is another build"),
        "key": msg("the key {name} differs", name=name),
        "trusted file": msg("the trusted file {name} differs", name=name),
        "order of keys": msg("the same keys stand in another order, from {name} on", name=name),
        "order of trusted files": msg("the same trusted files stand in another order, from {name} on", name=name),
        "text": msg("the same keys are written differently (spaces, comments, quotes)"),
    }[difference.what]


def _add_settings(tree: Node, entrypoint: str, sgx: dict[str, object], files: int) -> None:
    node = tree.add("manifest")
    node.add("libos.entrypoint", entrypoint)
    for name in ("max_threads", "edmm_enable", "debug", "remote_attestation"):
        node.add(f"sgx.{name}", str(sgx[name]).lower())
    node.add("sgx.trusted_files", str(files))


def _content(path: Path) -> bytes:
    from sgxkit.cli.input import read_input
    from sgxkit.gramine.check import MAX_MANIFEST_SIZE

    content = read_input(path, MAX_MANIFEST_SIZE)
    if len(content) > MAX_MANIFEST_SIZE:
        raise InputError(msg("over {limit} bytes is no manifest", limit=MAX_MANIFEST_SIZE))
    return content


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
