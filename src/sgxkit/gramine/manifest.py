"""Manifests as values: what Gramine's renderer adds to one, and the text that it is written as.

The text is measured, byte by byte: MRENCLAVE depends on the order of its keys. Written are the keys of the template
in their order, then those added, in the order in which Gramine's renderer adds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgxkit.gramine.schema import DEFAULTS, ENCLAVE_SIZE_WITH_EDMM
from sgxkit.gramine.template import missing_extra

SUFFIX = ".manifest"
SIGNED_SUFFIX = ".manifest.sgx"
TEMPLATE_SUFFIX = ".manifest.template"

_ADDED = ("max_threads", "isvprodid", "isvsvn", "remote_attestation", "debug", "enable_stats", "edmm_enable")
_ADDED_FEATURES = ("avx", "avx512", "amx", "mpx", "pkru")


def with_defaults(manifest: dict[str, Any], libos: Path) -> dict[str, Any]:
    """Add what Gramine's renderer adds, in its order; parts of a wrong type are left for the check to name.

    The hash of `loader.entrypoint` is not added here: `trusted.hash_entrypoint` does that.
    """
    added = {**manifest}
    sgx = added.setdefault("sgx", {})
    if isinstance(sgx, dict):
        sgx = added["sgx"] = {**sgx}
        sgx.setdefault("trusted_files", [])
        for name in _ADDED:
            sgx.setdefault(name, DEFAULTS[f"sgx.{name}"])
        size = ENCLAVE_SIZE_WITH_EDMM if sgx["edmm_enable"] else DEFAULTS["sgx.enclave_size"]
        sgx.setdefault("enclave_size", size)
        sgx.setdefault("use_exinfo", DEFAULTS["sgx.use_exinfo"])
        features = sgx.setdefault("cpu_features", {})
        if isinstance(features, dict):
            features = sgx["cpu_features"] = {**features}
            for name in _ADDED_FEATURES:
                features.setdefault(name, DEFAULTS[f"sgx.cpu_features.{name}"])
        if isinstance(sgx["trusted_files"], list):
            sgx["trusted_files"] = [
                {"uri": entry} if isinstance(entry, str) else entry for entry in sgx["trusted_files"]
            ]
    return with_entrypoint(added, libos)


def with_entrypoint(manifest: dict[str, Any], libos: Path) -> dict[str, Any]:
    """Add `loader.entrypoint.uri` where it is not there: the one key that must be there and that no template has."""
    added = {**manifest}
    loader = added.setdefault("loader", {})
    if isinstance(loader, dict):
        loader = added["loader"] = {**loader}
        entrypoint = loader.setdefault("entrypoint", {})
        if isinstance(entrypoint, dict):
            loader["entrypoint"] = {**entrypoint}
            loader["entrypoint"].setdefault("uri", f"file:{libos}")
    return added


def write(manifest: dict[str, Any]) -> str:
    """Write a manifest as TOML, as Gramine's tools write it (tomli-w); InputError where tomli-w is not installed."""
    try:
        import tomli_w  # noqa: PLC0415 - an extra
    except ImportError as problem:
        raise missing_extra("tomli-w") from problem
    return str(tomli_w.dumps(manifest))


def signed_name(manifest: Path) -> Path:
    """Where the manifest that is measured goes: ``app.manifest`` to ``app.manifest.sgx``."""
    return manifest.with_name(manifest.name.removesuffix(SUFFIX) + SIGNED_SUFFIX)


def signature_name(manifest: Path) -> Path:
    """Where the SIGSTRUCT goes: ``app.manifest`` to ``app.sig``."""
    return manifest.with_name(manifest.name.removesuffix(SUFFIX) + ".sig")
