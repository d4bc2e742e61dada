"""What is done to a host is journalled before it happens, goes on after a kill, and is taken back byte for byte.

The hosts are folders; steps here need no program, so that no root is needed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from doubles.releases import in_tree
from sgxkit.errors import SetupError
from sgxkit.host.setup.actions import AddAptRepository, RemoveFile, RepositoryKey, SetFstabLine, WriteFile
from sgxkit.host.setup.apply import apply, recover, status, undo
from sgxkit.host.setup.journal import FOLDER, open_journal
from sgxkit.host.setup.observed import Observed
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.perform import Session, perform
from sgxkit.host.setup.plan import Plan, make_plan
from sgxkit.host.setup.step import Step
from sgxkit.host.setup.target import Target
from sgxkit.messages import msg

FSTAB = b"# static\nUUID=1 / ext4 rw 0 1\ndevtmpfs /dev devtmpfs noexec 0 0\n"


class Quiet:
    def begin(self, number: int, total: int, step: Step) -> None: ...
    def done(self, seconds: float) -> None: ...
    def held(self) -> None: ...


class KilledError(BaseException):
    """The process is gone: nothing after it is done, not even tidying up."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("etc/udev", "etc/old", "var/lib"):
        (root / folder).mkdir(parents=True)
    (root / "etc/fstab").write_bytes(FSTAB)
    (root / "etc/old/present.conf").write_bytes(b"\xff as it was\n")
    (root / "etc/old/present.conf").chmod(0o640)
    (root / "etc/old/gone.list").write_text("deb <https://x> y main\n")
    (root / "etc/old/link.conf").symlink_to("present.conf")
    return root


def everything(root: Path) -> dict[str, tuple[int, bytes | str]]:
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: bytes | str = (
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        )
        found[str(path.relative_to(root))] = (status.st_mode, content)
    return found


def steps() -> tuple[Step, ...]:
    why = msg("reboot")
    return (
        Step("new", WriteFile("/etc/udev/rules.d/95-sgxkit.rules", "rule\n"), why),
        Step("present", WriteFile("/etc/old/present.conf", "new\n", 0o600), why),
        Step("link", WriteFile("/etc/old/link.conf", "own\n"), why),
        Step("gone", RemoveFile("/etc/old/gone.list"), why),
        Step("fstab", SetFstabLine("/dev", "devtmpfs /dev devtmpfs exec 0 0"), why),
    )


def plan_of(*wanted: Step) -> Plan:
    made = make_plan(in_tree(), Options("run"), Observed())
    return Plan(made.options, made.distribution, wanted, (), False)


def run(root: Path, *wanted: Step) -> tuple[str, ...]:
    target = Target(root)
    with open_journal(target) as journal:
        recover(target, journal)
        return apply(target, journal, plan_of(*wanted), Quiet()).done


def take_back(root: Path) -> list[str]:
    target = Target(root)
    with open_journal(target) as journal:
        return [step for step, _ in undo(target, journal).stayed]


def test_undo_restores_every_byte_mode_and_link_and_leaves_no_journal(tree: Path) -> None:
    before = everything(tree)
    assert run(tree, *steps()) == ("new", "present", "link", "gone", "fstab")
    assert (tree / "etc/old/present.conf").read_text() == "new\n"
    assert (tree / "etc/fstab").read_bytes() == FSTAB.replace(b"noexec", b"exec")
    assert run(tree, *steps()) == ()
    assert take_back(tree) == []
    assert everything(tree) == before


def kill_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process at the `count`th rename that was to be."""
    real, calls = os.replace, iter(range(count))

    def replace(old: str, new: str) -> None:
        if next(calls, None) is None:
            raise KilledError
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 10, 13, 16, 19])
def test_a_run_that_is_killed_anywhere_goes_on_or_is_taken_back(
    count: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(tree)
    with monkeypatch.context() as patch:
        kill_at(count, patch)
        with pytest.raises(KilledError):
            run(tree, *steps())
    again = tree.parent / "again"
    shutil.copytree(tree, again, symlinks=True)
    assert take_back(tree) == []
    assert everything(tree) == before
    run(again, *steps())
    assert (again / "etc/fstab").read_bytes() == FSTAB.replace(b"noexec", b"exec")
    assert not (again / "etc/old/gone.list").exists()
    with open_journal(Target(again)) as journal:
        assert {standing.state for standing in status(Target(again), journal)} == {"holds"}
    assert take_back(again) == []
    assert everything(again) == before


def test_what_somebody_changed_since_stays_and_is_named(tree: Path) -> None:
    before = everything(tree)
    run(tree, *steps())
    (tree / "etc/udev/rules.d/95-sgxkit.rules").write_text("mine\n")
    target = Target(tree)
    with open_journal(target) as journal:
        states = {standing.entry.step: standing.state for standing in status(target, journal)}
    assert states["new"] == "drifted"
    assert states["fstab"] == "holds"
    assert take_back(tree) == ["new"]
    assert (tree / "etc/udev/rules.d/95-sgxkit.rules").read_text() == "mine\n"
    assert (tree / "etc/fstab").read_bytes() == FSTAB
    (tree / "etc/udev/rules.d/95-sgxkit.rules").write_text("rule\n")
    assert take_back(tree) == []
    assert everything(tree) == before


def test_lines_of_others_in_fstab_survive_taking_ours_back(tree: Path) -> None:
    run(tree, *steps())
    with (tree / "etc/fstab").open("ab") as file:
        file.write(b"tmpfs /mnt tmpfs rw 0 0\n")
    assert take_back(tree) == []
    assert (tree / "etc/fstab").read_bytes() == FSTAB + b"tmpfs /mnt tmpfs rw 0 0\n"


def test_links_of_a_folder_never_lead_out_of_it(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "etc/udev/rules.d").symlink_to("/../../outside")
    (tree / "etc/out").symlink_to(outside)
    run(
        tree,
        Step("a", WriteFile("/etc/udev/rules.d/x", "1"), msg("reboot")),
        Step("b", WriteFile("/etc/out/y", "2"), msg("reboot")),
    )
    assert list(outside.iterdir()) == []
    assert (tree / "outside/x").read_text() == "1"


def test_only_one_works_at_a_time(tree: Path) -> None:
    with open_journal(Target(tree)), pytest.raises(SetupError, match="another sgxkit"), open_journal(Target(tree)):
        pass


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b'{"number": 1}',
        b'{"action": {"action": "write-file", "path": "/etc/../x", "content": "", "mode": 1}}',
    ],
)
def test_a_damaged_journal_is_named_and_nothing_is_done(damage: bytes, tree: Path) -> None:
    run(tree, *steps()[:1])
    (entry,) = (tree / FOLDER[1:] / "entries").iterdir()
    entry.write_bytes(damage)
    before = everything(tree)
    with pytest.raises(SetupError, match="journal"):
        take_back(tree)
    assert everything(tree) == before


def test_content_that_the_journal_lost_is_not_replaced_by_something_else(tree: Path) -> None:
    run(tree, *steps()[1:2])
    (kept,) = (tree / FOLDER[1:] / "content").iterdir()
    kept.write_bytes(b"x")
    assert take_back(tree) == ["present"]
    assert (tree / "etc/old/present.conf").read_text() == "new\n"


def test_a_step_whose_effect_does_not_show_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sgxkit.host.setup import perform as module

    monkeypatch.setattr(module, "do", lambda session, action: None)
    target = Target(tree)
    with open_journal(target) as journal, pytest.raises(SetupError, match="does not show"):
        perform(Session(target, journal), steps()[0])


def test_a_journal_of_another_version_is_left_alone(tree: Path) -> None:
    run(tree, *steps()[:1])
    head = tree / FOLDER[1:] / "journal.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "schema": 99}))
    with pytest.raises(SetupError, match="another version"):
        take_back(tree)


def test_a_repository_is_added_only_with_the_key_that_is_trusted(tree: Path) -> None:
    (tree / "key").write_bytes(b"no key")
    action = AddAptRepository(
        "https://packages.example",
        "stable",
        ("main",),
        "/etc/apt/sources.list.d/x.sources",
        "/etc/apt/keyrings/x.asc",
        RepositoryKey("file:///key", "A" * 40),
    )
    before = everything(tree)
    with pytest.raises(SetupError, match=r"not the trusted one|no OpenPGP key"):
        run(tree, Step("repository", action, msg("reboot")))
    assert not (tree / "etc/apt/sources.list.d/x.sources").exists()
    assert take_back(tree) == []
    assert everything(tree) == before
