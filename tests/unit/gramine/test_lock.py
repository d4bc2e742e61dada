from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.gramine import HEAD, pal
from sgxkit.errors import FormatError
from sgxkit.gramine.difference import differences
from sgxkit.gramine.finding import ManifestError
from sgxkit.gramine.lock import Lock, lock, read_lock, write_lock

PAL = pal()
A, B = "a" * 64, "b" * 64
FILES = f'sgx.trusted_files = [{{ uri = "file:a", sha256 = "{A}" }}, {{ uri = "file:b", sha256 = "{B}" }}]\n'


def locked(*lines: str, libpal: bytes = PAL) -> Lock:
    text = HEAD + 'sgx.enclave_size = "64M"\n' + "".join(line.rstrip("\n") + "\n" for line in lines)
    return lock(text.encode(), "app.manifest.sgx", libpal)


BASE = locked("sgx.max_threads = 2", FILES)


def why(other: Lock) -> list[tuple[str, str, str | None, str | None]]:
    assert BASE.mrenclave != other.mrenclave
    return [(each.what, each.name, each.first, each.second) for each in differences(BASE, other)]


def test_a_lock_is_written_and_read_and_the_same_build_is_the_same() -> None:
    assert read_lock(write_lock(BASE).encode()) == BASE
    assert list(read_lock(write_lock(BASE).encode()).settings) == list(BASE.settings)
    again = locked("sgx.max_threads = 2", FILES)
    assert write_lock(again) == write_lock(BASE)
    assert differences(BASE, again) == []


def test_a_difference_is_told_down_to_the_key_or_the_file() -> None:
    assert why(locked("sgx.max_threads = 3", FILES)) == [("key", "sgx.max_threads", "2", "3")]
    assert why(locked("sgx.max_threads = 2", "sgx.debug = true", FILES)) == [("key", "sgx.debug", None, "true")]
    assert why(locked("sgx.max_threads = 2", FILES.replace(A, B))) == [("trusted file", "file:a", A, B)]
    one_less = FILES.replace(f', {{ uri = "file:b", sha256 = "{B}" }}', "")
    assert why(locked("sgx.max_threads = 2", one_less)) == [("trusted file", "file:b", B, None)]


def test_another_order_and_another_writing_of_the_same_are_told() -> None:
    turned = f'sgx.trusted_files = [{{ uri = "file:b", sha256 = "{B}" }}, {{ uri = "file:a", sha256 = "{A}" }}]\n'
    assert why(locked("sgx.max_threads = 2", turned)) == [("order of trusted files", "file:a", "file:a", "file:b")]
    moved = lock((HEAD + 'sgx.max_threads = 2\nsgx.enclave_size = "64M"\n' + FILES).encode(), "app.manifest.sgx", PAL)
    assert why(moved) == [("order of keys", "sgx.enclave_size", "sgx.enclave_size", "sgx.max_threads")]
    ((what, name, _, _),) = why(locked("sgx.max_threads  =  2", FILES))
    assert (what, name) == ("text", "")


def test_another_pal_is_told() -> None:
    other = PAL[:0x1000] + b"\xff" + PAL[0x1001:]
    ((what, name, first, second),) = why(locked("sgx.max_threads = 2", FILES, libpal=other))
    assert (what, name) == ("libpal", "libpal.so")
    assert first != second


def test_what_is_no_manifest_cannot_be_locked() -> None:
    with pytest.raises(ManifestError, match=r"app\.manifest\.sgx:7: sgx\.max_threads"):
        locked("sgx.max_threads = 0")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "x"}, "no lock"),
        ({"version": 2}, "2, must be 1"),
        ({"mrenclave": "00"}, "mrenclave: must be 64"),
        ({"libpal": 1}, "libpal: must be 64"),
        ({"settings": []}, "settings"),
        ({"trusted_files": None}, "trusted_files"),
    ],
)
def test_locks_that_are_none(change: dict[str, object], problem: str) -> None:
    document = {**json.loads(write_lock(BASE)), **change}
    with pytest.raises(FormatError, match=problem):
        read_lock(json.dumps(document).encode())


@settings(max_examples=50)
@given(st.one_of(st.binary(max_size=64), st.sampled_from([b"[]", b"{}", b"1", b"[" * 10000])))
def test_any_bytes_are_a_lock_or_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        read_lock(content)
