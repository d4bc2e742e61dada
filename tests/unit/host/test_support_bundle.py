"""Support bundles: nothing secret in them, the same bytes again, no link followed; of use to diagnose and doctor."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.hosts import HOSTS, healthy
from sgxkit.errors import FormatError, InputError
from sgxkit.host.catalogue.shelf import shipped_entries
from sgxkit.host.collect import load_facts
from sgxkit.host.diagnose import diagnose_logs
from sgxkit.host.facts import NamedValue
from sgxkit.host.log_source import CommandLog, TextLog
from sgxkit.host.support_bundle import (
    MAX_BUNDLE,
    MAX_FILE,
    MAX_LOG,
    Bundle,
    bundle_in,
    facts_of,
    included_files,
    is_bundle,
    logs_of,
    make_bundle,
    manifest,
    own_files,
    pack,
    read_bundle,
    write_bundle,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/support-bundle.schema.json").read_text())
SECRETS = {
    "API": "0123456789abcdef0123456789abcdef",
    "USER": "user-token-hash-of-many-digits",
    "ADMIN": "Adm1n.token/with+signs",
    "PROXY": "pr0xy-p4ss",
    "KEY": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "JOURNAL": "journal-passw0rd",
    "ENV": "environment-s3cret",
    "MANIFEST": "8b1a9953c4611296a827abf8c47804d7",
}
PCCS = f"""{{
    "HTTPS_PORT" : 8081,
    "uri": "https://api.trustedservices.intel.com/sgx/certification/v4/",
    "ApiKey" : "{SECRETS["API"]}",
    "proxy" : "http://operator:{SECRETS["PROXY"]}@proxy.example.org:3128",
    "UserTokenHash" : "{SECRETS["USER"]}",
    "AdminTokenHash" : "{SECRETS["ADMIN"]}",
    "CachingFillMode" : "LAZY"
}}
"""
FILES = {
    "etc/aesmd.conf": f"proxy type = manual\naesm proxy = http://u:{SECRETS['PROXY']}@proxy:3128\n",
    "etc/mpa_registration.conf": f"subscription key = {SECRETS['API']}\nlog level = info\n",
    "etc/sgx_default_qcnl.conf": '{\n  "pccs_url": "https://localhost:8081/sgx/certification/v4/"\n}\n',
    "opt/intel/sgx-dcap-pccs/config/default.json": PCCS,
    "opt/intel/sgx-dcap-pccs/logs/pccs_server.log": f"token: {SECRETS['ADMIN']}\nPCCS is up\n",
    "var/log/mpa_registration.log": "[1] INFO: SGX Registration Agent version: 1.20.100.2\n",
}
JOURNAL = TextLog(
    "journal",
    f"aesm_service[1]: Failed to load QE3: 0x4004\napp: password={SECRETS['JOURNAL']}\n"
    f"-----BEGIN PRIVATE KEY-----\n{SECRETS['KEY']}\n-----END PRIVATE KEY-----\n".encode(),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path.resolve() / "root"
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def bundle_of(root: Path, *extra: Path) -> Bundle:
    facts = healthy()
    environment = (NamedValue("PCCS_ADMIN_TOKEN", SECRETS["ENV"]), NamedValue("SGX_AESM_ADDR", "1"))
    facts = replace(facts, quote_provider=replace(facts.quote_provider, environment=environment))
    files = (*own_files(root), *included_files(extra))
    return make_bundle(facts, [JOURNAL, TextLog("dmesg", b"sgx: EPC section 0x1-0x2\n")], files, version="test")


def test_no_planted_secret_is_in_a_bundle(root: Path, tmp_path: Path) -> None:
    gramine = tmp_path / "app.manifest"
    gramine.write_text(f'fs.insecure__keys.default = "{SECRETS["MANIFEST"]}"\nsgx.debug = false\n')
    packed = pack(bundle_of(root, gramine))
    for name, secret in SECRETS.items():
        assert secret.encode() not in packed, name
    for wanted in (
        b"Failed to load QE3: 0x4004",
        b'"CachingFillMode" : "LAZY"',
        b"sgx.debug = false",
        b"SGX_AESM_ADDR",
    ):
        assert wanted in packed


def test_the_manifest_says_what_is_in_it(root: Path) -> None:
    bundle = bundle_of(root)
    content = json.loads(bundle.member("bundle.json") or b"")
    jsonschema.validate(content, SCHEMA)
    assert content == manifest(bundle, version="test")
    removed = {member["name"]: member["secrets_removed"] for member in content["members"]}
    assert removed["config/opt/intel/sgx-dcap-pccs/config/default.json"] == 4
    assert removed["config/etc/sgx_default_qcnl.conf"] == 0
    assert removed["logs/journal.txt"] == 2
    sources = {member["name"]: member["source"] for member in content["members"]}
    assert sources["config/etc/aesmd.conf"] == str(root / "etc/aesmd.conf")
    assert {entry["source"]: entry["reason"] for entry in content["left_out"]} == {
        str(root / "etc/qgs.conf"): "is not there",
        str(root / "etc/tdx-attest.conf"): "is not there",
    }


def test_the_same_content_gives_the_same_bytes(root: Path) -> None:
    first = pack(bundle_of(root))
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    assert pack(bundle_of(root)) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        headers = archive.getmembers()
    assert [header.name for header in headers] == sorted(header.name for header in headers)
    assert {(h.mode, h.uid, h.gid, h.mtime, h.uname, h.gname) for h in headers} == {(0o600, 0, 0, 0, "", "")}


def test_a_bundle_is_written_for_its_owner_alone(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar"
    target.write_text("older")
    target.chmod(0o644)
    write_bundle(bundle_of(root), target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert is_bundle(target.read_bytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.tar", "root"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nowhere"])
def test_a_bundle_replaces_files_only(root: Path, tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "bundle.tar", tmp_path / "other"
    other.write_text("mine")
    if kind == "link":
        target.symlink_to(other)
    elif kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    else:
        target = tmp_path / "none" / "bundle.tar"
    with pytest.raises(InputError):
        write_bundle(bundle_of(root), target)
    assert other.read_text() == "mine"
    assert not list(tmp_path.glob(".bundle*"))


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:$6$hash")
    (root / "etc/aesmd.conf").unlink()
    (root / "etc/aesmd.conf").symlink_to(shadow)
    folder = root / "opt/intel/sgx-dcap-pccs/config"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/default.json").write_text("root:$6$hash")
    (folder / "default.json").unlink()
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")
    bundle = bundle_of(root)
    assert b"$6$hash" not in pack(bundle)
    reasons = {entry.source: str(entry.reason) for entry in bundle.left_out}
    for name in ("etc/aesmd.conf", "opt/intel/sgx-dcap-pccs/config/default.json"):
        assert "symbolic link" in reasons[str(root / name)]


def test_what_is_no_text_or_no_file_is_left_out(root: Path, tmp_path: Path) -> None:
    (root / "etc/qgs.conf").write_bytes(b"\x7fELF\0\0")
    os.mkfifo(root / "etc/tdx-attest.conf")
    reasons = {Path(entry.source).name: str(entry.reason) for entry in bundle_of(root).left_out}
    assert reasons == {"qgs.conf": "is no text", "tdx-attest.conf": "is no regular file"}


def test_sizes_are_bounded(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgxkit.host.support_bundle.MAX_BUNDLE", 5 << 20)
    line = b"x" * 79 + b"\n"
    (root / "etc/aesmd.conf").write_bytes(line * (MAX_FILE // 40))
    (root / "var/log/mpa_registration.log").write_bytes(line * (MAX_LOG // 40) + b"the last line\n")
    huge = tmp_path / "huge.log"
    huge.write_bytes(line * 20_000)
    long_log = CommandLog("dmesg", ("sh", "-c", "seq 1 600000"))
    bundle = make_bundle(healthy(), [long_log], (*own_files(root), *included_files([huge] * 3)), version="test")
    members = {member.name: member for member in bundle.members}
    assert members["config/etc/aesmd.conf"].truncated
    assert len(members["config/etc/aesmd.conf"].data) == MAX_FILE
    registration = members["logs/var/log/mpa_registration.log"]
    assert registration.truncated
    assert len(registration.data) <= MAX_LOG
    assert registration.data.startswith(b"xxx")
    assert registration.data.endswith(b"the last line\n")
    assert members["logs/dmesg.txt"].data.endswith(b"\n600000\n")
    assert members["logs/dmesg.txt"].truncated
    assert any("too large" in str(entry.reason) for entry in bundle.left_out)
    assert len(pack(bundle)) <= 5 << 20


def test_a_log_that_cannot_be_read_is_named() -> None:
    bundle = make_bundle(healthy(), [CommandLog("journal", ("sgxkit-no-such-program",))], (), version="test")
    assert [entry.source for entry in bundle.left_out] == ["journal"]


def test_a_bundle_is_diagnosed_and_judged(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    write_bundle(bundle_of(root), path)
    bundle = bundle_in(path)
    assert bundle is not None
    assert facts_of(bundle) == load_facts(path)
    logs = logs_of(bundle, "b.tar")
    assert {log.name for log in logs} >= {"b.tar:logs/journal.txt", "b.tar:logs/dmesg.txt"}
    diagnosis = diagnose_logs(shipped_entries(), logs, facts_of(bundle))
    (known,) = diagnosis.explanations
    assert known.entry.id == "aesm.qe3-no-privilege"
    assert known.finding.lines[0].source == "b.tar:logs/journal.txt"


def test_the_kernels_lines_of_the_facts_stand_in_for_a_log_that_is_missing() -> None:
    bundle = make_bundle(HOSTS["bios-off"](), (), (), version="test")
    (log,) = logs_of(read_bundle(pack(bundle)), "b.tar")
    assert log.name == "b.tar:kernel.log"


def test_included_files_have_safe_names(tmp_path: Path) -> None:
    names = [name for name, _ in included_files([tmp_path / "a b;$(x).log", tmp_path / "日志", tmp_path / "-rf"])]
    assert names == ["included/01-a_b___x_.log", "included/02-__", "included/03-rf"]


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_the_facts_of_any_host_survive(name: str) -> None:
    facts = HOSTS[name]()
    assert facts_of(read_bundle(pack(make_bundle(facts, (), (), version="test")))) == facts


def test_another_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs.tar").write_bytes(archive(x=b"y"))
    with pytest.raises(FormatError, match=r"logs\.tar: is no support bundle") as caught:
        bundle_in(tmp_path / "logs.tar")
    assert "Unpack" in str(caught.value.hint)


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name.replace("__", "/"))
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def linked() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("logs/x")
        header.type, header.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1024,
        archive(x=b"y"),
        archive(**{"bundle.json": b"{}", "facts.json": b"{}"}),
        archive(**{"bundle.json": b'{"schema": 2}', "facts.json": b"{}"}),
        archive(**{"bundle.json": b"[" * 100_000, "facts.json": b"{}"}),
        archive(**{"..__etc__shadow": b"x"}),
        archive(__etc__shadow=b"x"),
        linked(),
        b"x" * (MAX_BUNDLE + 1),
    ],
)
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        read_bundle(data)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_bundle_is_read_or_refused(data: st.DataObject) -> None:
    packed = bytearray(PACKED)
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, 4096))] = data.draw(st.integers(0, 255))
    try:
        read_bundle(bytes(packed[: data.draw(st.integers(0, len(packed)))]))
    except FormatError:
        return


PACKED = pack(make_bundle(healthy(), [JOURNAL], (), version="test"))
