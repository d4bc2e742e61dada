"""What several checks look up in the facts in the same way."""

from __future__ import annotations

from collections.abc import Iterator

from sgxkit.host.checks.evidence import Evidence, known, register, shown
from sgxkit.host.facts import CpuidOfCpu, Facts, Reading, Unread
from sgxkit.isa.cpuid import CpuidRegisters, SgxEnumeration, decode_sgx
from sgxkit.isa.msr import Msr


def first_cpu(facts: Facts) -> CpuidOfCpu | None:
    """The first logical CPU whose CPUID was read."""
    return next((cpu for cpu in known(facts.cpu.cpuid) or () if not isinstance(cpu.leaves, Unread)), None)


def enumeration(facts: Facts) -> SgxEnumeration | None:
    """What CPUID says of SGX on the first logical CPU that was read; None when none was."""
    cpu = first_cpu(facts)
    if cpu is None or isinstance(cpu.leaves, Unread):
        return None
    return decode_sgx(
        {
            (entry.leaf, entry.subleaf): CpuidRegisters(entry.eax, entry.ebx, entry.ecx, entry.edx)
            for entry in cpu.leaves
        }
    )


def leaf_evidence(facts: Facts, leaf: int, subleaf: int, *registers: str) -> Iterator[Evidence]:
    """Registers of a leaf of the first CPU, as read."""
    cpu = first_cpu(facts)
    entry = None if cpu is None else cpu.leaf(leaf, subleaf)
    if cpu is None or entry is None:
        yield Evidence(f"cpu.cpuid[{leaf:#x}.{subleaf}]", "not read" if cpu is None else "no such leaf")
        return
    for name in registers:
        yield register(f"cpu.cpuid[{leaf:#x}.{subleaf}].{name}", getattr(entry, name))


def in_virtual_machine(facts: Facts) -> bool:
    """Whether a hypervisor says that it is there."""
    hypervisor = known(facts.system.hypervisor)
    return hypervisor is not None and hypervisor.present


def feature_control(facts: Facts) -> Reading[int]:
    """IA32_FEATURE_CONTROL of the first logical CPU."""
    msrs = facts.cpu.msrs
    if isinstance(msrs, Unread):
        return msrs
    if not msrs:
        return Unread("unrecorded", "no MSR is in this document")
    return msrs[0].value(Msr.IA32_FEATURE_CONTROL)


def feature_control_evidence(facts: Facts) -> Evidence:
    """IA32_FEATURE_CONTROL as read."""
    value = feature_control(facts)
    return shown("cpu.msrs[0x3a]", value) if isinstance(value, Unread) else register("cpu.msrs[0x3a]", value, 16)


def kernel_log(facts: Facts, *phrases: str) -> tuple[Evidence, ...]:
    """Lines of the kernel's log that contain one of `phrases`."""
    log = known(facts.kernel.log)
    lines = () if log is None else log.lines
    return tuple(
        Evidence("kernel.log", line) for line in lines if any(phrase.lower() in line.lower() for phrase in phrases)
    )


def kernel_version(facts: Facts) -> tuple[int, int] | None:
    """Major and minor version of the running kernel; None when they could not be read or told."""
    release = known(facts.kernel.release)
    parts = (release or "").split("-")[0].split(".")
    if len(parts) < 2 or not all(part.isdecimal() and len(part) < 10 for part in parts[:2]):
        return None
    return int(parts[0]), int(parts[1])


def size(count: int) -> str:
    """A number of bytes for people, in binary units."""
    for unit, bits in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << bits:
            return f"{count / (1 << bits):.4g} {unit}"
    return f"{count} B"
