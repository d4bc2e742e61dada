"""From a template to a signed enclave: render, hash, lay out, measure, and what is to be signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgxkit.enclave.image import EnclaveImage
from sgxkit.enclave.measure import mrenclave
from sgxkit.errors import InputError
from sgxkit.gramine.check import MAX_MANIFEST_SIZE, check, decode, parse, with_lines
from sgxkit.gramine.finding import Finding, ManifestError
from sgxkit.gramine.hashing import HashCache, Progress, hash_files
from sgxkit.gramine.layout import MAX_LIBPAL_SIZE, enclave_image, enclave_settings
from sgxkit.gramine.manifest import with_defaults, write
from sgxkit.gramine.sigstruct import manifest_sigstruct
from sgxkit.gramine.trusted import TrustedFile, as_manifest, expand
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.messages import Message, msg


def _ignore(message: Message) -> None:
    del message


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a manifest is completed from.

    libos     the LibOS, for `loader.entrypoint` where the manifest names none.
    chroot    where trusted files are looked for; None: on this machine.
    cache     of hashes.
    note      is told what is left out; `progress` how many files are hashed.
    """

    libos: Path
    chroot: Path | None = None
    cache: HashCache = field(default_factory=HashCache)
    note: Callable[[Message], None] = _ignore
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """An enclave that is ready to be signed.

    text       the bytes of the ``.manifest.sgx``.
    manifest   the same, parsed.
    files      the trusted files, in their order.
    sigstruct  without a signature.
    """

    text: bytes
    manifest: dict[str, Any]
    files: tuple[TrustedFile, ...]
    image: EnclaveImage
    sigstruct: Sigstruct


def complete(
    text: str, file: str, surroundings: Surroundings, *, unknown_keys: bool = False, verify: bool = False
) -> tuple[dict[str, Any], list[TrustedFile], list[Finding]]:
    """Add defaults and hashes to a manifest's text: what `gramine-manifest` does, and `gramine-sgx-sign` first.

    Returned are the manifest, its trusted files and the warnings. With `verify`, files that have a hash already are
    hashed, too, and one that is there and has changed is an error. Raises ManifestError where the check finds
    errors; with `unknown_keys`, keys that there are not are none.
    """
    manifest = with_defaults(parse(text, file), surroundings.libos)
    findings = with_lines(check(manifest), text)
    errors = [finding for finding in findings if finding.is_error and not (unknown_keys and _is_unknown_key(finding))]
    if errors:
        raise ManifestError(file, errors)
    files = expand(manifest["sgx"]["trusted_files"], chroot=surroundings.chroot, note=surroundings.note)
    entrypoint = manifest["loader"]["entrypoint"]
    loader = TrustedFile(entrypoint["uri"], Path(entrypoint["uri"].removeprefix("file:")), entrypoint.get("sha256"))
    every = [*files, loader]
    todo = [each.path for each in every if each.sha256 is None or (verify and each.path.is_file())]
    hashes = hash_files(todo, surroundings.cache, progress=surroundings.progress)
    for each in every:
        if each.sha256 is not None and hashes.get(each.path, each.sha256.lower()) != each.sha256.lower():
            raise InputError(
                msg("{path} has changed since the manifest was rendered", path=each.path),
                hint=msg("render the manifest again, or restore the file"),
            )
    entrypoint.setdefault("sha256", hashes.get(loader.path, ""))
    manifest["sgx"]["trusted_files"] = as_manifest(files, hashes)
    return manifest, files, findings


def measure(manifest: dict[str, Any], files: list[TrustedFile], libpal: bytes, *, date: int) -> Measured:
    """Write, lay out and measure a manifest that `complete` made, for Gramine's `sgx/libpal.so`."""
    text = write(manifest).encode()
    image = enclave_image(enclave_settings(manifest), text, libpal)
    return Measured(text, manifest, tuple(files), image, manifest_sigstruct(manifest, mrenclave(image), date))


_LAYOUT_KEYS = frozenset({(), ("sgx",), ("sgx", "enclave_size"), ("sgx", "max_threads"), ("sgx", "edmm_enable")})


def image_of_signed(text: bytes, file: str, libpal: bytes) -> tuple[dict[str, Any], EnclaveImage]:
    """Lay out the enclave of a ``.manifest.sgx`` of release 1.5 or later, and return the manifest, parsed, with it.

    What else is in the manifest is not judged. Raises ManifestError where no enclave can be laid out by it.
    """
    said = decode(text, file)
    manifest = parse(said, file)
    findings = with_lines(check(manifest), said)
    errors = [finding for finding in findings if finding.is_error and finding.path in _LAYOUT_KEYS]
    if errors:
        raise ManifestError(file, errors)
    return manifest, enclave_image(enclave_settings(with_defaults(manifest, Path("/"))), text, libpal)


def read_manifest(path: Path) -> str:
    """Read a manifest or template from a file; InputError, or ManifestError where it is no text."""
    return decode(_read(path, MAX_MANIFEST_SIZE), str(path))


def read_libpal(path: Path) -> bytes:
    """Read Gramine's PAL."""
    content = _read(path, MAX_LIBPAL_SIZE)
    if len(content) > MAX_LIBPAL_SIZE:
        raise InputError(msg("{path} is over {limit} bytes and no PAL", path=path, limit=MAX_LIBPAL_SIZE))
    return content


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=path, reason=problem.strerror or problem)
        ) from problem


def _is_unknown_key(finding: Finding) -> bool:
    return finding.code in ("unknown-key", "removed-key")
