"""Repository keys and archives: fetched, and taken only if the key has the one fingerprint that is trusted."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path

from sgxkit.errors import SetupError
from sgxkit.host.probe import openpgp_keys
from sgxkit.host.setup.actions import RepositoryKey
from sgxkit.host.setup.target import Target
from sgxkit.messages import msg

MAX_KEY = 256 * 1024
MAX_ARCHIVE = 2 * 1024 * 1024 * 1024
_ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_TIMEOUT = 60.0


def trusted_key(target: Target, key: RepositoryKey) -> bytes:
    """Fetch a key and return it armoured; SetupError unless it is the one key with the fingerprint, and nothing else.

    A file with a second key in it would let that one sign packages too.
    """
    data = fetch(target, key.url, MAX_KEY)
    try:
        found = [str(entry["fingerprint"]) for entry in openpgp_keys(data)]
    except (ValueError, IndexError, KeyError) as error:
        raise SetupError(msg("{url} is no OpenPGP key", url=key.url)) from error
    if not found or set(found) != {key.fingerprint}:
        raise SetupError(
            msg(
                "the key at {url} is not the trusted one: {found} instead of {fingerprint}",
                url=key.url,
                found=", ".join(found) or "-",
                fingerprint=key.fingerprint,
            ),
            hint=msg("somebody may have replaced it; if the owner did, name the new one yourself"),
        )
    return data if data.lstrip().startswith(_ARMOUR) else armoured(data)


def armoured(data: bytes) -> bytes:
    """ASCII armour of binary OpenPGP data (RFC 4880, 6.2), with its CRC-24."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    text = base64.b64encode(data)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    check = b"=" + base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big"))
    return b"\n".join([_ARMOUR, b"", *lines, check, b"-----END PGP PUBLIC KEY BLOCK-----", b""])


def fetch(target: Target, url: str, limit: int) -> bytes:
    """Return what is at `url` (https, http, or a file of the host), at most `limit` bytes."""
    if url.startswith("file://"):
        data = target.read(url.removeprefix("file://"))
        if data is None:
            raise SetupError(msg("{url} does not exist", url=url))
        return data
    with tempfile.TemporaryFile() as file:
        _download(url, file.fileno(), limit)
        file.seek(0)
        return file.read()


def _download(url: str, descriptor: int, limit: int) -> None:
    import httpx  # noqa: PLC0415 - planning needs no HTTP

    size = 0
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=_TIMEOUT) as reply:
            reply.raise_for_status()
            for chunk in reply.iter_bytes():
                size += len(chunk)
                if size > limit:
                    raise SetupError(msg("{url} is larger than {limit} bytes", url=url, limit=limit))
                os.write(descriptor, chunk)
    except httpx.HTTPError as error:
        raise SetupError(
            msg("{url} cannot be fetched: {reason}", url=url, reason=str(error) or type(error).__name__),
            hint=msg("a mirror can be named with --repo-url, --repo-key and --repo-fingerprint"),
        ) from error


def unpack(target: Target, url: str, folder: str) -> None:
    """Fetch an archive and unpack it to `folder`, which is its one top folder; nothing outside is written.

    GNU tar refuses names that lead out of where it unpacks. A host far away fetches the archive itself.
    """
    scratch = f"{Path(folder).parent}/.sgxkit-unpack"
    archive = f"{scratch}/archive"
    target.remove_tree(scratch)
    target.make_folders(f"{scratch}/unpacked")
    try:
        if target.remote is not None and not url.startswith("file://"):
            plain = ("--fail", "--silent", "--show-error", "--location", "--max-filesize", str(MAX_ARCHIVE))
            target.run(["curl", *plain, "--output", archive, url])
        elif url.startswith("file://"):
            target.write(archive, fetch(target, url, MAX_ARCHIVE), 0o600)
        else:
            target.write(archive, b"", 0o600)
            descriptor = os.open(target.place(archive), os.O_WRONLY)
            try:
                _download(url, descriptor, MAX_ARCHIVE)
            finally:
                os.close(descriptor)
        where = (f"--file={archive}", f"--directory={scratch}/unpacked")
        target.run(["tar", "--extract", "--no-same-owner", "--no-same-permissions", *where])
        top = f"{scratch}/unpacked/{Path(folder).name}"
        if not target.exists(top):
            raise SetupError(msg("{url} has no folder {name}", url=url, name=Path(folder).name))
        target.rename(top, folder)
    finally:
        target.remove_tree(scratch)
