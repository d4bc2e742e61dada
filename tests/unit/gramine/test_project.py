from __future__ import annotations

import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from sgxkit.errors import InputError
from sgxkit.gramine.advice import advice
from sgxkit.gramine.check import check
from sgxkit.gramine.installation import Installation
from sgxkit.gramine.manifest import with_entrypoint
from sgxkit.gramine.project import KINDS, create_project, project_files
from sgxkit.gramine.template import render_template

INSTALLATION = Installation(Path("/usr/lib/x86_64-linux-gnu/gramine"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_has_everything_and_no_word_left_open(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-app.1"
    files = create_project(folder, kind)
    names = {file.name for file in files}
    assert {"my-app.1.manifest.template", "Makefile", "Containerfile", "README.md", "test.sh"} <= names
    assert names == {path.name for path in folder.iterdir()}
    for file in files:
        text = file.read_text()
        assert "@name@" not in text
        assert "my-app.1" in text or file.suffix in {".py", ".c", ".js", ".java", ".sql", ".conf"}
    assert (folder / "test.sh").stat().st_mode & stat.S_IXUSR
    subprocess.run(["sh", "-n", folder / "test.sh"], check=True)
    subprocess.run(["make", "-n", "sign", "SGXKIT=sgxkit"], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
def test_its_manifest_renders_and_nothing_is_said_against_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "app"
    create_project(folder, kind)
    monkeypatch.chdir(folder)
    # The programs that are not here are stood in for by one that is.
    definitions: dict[str, object] = {"program": "/bin/sh"}
    if kind == "openjdk" and not Path("/usr/lib/jvm/java-17-openjdk-amd64/bin/java").exists():
        pytest.skip("Java is not installed here")
    if kind in {"python", "pytorch", "tensorflow"} and not Path("/usr/bin/python3").exists():
        pytest.skip("the system has no Python")
    rendered = render_template(
        (folder / "app.manifest.template").read_text(), definitions, file="app", installation=INSTALLATION
    )
    manifest = with_entrypoint(tomllib.loads(rendered), INSTALLATION.libos)
    assert [str(finding.sentence()) for finding in check(manifest)] == []
    assert [str(finding.sentence()) for finding in advice(manifest)] == []
    for key in ("isvsvn", "remote_attestation", "enclave_size", "max_threads"):
        assert key in manifest["sgx"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    create_project(tmp_path / "app", "helloworld")
    before = sorted((tmp_path / "app").iterdir())
    with pytest.raises(InputError, match="is there already"):
        create_project(tmp_path / "app", "python")
    assert sorted((tmp_path / "app").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


@pytest.mark.parametrize("name", ["a b", "-x", "$(id)", "a;b", "x" * 65, "é"])
def test_names_that_no_program_should_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        create_project(tmp_path / name, "custom")
    assert list(tmp_path.iterdir()) == []


def test_a_project_cannot_be_made_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        create_project(tmp_path / "missing" / "app", "custom")


def test_words_of_the_makefile_are_filled_in() -> None:
    makefile = project_files("hello", "helloworld")["Makefile"]
    assert "hello.manifest: hello.manifest.template helloworld.c helloworld\n" in makefile
    assert "helloworld: helloworld.c\n\t$(CC)" in makefile
    assert "@" not in makefile.replace("$@", "")
