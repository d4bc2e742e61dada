"""A selftest from its beginning to its end: the platform, a folder to build in, the parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sgxkit.aesm.address import AESMD_SOCKET, UnixAddress
from sgxkit.dcap.sources import CollateralSource
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
from sgxkit.selftest.installed import Installed
from sgxkit.selftest.parts import Selftest
from sgxkit.selftest.program import Machine
from sgxkit.up.surroundings import DEFAULT_LAB, hardware, lab_in, temporary_folder


@contextmanager
def on_hardware(installed: Installed, collateral: CollateralSource) -> Iterator[Selftest]:
    """On this computer's SGX, under Intel's root; raises HostError where it cannot be used."""
    surroundings = hardware(UnixAddress(AESMD_SOCKET), collateral, INTEL_SGX_ROOT_CA)
    with temporary_folder("sgxkit-selftest-") as scratch:
        yield Selftest(surroundings, Machine(None, dict(os.environ)), installed, scratch)


@contextmanager
def emulated(installed: Installed) -> Iterator[Selftest]:
    """On a lab's machine; the lab is removed, with all that was built, when the block ends."""
    with temporary_folder("sgxkit-selftest-") as scratch:
        state = scratch / "state"
        (state / "labs").mkdir(parents=True, mode=0o700)
        with lab_in(state / "labs") as surroundings:
            environment = {**os.environ, "SGXKIT_STATE_DIR": str(state)}
            yield Selftest(surroundings, Machine(DEFAULT_LAB, environment), installed, scratch)
