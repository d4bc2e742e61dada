"""A lab's machine as a platform that enclaves run on."""

from __future__ import annotations

from sgxkit.emulator.epc import Epc
from sgxkit.emulator.platform import EPC_BASE, EmulatedPlatform
from sgxkit.emulator.processor import Processor
from sgxkit.lab.authority import Lab


def platform_of(lab: Lab) -> EmulatedPlatform:
    """The machine of `lab`, at its present TCB and just booted: its keys and reports are those that AESM knows."""
    return EmulatedPlatform(Processor(lab.fuses, Epc(EPC_BASE, lab.world.epc_size)), lab.world.name)
