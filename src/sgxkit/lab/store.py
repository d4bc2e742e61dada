"""Labs on disk: a folder each, with its seed, its world and its root certificate.

    labs/NAME/seed         32 bytes in hexadecimal digits: every secret of the lab, so 0600 in a 0700 folder
    labs/NAME/world.json   its state (`sgxkit.lab.world`)
    labs/NAME/root.pem     its root certificate, for who is to trust it

A folder appears and disappears by one rename, and a state replaces another by one, so that whoever is killed leaves a
lab whole, as it was, or absent. Leftovers of the killed begin with a dot; who creates a lab sweeps them up.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sgxkit.dcap.trust import anchor_from_pem
from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.file_lock import try_lock
from sgxkit.lab.authority import SEED_SIZE, Lab
from sgxkit.lab.certificates import derive
from sgxkit.lab.world import World, world_from_json, world_to_json
from sgxkit.messages import msg

SEED, WORLD, ROOT = "seed", "world.json", "root.pem"
_LABS_LOCK = ".labs.lock"
_LOCK = ".lock"
_MAX_FILE = 1 << 20
_LEFTOVER_SECONDS = 600
_LOCK_SECONDS = 10.0


def labs_folder(environment: Mapping[str, str] = os.environ, *, root: bool | None = None) -> Path:
    """Return the folder of this user's labs; it need not exist yet.

    For root /var/lib/sgxkit/labs, for others ``$XDG_STATE_HOME/sgxkit/labs`` (XDG Base Directory 0.8: an unset or
    relative one means ~/.local/state); ``$SGXKIT_STATE_DIR`` replaces what comes before ``/labs``.
    """
    if chosen := environment.get("SGXKIT_STATE_DIR"):
        return Path(chosen) / "labs"
    if (hasattr(os, "geteuid") and os.geteuid() == 0) if root is None else root:
        return Path("/var/lib/sgxkit/labs")
    base = Path(environment.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "sgxkit" / "labs"


def seed_from_text(text: str) -> bytes:
    """Make a lab's seed of any text: the same lab for the same text and name."""
    return derive(text.encode(), "seed from text", SEED_SIZE)


def create_lab(world: World, *, seed: bytes | None = None, folder: Path | None = None) -> Lab:
    """Put a new lab on disk, with a random seed unless one is given; raises InputError where there is one already."""
    folder = labs_folder() if folder is None else folder
    lab = Lab(secrets.token_bytes(SEED_SIZE) if seed is None else seed, world)
    target = folder / world.name
    with _writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        if target.exists():
            raise _exists(world.name)
        temporary = folder / f".{world.name}.{secrets.token_hex(8)}.new"
        temporary.mkdir(mode=0o700)
        try:
            write_private(temporary / SEED, lab.seed.hex() + "\n")
            write_private(temporary / WORLD, world_to_json(world))
            write_private(temporary / ROOT, lab.hierarchy.root.pem)
            try:
                temporary.rename(target)
            except FileExistsError:
                raise _exists(world.name) from None
            except OSError:
                if target.exists():  # ENOTEMPTY: another was quicker
                    raise _exists(world.name) from None
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return lab


def load_lab(name: str, *, folder: Path | None = None) -> Lab:
    """Read a lab; raises InputError where there is none, FormatError where its files are none of ours."""
    path = _path(name, folder)
    try:
        seed = _read(path / SEED)
        world = world_from_json(_read(path / WORLD))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            msg("there is no lab {name}", name=name), hint=msg("`sgxkit lab create NAME` makes one")
        ) from None
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    if not re.fullmatch(r"[0-9a-f]{64}\n", seed) or world.name != name:
        raise FormatError(str(path), msg("not the files of a lab"))
    return Lab(bytes.fromhex(seed), world)


def change_lab(name: str, change: Callable[[World], World], *, folder: Path | None = None) -> Lab:
    """Let an event happen: replace a lab's world by what `change` makes of it. Events happen one after the other."""
    path = _path(name, folder)
    lab = load_lab(name, folder=folder)
    busy = InputError(msg("lab {name} is being changed by another process", name=name), hint=msg("try again"))
    with _writing(path), locked(path / _LOCK, _LOCK_SECONDS, busy):
        lab = load_lab(name, folder=folder)
        after = Lab(lab.seed, change(lab.world))
        temporary = path / f".{WORLD}.{secrets.token_hex(8)}"
        try:
            write_private(temporary, world_to_json(after.world))
            temporary.replace(path / WORLD)
        finally:
            temporary.unlink(missing_ok=True)
    return after


def remove_lab(name: str, *, folder: Path | None = None) -> None:
    """Remove a lab, whole or broken; raises InputError where there is none."""
    path = _path(name, folder)
    away = path.with_name(f".{name}.{secrets.token_hex(8)}.old")
    with _writing(path):
        try:
            path.rename(away)
        except FileNotFoundError:
            raise InputError(
                msg("there is no lab {name}", name=name), hint=msg("`sgxkit lab list` shows those there are")
            ) from None
        shutil.rmtree(away)


def lab_names(*, folder: Path | None = None) -> tuple[str, ...]:
    """The names of this user's labs."""
    folder = labs_folder() if folder is None else folder
    try:
        return tuple(sorted(path.parent.name for path in folder.glob(f"*/{WORLD}") if path.parent.name[0] != "."))
    except OSError as error:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=folder, reason=error.strerror or error)
        ) from error


def lab_of_root(public_point: bytes, *, folder: Path | None = None) -> str | None:
    """The name of this user's lab whose root key that is (65 bytes: 04, x, y), None where it is none's."""
    folder = labs_folder() if folder is None else folder
    for name in lab_names(folder=folder):
        try:
            if anchor_from_pem(_read(folder / name / ROOT), name).point == public_point:
                return name
        except (OSError, FormatError):
            continue  # a lab that is just being removed, or was damaged, is nobody's
    return None


def lab_folder(name: str, *, folder: Path | None = None) -> Path:
    """The folder of a lab, whether it exists or not."""
    return _path(name, folder)


def root_certificate(name: str, *, folder: Path | None = None) -> Path:
    """The file with a lab's root certificate, for --trusted-root."""
    return _path(name, folder) / ROOT


def _path(name: str, folder: Path | None) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise InputError(
            msg("there is no lab {name}", name=name), hint=msg("`sgxkit lab list` shows those there are")
        )
    return (labs_folder() if folder is None else folder) / name


def _exists(name: str) -> InputError:
    return InputError(
        msg("there is a lab {name} already", name=name), hint=msg("`sgxkit lab rm {name}` removes it", name=name)
    )


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise FormatError(str(path), msg("it is longer than {limit} bytes", limit=_MAX_FILE))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(str(path), msg("it is not UTF-8"), offset=error.start) from error


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner may read, and wait until it is on disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sweep(folder: Path) -> None:
    """Remove what killed processes left, once it is old enough to be no living one's."""
    for path in (*folder.glob(".*.new"), *folder.glob(".*.old")):
        try:
            left = time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS
        except FileNotFoundError:
            continue  # another has swept it up
        if left:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error


@contextmanager
def labs_locked(seconds: float, otherwise: SgxkitError) -> Iterator[None]:
    """Be the one process that makes a lab and starts its server, or undoes both; raises `otherwise` after `seconds`.

    Raises InputError where there can be no labs.
    """
    path = labs_folder().with_name(_LABS_LOCK)
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    with locked(path, seconds, otherwise):
        yield


@contextmanager
def locked(path: Path, seconds: float, otherwise: SgxkitError) -> Iterator[None]:
    """Hold a lock file's lock, which ends with the process that holds it; raises `otherwise` after `seconds`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while not try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise otherwise
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
