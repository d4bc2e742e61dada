from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import InputError
from sgxkit.gramine.advice import advice
from sgxkit.gramine.check import check
from sgxkit.gramine.from_trace import manifest_of
from sgxkit.gramine.installation import Installation
from sgxkit.gramine.manifest import with_entrypoint
from sgxkit.gramine.template import render_template
from sgxkit.gramine.trace import Observed, read_trace, trace


def hexed(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def at(folder: str) -> str:
    return f"AT_FDCWD<{hexed(folder)[1:-1]}>"


THREAD = "clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SETTLS, stack=0x1} => {parent_tid=[0]}, 88)"
TRACE = [
    f"10 execve({hexed('/usr/bin/app')}, [{hexed('app')}], 0x7ffd /* 10 vars */) = 0",
    f"10 openat({at('/srv/job')}, {hexed('/etc/missing')}, O_RDONLY) = -1 ENOENT (No such file or directory)",
    f"10 openat({at('/srv/job')}, {hexed('data/../input')}, O_RDONLY|O_CLOEXEC) = 3<{hexed('/srv/job/input')[1:-1]}>",
    f"10 openat({at('/srv/job')}, {hexed('/usr/lib/python3')}, O_RDONLY|O_DIRECTORY) = 3",
    f"10 {THREAD} = 11",
    f"11 openat({at('/srv/job')}, {hexed('output')}, O_WRONLY|O_CREAT|O_TRUNC, 0666 <unfinished ...>",
    f"10 {THREAD} = 12",
    "11 <... openat resumed>) = 4",
    "12 +++ exited with 0 +++",
    f"10 {THREAD} = 13",
    "10 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f) = 20",
    f"10 chdir({hexed('sub')}) = 0",
    f"10 open({hexed('relative')}, O_RDONLY) = 5",
    f"20 execve({hexed('/bin/child')}, [], 0x0) = 0",
    f"20 open({hexed('child-file')}, O_RDONLY) = 5",
    f"10 connect(3<x>, {{sa_family=AF_INET, sin_port=htons(443), inet_addr({hexed('192.0.2.1')})}}, 16) = -1",
    f"10 bind(3, {{sa_family=AF_INET6, sin6_port=htons(80), inet_pton(AF_INET6, {hexed('::')}, &x)}}, 28) = 0",
    f"10 bind(3, {{sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr({hexed('0.0.0.0')})}}, 16) = 0",
    f"10 connect(3, {{sa_family=AF_UNIX, sun_path={hexed('/run/socket')}}}, 110) = 0",
    "--- SIGCHLD {si_signo=SIGCHLD} ---",
    "nonsense",
]


def test_a_trace_is_read() -> None:
    seen = read_trace([line + "\n" for line in TRACE], "/srv/job")
    assert seen.programs == ["/usr/bin/app", "/bin/child"]
    assert seen.read == {"/srv/job/input", "/srv/job/sub/relative", "/srv/job/child-file"}
    assert seen.written == {"/srv/job/output"}
    assert seen.folders == {"/usr/lib/python3"}
    assert (seen.threads, seen.processes) == (3, 2)
    assert seen.connects == {"192.0.2.1:443"}
    assert seen.listens == {"[::]:80"}


@settings(max_examples=100)
@given(st.lists(st.one_of(st.sampled_from(TRACE), st.sampled_from(TRACE).map(lambda line: line[::2]), st.text())))
def test_any_lines_are_read(lines: list[str]) -> None:
    read_trace(lines, "/")


def rendered(command: list[str], seen: Observed, folder: str) -> dict[str, object]:
    installation = Installation(Path("/usr/lib/x86_64-linux-gnu/gramine"))
    text = render_template(manifest_of(command, seen, folder), {}, file="app", installation=installation)
    manifest = with_entrypoint(tomllib.loads(text), installation.libos)
    assert [finding for finding in check(manifest) if finding.is_error] == []
    return manifest


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "bin/app",
        "data/input",
        "data/a",
        "data/b",
        "data/c",
        "pkg/mod.py",
        "pkg/__pycache__/mod.cpython.pyc",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "bin/app").write_text("#!/bin/sh\n")
    return tmp_path


def test_a_manifest_has_what_was_seen(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgxkit.gramine.from_trace._PASSING", ("/nowhere",))  # the test's own files are below /tmp
    seen = Observed(
        programs=[str(files / "bin/app")],
        read={str(files / "data" / name) for name in ("input", "a", "b", "c", "gone")}
        | {str(files / "pkg/__pycache__/mod.cpython.pyc"), "/etc/resolv.conf", "/proc/self/maps", "/lib/libc.so.6"},
        written={str(files / "output")},
        threads=5,
        processes=2,
        connects={"192.0.2.1:443"},
        listens={"0.0.0.0:80"},
        peak_bytes=300 << 20,
    )
    manifest = rendered([str(files / "bin/app"), 'a "word" {{ x }}'], seen, str(files))
    sgx: dict[str, object] = manifest["sgx"]  # type: ignore[assignment]
    trusted = [str(uri).removeprefix("file:") for uri in sgx["trusted_files"][1:]]  # type: ignore[index]
    below = sorted(str(Path(path).relative_to(files)) for path in trusted if path.startswith(str(files)))
    assert below == ["bin/app", "data/a", "data/b", "data/c", "data/input", "pkg/mod.py"]
    assert [path for path in trusted if not path.startswith(str(files))] == ["/bin/sh"]
    assert sgx["max_threads"] == 9
    assert sgx["enclave_size"] == "1G"
    assert manifest["libos"] == {"entrypoint": str(files / "bin/app")}
    assert manifest["loader"]["argv"][1] == 'a "word" {{ x }}'  # type: ignore[index]
    mounts = {mount["path"]: mount for mount in manifest["fs"]["mounts"]}  # type: ignore[index]
    assert str(files / "data") in mounts
    assert str(files / "pkg/mod.py") in mounts
    assert mounts[str(files / "output")]["type"] == "encrypted"
    assert manifest["sys"] == {"enable_extra_runtime_domain_names_conf": True}
    text = manifest_of(["app"], seen, "/")
    for said in ("connects to 192.0.2.1:443", "listens on 0.0.0.0:80", "starts 1 processes"):
        assert said in text
    assert not [finding for finding in advice(manifest) if finding.code.startswith(("entrypoint", "mount"))]


def test_names_that_a_manifest_cannot_have_are_left_out(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgxkit.gramine.from_trace._PASSING", ("/nowhere",))
    odd = [str(files / "data" / name) for name in ('quote"', "new\nline", "{% x %}", "\udcff")]
    for path in odd:
        Path(path).write_text("x")
    manifest = rendered(["app"], Observed(programs=["/bin/sh"], read=set(odd)), "/")
    trusted = manifest["sgx"]["trusted_files"]  # type: ignore[index]
    assert [f"file:{path}" in trusted for path in odd] == [True, True, True, False]


@pytest.mark.parametrize("command", [[], ["/nowhere/program"]])
def test_what_is_no_program_is_not_traced(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/strace" if name == "strace" else None)
    with pytest.raises(InputError, match="is no program"):
        trace(command)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="needs strace"):
        trace(["true"])
