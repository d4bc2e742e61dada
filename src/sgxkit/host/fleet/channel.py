"""Primitives on a host at the other end of an SSH connection, which pyinfra made.

One program runs there for as long as the connection lives: `primitives.py`, sent through its standard input to the
host's own Python 3.6 or later. Requests go to it and answers come back a line each, so that a step costs round trips
and no new processes. When the connection ends, so does it, and lets go of its lock.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Protocol

from sgxkit.errors import HostError
from sgxkit.host.setup import primitives
from sgxkit.messages import msg

MAX_ANSWER = 256 * 1024 * 1024
_SOURCE = primitives.__file__
FIND_PYTHON = (
    "for python in python3 /usr/libexec/platform-python; do "
    'if command -v "$python" > /dev/null 2>&1; then exec "$python" -I -S -u -c "$0"; fi; done; '
    "echo 'no Python 3 on this host' >&2; exit 127"
)
"""For sh -c, with the Python text as its first argument."""


def bootstrap() -> tuple[str, bytes]:
    """The Python text that reads a program from its standard input and runs it, and that program."""
    with open(_SOURCE, "rb") as file:  # noqa: PTH123 - one call in a process that gevent patched
        source = file.read()
    text = f"import sys;exec(compile(sys.stdin.buffer.read({len(source)}),'primitives','exec'))"
    return text, source


class Reader(Protocol):
    """What answers come from."""

    def readline(self, size: int) -> bytes | str: ...


class Writer(Protocol):
    """What requests go to."""

    def write(self, data: bytes) -> object: ...
    def flush(self) -> object: ...


class Channel:
    """A `Call` for `Target`: performs primitives far away, and counts the round trips."""

    def __init__(self, sink: Writer, source: Reader) -> None:
        self._sink, self._source = sink, source
        self.round_trips = 0

    def __call__(self, name: str, *arguments: Any) -> Any:
        request = json.dumps({"op": name, "arguments": primitives.encoded(list(arguments))})
        try:
            self._sink.write(request.encode("ascii") + b"\n")
            self._sink.flush()
            line = self._source.readline(MAX_ANSWER)
        except OSError as error:
            raise HostError(
                msg("the connection broke: {reason}", reason=str(error) or type(error).__name__)
            ) from error
        if not line:
            raise HostError(msg("the connection broke: {reason}", reason="EOF"))
        self.round_trips += 1
        try:
            answer = json.loads(line)
            if "result" in answer:
                return primitives.decoded(answer["result"])
            number, text = int(answer["errno"] or 0), str(answer["text"])[:500]
        except (ValueError, KeyError, TypeError, base64.binascii.Error) as error:  # type: ignore[attr-defined]
            raise HostError(msg("the host answered with something else")) from error
        raise OSError(number, text)
