"""A support bundle: what somebody else needs to find out what is wrong with a host, without its secrets.

It is a plain tar archive: ``bundle.json`` says what is in it, what was left out and why; ``facts.json`` and
``doctor.json`` are the facts and their judgement; ``logs/``, ``config/`` and ``included/`` hold texts. The same
content gives the same bytes: members are sorted, and have neither times nor owners. Secrets are taken out by
`sgxkit.host.redaction` before anything is packed.

Files are read without following symbolic links anywhere in their path, so that nobody who may write to a folder of
configuration can have another file packed by root.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.host.diagnose import logs_in_facts
from sgxkit.host.facts import Facts, facts_to_json, load_facts_json
from sgxkit.host.log_source import CommandLog, LogSource, TextLog, journal_of_aesm, kernel_log
from sgxkit.host.profiles import PROFILES
from sgxkit.host.redaction import redact, redact_values
from sgxkit.host.report import diagnose, document
from sgxkit.messages import Message, msg

SCHEMA = 1
"""Version of ``bundle.json``."""

MAX_BUNDLE = 16 << 20
"""Bytes of a bundle, packed."""

MAX_LOG = 1 << 20
"""Bytes of a log; of a longer one the end is taken."""

MAX_FILE = 256 << 10
"""Bytes of a configuration file; of a longer one the begin is taken."""

MAX_INCLUDED = 2 << 20
"""Bytes of a file that was asked for; of a longer one the end is taken."""

MAX_MEMBERS = 200

CONFIGURATION_FILES = (
    "/etc/aesmd.conf",
    "/etc/mpa_registration.conf",
    "/etc/qgs.conf",
    "/etc/sgx_default_qcnl.conf",
    "/etc/tdx-attest.conf",
    "/opt/intel/sgx-dcap-pccs/config/default.json",
)
LOG_FILES = ("/opt/intel/sgx-dcap-pccs/logs/pccs_server.log", "/var/log/mpa_registration.log")

_MANIFEST = "bundle.json"
_FACTS = "facts.json"
_KERNEL_LOG = "logs/dmesg.txt"
_REGISTRATION_LOG = "logs/var/log/mpa_registration.log"
_JOURNAL_LINES = 20_000
_TAR_MAGIC = slice(257, 262), b"ustar"
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,80}(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]{0,80}){0,8}")


@dataclass(frozen=True, slots=True)
class Member:
    """A text of a bundle: where it comes from, whether it was cut, and how many secrets were taken out."""

    name: str
    source: str
    data: bytes
    truncated: bool = False
    removed: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not in a bundle, and why."""

    source: str
    reason: Message


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, sorted by name."""

    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]

    def member(self, name: str) -> bytes | None:
        """The content of a member; None where there is none of that name."""
        return next((member.data for member in self.members if member.name == name), None)


def make_bundle(
    facts: Facts,
    logs: Iterable[LogSource],
    files: Iterable[tuple[str, Path]],
    *,
    version: str,
    profile: str = "attest",
) -> Bundle:
    """Put together facts, what doctor says of them, logs, and files under their names in the bundle.

    What cannot be read, is no text or does not fit is left out and named. Nothing is written.
    """
    diagnosis = document(diagnose(facts, PROFILES[profile]), version=version)
    members = [
        _document(_FACTS, "sgxkit doctor --export", redact_values(facts_to_json(facts))),
        _document("doctor.json", f"sgxkit doctor --for {profile} --json", redact_values(diagnosis)),
    ]
    left_out: list[LeftOut] = []
    for log in logs:
        try:
            data, truncated = _tail(log)
        except SgxkitError as error:
            left_out.append(LeftOut(log.name, error.message))
        else:
            members.append(_text(f"logs/{log.name}.txt", log.name, data, truncated=truncated))
    for name, path in files:
        try:
            members.append(_file(name, path))
        except OSError as error:
            left_out.append(LeftOut(str(path), _reason(error)))
        except _NotTakenError as error:
            left_out.append(LeftOut(str(path), error.reason))
    return _within_limits(members, left_out, version=version)


def own_logs() -> tuple[CommandLog, ...]:
    """The logs of this host that a bundle holds."""
    journal = journal_of_aesm()
    return (replace(journal, command=(*journal.command, f"--lines={_JOURNAL_LINES}")), kernel_log())


def own_files(root: Path = Path("/")) -> tuple[tuple[str, Path], ...]:
    """The files of a host that a bundle holds, each with its name there."""
    return (
        *((f"config{path}", root / path[1:]) for path in CONFIGURATION_FILES),
        *((f"logs{path}", root / path[1:]) for path in LOG_FILES),
    )


def included_files(paths: Sequence[Path]) -> tuple[tuple[str, Path], ...]:
    """Files that somebody asked for, each with its name in a bundle."""
    named = []
    for number, path in enumerate(paths, 1):
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", path.name)[-60:].lstrip("-") or "file"
        named.append((f"included/{number:02}-{safe}", path.parent.resolve() / path.name))
    return tuple(named)


def pack(bundle: Bundle) -> bytes:
    """Return the archive; the same bundle gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in bundle.members:
            header = tarfile.TarInfo(member.name)
            header.size = len(member.data)
            header.mode = 0o600
            archive.addfile(header, io.BytesIO(member.data))
    return buffer.getvalue()


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write the archive, readable by its owner alone, to a temporary file that is then renamed.

    Raises InputError where there is something else than a file, or nothing can be written.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(
                msg("{path} is no file", path=path), hint=msg("name a file in a folder that you may write to")
            )
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pack(bundle))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error),
            hint=msg("name a file in a folder that you may write to"),
        ) from error


def is_bundle(head: bytes) -> bool:
    """Whether a file that begins so is a tar archive, as bundles are."""
    place, magic = _TAR_MAGIC
    return head[place] == magic


def read_bundle(data: bytes) -> Bundle:
    """Read an archive; raises FormatError for what is no bundle, or beyond the limits."""
    if len(data) > MAX_BUNDLE:
        raise FormatError("$", msg("is larger than {limit} bytes", limit=MAX_BUNDLE))
    members: dict[str, Member] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for header in archive:
                if not header.isreg() or not _NAME.fullmatch(header.name) or header.name in members:
                    raise FormatError(header.name[:100], msg("is no member of a support bundle"))
                if len(members) >= MAX_MEMBERS or header.size > len(data):
                    raise FormatError(header.name, msg("is beyond the limits of a support bundle"))
                file = archive.extractfile(header)
                content = b"" if file is None else file.read()
                members[header.name] = Member(header.name, header.name, content)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise FormatError("$", msg("is no support bundle: {reason}", reason=str(error)[:200])) from error
    if _MANIFEST not in members or _FACTS not in members or _schema(members[_MANIFEST].data) != SCHEMA:
        raise FormatError(
            "$",
            msg("is no support bundle that this sgxkit reads"),
            hint=msg("Unpack other archives and name the logs in them."),
        )
    return Bundle(tuple(members.values()), ())


def _schema(data: bytes) -> object:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content.get("schema") if isinstance(content, dict) else None


def facts_of(bundle: Bundle) -> Facts:
    """The facts of the bundle's host; FormatError where they are none."""
    return load_facts_json(bundle.member(_FACTS) or b"")


def logs_of(bundle: Bundle, name: str) -> tuple[TextLog, ...]:
    """The logs of a bundle, each under the bundle's name; and those in its facts that it does not hold itself."""
    present = {
        member.name: TextLog(f"{name}:{member.name}", member.data)
        for member in bundle.members
        if member.name.startswith(("logs/", "included/"))
    }
    stands_for = {f"{name}:kernel.log": _KERNEL_LOG, f"{name}:registration.log": _REGISTRATION_LOG}
    rest = [log for log in logs_in_facts(facts_of(bundle), name) if stands_for[log.name] not in present]
    return (*present.values(), *rest)


def manifest(bundle: Bundle, *, version: str) -> dict[str, object]:
    """What ``bundle.json`` says (docs/schema/support-bundle.schema.json)."""
    return {
        "schema": SCHEMA,
        "sgxkit": version,
        "members": [
            {
                "name": member.name,
                "source": member.source,
                "bytes": len(member.data),
                "truncated": member.truncated,
                "secrets_removed": member.removed,
            }
            for member in bundle.members
            if member.name != _MANIFEST
        ],
        "left_out": [{"source": entry.source, "reason": str(entry.reason)} for entry in bundle.left_out],
    }


class _NotTakenError(Exception):
    """A file that is not for a bundle."""

    def __init__(self, reason: Message) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _within_limits(members: Iterable[Member], left_out: list[LeftOut], *, version: str) -> Bundle:
    kept: list[Member] = []
    space = MAX_BUNDLE - (MAX_BUNDLE >> 4)  # the rest is for headers and the manifest
    for member in members:
        space -= len(member.data) + 1024
        if space < 0 or len(kept) >= MAX_MEMBERS - 1:
            left_out.append(LeftOut(member.source, msg("the bundle would be too large")))
            space += len(member.data) + 1024
        else:
            kept.append(member)
    content = Bundle(tuple(sorted(kept, key=lambda member: member.name)), tuple(left_out))
    head = _document(_MANIFEST, "sgxkit support-bundle", manifest(content, version=version))
    return Bundle(tuple(sorted((head, *content.members), key=lambda member: member.name)), content.left_out)


def _document(name: str, source: str, content: object) -> Member:
    return Member(name, source, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _text(name: str, source: str, data: bytes, *, truncated: bool) -> Member:
    redacted = redact(data.decode("utf-8", "replace"))
    return Member(name, source, redacted.text.encode(), truncated, redacted.count)


def _tail(log: LogSource) -> tuple[bytes, bool]:
    """The end of a log, from the begin of a line, and whether something before it is missing."""
    held, truncated = b"", False
    with log.open() as stream:
        while data := stream.read(1 << 20):
            held += data
            if len(held) > 2 * MAX_LOG:
                held, truncated = held[-MAX_LOG:], True
    return _last_lines(held, MAX_LOG, truncated=truncated)


def _last_lines(data: bytes, limit: int, *, truncated: bool) -> tuple[bytes, bool]:
    if len(data) > limit:
        data, truncated = data[-limit:], True
    return (data[data.find(b"\n") + 1 :] if truncated else data), truncated


def _file(name: str, path: Path) -> Member:
    limit = MAX_FILE if name.startswith("config/") else MAX_LOG if name.startswith("logs/") else MAX_INCLUDED
    with os.fdopen(_open_without_links(path), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _NotTakenError(msg("is no regular file"))
        if name.startswith("config/"):
            data = file.read(limit + 1)
            data, truncated = data[:limit], len(data) > limit
        else:
            file.seek(max(0, status.st_size - limit))
            data, truncated = _last_lines(file.read(limit), limit, truncated=status.st_size > limit)
    if b"\0" in data:
        raise _NotTakenError(msg("is no text"))
    return _text(name, str(path), data, truncated=truncated)


def _open_without_links(path: Path) -> int:
    """Open a file by its absolute path, one folder after the other, following no symbolic link; OSError."""
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: a pipe under that name does not hold us; it is refused afterwards.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(path.name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _reason(error: OSError) -> Message:
    if error.errno == errno.ENOENT:
        return msg("is not there")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return msg("is a symbolic link, or lies behind one; links are not followed")
    return msg("cannot be read: {reason}", reason=error.strerror or error)


def bundle_in(path: Path) -> Bundle | None:
    """The bundle in a file; None where it is none, or cannot be read. FormatError for a malformed one."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(512)
            data = head + file.read(MAX_BUNDLE + 1 - len(head)) if is_bundle(head) else b""
    except OSError:
        return None
    if not data:
        return None
    try:
        return read_bundle(data)
    except FormatError as error:
        raise FormatError(str(path), error.problem, hint=error.hint) from error
