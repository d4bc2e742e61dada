"""A port of a pod on this computer, through the API server: by kubectl, whose credentials may be a program's."""

from __future__ import annotations

import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgxkit.errors import HostError, InputError
from sgxkit.messages import msg

_SECONDS = 20.0
_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ->")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MAX_OUTPUT = 1 << 16


def parse_pod(text: str) -> tuple[str, str]:
    """Read ``NAME`` or ``NAMESPACE/NAME`` of a pod; raises InputError."""
    namespace, _, name = text.rpartition("/")
    if not _NAME.fullmatch(name) or not _NAME.fullmatch(namespace or "default"):
        raise InputError(msg("{text} is no pod", text=text), hint=msg("it is NAME, or NAMESPACE/NAME"))
    return namespace or "default", name


@contextmanager
def forwarded(
    namespace: str, pod: str, port: int, *, kubeconfig: Path | None = None, context: str | None = None
) -> Iterator[int]:
    """Forward a free port of 127.0.0.1 to the pod's `port` until the block ends; yields it.

    Raises InputError without kubectl, HostError where it cannot forward.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise InputError(msg("kubectl is needed to reach a pod, and is not installed"))
    command = [program, "port-forward", "--address", "127.0.0.1", "--namespace", namespace, f"pod/{pod}", f":{port}"]
    command += [] if kubeconfig is None else ["--kubeconfig", str(kubeconfig)]
    command += [] if context is None else ["--context", context]
    process = subprocess.Popen(  # noqa: S603 - an argument list, no shell; names were checked
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield _local_port(process)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _local_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    deadline, text = time.monotonic() + _SECONDS, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and len(text) < _MAX_OUTPUT:
            if selector.select(deadline - time.monotonic()):
                read = process.stdout.read1(4096) if hasattr(process.stdout, "read1") else b""
                text += read
                found = _FORWARDING.search(text)
                if found is not None:
                    return int(found[1])
                if not read:
                    break
    lines = text.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    raise HostError(msg("kubectl cannot forward a port: {reason}", reason=lines[-1][:500]))
