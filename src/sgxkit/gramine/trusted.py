"""Trusted files: which files `sgx.trusted_files` names, in the order in which Gramine's tools write them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

MAX_FILES = 1 << 20
"""More files are a mistake such as ``file:/``, and no manifest that Gramine could load."""

_SCHEME = "file:"
_MAX_LINKS = 40

Note = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class TrustedFile:
    """One file: how the manifest names it, where it is on this machine, its hash where the manifest had one."""

    uri: str
    path: Path
    sha256: str | None = None


def expand(entries: Sequence[Any], *, chroot: Path | None = None, note: Note) -> list[TrustedFile]:
    """List the files that the elements of `sgx.trusted_files` name, each once.

    A directory (its URI ends with /) stands for all files below it, by name; links to directories are not followed.
    Of two elements for one URI the place of the first and the hash that is given count. `note` is told what in a
    directory is left out. Raises InputError where a name is no directory or no file as its URI says, or where one
    URI has two hashes.
    """
    found: dict[str, TrustedFile] = {}
    for entry in entries:
        uri, sha256 = (entry, None) if isinstance(entry, str) else (entry["uri"], entry.get("sha256"))
        for file in _files(TrustedFile(uri, _locate(uri, chroot), sha256), chroot, note):
            known = found.get(file.uri)
            if known is None:
                found[file.uri] = file
                if len(found) > MAX_FILES:
                    raise InputError(msg("sgx.trusted_files names over {limit} files", limit=MAX_FILES))
            elif known.sha256 is None:
                found[file.uri] = file
            elif file.sha256 not in (None, known.sha256):
                raise InputError(
                    msg(
                        "{uri} is in sgx.trusted_files with two hashes, {first} and {second}",
                        uri=uri,
                        first=known.sha256,
                        second=file.sha256,
                    ),
                    hint=msg("leave out the one that is not the file's"),
                )
    return list(found.values())


def as_manifest(files: Sequence[TrustedFile], hashes: Mapping[Path, str]) -> list[dict[str, str]]:
    """Write files as elements of `sgx.trusted_files`; a hash that the manifest had stays."""
    return [{"uri": file.uri, "sha256": file.sha256 or hashes[file.path]} for file in files]


def _files(file: TrustedFile, chroot: Path | None, note: Note) -> Iterator[TrustedFile]:
    if not file.uri.endswith("/"):
        if file.path.is_dir():
            raise InputError(
                msg("{uri} in sgx.trusted_files is a directory", uri=file.uri),
                hint=msg('write "{uri}/" where all files below it are meant', uri=file.uri),
            )
        yield file
        return
    if not file.path.is_dir():
        raise InputError(
            msg("{uri} in sgx.trusted_files ends with / and is no directory", uri=file.uri),
            hint=msg("write it without / where it is a file"),
        )
    if file.sha256 is not None:
        raise InputError(msg("{uri} in sgx.trusted_files is a directory and has a sha256", uri=file.uri))
    yield from _below(file.path, chroot, note)


def _below(folder: Path, chroot: Path | None, note: Note) -> Iterator[TrustedFile]:
    """Go through the files below a directory as Gramine does: by name, a directory where its name stands."""
    pending = [iter(_names(folder))]
    folders = [folder]
    while pending:
        name = next(pending[-1], None)
        if name is None:
            pending.pop()
            folders.pop()
            continue
        path = folders[-1] / name
        is_folder = path.is_dir()
        if not is_folder and not path.is_file():
            note(msg("{path} is left out: it is neither a file nor a directory, or a link to nothing", path=path))
        elif not os.access(path, os.R_OK):
            note(msg("{path} is left out: it cannot be read", path=path))
        elif is_folder and path.is_symlink():
            note(msg("{path} is left out: links to directories are not followed", path=path))
        elif is_folder:
            pending.append(iter(_names(path)))
            folders.append(path)
        else:
            inside = path if chroot is None else "/" / path.relative_to(chroot)
            uri = f"{_SCHEME}{PurePosixPath(inside)}"
            try:
                yield TrustedFile(uri, _locate(uri, chroot))
            except InputError as problem:
                note(msg("{path} is left out: {reason}", path=path, reason=problem.message))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names alone are wanted, of many files
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=folder, reason=problem.strerror or problem)
        ) from problem


def _locate(uri: str, chroot: Path | None) -> Path:
    """Return where the file of a URI is on this machine."""
    if not uri.startswith(_SCHEME):
        raise InputError(msg("{uri} in sgx.trusted_files does not begin with file:", uri=uri))
    path = PurePosixPath(uri.removeprefix(_SCHEME))
    if "\0" in uri:
        raise InputError(msg("{uri} in sgx.trusted_files is no name of a file", uri=uri))
    return Path(path) if chroot is None else in_chroot(path, chroot)


def in_chroot(path: PurePosixPath, chroot: Path) -> Path:
    """Follow the links of an absolute path as if `chroot` were /; the result is below `chroot`, on this machine.

    Raises InputError where the path is relative, goes through something that is no directory, or in circles.
    """
    if not path.is_absolute():
        raise InputError(
            msg("{path} is relative, and in a chroot only absolute paths can be measured", path=path),
            hint=msg("write the path inside the chroot, from / on"),
        )
    here = PurePosixPath("/")
    todo = list(reversed(path.parts[1:]))
    links = 0
    while todo:
        part = todo.pop()
        outside = chroot / here.relative_to("/")
        if not outside.is_dir():
            raise _chroot_error(path, errno.ENOTDIR)
        if part == "..":
            here = here.parent
            continue
        step = here / part
        outside = chroot / step.relative_to("/")
        if not outside.is_symlink():
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _chroot_error(path, errno.ELOOP)
        target = PurePosixPath(os.readlink(outside))  # noqa: PTH115 - as a pure path
        if target.is_absolute():
            here = PurePosixPath("/")
            todo.extend(reversed(target.parts[1:]))
        else:
            todo.extend(reversed(target.parts))
    return chroot / here.relative_to("/")


def _chroot_error(path: PurePosixPath, number: int) -> InputError:
    return InputError(msg("{path} in the chroot cannot be read: {reason}", path=path, reason=os.strerror(number)))
