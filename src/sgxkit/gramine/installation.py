"""Where Gramine is installed: its PAL, its LibOS, its C library."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.messages import msg

USUAL_FOLDERS = tuple(
    Path(prefix, library, "gramine")
    for prefix in ("/usr", "/usr/local", "/opt/gramine")
    for library in ("lib/x86_64-linux-gnu", "lib64", "lib")
)
"""Where distributions, Gramine's packages and `meson install` put it."""

_WRAPPER_LIMIT = 1 << 16
_HOST_PAL = re.compile(r"^HOST_PAL_PATH=(?P<path>/\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Installation:
    """One installed Gramine; `folder` is what its build calls pkglibdir. The files may be missing."""

    folder: Path

    @property
    def libpal(self) -> Path:
        """The PAL for SGX, which is measured."""
        return self.folder / "sgx" / "libpal.so"

    @property
    def libos(self) -> Path:
        """The LibOS, whose hash is in every manifest."""
        return self.folder / "libsysdb.so"

    def runtime(self, libc: str = "glibc") -> Path:
        """The folder of the patched C library."""
        return (self.folder / "runtime" / libc).resolve()


def find_installation(given: Path | None = None) -> Installation | None:
    """Return the Gramine at `given` (its prefix or its library folder), else the one in PATH or in a usual place.

    None where nothing is given and there is none; InputError where there is none at `given`.
    """
    if given is not None:
        for folder in (given, *(given / library / "gramine" for library in ("lib/x86_64-linux-gnu", "lib64", "lib"))):
            if Installation(folder).libos.is_file() or Installation(folder).libpal.is_file():
                return Installation(folder.absolute())
        raise InputError(
            msg("no Gramine is installed at {path}", path=given),
            hint=msg("give the prefix of its installation, or the folder that holds libsysdb.so"),
        )
    for folder in (*_from_path(), *USUAL_FOLDERS):
        if Installation(folder).libos.is_file():
            return Installation(folder)
    return None


def require_installation(given: Path | None = None) -> Installation:
    """Return the installed Gramine; InputError where there is none."""
    found = find_installation(given)
    if found is None:
        raise InputError(
            msg("Gramine is not installed here"),
            hint=msg("install it (gramineproject.io), or say where it is: --gramine FOLDER"),
        )
    return found


def _from_path() -> tuple[Path, ...]:
    """The folder that the wrapper `gramine-sgx` or `gramine-direct` in PATH names."""
    for name in ("gramine-sgx", "gramine-direct"):
        wrapper = shutil.which(name)
        if wrapper is None:
            continue
        try:
            with Path(wrapper).open(encoding="utf-8", errors="replace") as file:
                found = _HOST_PAL.search(file.read(_WRAPPER_LIMIT))
        except OSError:
            continue
        if found is not None:
            return (Path(found["path"]).parent,)
    return ()
