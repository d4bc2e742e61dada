"""The processor: SGX in CPUID, switched on by the firmware, with enclave memory, alike on all logical CPUs.

Leaves and bits after Intel SDM Vol. 3D; the verdicts are those of `sgx-detect`, whose rules its users know. What the
firmware says (EFI variables, IA32_FEATURE_CONTROL) never decides the verdict, only the cause and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgxkit.host.checks.check import Check, Judge, Verdict, Verdicts, conjunction, fatal, supported, unknown
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.checks.firmware import firmware_evidence, firmware_says
from sgxkit.host.checks.readings import enumeration, in_virtual_machine, kernel_log, leaf_evidence
from sgxkit.host.facts import CpuidLeaf, Facts, Unread
from sgxkit.host.remedies import firmware
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.cpuid import EpcType, SgxEnumeration
from sgxkit.isa.msr import Msr
from sgxkit.messages import Message, msg

PAGE = 4096
SMALLEST_ENCLAVE = 3 * PAGE
"""Two regular pages and a TCS."""
SMALLEST_EPC = 5 * PAGE
"""The same, SECS and a version array."""
_NEEDED_ATTRIBUTES = (
    AttributeFlags.DEBUG | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKEN_KEY
)
_X87_AND_SSE = 0b11


ENABLED = ("cpu.sgx", "cpu.configuration")
"""What must not have failed before anything is asked of SGX itself."""
_ISA = ("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc")


def _judge_isa(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, _ISA)


def _judge_cpu(facts: Facts, _verdicts: Verdicts) -> Verdict:
    architecture = known(facts.cpu.architecture)
    if architecture not in (None, "x86_64", "i686", "i386"):
        return fatal(
            "not-x86",
            msg("This is an {architecture} processor; SGX exists only on Intel x86-64.", architecture=architecture),
            (shown("cpu.architecture", architecture),),
            (firmware.OTHER_HARDWARE,),
        )
    info = known(facts.cpu.cpuinfo)
    sgx = enumeration(facts)
    if sgx is None:
        if info is not None and "sgx" in info.flags:
            return supported((Evidence("cpu.cpuinfo.flags", "sgx"),))
        return unknown(
            "cpuid-unread",
            msg("CPUID could not be read."),
            (shown("cpu.cpuid", facts.cpu.cpuid),),
            (firmware.READ_AS_ROOT,),
        )
    evidence = [*leaf_evidence(facts, 7, 0, "ebx")]
    if sgx.features is not None and sgx.features.sgx:
        return supported(evidence, detail="" if info is None else info.model_name)
    vendor = sgx.vendor or ("" if info is None else info.vendor)
    if info is not None:
        evidence.append(Evidence("cpu.cpuinfo.model_name", info.model_name))
    if vendor and vendor != "GenuineIntel":
        return fatal(
            "not-intel",
            msg("The processor is {vendor}; only Intel makes processors with SGX.", vendor=vendor),
            (Evidence("cpu.cpuid[0x0].vendor", vendor), *evidence),
            (firmware.OTHER_HARDWARE,),
        )
    if in_virtual_machine(facts):
        cloud = known(facts.system.cloud)
        remedies = (firmware.SGX_INSTANCE, firmware.GIVE_GUEST_SGX)
        return fatal(
            "hidden-by-hypervisor",
            msg("This is a virtual machine, and its hypervisor offers no SGX: CPUID does not list it."),
            (
                *evidence,
                shown("system.hypervisor.signature", _signature(facts)),
                shown("system.cloud", facts.system.cloud),
            ),
            remedies if cloud not in (None, "none") else tuple(reversed(remedies)),
        )
    return fatal(
        "no-sgx",
        msg("The processor has no SGX: CPUID does not list it."),
        evidence,
        (firmware.OTHER_HARDWARE, firmware.ENABLE_SGX),
    )


def _signature(facts: Facts) -> str:
    hypervisor = known(facts.system.hypervisor)
    return "none" if hypervisor is None else hypervisor.signature or "unknown"


def _judge_configuration(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    if sgx is None:
        return unknown("cpuid-unread", msg("CPUID could not be read."), (shown("cpu.cpuid", facts.cpu.cpuid),))
    evidence = (*leaf_evidence(facts, 0x12, 0, "eax", "edx"), *firmware_evidence(facts))
    capability = sgx.capability
    if (
        capability is not None
        and capability.sgx1
        and capability.max_enclave_bytes_not64 >= SMALLEST_ENCLAVE
        and capability.max_enclave_bytes_64 >= SMALLEST_ENCLAVE
    ):
        return supported(evidence)
    says = firmware_says(facts)
    return fatal(says.code, says.cause, evidence, says.remedies)


def _judge_attributes(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    evidence = tuple(leaf_evidence(facts, 0x12, 1, "eax", "ecx"))
    if sgx is None:
        return unknown("cpuid-unread", msg("CPUID could not be read."), evidence)
    if sgx.attributes is None:
        return fatal("attributes-unread", msg("CPUID does not list the attributes of enclaves."), evidence, _STRANGE)
    missing = _NEEDED_ATTRIBUTES & ~AttributeFlags(sgx.attributes.flags & _NEEDED_ATTRIBUTES)
    if missing:
        names = ", ".join(flag.name or "" for flag in missing)
        return fatal(
            "attributes-missing",
            msg("The processor refuses attributes that enclaves need: {names}.", names=names),
            evidence,
            _STRANGE,
        )
    if sgx.attributes.xfrm & _X87_AND_SSE != _X87_AND_SSE:
        return fatal("xfrm-missing", msg("The processor does not let enclaves use x87 and SSE."), evidence, _STRANGE)
    return supported(evidence)


_STRANGE = (firmware.UPDATE_BIOS,)


def _judge_epc(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    if sgx is None:
        return unknown("cpuid-unread", msg("CPUID could not be read."), (shown("cpu.cpuid", facts.cpu.cpuid),))
    evidence = (*epc_evidence(sgx), *kernel_log(facts, "zero EPC", "EPC section"))
    if sum(section.size for section in sgx.epc if section.type == EpcType.EPC) >= SMALLEST_EPC:
        return supported(evidence)
    if any(section.type != EpcType.EPC for section in sgx.epc):
        return unknown(
            "epc-unknown-kind", msg("There is enclave memory only of a kind that is not known here."), evidence
        )
    return fatal(
        "no-epc",
        msg("SGX is enabled, but no memory is reserved for enclaves: the Enclave Page Cache is empty."),
        evidence,
        (firmware.SET_EPC_SIZE, firmware.ENABLE_SGX, firmware.UPDATE_BIOS),
    )


def epc_evidence(sgx: SgxEnumeration) -> Iterator[Evidence]:
    if not sgx.epc:
        yield Evidence("cpu.cpuid[0x12.2]", "no EPC section")
    for section in sgx.epc:
        yield Evidence(
            f"cpu.cpuid[0x12.{section.subleaf}]",
            f"base {section.base:#x}, size {section.size:#x}, protection {section.protection}",
        )


def _judge_agreement(facts: Facts, _verdicts: Verdicts) -> Verdict:
    cpus = [cpu for cpu in known(facts.cpu.cpuid) or () if not isinstance(cpu.leaves, Unread) and cpu.via != "export"]
    info = known(facts.cpu.cpuinfo)
    differing = [flag for flag in (() if info is None else info.differing_flags) if flag.startswith("sgx")]
    if differing:
        return _disagree(msg("CPU flags"), Evidence("cpu.cpuinfo.differing_flags", ", ".join(differing)))
    if info is not None and len(info.microcode) > 1:
        return _disagree(msg("microcode revision"), Evidence("cpu.cpuinfo.microcode", ", ".join(info.microcode)))
    for leaf, subleaf, bits in _COMPARED:
        values = {cpu.cpu: bits(cpu.leaf(leaf, subleaf)) for cpu in cpus}
        if len(set(values.values())) > 1:
            return _disagree(msg("CPUID"), _odd_one_out(f"cpu.cpuid[{leaf:#x}.{subleaf}]", values))
    controls = {cpu.cpu: cpu.value(Msr.IA32_FEATURE_CONTROL) for cpu in known(facts.cpu.msrs) or ()}
    read: dict[int, tuple[int, ...]] = {
        cpu: (value,) for cpu, value in controls.items() if not isinstance(value, Unread)
    }
    if len(set(read.values())) > 1:
        return _disagree(msg("IA32_FEATURE_CONTROL"), _odd_one_out("cpu.msrs[0x3a]", read))
    if not cpus:
        return unknown(
            "cpuid-unread", msg("CPUID was not read on every logical CPU."), (shown("cpu.cpuid", facts.cpu.cpuid),)
        )
    return supported((Evidence("cpu.cpuid", f"{len(cpus)} CPUs alike"),))


def _features_bits(entry: CpuidLeaf | None) -> tuple[int, ...]:
    return () if entry is None else (entry.ebx & 1 << 2, entry.ecx & 1 << 30)


def _all_bits(entry: CpuidLeaf | None) -> tuple[int, ...]:
    return () if entry is None else (entry.eax, entry.ebx, entry.ecx, entry.edx)


_COMPARED = ((7, 0, _features_bits), (0x12, 0, _all_bits), (0x12, 1, _all_bits), (0x12, 2, _all_bits))


def _odd_one_out(fact: str, values: dict[int, tuple[int, ...]]) -> Evidence:
    groups: dict[tuple[int, ...], list[int]] = {}
    for cpu, value in values.items():
        groups.setdefault(value, []).append(cpu)
    return Evidence(
        fact,
        "; ".join(
            f"CPU {', '.join(map(str, cpus))}: {' '.join(f'{word:#x}' for word in value) or 'no such leaf'}"
            for value, cpus in sorted(groups.items(), key=lambda group: len(group[1]))
        ),
    )


def _disagree(what: Message, evidence: Evidence) -> Verdict:
    return fatal(
        "cpus-differ",
        msg("The logical CPUs do not agree ({what}): the firmware has not set them all up alike.", what=what),
        (evidence,),
        (firmware.UPDATE_BIOS,),
    )


def part(
    name: str, title: Message, judge: Judge, *needs: str, parent: str = "isa", uses: Iterable[str] = ()
) -> Check:
    """Make a check below the instruction set that its needs hide."""
    return Check(name, title, judge, parent=parent, needs=needs, hidden_by=frozenset(needs), uses=tuple(uses))


CHECKS: tuple[Check, ...] = (
    Check("isa", msg("SGX instruction set"), _judge_isa, uses=_ISA),
    Check("cpu.sgx", msg("CPU support"), _judge_cpu, parent="isa"),
    part("cpu.configuration", msg("CPU configuration"), _judge_configuration, "cpu.sgx"),
    part("cpu.attributes", msg("Enclave attributes"), _judge_attributes, *ENABLED),
    part("cpu.epc", msg("Enclave Page Cache"), _judge_epc, *ENABLED),
    part("cpu.agreement", msg("All logical CPUs agree"), _judge_agreement, "cpu.sgx"),
)
