"""Which host file a path inside the enclave is, and by which rule of the manifest it may be opened."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import normpath
from typing import Literal

from sgxkit.gramine.rules import Manifest, at, tables

Rule = Literal["trusted", "allowed", "encrypted", "inside", "nothing"]


def uri_of(manifest: Manifest, path: str) -> tuple[str, str]:
    """Return the type of the mount that holds an absolute path inside the enclave, and the path's host URI.

    The last mount whose path holds it counts, else the root: `fs.root`, or the folder in which Gramine starts.
    """
    path = normpath(path)
    for mount in reversed([mount for _, mount in tables(at(manifest, "fs", "mounts"))]):
        where = normpath(_text(mount.get("path")))
        if path == where or path.startswith(f"{where}/"):
            return _text(mount.get("type")) or "chroot", _below(_text(mount.get("uri")), path[len(where) :])
    root = at(manifest, "fs", "root")
    if isinstance(root, dict):
        return _text(root.get("type")) or "chroot", _below(_text(root.get("uri")), path)
    return "chroot", _below("file:", path)


def rule_of(manifest: Manifest, path: str) -> Rule:
    """Say by which rule a path inside the enclave may be opened."""
    kind, uri = uri_of(manifest, path)
    if kind == "encrypted":
        return "encrypted"
    if kind != "chroot":
        return "inside"
    if any(_covers(entry, uri) for entry in trusted_uris(manifest)):
        return "trusted"
    if any(_covers(entry, uri) for entry in allowed_uris(manifest)):
        return "allowed"
    return "nothing"


def anything_below(manifest: Manifest, uri: str) -> bool:
    """Whether some file at or below a host URI may be opened."""
    entries = [*trusted_uris(manifest), *allowed_uris(manifest)]
    return any(_covers(entry, uri) or _covers(uri.rstrip("/") + "/", entry) for entry in entries)


def trusted_uris(manifest: Manifest) -> Iterator[str]:
    files = at(manifest, "sgx", "trusted_files")
    for entry in files if isinstance(files, list) else ():
        uri = entry.get("uri") if isinstance(entry, dict) else entry
        if isinstance(uri, str):
            yield uri


def allowed_uris(manifest: Manifest) -> Iterator[str]:
    files = at(manifest, "sgx", "allowed_files")
    for uri in files if isinstance(files, list) else ():
        if isinstance(uri, str):
            yield uri


def _covers(entry: str, uri: str) -> bool:
    scheme, _, path = uri.partition(":")
    entry_scheme, _, holder = entry.partition(":")
    if scheme != entry_scheme:
        return False
    path, holder = _clean(path), _clean(holder)
    return path == holder or holder in ("", "/") or path.startswith(f"{holder}/")


def _below(uri: str, rest: str) -> str:
    return f"{uri.rstrip('/')}{rest}" if rest.strip("/") else uri


def _clean(path: str) -> str:
    path = normpath(path) if path else ""
    return "" if path == "." else path


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
