from __future__ import annotations

import tomllib

import pytest

from doubles.gramine_mutations import BASE, COUNT, mutated
from sgxkit.gramine.advice import advice
from sgxkit.gramine.check import check
from sgxkit.gramine.file_rules import rule_of, uri_of

# Nothing is to be said about this one.
GOOD = """\
libos.entrypoint = "/app/main"
loader.entrypoint.uri = "file:libsysdb.so"
loader.argv = ["main", "--verbose"]
loader.env.HOME = "/"
fs.root.type = "tmpfs"
fs.mounts = [
  { path = "/lib", uri = "file:/usr/lib/gramine/runtime/glibc" },
  { path = "/app", uri = "file:app" },
  { type = "encrypted", path = "/data", uri = "file:data", key_name = "_sgx_mrenclave" },
]
sgx.enclave_size = "256M"
sgx.max_threads = 8
sgx.remote_attestation = "dcap"
sgx.trusted_files = [ "file:/usr/lib/gramine/runtime/glibc/", "file:app/main" ]
"""


def said(text: str) -> list[tuple[str, str]]:
    manifest = tomllib.loads(text)
    assert not [finding for finding in check(manifest) if finding.is_error]
    return [(finding.code, finding.key) for finding in advice(manifest)]


def test_nothing_is_said_about_a_good_manifest() -> None:
    assert said(GOOD) == []


def without(key: str) -> str:
    return "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(key))


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        (GOOD + "sgx.debug = true", "debug", "sgx.debug"),
        (GOOD + 'loader.log_level = "trace"', "log-level", "loader.log_level"),
        (
            without("loader.argv") + "loader.insecure__use_cmdline_argv = true",
            "insecure-option",
            "loader.insecure__use_cmdline_argv",
        ),
        (GOOD + "loader.insecure__use_host_env = true", "insecure-option", "loader.insecure__use_host_env"),
        (GOOD + "sys.insecure__allow_eventfd = true", "insecure-option", "sys.insecure__allow_eventfd"),
        (GOOD + "sgx.insecure__rpc_thread_num = 1", "insecure-option", "sgx.insecure__rpc_thread_num"),
        (GOOD + 'fs.insecure__keys.default = "00"', "key-in-manifest", "fs.insecure__keys.default"),
        (GOOD + "loader.env.TERM = { passthrough = true }", "passthrough", "loader.env.TERM"),
        (GOOD + "loader.env.LD_PRELOAD = { passthrough = true }", "passthrough-of-code", "loader.env.LD_PRELOAD"),
        (GOOD + 'sgx.file_check_policy = "allow_all_but_log"', "allow-all", "sgx.file_check_policy"),
        (GOOD + 'sgx.allowed_files = ["file:app/server-key.pem"]', "allowed-file", "sgx.allowed_files[0]"),
        (GOOD + 'sys.debug__mock_syscalls = [{ name = "futex" }]', "mock-syscalls", "sys.debug__mock_syscalls"),
        (GOOD.replace('"file:app/main"', '"file:/usr/", "file:app/"'), "trusted-whole", "sgx.trusted_files[1]"),
        (
            GOOD.replace('"file:app/main"', '"file:app/", "file:/var/log/app"'),
            "trusted-changes",
            "sgx.trusted_files[2]",
        ),
        (GOOD.replace('"file:app/main"', '"file:app/", "file:app/x.db"'), "trusted-changes", "sgx.trusted_files[2]"),
        (without("sgx.max_threads"), "no-max-threads", "sgx.max_threads"),
        (without("sgx.enclave_size"), "no-enclave-size", "sgx.enclave_size"),
        (GOOD.replace("256M", "128G"), "large-enclave", "sgx.enclave_size"),
        (GOOD.replace('"file:app/main"', '"file:app/other"'), "entrypoint-not-trusted", "libos.entrypoint"),
        (without("fs.root"), "no-root", "fs.root"),
        (
            GOOD.replace("fs.mounts = [", 'fs.mounts = [ { path = "/x", uri = "file:/srv/x" },'),
            "mount-without-files",
            "fs.mounts[0]",
        ),
        (GOOD.replace("_sgx_mrenclave", "_sgx_mrsigner"), "key-of-signer", "fs.mounts[2].key_name"),
        (without("sgx.remote_attestation"), "no-attestation", "sgx.remote_attestation"),
        (
            GOOD + 'sgx.seal_key.flags_mask = "0xfffffffffffffffd"',
            "seal-key-of-debug",
            "sgx.seal_key.flags_mask",
        ),
    ],
)
def test_what_is_unsafe_or_will_not_last_is_said(text: str, code: str, key: str) -> None:
    assert said(text) == [(code, key)]


def test_an_allowed_file_is_called_what_it_looks_like() -> None:
    files = ["file:app/token", "file:plugin.so", "file:/", "file:notes"]
    manifest = tomllib.loads(GOOD + f"sgx.allowed_files = {files}")
    words = [str(finding.problem).split(",", maxsplit=1)[0] for finding in advice(manifest)]
    assert words[0] == "file:app/token looks like a secret"
    assert words[1] == "file:plugin.so looks like code"
    assert words[2] == "file:/ holds code and settings"
    assert words[3] == "the host reads file:notes and can change it at any time"


def test_paths_are_followed_through_mounts() -> None:
    manifest = tomllib.loads(GOOD)
    assert uri_of(manifest, "/app/main") == ("chroot", "file:app/main")
    assert uri_of(manifest, "/app/../lib/libc.so.6") == ("chroot", "file:/usr/lib/gramine/runtime/glibc/libc.so.6")
    assert uri_of({}, "/x") == ("chroot", "file:/x")
    assert [rule_of(manifest, path) for path in ("/app/main", "/app/x", "/data/x", "/elsewhere")] == [
        "trusted",
        "nothing",
        "encrypted",
        "inside",
    ]


@pytest.mark.parametrize("step", [25, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_manifest_of_any_shape_is_examined(step: int) -> None:
    for number in range(0, COUNT, step):
        try:
            manifest = tomllib.loads(mutated(number))
        except ValueError:
            continue
        for finding in advice(manifest):
            assert str(finding.sentence())
    assert list(advice(tomllib.loads(BASE)))
