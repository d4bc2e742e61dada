"""The catalogue as it is used: the shipped files, and the reader's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sgxkit.errors import FormatError, InputError
from sgxkit.host.catalogue.entry import Entry
from sgxkit.host.catalogue.reader import MAX_FILE, read_entries
from sgxkit.messages import msg

SHIPPED = Path(__file__).parent
"""The folder of the shipped files."""

MAX_FILES = 200
"""Files of the reader's own."""


def own_folder(environment: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Path:
    """Where the reader's own files are: catalogue.d of the configuration folder.

    For root /etc/sgxkit/catalogue.d, for others ``$XDG_CONFIG_HOME/sgxkit/catalogue.d`` (XDG Base Directory 0.8: an
    unset or relative one means ~/.config).
    """
    if os.geteuid() == 0 if root is None else root:
        return Path("/etc/sgxkit/catalogue.d")
    base = Path(environment.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = Path.home() / ".config"
    return base / "sgxkit" / "catalogue.d"


def shipped_entries() -> tuple[Entry, ...]:
    """The entries that come with sgxkit."""
    return _read(sorted(SHIPPED.glob("*.toml")), name=lambda path: path.name)


def load_catalogue(folder: Path | None = None) -> tuple[Entry, ...]:
    """The shipped entries and those of `folder`, the reader's own by default, which replace shipped ones of their id.

    Raises FormatError, with file, line and key, for a file that is not sound; InputError for one that cannot be read.
    """
    folder = own_folder() if folder is None else folder
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        files = []
    except OSError as error:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=folder, reason=error.strerror or error)
        ) from error
    if len(files) > MAX_FILES:
        raise InputError(msg("{path} holds more than {limit} files", path=folder, limit=MAX_FILES))
    own = _read(files, name=str)
    replaced = {entry.id for entry in own}
    return (*(entry for entry in shipped_entries() if entry.id not in replaced), *own)


def read_bytes(path: Path) -> bytes:
    """Read a file of the catalogue, at most one byte more than it may have; InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error


def _read(files: Iterable[Path], name: Callable[[Path], str]) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for path in files:
        for entry in read_entries(read_bytes(path), name(path)):
            if entry.id in entries:
                raise FormatError(
                    f"{name(path)}: {entry.id}", msg("is also an entry of {file}", file=entries[entry.id].origin)
                )
            entries[entry.id] = entry
    return tuple(entries.values())
