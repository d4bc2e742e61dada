"""`sgxkit selftest`: samples that are there are built and run, others have a stand-in, failures are failures."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs/schema/selftest.schema.json").read_text(encoding="utf-8"))
PARTS = ["sample-enclave", "quote-generation", "quote-verification", "gramine-helloworld"]

needs_the_tracer = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="programs run on x86-64 Linux only"
)


def selftest(*options: str, code: int, **environment: str) -> dict[str, Any]:
    """Run it emulated; returns the document."""
    env = {name: value for name, value in os.environ.items() if name != "SGX_SDK"} | environment
    command = [sys.executable, "-m", "sgxkit", "selftest", "--emulated", "--json", *options]
    done = subprocess.run(command, env=env, capture_output=True, timeout=300, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert [part["part"] for part in document["parts"]] == PARTS
    return document


def tools(folder: Path, *names: str) -> str:
    """A PATH with these programs and no others."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).symlink_to(found)
    return str(folder)


def sdk(folder: Path, program: str) -> Path:
    """A folder that looks like Intel's SDK, with a SampleEnclave that is a script."""
    (folder / "include").mkdir(parents=True)
    (folder / "include" / "sgx.h").touch()
    sample = folder / "SampleCode" / "SampleEnclave"
    sample.mkdir(parents=True)
    (sample / "Makefile").write_text("app: source\n\tcp source app\n\tchmod +x app\n")
    (sample / "source").write_text(program)
    return folder


@needs_the_tracer
def test_without_any_sample_all_parts_have_a_stand_in(tmp_path: Path) -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    before = set(Path(tempfile.gettempdir()).glob("sgxkit-selftest-*"))
    page = tmp_path / "page.html"
    document = selftest("--html", str(page), code=0)
    if shutil.which("gramine-sgx") is None:
        assert all(part["stand_in"] and part["missing"] for part in document["parts"])
    assert (document["ok"], document["emulated"]) == (True, True)
    text = page.read_text(encoding="utf-8")
    assert all(part in text for part in PARTS)
    assert "protects nothing" in text
    assert set(Path(tempfile.gettempdir()).glob("sgxkit-selftest-*")) == before


def test_without_a_compiler_the_last_part_says_what_to_install(tmp_path: Path) -> None:
    document = selftest(code=2, PATH=tools(tmp_path / "bin", "env"))
    last = document["parts"][-1]
    assert (last["outcome"], document["ok"]) == ("not-installed", False)
    assert [part["outcome"] for part in document["parts"][:-1]] == ["passed"] * 3


@needs_the_tracer
@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ('#!/bin/sh\nread line\necho "Info: SampleEnclave successfully returned."\n', "passed"),
        ('#!/bin/sh\necho "Info: SampleEnclave successfully returned."\nexit 1\n', "failed"),
        ("#!/bin/sh\necho 'Error: Invalid SGX device.'\n", "failed"),
    ],
    ids=["good", "bad exit code", "says something else"],
)
def test_a_sample_that_is_installed_is_built_in_a_copy_and_judged(tmp_path: Path, program: str, outcome: str) -> None:
    folder = sdk(tmp_path / "sdk", program)
    path = tools(tmp_path / "bin", "make", "sh", "cp", "chmod", "env")
    document = selftest(code=1 if outcome == "failed" else 2, SGX_SDK=str(folder), PATH=path)
    first = document["parts"][0]
    assert (first["outcome"], first["stand_in"], first["missing"]) == (outcome, False, [])
    assert bool(first["output"]) == (outcome == "failed")
    assert not (folder / "SampleCode" / "SampleEnclave" / "app").exists()


def test_options_that_exclude_each_other() -> None:
    command = [sys.executable, "-m", "sgxkit", "selftest", "--emulated", "--hardware"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 3
