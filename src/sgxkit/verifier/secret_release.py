"""Secrets, to whom they were given, and whether they may be given again."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.errors import InputError, SgxkitError
from sgxkit.isa.report import ReportBody
from sgxkit.messages import msg
from sgxkit.verifier.peer import Peer

MAX_SECRET_SIZE = 1 << 20
MAX_SECRETS = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class UnknownSecretError(SgxkitError):
    """There is no secret of that name."""

    code = "secret.unknown"


class AlreadyReleasedError(SgxkitError):
    """The secret was given away before, and is given once only."""

    code = "secret.released"


@dataclass(frozen=True, slots=True)
class Release:
    """Who was given what, and when."""

    time: str
    secret: str
    identity: Mapping[str, str]

    def to_json(self) -> str:
        return json.dumps({"time": self.time, "secret": self.secret, **self.identity})


@dataclass(slots=True)
class Secrets:
    """Secrets by name; may be used by several threads.

    once     each is given away at most once. It counts as given before it is sent: one that is lost on the way
             must be renewed.
    record   a file to which each release is appended, and read at the start, so that `once` outlives the process.
    """

    values: Mapping[str, bytes] = field(repr=False)
    once: bool = False
    record: Path | None = None
    _released: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.values) <= MAX_SECRETS:
            raise InputError(
                msg("{count} secrets; there must be 1 to {limit}", count=len(self.values), limit=MAX_SECRETS)
            )
        for name, value in self.values.items():
            if not _NAME.fullmatch(name):
                raise InputError(
                    msg("{name} cannot be the name of a secret", name=name),
                    hint=msg("up to 64 letters, digits, dots, dashes and underscores"),
                )
            if len(value) > MAX_SECRET_SIZE:
                raise InputError(
                    msg(
                        "secret {name}: {size} bytes, at most {limit}",
                        name=name,
                        size=len(value),
                        limit=MAX_SECRET_SIZE,
                    )
                )
        if self.record is not None:
            self._released |= _read_record(self.record)

    def release(self, name: str, peer: Peer) -> tuple[bytes, Release]:
        """Return the secret for a verified peer, once that is on record; raises SgxkitError where there is none."""
        with self._lock:
            if name not in self.values:
                raise UnknownSecretError(msg("there is no secret {name}", name=name))
            if self.once and name in self._released:
                raise AlreadyReleasedError(msg("secret {name} was released before", name=name))
            release = Release(datetime.now(UTC).isoformat(timespec="seconds"), name, _identity(peer))
            if self.record is not None:
                _append(self.record, release)
            self._released.add(name)
            return self.values[name], release


def _identity(peer: Peer) -> dict[str, str]:
    body = peer.verifications[0].quote.body
    certificate = {"certificate_sha256": peer.fingerprint}
    if isinstance(body, ReportBody):
        return {"mrenclave": body.mrenclave.hex(), "mrsigner": body.mrsigner.hex(), **certificate}
    return {"mrtd": body.mrtd.hex(), **certificate}


def _read_record(path: Path) -> set[str]:
    try:
        text = path.read_text(encoding="utf-8")
        return {str(json.loads(line)["secret"]) for line in text.splitlines()}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Going on without it could release a secret twice.
        raise InputError(
            msg("{path} is not a record of releases: {reason}", path=path, reason=str(error)[:200])
        ) from error


def _append(path: Path, release: Release) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(release.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error
