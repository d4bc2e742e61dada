"""A served lab as other processes see it: announced by a file in its folder, asked and stopped by that.

The file is believed only when the server that it names answers as this lab with the same process number: a process
that was killed leaves its file behind, and its number may be another's by now.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sgxkit.dcap.json_fields import as_object, integer, string
from sgxkit.dcap.signed_json import parse_strict_json
from sgxkit.errors import FormatError, HostError, InputError
from sgxkit.lab.serve import STATUS_PATH, TLS_CERTIFICATE, Serving
from sgxkit.lab.store import lab_folder, load_lab, locked, write_private
from sgxkit.messages import msg

ANNOUNCEMENT = "serving.json"
LOG = "serve.log"
_LOCK = ".serving.lock"
_START_SECONDS = 20.0
_STOP_SECONDS = 15.0
_ASK_SECONDS = 2.0
_MAX_FILE = 1 << 16


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a lab is served, and by which process."""

    name: str
    pid: int
    pcs: str
    aesm: str
    root_crl: str


@contextmanager
def announced(serving: Serving, *, folder: Path | None = None) -> Iterator[Announcement]:
    """Let others know, until the block ends, that this process serves the lab."""
    home = lab_folder(serving.name, folder=folder)
    announcement = Announcement(serving.name, os.getpid(), serving.pcs, str(serving.aesm), serving.root_crl)
    temporary = home / f".{ANNOUNCEMENT}.{secrets.token_hex(8)}"
    try:
        write_private(temporary, json.dumps(announcement_document(announcement), indent=2) + "\n")
        temporary.replace(home / ANNOUNCEMENT)
    finally:
        temporary.unlink(missing_ok=True)
    try:
        yield announcement
    finally:
        (home / ANNOUNCEMENT).unlink(missing_ok=True)


@contextmanager
def only_server(name: str, *, folder: Path | None = None) -> Iterator[None]:
    """Be the one process that serves a lab; raises InputError where there is another."""
    load_lab(name, folder=folder)
    with locked(
        lab_folder(name, folder=folder) / _LOCK,
        0.0,
        InputError(
            msg("lab {name} is served already", name=name),
            hint=msg("`sgxkit lab status {name}` says where", name=name),
        ),
    ):
        yield


def announcement_document(announcement: Announcement) -> dict[str, object]:
    """An announcement as JSON."""
    return {
        "lab": announcement.name,
        "emulated": True,
        "pid": announcement.pid,
        "pcs": announcement.pcs,
        "aesm": announcement.aesm,
        "root_crl": announcement.root_crl,
    }


def find_server(name: str, *, folder: Path | None = None) -> Announcement | None:
    """Who serves a lab now, None where nobody does; raises InputError where there is no such lab."""
    load_lab(name, folder=folder)
    home = lab_folder(name, folder=folder)
    try:
        with (home / ANNOUNCEMENT).open("rb") as file:
            text = file.read(_MAX_FILE).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=home / ANNOUNCEMENT, reason=error)) from error
    document = as_object(parse_strict_json(text, ANNOUNCEMENT), ANNOUNCEMENT)
    found = Announcement(
        string(document, "lab", ANNOUNCEMENT),
        integer(document, "pid", ANNOUNCEMENT, limit=1 << 31),
        string(document, "pcs", ANNOUNCEMENT),
        string(document, "aesm", ANNOUNCEMENT),
        string(document, "root_crl", ANNOUNCEMENT),
    )
    return found if found.name == name and _answers(found, home) else None


def start_server(name: str, options: Sequence[str], *, folder: Path | None = None) -> Announcement:
    """Serve a lab in a process of its own, with the options of `sgxkit lab serve`; returns when it serves.

    Raises InputError, HostError where it does not come up.
    """
    if find_server(name, folder=folder) is not None:
        raise InputError(
            msg("lab {name} is served already", name=name),
            hint=msg("`sgxkit lab status {name}` says where", name=name),
        )
    home = lab_folder(name, folder=folder)
    descriptor = os.open(home / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program, and arguments that were parsed before
            [sys.executable, "-m", "sgxkit", "lab", "serve", name, *options],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + _START_SECONDS
    try:
        while time.monotonic() < deadline and process.poll() is None:
            found = find_server(name, folder=folder)
            if found is not None and found.pid == process.pid:
                # It lives on without us, and is nobody's child to wait for.
                process.returncode = 0
                return found
            time.sleep(0.05)
    finally:
        # Also where the caller is interrupted; not where it is served.
        if process.returncode is None:
            process.kill()
            process.wait()
    raise HostError(msg("lab {name} could not be served", name=name), hint=msg("{path} says why", path=home / LOG))


def stop_server(name: str, *, folder: Path | None = None) -> bool:
    """Stop whoever serves a lab; returns whether anybody did. Raises HostError where it does not stop."""
    found = find_server(name, folder=folder)
    if found is None:
        return False
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + _STOP_SECONDS
    while find_server(name, folder=folder) is not None:
        if time.monotonic() > deadline:
            raise HostError(msg("process {pid} does not stop serving lab {name}", pid=found.pid, name=name))
        time.sleep(0.05)
    return True


def _answers(found: Announcement, home: Path) -> bool:
    parts = urlsplit(found.pcs)
    if parts.hostname != "127.0.0.1" or parts.port is None:
        return False
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=home / TLS_CERTIFICATE)
            connection = http.client.HTTPSConnection("127.0.0.1", parts.port, timeout=_ASK_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=_ASK_SECONDS)
        try:
            connection.request("GET", STATUS_PATH)
            answer = connection.getresponse().read(_MAX_FILE)
        finally:
            connection.close()
        document = as_object(parse_strict_json(answer.decode(), STATUS_PATH), STATUS_PATH)
        return (document.get("lab"), document.get("pid")) == (found.name, found.pid)
    except (OSError, http.client.HTTPException, UnicodeDecodeError, FormatError):
        return False  # nobody is there, or another program is
