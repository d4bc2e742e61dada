"""Running a program in Gramine: on this machine's SGX, on a lab's emulated machine, or without SGX."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from sgxkit.errors import InputError
from sgxkit.gramine.installation import Installation
from sgxkit.messages import Message, msg

DEVICES = (Path("/dev/sgx_enclave"), Path("/dev/sgx/enclave"))
_KEPT = 1 << 20
_BLOCK = 1 << 16


class Place(StrEnum):
    """Where a program runs."""

    HARDWARE = "hardware"
    EMULATED = "emulated"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Runner:
    """How a program is started, up to its arguments; `command` is what is executed in its folder."""

    place: Place
    command: tuple[str, ...]
    folder: Path

    def says(self) -> Message:
        """Where it runs, and what that is worth."""
        return {
            Place.HARDWARE: msg("in an enclave, on this machine's SGX"),
            Place.EMULATED: msg("in an enclave on a lab's emulated machine: it protects nothing"),
            Place.DIRECT: msg("in Gramine without SGX (gramine-direct): it protects nothing"),
        }[self.place]


def has_sgx() -> bool:
    """Whether this process may open the device that enclaves are made with."""
    return any(os.access(device, os.R_OK | os.W_OK) for device in DEVICES)


def runner(app: Path, place: Place | None, lab: str, installation: Installation | None) -> Runner:
    """Say how to run `app`, which is ``folder/name``, as for gramine-sgx; without `place` on SGX, or else emulated.

    Raises InputError where Gramine is not installed, or the program is not rendered or not signed.
    """
    chosen = place or (Place.HARDWARE if has_sgx() else Place.EMULATED)
    folder, name = app.parent, app.name.removesuffix(".manifest.sgx").removesuffix(".manifest")
    tool = _tool("gramine-direct" if chosen is Place.DIRECT else "gramine-sgx", installation)
    needed = [f"{name}.manifest"] if chosen is Place.DIRECT else [f"{name}.manifest.sgx", f"{name}.sig"]
    for file in needed:
        if not (folder / file).is_file():
            made = "sgxkit gramine render" if chosen is Place.DIRECT else "sgxkit gramine sign"
            raise InputError(
                msg("{path} is not there", path=folder / file), hint=msg("{command} makes it", command=made)
            )
    command: tuple[str, ...] = (str(tool), name)
    if chosen is Place.EMULATED:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise InputError(msg("programs run on x86-64 Linux only"))
        command = (sys.executable, "-m", "sgxkit", "run", "--lab", lab, "--", *command)
    return Runner(chosen, command, folder)


def _tool(name: str, installation: Installation | None) -> Path:
    """A program of Gramine's: in PATH, or beside the library folder that was named."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    if installation is not None:
        for parent in installation.folder.parents:
            if (parent / "bin" / name).is_file():
                return parent / "bin" / name
    raise InputError(
        msg("Gramine is not installed here"),
        hint=msg("install it (gramineproject.io), or say where it is: --gramine FOLDER"),
    )


def run(how: Runner, arguments: Sequence[str], errors: IO[bytes]) -> tuple[int, bytes]:
    """Run a program to its end. Its standard error goes to `errors` as it comes, and the last of it is returned, too.

    Returned is the exit code first, as of a shell: 128 and the signal's number. Ctrl-C reaches the program alone.
    """
    try:
        process = subprocess.Popen([*how.command, *arguments], cwd=how.folder, stderr=subprocess.PIPE)  # noqa: S603
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be run: {reason}", path=how.command[0], reason=problem.strerror or problem)
        ) from problem
    assert process.stderr is not None
    kept: deque[bytes] = deque(maxlen=_KEPT // _BLOCK)
    reader = threading.Thread(target=_hand_on, args=(process.stderr, errors, kept))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with process:
            reader.start()
            code = process.wait()
            reader.join()
    finally:
        signal.signal(signal.SIGINT, before)
    return (code if code >= 0 else 128 - code), b"".join(kept)


def _hand_on(source: IO[bytes], target: IO[bytes], kept: deque[bytes]) -> None:
    descriptor = source.fileno()
    while block := os.read(descriptor, _BLOCK):
        kept.append(block)
        target.write(block)
        target.flush()
