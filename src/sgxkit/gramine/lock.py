"""What an enclave was made of, as one record: every key, every hash, the PAL, and the measurement that they give.

Written to a file beside the sources, it shows whether a later build, elsewhere, is the same, and if not, why. It
holds no path and no date of the machine, so the same build gives the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sgxkit.enclave.measure import mrenclave
from sgxkit.errors import FormatError
from sgxkit.gramine.build import image_of_signed, sha256_hex
from sgxkit.gramine.finding import dotted
from sgxkit.gramine.rules import at
from sgxkit.gramine.schema import RELEASE
from sgxkit.gramine.toml_lines import Path
from sgxkit.messages import msg

FORMAT = "sgxkit-gramine-lock"
VERSION = 1
MAX_LOCK_SIZE = 64 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Lock:
    """A build.

    release    of Gramine, whose layout and schema were followed.
    mrenclave, manifest, libpal   as hexadecimal digits: the measurement, and SHA-256 of the two files it is made of.
    settings   every key but the trusted files, as TOML writes it, in the order of the manifest.
    trusted_files   URI and SHA-256, in their order.
    """

    release: str
    mrenclave: str
    manifest: str
    libpal: str
    settings: Mapping[str, Any]
    trusted_files: Mapping[str, str]


def lock(text: bytes, file: str, libpal: bytes) -> Lock:
    """Make the record of a ``.manifest.sgx`` and a PAL; ManifestError where it is none."""
    manifest, image = image_of_signed(text, file, libpal)
    return Lock(
        RELEASE,
        mrenclave(image).hex(),
        sha256_hex(text),
        sha256_hex(libpal),
        dict(settings_of(manifest)),
        trusted_files_of(manifest),
    )


def settings_of(manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Go through every key with its value, in the order of the manifest; the trusted files are left out."""
    yield from _leaves(manifest, ())


def trusted_files_of(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the hash of each trusted file that has one, in the order of the manifest."""
    files = at(manifest, "sgx", "trusted_files")
    return {
        str(entry.get("uri")): str(entry.get("sha256", ""))
        for entry in (files if isinstance(files, list) else ())
        if isinstance(entry, dict)
    }


def _leaves(value: object, path: Path) -> Iterator[tuple[str, Any]]:
    if path == ("sgx", "trusted_files"):
        return
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield dotted(path), value if isinstance(value, (bool, int, str, list, dict)) else str(value)


def write_lock(record: Lock) -> str:
    """Write a record as JSON; the same record is the same text."""
    return json.dumps({"format": FORMAT, "version": VERSION, **asdict(record)}, indent=1) + "\n"


def read_lock(content: bytes) -> Lock:
    """Read what `write_lock` wrote; FormatError where it is something else."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise FormatError("lock", msg("this is no JSON")) from problem
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FormatError("lock", msg("this is no lock of a Gramine build"))
    if document.get("version") != VERSION:
        raise FormatError(
            "lock.version", msg("{value}, must be {expected}", value=document.get("version"), expected=VERSION)
        )
    for name in ("mrenclave", "manifest", "libpal"):
        value = document.get(name)
        if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
            raise FormatError(f"lock.{name}", msg("must be 64 hexadecimal digits, is {value}", value=value))
    for name in ("settings", "trusted_files"):
        if not isinstance(document.get(name), dict):
            raise FormatError(f"lock.{name}", msg("must be {expected}, is {actual}", expected="{...}", actual="-"))
    return Lock(
        str(document.get("release")),
        document["mrenclave"],
        document["manifest"],
        document["libpal"],
        document["settings"],
        {str(uri): str(sha256) for uri, sha256 in document["trusted_files"].items()},
    )
