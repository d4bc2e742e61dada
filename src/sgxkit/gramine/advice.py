"""What a manifest that runs does unsafely, or will not do for long: what `sgxkit gramine doctor` says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sgxkit.gramine.file_rules import allowed_uris, anything_below, rule_of, trusted_uris
from sgxkit.gramine.finding import Finding, warning
from sgxkit.gramine.rules import Manifest, at, tables
from sgxkit.gramine.sizes import size_for_both
from sgxkit.gramine.toml_lines import Path
from sgxkit.messages import Message, msg

_SECRET = re.compile(
    r"(^|[/._-])(secrets?|passwords?|passwd|shadow|tokens?|credentials?|private|id_rsa|id_ed25519|keys?)([/._-]|$)"
    r"|\.(pem|key|p12|pfx|jks|kdbx)$",
    re.IGNORECASE,
)
_CODE = re.compile(r"\.(so(\.[0-9.]+)?|py|pyc|jar|class|js|mjs|node|sh|pl|rb|lua)$|/s?bin/")
_CHANGES = re.compile(
    r"^/(tmp|run|proc|sys|dev|var/(log|run|tmp|cache|spool|lib/(apt|dpkg|dhcp)))(/|$)|/\.cache(/|$)|/__pycache__(/|$)"
    r"|\.(log|pid|sock|lock|tmp|swp)$|^/etc/(resolv\.conf|hosts|hostname|mtab|adjtime)$"
)
_DATABASE = re.compile(r"\.(db|sqlite3?|rdb|aof|wal)$")
_WHOLE_SYSTEM = frozenset({"", "/", "/usr", "/etc", "/home", "/root", "/var", "/opt", "/lib", "/usr/lib"})
_STEERING = re.compile(r"^(LD_.*|PYTHON.*|PATH|PERL5?.*|RUBY.*|NODE_.*|_?JAVA_.*|JDK_.*|GCONV_PATH|BASH_ENV)$")
_DEBUG_ATTRIBUTE = 1 << 1

_INSECURE: dict[Path, Message] = {
    ("loader", "insecure__use_cmdline_argv"): msg("the host chooses the arguments, and with them what is done"),
    ("loader", "insecure__use_host_env"): msg("the host chooses the environment, LD_PRELOAD and all"),
    ("loader", "insecure__disable_aslr"): msg("without ASLR faults of the program are easier to use"),
    ("sys", "insecure__allow_eventfd"): msg("the host sees and can forge events between threads and processes"),
    ("sys", "experimental__enable_flock"): msg("the host decides who has a lock"),
    ("sys", "enable_sigterm_injection"): msg("the host may send SIGTERM at any moment"),
    ("sgx", "insecure__allow_memfaults_without_exinfo"): msg(
        "the address of a fault comes from the host; sgx.use_exinfo has the processor tell it"
    ),
}


def advice(manifest: Manifest) -> Iterator[Finding]:
    """Go through what is unsafe or will not last in a manifest that has been checked."""
    for rule in _RULES:
        yield from rule(manifest)


def _production(manifest: Manifest) -> Iterator[Finding]:
    if at(manifest, "sgx", "debug") is True:
        yield warning(
            "debug",
            ("sgx", "debug"),
            msg("a debug enclave keeps no secret: the host can read its memory"),
            msg("leave it out for production; verifiers refuse debug enclaves"),
        )
    if at(manifest, "loader", "log_level") in ("debug", "trace", "all"):
        yield warning(
            "log-level",
            ("loader", "log_level"),
            msg("the log tells the host what the program does"),
            msg('write "error"'),
        )
    if at(manifest, "sys", "debug__mock_syscalls"):
        yield warning(
            "mock-syscalls",
            ("sys", "debug__mock_syscalls"),
            msg("system calls that are not made can break what rests on them"),
            None,
        )


def _insecure_options(manifest: Manifest) -> Iterator[Finding]:
    for path, problem in _INSECURE.items():
        if at(manifest, *map(str, path)) is True:
            yield warning("insecure-option", path, problem, _instead(path))
    threads = at(manifest, "sgx", "insecure__rpc_thread_num")
    if isinstance(threads, int) and threads > 0:
        yield warning(
            "insecure-option",
            ("sgx", "insecure__rpc_thread_num"),
            msg("exitless calls share memory with the host for longer than others"),
            None,
        )
    for name in _named(at(manifest, "fs", "insecure__keys")):
        yield warning(
            "key-in-manifest",
            ("fs", "insecure__keys", name),
            msg("the key is in the manifest, which everybody can read"),
            msg('provision it after attestation, or use key_name = "_sgx_mrenclave"'),
        )


def _instead(path: Path) -> Message | None:
    if path[-1] == "insecure__use_cmdline_argv":
        return msg("write loader.argv")
    if path[-1] == "insecure__use_host_env":
        return msg("write each variable that is needed: loader.env.NAME")
    return None


def _environment(manifest: Manifest) -> Iterator[Finding]:
    for name, value in _named(at(manifest, "loader", "env")).items():
        if not isinstance(value, dict) or not value.get("passthrough"):
            continue
        path: Path = ("loader", "env", name)
        if _STEERING.match(name):
            yield warning(
                "passthrough-of-code",
                path,
                msg("through this variable the host chooses what code is run"),
                msg("write its value"),
            )
        else:
            yield warning(
                "passthrough",
                path,
                msg("the host chooses the value"),
                msg("write its value, or check it in the program"),
            )


def _allowed_files(manifest: Manifest) -> Iterator[Finding]:
    if at(manifest, "sgx", "file_check_policy") == "allow_all_but_log":
        yield warning(
            "allow-all",
            ("sgx", "file_check_policy"),
            msg("every file of the host may be opened, unverified"),
            msg('write "strict", and list what the log names'),
        )
    for index, uri in enumerate(allowed_uris(manifest)):
        path: Path = ("sgx", "allowed_files", index)
        file = uri.partition(":")[2]
        if _SECRET.search(file):
            problem = msg("{uri} looks like a secret, and the host reads and writes it", uri=uri)
            fix = msg('put it on a mount with type = "encrypted"')
        elif _CODE.search(file):
            problem = msg("{uri} looks like code, and the host can replace it", uri=uri)
            fix = msg("list it in sgx.trusted_files")
        elif file.rstrip("/") in _WHOLE_SYSTEM:
            problem = msg("{uri} holds code and settings, and the host can replace them", uri=uri)
            fix = msg("name the files that are written")
        else:
            problem = msg("the host reads {uri} and can change it at any time", uri=uri)
            fix = msg("trust it if it never changes, encrypt it if it is the program's own")
        yield warning("allowed-file", path, problem, fix)


def _trusted_files(manifest: Manifest) -> Iterator[Finding]:
    for index, uri in enumerate(trusted_uris(manifest)):
        path: Path = ("sgx", "trusted_files", index)
        file = uri.partition(":")[2]
        if file.rstrip("/") in _WHOLE_SYSTEM:
            yield warning(
                "trusted-whole",
                path,
                msg("{uri} is much of the system: each update of it is another MRENCLAVE", uri=uri),
                msg("name what the program needs: sgxkit gramine new --from-command finds it"),
            )
        elif _CHANGES.search(file.rstrip("/")):
            yield warning(
                "trusted-changes",
                path,
                msg("{uri} changes by itself, and then the program cannot open it", uri=uri),
                msg("leave it out; Gramine makes /etc/resolv.conf and /etc/hostname where they are asked for")
                if file.startswith("/etc/")
                else msg("leave it out, or put it on a tmpfs or an encrypted mount"),
            )
        elif _DATABASE.search(file):
            yield warning(
                "trusted-changes",
                path,
                msg("{uri} looks like a database; a trusted file cannot be written", uri=uri),
                msg('put it on a mount with type = "encrypted"'),
            )


def _sizes(manifest: Manifest) -> Iterator[Finding]:
    threads = at(manifest, "sgx", "max_threads")
    if threads is None:
        yield warning(
            "no-max-threads",
            ("sgx", "max_threads"),
            msg("is not written, and the default of 4 is little"),
            msg("write the program's threads and four for Gramine's own"),
        )
    size = at(manifest, "sgx", "enclave_size")
    if size is None and at(manifest, "sgx", "edmm_enable") is not True:
        yield warning(
            "no-enclave-size",
            ("sgx", "enclave_size"),
            msg("is not written, and the default is 256M"),
            msg("write what the program needs, rounded up to a power of two"),
        )
    elif isinstance(size, str) and (size_for_both(size) or 0) > 1 << 36 and not at(manifest, "sgx", "edmm_enable"):
        yield warning(
            "large-enclave",
            ("sgx", "enclave_size"),
            msg("all {size} are added before the program starts, and swapped out of small EPCs", size=size),
            msg("set sgx.edmm_enable where the processor has SGX2"),
        )


def _files(manifest: Manifest) -> Iterator[Finding]:
    entrypoint = at(manifest, "libos", "entrypoint")
    if isinstance(entrypoint, str) and entrypoint.startswith("/"):
        rule = rule_of(manifest, entrypoint)
        if rule == "nothing":
            yield warning(
                "entrypoint-not-trusted",
                ("libos", "entrypoint"),
                msg("{path} is in no trusted file: the program cannot start", path=entrypoint),
                msg("list its file in sgx.trusted_files, and mount it"),
            )
        elif rule == "allowed":
            yield warning(
                "entrypoint-allowed",
                ("libos", "entrypoint"),
                msg("the host chooses what program is run: {path} is allowed, not trusted", path=entrypoint),
                msg("list its file in sgx.trusted_files"),
            )
    if at(manifest, "fs", "root") is None:
        yield warning(
            "no-root",
            ("fs", "root"),
            msg("is not written: the root is the folder in which Gramine is started"),
            msg('write fs.root.type = "tmpfs", and mount what is needed'),
        )
    for index, mount in tables(at(manifest, "fs", "mounts")):
        uri = mount.get("uri")
        if mount.get("type", "chroot") == "chroot" and isinstance(uri, str) and uri.startswith("file:"):
            if not anything_below(manifest, uri):
                yield warning(
                    "mount-without-files",
                    ("fs", "mounts", index),
                    msg("nothing below {uri} is trusted or allowed: no file of it can be opened", uri=uri),
                    msg("list what the program needs of it, or leave the mount out"),
                )
        elif mount.get("type") == "encrypted" and mount.get("key_name") == "_sgx_mrsigner":
            yield warning(
                "key-of-signer",
                ("fs", "mounts", index, "key_name"),
                msg("every enclave of this signer can read these files"),
                msg("give other products other sgx.isvprodid, and count sgx.isvsvn up"),
            )


def _attestation(manifest: Manifest) -> Iterator[Finding]:
    if at(manifest, "sgx", "remote_attestation") in (None, "none"):
        yield warning(
            "no-attestation",
            ("sgx", "remote_attestation"),
            msg("is none: nobody can be shown that this runs in an enclave"),
            msg('write "dcap"'),
        )
    mask = at(manifest, "sgx", "seal_key", "flags_mask")
    if isinstance(mask, str) and re.fullmatch(r"0x[0-9a-fA-F]{16}", mask) and not int(mask, 16) & _DEBUG_ATTRIBUTE:
        yield warning(
            "seal-key-of-debug",
            ("sgx", "seal_key", "flags_mask"),
            msg("does not cover DEBUG: a debug enclave gets the keys of the production one"),
            msg("leave it out: the default covers all attributes"),
        )


def _named(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


_RULES: tuple[Callable[[Manifest], Iterator[Finding]], ...] = (
    _production,
    _insecure_options,
    _environment,
    _allowed_files,
    _trusted_files,
    _sizes,
    _files,
    _attestation,
)
