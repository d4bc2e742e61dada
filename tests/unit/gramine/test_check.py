from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.gramine_mutations import BASE, COUNT, mutated
from sgxkit.gramine.check import check_text
from sgxkit.gramine.finding import Finding, RefusedBy, Severity
from sgxkit.gramine.schema import DEFAULTS, MANIFEST
from sgxkit.gramine.shape import Shape, Table
from sgxkit.gramine.toml_lines import key_lines

# One bit a mutation, lowest first: whether gramine-manifest-check of release 1.9 accepted it.
_ACCEPTED = int.from_bytes(
    bytes.fromhex("".join((Path(__file__).parent / "facts" / "accepted.hex").read_text().split())), "little"
)
SAMPLE = range(0, COUNT, 25)

MINIMAL = """\
libos.entrypoint = "/app"
loader.entrypoint.uri = "file:libsysdb.so"
fs.mounts = []
"""


def found(text: str) -> list[Finding]:
    return check_text(text, "app.manifest")


def errors(text: str) -> list[str]:
    return [f"{finding.line}: {finding.key} {finding.code}" for finding in found(text) if finding.is_error]


def same_verdict_or_a_clear_error(number: int) -> None:
    text = mutated(number)
    findings = found(text)
    accepted = bool(_ACCEPTED >> number & 1)
    refused = [finding for finding in findings if finding.is_error and finding.refused_by is RefusedBy.SCHEMA]
    assert bool(refused) <= (not accepted), f"{number}: Gramine's checker accepts it: {refused}"
    if not accepted:
        assert any(finding.is_error for finding in findings), f"{number}: Gramine's checker refuses it"
    for finding in findings:
        assert str(finding.sentence())
        if finding.code == "toml":
            assert finding.line is not None, f"{number}: {finding}"
        elif finding.code != "missing":
            assert finding.key
            assert finding.line is not None, f"{number}: {finding}"
            assert finding.line <= text.count("\n") + 1


@pytest.mark.parametrize("number", SAMPLE)
def test_mutated_manifests(number: int) -> None:
    same_verdict_or_a_clear_error(number)


@pytest.mark.exhaustive
def test_all_mutated_manifests() -> None:
    for number in range(COUNT):
        same_verdict_or_a_clear_error(number)


def test_a_manifest_with_every_key_is_accepted() -> None:
    assert errors(BASE) == []
    manifest = tomllib.loads(BASE)

    def keys(shape: Shape, value: object, path: str) -> None:
        if isinstance(shape, Table) and isinstance(value, dict):
            for key, inner in shape.keys.items():
                if path + key not in {"loader.argv_src_file", "loader.env_src_file"}:  # not possible with others
                    assert key in value, f"{path}{key} is not in the manifest that has every key"
                    keys(inner, value[key], f"{path}{key}.")

    keys(MANIFEST, manifest, "")


TOKENS = [*"[]{}=.,\"'#\n\\ abs01_-:", "sgx", "fs", "mounts", '"""', "'''", "\u00e9", "1979-05-27", "[[", "]]"]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(TOKENS)).map("".join))
def test_any_text_is_checked(text: str) -> None:
    found(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('sgx.enclave_size = "300M"', "sgx.enclave_size size-no-power-of-two"),
        ('sgx.enclave_size = "0x100M"', "sgx.enclave_size size-unclear"),
        ('sgx.enclave_size = "256m"', "sgx.enclave_size size-unclear"),
        ('sgx.enclave_size = "1_0M"', "sgx.enclave_size size-unclear"),
        ('sgx.enclave_size = "0"', "sgx.enclave_size size-no-power-of-two"),
        ('sgx.enclave_size = "2048G"', "sgx.enclave_size size-too-large"),
        ("sgx.max_threads = 0", "sgx.max_threads range"),
        ("sgx.max_threads = 4097", "sgx.max_threads range"),
        ("sgx.max_threads = true", "sgx.max_threads type"),
        ("sgx.max_threads = 2000\nsgx.insecure__rpc_thread_num = 1", "sgx.max_threads too-many-threads"),
        ("sgx.isvprodid = 65536", "sgx.isvprodid range"),
        ("sgx.isvsvn = -1", "sgx.isvsvn range"),
        ("sgx.debug = 1", "sgx.debug type"),
        ('sgx.debug = "true"', "sgx.debug type"),
        ('sgx.cpu_features = { avx = "required", avx512 = "disabled" }', "sgx.cpu_features.avx512 avx-lost"),
        ('sgx.cpu_features = { avx = "disabled", avx512 = "required" }', "sgx.cpu_features.avx512 avx-required"),
        ('sgx.cpu_features.mpx = "unspecified"', "sgx.cpu_features.mpx type"),
        ('sgx.seal_key.flags_mask = "0xff"', "sgx.seal_key.flags_mask mask"),
        ('sgx.trusted_files = [{ uri = "file:x", sha256 = "beef" }]', "sgx.trusted_files[0].sha256 sha256"),
        ('sgx.trusted_files = ["app"]', "sgx.trusted_files[0] uri"),
        ("sgx.trusted_files = [{}]", "sgx.trusted_files[0].uri missing"),
        ('sgx.trusted_files.app = "file:app"', "sgx.trusted_files type"),
        ('sgx.allowed_files = ["foo"]', "sgx.allowed_files[0] uri"),
        ("sgx.edmm_enable = true\nsgx.preheat_enclave = true", "sgx.preheat_enclave preheat-with-edmm"),
        ('sgx.remote_attestation = "epid"', "sgx.remote_attestation type"),
        ("sgx.thread_num = 4", "sgx.thread_num removed-key"),
        ("sgx.require_avx = true", "sgx.require_avx removed-key"),
        ("sgx.kss = true", "sgx.kss unknown-key"),
        ('loader.log_level = "info"', "loader.log_level type"),
        (
            'loader.argv = ["x"]\nloader.insecure__use_cmdline_argv = true',
            "loader.insecure__use_cmdline_argv arguments",
        ),
        ("loader.argv = []", "loader.argv arguments"),
        ("loader.env.X = { passthrough = false }", "loader.env.X.passthrough environment"),
        ('loader.env.X = { passthrough = true, value = "x" }', "loader.env.X environment"),
        ("loader.uid = -1", "loader.uid range"),
        ('sys.brk.max_size = "1"', "sys.brk.max_size size-no-pages"),
        ('sys.stack.size = "1T"', "sys.stack.size size-unclear"),
        ('fs.root = { type = "nfs", uri = "file:/" }', "fs.root.type type"),
        ('other.key = "x"', "other unknown-key"),
    ],
)
def test_each_error_names_its_key_and_line(line: str, expected: str) -> None:
    said = errors(MINIMAL + line)
    assert len(said) == 1
    number, _, finding = said[0].partition(": ")
    assert finding == expected
    assert int(number) in {4, 5}


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('sgx.cpu_features = { avx512 = "disabled" }', "sgx.cpu_features.avx512"),
        ("sgx.enable_stats = true", "sgx.enable_stats"),
        ('fs.root = { uri = "file:/proc" }', "fs.root.uri"),
    ],
)
def test_what_is_possible_and_hardly_meant_is_a_warning(line: str, key: str) -> None:
    (finding,) = found(MINIMAL + line)
    assert (finding.severity, finding.key, finding.line) == (Severity.WARNING, key, 4)


def test_a_removed_key_says_what_to_write_instead() -> None:
    (finding,) = found(MINIMAL + "sgx.protected_files = []")
    assert str(finding.fix) == 'write a mount with type = "encrypted" in fs.mounts; sgx.protected_files went with 1.5'
    (finding,) = found(MINIMAL.replace("loader.entrypoint.uri", "loader.entrypoint"))
    assert str(finding.fix) == "write loader.entrypoint.uri; a string is the form before 1.8"


def test_what_is_missing_is_named() -> None:
    assert {finding.key for finding in found("")} == {"fs", "libos", "loader"}
    assert errors('fs.mounts = [{ path = "/x" }]\nlibos = {}\nloader.entrypoint = {}') == [
        "1: fs.mounts[0].uri missing",
        "2: libos.entrypoint missing",
        "3: loader.entrypoint.uri missing",
    ]


def test_defaults_are_those_of_keys_that_there_are() -> None:
    for key in DEFAULTS:
        shape: Shape = MANIFEST
        for part in key.split("."):
            shape = shape.keys[part] if isinstance(shape, Table) else shape.tables["chroot"].keys[part]  # type: ignore[union-attr]


LINES = '''\
a.b = 1
[c]
"d e" = { f = [1,
  { g = """x
y"""} ], h = 2 }  # comment
[[i.j]]
k = [
  # comment
  'x', "]",
]
[i.j.l]
m = 07:32:00
[[i.j]]
'''


def test_lines_of_keys() -> None:
    lines = key_lines(LINES)
    assert lines == {
        ("a",): 1,
        ("a", "b"): 1,
        ("c",): 2,
        ("c", "d e"): 3,
        ("c", "d e", "f"): 3,
        ("c", "d e", "f", 0): 3,
        ("c", "d e", "f", 1): 4,
        ("c", "d e", "f", 1, "g"): 4,
        ("c", "d e", "h"): 5,
        ("i",): 6,
        ("i", "j"): 6,
        ("i", "j", 0): 6,
        ("i", "j", 0, "k"): 7,
        ("i", "j", 0, "k", 0): 9,
        ("i", "j", 0, "k", 1): 9,
        ("i", "j", 0, "l"): 11,
        ("i", "j", 0, "l", "m"): 12,
        ("i", "j", 1): 13,
    }


def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every key and element of a parsed document."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return {(*path, key) for key, _ in items} | {inner for key, item in items for inner in paths(item, (*path, key))}


@pytest.mark.parametrize("number", SAMPLE)
def test_every_key_of_a_document_has_a_line(number: int) -> None:
    text = mutated(number)
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    assert key_lines(text).keys() == paths(document)
