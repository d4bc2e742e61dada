"""`sgxkit setup` on real systems: trees that debootstrap makes, and one of them with its systemd at work.

Left out when trees are compared is /var/log: what a package manager did is history, and undo does not rewrite it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import sgxkit
from doubles.apt_repository import SignedRepository, intel_packages, make_repository
from doubles.releases import in_tree
from doubles.systems import DEBIAN, EACH, SUITES, Trees, needs
from sgxkit.aesm.address import UnixAddress
from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.info import read_info

SOURCE = Path(sgxkit.__file__).parents[1]
SERVICE = f"""#!{sys.executable}
import sys, threading
sys.path[:0] = {[str(SOURCE), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from sgxkit.aesm.address import UnixAddress
from sgxkit.aesm.server import serving
from doubles.quoting_service import FixedQuotes
with serving(FixedQuotes(), UnixAddress(Path("/run/aesmd/aesm.socket"))):
    threading.Event().wait()
"""


@pytest.fixture
def tree(request: pytest.FixtureRequest, trees: Trees, tmp_path: Path) -> Iterator[Path]:
    """A system to change, laid over the one that stays as it is."""
    lower, merged = trees.system(request.param), tmp_path / "system"
    for name in ("upper", "work", "system"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={lower},upperdir={tmp_path / 'upper'},workdir={tmp_path / 'work'}"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no overlay file system here: {mounted.stderr.decode().strip()}")
    try:
        # Only the test's own repository is asked, so that a run is quick and needs one mirror once.
        (merged / "etc/apt/sources.list").write_text("")
        yield merged
    finally:
        subprocess.run(["umount", "--lazy", str(merged)], check=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, trees: Trees) -> SignedRepository:
    folder = tmp_path_factory.mktemp("repository") / "sgx"
    return make_repository(folder, tuple(SUITES), intel_packages(SERVICE, pause=1.5))


@pytest.fixture(scope="module")
def url(repository: SignedRepository) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository.folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """Every path's kind, mode, owner and content but those of logs and of time stamps."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        if folder == f"{root}/var/log":
            folders.clear()
            continue
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            content: object = None
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file():
                content = _digest(path, status)
            found[str(path.relative_to(root))] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


_DIGESTS: dict[tuple[int, int, int, int], str] = {}


def _digest(path: Path, status: os.stat_result) -> str:
    """A file's SHA-256, computed once for each inode and time of change."""
    key = (status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)
    if key not in _DIGESTS:
        _DIGESTS[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return _DIGESTS[key]


def differences(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> dict[str, object]:
    names = before.keys() | after.keys()
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sgxkit", "setup", *arguments]


def setup(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), check=False, capture_output=True, text=True, timeout=300)


def wanted(tree: Path, url: str, repository: SignedRepository, key: str = "key.asc") -> tuple[str, ...]:
    return (
        "--root", str(tree), "--for", "attest", "--aesm", "apt", "--user", "games", "--repo-url", url,
        "--repo-key", f"{url}/{key}", "--repo-fingerprint", repository.fingerprint,
    )  # fmt: skip


@pytest.mark.parametrize("tree", EACH, indirect=True)
def test_a_system_is_set_up_once_and_taken_back_byte_for_byte(
    tree: Path, url: str, repository: SignedRepository
) -> None:
    options = wanted(tree, url, repository)
    before = everything(tree)
    plan = setup("plan", *options, "--json")
    assert plan.returncode == 0, plan.stderr
    steps = [step["id"] for step in json.loads(plan.stdout)["steps"]]
    assert {"repository.source", "packages.quoting", "provider.configuration", "aesm.enable"} <= set(steps)
    assert differences(before, everything(tree)) == {}
    applied = setup("apply", *options, "--yes")
    assert applied.returncode == 0, applied.stderr
    after = everything(tree)
    assert "opt/intel/sgx-aesm-service/aesm/aesm_service" in after
    assert "aesmd" in (tree / "etc/group").read_text()
    assert (tree / "etc/systemd/system/multi-user.target.wants/aesmd.service").is_symlink()
    assert setup("status", "--root", str(tree)).returncode == 0
    again = setup("apply", *options, "--yes", "--json")
    assert json.loads(again.stdout)["done"] == []
    assert differences(after, everything(tree)) == {}
    undone = setup("undo", "--root", str(tree), "--yes")
    assert undone.returncode == 0, undone.stdout
    assert differences(before, everything(tree)) == {}
    assert setup("undo", "--root", str(tree), "--yes").returncode == 0


@pytest.mark.parametrize("tree", ["bookworm"], indirect=True)
def test_packages_of_the_distribution_are_taken_back_with_their_dependencies(tree: Path) -> None:
    (tree / "etc/apt/sources.list").write_text(f"deb {DEBIAN} bookworm main\n")
    before = everything(tree)
    applied = setup("apply", "--root", str(tree), "--for", "kubernetes-node", "--yes", "--json")
    assert "clock.package" in json.loads(applied.stdout)["done"], applied.stderr
    assert "kubernetes.plugin" in json.loads(applied.stdout)["by_person"]
    assert "usr/sbin/chronyd" in everything(tree)
    assert setup("undo", "--root", str(tree), "--yes").returncode == 0
    assert differences(before, everything(tree)) == {}


@pytest.mark.parametrize("tree", ["bookworm"], indirect=True)
def test_a_run_that_is_killed_while_packages_are_installed_goes_on(
    tree: Path, url: str, repository: SignedRepository
) -> None:
    options = wanted(tree, url, repository)
    before = everything(tree)
    process = subprocess.Popen(
        command("apply", *options, "--yes"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    status = tree / "var/lib/dpkg/status"
    deadline = time.monotonic() + 120
    while not any(state in status.read_text() for state in ("install ok half-configured", "install ok unpacked")):
        assert process.poll() is None, "it ended before packages were at work"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)
    assert setup("status", "--root", str(tree)).returncode == 1
    resumed = setup("apply", *options, "--yes")
    assert resumed.returncode == 0, resumed.stderr
    assert setup("status", "--root", str(tree)).returncode == 0
    undone = setup("undo", "--root", str(tree), "--yes")
    assert undone.returncode == 0, undone.stdout
    assert differences(before, everything(tree)) == {}


@pytest.mark.parametrize("tree", ["bookworm"], indirect=True)
def test_a_key_that_is_not_the_named_one_is_refused(tree: Path, url: str, repository: SignedRepository) -> None:
    options = list(wanted(tree, url, repository, "key.gpg"))
    options[-1] = repository.fingerprint[:-1] + ("0" if repository.fingerprint[-1] != "0" else "1")
    before = everything(tree)
    refused = setup("apply", *options, "--yes")
    assert refused.returncode == 1
    assert "not the trusted one" in refused.stderr
    assert not (tree / "etc/apt/sources.list.d/intel-sgx.sources").exists()
    assert setup("undo", "--root", str(tree), "--yes").returncode == 0
    assert differences(before, everything(tree)) == {}


INSIDE = textwrap.dedent(
    """
    import sys
    sys.path[:0] = PATHS
    from doubles.releases import in_tree
    from sgxkit.host.collect import load_facts
    from sgxkit.host.setup.actions import RepositoryKey
    from sgxkit.host.setup.apply import apply, recover, status, undo
    from sgxkit.host.setup.journal import open_journal
    from sgxkit.host.setup.look import observe
    from sgxkit.host.setup.options import Options
    from sgxkit.host.setup.plan import make_plan
    from sgxkit.host.setup.target import Target

    class Tell:
        def begin(self, number, total, step): print(step.id, flush=True)
        def done(self, seconds): ...
        def held(self): print("held")

    target, facts = Target(), load_facts(FACTS)
    assert target.booted
    options = Options("attest", aesm="apt", repo_url=URL, repo_key=RepositoryKey(URL + "/key.gpg", FINGERPRINT))
    with open_journal(target) as journal:
        if WHAT == "apply":
            recover(target, journal)
            plan = make_plan(facts, options, observe(target, facts, options), due=journal.due)
            apply(target, journal, plan, Tell())
            print([standing.state for standing in status(target, journal)])
        else:
            print(undo(target, journal, Tell()))
    """
)


@pytest.mark.parametrize("tree", ["bookworm"], indirect=True)
def test_units_run_where_systemd_does(tree: Path, url: str, repository: SignedRepository, tmp_path: Path) -> None:
    needs("systemd-nspawn", "nsenter")
    facts = tree / "root/facts.json"
    facts.write_text(json.dumps(in_tree().to_json()))
    before = everything(tree)
    shared = [sys.base_prefix, sys.prefix, str(SOURCE.parent)]
    binds = [f"--bind-ro={path}" for path in dict.fromkeys(shared)]
    booted = subprocess.Popen(
        ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={tree}", *binds, "--boot"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        init = leader(booted)

        def inside(*arguments: str) -> subprocess.CompletedProcess[str]:
            entered = ["nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd=/"]
            return subprocess.run([*entered, *arguments], check=False, capture_output=True, text=True, timeout=180)

        deadline = time.monotonic() + 240
        while inside("systemctl", "is-system-running", "--quiet").returncode not in (0, 1):
            assert time.monotonic() < deadline
            time.sleep(0.3)
        if "offline" in inside("systemctl", "is-system-running").stdout:
            pytest.skip("systemd does not come up in a container here")
        paths = [str(SOURCE), str(Path(__file__).parents[1])]
        head = f"PATHS, FACTS, URL, FINGERPRINT = {(paths, '/root/facts.json', url, repository.fingerprint)!r}\n"
        applied = inside(sys.executable, "-c", f"{head}WHAT = 'apply'\n{INSIDE}")
        assert "aesm.enable" in applied.stdout, applied.stderr
        assert inside("systemctl", "is-active", "aesmd").stdout.strip() == "active", applied.stdout
        socket = Path(f"/proc/{init}/root/run/aesmd/aesm.socket")
        # A simple service is active as soon as it was started, before it listens.
        while not socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert read_info(AesmClient(UnixAddress(socket))).keys
        undone = inside(sys.executable, "-c", f"{head}WHAT = 'undo'\n{INSIDE}")
        assert "stayed=()" in undone.stdout, undone.stdout + undone.stderr
        assert inside("systemctl", "is-active", "aesmd").stdout.strip() != "active"
    finally:
        booted.terminate()
        try:
            booted.wait(timeout=20)
        except subprocess.TimeoutExpired:
            booted.kill()
            booted.wait()
        assert booted.stdout is not None
        booted.stdout.close()
    # What the boot itself left (machine-id, state of systemd) is not ours.
    ours = (
        "etc/apt",
        "etc/udev",
        "etc/group",
        "etc/passwd",
        "etc/sgx",
        "opt",
        "var/lib/dpkg",
        "var/lib/sgxkit",
        "var/cache",
    )
    left = {name for name in differences(before, everything(tree)) if name.startswith(ours)}
    assert left == set()


def leader(booted: subprocess.Popen[bytes]) -> int:
    """The process that is number 1 inside."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if booted.poll() is not None:
            output = b"" if booted.stdout is None else booted.stdout.read()
            pytest.skip(f"systemd-nspawn does not work here: {output.decode(errors='replace')[-200:]}")
        children = Path(f"/proc/{booted.pid}/task/{booted.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/root/run/systemd/system").is_dir() and _is_init(int(child)):
                return int(child)
        time.sleep(0.2)
    raise AssertionError("nothing came up inside")


def _is_init(process: int) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return any(line.split()[-1] == "1" for line in lines if line.startswith("NSpid:"))
