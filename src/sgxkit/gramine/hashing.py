"""SHA-256 of many files: in parallel, and not again where a large file has not changed.

The cache remembers large files by device, inode, size and the times of the last change of contents and of inode. A
file that changed a moment before it was hashed is not remembered, because another change could have the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.messages import msg

WORTH_REMEMBERING = 1 << 20
"""Bytes; smaller files are hashed as fast as they are looked up."""

_MAX_REMEMBERED = 50_000
_SETTLED_NANOSECONDS = 2_000_000_000
_BLOCK = 1 << 18
_BATCH = 64

Progress = Callable[[int, int], None]
"""Is told how many files are done, and of how many."""


class HashCache:
    """What is known of large files; `load` reads it, `save` writes it whole."""

    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known = known or {}
        self.used: dict[str, str] = {}

    @classmethod
    def load(cls, path: Path) -> HashCache:
        """Read a cache; a file that is missing, another user's or damaged is as good as an empty one."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_uid != os.geteuid():
                    return cls()
                document = json.load(file)
        except (OSError, ValueError, RecursionError):
            return cls()
        if not isinstance(document, dict):
            return cls()
        return cls({key: value for key, value in document.items() if isinstance(value, str) and len(value) == 64})

    def save(self, path: Path) -> None:
        """Write it, the files of this run first; where that cannot be done the next run hashes again."""
        if self.used.items() <= self.known.items():
            return
        kept = dict(islice({**self.used, **self.known}.items(), _MAX_REMEMBERED))
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(kept, file)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)


def cache_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of this user's cache; None for a user without a home.

    ``gramine/hashes.json`` in ``$SGXKIT_CACHE_DIR`` where set, else in /var/cache/sgxkit for root and in
    ``$XDG_CACHE_HOME/sgxkit`` (``~/.cache/sgxkit``) for others.
    """
    if chosen := environment.get("SGXKIT_CACHE_DIR"):
        base = Path(chosen)
    elif os.geteuid() == 0:
        base = Path("/var/cache/sgxkit")
    else:
        home = Path(environment.get("XDG_CACHE_HOME", ""))
        try:
            base = (home if home.is_absolute() else Path.home() / ".cache") / "sgxkit"
        except RuntimeError:
            return None
    return base / "gramine" / "hashes.json"


def hash_files(paths: Iterable[Path], cache: HashCache, *, progress: Progress | None = None) -> dict[Path, str]:
    """Return the SHA-256 of each file in lower-case hexadecimal digits.

    Raises InputError for a file that is missing, cannot be read, is no regular file, or changes meanwhile.
    """
    todo = list(dict.fromkeys(paths))
    found: dict[Path, str] = {}
    batches = [todo[first : first + _BATCH] for first in range(0, len(todo), _BATCH)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for batch, digests in zip(batches, pool.map(lambda some: _hash_batch(some, cache), batches), strict=True):
                found.update(zip(batch, digests, strict=True))
                if progress is not None:
                    progress(len(found), len(todo))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return found


def _hash_batch(paths: Sequence[Path], cache: HashCache) -> list[str]:
    buffer = memoryview(bytearray(_BLOCK))
    return [_hash_file(path, cache, buffer) for path in paths]


def _hash_file(path: Path, cache: HashCache, buffer: memoryview) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise InputError(msg("{path} is no regular file and cannot be trusted", path=path))
            key = _key(before)
            known = cache.known.get(key) if before.st_size >= WORTH_REMEMBERING else None
            if known is not None:
                cache.used[key] = known
                return known
            digest = hashlib.sha256()
            while count := os.readv(descriptor, [buffer]):
                digest.update(buffer[:count])
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=path, reason=problem.strerror or problem)
        ) from problem
    if _key(after) != key:
        raise InputError(
            msg("{path} changed while it was read", path=path),
            hint=msg("a trusted file must not change: allow it, or mount it encrypted, if it has to"),
        )
    found = digest.hexdigest()
    settled = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) > _SETTLED_NANOSECONDS
    if after.st_size >= WORTH_REMEMBERING and settled:
        cache.used[key] = found
    return found


def _key(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
