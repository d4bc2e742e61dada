"""The probe as a real process: on this machine, on composed file systems, beside fake daemons and services."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sgxkit.host.collect import PROBE, collect_facts
from sgxkit.host.facts import AesmReply, Facts, HttpReply, NodeStatus, OsRelease, Unread, load_facts_json
from sgxkit.host.schema import facts_schema

HANG = 60  # seconds after which a process of the test counts as hanging
NOBODY = 65534

Environment = dict[str, str]


def environment(**changes: str) -> Environment:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"KUBE|NODE_NAME|MY_NODE|QCNL|SGX_|.*_proxy$", name, re.I)
    }
    return kept | changes


def run_probe(
    *arguments: str,
    python: str = sys.executable,
    script: str | None = str(PROBE),
    network: bool = False,
    timeout: float = 10,
    user: int | None = None,
    **changes: str,
) -> Facts:
    """Run the probe, hold its document against the schema, and return the facts; `script` None feeds it by stdin."""
    command = [python, script or "-", "--timeout", str(timeout), *arguments]
    if not network:
        command.append("--no-network")
    result = subprocess.run(
        command,
        input=None if script else PROBE.read_bytes(),
        stdin=subprocess.DEVNULL if script else None,
        capture_output=True,
        timeout=HANG,
        env=environment(**changes),
        cwd="/",
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    assert result.stderr.decode() == ""
    assert result.returncode == 0
    assert result.stdout.count(b"\n") == 1
    jsonschema.Draft202012Validator(facts_schema()).validate(json.loads(result.stdout))
    facts = load_facts_json(result.stdout)
    assert load_facts_json(json.dumps(facts.to_json())) == facts
    return facts


def unread_kinds(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and kind of every reading without value in a document."""
    if isinstance(value, dict):
        if "error" in value:
            yield path, value["error"]
        for key, inner in value.items():
            yield from unread_kinds(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from unread_kinds(inner, path)


# This machine

VERSIONS = [f"3.{minor}" for minor in range(6, 15)]


def interpreter(version: str, *, for_user: int | None = None) -> str | None:
    """Return a Python of one version, on the search path or among pyenv's, that the user may run."""
    found = shutil.which(f"python{version}")
    candidates = [found] if found else []
    candidates += [
        path for path in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}") if Path(path).exists()
    ]
    candidates += [str(path) for path in (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python3")]
    for candidate in candidates:
        try:
            result = subprocess.run(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                timeout=HANG,
                check=False,
                user=for_user,
                cwd="/",
            )
        except PermissionError:
            continue
        if result.stdout.decode().strip() == version:
            return candidate
    return None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("script", [str(PROBE), None], ids=["file", "stdin"])
def test_it_runs_on_every_python(version: str, script: str | None) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    facts = run_probe(python=python, script=script)
    assert facts.source.python is not None
    assert facts.source.python.startswith(version + ".")
    assert facts.source.producer == "sgxkit-probe"
    assert [found for found in unread_kinds(facts.to_json()) if found[1] in ("timeout", "unrecorded")] == []


def test_it_says_what_this_machine_says() -> None:
    facts = run_probe()
    assert facts.kernel.release == os.uname().release
    assert facts.cpu.architecture == os.uname().machine
    assert facts.source.root == "/"
    cpuinfo = facts.cpu.cpuinfo
    assert not isinstance(cpuinfo, Unread)
    assert cpuinfo.cpus == Path("/proc/cpuinfo").read_text().count("processor\t:")
    for path in ("/dev/sgx_enclave", "/dev/sgx_provision", "/dev/isgx"):
        status = facts.devices.node(path).status
        assert isinstance(status, Unread) is not Path(path).exists()
    user = facts.accounts.user
    assert not isinstance(user, Unread)
    assert (user.uid, user.gid) == (os.geteuid(), os.getegid())
    assert set(user.gids) == set(os.getgroups()) | {os.getegid()}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="CPUID is an x86 instruction")
def test_cpuid_is_read_on_every_online_cpu() -> None:
    facts = run_probe()
    assert not isinstance(facts.cpu.cpuid, Unread)
    for cpu in facts.cpu.cpuid:
        assert not isinstance(cpu.leaves, Unread)
        basic, features = cpu.leaf(0), cpu.leaf(7)
        assert basic is not None
        assert struct.pack("<III", basic.ebx, basic.edx, basic.ecx) in (b"GenuineIntel", b"AuthenticAMD")
        assert features is not None
        assert bool(features.ebx >> 5 & 1) is ("avx2" in Path("/proc/cpuinfo").read_text())
    assert len(facts.cpu.cpuid) == len(os.sched_getaffinity(0)) or len(facts.cpu.cpuid) == os.cpu_count()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a program as another user")


@as_root
def test_as_an_unprivileged_user_refusals_are_not_absences() -> None:
    found = [python for version in VERSIONS if (python := interpreter(version, for_user=NOBODY))]
    if not found:
        pytest.skip("no Python that another user may run")
    facts = run_probe(python=found[0], script=None, user=NOBODY)
    user = facts.accounts.user
    assert not isinstance(user, Unread)
    assert (user.uid, user.gids, user.capabilities) == (NOBODY, (NOBODY,), 0)
    root_facts = run_probe()
    kinds = dict(unread_kinds(root_facts.to_json()))
    for path, kind in unread_kinds(facts.to_json()):
        if kind == "absent":
            assert kinds.get(path) == "absent", path
    if os.uname().machine == "x86_64":
        assert not isinstance(facts.cpu.cpuid, Unread)
        assert not isinstance(root_facts.cpu.cpuid, Unread)
        # Leaf 1 holds the CPU's own number; all leaves are the same whichever way they are read.
        assert [cpu.leaves for cpu in facts.cpu.cpuid] == [cpu.leaves for cpu in root_facts.cpu.cpuid]


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (status.st_mtime_ns, status.st_size, status.st_mode)
        for path in [folder, *folder.rglob("*")]
        if (status := path.lstat())
    }


def test_it_writes_nothing_at_home_or_where_it_lies(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(PROBE, home / "probe.py")
    before = snapshot(tmp_path)
    run_probe(script=str(home / "probe.py"), HOME=str(home), TMPDIR=str(home), XDG_CACHE_HOME=str(home))
    assert snapshot(tmp_path) == before


def test_no_system_call_changes_a_file(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    calls = "openat,open,creat,?rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,?chmod,fchmodat,?symlink,"
    calls += "symlinkat,?link,linkat,?mknod,mknodat,truncate,ftruncate,mount,init_module,finit_module,setxattr"
    command = [strace, "-f", "-qq", "-o", str(log), "-e", f"trace={calls}", sys.executable, "-I", "-S", str(PROBE)]
    result = subprocess.run(command, capture_output=True, timeout=HANG, check=False, env=environment(), cwd="/")
    if result.returncode != 0:
        pytest.skip(f"strace may not trace here: {result.stderr.decode()[:200]}")
    lines = [line for line in log.read_text().splitlines() if "(" in line]
    assert any("/proc/cpuinfo" in line for line in lines)
    writes = [line for line in lines if "O_RDONLY" not in line and "resumed" not in line]
    devices = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"/dev/[^"]+", O_RDWR\|O_NONBLOCK\|O_CLOEXEC\)')
    assert [line for line in writes if not devices.search(line)] == []


def test_the_library_collects_the_same_facts() -> None:
    facts = collect_facts(10, network=False)
    assert facts.kernel.release == os.uname().release
    assert facts.source.network is False


@pytest.mark.parametrize("bad", [["--timeout", "0"], ["--timeout", "x"], ["--what"], ["--timeout", "nan"]])
def test_bad_arguments_are_usage_errors(bad: list[str]) -> None:
    result = subprocess.run([sys.executable, str(PROBE), *bad], capture_output=True, timeout=HANG, check=False)
    assert (result.returncode, result.stdout) == (2, b"")


# AESM

Answer = bytes | None
Daemon = Callable[[int, dict[int, Any]], Answer]


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def encode(fields: dict[int, int | bytes]) -> bytes:
    return b"".join(
        varint(number << 3) + varint(content)
        if isinstance(content, int)
        else varint(number << 3 | 2) + varint(len(content)) + content
        for number, content in fields.items()
    )


def decode(data: bytes) -> dict[int, Any]:
    def number(offset: int) -> tuple[int, int]:
        result = shift = 0
        while True:
            byte = data[offset]
            result |= (byte & 0x7F) << shift
            offset, shift = offset + 1, shift + 7
            if byte < 0x80:
                return result, offset

    result: dict[int, Any] = {}
    offset = 0
    while offset < len(data):
        tag, offset = number(offset)
        content, offset = number(offset)
        if tag & 7 == 2:
            result[tag >> 3] = data[offset : offset + content]
            offset += content
        else:
            result[tag >> 3] = content
    return result


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


def response(number: int, fields: dict[int, int | bytes]) -> bytes:
    return frame(encode({number: encode(fields)}))


class AesmServer:
    """A fake AESM: one request a connection; None closes it without a word."""

    def __init__(self, path: Path, daemon: Daemon | None) -> None:
        self.path = str(path)
        self.requests: list[tuple[int, dict[int, Any]]] = []
        self.daemon = daemon
        self.done = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(32)
        self.thread = threading.Thread(target=self.serve)

    def serve(self) -> None:
        held = []
        while not self.done.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            if self.daemon is None:
                held.append(connection)
                continue
            with connection:
                head = connection.recv(4, socket.MSG_WAITALL)
                if len(head) < 4:
                    continue
                message = decode(connection.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL))
                ((number, body),) = message.items()
                self.requests.append((number, decode(body)))
                answer = self.daemon(number, decode(body))
                if answer is not None:
                    connection.sendall(answer)
        for connection in held:
            connection.close()

    def __enter__(self) -> AesmServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


KEY_ID = (
    struct.pack("<HHH", 0, 0, 32) + bytes(48) + struct.pack("<I", 1) + bytes(96) + struct.pack("<I", 2) + bytes(98)
)
QUOTE_EX: dict[int, dict[int, int | bytes]] = {
    19: {1: 0, 2: KEY_ID},
    21: {1: 0, 2: 1},
    15: {1: 0, 2: bytes(512), 3: 32},
    16: {1: 0, 2: 4600},
}


def psw_2_29(number: int, body: dict[int, Any]) -> Answer:
    return response(number, QUOTE_EX[number]) if number in QUOTE_EX else None


def psw_2_27(number: int, body: dict[int, Any]) -> Answer:
    legacy: dict[int, dict[int, int | bytes]] = {10: {1: 0, 2: 1200}, 12: {1: 0, 2: 0}}
    return response(number, (QUOTE_EX | legacy)[number])


def without_plugins(number: int, body: dict[int, Any]) -> Answer:
    return response(number, {1: 30})


def aesm_facts(
    daemon: Daemon | None, tmp_path: Path, *, timeout: float = 10, network: bool = True
) -> tuple[Facts, AesmServer]:
    with AesmServer(tmp_path / "aesm.socket", daemon) as server:
        facts = run_probe("--aesm-socket", server.path, timeout=timeout, network=network)
    return facts, server


def replies(facts: Facts) -> dict[int, tuple[str, int | None]]:
    """Return what each request got: outcome or kind of failure, and error code."""
    conversation = facts.aesm.conversation
    assert not isinstance(conversation, Unread)
    return {
        entry.request: (entry.reply.kind, None)
        if isinstance(entry.reply, Unread)
        else (entry.reply.outcome, entry.reply.code)
        for entry in conversation
    }


def test_a_current_daemon(tmp_path: Path) -> None:
    facts, server = aesm_facts(psw_2_29, tmp_path)
    assert facts.aesm.connect is True
    assert isinstance(facts.aesm.socket, NodeStatus)
    assert facts.aesm.socket.type == "socket"
    assert facts.aesm.socket_path == server.path
    ok, closed = ("response", 0), ("closed", None)
    assert replies(facts) == {19: ok, 21: ok, 15: ok, 16: ok, 10: closed, 12: closed}
    nothing = AesmReply("response", None, None, None, None, None, None, None, None)
    assert facts.aesm.reply(19) == AesmReply("response", 19, 0, KEY_ID.hex(), 2, None, None, None, None)
    assert facts.aesm.reply(21) == AesmReply("response", 21, 0, None, None, 1, None, None, None)
    assert facts.aesm.reply(15) == AesmReply("response", 15, 0, None, None, None, 512, 32, None)
    assert facts.aesm.reply(16) == AesmReply("response", 16, 0, None, None, None, None, None, 4600)
    assert facts.aesm.reply(12) != nothing
    # Asked in the order that lets the daemon start its plug-ins, with the key that it selected, and no key is made.
    assert [number for number, _ in server.requests] == [19, 21, 15, 16, 10, 12]
    bodies = dict(server.requests)
    assert (bodies[15][1], bodies[15][3]) == (KEY_ID, 0)
    assert bodies[16][1] == KEY_ID
    assert 2 in bodies[19]
    assert bodies[21][9] > 0


def test_a_daemon_of_the_epid_era(tmp_path: Path) -> None:
    facts, _ = aesm_facts(psw_2_27, tmp_path)
    assert replies(facts) == dict.fromkeys((19, 21, 15, 16, 10, 12), ("response", 0))


def test_a_daemon_without_plugins(tmp_path: Path) -> None:
    facts, server = aesm_facts(without_plugins, tmp_path)
    assert replies(facts) == dict.fromkeys((19, 21, 15, 16, 10, 12), ("response", 30))
    # 21 does not start plug-ins: it is asked again. Without a selected key Intel's ECDSA key is asked for.
    assert [number for number, _ in server.requests] == [19, 21, 21, 15, 16, 10, 12]
    assert struct.unpack_from("<I", dict(server.requests)[15][1], 154) == (2,)


def test_a_daemon_that_answers_with_unsupported_request(tmp_path: Path) -> None:
    facts, _ = aesm_facts(lambda number, body: response(20, {1: 1}), tmp_path)
    assert facts.aesm.reply(10) == AesmReply("response", 20, 1, None, None, None, None, None, None)


def test_without_network_the_daemon_is_not_made_to_use_it(tmp_path: Path) -> None:
    facts, server = aesm_facts(psw_2_29, tmp_path, network=False)
    assert 16 not in [number for number, _ in server.requests]
    reply = facts.aesm.reply(16)
    assert isinstance(reply, Unread)
    assert reply.kind == "skipped"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x01",
        b"\xff\xff\xff\xff",
        struct.pack("<I", 65537) + bytes(70000),
        frame(b"\xff" * 30),
        frame(encode({19: 5})),
        frame(encode({7: b""})),
        frame(b""),
        struct.pack("<I", 100) + b"short",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["short-head", "huge", "beyond-limit", "garbage", "wrong-type", "other-message", "empty", "cut", "http"],
)
def test_garbage_replies_are_errors(answer: bytes, tmp_path: Path) -> None:
    facts, _ = aesm_facts(lambda number, body: answer, tmp_path)
    assert {kind for kind, _ in replies(facts).values()} == {"error"}
    assert facts.kernel.release == os.uname().release


def test_a_daemon_that_hangs_is_a_timeout_and_everything_else_is_read(tmp_path: Path) -> None:
    facts, _ = aesm_facts(None, tmp_path, timeout=1)
    assert facts.aesm.connect is True
    assert {kind for kind, _ in replies(facts).values()} == {"timeout"}
    assert facts.kernel.release == os.uname().release
    assert facts.source.seconds is not None


def test_a_daemon_that_dribbles_is_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "aesm.socket"
    stop = threading.Event()

    def dribble() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(struct.pack("<I", 60000))
                    while not stop.wait(0.02):
                        connection.sendall(b"\0")
                except OSError:
                    continue

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            facts = run_probe("--aesm-socket", str(path), timeout=1)
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert {kind for kind, _ in replies(facts).values()} <= {"timeout", "skipped"}
    assert replies(facts)[19] == ("timeout", None)


def test_a_stale_socket_refuses(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "aesm.socket"))
    facts = run_probe("--aesm-socket", str(tmp_path / "aesm.socket"))
    assert isinstance(facts.aesm.connect, Unread)
    assert (facts.aesm.connect.kind, facts.aesm.connect.errno) == ("error", 111)
    assert isinstance(facts.aesm.conversation, Unread)


def test_no_daemon_is_absent(tmp_path: Path) -> None:
    facts = run_probe("--aesm-socket", str(tmp_path / "aesm.socket"))
    assert isinstance(facts.aesm.socket, Unread)
    assert isinstance(facts.aesm.connect, Unread)
    assert (facts.aesm.socket.kind, facts.aesm.connect.kind) == ("absent", "absent")


# Composed hosts


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def efi(data: str) -> bytes:
    return bytes.fromhex("07000000" + data)


HOST: dict[str, str | bytes] = {
    "/proc/sys/kernel/osrelease": "6.8.0-40-generic\n",
    "/proc/sys/kernel/version": "#40-Ubuntu SMP\n",
    "/proc/sys/kernel/arch": "x86_64\n",
    "/proc/sys/kernel/hostname": "sgx1\n",
    "/proc/sys/kernel/dmesg_restrict": "1\n",
    "/proc/cmdline": "quiet nosgx db.password=hunter2\n",
    "/proc/misc": " 58 sgx_vepc\n125 sgx_enclave\n126 sgx_provision\nnonsense\n",
    "/proc/modules": "kvm_intel 380928 0 - Live 0x0\nisgx 57344 2 - Live 0x0 (OE)\n",
    "/proc/cpuinfo": (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nphysical id\t: 0\n"
        "model name\t: Intel(R) Xeon(R)\nstepping\t: 6\nmicrocode\t: 0xd0003b9\nflags\t\t: sgx sgx_lc aes\n\n"
        "processor\t: 1\nphysical id\t: 1\nmicrocode\t: 0xd0003a5\nflags\t\t: sgx aes\n"
    ),
    "/proc/self/status": "Name:\tpython\nCapEff:\t000001ffffffffff\n",
    "/proc/self/mountinfo": (
        "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "26 25 0:5 / /dev rw,nosuid shared:2 - devtmpfs udev rw,size=4k\n"
        "27 25 0:5 / /dev rw,nosuid,noexec shared:2 - devtmpfs udev rw,size=4k\n"
        "28 26 0:6 / /dev/shm rw - tmpfs tmpfs rw\n"
        "short line\n"
    ),
    "/proc/1/comm": "systemd\n",
    "/proc/1/cgroup": "0::/init.scope\n",
    "/proc/77/comm": "aesm_service\n",
    "/proc/78/comm": "bash\n",
    "/sys/devices/system/cpu/online": "0-1\n",
    "/sys/devices/system/node/node0/x86/sgx_total_bytes": "4261412864\n",
    "/sys/devices/system/node/node1/x86/sgx_total_bytes": "4261412864\n",
    "/sys/module/sgx/version": "1.41\n",
    "/sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
    "/sys/class/dmi/id/sys_vendor": "Microsoft Corporation\n",
    "/sys/class/dmi/id/chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n",
    "/sys/class/dmi/id/bios_date": "08/01/2026\n",
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": efi("01"),
    "/sys/firmware/efi/efivars/SOFTWAREGUARDSTATUS-9cb2e73f-7325-40f4-a484-659bb344c3cd": efi("0200"),
    "/sys/firmware/efi/efivars/SgxRegistrationServerRequest-304e0796-d515-4698-ac6e-e76cb1a71c28": efi("aa" * 9000),
    "/sys/firmware/efi/efivars/SgxRegistrationStatus-f236c5dc-a491-4bbe-bcdd-88885770df45": efi("01000700030000"),
    "/sys/firmware/efi/efivars/EPCSW-d69a279b-58eb-45d1-a148-771bb9eb5251": b"\x07",
    "/dev/kmsg": (
        "6,1,0,-;Linux version 6.8.0\n6,320,1234567,-;sgx: EPC section 0x18000000-0x1ffffffff\n"
        " SUBSYSTEM=cpu\n6,321,1300000,-;usb 1-1: new device\n4,322,1400000,-;x86/cpu: SGX disabled by BIOS.\n"
    ),
    "/dev/sgx_enclave": "",
    "/boot/config-6.8.0-40-generic": "CONFIG_X86_SGX=y\n# CONFIG_X86_SGX_KVM is not set\nCONFIG_NUMA=y\n",
    "/etc/os-release": (
        'ID=ubuntu\nID_LIKE="debian linux"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n'
        "PRETTY_NAME='Ubuntu 24.04 LTS'\n"
    ),
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\naesmd:x:110:117::/var/opt/aesmd:/bin/false\n",
    "/etc/group": "root:x:0:\nsgx:x:117:alice,bob\nsgx_prv:x:118:\nwheel:x:9:carol\n",
    "/etc/aesmd.conf": "default quoting type = ecdsa_256\naesm proxy = http://u:hunter2@proxy:1\n",
    "/etc/udev/rules.d/94-sgx-enclave.rules": '# sgx\nKERNEL=="sgx_enclave",SYMLINK+="sgx/enclave"\n',
    "/etc/modprobe.d/blacklist.conf": "blacklist intel_sgx\nblacklist pcspkr\n",
    "/etc/sgx_default_qcnl.conf": '{"pccs_url": "https://localhost:8081/sgx/certification/v4/" "retry_times": 6}\n',
    "/etc/mpa_registration.conf": "subscription key = hunter2\n",
    "/etc/libvirt/qemu.conf": '# comment\n\ncgroup_device_acl = ["/dev/sgx_vepc"]\n',
    "/etc/apt/sources.list.d/intel-sgx.list": (
        "deb [signed-by=/etc/apt/keyrings/intel-sgx-keyring.asc arch=amd64] "
        "https://download.01.org/intel-sgx/sgx_repo/ubuntu noble main\n"
    ),
    "/etc/apt/sources.list.d/other.list": "deb https://example.com/ stable main\n",
    "/etc/apt/keyrings/intel-sgx-keyring.asc": "<html>404</html>\n",
    "/var/lib/dpkg/status": (
        "Package: libsgx-quote-ex\nStatus: install ok installed\nVersion: 2.29.100.1-noble1\n\n"
        "Package: bash\nStatus: install ok installed\nVersion: 5\n\n"
        "Package: sgx-aesm-service\nStatus: deinstall ok config-files\nDescription: a\n line\nVersion: 2.27.100.1\n"
    ),
    "/var/log/mpa_registration.log": "x" * 70000 + "\nlast line\n",
    "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1.13": b"\x7fELF",
    "/opt/intel/sgx-aesm-service/aesm/bundles/libecdsa_quote_service_bundle.so": b"",
    "/opt/intel/sgx-aesm-service/aesm/bundles/readme.txt": b"",
    "/lib/modules/6.8.0-40-generic/modules.dep": (
        "updates/dkms/isgx.ko:\nkernel/arch/x86/kernel/msr.ko.zst: a.ko\nkernel/x.ko:\n"
    ),
}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    write(root, HOST)
    (root / "dev/sgx").mkdir()
    (root / "dev/sgx/enclave").symlink_to("../sgx_enclave")
    (root / "dev/sgx/provision").symlink_to("../sgx_provision")
    (root / "usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1").symlink_to("libdcap_quoteprov.so.1.13")
    (root / "usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so").symlink_to("libdcap_quoteprov.so.9")
    for cpu in range(2):
        folder = root / f"dev/cpu/{cpu}"
        folder.mkdir(parents=True)
        with (folder / "cpuid").open("wb") as device:
            # In a plain file leaf N lies at byte N, so that low leaves overlap; these do not.
            for leaf, subleaf, registers in (
                (0, 0, (0x1B, 0, 0, 0)),
                (0x12, 1, (0xB6, 0, 0x2E7, 0)),
                (0x12, 2, (0x18000001, 0x70, 0xE7800002, 0xF)),
                (0x12, 3, (0, 0, 0, 0)),
            ):
                device.seek(leaf | subleaf << 32)
                device.write(struct.pack("<4I", *registers))
        with (folder / "msr").open("wb") as device:
            device.seek(0x3A)
            device.write(struct.pack("<Q", 0x60005))
            device.seek(0x503 + 8)
            device.write(b"\0")
    return root


def test_a_composed_host_is_read_as_composed(host: Path) -> None:
    before = snapshot(host)
    facts = run_probe("--root", str(host))
    assert snapshot(host) == before
    assert facts.source.root == str(host)
    assert facts.source.notes == (
        "/etc/apt/keyrings/intel-sgx-keyring.asc: not read as OpenPGP keys: neither armoured nor binary",
    )

    cpuid = facts.cpu.cpuid
    assert not isinstance(cpuid, Unread)
    assert [(cpu.cpu, cpu.via) for cpu in cpuid] == [(0, "device"), (1, "device")]
    section = cpuid[1].leaf(0x12, 2)
    assert section is not None
    assert (section.eax, section.ebx, section.ecx, section.edx) == (0x18000001, 0x70, 0xE7800002, 0xF)
    assert cpuid[0].leaf(0x12, 3) is not None
    assert cpuid[0].leaf(0x12, 4) is None
    msrs = facts.cpu.msrs
    assert not isinstance(msrs, Unread)
    assert [cpu.value(0x3A) for cpu in msrs] == [0x60005, 0x60005]
    assert msrs[0].value(0x503) == 0
    cpuinfo = facts.cpu.cpuinfo
    assert not isinstance(cpuinfo, Unread)
    assert (cpuinfo.cpus, cpuinfo.packages, cpuinfo.model) == (2, 2, 106)
    assert cpuinfo.microcode == ("0xd0003b9", "0xd0003a5")
    assert (cpuinfo.flags, cpuinfo.differing_flags) == (("aes", "sgx"), ("sgx_lc",))

    firmware = {
        name: content.kind
        if isinstance(content := facts.firmware.variable(name), Unread)
        else (content.size, content.data)
        for name in (
            "SOFTWAREGUARDSTATUS",
            "SgxRegistrationServerRequest",
            "SgxRegistrationStatus",
            "EPCSW",
            "EPCBIOS",
        )
    }
    assert firmware == {
        "SOFTWAREGUARDSTATUS": (2, "0200"),
        "SgxRegistrationServerRequest": (9000, None),
        "SgxRegistrationStatus": (7, "01000700030000"),
        "EPCSW": "error",
        "EPCBIOS": "absent",
    }
    assert (facts.firmware.boot_mode, facts.firmware.secure_boot) == ("uefi", True)

    kernel = facts.kernel
    assert kernel.release == "6.8.0-40-generic"
    assert kernel.command_line == "quiet nosgx db.password=*******"
    assert kernel.lockdown == "integrity"
    assert not isinstance(kernel.config, Unread)
    config = {option.name: option.value for option in kernel.config}
    assert (config["CONFIG_X86_SGX"], config["CONFIG_X86_SGX_KVM"], config["CONFIG_NUMA"]) == ("y", "n", "y")
    assert not isinstance(kernel.epc_nodes, Unread)
    assert [(node.node, node.total_bytes) for node in kernel.epc_nodes] == [(0, 4261412864), (1, 4261412864)]
    assert not isinstance(kernel.misc_devices, Unread)
    assert [device.name for device in kernel.misc_devices] == ["sgx_vepc", "sgx_enclave", "sgx_provision"]
    assert not isinstance(kernel.modules, Unread)
    assert [(module.name, module.loaded, module.version) for module in kernel.modules] == [
        ("sgx", False, "1.41"),
        ("isgx", True, None),
        ("kvm_intel", True, None),
    ]
    assert kernel.available_modules == ("kernel/arch/x86/kernel/msr.ko.zst", "updates/dkms/isgx.ko")
    assert not isinstance(kernel.log, Unread)
    assert kernel.log.complete
    assert kernel.log.lines == (
        "[    1.234567] sgx: EPC section 0x18000000-0x1ffffffff",
        "[    1.400000] x86/cpu: SGX disabled by BIOS.",
    )
    assert not isinstance(kernel.udev_rules, Unread)
    assert [(rule.path, rule.number) for rule in kernel.udev_rules] == [("/etc/udev/rules.d/94-sgx-enclave.rules", 2)]
    assert not isinstance(kernel.modprobe_lines, Unread)
    assert [line.text for line in kernel.modprobe_lines] == ["blacklist intel_sgx"]

    node = facts.devices.node("/dev/sgx_enclave")
    assert (node.open_read_write, node.edmm) == (True, False)
    link = facts.devices.node("/dev/sgx/enclave").status
    assert isinstance(link, NodeStatus)
    assert (link.type, link.link_target) == ("regular", "../sgx_enclave")
    dangling = facts.devices.node("/dev/sgx/provision")
    assert isinstance(dangling.status, NodeStatus)
    assert dangling.status.type == "dangling"
    assert isinstance(dangling.open_read_write, Unread)
    folder = facts.devices.node("/dev/sgx")
    assert isinstance(folder.status, NodeStatus)
    assert folder.status.type == "directory"
    vepc = facts.devices.node("/dev/sgx_vepc").status
    assert isinstance(vepc, Unread)
    assert vepc.kind == "absent"
    assert not isinstance(facts.devices.mounts, Unread)
    assert [(mount.mount_point, "noexec" in mount.options) for mount in facts.devices.mounts] == [
        ("/", False),
        ("/dev", True),
    ]

    groups = facts.accounts.groups
    assert not isinstance(groups, Unread)
    assert [(group.name, group.gid, group.members) for group in groups] == [
        ("sgx", 117, ("aesmd", "alice", "bob")),
        ("sgx_prv", 118, ()),
    ]
    assert facts.accounts.service_users == ("aesmd",)

    system = facts.system
    assert system.hostname == "sgx1"
    assert system.os_release == OsRelease("ubuntu", ("debian", "linux"), "24.04", "noble", "Ubuntu 24.04 LTS")
    assert system.cloud == "azure"
    assert not isinstance(system.container, Unread)
    assert system.container.kind == "none"

    assert not isinstance(facts.services.processes, Unread)
    assert [(process.pid, process.name) for process in facts.services.processes] == [(77, "aesm_service")]
    assert facts.aesm.bundles == ("libecdsa_quote_service_bundle.so",)
    assert not isinstance(facts.aesm.configuration, Unread)
    assert facts.aesm.configuration.text.endswith("http://*********@proxy:1\n")

    assert not isinstance(facts.software.packages, Unread)
    assert [(package.name, package.version, package.status) for package in facts.software.packages] == [
        ("libsgx-quote-ex", "2.29.100.1-noble1", "installed"),
        ("sgx-aesm-service", "2.27.100.1", "config-files"),
    ]
    assert not isinstance(facts.software.libraries, Unread)
    libraries = {library.path.rsplit("/", 1)[1]: library.target for library in facts.software.libraries}
    assert libraries == {
        "libdcap_quoteprov.so": None,
        "libdcap_quoteprov.so.1": "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1.13",
        "libdcap_quoteprov.so.1.13": "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1.13",
    }
    assert not isinstance(facts.software.apt_sources, Unread)
    assert [source.path for source in facts.software.apt_sources] == ["/etc/apt/sources.list.d/intel-sgx.list"]
    assert facts.software.apt_keys == ()
    assert facts.quote_provider.pccs_urls == ("https://localhost:8081/sgx/certification/v4/",)
    assert not isinstance(facts.registration.log, Unread)
    assert facts.registration.log.truncated
    assert facts.registration.log.text.endswith("\nlast line\n")
    assert not isinstance(facts.registration.configuration, Unread)
    assert facts.registration.configuration.text == "subscription key = *******\n"
    assert not isinstance(facts.virtualization.libvirt_qemu_conf, Unread)
    assert facts.virtualization.libvirt_qemu_conf.text == 'cgroup_device_acl = ["/dev/sgx_vepc"]\n'
    assert not isinstance(facts.launch.debug, Unread)
    assert facts.launch.debug.outcome == "not_attempted"
    assert isinstance(facts.network.endpoints, Unread)
    assert facts.network.endpoints.kind == "skipped"


def test_a_host_that_is_not_x86(host: Path) -> None:
    write(host, {"/proc/sys/kernel/arch": "aarch64\n"})
    facts = run_probe("--root", str(host))
    assert isinstance(facts.cpu.cpuid, Unread)
    assert facts.cpu.cpuid.kind == "unsupported"


def test_an_empty_root_has_only_reasons(tmp_path: Path) -> None:
    facts = run_probe("--root", str(tmp_path))
    kinds = dict(unread_kinds(facts.to_json()))
    assert set(kinds.values()) <= {"absent", "unsupported", "skipped", "error"}
    assert kinds[".kernel.release"] == "absent"
    assert not isinstance(facts.launch.production, Unread)
    assert facts.launch.production.outcome == "no_device"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"/.dockerenv": ""}, "docker"),
        ({"/run/.containerenv": "", "/.dockerenv": ""}, "podman"),
        ({"/proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope\n"}, "kubernetes"),
        ({"/proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, "other"),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, "none"),
    ],
)
def test_containers_are_told_by_their_signs(files: dict[str, str | bytes], kind: str, tmp_path: Path) -> None:
    write(tmp_path, files)
    facts = run_probe("--root", str(tmp_path))
    assert not isinstance(facts.system.container, Unread)
    assert facts.system.container.kind == kind
    assert bool(facts.system.container.evidence) is (kind != "none")


def test_files_that_would_hang_or_flood_do_not(host: Path) -> None:
    for name in (
        "etc/aesmd.conf",
        "etc/os-release",
        "dev/sgx_provision",
        "proc/cpuinfo",
    ):
        (host / name).unlink(missing_ok=True)
        os.mkfifo(host / name)
    with (host / "etc/group").open("wb") as file:
        file.truncate(1 << 40)
    write(
        host,
        {
            "/proc/misc": b"\xff\xfe\x00" * 100_000,
            "/etc/passwd": b"\x80" * 200_000,
            "/proc/1/cgroup": "1:" * 30_000,
            "/proc/cmdline": "key" * 20_000,
            "/var/lib/dpkg/status": "\nPackage: libsgx-a\n" * 50_000,
            "/etc/apt/sources.list.d/sgx.sources": "URIs: https://download.01.org/intel-sgx\n" + "Signed-By: " * 5000,
            "/etc/apt/keyrings/sgx.asc": "-----BEGIN PGP PUBLIC KEY BLOCK-----" * 20_000,
            "/etc/mpa_registration.conf": "key = " * 10_000,
            "/etc/sgx_default_qcnl.conf": '/*"' * 20_000,
            "/lib/modules/6.8.0-40-generic/modules.dep": "sgx/" * 1_000_000,
            "/var/log/mpa_registration.log": "token" * 14_000,
        },
    )
    facts = run_probe("--root", str(host), timeout=5)
    assert facts.kernel.release == "6.8.0-40-generic"
    assert [found for found in unread_kinds(facts.to_json()) if found[1] == "timeout"] == []
    provision = facts.devices.node("/dev/sgx_provision").open_read_write
    assert isinstance(provision, Unread)
    assert provision.kind == "unsupported"


# Services


class Responder(BaseHTTPRequestHandler):
    """Answers GET with 200 and remembers the path."""

    paths: list[str]
    body = b"crl"

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def http_server(body: bytes = b"crl", context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[str]]]:
    paths: list[str] = []
    handler = type("Handler", (Responder,), {"paths": paths, "body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        # A client that rejects the certificate is no error of the test.
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], paths
        finally:
            server.shutdown()
            thread.join()


def server_context(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """Return a TLS server's context with a self-signed certificate for 127.0.0.1, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    (tmp_path / "server.pem").write_text(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context, pem


def endpoints(tmp_path: Path, configuration: str, timeout: float = 10) -> dict[str, HttpReply | Unread]:
    write(tmp_path / "root", {"/etc/sgx_default_qcnl.conf": configuration})
    facts = run_probe("--root", str(tmp_path / "root"), network=True, timeout=timeout)
    assert not isinstance(facts.network.endpoints, Unread)
    return {endpoint.url: endpoint.reply for endpoint in facts.network.endpoints}


def test_a_pccs_that_answers(tmp_path: Path) -> None:
    with http_server() as (port, paths):
        found = endpoints(tmp_path, f'{{"pccs_url": "http://127.0.0.1:{port}/sgx/certification/v4/"}}')
    (reply,) = found.values()
    assert isinstance(reply, HttpReply)
    assert (reply.status, reply.tls_error) == (200, None)
    assert reply.clock_offset_seconds is not None
    assert abs(reply.clock_offset_seconds) < HANG
    assert paths == ["/sgx/certification/v4/rootcacrl"]


def test_a_pccs_with_a_self_signed_certificate(tmp_path: Path) -> None:
    context, _ = server_context(tmp_path)
    with http_server(context=context) as (port, paths):
        found = endpoints(tmp_path, f"PCCS_URL=https://127.0.0.1:{port}/sgx/certification/v3/\n")
    (reply,) = found.values()
    assert isinstance(reply, HttpReply)
    assert reply.status == 200
    assert reply.tls_error is not None
    assert "self" in reply.tls_error
    assert paths == ["/sgx/certification/v3/rootcacrl"]


def test_services_that_do_not_answer(tmp_path: Path) -> None:
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        strange = "file:///etc/passwd"
        text = json.dumps({"local_pck_url": refused, "pccs_url": hanging, "collateral_service": strange})
        found = endpoints(tmp_path, text, timeout=2)
    kinds = {url: reply.kind for url, reply in found.items() if isinstance(reply, Unread)}
    assert kinds == {refused: "error", hanging: "timeout", strange: "error"}
    reply = found[refused]
    assert isinstance(reply, Unread)
    assert reply.errno == 111


def test_without_a_configuration_no_service_is_asked(tmp_path: Path) -> None:
    facts = run_probe("--root", str(tmp_path), network=True)
    assert isinstance(facts.network.endpoints, Unread)
    assert facts.network.endpoints.kind == "skipped"


# Kubernetes

NODE = {
    "metadata": {
        "name": "worker-1",
        "labels": {
            "intel.feature.node.kubernetes.io/sgx": "true",
            "kubernetes.io/arch": "amd64",
            "team": "private",
        },
    },
    "spec": {"unschedulable": True},
    "status": {
        "capacity": {"cpu": "8", "sgx.intel.com/epc": "98566144", "pods": "110"},
        "allocatable": {"sgx.intel.com/epc": "98566144"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def check_cluster(facts: Facts, via: str) -> None:
    cluster = facts.kubernetes.cluster
    assert not isinstance(cluster, Unread), cluster
    assert cluster.via == via
    (node,) = cluster.nodes
    assert (node.name, node.ready, node.unschedulable) == ("worker-1", True, True)
    assert [(label.name, label.value) for label in node.labels] == [
        ("intel.feature.node.kubernetes.io/sgx", "true"),
        ("kubernetes.io/arch", "amd64"),
    ]
    assert [(resource.name, resource.value) for resource in node.capacity] == [
        ("cpu", "8"),
        ("sgx.intel.com/epc", "98566144"),
    ]


def test_a_service_account_asks_the_api_server(tmp_path: Path) -> None:
    context, certificate = server_context(tmp_path)
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    write(tmp_path / "root", {f"{folder}/token": "secret\n", f"{folder}/ca.crt": certificate})
    with http_server(json.dumps(NODE).encode(), context) as (port, paths):
        facts = run_probe(
            "--root",
            str(tmp_path / "root"),
            network=True,
            KUBERNETES_SERVICE_HOST="127.0.0.1",
            KUBERNETES_SERVICE_PORT=str(port),
            NODE_NAME="worker-1",
        )
    check_cluster(facts, "service-account")
    assert paths == ["/api/v1/nodes/worker-1"]
    assert "secret" not in json.dumps(facts.to_json())


def kubectl(tmp_path: Path, script: str) -> dict[str, str]:
    """Put a program called kubectl and a kubeconfig in place; return the environment that leads to them."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    (tmp_path / "config").write_text("{}")
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }


def test_a_kubeconfig_is_used_through_kubectl(tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(json.dumps({"items": [NODE]}))
    script = f'echo "$@" > {tmp_path}/arguments; cat {tmp_path}/nodes.json\n'
    facts = run_probe(network=True, **kubectl(tmp_path, script))
    check_cluster(facts, "kubectl")
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:3] == ["get", "--raw", "/api/v1/nodes?limit=500"]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    end = time.monotonic() + HANG
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_a_program_that_hangs_is_a_timeout_and_is_ended(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid\nwait\n"
    facts = run_probe(network=True, timeout=1, **kubectl(tmp_path, script))
    assert isinstance(facts.kubernetes.cluster, Unread)
    assert facts.kubernetes.cluster.kind == "timeout"
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_floods_is_cut_off(tmp_path: Path) -> None:
    facts = run_probe(network=True, **kubectl(tmp_path, "exec cat /dev/zero\n"))
    assert isinstance(facts.kubernetes.cluster, Unread)
    assert facts.kubernetes.cluster.kind == "error"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_it_is_ended_it_ends_what_it_started(number: signal.Signals, tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nwait\n"
    process = subprocess.Popen(
        [sys.executable, str(PROBE), "--timeout", str(HANG)],
        env=environment(**kubectl(tmp_path, script)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + HANG
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=HANG)
    assert (process.returncode, output, errors) == (130, b"", b"")
    assert gone(int((tmp_path / "pid").read_text()))
