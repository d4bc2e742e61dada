"""Labs on disk: permissions, names, events one after the other, and processes that are killed."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sgxkit.errors import FormatError, InputError
from sgxkit.lab.store import (
    change_lab,
    create_lab,
    lab_names,
    lab_of_root,
    labs_folder,
    load_lab,
    remove_lab,
    root_certificate,
    seed_from_text,
)
from sgxkit.lab.world import expire, new_world, shift_time, tcb_recovery
from sgxkit.messages import msg

NOW = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)


def test_a_lab_comes_back(tmp_path: Path) -> None:
    lab = create_lab(new_world("one", NOW), folder=tmp_path)
    assert load_lab("one", folder=tmp_path) == lab
    assert lab_names(folder=tmp_path) == ("one",)
    assert root_certificate("one", folder=tmp_path).read_text() == lab.hierarchy.root.pem
    with pytest.raises(InputError, match="already"):
        create_lab(new_world("one", NOW), folder=tmp_path)
    assert load_lab("one", folder=tmp_path) == lab
    remove_lab("one", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    for missing in (load_lab, remove_lab):
        with pytest.raises(InputError, match="no lab one"):
            missing("one", folder=tmp_path)
    with pytest.raises(InputError, match="no lab"):
        load_lab("../one", folder=tmp_path)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "labs"
    create_lab(new_world("one", NOW), folder=folder)
    assert stat.S_IMODE((folder / "one").stat().st_mode) == 0o700
    for file in (folder / "one").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_same_seed_and_name_is_the_same_lab(tmp_path: Path) -> None:
    seed = seed_from_text("an agreed seed")
    one = create_lab(new_world("one", NOW), seed=seed, folder=tmp_path / "a")
    assert create_lab(new_world("one", NOW), seed=seed, folder=tmp_path / "b") == one
    assert create_lab(new_world("two", NOW), folder=tmp_path / "b").seed != seed


def test_a_root_names_its_lab(tmp_path: Path) -> None:
    labs = [create_lab(new_world(name, NOW), folder=tmp_path) for name in ("one", "two")]
    for lab in labs:
        point = b"\x04" + lab.hierarchy.root.key.public_key().public_numbers().x.to_bytes(32, "big")
        point += lab.hierarchy.root.key.public_key().public_numbers().y.to_bytes(32, "big")
        assert lab_of_root(point, folder=tmp_path) == lab.world.name
        assert lab_of_root(point[:-1] + b"\0", folder=tmp_path) is None
        assert lab_of_root(point, folder=tmp_path / "none") is None
    (tmp_path / "one" / "root.pem").write_text("damaged")
    assert lab_of_root(point, folder=tmp_path) == "two"


def test_damaged_labs_are_format_errors(tmp_path: Path) -> None:
    create_lab(new_world("one", NOW), folder=tmp_path)
    (tmp_path / "one").rename(tmp_path / "two")
    with pytest.raises(FormatError):
        load_lab("two", folder=tmp_path)
    (tmp_path / "two" / "seed").write_bytes(b"\xff")
    with pytest.raises(FormatError):
        load_lab("two", folder=tmp_path)
    remove_lab("two", folder=tmp_path)


def test_a_refused_event_changes_nothing(tmp_path: Path) -> None:
    lab = create_lab(new_world("one", NOW), folder=tmp_path)
    changed = change_lab("one", lambda world: expire(world, NOW), folder=tmp_path)
    assert load_lab("one", folder=tmp_path) == changed != lab

    def refuse(world: object) -> object:
        raise InputError(msg("try again"))

    with pytest.raises(InputError):
        change_lab("one", refuse, folder=tmp_path)  # type: ignore[arg-type]
    assert load_lab("one", folder=tmp_path) == changed


def test_events_of_many_happen_one_after_the_other(tmp_path: Path) -> None:
    create_lab(new_world("one", NOW), folder=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: change_lab("one", lambda w: tcb_recovery(w, NOW), folder=tmp_path), range(40)))
    assert len(load_lab("one", folder=tmp_path).world.events) == 40


def test_where_labs_are() -> None:
    assert labs_folder({}, root=True) == Path("/var/lib/sgxkit/labs")
    assert labs_folder({"XDG_STATE_HOME": "/state"}, root=False) == Path("/state/sgxkit/labs")
    assert labs_folder({"XDG_STATE_HOME": "relative"}, root=False) == Path.home() / ".local/state/sgxkit/labs"
    assert labs_folder({"SGXKIT_STATE_DIR": "/elsewhere"}, root=True) == Path("/elsewhere/labs")


KILLED = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from sgxkit.lab.store import change_lab, create_lab, remove_lab
from sgxkit.lab.world import new_world, tcb_recovery
folder, now = Path(sys.argv[1]), datetime.now(UTC)
print("ready", flush=True)
for _ in itertools.count():
    create_lab(new_world("one", now), folder=folder)
    for _ in range(3):
        change_lab("one", lambda world: tcb_recovery(world, now), folder=folder)
    remove_lab("one", folder=folder)
"""


def test_killed_at_any_moment_a_lab_is_whole_or_absent(tmp_path: Path) -> None:
    chance = random.Random(1)
    seen = {"whole": 0, "absent": 0}
    for round_ in range(40):
        folder = tmp_path / str(round_)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.06))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        if "one" in lab_names(folder=folder):
            lab = load_lab("one", folder=folder)
            assert root_certificate("one", folder=folder).read_text() == lab.hierarchy.root.pem
            assert lab.world.name == "one"
            change_lab("one", lambda world: shift_time(world, NOW - NOW), folder=folder)
            remove_lab("one", folder=folder)
            seen["whole"] += 1
        else:
            assert not (folder / "one").exists()
            seen["absent"] += 1
        create_lab(new_world("one", NOW), folder=folder)
        assert load_lab("one", folder=folder).world == new_world("one", NOW)
    assert seen["whole"] > 0


def test_leftovers_are_swept_up(tmp_path: Path) -> None:
    old, young = tmp_path / ".one.abc.new", tmp_path / ".one.def.old"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (1, 1))
    create_lab(new_world("one", NOW), folder=tmp_path)
    assert not old.exists()
    assert young.exists()
