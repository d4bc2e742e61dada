"""A manifest template for what a program was seen to do: its files trusted one by one, the rest to be decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from posixpath import basename, dirname

from sgxkit.gramine.sizes import written
from sgxkit.gramine.trace import Observed

RUNTIME_FILES = frozenset(
    f"{name}.so.{version}"
    for version, names in (
        (0, ("libpthread",)),
        (1, ("libanl", "libmvec", "libnsl", "librt", "libthread_db", "libutil")),
        (2, ("ld-linux-x86-64", "libdl", "libnss_compat", "libnss_db", "libnss_dns", "libnss_files", "libresolv")),
        (6, ("libc", "libm")),
    )
    for name in names
)
"""Libraries that Gramine brings its own of."""

_INSIDE = ("/proc", "/sys", "/dev", "/run", "/var/run")
_PASSING = ("/tmp", "/var/tmp")  # noqa: S108 - a tmpfs inside
_LOADER_FILES = frozenset({"/etc/ld.so.cache", "/etc/ld.so.preload"})
_NAME_FILES = frozenset({"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"})
_GRAMINE_THREADS = 4
_LEAST_SIZE, _SPARE = 256 << 20, 64 << 20
_FEW = 3


def manifest_of(command: Sequence[str], seen: Observed, folder: str) -> str:
    """Write the template of a program that was started as `command` in `folder`."""
    program = seen.programs[0] if seen.programs else command[0]
    trusted = sorted(_trusted(seen))
    mounts = _mounts(trusted, seen.folders, folder)
    kept = sorted(path for path in seen.written if not _is_in(path, (*_INSIDE, *_PASSING)))
    lines = [
        f"# {toml_text(' '.join(command))} in Gramine 1.9, as it was seen to run. Text here is measured.",
        "# What it did not do then, it cannot do in the enclave: DECIDE what is missing.",
        "",
        f"libos.entrypoint = {toml_text(program)}",
        f"loader.argv = [{', '.join(map(toml_text, command))}]",
        "# DECIDE: the environment; the host's is not passed on.",
        f"loader.env.LD_LIBRARY_PATH = {toml_text(':'.join(['/lib', *_library_folders(trusted)]))}",
        'loader.env.HOME = "/tmp"',
        "",
        'fs.root.type = "tmpfs"',
        *([f"fs.start_dir = {toml_text(folder)}"] if any(_is_in(path, (folder,)) for path in mounts) else []),
        "fs.mounts = [",
        '  { path = "/lib", uri = "file:{{ gramine.runtimedir() }}" },',
        *(f"  {{ path = {toml_text(path)}, uri = {toml_text(f'file:{path}')} }}," for path in mounts),
        '  { type = "tmpfs", path = "/tmp" },',
        *_kept(kept),
        "]",
        "",
        f"# Seen: {_mebibytes(seen.peak_bytes)} MiB in one process. DECIDE: a power of two, with room to spare.",
        f"sgx.enclave_size = {toml_text(_size(seen.peak_bytes))}",
        f"# Seen: {seen.threads} at a time; {_GRAMINE_THREADS} more for Gramine. DECIDE: the most it may have.",
        f"sgx.max_threads = {seen.threads + _GRAMINE_THREADS}",
        "",
        "# DECIDE: count isvsvn up with each security update; verifiers ask for a least one.",
        "sgx.isvprodid = 1",
        "sgx.isvsvn = 1",
        'sgx.remote_attestation = "dcap"',
        "",
        *_network(seen),
        *_processes(seen),
        f"# Seen: {len(trusted)} files that were read or run.",
        "sgx.trusted_files = [",
        '  "file:{{ gramine.runtimedir() }}/",',
        *(f"  {toml_text(f'file:{path}')}," for path in trusted),
        "]",
    ]
    return "\n".join(lines) + "\n"


def _trusted(seen: Observed) -> set[str]:
    """Files that were read or run, and never written, without what Gramine has its own of."""
    found = set()
    for path in map(_source, {*seen.read, *seen.programs, *filter(None, map(_interpreter, seen.programs))}):
        if path in seen.written or path in _LOADER_FILES or path in _NAME_FILES:
            continue
        if _is_in(path, (*_INSIDE, *_PASSING)) or basename(path) in RUNTIME_FILES:
            continue
        if Path(path).is_file() and _is_utf8(path):
            found.add(path)
    return found


def _source(path: str) -> str:
    """The source of a module that Python has compiled: inside no file has the time that the compiled one names."""
    folder, name = path.rsplit("/", 1)
    if basename(folder) != "__pycache__" or not name.endswith(".pyc"):
        return path
    return f"{dirname(folder)}/{name.partition('.')[0]}.py"


def _interpreter(program: str) -> str | None:
    """What the kernel runs for a script."""
    try:
        with Path(program).open("rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    words = first[2:].split() if first.startswith(b"#!") else []
    return words[0].decode(errors="replace") if words else None


def _mounts(trusted: Sequence[str], folders: Iterable[str], start: str) -> list[str]:
    """Folders in which much is used, and single files elsewhere; what begins with /lib is not mounted as a whole."""
    used: dict[str, list[str]] = {}
    for path in trusted:
        used.setdefault(dirname(path), []).append(path)
    whole = {
        folder
        for folder in {*used, *(folder for folder in folders if Path(folder).is_dir())}
        if folder not in ("/", "/lib", "/lib64", "/usr", "/etc", "/usr/bin", "/bin")
        and not _is_in(folder, (*_INSIDE, *_PASSING))
        and (len(used.get(folder, [])) > _FEW or folder in folders or folder == start)
    }
    tops = [folder for folder in sorted(whole) if not any(_is_in(folder, (other,)) for other in whole - {folder})]
    single = [path for path in trusted if not _is_in(path, tops)]
    return sorted([*tops, *single])


def _library_folders(trusted: Iterable[str]) -> list[str]:
    """Folders of shared libraries that the loader looks in by itself outside, and inside only if told."""
    found = {
        dirname(path)
        for path in trusted
        if ".so" in basename(path)
        and dirname(path).startswith(("/lib", "/usr/lib"))
        and dirname(path).count("/") <= 3
    }
    return sorted(found - {"/lib"})


def _kept(paths: Sequence[str]) -> list[str]:
    lines = []
    for path in paths:
        mount = f'{{ type = "encrypted", path = {toml_text(path)}, uri = {toml_text(f"file:{path}")}, '
        lines.append(
            "  # Written. DECIDE: encrypted for this enclave alone (not under gramine-direct), a tmpfs, or allowed."
        )
        lines.append(f'  {mount}key_name = "_sgx_mrenclave" }},')
    return lines


def _network(seen: Observed) -> list[str]:
    lines = []
    if seen.connects:
        lines.append(
            f"# It connects to {', '.join(sorted(seen.connects))}. DECIDE: who says that these are the right ones?"
        )
    if seen.listens:
        lines.append(
            f"# It listens on {', '.join(sorted(seen.listens))}. DECIDE: TLS with a key that only the enclave has."
        )
    if seen.read & _NAME_FILES:
        lines += ["# It looks up names: the host answers.", "sys.enable_extra_runtime_domain_names_conf = true"]
    return [*lines, ""] if lines else []


def _processes(seen: Observed) -> list[str]:
    if seen.processes == 1:
        return []
    return [
        f"# It starts {seen.processes - 1} processes: each is an enclave of the same size. DECIDE whether it must.",
        "# sys.disallow_subprocesses = true",
        "",
    ]


def _size(peak: int) -> str:
    return written(max(_LEAST_SIZE, 1 << math.ceil(math.log2(2 * peak + _SPARE))))


def _mebibytes(size: int) -> int:
    return -(-size >> 20)


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _is_utf8(path: str) -> bool:
    """Whether a manifest can name it at all."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def toml_text(value: str) -> str:
    """Write a TOML string that Jinja leaves alone."""
    escaped = "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}" for char in value
    )
    return '"' + escaped.replace("{{", "{\\u007b").replace("{%", "{\\u0025").replace("{#", "{\\u0023") + '"'
