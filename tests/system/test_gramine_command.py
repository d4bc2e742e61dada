"""`sgxkit gramine` as people run it, and beside Gramine's own tools where these are installed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from doubles.gramine import UNKNOWN_KEYS, VARIATIONS, make_application, manifest_text, pal
from sgxkit.cli.main import run
from sgxkit.enclave.signing import generate_key, write_private_key
from sgxkit.gramine.installation import find_installation
from sgxkit.isa.sigstruct import Sigstruct

SGXKIT = Path(sys.executable).with_name("sgxkit")
LARGE = {"4G", "16G", "64G"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.pem"
    write_private_key(path, generate_key())
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application and a PAL, where the commands run."""
    make_application(tmp_path)
    (tmp_path / "libpal.so").write_bytes(pal())
    (tmp_path / "app.manifest").write_text(manifest_text(""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code = run(["--json", "gramine", *map(str, arguments)])
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, parsed


def command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SGXKIT, "gramine", *arguments], capture_output=True, text=True, check=False, **options)


SIGN = ("sign", "app.manifest", "--libpal", "libpal.so", "--date", "2026-01-31")


def test_a_manifest_is_signed_without_gramine(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = document(capsys, *SIGN, "--key", key)
    assert code == 0
    sigstruct = Sigstruct.from_bytes((folder / "app.sig").read_bytes())
    assert sigstruct.signature_holds
    assert sigstruct.quotients_hold
    assert said["mrenclave"] == sigstruct.enclavehash.hex()
    assert said["trusted_files"] == 9
    assert len(said["warnings"]) == 2
    before = {name: (folder / name).read_bytes() for name in ("app.manifest.sgx", "app.sig")}
    assert document(capsys, *SIGN, "--key", key)[0] == 0
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_key_kept_elsewhere_signs_in_two_steps(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    assert document(capsys, *SIGN, "--key", key)[0] == 0
    expected = (folder / "app.sig").read_bytes()
    assert document(capsys, *SIGN, "--to-sign", "bytes")[0] == 0
    subprocess.run(["openssl", "dgst", "-sha256", "-sign", key, "-out", "signature", "bytes"], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", "public.pem"], check=True)
    second = ["enclave", "sign", "bytes", "--signature", "signature", "--public-key", "public.pem", "-o", "app.sig"]
    assert run(second) == 0
    assert (folder / "app.sig").read_bytes() == expected


def test_what_was_signed_is_shown_locked_and_compared(
    folder: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pal_of = ("--libpal", "libpal.so")
    assert document(capsys, *SIGN, "--key", key)[0] == 0
    code, said = document(capsys, "inspect", "app.manifest.sgx", *pal_of, "--svg", "map.svg")
    assert (code, said["max_threads"], said["refused"]) == (0, 4, [])
    assert said["sigstruct"]["enclavehash"] == said["mrenclave"]
    assert said["mrenclave"] in (folder / "map.svg").read_text()
    assert document(capsys, "lock", "app.manifest.sgx", *pal_of)[0] == 0
    assert document(capsys, "lock", "app.manifest.sgx", *pal_of, "--check", "app.lock.json")[1]["same"]

    (folder / "app/main").write_bytes(b"another")
    assert document(capsys, *SIGN, "--key", key, "-s", "other.sig")[0] == 0
    code, said = document(capsys, "lock", "app.manifest.sgx", *pal_of, "--check", "app.lock.json")
    assert code == 1
    assert [(each["what"], each["name"]) for each in said["differences"]] == [
        ("trusted file", "file:app/link"),
        ("trusted file", "file:app/main"),
    ]
    done = command("diff", "app.lock.json", "app.manifest.sgx", *pal_of)
    assert done.returncode == 1
    assert "the trusted file file:app/main differs" in done.stdout
    code, said = document(capsys, "inspect", "app.manifest.sgx", *pal_of)
    assert code == 1
    assert "SGX_INVALID_MEASUREMENT" in said["refused"][0]


def test_what_is_wrong_is_told_with_line_and_key(folder: Path, key: Path) -> None:
    (folder / "app.manifest").write_text(manifest_text('sgx.enclave_size = "300M"\nsgx.debug = 1'))
    done = command("check", "app.manifest")
    assert done.returncode == 1
    assert "app.manifest:6: error: sgx.enclave_size: must be a power of two" in done.stdout
    assert "app.manifest:7: error: sgx.debug: must be true or false, is 1" in done.stdout
    signed = command(*SIGN, "--key", key)
    assert signed.returncode == 3
    assert "app.manifest:6: sgx.enclave_size" in signed.stderr
    assert not (folder / "app.sig").exists()


def test_a_template_is_checked_with_its_own_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "app.manifest.template").write_text(
        "{# a comment\nof two lines #}\n"
        'libos.entrypoint = "{{ entrypoint }}"\n{% for name in ["a", "b"] %}\n'
        "loader.env.{{ name }} = 1\n{% endfor %}\nfs.mounts = []\nsgx.thread_num = 4\n"
    )
    code, said = document(capsys, "check", "app.manifest.template", "-Dentrypoint=/app")
    assert code == 1
    assert [(finding["line"], finding["key"]) for finding in said["findings"]] == [
        (None, "loader.env.a"),
        (None, "loader.env.b"),
        (8, "sgx.thread_num"),
    ]
    code, said = document(capsys, "check", "app.manifest.template")
    assert (code, said["findings"][0]["line"]) == (1, 3)
    assert "'entrypoint' is undefined" in said["findings"][0]["problem"]


@pytest.mark.parametrize(
    "template", ["{{ 1 / 0 }}", "{{ ().__class__.__base__ }}", "{% if %}", "{{ ldd('/nowhere') }}"]
)
def test_templates_that_cannot_be_rendered(template: str, folder: Path) -> None:
    (folder / "app.manifest.template").write_text(f"a = 1\n{template}\n")
    done = command("check", "app.manifest.template")
    assert done.returncode in {1, 3}
    assert "cannot be rendered" in done.stdout or "which failed" in done.stderr


def test_a_manifest_from_standard_input(folder: Path) -> None:
    assert command("check", "-", input=manifest_text("")).returncode == 0
    assert command("check", "-", input="x = [").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_file_that_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "app.manifest").chmod(0)
    folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sgxkit", "gramine", "check", folder / "app.manifest"],
            user=65534,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    except PermissionError:
        pytest.skip("nobody may not run this interpreter")
    assert done.returncode == 3
    assert "cannot be read" in done.stderr


def theirs(*arguments: str | Path) -> None:
    """Run a tool of Gramine's in the current folder."""
    subprocess.run([*map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("name", [name for name in (*VARIATIONS, *UNKNOWN_KEYS) if name not in LARGE])
def test_byte_for_byte_what_gramines_own_tools_make(
    name: str, folder: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("gramine-sgx-sign") is None or find_installation() is None:
        pytest.skip("Gramine is not installed here")
    unknown = ["--allow-unknown-keys"] if name in UNKNOWN_KEYS else []
    (folder / "app.manifest.template").write_text(manifest_text({**VARIATIONS, **UNKNOWN_KEYS}[name]))
    theirs("gramine-manifest", *(["--no-check"] if unknown else []), "app.manifest.template", "theirs.manifest")
    assert document(capsys, "render", "app.manifest.template", *unknown)[0] == 0
    assert (folder / "app.manifest").read_bytes() == (folder / "theirs.manifest").read_bytes()
    made = ("-l", "libpal.so", "-d", "2026-01-31", "-k", key, "-o")
    theirs("gramine-sgx-sign", "-q", "-m", "theirs.manifest", *made, "theirs.manifest.sgx")
    assert document(capsys, "sign", "app.manifest", *made, "app.manifest.sgx", *unknown)[0] == 0
    for suffix in ("manifest.sgx", "sig"):
        assert (folder / f"app.{suffix}").read_bytes() == (folder / f"theirs.{suffix}").read_bytes()


@pytest.mark.parametrize("kind", ["helloworld", "python", "sqlite"])
def test_a_new_project_runs_in_gramine(kind: str, folder: Path, key: Path) -> None:
    if shutil.which("gramine-direct") is None or find_installation() is None:
        pytest.skip("Gramine is not installed here")
    if kind == "sqlite" and not Path("/usr/bin/sqlite3").exists():
        pytest.skip("sqlite3 is not installed here")
    assert command("new", "my-app", "--template", kind).returncode == 0
    for target in ("all", "test", "sign"):
        subprocess.run(
            ["make", target, f"SGXKIT={SGXKIT}", f"KEY={key}"], cwd="my-app", check=True, capture_output=True
        )
    assert (folder / "my-app" / "my-app.sig").exists()


def test_a_project_is_made_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = document(capsys, "new", "my-app", "--template", "nodejs")
    assert code == 0
    assert "my-app/my-app.manifest.template" in said["made"]
    done = command("new", "my-app")
    assert done.returncode == 3
    assert "my-app is there already" in done.stderr


PROGRAM = """
import threading, pathlib, time
threads = [threading.Thread(target=time.sleep, args=(0.3,)) for _ in range(3)]
for thread in threads: thread.start()
print("read", pathlib.Path("input").read_text())
for thread in threads: thread.join()
"""


def test_a_program_is_watched_and_its_manifest_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("strace") is None or not Path("/usr/bin/python3").exists():
        pytest.skip("strace or the system's Python is not installed here")
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:  # what is below /tmp does not last
        monkeypatch.chdir(name)
        Path("program.py").write_text(PROGRAM)
        Path("input").write_text("something")
        done = command("new", "app", "--from-command", "/usr/bin/python3 program.py")
        if "could not be traced" in done.stderr:
            pytest.skip("programs may not be traced here")
        assert done.returncode == 0, done.stderr
        assert "read something" in done.stderr  # what the program prints is not mixed with what sgxkit prints
        written = Path("app/app.manifest.template").read_text()
        assert "sgx.max_threads = 8" in written
        assert f'"file:{name}/input"' in written
        assert f'"file:{name}/program.py"' in written
        assert command("check", "app/app.manifest.template").returncode == 0
        if shutil.which("gramine-direct") is None or find_installation() is None:
            pytest.skip("Gramine is not installed here: checked, not run")
        assert command("render", "app/app.manifest.template").returncode == 0
        shown = subprocess.run(["gramine-direct", "app/app"], capture_output=True, text=True, check=False)
        assert "read something" in shown.stdout, shown.stderr


def test_a_server_is_watched_for_some_time(folder: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    done = command("new", "seen", "--from-command", "sleep 60", "--seconds", "1")
    if "could not be traced" in done.stderr:
        pytest.skip("programs may not be traced here")
    assert done.returncode == 0, done.stderr
    assert "sleep" in (folder / "seen/seen.manifest.template").read_text()


def test_commands_that_cannot_be_watched(folder: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here")
    for text, problem in (("/nowhere/program", "is no program"), ("a 'b", "is no command"), ("", "is no program")):
        done = command("new", "seen", "--from-command", text)
        assert done.returncode == 3
        assert problem in done.stderr
    assert not (folder / "seen").exists()


def test_a_program_runs_where_there_is_gramine(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("gramine-direct") is None or find_installation() is None:
        pytest.skip("Gramine is not installed here")
    assert command("new", "hello", "--template", "helloworld").returncode == 0
    subprocess.run(
        ["make", "all", "sign", f"SGXKIT={SGXKIT}", f"KEY={key}"], cwd="hello", check=True, capture_output=True
    )
    direct = command("run", "--direct", "hello/hello")
    assert (direct.returncode, direct.stdout) == (0, "Hello from Gramine\n")
    assert "it protects nothing" in direct.stderr
    within = command("run", "--emulated", "hello/hello")
    if within.returncode == 125:
        pytest.skip("programs may not be traced here")
    assert (within.returncode, within.stdout) == (0, "Hello from Gramine\n")
    code, said = document(capsys, "bench", "--rounds", "1", "--emulated", "--svg", "times.svg", "hello/hello")
    assert code == 0
    assert [each["way"] for each in said["compared"]] == ["native", "direct", "sgx"]
    assert said["compared"][2]["entries"] > 0


def test_what_is_not_made_cannot_run(folder: Path) -> None:
    for arguments in (("run", "app"), ("bench", "app"), ("run", "--direct", "--emulated", "app")):
        assert command(*arguments).returncode == 3
