from __future__ import annotations

import sys
import tomllib
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sgxkit.errors import InputError
from sgxkit.gramine import running
from sgxkit.gramine.comparison import Measured, native_command, picture, time_command
from sgxkit.gramine.running import Place, Runner, run, runner


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is rendered and signed, and tools that say what they are asked."""
    for name in ("app.manifest", "app.manifest.sgx", "app.sig"):
        (tmp_path / name).write_text("x")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gramine-sgx", "gramine-direct"):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\necho "{name} $@"\necho "said" >&2\nexit 7\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "app"


def test_sgx_is_chosen_where_there_is_some(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "has_sgx", lambda: True)
    how = runner(signed, None, "default", None)
    assert (how.place, how.command[0].rpartition("/")[2], how.command[1]) == (Place.HARDWARE, "gramine-sgx", "app")
    assert "this machine's SGX" in str(how.says())


def test_an_emulated_machine_is_chosen_where_there_is_none(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "has_sgx", lambda: False)
    how = runner(signed, None, "mine", None)
    assert how.place is Place.EMULATED
    assert how.command[:6] == (sys.executable, "-m", "sgxkit", "run", "--lab", "mine")
    assert "protects nothing" in str(how.says())


@pytest.mark.parametrize(("place", "missing"), [(Place.DIRECT, "app.manifest"), (Place.HARDWARE, "app.sig")])
def test_what_is_not_made_yet_is_named(place: Place, missing: str, signed: Path) -> None:
    assert runner(signed, place, "default", None).place is place
    (signed.parent / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} is not there"):
        runner(signed, place, "default", None)


def test_gramine_is_needed(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="Gramine is not installed here"):
        runner(signed, Place.DIRECT, "default", None)


def test_a_program_runs_with_its_arguments_and_its_exit_code(signed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    errors = BytesIO()
    code, said = run(runner(signed, Place.DIRECT, "default", None), ["one", "two words"], errors)
    assert (code, said, errors.getvalue()) == (7, b"said\n", b"said\n")
    assert capfd.readouterr().out == "gramine-direct app one two words\n"


def test_a_signal_is_told_as_a_shell_tells_it(tmp_path: Path) -> None:
    how = Runner(Place.DIRECT, ("sh", "-c", "kill -TERM $$"), tmp_path)
    assert run(how, [], BytesIO())[0] == 143


def test_only_the_last_of_much_output_is_kept(tmp_path: Path) -> None:
    how = Runner(Place.DIRECT, ("sh", "-c", "head -c 5000000 /dev/zero >&2; echo end >&2"), tmp_path)
    errors = BytesIO()
    _, said = run(how, [], errors)
    assert len(errors.getvalue()) == 5000004
    assert len(said) <= 1 << 20
    assert said.endswith(b"end\n")


MANIFEST = tomllib.loads("""
libos.entrypoint = "/app/main"
loader.argv = ["main", "/app/input", "/missing", "--flag"]
loader.env.LD_LIBRARY_PATH = "/lib"
loader.env.NAME = { value = "x" }
loader.env.OTHER = { passthrough = true }
fs.mounts = [ { path = "/app", uri = "file:files" } ]
""")


def test_the_same_command_outside(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/input").write_text("x")
    command, environment = native_command(MANIFEST, tmp_path)
    assert command == [f"{tmp_path}/files/main", f"{tmp_path}/files/input", "/missing", "--flag"]
    assert environment["NAME"] == "x"
    assert environment.get("LD_LIBRARY_PATH") != "/lib"


def test_a_program_that_is_only_inside_cannot_run_outside(tmp_path: Path) -> None:
    manifest = {**MANIFEST, "fs": {"mounts": [{"type": "encrypted", "path": "/app", "uri": "file:files"}]}}
    with pytest.raises(InputError, match="cannot run natively"):
        native_command(manifest, tmp_path)


def test_times_are_taken(tmp_path: Path) -> None:
    found = time_command("native", ["sh", "-c", "echo x; exit 3"], tmp_path, None, 2)
    assert found.exit_code == 3
    assert found.first_output is not None
    assert 0 < found.first_output <= found.wall
    silent = time_command("native", ["true"], tmp_path, None, 1)
    assert (silent.first_output, silent.exit_code) == (None, 0)
    with pytest.raises(InputError, match="cannot be run"):
        time_command("native", ["/nowhere/program"], tmp_path, None, 1)


def test_the_picture_is_one(tmp_path: Path) -> None:
    found = [
        Measured("native", emulated=False, first_output=None, wall=0.0, cpu=0.0, exit_code=0),
        Measured("sgx", emulated=True, first_output=1.0, wall=2.0, cpu=1.0, exit_code=0),
    ]
    texts = [element.text for element in ElementTree.fromstring(picture("a <b>", found)).iter() if element.text]
    assert "a <b>" in texts
    assert "sgx, emulated" in texts
