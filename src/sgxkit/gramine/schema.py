"""Every key of a Gramine manifest, release 1.9 (manifest syntax of its documentation), and what became of others."""

from __future__ import annotations

from collections.abc import Mapping

from sgxkit.gramine.shape import (
    Anything,
    Boolean,
    Integer,
    ListOf,
    Named,
    OneOf,
    Shape,
    Table,
    Text,
    TextOr,
    Variants,
)
from sgxkit.messages import Message, msg

RELEASE = "1.9"
"""The release that this describes."""

_URI = Text()
_SIZE = Text()


def _file_systems(**common: Shape) -> Variants:
    """What `fs.root` and an element of `fs.mounts` say, by their type."""
    required = frozenset(common)
    kind, uri = {"type": Text()}, {"uri": _URI}
    return Variants(
        "type",
        "chroot",
        {
            "chroot": Table({**common, **kind, **uri}, required | {"uri"}),
            "encrypted": Table(
                {**common, **kind, **uri, "key_name": Text(), "enable_recovery": Boolean()}, required | {"uri"}
            ),
            "tmpfs": Table({**common, **kind, **uri}, required),
            "untrusted_shm": Table({**common, **kind, **uri}, required | {"uri"}),
        },
    )


_HARDENING = OneOf(("disabled", "required"))
_VECTOR = OneOf(("unspecified", "disabled", "required"))

MANIFEST = Table(
    {
        "fs": Table(
            {
                "mounts": ListOf(_file_systems(path=Text())),
                "root": _file_systems(),
                "start_dir": Text(),
                "insecure__keys": Named(Text()),
            },
            frozenset({"mounts"}),
        ),
        "libos": Table(
            {"entrypoint": Text(), "check_invalid_pointers": Boolean()},
            frozenset({"entrypoint"}),
        ),
        "loader": Table(
            {
                "entrypoint": Table({"uri": _URI, "sha256": Text()}, frozenset({"uri"})),
                "argv": ListOf(Text()),
                "argv_src_file": Text(),
                "env": Named(TextOr(Table({"value": Text(), "passthrough": Anything()}))),
                "env_src_file": Text(),
                "gid": Integer(),
                "uid": Integer(),
                "insecure__use_cmdline_argv": Boolean(),
                "insecure__use_host_env": Boolean(),
                "insecure__disable_aslr": Boolean(),
                "log_file": Text(),
                "log_level": OneOf(("none", "error", "warning", "debug", "trace", "all")),
            },
            frozenset({"entrypoint"}),
        ),
        "sgx": Table(
            {
                "allowed_files": ListOf(_URI),
                "cpu_features": Table(
                    {"avx": _VECTOR, "avx512": _VECTOR, "amx": _VECTOR, "mpx": _HARDENING, "pkru": _HARDENING}
                ),
                "debug": Boolean(),
                "edmm_enable": Boolean(),
                "enable_stats": Boolean(),
                "enclave_size": _SIZE,
                "file_check_policy": OneOf(("strict", "allow_all_but_log")),
                "insecure__allow_memfaults_without_exinfo": Boolean(),
                "insecure__rpc_thread_num": Integer(),
                "isvprodid": Integer(),
                "isvsvn": Integer(),
                "max_threads": Integer(),
                "preheat_enclave": Boolean(),
                "profile": Table(
                    {
                        "enable": OneOf(("none", "main", "all")),
                        "mode": OneOf(("aex", "ocall_inner", "ocall_outer")),
                        "with_stack": Boolean(),
                        "frequency": Integer(),
                    }
                ),
                "remote_attestation": OneOf(("none", "dcap")),
                "seal_key": Table({"flags_mask": Text(), "xfrm_mask": Text(), "misc_mask": Text()}),
                "trusted_files": ListOf(TextOr(Table({"uri": _URI, "sha256": Text()}))),
                "use_exinfo": Boolean(),
                "vtune_profile": Boolean(),
            }
        ),
        "sys": Table(
            {
                "allowed_ioctls": ListOf(
                    Table({"request_code": Integer(), "struct": Text()}, frozenset({"request_code"}))
                ),
                "brk": Table({"max_size": _SIZE}),
                "debug__mock_syscalls": ListOf(Table({"name": Text(), "return": Integer()}, frozenset({"name"}))),
                "disallow_subprocesses": Boolean(),
                "enable_extra_runtime_domain_names_conf": Boolean(),
                "enable_sigterm_injection": Boolean(),
                "experimental__enable_flock": Boolean(),
                "fds": Table({"limit": Integer()}),
                "insecure__allow_eventfd": Boolean(),
                "ioctl_structs": Named(Anything()),
                "stack": Table({"size": _SIZE}),
            }
        ),
    },
    frozenset({"fs", "libos", "loader"}),
)

DEFAULTS: Mapping[str, object] = {
    "fs.root.type": "chroot",
    "libos.check_invalid_pointers": True,
    "loader.gid": 0,
    "loader.uid": 0,
    "loader.log_level": "error",
    "loader.insecure__use_cmdline_argv": False,
    "loader.insecure__use_host_env": False,
    "loader.insecure__disable_aslr": False,
    "sgx.cpu_features.avx": "unspecified",
    "sgx.cpu_features.avx512": "unspecified",
    "sgx.cpu_features.amx": "unspecified",
    "sgx.cpu_features.mpx": "disabled",
    "sgx.cpu_features.pkru": "disabled",
    "sgx.debug": False,
    "sgx.edmm_enable": False,
    "sgx.enable_stats": False,
    "sgx.enclave_size": "256M",
    "sgx.file_check_policy": "strict",
    "sgx.insecure__allow_memfaults_without_exinfo": False,
    "sgx.insecure__rpc_thread_num": 0,
    "sgx.isvprodid": 0,
    "sgx.isvsvn": 0,
    "sgx.max_threads": 4,
    "sgx.preheat_enclave": False,
    "sgx.profile.enable": "none",
    "sgx.profile.mode": "aex",
    "sgx.profile.with_stack": False,
    "sgx.profile.frequency": 50,
    "sgx.remote_attestation": "none",
    "sgx.seal_key.flags_mask": "0xffffffffffffffff",
    "sgx.seal_key.xfrm_mask": "0xfffffffffff9ff1b",
    "sgx.seal_key.misc_mask": "0xffffffff",
    "sgx.use_exinfo": False,
    "sgx.vtune_profile": False,
    "sys.brk.max_size": "256K",
    "sys.disallow_subprocesses": False,
    "sys.enable_extra_runtime_domain_names_conf": False,
    "sys.enable_sigterm_injection": False,
    "sys.experimental__enable_flock": False,
    "sys.fds.limit": 900,
    "sys.insecure__allow_eventfd": False,
    "sys.stack.size": "256K",
}
"""What is taken where a key is not there; with EDMM `sgx.enclave_size` is 1024G."""

ENCLAVE_SIZE_WITH_EDMM = "1024G"


def replacement(key: str) -> Message | None:
    """Say what to write instead of a key of an older release; None where no release had it."""
    found = _REMOVED.get(key)
    if found is not None:
        return found
    for prefix, instead in _REMOVED_BELOW.items():
        if key.startswith(prefix):
            return instead
    return None


_FEATURE = msg('write sgx.cpu_features.NAME = "required" (or "disabled"); sgx.require_* went with 1.8')
_ENCRYPTED = msg('write a mount with type = "encrypted" in fs.mounts; sgx.protected_files went with 1.5')
_EPID = msg('write sgx.remote_attestation = "dcap"; EPID attestation went with 1.9')
_ENTRYPOINT = msg("write libos.entrypoint; the loader refuses loader.exec since 1.0")
_ALWAYS = msg("leave it out; Gramine does so always")

_REMOVED: Mapping[str, Message] = {
    "fs.experimental__enable_sysfs_topology": _ALWAYS,
    "fs.insecure__protected_files_key": msg("write fs.insecure__keys.default"),
    "fs.mount": msg("write the array fs.mounts"),
    "libos.sync": msg("leave it out; the loader knows libos.sync, but Gramine's own check refuses it"),
    "loader.argv0_override": msg("write the whole of loader.argv"),
    "loader.debug_type": msg("write loader.log_level"),
    "loader.exec": _ENTRYPOINT,
    "loader.pal_internal_mem_size": msg("leave it out; Gramine counts its own memory since 1.4"),
    "loader.preload": msg("leave it out; loader.entrypoint is written by the renderer"),
    "sgx.allow_file_creation": msg("write sgx.allowed_files, or an encrypted mount"),
    "sgx.insecure__protected_files_key": msg("write fs.insecure__keys.default"),
    "sgx.nonpie_binary": msg("leave it out; every enclave can hold such programs since 1.5"),
    "sgx.print_stats": msg("write sgx.enable_stats"),
    "sgx.protected_files": _ENCRYPTED,
    "sgx.protected_mrenclave_files": _ENCRYPTED,
    "sgx.protected_mrsigner_files": _ENCRYPTED,
    "sgx.protected_files_key": msg("write fs.insecure__keys.default"),
    "sgx.ra_client_key": _EPID,
    "sgx.ra_client_linkable": _EPID,
    "sgx.ra_client_spid": _EPID,
    "sgx.require_exinfo": msg("write sgx.use_exinfo"),
    "sgx.rpc_thread_num": msg("write sgx.insecure__rpc_thread_num"),
    "sgx.sigfile": msg("leave it out; the loader reads the .sig beside the manifest and refuses this key"),
    "sgx.static_address": msg("leave it out; every enclave can hold such programs since 1.5"),
    "sgx.support_exinfo": msg("write sgx.use_exinfo"),
    "sgx.thread_num": msg("write sgx.max_threads"),
    "sgx.zero_heap_on_demand": _ALWAYS,
    "sys.allow_eventfd": msg("write sys.insecure__allow_eventfd"),
}
_REMOVED_BELOW: Mapping[str, Message] = {
    "sgx.require_": _FEATURE,
    "sgx.trusted_checksum": msg("write sha256 in the file's element of sgx.trusted_files"),
    "sgx.trusted_children": msg("leave it out; children run the same enclave"),
}
