"""Manifests with something changed in them: always the same ones, number by number."""

from __future__ import annotations

import re
from hashlib import sha256

COUNT = 5000

BASE = """\
# a manifest that has every key
fs.start_dir = "/app"
fs.root = { type = "tmpfs" }
fs.mounts = [
  { path = "/lib", uri = "file:/usr/lib/x86_64-linux-gnu/gramine/runtime/glibc" },
  { type = "chroot", path = "/app", uri = "file:app" },
  { type = "encrypted", path = "/secret", uri = "file:secret", key_name = "default", enable_recovery = true },
  { type = "tmpfs", path = "/tmp" },
  { type = "untrusted_shm", path = "/shm", uri = "dev:/dev/shm" },
]
fs.insecure__keys.default = "ffeeddccbbaa99887766554433221100"

[libos]
entrypoint = "/app/main"
check_invalid_pointers = false

[loader]
entrypoint = { uri = "file:libsysdb.so", sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" }
argv = ["main", "--verbose", 'a "word"']
env.LD_LIBRARY_PATH = "/lib"
env.HOME = { value = "/home" }
env.TERM = { passthrough = true }
gid = 1000
uid = 1000
insecure__use_cmdline_argv = false
insecure__use_host_env = false
insecure__disable_aslr = false
log_file = "log"
log_level = "error"

[sgx]
allowed_files = ["file:log", "dev:/dev/nvidia0"]
debug = true
edmm_enable = false
enable_stats = false
enclave_size = "512M"
file_check_policy = "strict"
insecure__allow_memfaults_without_exinfo = false
insecure__rpc_thread_num = 0
isvprodid = 1
isvsvn = 2
max_threads = 16
preheat_enclave = true
remote_attestation = "dcap"
trusted_files = [
  "file:app/",
  { uri = "file:data" },
  { uri = "file:more", sha256 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" },
]
use_exinfo = true
vtune_profile = false

[sgx.cpu_features]
avx = "required"
avx512 = "unspecified"
amx = "disabled"
mpx = "disabled"
pkru = "required"

[sgx.profile]
enable = "none"
mode = "aex"
with_stack = false
frequency = 50

[sgx.seal_key]
flags_mask = "0xffffffffffffffff"
xfrm_mask = "0xfffffffffff9ff1b"
misc_mask = "0xffffffff"

[sys]
allowed_ioctls = [ { request_code = 0x12345678, struct = "one" }, { request_code = 2 } ]
brk.max_size = "1M"
disallow_subprocesses = true
enable_extra_runtime_domain_names_conf = true
enable_sigterm_injection = true
experimental__enable_flock = true
insecure__allow_eventfd = true
ioctl_structs.one = [ { size = 8, direction = "out" } ]
debug__mock_syscalls = [ { name = "sched_yield", return = 0 }, { name = "eventfd" } ]
stack.size = "256K"
fds.limit = 900
"""

_VALUES = (
    "true", "false", "1", "0", "-1", "65536", "1.5", "inf", '""', '"none"', '"dcap"', '"epid"', '"1G"', '"256m"',
    '"0x10M"', '"file:x"', '"dev:x"', '"/"', "[]", '["x"]', "[1]", "[[]]", "{}", '{ uri = "file:x" }',
    '{ passthrough = false }', '{ value = "x", passthrough = true }', "1979-05-27", "07:32:00", "'''x\ny'''",
    '"\\u00e9"', '"required"', '"disabled"', '"' + "0" * 64 + '"', "9223372036854775808", '{ type = "tmpfs" }',
)  # fmt: skip
_KEYS = (
    "nonpie_binary", "thread_num", "protected_files", "sigfile", "exec", "preload", "require_avx", "type", "uri",
    "path", "sha256", "enable", "entrypoint", "argv0_override", "sync.enable", '"quoted key"', "a.b.c", "debug",
    "max_threads", "mounts", "root", "env", "env.X", "trusted_files",
)  # fmt: skip
_VALUE = re.compile(r'"[^"]*"|\btrue\b|\bfalse\b|\b[0-9]+\b')
_TOKENS = ("=", '"', "[", "]", "{", "}", ",", "#", "\n", "'''", '"""', "\\", ".", "[[sgx]]", "[sgx]", "\0", "é", " ")


def mutated(number: int) -> str:
    """The manifest with this number."""
    draw = _Draw(number)
    text = BASE
    for _ in range(1 + draw.below(3)):
        text = _change(text, draw)
    return text


class _Draw:
    """Numbers that depend on nothing but the first one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._drawn = 0

    def below(self, limit: int) -> int:
        self._drawn += 1
        return int.from_bytes(sha256(f"{self._number} {self._drawn}".encode()).digest()[:8], "big") % limit

    def one_of(self, choices: tuple[str, ...]) -> str:
        return choices[self.below(len(choices))]


def _change(text: str, draw: _Draw) -> str:
    lines = text.split("\n")
    at = draw.below(len(lines))
    line = lines[at]
    key, equals, value = line.partition(" = ")
    match draw.below(18):
        case 0:
            lines[at : at + 1] = []
        case 1:
            lines.insert(at, lines[draw.below(len(lines))])
        case 2 | 3 | 4 | 5 if equals:
            lines[at] = f"{key} = {draw.one_of(_VALUES)}"
        case 10 if equals:
            lines[at] = f"{draw.one_of(_KEYS)} = {value}"
        case 11:
            lines.insert(at, f"{draw.one_of(_KEYS)} = {draw.one_of(_VALUES)}")
        case 12:
            place = draw.below(len(line) + 1)
            lines[at] = line[:place] + draw.one_of(_TOKENS) + line[place:]
        case 13:
            place = draw.below(len(line) + 1)
            lines[at] = line[:place] + line[place + 1 :]
        case _:
            values = list(_VALUE.finditer(line))
            if values:
                chosen = values[draw.below(len(values))]
                lines[at] = line[: chosen.start()] + draw.one_of(_VALUES) + line[chosen.end() :]
    return "\n".join(lines)
