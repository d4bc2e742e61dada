"""Container images in files: an OCI image layout, as a folder or a tar archive, or what `docker save` writes.

OCI Image Format Specification 1.1: image-layout.md, manifest.md, config.md; Docker Image Specification 1.2
(`manifest.json`). All of it is hostile until its SHA-256 is the one that its descriptor names; the digests that the
configuration names for the uncompressed layers are checked where these are read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import posixpath
import re
import stat
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sgxkit.errors import FormatError, InputError
from sgxkit.messages import Message, msg

MAX_DOCUMENT = 4 << 20
"""Bytes of an index, a manifest or a configuration."""

MAX_LAYERS = 512
MAX_BLOBS = 8192
MAX_WORDS = 4096
"""Of an entry point, a command, an environment."""

_INDEX = "index.json"
_DOCKER = "manifest.json"
_REFERENCE = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MAX_NESTED = 4
_MAX_LINKS = 8
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says of how it is run."""

    digest: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    user: str
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    layers: tuple[str, ...]
    """SHA-256 of the uncompressed layers, base first."""


class Image:
    """One image; its layers are read again each time."""

    def __init__(self, store: _Store, config: Config, blobs: tuple[str, ...], references: tuple[str, ...]) -> None:
        self.config = config
        self.references = references
        self._store = store
        self._blobs = blobs

    @contextmanager
    def layer(self, number: int) -> Iterator[IO[bytes]]:
        """Open a layer's tar archive, uncompressed. Raises FormatError for a compression other than gzip."""
        with self._store.open(self._blobs[number]) as file:
            magic = file.read(4)
            file.seek(0)
            if magic.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                    yield cast("IO[bytes]", unpacked)
            elif magic == _ZSTD:
                raise FormatError(
                    f"layer {number + 1}",
                    msg("is compressed with Zstandard, which is not read"),
                    hint=msg("{command} writes it with gzip", command="skopeo copy --dest-compress-format gzip"),
                )
            else:
                yield file


@contextmanager
def open_image(path: Path, name: str | None = None) -> Iterator[Image]:
    """Open the one image for linux/amd64 in a folder or an archive; `name` is its reference where there are more.

    Raises InputError where it cannot be read or has no such image, and FormatError where it is not what it says.
    """
    try:
        store: _Store = _Folder(path) if path.is_dir() else _Archive(path)
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
        raise InputError(
            msg("{path} is no image: {reason}", path=path, reason=problem),
            hint=msg("an OCI image layout, as a folder or a tar archive, or what `docker save` writes, can be read"),
        ) from problem
    try:
        if store.has(_INDEX):
            yield _from_layout(store, name)
        elif store.has(_DOCKER):
            yield _from_docker(store, name)
        else:
            raise InputError(
                msg("{path} is no image: {reason}", path=path, reason=f"{_INDEX}, {_DOCKER}: ENOENT"),
                hint=msg(
                    "an OCI image layout, as a folder or a tar archive, or what `docker save` writes, can be read"
                ),
            )
    finally:
        store.close()


class _Store(ABC):
    """Named files of an image."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open a file; raises FormatError where it is none, InputError where it cannot be read."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    def read(self, name: str) -> bytes:
        """Read a document."""
        with self.open(name) as file:
            content = file.read(MAX_DOCUMENT + 1)
        if len(content) > MAX_DOCUMENT:
            raise FormatError(name, msg("is over {limit} bytes", limit=MAX_DOCUMENT))
        return content


class _Folder(_Store):
    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    def close(self) -> None:
        """Nothing stays open."""

    def has(self, name: str) -> bool:
        return (self._path / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        path = self._path / name
        # The names are the image's own; none may lead to another file of this host.
        if not path.resolve().is_relative_to(self._path):
            raise FormatError(name, msg("leads out of the image"))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FormatError(name, msg("is no regular file"))
        return os.fdopen(descriptor, "rb")


class _Archive(_Store):
    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by close()
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            while (member := self._tar.next()) is not None:
                if len(self._members) >= MAX_BLOBS:
                    raise FormatError(str(path), msg("has over {limit} files", limit=MAX_BLOBS))
                self._members[posixpath.normpath(member.name)] = member
        except BaseException:
            self._tar.close()
            raise

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        at = name
        for _ in range(_MAX_LINKS):  # older Dockers write a layer that is there twice as a link
            if member is None or not member.issym():
                break
            at = posixpath.normpath(posixpath.join(posixpath.dirname(at), member.linkname))
            member = self._members.get(at)
        if member is None:
            raise FormatError(name, msg("is missing in the image"))
        file = self._tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if file is None:
            raise FormatError(name, msg("is no regular file"))
        return file

    def close(self) -> None:
        self._tar.close()


def _from_layout(store: _Store, name: str | None) -> Image:
    descriptors = [each for each in _manifests(store.read(_INDEX), _INDEX) if _may_run_here(each)]
    references = [_annotation(each) for each in descriptors]
    chosen = _choose(references, name, len(descriptors))
    manifest = descriptors[chosen]
    for _ in range(_MAX_NESTED):
        content = _blob(store, manifest)
        document = _object(content, _digest(manifest))
        if "manifests" not in document:
            break
        nested = [each for each in _manifests(content, _digest(manifest)) if _may_run_here(each)]
        manifest = nested[_choose([None] * len(nested), None, len(nested))]
    else:
        raise FormatError(_INDEX, msg("indices are nested too deeply"))
    layers = _list(document, "layers", MAX_LAYERS, "manifest")
    blobs = []
    for layer in layers:
        _check_blob(store, layer)
        blobs.append(_blob_name(layer))
    described = document.get("config")
    config = _config(_blob(store, described), _digest(described))
    return _image(store, config, blobs, [references[chosen]])


def _from_docker(store: _Store, name: str | None) -> Image:
    try:
        document = json.loads(store.read(_DOCKER))
    except (ValueError, RecursionError) as problem:
        raise FormatError(_DOCKER, msg("is no JSON")) from problem
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise FormatError(_DOCKER, msg("is no list of images"))
    tags = [[tag for tag in each.get("RepoTags") or () if isinstance(tag, str)] for each in document]
    if name is not None:
        document = [each for each, named in zip(document, tags, strict=True) if name in named]
        tags = [named for named in tags if name in named]
    chosen = _choose([named[0] if named else None for named in tags], None, len(document))
    about = document[chosen]
    where = about.get("Config")
    if not isinstance(where, str):
        raise FormatError(_DOCKER, msg("names no configuration"))
    content = store.read(where)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if digest.removeprefix("sha256:") not in where:
        raise FormatError(where, msg("has another SHA-256 than it is named by"))
    layers = _list(about, "Layers", MAX_LAYERS, _DOCKER)
    if not all(isinstance(layer, str) for layer in layers):
        raise FormatError(_DOCKER, msg("names no layers"))
    return _image(store, _config(content, digest), layers, tags[chosen])


def _image(store: _Store, config: Config, blobs: list[str], references: list[str | None] | list[str]) -> Image:
    if len(blobs) != len(config.layers):
        raise FormatError(
            "rootfs.diff_ids",
            msg("has {count} layers, and the manifest {other}", count=len(config.layers), other=len(blobs)),
        )
    return Image(store, config, tuple(blobs), tuple(each for each in references if each))


def _choose(references: list[str | None], name: str | None, count: int) -> int:
    found = [index for index in range(count) if name is None or references[index] == name]
    if len(found) == 1:
        return found[0]
    named = ", ".join(sorted({each for each in references if each})[:10])
    if not found:
        raise InputError(
            msg("there is no such image for linux/amd64"),
            hint=msg("images that are there: {names}", names=named) if named else None,
        )
    raise InputError(
        msg("there are {count} images", count=len(found)),
        hint=msg("choose one with --image; there are: {names}", names=named or "?"),
    )


def _manifests(content: bytes, where: str) -> list[dict[str, Any]]:
    return [each for each in _list(_object(content, where), "manifests", MAX_BLOBS, where) if isinstance(each, dict)]


def _may_run_here(descriptor: dict[str, Any]) -> bool:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return True
    return (platform.get("os"), platform.get("architecture")) == ("linux", "amd64")


def _annotation(descriptor: dict[str, Any]) -> str | None:
    annotations = descriptor.get("annotations")
    found = annotations.get(_REFERENCE) if isinstance(annotations, dict) else None
    return found if isinstance(found, str) else None


def _digest(descriptor: object) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise FormatError("digest", msg("is no SHA-256"))
    return digest


def _blob_name(descriptor: object) -> str:
    return f"blobs/sha256/{_digest(descriptor).removeprefix('sha256:')}"


def _blob(store: _Store, descriptor: object) -> bytes:
    content = store.read(_blob_name(descriptor))
    if hashlib.sha256(content).hexdigest() != _digest(descriptor).removeprefix("sha256:"):
        raise FormatError(_blob_name(descriptor), msg("has another SHA-256 than it is named by"))
    return content


def _check_blob(store: _Store, descriptor: object) -> None:
    digest = hashlib.sha256()
    with store.open(_blob_name(descriptor)) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != _digest(descriptor).removeprefix("sha256:"):
        raise FormatError(_blob_name(descriptor), msg("has another SHA-256 than it is named by"))


def _config(content: bytes, digest: str) -> Config:
    document = _object(content, "config")
    if (document.get("os"), document.get("architecture")) != ("linux", "amd64"):
        raise InputError(
            msg(
                "the image is for {system}/{processor}, not for linux/amd64",
                system=str(document.get("os")),
                processor=str(document.get("architecture")),
            )
        )
    rootfs = document.get("rootfs")
    layers = _words(rootfs if isinstance(rootfs, dict) else {}, "diff_ids")
    if any(_DIGEST.fullmatch(layer) is None for layer in layers):
        raise FormatError("rootfs.diff_ids", msg("is no SHA-256"))
    run = document.get("config")
    run = run if isinstance(run, dict) else {}
    environment = {}
    for entry in _words(run, "Env"):
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise FormatError("config.Env", msg("has an entry that is not NAME=VALUE"))
        environment[key] = value
    return Config(
        digest,
        _words(run, "Entrypoint"),
        _words(run, "Cmd"),
        environment,
        _word(run, "WorkingDir") or "/",
        _word(run, "User"),
        _names(run, "ExposedPorts"),
        _names(run, "Volumes"),
        layers,
    )


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise FormatError(where, msg("is no JSON")) from problem
    if not isinstance(document, dict):
        raise FormatError(where, msg("is no JSON object"))
    return document


def _list(document: dict[str, Any], key: str, limit: int, where: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list):
        raise FormatError(f"{where}: {key}", msg("is no list"))
    if len(found) > limit:
        raise FormatError(f"{where}: {key}", msg("has over {limit} entries", limit=limit))
    return found


def _words(document: dict[str, Any], key: str) -> tuple[str, ...]:
    if document.get(key) is None:
        return ()
    found = _list(document, key, MAX_WORDS, "config")
    for word in found:
        _check_text(word, key)
    return tuple(found)


def _word(document: dict[str, Any], key: str) -> str:
    found = document.get(key) or ""
    _check_text(found, key)
    return str(found)


def _names(document: dict[str, Any], key: str) -> tuple[str, ...]:
    found = document.get(key) or {}
    if not isinstance(found, dict) or len(found) > MAX_WORDS:
        raise FormatError(f"config.{key}", msg("is no JSON object"))
    for name in found:
        _check_text(name, key)
    return tuple(sorted(found))


def _check_text(value: object, key: str) -> None:
    problem: Message | None = None
    if not isinstance(value, str):
        problem = msg("is no text")
    elif "\0" in value or any(0xD800 <= ord(char) < 0xE000 for char in value):
        problem = msg("has a character that no program can be given")
    if problem is not None:
        raise FormatError(f"config.{key}", problem)


def _unreadable(path: Path, problem: OSError) -> InputError:
    return InputError(msg("{path} cannot be read: {reason}", path=path, reason=problem.strerror or problem))
