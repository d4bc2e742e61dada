"""Reading an argument that names a file, or standard input where it is ``-``."""

from __future__ import annotations

import sys
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.messages import msg


def read_input(path: Path, limit: int) -> bytes:
    """Read a file or, for ``-``, standard input: at most `limit` bytes, and one more that shows there are more.

    Raises InputError where it cannot be read.
    """
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(limit + 1)
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
