"""Facts from this host, or from a captured document."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from sgxkit.errors import FormatError, HostError, InputError
from sgxkit.host.facts import MAX_DOCUMENT, Facts, load_facts_json
from sgxkit.messages import msg

PROBE = Path(__file__).with_name("probe.py")
"""The probe's file: it can be run alone by any Python 3.6, also on another host."""

GRACE = 3.0
"""Seconds beyond its time limit that the probe may take to start and to write the document."""


def collect_facts(
    timeout: float = 5.0, network: bool = True, *, aesm_socket: str | None = None, root: Path | None = None
) -> Facts:
    """Read the facts of this host, or of the one that lies in folder `root`, within about `timeout` seconds.

    The probe runs as a child process, so that neither a system call that hangs nor Ctrl-C can hold or break the
    caller. Raises HostError when it gives no document. What it could not read is `Unread` in the facts.
    """
    if not sys.executable:
        raise HostError(msg("There is no Python interpreter to run the probe with."))
    command = [sys.executable, "-I", "-S", str(PROBE), "--timeout", repr(timeout)]
    if not network:
        command.append("--no-network")
    if aesm_socket is not None:
        command += ["--aesm-socket", aesm_socket]
    if root is not None:
        command += ["--root", str(root)]
    process = subprocess.Popen(  # noqa: S603 - our own file, an argument list, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = process.communicate(timeout=timeout + GRACE)
    except subprocess.TimeoutExpired as error:
        raise HostError(
            msg("The probe gave no answer within {seconds:g} seconds.", seconds=timeout + GRACE),
            hint=msg("A system call of this host hangs; look for processes in state D and at the kernel's log."),
        ) from error
    finally:
        end(process)
    if process.returncode != 0:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or [f"exit status {process.returncode}"]
        raise HostError(msg("The probe of this host failed: {reason}", reason=lines[-1][:500]))
    try:
        return load_facts_json(output)
    except FormatError as error:
        raise HostError(
            msg("The probe of this host gave no valid document: {reason}", reason=error.message)
        ) from error


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, asked first, so that it ends what it started itself; then let go of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):  # killed in a system call that hangs: the kernel ends it
            process.wait(1.0)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def load_facts(source: Path | str | bytes) -> Facts:
    """Read captured facts from a file's path or its content: our JSON document, sgx-detect's YAML, a support bundle.

    Raises InputError when the file cannot be read, FormatError when it is neither, or is not valid.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    from sgxkit.host.support_bundle import facts_of, is_bundle, read_bundle  # noqa: PLC0415 - for this kind of file

    if is_bundle(data):
        return facts_of(read_bundle(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError("$", msg("is not UTF-8 text"), offset=error.start) from error
    if text.lstrip().startswith("{"):
        return load_facts_json(text)
    from sgxkit.host.sgx_detect_export import (  # noqa: PLC0415 - PyYAML is needed for this kind of file only
        is_sgx_detect_export,
        parse_sgx_detect_export,
    )

    if is_sgx_detect_export(text):
        return parse_sgx_detect_export(text)
    raise FormatError(
        "$",
        msg("is neither a facts document nor an export of sgx-detect"),
        hint=msg("Make one on the host with `sgxkit doctor --export FILE` or `sgx-detect --export`."),
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or str(error))
        ) from error
    if len(data) > MAX_DOCUMENT:
        raise FormatError("$", msg("is larger than {limit} bytes", limit=MAX_DOCUMENT))
    return data
