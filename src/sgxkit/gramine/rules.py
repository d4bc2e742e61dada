"""What Gramine's schema lets pass and its signer or loader refuse, or read as something else (release 1.9).

The schema knows types and words alone. A rule here is silent about a value of the wrong type: `shape` has spoken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sgxkit.gramine.finding import Finding, RefusedBy, error, warning
from sgxkit.gramine.shape import describe
from sgxkit.gramine.sizes import size_for_both, size_for_loader, written
from sgxkit.gramine.toml_lines import Path
from sgxkit.messages import Message, msg

MAX_ENCLAVE_SIZE = 1 << 40
"""The loader's debugger information lies at 1 TiB, and the enclave's range begins at 0."""

MAX_THREADS = 4096
MAX_RPC_THREADS = 256
RPC_QUEUE = 1024
MAX_PROFILE_FREQUENCY = 250
PAGE_SIZE = 4096

Manifest = dict[str, Any]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_HOST_FOLDERS = ("/proc", "/sys", "/dev")


def rule_findings(manifest: Manifest) -> Iterator[Finding]:
    """Apply every rule to a manifest, of whatever shape it is."""
    for rule in _RULES:
        yield from rule(manifest)


def at(manifest: Manifest, *keys: str) -> Any:
    """Return the value at a path, None where something on the way is missing or no table."""
    value: Any = manifest
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def tables(value: object) -> Iterator[tuple[int, Manifest]]:
    """Go through the tables in an array, with their indices."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield index, item


def _enclave_size(manifest: Manifest) -> Iterator[Finding]:
    path = ("sgx", "enclave_size")
    text = at(manifest, *path)
    if not isinstance(text, str):
        return
    size = size_for_both(text)
    if size is None:
        yield error(
            "size-unclear",
            path,
            msg("signer and loader do not both read {text} as the same size", text=describe(text)),
            RefusedBy.LOADER,
            msg('write a decimal number and K, M or G: "256M"'),
        )
        return
    if size == 0 or size & (size - 1):
        yield error(
            "size-no-power-of-two",
            path,
            msg("must be a power of two, is {text}; the signer signs it and the loader refuses it", text=text),
            RefusedBy.LOADER,
            msg('write "{text}"', text=written(min(1 << max(size - 1, 0).bit_length(), MAX_ENCLAVE_SIZE))),
        )
    elif size > MAX_ENCLAVE_SIZE:
        yield error(
            "size-too-large", path, msg("can be {limit} at most", limit=written(MAX_ENCLAVE_SIZE)), RefusedBy.LOADER
        )


def _threads(manifest: Manifest) -> Iterator[Finding]:
    path = ("sgx", "max_threads")
    yield from _range(manifest, path, 1, MAX_THREADS)
    rpc_path = ("sgx", "insecure__rpc_thread_num")
    yield from _range(manifest, rpc_path, 0, MAX_RPC_THREADS)
    threads, rpc = _integer(manifest, path), _integer(manifest, rpc_path)
    if threads is not None and rpc and RPC_QUEUE < threads <= MAX_THREADS:
        yield error(
            "too-many-threads",
            path,
            msg("can be {limit} at most with sgx.insecure__rpc_thread_num", limit=RPC_QUEUE),
            RefusedBy.LOADER,
        )


def _numbers(manifest: Manifest) -> Iterator[Finding]:
    yield from _range(manifest, ("sgx", "isvprodid"), 0, 0xFFFF, RefusedBy.SIGNER)
    yield from _range(manifest, ("sgx", "isvsvn"), 0, 0xFFFF, RefusedBy.SIGNER)
    yield from _range(manifest, ("loader", "uid"), 0, 0xFFFF_FFFF)
    yield from _range(manifest, ("loader", "gid"), 0, 0xFFFF_FFFF)
    yield from _range(manifest, ("sys", "fds", "limit"), 0, (1 << 63) - 1)
    yield from _range(manifest, ("sgx", "profile", "frequency"), 1, MAX_PROFILE_FREQUENCY)


def _sizes_of_processes(manifest: Manifest) -> Iterator[Finding]:
    for path in (("sys", "stack", "size"), ("sys", "brk", "max_size")):
        text = at(manifest, *path)
        if not isinstance(text, str):
            continue
        size = size_for_loader(text)
        if size is None:
            yield error(
                "size-unclear",
                path,
                msg("the loader cannot read {text} as a size", text=describe(text)),
                RefusedBy.LOADER,
                msg('write a decimal number and K, M or G: "256K"'),
            )
        elif path == ("sys", "brk", "max_size") and size % PAGE_SIZE:
            yield error("size-no-pages", path, msg("must be a multiple of {size}", size=PAGE_SIZE), RefusedBy.LOADER)


def _cpu_features(manifest: Manifest) -> Iterator[Finding]:
    avx, avx512 = at(manifest, "sgx", "cpu_features", "avx"), at(manifest, "sgx", "cpu_features", "avx512")
    path = ("sgx", "cpu_features", "avx512")
    if avx512 == "disabled" and avx == "required":
        yield error(
            "avx-lost",
            path,
            msg("disables AVX, too, which is required: the bits of AVX-512 in XFRM include those of AVX"),
            RefusedBy.NOBODY,
            msg('write avx512 = "unspecified", or do not require AVX'),
        )
    elif avx512 == "disabled" and avx != "disabled":
        yield warning(
            "avx-disabled",
            path,
            msg("disables AVX, too: the bits of AVX-512 in XFRM include those of AVX"),
            msg('write avx = "disabled" where that is meant, else avx512 = "unspecified"'),
        )
    elif avx512 == "required" and avx == "disabled":
        yield error(
            "avx-required",
            path,
            msg("requires AVX, too, which is disabled: the bits of AVX-512 in XFRM include those of AVX"),
            RefusedBy.NOBODY,
            msg('do not write avx = "disabled" with avx512 = "required"'),
        )


def _edmm(manifest: Manifest) -> Iterator[Finding]:
    if at(manifest, "sgx", "edmm_enable") is True and at(manifest, "sgx", "preheat_enclave") is True:
        yield error(
            "preheat-with-edmm",
            ("sgx", "preheat_enclave"),
            msg("is not possible with sgx.edmm_enable"),
            RefusedBy.LOADER,
        )


def _release_builds(manifest: Manifest) -> Iterator[Finding]:
    enable = at(manifest, "sgx", "profile", "enable")
    if enable in ("main", "all") or at(manifest, "sgx", "enable_stats") is True:
        path: Path = ("sgx", "enable_stats") if at(manifest, "sgx", "enable_stats") is True else ("sgx", "profile")
        yield warning("debug-build-only", path, msg("works with a debug build of Gramine only; others refuse it"))
    if (
        at(manifest, "sgx", "profile", "with_stack") is True
        and at(manifest, "sgx", "profile", "mode") == "ocall_outer"
    ):
        yield error(
            "profile-stack",
            ("sgx", "profile", "with_stack"),
            msg('is not possible with mode = "ocall_outer"'),
            RefusedBy.LOADER,
        )


def _seal_key(manifest: Manifest) -> Iterator[Finding]:
    for name, digits in (("flags_mask", 16), ("xfrm_mask", 16), ("misc_mask", 8)):
        mask = at(manifest, "sgx", "seal_key", name)
        if isinstance(mask, str) and re.fullmatch(rf"0x[0-9a-fA-F]{{{digits}}}", mask) is None:
            yield error(
                "mask",
                ("sgx", "seal_key", name),
                msg("must be 0x and {digits} hexadecimal digits", digits=digits),
                RefusedBy.LOADER,
            )


def _trusted_files(manifest: Manifest) -> Iterator[Finding]:
    files = at(manifest, "sgx", "trusted_files")
    if not isinstance(files, list):
        return
    for index, entry in enumerate(files):
        path: Path = ("sgx", "trusted_files", index)
        uri = entry.get("uri") if isinstance(entry, dict) else entry
        if uri is None:
            if isinstance(entry, dict):
                yield error("missing", (*path, "uri"), msg("is missing"), RefusedBy.SIGNER)
            continue
        if isinstance(uri, str) and not uri.startswith("file:"):
            yield error(
                "uri", path, msg("{uri} does not begin with file:", uri=describe(uri)), RefusedBy.SIGNER, _file(uri)
            )
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        yield from _hash((*path, "sha256"), sha256)


def _entrypoint(manifest: Manifest) -> Iterator[Finding]:
    uri = at(manifest, "loader", "entrypoint", "uri")
    if isinstance(uri, str) and not uri.startswith("file:"):
        path = ("loader", "entrypoint", "uri")
        yield error(
            "uri", path, msg("{uri} does not begin with file:", uri=describe(uri)), RefusedBy.SIGNER, _file(uri)
        )
    yield from _hash(("loader", "entrypoint", "sha256"), at(manifest, "loader", "entrypoint", "sha256"))


def _hash(path: Path, value: object) -> Iterator[Finding]:
    if isinstance(value, str) and _SHA256.fullmatch(value) is None:
        yield error(
            "sha256",
            path,
            msg("must be 64 hexadecimal digits, is {value}", value=describe(value)),
            RefusedBy.LOADER,
            msg("leave it out, and the file is hashed"),
        )


def _allowed_files(manifest: Manifest) -> Iterator[Finding]:
    files = at(manifest, "sgx", "allowed_files")
    for index, uri in enumerate(files if isinstance(files, list) else ()):
        if isinstance(uri, str) and not uri.startswith(("file:", "dev:")):
            yield error(
                "uri",
                ("sgx", "allowed_files", index),
                msg("{uri} does not begin with file: or dev:", uri=describe(uri)),
                RefusedBy.LOADER,
                _file(uri),
            )


def _mounts(manifest: Manifest) -> Iterator[Finding]:
    for index, mount in tables(at(manifest, "fs", "mounts")):
        path: Path = ("fs", "mounts", index)
        where = mount.get("path")
        if isinstance(where, str) and (not where.startswith("/") or where == "/"):
            yield error(
                "mount-path",
                (*path, "path"),
                msg("must be an absolute path other than /, is {path}", path=describe(where)),
                RefusedBy.LOADER,
                msg("fs.root says what is mounted at /") if where == "/" else None,
            )
        yield from _mounted((*path, "uri"), mount)
    root = at(manifest, "fs", "root")
    if isinstance(root, dict):
        yield from _mounted(("fs", "root", "uri"), root)


def _mounted(path: Path, mount: Manifest) -> Iterator[Finding]:
    uri = mount.get("uri")
    if not isinstance(uri, str) or mount.get("type") == "tmpfs":
        return
    if not uri.startswith(("file:", "dev:")):
        yield error(
            "uri",
            path,
            msg("{uri} does not begin with file: or dev:", uri=describe(uri)),
            RefusedBy.LOADER,
            _file(uri),
        )
        return
    host = uri.partition(":")[2].rstrip("/")
    if uri.startswith("file:") and any(host == top or host.startswith(f"{top}/") for top in _HOST_FOLDERS):
        yield warning(
            "host-folder",
            path,
            msg("{folder} of the host is in its hands, and Gramine has its own", folder=host),
            msg("leave the mount out"),
        )


def _arguments(manifest: Manifest) -> Iterator[Finding]:
    loader = at(manifest, "loader")
    if not isinstance(loader, dict):
        return
    given = [name for name in ("argv", "argv_src_file") if name in loader]
    if loader.get("insecure__use_cmdline_argv") is True:
        given.append("insecure__use_cmdline_argv")
    if len(given) > 1:
        yield error(
            "arguments",
            ("loader", given[-1]),
            msg("is not possible with loader.{other}", other=given[0]),
            RefusedBy.LOADER,
        )
    if loader.get("argv") == []:
        yield error("arguments", ("loader", "argv"), msg("must not be empty: its first is argv[0]"), RefusedBy.LOADER)


def _environment(manifest: Manifest) -> Iterator[Finding]:
    loader = at(manifest, "loader")
    if not isinstance(loader, dict):
        return
    if loader.get("insecure__use_host_env") is True and "env_src_file" in loader:
        yield error(
            "environment",
            ("loader", "env_src_file"),
            msg("is not possible with loader.{other}", other="insecure__use_host_env"),
            RefusedBy.LOADER,
        )
    variables = loader.get("env")
    for name, value in (variables if isinstance(variables, dict) else {}).items():
        if not isinstance(value, dict):
            continue
        path: Path = ("loader", "env", name)
        if "value" in value and "passthrough" in value:
            yield error("environment", path, msg("has both a value and passthrough"), RefusedBy.SCHEMA)
        elif value.get("passthrough", True) is not True:
            yield error(
                "environment",
                (*path, "passthrough"),
                msg("can only be true"),
                RefusedBy.LOADER if value["passthrough"] == 1 else RefusedBy.SCHEMA,
                msg("leave the variable out"),
            )
        elif not value:
            yield error("environment", path, msg("has neither a value nor passthrough"), RefusedBy.LOADER)


def _range(
    manifest: Manifest, path: tuple[str, ...], least: int, most: int, by: RefusedBy = RefusedBy.LOADER
) -> Iterator[Finding]:
    value = _integer(manifest, path)
    if value is not None and not least <= value <= most:
        yield error(
            "range",
            path,
            msg("must be from {least} to {most}, is {value}", least=least, most=most, value=describe(value)),
            by,
        )


def _integer(manifest: Manifest, path: tuple[str, ...]) -> int | None:
    value = at(manifest, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _file(uri: str) -> Message | None:
    return None if ":" in uri else msg('write "file:{uri}"', uri=uri)


_RULES: tuple[Callable[[Manifest], Iterator[Finding]], ...] = (
    _enclave_size,
    _threads,
    _numbers,
    _sizes_of_processes,
    _cpu_features,
    _edmm,
    _release_builds,
    _seal_key,
    _trusted_files,
    _entrypoint,
    _allowed_files,
    _mounts,
    _arguments,
    _environment,
)
