from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from sgxkit.errors import InputError
from sgxkit.gramine.hashing import WORTH_REMEMBERING, HashCache, cache_file, hash_files

LARGE = bytes(range(256)) * (WORTH_REMEMBERING // 256)


def hashed(path: Path, cache: HashCache | None = None) -> str:
    return hash_files([path], cache or HashCache())[path]


def settled(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file that changed last a while ago, as far as anyone can tell."""
    path.write_bytes(content)
    later = path.stat().st_ctime_ns + 10_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: later)


def test_many_files_are_hashed_and_counted(tmp_path: Path) -> None:
    paths = []
    for number in range(300):
        path = tmp_path / str(number)
        path.write_bytes(str(number).encode() * 1000)
        paths.append(path)
    told: list[tuple[int, int]] = []
    found = hash_files([*paths, paths[0]], HashCache(), progress=lambda done, total: told.append((done, total)))
    assert found == {path: sha256(path.read_bytes()).hexdigest() for path in paths}
    assert told[-1] == (300, 300)
    assert hash_files([], HashCache()) == {}


def test_a_large_file_is_remembered_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = tmp_path / "large", tmp_path / "cache" / "hashes.json"
    settled(path, LARGE, monkeypatch)
    cache = HashCache()
    expected = hashed(path, cache)
    assert expected == sha256(LARGE).hexdigest()
    cache.save(store)
    assert store.stat().st_mode & 0o777 == 0o600
    key = next(iter(json.loads(store.read_text())))
    store.write_text(json.dumps({key: "f" * 64}))  # told by another hash that the cache is looked at
    assert hashed(path, HashCache.load(store)) == "f" * 64
    changed = LARGE[:-1] + b"!"
    path.write_bytes(changed)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert hashed(path, HashCache.load(store)) == sha256(changed).hexdigest()


def test_what_changed_a_moment_ago_and_small_files_are_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HashCache()
    fresh = tmp_path / "fresh"
    fresh.write_bytes(LARGE)
    hashed(fresh, cache)
    settled(tmp_path / "small", b"small", monkeypatch)
    hashed(tmp_path / "small", cache)
    assert cache.used == {}


@pytest.mark.parametrize("content", ["", "[", "[]", '{"a": 1}', '{"a": "short"}', "[" * 100000])
def test_a_damaged_cache_is_an_empty_one(content: str, tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    path.write_text(content)
    assert HashCache.load(path).known == {}
    assert HashCache.load(tmp_path / "missing").known == {}


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "no regular file"),
        (os.mkfifo, "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    ],
)
def test_what_is_no_file_is_refused(make: object, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=problem):
        hashed(path)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_file({"SGXKIT_CACHE_DIR": "/c"}) == Path("/c/gramine/hashes.json")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cache_file({}) == Path("/var/cache/sgxkit/gramine/hashes.json")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cache_file({"XDG_CACHE_HOME": "/x"}) == Path("/x/sgxkit/gramine/hashes.json")
