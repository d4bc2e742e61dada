"""The journal of what was done to a host, with what it takes to take it back. It lives on the host itself.

Each step has one file, written to a temporary name, to the disk, then renamed, before the step begins and again when
it is done. What a file held before is kept beside it, by its SHA-256. So a host that lost power, or whose tool was
killed, still says what had begun and how it was before.

    /var/lib/sgxkit/setup/          0700, root
        lock                        held while one sgxkit works on the host
        journal.json                schema, folders that were made for it, consequences still due
        entries/0001.json           one step
        content/SHA-256             zlib of bytes
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sgxkit.errors import FormatError, SetupError
from sgxkit.host.document import decode, encode
from sgxkit.host.setup.actions import Action, action_from_json, action_to_json
from sgxkit.host.setup.step import Step
from sgxkit.host.setup.target import Target
from sgxkit.messages import msg

FOLDER = "/var/lib/sgxkit/setup"
SCHEMA = 1
_HEAD = f"{FOLDER}/journal.json"
_ENTRIES = f"{FOLDER}/entries"
_CONTENT = f"{FOLDER}/content"


@dataclass(frozen=True, slots=True)
class FileBefore:
    """A path as it was: absent, a regular file (its bytes by SHA-256), a symbolic link, or something else."""

    path: str
    kind: Literal["absent", "file", "link", "other"]
    content: str | None = None
    target: str | None = None
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified_ns: int = 0


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that a step installs (`old` None), upgrades, or removes (`new` None)."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Accounts:
    """Names of the local users and groups."""

    users: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file below /etc that appeared while packages were installed, by the SHA-256 of its bytes; None: a folder."""

    path: str
    content: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """What appeared while packages were installed and purging them may leave behind."""

    users: tuple[str, ...]
    groups: tuple[str, ...]
    files: tuple[NewFile, ...]


@dataclass(frozen=True, slots=True)
class Before:
    """What a step found, as far as it takes it to take the step back.

    folders    folders that the step had to make, the innermost first.
    empty      folders that were empty: dpkg removes one that becomes empty and that no other package owns.
    etc        the paths below /etc, a line each, among the kept content.
    held       whether the group, membership, unit or mount option was there already.
    active     whether the unit ran.
    """

    files: tuple[FileBefore, ...] = ()
    folders: tuple[str, ...] = ()
    empty: tuple[FileBefore, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    accounts: Accounts | None = None
    etc: str | None = None
    held: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One step as the journal has it."""

    number: int
    step: str
    action: Action
    state: Literal["begun", "done"]
    time: int
    boot: str
    reboot: bool
    before: Before
    made: Made | None = None


class Journal:
    """The journal of one host; make it with `open_journal`, or `read_journal` to look only."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._head: dict[str, object] = {"schema": SCHEMA, "folders": [], "due": []}
        data = target.read(_HEAD)
        if data is not None:
            head = _json(data, "journal.json")
            if head.get("schema") != SCHEMA:
                raise SetupError(
                    msg("the journal in {folder} was written by another version of sgxkit", folder=FOLDER),
                    hint=msg("use that version to take its steps back"),
                )
            self._head = head

    @property
    def due(self) -> frozenset[str]:
        """Ids of steps that follow from what was done, and are not done yet."""
        due = self._head.get("due")
        return frozenset(str(name) for name in due) if isinstance(due, list) else frozenset()

    def set_due(self, names: frozenset[str]) -> None:
        """Remember the consequences that are still due."""
        self._head["due"] = sorted(names)
        self._write(_HEAD, self._head)

    def entries(self) -> tuple[Entry, ...]:
        """All steps, in the order in which they began; SetupError where the journal is damaged."""
        names = (name for name in self.target.names(_ENTRIES) if name.endswith(".json"))
        return tuple(self._entry(name) for name in names)

    def begin(self, step: Step, before: Before) -> Entry:
        """Write down that a step begins; one that had begun before keeps what it found then."""
        entries = self.entries()
        for entry in entries:
            if entry.state == "begun" and entry.step == step.id and entry.action == step.action:
                return self.add_packages(entry, before.packages)
        number = entries[-1].number + 1 if entries else 1
        entry = Entry(number, step.id, step.action, "begun", int(time.time()), self.target.boot, step.reboot, before)
        self._save(entry)
        return entry

    def add_packages(self, entry: Entry, changes: tuple[PackageChange, ...]) -> Entry:
        """Write down what a package manager changed, where it was not known beforehand."""
        known = {change.name for change in entry.before.packages}
        more = tuple(change for change in changes if change.name not in known)
        kept = replace(entry, before=replace(entry.before, packages=(*entry.before.packages, *more)))
        self._save(kept)
        return kept

    def finish(self, entry: Entry, made: Made | None = None) -> None:
        """Write down that a step is done."""
        self._save(replace(entry, state="done", made=made, boot=self.target.boot))

    def forget(self, entry: Entry) -> None:
        """Drop a step that was taken back."""
        self.target.remove(f"{_ENTRIES}/{entry.number:04}.json")

    def rebooted(self) -> bool | None:
        """Whether the host was booted since the last step that needs it; None where no step does."""
        waiting = [entry for entry in self.entries() if entry.reboot and entry.boot]
        return None if not waiting else all(entry.boot != self.target.boot for entry in waiting)

    def keep(self, data: bytes) -> str:
        """Keep bytes and return their name."""
        return self.target.keep_bytes(data, _CONTENT)

    def kept(self, name: str) -> bytes:
        """Return bytes that were kept; SetupError where they are damaged."""
        data = self.target.kept(name, _CONTENT)
        if data is None:
            raise SetupError(msg("the journal has lost the content {name}", name=name))
        return data

    def file(self, path: str) -> FileBefore:
        """Remember a path as it is now, and keep its bytes."""
        before = self.seen(path)
        if before.kind == "file":
            return replace(before, content=self.target.keep(path, _CONTENT))
        return before

    def seen(self, path: str) -> FileBefore:
        """A path as it is now, its bytes by their SHA-256 only."""
        status = self.target.status(path)
        if status is None:
            return FileBefore(path, "absent")
        common = (status.mode, status.uid, status.gid, status.modified_ns)
        if status.kind == "link":
            return FileBefore(path, "link", None, status.target, *common)
        if status.kind != "file":
            return FileBefore(path, "other", None, None, *common)
        return FileBefore(path, "file", self.target.digest(path), None, *common)

    def restore(self, before: FileBefore) -> None:
        """Make a path again what it was, with its mode, owner and time."""
        if before.kind == "absent":
            self.target.remove(before.path)
        elif before.kind == "link" and before.target is not None:
            self.target.link(before.path, before.target)
        elif before.kind == "file" and before.content is not None:
            owner = (before.uid, before.gid)
            if not self.target.restore(
                before.path,
                before.content,
                _CONTENT,
                mode=before.mode,
                owner=owner,
                modified_ns=before.modified_ns,
            ):
                raise SetupError(msg("the journal has lost the content {name}", name=before.content))

    def restore_folder(self, before: FileBefore) -> None:
        """Make a folder again that was there, if it is gone."""
        if before.kind == "other":
            self.target.make_folder(before.path, before.mode, (before.uid, before.gid))

    def memory(self, name: str) -> tuple[FileBefore, ...]:
        """Files that were remembered under `name` for the whole of the journal."""
        data = self.target.read(f"{FOLDER}/{name}.json")
        if data is None:
            return ()
        files = _json(data, name).get("files")
        entries = files if isinstance(files, list) else []
        return tuple(decode(FileBefore, entry, f"$.files[{at}]") for at, entry in enumerate(entries))

    def memorise(self, name: str, files: tuple[FileBefore, ...]) -> None:
        """Remember files under `name`, unless there is such a memory already."""
        if self.target.look(f"{FOLDER}/{name}.json") is None:
            self._write(f"{FOLDER}/{name}.json", {"files": [encode(FileBefore, file) for file in files]})

    def discard(self) -> None:
        """Remove the journal and the folders that were made for it."""
        folders = self._head.get("folders")
        self.target.remove_tree(FOLDER)
        if isinstance(folders, list):
            self.target.remove_empty([str(folder) for folder in folders if str(folder) != FOLDER])

    def start(self) -> None:
        """Make the journal's folders, if they are not there."""
        if self.target.look(_HEAD) is None:
            folders = [*self.target.missing_folders(f"{FOLDER}/x")]
            parent = str(Path(FOLDER).parent)
            if not folders and self.target.names(parent) == [Path(FOLDER).name]:
                folders = [FOLDER, parent]  # a start that was cut short made them
            self._head["folders"] = folders
            self.target.make_folders(FOLDER, 0o700)
            for folder in (_ENTRIES, _CONTENT):
                self.target.make_folders(folder, 0o700)
            self._write(_HEAD, self._head)

    def _entry(self, name: str) -> Entry:
        document = _json(self.target.read(f"{_ENTRIES}/{name}") or b"", name)
        try:
            action = action_from_json(document.pop("action", None), f"{name}: $.action")
            raw = decode(_Raw, document, f"{name}: $")
        except FormatError as error:
            raise SetupError(msg("the journal is damaged: {problem}", problem=error.message)) from error
        assert isinstance(raw, _Raw)
        state: Literal["begun", "done"] = raw.state
        return Entry(raw.number, raw.step, action, state, raw.time, raw.boot, raw.reboot, raw.before, raw.made)

    def _save(self, entry: Entry) -> None:
        raw = _Raw(
            entry.number, entry.step, entry.state, entry.time, entry.boot, entry.reboot, entry.before, entry.made
        )
        fields = encode(_Raw, raw)
        assert isinstance(fields, dict)
        self._write(f"{_ENTRIES}/{entry.number:04}.json", {**fields, "action": action_to_json(entry.action)})

    def _write(self, path: str, document: dict[str, object]) -> None:
        self.target.write(path, (json.dumps(document, indent=1) + "\n").encode(), 0o600)


@dataclass(frozen=True, slots=True)
class _Raw:
    number: int
    step: str
    state: Literal["begun", "done"]
    time: int
    boot: str
    reboot: bool
    before: Before
    made: Made | None


def _json(data: bytes, name: str) -> dict[str, object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SetupError(msg("the journal is damaged: {problem}", problem=f"{name}: {error}"[:200])) from error
    if not isinstance(document, dict):
        raise SetupError(msg("the journal is damaged: {problem}", problem=name))
    return document


def read_journal(target: Target) -> Journal:
    """The journal, to look only; an empty one where the host has none. SetupError where it may not be read."""
    return Journal(target)


@contextmanager
def open_journal(target: Target) -> Iterator[Journal]:
    """The journal, to write: made if it is not there, and held against another sgxkit on the same host."""
    if target.live and not target.rooted:
        raise SetupError(msg("only root may change this host"), hint=msg("run it with sudo"))
    Journal(target).start()
    lock = f"{FOLDER}/lock"
    if not target.lock(lock):
        raise SetupError(msg("another sgxkit works on this host"), hint=msg("wait until it has ended"))
    try:
        yield Journal(target)
        journal = Journal(target)
        if target.exists(lock) and not journal.entries() and not journal.due:
            journal.discard()  # a run that did nothing leaves no journal behind
    finally:
        target.unlock(lock)
