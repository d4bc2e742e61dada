"""Writing a file that somebody asked for: whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.messages import msg


def write_whole(path: Path, text: str) -> None:
    """Write `text` to a temporary file beside `path` and rename it; InputError where that cannot be done.

    An existing file keeps its mode; a new one gets the usual one, as it holds what its owner wants to pass on. What
    is no regular file (a link, a device, a pipe) is written to as it stands: renaming would take its place.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            path.write_text(text, encoding="utf-8", errors="replace")
            return
    except FileNotFoundError:
        pass  # a new file, or a folder that is not there: the temporary file's creation says so
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error),
        hint=msg("name a file in a folder that you may write to"),
    )
