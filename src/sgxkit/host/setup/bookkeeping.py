"""What package and account tools keep for themselves: their safety copies, registries and caches.

Taking back what was done leaves these behind, changed, though what they stand for is as it was. They are remembered
before the first step that makes such a tool work, and put back when the last step was taken back, each only if its
`witness`, the file that it accompanies, again holds exactly what it held then: then nobody else has used the tool
in between, or has undone it too. Logs are history and are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sgxkit.host.setup.journal import FileBefore, Journal

_DPKG = "/var/lib/dpkg/status"
WITNESSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        _DPKG: (
            "/var/lib/dpkg/status-old",
            "/var/lib/dpkg/statoverride",
            "/var/lib/dpkg/statoverride-old",
            "/var/lib/dpkg/diversions-old",
            "/var/lib/dpkg/available-old",
            "/var/lib/apt/extended_states",
            "/var/cache/debconf/config.dat-old",
            "/var/cache/debconf/templates.dat-old",
            "/var/cache/debconf/passwords.dat-old",
            "/var/cache/ldconfig/aux-cache",
        ),
        "/var/lib/ucf/hashfile": tuple(f"/var/lib/ucf/hashfile.{number}" for number in range(10)),
        "/var/lib/ucf/registry": tuple(f"/var/lib/ucf/registry.{number}" for number in range(10)),
        "/etc/group": ("/etc/group-",),
        "/etc/gshadow": ("/etc/gshadow-",),
        "/etc/passwd": ("/etc/passwd-",),
        "/etc/shadow": ("/etc/shadow-",),
        "/etc/subuid": ("/etc/subuid-",),
        "/etc/subgid": ("/etc/subgid-",),
    }
)
NEW_CACHES = (
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
    "/run/adduser",
)
"""Removed where they did not exist before; otherwise left: they are rebuilt from what they cache."""
NEW_FOLDERS = ("/var/cache/debconf/tmp.ci",)
_NAME = "bookkeeping"


def remember(journal: Journal) -> None:
    """Remember all of it, once for the life of a journal."""
    if journal.memory(_NAME):
        return
    paths = [path for witness, files in WITNESSES.items() for path in (witness, *files)]
    caches = [_presence(journal, path) for path in (*NEW_CACHES, *NEW_FOLDERS)]
    journal.memorise(_NAME, (*(journal.file(path) for path in paths), *caches))


def _presence(journal: Journal, path: str) -> FileBefore:
    return FileBefore(path, "other" if journal.target.exists(path) else "absent")


def put_back(journal: Journal) -> tuple[str, ...]:
    """Put back what may be; returns the paths that were left because somebody else changed what they accompany."""
    before = {file.path: file for file in journal.memory(_NAME)}
    left: list[str] = []
    for witness, paths in WITNESSES.items():
        if witness not in before:
            continue
        same = _same(journal, before[witness])
        for path in paths:
            if path not in before or _same(journal, before[path]):
                continue
            if same:
                journal.restore(before[path])
            else:
                left.append(path)
    for path in NEW_CACHES:
        if path in before and before[path].kind == "absent":
            journal.target.remove(path)
    for path in NEW_FOLDERS:
        if path in before and before[path].kind == "absent":
            journal.target.remove_empty([path])
    return tuple(left)


@dataclass(frozen=True, slots=True)
class _Content:
    kind: str
    content: str | None
    mode: int


def _same(journal: Journal, before: FileBefore) -> bool:
    now = journal.seen(before.path)
    return _Content(now.kind, now.content, now.mode) == _Content(before.kind, before.content, before.mode)
