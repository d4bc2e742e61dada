"""What stands in for an installed Gramine: a PAL of our own making, an application, and manifests in all variations.

The measurements that Gramine's own signer (release 1.9) gave for them are in tests/unit/gramine/facts.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from pathlib import Path

LIBOS_URI = "file:/usr/lib/x86_64-linux-gnu/gramine/libsysdb.so"

HEAD = f"""\
libos.entrypoint = "/app/main"
loader.entrypoint = {{ uri = "{LIBOS_URI}", sha256 = "{sha256(b"libos").hexdigest()}" }}
fs.mounts = [
  {{ path = "/app", uri = "file:app" }},
]
"""
TAIL = """
sgx.trusted_files = [
  "file:app/",
  { uri = "file:elsewhere", sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" },
]
"""

# Each line is put between HEAD and TAIL.
VARIATIONS = {
    "defaults": "",
    "64M": 'sgx.enclave_size = "64M"',
    "128M": 'sgx.enclave_size = "128M"',
    "512M": 'sgx.enclave_size = "512M"',
    "1G": 'sgx.enclave_size = "1G"',
    "4G": 'sgx.enclave_size = "4G"',
    "16G": 'sgx.enclave_size = "16G"',
    "64G": 'sgx.enclave_size = "64G"',
    "bytes": 'sgx.enclave_size = "134217728"',
    "kibibytes": 'sgx.enclave_size = "131072K"',
    "1 thread": "sgx.max_threads = 1",
    "16 threads": "sgx.max_threads = 16",
    "100 threads": "sgx.max_threads = 100",
    "EDMM": "sgx.edmm_enable = true",
    "EDMM 64G": 'sgx.edmm_enable = true\nsgx.enclave_size = "64G"',
    "EDMM 64M, 8 threads": 'sgx.edmm_enable = true\nsgx.enclave_size = "64M"\nsgx.max_threads = 8',
    "debug": "sgx.debug = true",
    "exinfo": "sgx.use_exinfo = true",
    "isv": "sgx.isvprodid = 258\nsgx.isvsvn = 65535",
    "features required": 'sgx.cpu_features = { avx = "required", avx512 = "required", amx = "required" }',
    "features disabled": 'sgx.cpu_features = { avx = "disabled", avx512 = "disabled", amx = "disabled" }',
    "hardening": 'sgx.cpu_features = { mpx = "required", pkru = "required" }',
    "AMX alone": 'sgx.cpu_features.amx = "required"',
    "seal key": 'sgx.seal_key.flags_mask = "0xffffffffffffffff"\nsgx.seal_key.misc_mask = "0x00000000"',
    "attestation": 'sgx.remote_attestation = "dcap"',
    "long lines": "sgx.allowed_files = [" + ", ".join(f'"file:{letter * 90}"' for letter in "ab") + "]",
    "ioctls": 'sys.allowed_ioctls = [{ request_code = 0x43218765, struct = "" }, { request_code = 1 }]\n'
    'sys.ioctl_structs.one = [{ name = "size", size = 8, direction = "out", alignment = 0x1000 }, '
    '{ ptr = [{ size = "size", direction = "in" }] }]',
    "text": "loader.env.TEXT = '''a \"quoted\" line\nand \\ \t another, \u00e9'''",
}
# Keys that Gramine's signer signs though its own check refuses them.
UNKNOWN_KEYS = {
    "nonpie": "sgx.nonpie_binary = true",
    "KSS": "sgx.kss = true\nsgx.isvextprodid = 1\nsgx.isvfamilyid = 2",
}


def manifest_text(variation: str) -> str:
    return f"{HEAD}{variation}\n{TAIL}"


def make_application(folder: Path) -> None:
    """Files for ``file:app/``: nested, hidden, with names that sort otherwise as paths, a link to a file and more."""
    for name, content in {
        "app/main": b"\x7fELF and so on",
        "app/lib/b.so": b"b" * 5000,
        "app/lib/a.so": b"",
        "app/lib-data/x": b"x",
        "app/.hidden": b"hidden",
        "app/Upper": b"upper",
        "app/z \u00e9": b"name",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "app/link").symlink_to("main")
    (folder / "app/nowhere").symlink_to("missing")
    (folder / "app/lib-link").symlink_to("lib")


def gramine_installation(folder: Path) -> Path:
    """What rendering and signing need of an installation: a LibOS and a runtime to hash, and a PAL to measure."""
    (folder / "sgx").mkdir(parents=True)
    (folder / "runtime/glibc").mkdir(parents=True)
    (folder / "libsysdb.so").write_bytes(b"libos")
    (folder / "sgx/libpal.so").write_bytes(pal())
    (folder / "runtime/glibc/libc.so.6").write_bytes(b"libc")
    return folder


def pal() -> bytes:
    """A shared object with a segment to read, one to run, a hole, and one to write that begins and ends in a page."""
    header_size, segment_count = 64, 4
    at = header_size + 56 * segment_count
    body = bytes(range(256)) * 32
    places = ((0x0, 0x0, 0x600, 0x600, 4), (0x1000, 0x1000, 5001, 5001, 5), (0x2800, 0x5800, 400, 0x1900, 6))
    segments = b"".join(
        struct.pack("<IIQQQQQQ", 1, flags, offset, vaddr, vaddr, filesz, memsz, 0x1000)
        for offset, vaddr, filesz, memsz, flags in places
    )
    segments += struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        3,
        62,
        1,
        0x1234,
        header_size,
        0,
        0,
        header_size,
        56,
        segment_count,
        64,
        0,
        0,
    )
    return (header + segments + body[: 0x4000 - at]).ljust(0x4000, b"\xee")
