"""Why SGX is not enabled though the processor has it, by what the firmware left for the system to read.

EFI variables after Intel's sgx-software-enable and DCAP's `UefiVar.h`: SOFTWAREGUARDSTATUS (0 disabled, 1 enabled, 2
software controlled), EPCBIOS (bitmap, largest EPC, current EPC, 32 more words), EPCSW (EPC asked for). The decision
table is that of `sgx-detect`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgxkit.host.checks.evidence import Evidence, known, refused, shown
from sgxkit.host.checks.readings import (
    feature_control,
    feature_control_evidence,
    in_virtual_machine,
    kernel_log,
    kernel_version,
)
from sgxkit.host.facts import Facts, Unread
from sgxkit.host.remedies import firmware
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.isa.msr import decode_feature_control
from sgxkit.messages import Message, msg


@dataclass(frozen=True, slots=True)
class FirmwareSays:
    """The firmware's own account of SGX, and what it suggests."""

    code: str
    cause: Message
    remedies: tuple[Remedy, ...]


def firmware_says(facts: Facts) -> FirmwareSays:
    """Explain why the processor has SGX but it is not usable."""
    status_variable = facts.firmware.variable("SOFTWAREGUARDSTATUS")
    epc_variable = facts.firmware.variable("EPCBIOS")
    status_bytes = _content(facts, "SOFTWAREGUARDSTATUS")
    status = status_bytes[0] & 3 if status_bytes else None
    epc_bytes = _content(facts, "EPCBIOS")
    largest, current = struct.unpack_from("<II", epc_bytes, 4) if len(epc_bytes) >= 12 else (None, None)
    scheduled = _content(facts, "EPCSW")
    if status == 0:
        return FirmwareSays(
            "bios-disabled", msg("SGX is turned off in the BIOS set-up."), (firmware.ENABLE_SGX, firmware.UPDATE_BIOS)
        )
    if status == 1 or (current is not None and current > 0):
        return FirmwareSays(
            "bios-inconsistent",
            msg("The BIOS says that SGX is enabled, but it is not."),
            (firmware.UPDATE_BIOS, firmware.ENABLE_SGX),
        )
    if largest is not None and largest > 0:
        if any(scheduled[:4]):
            return FirmwareSays(
                "enabled-at-next-boot",
                msg("SGX is off now and will be enabled at the next boot."),
                (firmware.REBOOT_PENDING,),
            )
        return FirmwareSays(
            "software-controlled",
            msg("SGX is off; the BIOS leaves it to software to enable it for the next boot."),
            (firmware.ENABLE_SGX_OR_ASK_FOR_IT,),
        )
    if status == 2 and refused(epc_variable):
        return FirmwareSays(
            "efi-unread",
            msg("SGX is off and controlled by software, but the EFI variables may not be read by this user."),
            (firmware.READ_AS_ROOT, firmware.SET_ENABLED_INSTEAD_OF_SOFTWARE_CONTROLLED),
        )
    if status == 2 or largest == 0:
        return FirmwareSays(
            "software-control-broken",
            msg("SGX is off, and the BIOS's software control of it does not work."),
            (firmware.SET_ENABLED_INSTEAD_OF_SOFTWARE_CONTROLLED, firmware.UPDATE_BIOS),
        )
    return _without_efi(facts, unreadable=refused(status_variable))


def _without_efi(facts: Facts, *, unreadable: bool) -> FirmwareSays:
    msr = known(feature_control(facts))
    by_msr = msr is not None and not decode_feature_control(msr).sgx_usable
    if by_msr or kernel_log(facts, "disabled by BIOS", "disabled or unsupported by BIOS") or _flag_cleared(facts):
        return FirmwareSays(
            "bios-disabled", msg("SGX is turned off in the BIOS set-up."), (firmware.ENABLE_SGX, firmware.UPDATE_BIOS)
        )
    if unreadable:
        return FirmwareSays(
            "off-reason-unread",
            msg("SGX is off; why could not be read for lack of rights."),
            (firmware.READ_AS_ROOT, firmware.ENABLE_SGX),
        )
    if in_virtual_machine(facts):
        return FirmwareSays(
            "off-in-guest",
            msg("The hypervisor shows SGX but has not enabled it for this virtual machine."),
            (firmware.GIVE_GUEST_SGX, firmware.SGX_INSTANCE),
        )
    return FirmwareSays(
        "off",
        msg("The processor has SGX, but the firmware has not enabled it."),
        (firmware.ENABLE_SGX, firmware.UPDATE_BIOS),
    )


def _flag_cleared(facts: Facts) -> bool:
    """Linux 5.11 and later clear the flag `sgx` when IA32_FEATURE_CONTROL does not enable it (feat_ctl.c)."""
    info = known(facts.cpu.cpuinfo)
    version = kernel_version(facts)
    return info is not None and version is not None and version >= (5, 11) and "sgx" not in info.flags


def _content(facts: Facts, name: str) -> bytes:
    content = known(facts.firmware.variable(name))
    try:
        return b"" if content is None or content.data is None else bytes.fromhex(content.data)
    except ValueError:
        return b""


def firmware_evidence(facts: Facts) -> Iterator[Evidence]:
    """The EFI variables, the register and the log lines that tell of SGX."""
    for name in ("SOFTWAREGUARDSTATUS", "EPCBIOS", "EPCSW"):
        content = facts.firmware.variable(name)
        yield shown(f"firmware.variables[{name}]", content if isinstance(content, Unread) else content.data or "")
    yield feature_control_evidence(facts)
    yield from kernel_log(facts, "by BIOS", "zero EPC", "SGX1 instruction")
