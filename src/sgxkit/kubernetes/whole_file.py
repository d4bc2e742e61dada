"""Files that others read while we write them: they appear whole, with the mode that was meant."""

from __future__ import annotations

import secrets
from pathlib import Path

from sgxkit.errors import HostError
from sgxkit.messages import msg

_PUBLIC = 0o644


def write_public(path: Path, text: str) -> None:
    """Write a file that everybody may read, making its folder; raises HostError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.chmod(_PUBLIC)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise HostError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error
