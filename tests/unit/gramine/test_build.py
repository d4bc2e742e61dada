"""Manifests as Gramine's own tools (release 1.9) render, measure and sign them: facts/measurements.json.

`made` of a fact is for the PAL of doubles.gramine, `real` for a libpal.so built from Gramine's source, whose SHA-256
the fact names; no such file is in the repository.
"""

from __future__ import annotations

import contextlib
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from doubles.gramine import UNKNOWN_KEYS, VARIATIONS, make_application, manifest_text, pal
from doubles.gramine_mutations import COUNT, mutated
from sgxkit.enclave.measure import mrenclave
from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.gramine.build import Measured, Surroundings, complete, image_of_signed, measure
from sgxkit.gramine.finding import ManifestError
from sgxkit.gramine.installation import find_installation
from sgxkit.gramine.lock import lock, read_lock, write_lock
from sgxkit.gramine.sigstruct import parse_date
from sgxkit.messages import Message

FACTS = {
    fact["name"]: fact for fact in json.loads((Path(__file__).parent / "facts" / "measurements.json").read_text())
}
ALL = {**VARIATIONS, **UNKNOWN_KEYS}
LARGE = {"4G", "16G", "64G"}
DATE = parse_date("2026-01-31")
PAL = pal()


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_application(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(text: str, libpal: bytes = PAL, *, unknown_keys: bool = False) -> Measured:
    surroundings = Surroundings(Path("/usr/lib/x86_64-linux-gnu/gramine/libsysdb.so"))
    manifest, files, _ = complete(text, "app.manifest", surroundings, unknown_keys=unknown_keys)
    return measure(manifest, files, libpal, date=DATE)


def compare(measured: Measured, fact: dict[str, Any], pal_of: str) -> None:
    assert len(measured.text) == fact["manifest_sgx"]["size"]
    assert sha256(measured.text).hexdigest() == fact["manifest_sgx"]["sha256"]
    assert measured.sigstruct.enclavehash.hex() == fact[pal_of]["mrenclave"]
    assert measured.sigstruct.to_bytes()[900:960].hex() == fact["attributes"]
    assert sha256(measured.sigstruct.signed_bytes).hexdigest() == fact[pal_of]["signed_bytes"]


def test_every_variation_has_its_fact() -> None:
    assert FACTS.keys() == ALL.keys()
    assert {fact["made"]["libpal"] for fact in FACTS.values()} == {sha256(PAL).hexdigest()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.exhaustive) if name in LARGE else name for name in ALL],
)
def test_measured_and_signed_as_gramine_does(name: str, application: Path) -> None:
    compare(build(manifest_text(ALL[name]), unknown_keys=name in UNKNOWN_KEYS), FACTS[name], "made")


@pytest.mark.parametrize("name", [name for name in ALL if name not in LARGE])
def test_the_same_with_the_pal_of_an_installed_gramine(name: str, application: Path) -> None:
    installed = find_installation()
    if installed is None or not installed.libpal.is_file():
        pytest.skip("Gramine is not installed here")
    libpal = installed.libpal.read_bytes()
    if sha256(libpal).hexdigest() != FACTS[name]["real"]["libpal"]:
        pytest.skip("the installed libpal.so is another build than the one that was measured")
    compare(build(manifest_text(ALL[name]), libpal, unknown_keys=name in UNKNOWN_KEYS), FACTS[name], "real")


@pytest.mark.parametrize("name", sorted(UNKNOWN_KEYS))
def test_keys_that_there_are_not_are_refused_where_nobody_lets_them_pass(name: str, application: Path) -> None:
    with pytest.raises(ManifestError, match=r"app\.manifest:6: sgx\.(nonpie_binary|isvextprodid|kss)"):
        build(manifest_text(UNKNOWN_KEYS[name]))


def test_what_was_signed_is_laid_out_again(application: Path) -> None:
    measured = build(manifest_text("sgx.max_threads = 2"))
    manifest, image = image_of_signed(measured.text, "app.manifest.sgx", PAL)
    assert manifest == measured.manifest
    assert image == measured.image
    assert [run.name for run in image.runs] == [
        *("manifest", "ssa", "tcs", "tls", "stack", "stack", "sig_stack", "sig_stack"),
        *("pal data", "pal code", "pal data", "free"),
    ]


# Gramine's signers of 1.5, 1.6, 1.7 and 1.8 gave this MRENCLAVE, with the PAL of doubles.gramine.
OLDER = """\
libos.entrypoint = "/app"
loader.entrypoint = "file:/etc/hostname"
fs.mounts = []
sgx.enclave_size = "128M"
sgx.max_threads = 7
sgx.isvprodid = 0
sgx.isvsvn = 0
sgx.remote_attestation = "epid"
sgx.ra_client_spid = "00"
sgx.require_avx = true
sgx.require_exinfo = false
sgx.debug = true
sgx.edmm_enable = false
sgx.trusted_files = [ { uri = "file:/etc/hostname", sha256 = "00" } ]
"""
OLDER_MRENCLAVE = "7eea7fd01906594d85b11cd224bbd08b1c8969086ea4f620123ad3fe9829516f"


def test_what_older_releases_signed_is_laid_out() -> None:
    manifest, image = image_of_signed(OLDER.encode(), "app.manifest.sgx", PAL)
    assert manifest["loader"]["entrypoint"] == "file:/etc/hostname"
    assert mrenclave(image).hex() == OLDER_MRENCLAVE


@pytest.mark.parametrize("step", [200, pytest.param(10, marks=pytest.mark.exhaustive)])
def test_a_signed_manifest_of_any_shape_is_locked_or_refused(step: int) -> None:
    for number in range(0, COUNT, step):
        with contextlib.suppress(SgxkitError):
            text = mutated(number).replace('"512M"', '"64M"')
            assert read_lock(write_lock(lock(text.encode(), "app.manifest.sgx", PAL)).encode())


def test_an_enclave_that_is_too_small_says_what_would_do(application: Path) -> None:
    with pytest.raises(InputError, match="too small: 4 threads") as caught:
        build(manifest_text('sgx.enclave_size = "1M"'))
    assert 'sgx.enclave_size = "2M"' in str(caught.value.hint)
    build(manifest_text('sgx.enclave_size = "2M"'))


def moved(data: bytes, by: int) -> bytes:
    """The PAL linked to another address."""
    changed = bytearray(data)
    for at in (64 + segment * 56 + 16 for segment in range(3)):
        changed[at : at + 8] = (int.from_bytes(changed[at : at + 8], "little") + by).to_bytes(8, "little")
    return bytes(changed)


def patched(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


SECOND_SEGMENT = 64 + 56


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (patched(PAL, 56, b"\0\0"), "nothing to load"),
        (moved(PAL, 0x1000), "linked to 0x1000"),
        (patched(PAL, SECOND_SEGMENT + 8, b"\1"), "not congruent"),
        (patched(PAL, 64 + 40, b"\x01\x10"), "share a page"),
        (PAL[:1000], "not in the file"),
        (b"#!/bin/sh\n" * 10, "e_ident"),
    ],
)
def test_a_pal_that_gramine_could_not_load_is_refused(broken: bytes, problem: str, application: Path) -> None:
    with pytest.raises(FormatError, match=problem):
        build(manifest_text(""), broken)


def test_a_trusted_file_that_changed_since_it_was_hashed_is_an_error(application: Path) -> None:
    rendered = build(manifest_text("")).text.decode()
    surroundings = Surroundings(Path("/nowhere"))
    complete(rendered, "app.manifest", surroundings, verify=True)
    (application / "app/main").write_bytes(b"another")
    complete(rendered, "app.manifest", surroundings)
    with pytest.raises(InputError, match="app/link has changed"):
        complete(rendered, "app.manifest", surroundings, verify=True)


def test_what_is_left_out_of_a_directory_is_told(application: Path) -> None:
    notes: list[Message] = []
    surroundings = Surroundings(Path("/nowhere"), note=notes.append)
    _, files, _ = complete(manifest_text(""), "app.manifest", surroundings)
    assert [str(note).partition(" is left out")[0] for note in notes] == ["app/lib-link", "app/nowhere"]
    assert [file.uri for file in files] == [
        "file:app/.hidden",
        "file:app/Upper",
        "file:app/lib/a.so",
        "file:app/lib/b.so",
        "file:app/lib-data/x",
        "file:app/link",
        "file:app/main",
        "file:app/z \u00e9",
        "file:elsewhere",
    ]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ('"file:app"', "is a directory"),
        ('"file:app/main/"', "is no directory"),
        ('{ uri = "file:app/", sha256 = "' + "0" * 64 + '" }', "is a directory and has a sha256"),
        ('"file:missing"', "missing cannot be read"),
        ('"dev:tty"', "does not begin with file:"),
        (
            '{ uri = "file:a", sha256 = "' + "0" * 64 + '" }, { uri = "file:a", sha256 = "' + "1" * 64 + '" }',
            "two hashes",
        ),
    ],
)
def test_entries_that_name_no_files(entries: str, problem: str, application: Path) -> None:
    text = manifest_text("").partition("sgx.trusted_files")[0] + f"sgx.trusted_files = [{entries}]\n"
    with pytest.raises((InputError, ManifestError), match=problem):
        build(text)
