"""From a container image to one that runs the same program in Gramine: the context to build it in.

The program's files stay in one folder, `/image`, of an image that has Gramine, and are the enclave's root. So images
of any distribution, or of none, can be taken, and nothing in them is run outside the enclave.
"""

from __future__ import annotations

import json
import posixpath
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

from sgxkit import __version__
from sgxkit.errors import InputError
from sgxkit.gramine.check import MAX_MANIFEST_SIZE, check, parse
from sgxkit.gramine.finding import ManifestError
from sgxkit.gramine.from_trace import toml_text
from sgxkit.gramine.image_files import Tree, merge, write_archive
from sgxkit.gramine.manifest import with_entrypoint
from sgxkit.gramine.oci import Config, Image
from sgxkit.gramine.project import fill, require_new
from sgxkit.messages import msg

BASE = "docker.io/gramineproject/gramine:stable-jammy"
FOLDER = "/image"
"""Where the program's files are in the container."""

_RUNTIME = "/gramine/lib"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARIES = (
    "/usr/local/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
_BASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}")
_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?")
_MAX_TEXT = 1 << 20

Read = Callable[[str], str | None]
"""The text of a small file of the image; None where there is none."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What is not the image's to say.

    base            the image with Gramine.
    size            of the enclave, as a manifest writes it.
    threads         of the enclave.
    insecure_args   whether whoever starts the container chooses the program's arguments.
    """

    base: str = BASE
    size: str = "1G"
    threads: int = 16
    insecure_args: bool = False


@dataclass(frozen=True, slots=True)
class Containerized:
    """What was made: the files, how many are trusted, which program runs, and what has no place in an enclave."""

    files: tuple[Path, ...]
    trusted_files: int
    program: str
    left_out: int
    unnamed: int


def containerize(image: Image, folder: Path, choices: Choices) -> Containerized:
    """Write the context for building an image in `folder`, which is not there yet, or is empty.

    The same image and choices give the same bytes. Raises InputError where that cannot be done, FormatError for an
    image that is not what it says, ManifestError where a choice is none that Gramine knows.
    """
    if _BASE_NAME.fullmatch(choices.base) is None:
        raise InputError(msg("{name} cannot be the name of an image", name=choices.base))
    require_new(folder)
    name = folder.absolute().name
    temporary = folder.absolute().with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        tree = merge(image)
        with (temporary / "rootfs.tar").open("w+b") as archive:
            offsets = write_archive(image, tree, archive)
            made = _project(name, image.config, tree, choices, _reader(tree, archive, offsets))
        for file, content in made.texts.items():
            (temporary / file).write_text(content, encoding="utf-8")
        temporary.replace(folder)
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=folder, reason=problem.strerror or problem)
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    files = tuple(folder / file for file in sorted([*made.texts, "rootfs.tar"]))
    return Containerized(files, made.trusted, made.program, tree.left_out, made.unnamed)


@dataclass(frozen=True, slots=True)
class _Project:
    texts: dict[str, str]
    trusted: int
    program: str
    unnamed: int


def _project(name: str, config: Config, tree: Tree, choices: Choices, read: Read) -> _Project:
    manifest_name = f"{name}.manifest.template"
    words = [*config.entrypoint, *config.command]
    if not words or not words[0]:
        raise InputError(msg("the image names no program: it has no entry point and no command"))
    start = posixpath.normpath(posixpath.join("/", config.working_directory.lstrip("/")))
    program = _find_program(tree, words[0], config.environment.get("PATH", _PATH), start)
    trusted, unnamed = _trusted(tree)
    user, group = _user(config.user, read)
    lines = [
        f"# {toml_text(' '.join(words))} in Gramine 1.9, of the image with the configuration",
        f"# {config.digest}.",
        "# Text here is measured: each change of it is another MRENCLAVE.",
        "",
        f"libos.entrypoint = {toml_text(program)}",
        *(
            ["# Whoever starts it chooses the arguments.", "loader.insecure__use_cmdline_argv = true"]
            if choices.insecure_args
            else [f"loader.argv = [{', '.join(map(toml_text, words))}]"]
        ),
        *_environment(config, tree),
        f"loader.uid = {user}",
        f"loader.gid = {group}",
        "",
        f'fs.root = {{ type = "chroot", uri = "file:{FOLDER}" }}',
        f"fs.start_dir = {toml_text(start)}",
        "fs.mounts = [",
        f'  {{ path = "{_RUNTIME}", uri = "file:{{{{ gramine.runtimedir(\'{_libc(tree)}\') }}}}" }},',
        "  # DECIDE: what it keeps (mount it encrypted), what it throws away:",
        '  { type = "tmpfs", path = "/tmp" },',
        *(f"  # A volume of the image: {toml_text(volume)}" for volume in config.volumes),
        "]",
        "",
        "# DECIDE: its memory, rounded up to a power of two, and its threads and four of Gramine's own.",
        f"sgx.enclave_size = {toml_text(choices.size)}",
        f"sgx.max_threads = {choices.threads}",
        "",
        "# DECIDE: count isvsvn up with each security update; verifiers ask for a least one.",
        "sgx.isvprodid = 1",
        "sgx.isvsvn = 1",
        'sgx.remote_attestation = "dcap"',
        "",
        "# Every regular file of the image, by each name that it has there.",
        "sgx.trusted_files = [",
        f"  \"file:{{{{ gramine.runtimedir('{_libc(tree)}') }}}}/\",",
    ]
    manifest = "\n".join([*lines, *trusted, "]", ""])
    if len(manifest.encode()) > MAX_MANIFEST_SIZE:
        raise InputError(msg("the manifest would be over {limit} bytes", limit=MAX_MANIFEST_SIZE))
    known = with_entrypoint(parse("\n".join([*lines, "]"]), manifest_name), Path("/"))
    errors = [finding for finding in check(known) if finding.is_error]
    if errors:
        raise ManifestError(manifest_name, errors)
    texts = {manifest_name: manifest}
    place = _places(name, config, choices)
    for file in (resources.files("sgxkit.gramine") / "projects" / "image").iterdir():
        texts[file.name] = fill(file.read_text(encoding="utf-8"), place)
    return _Project(texts, len(trusted), program, unnamed)


def _places(name: str, config: Config, choices: Choices) -> dict[str, str]:
    entrypoint, command = ["gramine-sgx", name], ""
    said = "Whoever runs the image chooses neither the program nor its arguments: they are measured."
    if choices.insecure_args:
        said = "Whoever runs the image chooses the program's arguments (--insecure-args); these are the image's own."
        rest = list(config.command if config.entrypoint else config.command[1:])
        entrypoint += config.entrypoint[1:]
        command = f"CMD {json.dumps(rest)}" if rest else ""
    ports = [port for port in config.ports if _PORT.fullmatch(port)]
    return {
        "name": name,
        "base": choices.base,
        "digest": config.digest,
        "version": __version__,
        "ports": f"EXPOSE {' '.join(ports)}" if ports else "",
        "arguments": said,
        "entrypoint": json.dumps(entrypoint),
        "command": command,
    }


def _find_program(tree: Tree, word: str, path: str, start: str) -> str:
    """Return where a program is in the image, as execvp(3) finds it."""
    folders = [""] if "/" in word else path.split(":")
    for folder in folders:
        candidate = posixpath.normpath(posixpath.join(start, folder, word))
        _, node = tree.resolve(candidate)
        if node is not None and node.content is not None and node.mode & 0o111:
            return candidate
    raise InputError(
        msg("the image has no program {name}", name=word),
        hint=msg("its entry point and command have to name a file of it that may be run"),
    )


def _trusted(tree: Tree) -> tuple[list[str], int]:
    lines, unnamed = [], 0
    for path, content in tree.files():
        try:
            path.encode()
        except UnicodeEncodeError:
            unnamed += 1
            continue
        lines.append(f'  {{ uri = {toml_text(f"file:{FOLDER}{path}")}, sha256 = "{content.sha256}" }},')
    return lines, unnamed


def _environment(config: Config, tree: Tree) -> list[str]:
    libraries = [_RUNTIME]
    for folder in (*config.environment.get("LD_LIBRARY_PATH", "").split(":"), *_LIBRARIES):
        if folder and folder not in libraries and _is_folder(tree, folder):
            libraries.append(folder)
    environment = {"PATH": _PATH, **config.environment, "LD_LIBRARY_PATH": ":".join(libraries)}
    return [f"loader.env.{toml_text(key)} = {toml_text(value)}" for key, value in sorted(environment.items())]


def _is_folder(tree: Tree, path: str) -> bool:
    node = tree.resolve(path)[1]
    return node is not None and node.is_folder


def _libc(tree: Tree) -> str:
    """Which C library the image's programs are for: an image without one of its own for musl is taken for glibc's."""
    return "musl" if tree.resolve("/lib/ld-musl-x86_64.so.1")[1] is not None else "glibc"


def _user(said: str, read: Read) -> tuple[int, int]:
    """Return the numbers of the image's ``user[:group]``, names looked up in its own files."""
    user, _, group = said.partition(":")
    if not user:
        return 0, 0
    accounts = _accounts(read("/etc/passwd"))
    number, own_group = _number(user), 0
    for fields in accounts:
        if len(fields) > 3 and user in (fields[0], fields[2]) and fields[2].isdecimal() and fields[3].isdecimal():
            number, own_group = int(fields[2]), int(fields[3])
            break
    if number is None:
        raise InputError(msg("the image has no user {name}", name=user))
    if not group:
        return number, own_group
    found = _number(group)
    for fields in _accounts(read("/etc/group")):
        if len(fields) > 2 and fields[0] == group and fields[2].isdecimal():
            found = int(fields[2])
            break
    if found is None:
        raise InputError(msg("the image has no group {name}", name=group))
    return number, found


def _accounts(text: str | None) -> list[list[str]]:
    return [line.split(":") for line in (text or "").splitlines()]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None


def _reader(tree: Tree, archive: IO[bytes], offsets: dict[str, int]) -> Read:
    def read(path: str) -> str | None:
        node = tree.resolve(path)[1]
        if node is None or node.content is None:
            return None
        archive.seek(offsets[node.content.sha256])
        return archive.read(min(node.content.size, _MAX_TEXT)).decode(errors="replace")

    return read
