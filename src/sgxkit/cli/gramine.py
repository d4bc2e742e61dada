"""`sgxkit gramine check|doctor|render|sign`: manifests of Gramine; the other commands are in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from sgxkit.cli import gramine_build, gramine_containerize, gramine_new, gramine_run, output
from sgxkit.cli.gramine_build import GramineOption, LibpalOption, find_libpal
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import counter, progress
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.gramine.build import Surroundings
    from sgxkit.gramine.finding import Finding
    from sgxkit.gramine.hashing import HashCache, Progress
    from sgxkit.gramine.installation import Installation

EXIT_NO = 1

gramine_app = typer.Typer(
    name="gramine",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Programs in Gramine: projects, manifests, measuring, signing, running.",
)

DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", "-D", help="A name for the template, and its value.", metavar="NAME=VALUE"),
]
PythonOption = Annotated[
    Path | None,
    typer.Option("--python", help="What `python` means in the template [default: the system's].", metavar="FILE"),
]
ChrootOption = Annotated[
    Path | None,
    typer.Option("--chroot", help="Look for trusted files in this folder.", metavar="FOLDER"),
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Hash every file, remember none.")]
UnknownKeysOption = Annotated[bool, typer.Option("--allow-unknown-keys", help="Let keys pass that Gramine has not.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(gramine_app)
    command(gramine_app, "check")(check)
    command(gramine_app, "doctor")(doctor)
    command(gramine_app, "render")(render)
    command(gramine_app, "sign")(sign)
    gramine_build.register(gramine_app)
    gramine_new.register(gramine_app)
    gramine_containerize.register(gramine_app)
    gramine_run.register(gramine_app)


def check(
    file: Annotated[Path, typer.Argument(help="A manifest or a template; - for standard input.")],
    *,
    define: DefineOption = None,
    gramine: GramineOption = None,
    python: PythonOption = None,
) -> None:
    """Say what is wrong with a manifest: what Gramine refuses, and what it takes for something else than is written.

    Exit code: 0 no errors, 1 errors, 3 bad input.
    """
    from sgxkit.gramine.check import check as check_manifest

    name, findings = _examined(file, define, gramine, python, check_manifest)
    _report_findings(name, findings)
    if any(finding.is_error for finding in findings):
        raise typer.Exit(EXIT_NO)


def doctor(
    file: Annotated[Path, typer.Argument(help="A manifest or a template; - for standard input.")],
    *,
    define: DefineOption = None,
    gramine: GramineOption = None,
    python: PythonOption = None,
) -> None:
    """Say what a manifest does wrong or unsafely, or will not do for long, and what to write instead.

    Exit code: 0 nothing, 1 something, 3 bad input.
    """
    from sgxkit.gramine.advice import advice
    from sgxkit.gramine.check import check as check_manifest

    name, findings = _examined(file, define, gramine, python, lambda each: [*check_manifest(each), *advice(each)])
    _report_findings(name, findings)
    if findings:
        raise typer.Exit(EXIT_NO)


def render(
    template: Annotated[Path, typer.Argument(help="The template; - for standard input.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the manifest here, - for standard output [default: without .template].",
            metavar="OUT",
        ),
    ] = None,
    define: DefineOption = None,
    gramine: GramineOption = None,
    python: PythonOption = None,
    chroot: ChrootOption = None,
    no_cache: NoCacheOption = False,
    allow_unknown_keys: UnknownKeysOption = False,
) -> None:
    """Make a manifest of a template: Jinja, defaults, the hash of every trusted file; what gramine-manifest does.

    Exit code: 0 rendered, 3 bad input.
    """
    from sgxkit.enclave.files import write_file
    from sgxkit.gramine.build import complete
    from sgxkit.gramine.finding import ManifestError
    from sgxkit.gramine.installation import require_installation
    from sgxkit.gramine.manifest import write
    from sgxkit.gramine.template import in_template, render_template

    name, text = _manifest_text(template)
    if out is None:
        if template.suffix != ".template":
            raise InputError(msg("--out is needed"))
        out = template.with_suffix("")
    installation = require_installation(gramine)
    rendered = render_template(text, _definitions(define), file=name, installation=installation, python=python)
    notes: list[Message] = []
    cache = _cache(no_cache=no_cache)
    with counter(msg("hashing trusted files ...")) as tell:
        surroundings = _surroundings(installation, chroot, cache, notes, tell)
        try:
            manifest, files, warnings = complete(rendered, name, surroundings, unknown_keys=allow_unknown_keys)
        except ManifestError as problem:
            raise ManifestError(name, in_template(list(problem.findings), text, rendered)) from problem
    _save(cache, no_cache=no_cache)
    written = write(manifest)
    if str(out) != "-":
        write_file(out, lambda file: _write(file, written.encode()))
    warnings = in_template(warnings, text, rendered)
    if settings().json:
        document: dict[str, object] = {
            "written": str(out),
            "trusted_files": len(files),
            "warnings": [*(finding.to_json() for finding in warnings), *map(str, notes)],
        }
        if str(out) == "-":
            document = {**document, "written": None, "manifest": written}
        output.print_json(document)
        return
    _warn(name, warnings, notes)
    if str(out) == "-":
        typer.echo(written, nl=False)
    else:
        said = msg("{path}: {count} trusted files", path=out, count=len(files))
        output.console().print(output.say(said))


def sign(
    manifest: Annotated[Path, typer.Argument(help="The rendered manifest (app.manifest).")],
    *,
    key: Annotated[
        Path | None,
        typer.Option("--key", "-k", help="The private key, PEM [default: Gramine's own].", metavar="FILE"),
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="A file with the key's password.", metavar="FILE")
    ] = None,
    to_sign: Annotated[
        Path | None,
        typer.Option("--to-sign", help="For a key kept elsewhere: write the bytes to sign.", metavar="OUT"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write the manifest that is measured [default: app.manifest.sgx].", metavar="OUT"
        ),
    ] = None,
    sigfile: Annotated[
        Path | None, typer.Option("--sigfile", "-s", help="Write the SIGSTRUCT [default: app.sig].", metavar="OUT")
    ] = None,
    libpal: LibpalOption = None,
    gramine: GramineOption = None,
    chroot: ChrootOption = None,
    date: Annotated[
        str | None, typer.Option("--date", "-d", help="YYYY-MM-DD, 0000-00-00 too [default: today].", metavar="DATE")
    ] = None,
    keep_hashes: Annotated[
        bool, typer.Option("--keep-hashes", help="Take hashes in the manifest as they are, hash only what has none.")
    ] = False,
    no_cache: NoCacheOption = False,
    allow_unknown_keys: UnknownKeysOption = False,
) -> None:
    """Measure and sign a manifest: app.manifest.sgx and app.sig, byte for byte as gramine-sgx-sign makes them.

    Beyond that the manifest is checked, and a trusted file that has changed since the manifest was rendered is an
    error. The second step of --to-sign is `sgxkit enclave sign BYTES --signature ... --public-key ... -o app.sig`.

    Exit code: 0 signed, 3 bad input.
    """
    from sgxkit.cli.input import read_input
    from sgxkit.enclave import signing
    from sgxkit.enclave.files import write_file
    from sgxkit.gramine.build import complete, measure, read_libpal
    from sgxkit.gramine.manifest import signature_name, signed_name
    from sgxkit.gramine.sigstruct import parse_date

    if key is not None and to_sign is not None:
        raise InputError(msg("one of --key and --to-sign is needed, not both"))
    on = parse_date(date)
    name, text = _manifest_text(manifest)
    private_key = None
    if to_sign is None:
        password = None if password_file is None else read_input(password_file, _MAX_KEY).rstrip(b"\r\n")
        private_key = signing.load_private_key(read_input(key or _default_key(), _MAX_KEY), password)
    installation, pal = _installation_and_pal(gramine, libpal)
    code = read_libpal(pal)
    notes: list[Message] = []
    cache = _cache(no_cache=no_cache)
    with counter(msg("hashing trusted files ...")) as tell:
        surroundings = _surroundings(installation, chroot, cache, notes, tell)
        completed, files, warnings = complete(
            text, name, surroundings, unknown_keys=allow_unknown_keys, verify=not keep_hashes
        )
    _save(cache, no_cache=no_cache)
    with progress(msg("measuring ...")):
        measured = measure(completed, files, code, date=on)
    signed_manifest = out or signed_name(manifest)
    write_file(signed_manifest, lambda file: _write(file, measured.text))
    if private_key is None:
        assert to_sign is not None
        sigstruct, target = measured.sigstruct, to_sign
        write_file(target, lambda file: _write(file, measured.sigstruct.signed_bytes))
    else:
        sigstruct, target = signing.sign(measured.sigstruct, private_key), sigfile or signature_name(manifest)
        signature = sigstruct.to_bytes()
        write_file(target, lambda file: _write(file, signature))
    mrsigner = None if private_key is None else sigstruct.mrsigner.hex()
    if settings().json:
        output.print_json(
            {
                "manifest": str(signed_manifest),
                "written": str(target),
                "mrenclave": sigstruct.enclavehash.hex(),
                "mrsigner": mrsigner,
                "debug": sigstruct.debug,
                "trusted_files": len(files),
                "warnings": [*(finding.to_json() for finding in warnings), *map(str, notes)],
            }
        )
        return
    _warn(name, warnings, notes)
    console = output.console()
    console.print(f"MRENCLAVE  {sigstruct.enclavehash.hex()}")
    if mrsigner is not None:
        console.print(f"MRSIGNER   {mrsigner}")
    if sigstruct.debug:
        said = msg("signed as a DEBUG enclave: its memory can be read, it keeps no secret")
        output.console(stderr=True).print(output.say(said), style="yellow")


_MAX_KEY = 1 << 16


def _default_key() -> Path:
    """Where Gramine's own tools keep the key."""
    import os

    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "gramine" / "enclave-key.pem"


def _manifest_text(path: Path) -> tuple[str, str]:
    """Read a manifest or a template; returned are its name for messages, and its text."""
    from sgxkit.cli.input import read_input
    from sgxkit.gramine.check import MAX_MANIFEST_SIZE, decode

    name = "standard input" if str(path) == "-" else str(path)
    return name, decode(read_input(path, MAX_MANIFEST_SIZE), name)


def _examined(
    file: Path,
    define: list[str] | None,
    gramine: Path | None,
    python: Path | None,
    examine: Callable[[dict[str, Any]], list[Finding]],
) -> tuple[str, list[Finding]]:
    """Find what `examine` finds in a manifest or a template; returned are its name, and the findings with lines."""
    from sgxkit.gramine.check import parse, with_lines
    from sgxkit.gramine.finding import ManifestError
    from sgxkit.gramine.installation import USUAL_FOLDERS, Installation, find_installation
    from sgxkit.gramine.manifest import with_entrypoint
    from sgxkit.gramine.template import in_template, is_template, render_template

    name, text = _manifest_text(file)
    try:
        if not is_template(name, text):
            return name, with_lines(examine(parse(text, name)), text)
        installation = find_installation(gramine) or Installation(USUAL_FOLDERS[0])
        rendered = render_template(text, _definitions(define), file=name, installation=installation, python=python)
        manifest = with_entrypoint(parse(rendered, name), installation.libos)
        return name, in_template(with_lines(examine(manifest), rendered), text, rendered)
    except ManifestError as problem:
        return name, list(problem.findings)


def _installation_and_pal(gramine: Path | None, libpal: Path | None) -> tuple[Installation, Path]:
    from sgxkit.gramine.installation import USUAL_FOLDERS, Installation, find_installation

    pal = find_libpal(gramine, libpal)
    return find_installation(gramine) or Installation(USUAL_FOLDERS[0]), pal


def _definitions(given: list[str] | None) -> dict[str, object]:
    """Read NAME=VALUE; a name alone is true, as with gramine-manifest."""
    found: dict[str, object] = {}
    for definition in given or ():
        name, equals, value = definition.partition("=")
        found[name] = value if equals else True
    return found


def _surroundings(
    installation: Installation, chroot: Path | None, cache: HashCache, notes: list[Message], tell: Progress
) -> Surroundings:
    from sgxkit.gramine.build import Surroundings

    if chroot is not None and not chroot.is_dir():
        raise InputError(msg("{path} is no folder", path=chroot))
    return Surroundings(installation.libos, chroot, cache, notes.append, tell)


def _cache(*, no_cache: bool) -> HashCache:
    from sgxkit.gramine.hashing import HashCache, cache_file

    path = None if no_cache else cache_file()
    return HashCache() if path is None else HashCache.load(path)


def _save(cache: HashCache, *, no_cache: bool) -> None:
    from sgxkit.gramine.hashing import cache_file

    path = None if no_cache else cache_file()
    if path is not None:
        cache.save(path)


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def _report_findings(name: str, findings: list[Finding]) -> None:
    errors = sum(finding.is_error for finding in findings)
    if settings().json:
        output.print_json({"errors": errors, "findings": [finding.to_json() for finding in findings]})
        return
    for finding in findings:
        _print_finding(name, finding)
    if not findings:
        output.console().print(output.say(msg("{path}: no errors", path=name)))


def _print_finding(name: str, finding: Finding, *, stderr: bool = False) -> None:
    from rich.text import Text

    place = name if finding.line is None else f"{name}:{finding.line}"
    style = "red" if finding.is_error else "yellow"
    kind = output.say(msg("error:") if finding.is_error else msg("warning:"))
    line = Text.assemble(output.printable(place), ": ", (kind, style), " ", output.say(finding.sentence()))
    console = output.console(stderr=stderr)
    console.print(line)
    if finding.fix is not None:
        console.print(Text.assemble("  ", output.say(finding.fix)))


def _warn(name: str, warnings: Iterable[Finding], notes: list[Message]) -> None:
    for finding in warnings:
        if not finding.is_error:
            _print_finding(name, finding, stderr=True)
    console = output.console(stderr=True)
    for note in notes[:_MAX_NOTES]:
        console.print(output.say(msg("warning: {text}", text=note)), style="yellow")
    if len(notes) > _MAX_NOTES:
        more = msg("{count} more files are left out", count=len(notes) - _MAX_NOTES)
        console.print(output.say(msg("warning: {text}", text=more)), style="yellow")


_MAX_NOTES = 10
