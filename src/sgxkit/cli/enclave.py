"""`sgxkit enclave`: look at enclave images, measure, sign, convert and compare them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.enclave_edl import edl
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.cli.tree import Node
    from sgxkit.enclave.difference import Difference
    from sgxkit.enclave.image import EnclaveImage
    from sgxkit.isa.sigstruct import Sigstruct

EXIT_NO = 1
_MAX_KEY_FILE = 1 << 16

enclave_app = typer.Typer(
    name="enclave",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at enclave images and interfaces, measure, sign, convert and compare images.",
)

ImageArgument = Annotated[
    Path, typer.Argument(help="SGXS, ESGXS, or an enclave that Intel's sgx_sign has signed (enclave.signed.so).")
]
Sgx1Option = Annotated[
    bool, typer.Option("--sgx1", help="Lay an SDK enclave out for a platform without EDMM (SGX2).")
]
PasswordOption = Annotated[
    Path | None, typer.Option("--password-file", help="A file with the key's password.", metavar="FILE")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(enclave_app)
    command(enclave_app, "inspect")(inspect)
    command(enclave_app, "measure")(measure)
    command(enclave_app, "sign")(sign)
    command(enclave_app, "verify")(verify)
    command(enclave_app, "convert")(convert)
    command(enclave_app, "diff")(diff)
    command(enclave_app, "generate-key")(generate_key)
    command(enclave_app, "edl")(edl)


def inspect(
    file: Annotated[Path, typer.Argument(help="An enclave image, or a SIGSTRUCT (.sig).")],
    *,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Draw the memory map to this file.", metavar="OUT")
    ] = None,
    sgx1: Sgx1Option = False,
) -> None:
    """Show an enclave's identity, its attributes, its layout and its signature.

    Exit code: 0 shown, 3 bad input.
    """
    from sgxkit.cli.enclave_show import image_document, image_tree, sigstruct_document, sigstruct_tree
    from sgxkit.enclave.files import open_image, read_signature, write_file
    from sgxkit.enclave.regions import memory_map, regions

    if _is_sigstruct(file):
        sigstruct = read_signature(file)
        if svg is not None:
            raise InputError(msg("a SIGSTRUCT has no memory map"), hint=msg("give the enclave image"))
        if settings().json:
            output.print_json({"sigstruct": sigstruct_document(sigstruct)})
        else:
            _print_tree(sigstruct_tree(str(file), sigstruct))
        return
    image = open_image(file, edmm=not sgx1)
    mrenclave = _measured(image)
    found = regions(image)
    if svg is not None:
        picture = memory_map(image.size, found, f"{file.name}  MRENCLAVE {mrenclave.hex()}").encode()
        write_file(svg, lambda out: _write(out, picture))
    if settings().json:
        output.print_json(image_document(image, mrenclave, found))
    else:
        _print_tree(image_tree(str(file), image, mrenclave, found))


def measure(image: ImageArgument, *, sgx1: Sgx1Option = False) -> None:
    """Print the MRENCLAVE that the processor would measure.

    Exit code: 0 measured, 3 bad input.
    """
    from sgxkit.enclave.files import open_image

    mrenclave = _measured(open_image(image, edmm=not sgx1)).hex()
    if settings().json:
        output.print_json({"mrenclave": mrenclave})
    else:
        output.console().print(mrenclave)


def sign(
    file: Annotated[Path, typer.Argument(help="An enclave image; with --signature, what --to-sign wrote.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the SIGSTRUCT to this file.", metavar="OUT")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The private key, PEM.", metavar="FILE")] = None,
    password_file: PasswordOption = None,
    to_sign: Annotated[
        Path | None,
        typer.Option(
            "--to-sign", help="First step for a key kept elsewhere: write the bytes to sign.", metavar="OUT"
        ),
    ] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="Second step: the signature made there.", metavar="FILE")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="Second step: the public key, PEM.", metavar="FILE")
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="Take all other fields from this SIGSTRUCT.", metavar="SIG")
    ] = None,
    isvprodid: Annotated[int | None, typer.Option("--isvprodid", help="Product number.", min=0, max=0xFFFF)] = None,
    isvsvn: Annotated[int | None, typer.Option("--isvsvn", help="Security version.", min=0, max=0xFFFF)] = None,
    on: Annotated[str | None, typer.Option("--date", help="YYYY-MM-DD [default: today].", metavar="DATE")] = None,
    debug_enclave: Annotated[
        bool, typer.Option("--debug-enclave", help="Sign a debug enclave: its memory can be read.")
    ] = False,
    sgx1: Sgx1Option = False,
) -> None:
    """Sign an enclave: with a key at hand (--key), or in two steps (--to-sign, then --signature and --public-key).

    Exit code: 0 signed, 3 bad input.
    """
    from sgxkit.enclave import signing
    from sgxkit.enclave.files import open_image, read_signature, write_file

    if sum(option is not None for option in (key, to_sign, signature)) != 1:
        raise InputError(msg("one of --key, --to-sign and --signature is needed"))
    target = to_sign or out
    if target is None:
        raise InputError(msg("--out is needed"))
    if signature is not None:
        if public_key is None:
            raise InputError(msg("--public-key is needed"))
        unsigned = signing.parse_signed_bytes(_content(file))
        signed = signing.with_signature(unsigned, signing.load_public_key(_content(public_key)), _content(signature))
    else:
        image = open_image(file, edmm=not sgx1)
        pattern = image.sigstruct if like is None else read_signature(like)
        unsigned = signing.unsigned_sigstruct(_measured(image), like=pattern, on=_date(on), debug=debug_enclave)
        if isvprodid is not None:
            unsigned = replace(unsigned, isvprodid=isvprodid)
        if isvsvn is not None:
            unsigned = replace(unsigned, isvsvn=isvsvn)
        if key is None:
            write_file(target, lambda out: _write(out, unsigned.signed_bytes))
            _report_written(target, unsigned, signed=False)
            return
        signed = signing.sign(unsigned, signing.load_private_key(_content(key), _password(password_file)))
    write_file(target, lambda out: _write(out, signed.to_bytes()))
    _report_written(target, signed, signed=True)


def verify(
    image: ImageArgument,
    signature: Annotated[
        Path | None, typer.Argument(help="Its SIGSTRUCT (.sig) [default: the one inside an SDK enclave].")
    ] = None,
    *,
    sgx1: Sgx1Option = False,
) -> None:
    """Check that a signature holds and is for this enclave: the key, Q1 and Q2, and MRENCLAVE.

    Exit code: 0 it is, 1 it is not, 3 bad input.
    """
    from sgxkit.enclave.files import open_image, read_signature
    from sgxkit.enclave.signing import refusals

    opened = open_image(image, edmm=not sgx1)
    sigstruct = opened.sigstruct if signature is None else read_signature(signature)
    if sigstruct is None:
        raise InputError(msg("the image carries no signature"), hint=msg("name the file of its SIGSTRUCT"))
    mrenclave = _measured(opened)
    reasons = refusals(sigstruct, mrenclave)
    if settings().json:
        output.print_json(
            {
                "verified": not reasons,
                "mrenclave": mrenclave.hex(),
                "mrsigner": sigstruct.mrsigner.hex(),
                "reasons": [str(reason) for reason in reasons],
            }
        )
    else:
        console = output.console()
        if not reasons:
            console.print(output.say(msg("VERIFIED: the signature holds, and is for this enclave")), style="green")
        for reason in reasons:
            console.print(output.say(msg("REFUSED: {reason}", reason=reason)), style="red")
        console.print(f"MRENCLAVE  {mrenclave.hex()}")
        console.print(f"MRSIGNER   {sigstruct.mrsigner.hex()}")
    if reasons:
        raise typer.Exit(EXIT_NO)


def convert(
    image: ImageArgument,
    out: Annotated[Path, typer.Argument(help="The file to write, in SGXS.")],
    *,
    esgxs: Annotated[bool, typer.Option("--esgxs", help="Write ESGXS: keep what is not measured, too.")] = False,
    sgx1: Sgx1Option = False,
) -> None:
    """Write an enclave image as SGXS, which is measured alike.

    Exit code: 0 written, 3 bad input, or an image that the format cannot hold.
    """
    from sgxkit.enclave.files import open_image, write_file
    from sgxkit.enclave.sgxs import write_sgxs

    opened = open_image(image, edmm=not sgx1)
    with progress(msg("converting ...")):
        write_file(out, lambda file: write_sgxs(opened, file, enhanced=esgxs))
    if settings().json:
        output.print_json({"written": str(out), "bytes": out.stat().st_size})


def diff(first: ImageArgument, second: ImageArgument, *, sgx1: Sgx1Option = False) -> None:
    """Say why two images have different MRENCLAVE: the first page, flag or field that differs.

    Exit code: 0 they are measured alike, 1 they are not, 3 bad input.
    """
    from sgxkit.enclave.difference import first_difference
    from sgxkit.enclave.files import open_image

    one, other = open_image(first, edmm=not sgx1), open_image(second, edmm=not sgx1)
    with progress(msg("comparing ...")):
        found = first_difference(one, other)
    if settings().json:
        output.print_json({"same": found is None, "difference": _difference(found)})
    else:
        console = output.console()
        if found is None:
            console.print(output.say(msg("the same MRENCLAVE")))
        else:
            console.print(output.say(_difference_sentence(found)))
            nothing = output.say(msg("nothing"))
            console.print(f"  {output.printable(str(first))}: {found.first or nothing}")
            console.print(f"  {output.printable(str(second))}: {found.second or nothing}")
    if found is not None:
        raise typer.Exit(EXIT_NO)


def generate_key(
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    *,
    password_file: PasswordOption = None,
) -> None:
    """Make a key that can sign enclaves (RSA, 3072 bits, exponent 3), readable by its owner only.

    Exit code: 0 written, 3 the file exists or cannot be written.
    """
    from hashlib import sha256

    from sgxkit.enclave import signing

    password = _password(password_file)
    with progress(msg("making the key ...")):
        key = signing.generate_key()
    signing.write_private_key(out, key, password)
    mrsigner = sha256(key.public_key().public_numbers().n.to_bytes(384, "little")).hexdigest()
    warnings = signing.storage_warnings(out, encrypted=password is not None)
    if settings().json:
        output.print_json({"written": str(out), "mrsigner": mrsigner, "warnings": [str(w) for w in warnings]})
        return
    output.console().print(f"MRSIGNER   {mrsigner}")
    for warning in warnings:
        output.console(stderr=True).print(output.say(msg("warning: {text}", text=warning)), style="yellow")


def _measured(image: EnclaveImage) -> bytes:
    from sgxkit.enclave.measure import mrenclave

    with progress(msg("measuring ...")):
        return mrenclave(image)


def _is_sigstruct(path: Path) -> bool:
    from sgxkit.isa.sigstruct import HEADER

    return _content(path, len(HEADER)).startswith(HEADER)


def _content(path: Path, limit: int = _MAX_KEY_FILE) -> bytes:
    from sgxkit.cli.input import read_input

    return read_input(path, limit)


def _password(path: Path | None) -> bytes | None:
    return None if path is None else _content(path).rstrip(b"\r\n")


def _date(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(msg("{text} is not a date", text=text), hint=msg("write it as 2026-01-31")) from error


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def _print_tree(node: Node) -> None:
    from sgxkit.cli.tree import lines

    console = output.console()
    for line in lines(node, console.encoding):
        console.print(line)


def _report_written(path: Path, sigstruct: Sigstruct, *, signed: bool) -> None:
    mrsigner = sigstruct.mrsigner.hex() if signed else None
    if settings().json:
        output.print_json({"written": str(path), "mrenclave": sigstruct.enclavehash.hex(), "mrsigner": mrsigner})
        return
    console = output.console()
    console.print(f"MRENCLAVE  {sigstruct.enclavehash.hex()}")
    if signed:
        console.print(f"MRSIGNER   {mrsigner}")
        if sigstruct.debug:
            said = msg("signed as a DEBUG enclave: its memory can be read, it keeps no secret")
            output.console(stderr=True).print(output.say(said), style="yellow")


def _difference(found: Difference | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "what": found.what,
        "offset": found.offset,
        "first": found.first,
        "second": found.second,
        "name": found.name,
    }


def _difference_sentence(found: Difference) -> Message:
    offset = "" if found.offset is None else f"{found.offset:#x}"
    place = f"{offset} ({found.name})" if found.name else offset
    return {
        "size": msg("the enclaves' sizes differ"),
        "ssaframesize": msg("SSAFRAMESIZE differs"),
        "page": msg("the page at {place} is only in one of them, or first in one of them", place=place),
        "secinfo": msg("type or permissions of the page at {place} differ (SECINFO.FLAGS)", place=place),
        "measured chunks": msg("which chunks of the page at {place} are measured differs", place=place),
        "contents": msg("the contents at {place} differ", place=place),
    }[found.what]
