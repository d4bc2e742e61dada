"""The local cache of collateral: one file an answer, good until the first piece of it ends.

Many processes may use one folder: files appear whole (temporary file, then rename), and who is about to ask a service
holds a lock, so that others who want the same wait for the answer instead of asking too. The cache is not trusted:
whatever comes out of it is verified like anything else, so a damaged file costs another question to the service, and
a forged one a refusal. The folder is its owner's alone, or it is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from sgxkit.dcap.collateral import MAX_BUNDLE, Collateral, CollateralError, export_bundle, parse_bundle
from sgxkit.dcap.collateral_summary import CollateralSummary, summarize
from sgxkit.dcap.json_fields import as_object, string
from sgxkit.dcap.signed_json import parse_strict_json
from sgxkit.dcap.transport import Note
from sgxkit.errors import FormatError, InputError
from sgxkit.file_lock import try_lock
from sgxkit.messages import msg

MAX_ENTRIES = 256
"""More answers than this are not kept; those unused by rewriting for the longest time go first."""

_FORMAT = "sgxkit-collateral-cache"
_VERSION = "1"
_LOCKS = 16
# Not every system has these.
_GUARDED = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))
_LOCK_POLL = 0.05
_ABANDONED = 24 * 3600.0


class CacheBusyError(CollateralError):
    """Another process has been asking the service for the same for longer than we wait."""

    code: ClassVar[str] = "collateral-cache-busy"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What an answer is kept under: who was asked, and what; all as text.

    `source` is the service (`str` of a `Service`), `tee` sgx or tdx, `fmspc` 12 lower-case hexadecimal digits, `ca`
    platform or processor, `choice` "standard", "early" or an evaluation number.
    """

    source: str
    tee: str
    fmspc: str
    ca: str
    choice: str

    @property
    def digest(self) -> str:
        """SHA-256 over the fields, in hexadecimal digits; names the file and its lock."""
        fields = (self.source, self.tee, self.fmspc, self.ca, self.choice)
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """The entry's file name: readable first, and unique."""
        return f"{self.tee}-{self.fmspc}-{self.ca}-{self.digest[:32]}.json"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answer out of the cache; `stamp` changes whenever the file is replaced."""

    key: CacheKey
    path: Path
    collateral: Collateral
    summary: CollateralSummary
    stamp: tuple[int, int]

    def is_fresh(self, now: datetime) -> bool:
        """Whether every piece of it (JSON, CRLs, certificates) is still in force at `now`."""
        return now < self.summary.first_to_end.end


def cache_folder(environment: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Path:
    """Return the folder of this user's cache; it need not exist yet.

    ``$SGXKIT_CACHE_DIR`` where set; else for root /var/cache/sgxkit/collateral, for others
    ``$XDG_CACHE_HOME/sgxkit/collateral`` (XDG Base Directory 0.8: an unset or relative one means ~/.cache).

    Raises `InputError` for a user without a home.
    """
    if chosen := environment.get("SGXKIT_CACHE_DIR"):
        return Path(chosen)
    if (hasattr(os, "geteuid") and os.geteuid() == 0) if root is None else root:
        return Path("/var/cache/sgxkit/collateral")
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "sgxkit" / "collateral"
    except RuntimeError as error:  # neither $HOME nor an entry in the user database, as in containers
        raise InputError(
            msg("this user has no home folder to cache collateral in"),
            hint=msg("name a folder in the environment: SGXKIT_CACHE_DIR"),
        ) from error


def load(folder: Path, key: CacheKey, note: Note) -> CacheEntry | None:
    """Return the entry of `key`, fresh or not; None where there is none that can be used, which `note` is told."""
    path = folder / key.file_name
    try:
        entry = _read(path)
    except FileNotFoundError:
        return None
    except (OSError, FormatError) as error:
        note(msg("the cached collateral {path} is not used: {reason}", path=path, reason=_reason(error)))
        return None
    if entry.key != key:
        note(msg("the cached collateral {path} is not used: it answers another question", path=path))
        return None
    return entry


def _reason(error: OSError | FormatError) -> object:
    return error.message if isinstance(error, FormatError) else error.strerror or error


def entries(folder: Path, note: Note) -> tuple[CacheEntry, ...]:
    """Return all entries that can be read, by file name."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_read(path))
        except FileNotFoundError:
            continue  # replaced or dropped by another process meanwhile
        except (OSError, FormatError) as error:
            note(msg("the cached collateral {path} is not used: {reason}", path=path, reason=_reason(error)))
    return tuple(found)


def find(
    folder: Path,
    note: Note,
    *,
    tee: str | None = None,
    fmspc: str | None = None,
    ca: str | None = None,
    choice: str | None = None,
) -> tuple[CacheEntry, ...]:
    """Return the entries whose keys have these values; None stands for any."""
    wanted = {"tee": tee, "fmspc": fmspc, "ca": ca, "choice": choice}
    return tuple(
        entry
        for entry in entries(folder, note)
        if all(value is None or getattr(entry.key, name) == value for name, value in wanted.items())
    )


def store(folder: Path, key: CacheKey, collateral: Collateral) -> CacheEntry:
    """Keep collateral under `key`, replacing what was there, and return the entry.

    Raises `FormatError` where it cannot be read and so has no end, `OSError` where the folder cannot be used.
    """
    summarize(collateral)
    make_folder(folder)
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "source": key.source,
        "tee": key.tee,
        "fmspc": key.fmspc,
        "ca": key.ca,
        "choice": key.choice,
        "bundle": export_bundle(collateral),
    }
    path = folder / key.file_name
    temporary = folder / f".{key.file_name}.{secrets.token_hex(8)}.tmp"
    try:
        with os.fdopen(_open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
            file.write(json.dumps(document, indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _drop_old(folder, keep=path)
    return _read(path)


@contextlib.contextmanager
def locked(folder: Path, key: CacheKey, *, seconds: float) -> Iterator[None]:
    """Hold the lock of `key` for the block; no two processes or threads are in it at once.

    Locks are few and shared by keys, so that they need never be removed. Raises `CacheBusyError` after `seconds`,
    `OSError` where the folder cannot be used.
    """
    make_folder(folder)
    lock = _open(folder / f"lock-{int(key.digest[:8], 16) % _LOCKS:02}", os.O_WRONLY | os.O_CREAT)
    try:
        _acquire(lock, seconds)
        yield
    finally:
        os.close(lock)  # releases the lock, as does the end of the process


def _acquire(descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise CacheBusyError(
                msg("another process has been fetching collateral for {seconds} seconds", seconds=f"{seconds:g}"),
                hint=msg("try again later, or with --no-cache"),
            )
        time.sleep(_LOCK_POLL)


def make_folder(folder: Path) -> None:
    """Make the cache's folder, mode 0700; raises `PermissionError` for one that others can write to."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raise `PermissionError` for a folder that others can write to, `FileNotFoundError` for none.

    Whoever else can write to it could put back collateral that is in force and older than the last revocation.
    A system without user numbers is not asked.
    """
    status = folder.stat()
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user, or others can write to it")


def _open(path: Path, flags: int) -> int:
    # Not through a symbolic link, and without waiting where somebody put a pipe.
    return os.open(path, flags | _GUARDED, 0o600)


def _read(path: Path) -> CacheEntry:
    # An entry is its bundle escaped once more; twice the largest bundle holds any that was written here.
    limit = 2 * MAX_BUNDLE
    with os.fdopen(_open(path, os.O_RDONLY), "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(path.name, msg("it is longer than {limit} bytes", limit=limit))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(path.name, msg("it is not UTF-8"), offset=error.start) from error
    document = as_object(parse_strict_json(text, path.name), path.name)
    if (document.get("format"), document.get("version")) != (_FORMAT, _VERSION):
        raise FormatError(path.name, msg("it is not {expected}", expected=f"{_FORMAT} {_VERSION}"))
    collateral = parse_bundle(string(document, "bundle", path.name))
    return CacheEntry(
        key=CacheKey(*(string(document, name, path.name) for name in ("source", "tee", "fmspc", "ca", "choice"))),
        path=path,
        collateral=collateral,
        summary=summarize(collateral),
        stamp=(status.st_ino, status.st_mtime_ns),
    )


def _drop_old(folder: Path, *, keep: Path) -> None:
    """Drop the entries over the limit, oldest first, and what dead processes left half written."""
    written: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process dropped it first
            age = path.stat().st_mtime
            if path.suffix == ".tmp" and time.time() - age > _ABANDONED:
                path.unlink()
            elif path.suffix == ".json" and path != keep:
                written.append((age, path))
    for _, path in sorted(written)[: max(0, len(written) + 1 - MAX_ENTRIES)]:
        path.unlink(missing_ok=True)
