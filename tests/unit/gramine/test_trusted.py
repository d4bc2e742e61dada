"""Trusted files in a chroot; without one, tests/unit/gramine/test_build.py has them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from sgxkit.errors import InputError
from sgxkit.gramine.trusted import TrustedFile, expand, in_chroot
from sgxkit.messages import Message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr/lib/libx.so.1.2", "etc/app.conf", "usr/bin/app"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/libx.so.1").symlink_to("libx.so.1.2")
    (tmp_path / "usr/bin/conf").symlink_to("/etc/app.conf")
    (tmp_path / "usr/bin/up").symlink_to("../../../../../etc/app.conf")
    (tmp_path / "round").symlink_to("about")
    (tmp_path / "about").symlink_to("round")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "outside"),
    [
        ("/lib/libx.so.1", "usr/lib/libx.so.1.2"),
        ("/usr/bin/conf", "etc/app.conf"),
        ("/usr/bin/up", "etc/app.conf"),
        ("/usr/../../lib/../lib/libx.so.1.2", "usr/lib/libx.so.1.2"),
        ("/missing", "missing"),
    ],
)
def test_links_stay_inside(path: str, outside: str, root: Path) -> None:
    assert in_chroot(PurePosixPath(path), root) == root / outside


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("relative", "only absolute paths"),
        ("/etc/app.conf/below", "Not a directory"),
        ("/round", "Too many levels"),
        ("/missing/below", "Not a directory"),
    ],
)
def test_paths_that_lead_nowhere(path: str, problem: str, root: Path) -> None:
    with pytest.raises(InputError, match=problem):
        in_chroot(PurePosixPath(path), root)


def test_a_directory_in_a_chroot(root: Path) -> None:
    notes: list[Message] = []
    found = expand(["file:/lib/", "file:/usr/bin/app"], chroot=root, note=notes.append)
    assert found == [
        TrustedFile("file:/usr/lib/libx.so.1", root / "usr/lib/libx.so.1.2"),
        TrustedFile("file:/usr/lib/libx.so.1.2", root / "usr/lib/libx.so.1.2"),
        TrustedFile("file:/usr/bin/app", root / "usr/bin/app"),
    ]
    assert notes == []


def test_a_hash_that_is_given_counts_and_the_first_place(root: Path) -> None:
    given = {"uri": "file:/usr/bin/app", "sha256": "0" * 64}
    found = expand(["file:/usr/bin/app", "file:/etc/app.conf", given, "file:/usr/bin/app"], chroot=root, note=print)
    assert [(file.uri, file.sha256) for file in found] == [
        ("file:/usr/bin/app", "0" * 64),
        ("file:/etc/app.conf", None),
    ]
