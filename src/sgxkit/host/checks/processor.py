"""The processor: SGX in CPUID, switched on by the firmware, with enclave memory, alike on all logical CPUs.

Leaves and bits after Intel SDM Vol. 3D; the verdicts are those of `sgx-detect`, whose rules its users know. What the
firmware says (EFI variables, IA32_FEATURE_CONTROL) never decides the verdict, only the cause and the remedy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgxkit.host.checks.check import Check, Verdict, Verdicts, conjunction, fatal, supported, unknown, unsupported
from sgxkit.host.checks.evidence import Evidence, known, refused, register, shown
from sgxkit.host.checks.status import Status, as_opt
from sgxkit.host.facts import CpuidLeaf, CpuidOfCpu, Facts, Reading, Unread
from sgxkit.host.remedies import firmware
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.cpuid import (
    CpuidRegisters,
    EpcProtection,
    EpcType,
    MiscSelect,
    SgxCapabilities,
    SgxEnumeration,
    decode_sgx,
)
from sgxkit.isa.msr import Msr, decode_feature_control
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


def _judge_isa(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, ("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc"))


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


@dataclass(frozen=True, slots=True)
class FirmwareSays:
    """The firmware's own account of SGX, and what it suggests."""

    code: str
    cause: Message
    remedies: tuple[Remedy, ...]


def firmware_says(facts: Facts) -> FirmwareSays:
    """Explain why the processor has SGX but it is not usable, by the EFI variables that the firmware left.

    SOFTWAREGUARDSTATUS (0 disabled, 1 enabled, 2 software controlled), EPCBIOS (bitmap, largest EPC, current EPC,
    32 more words) and EPCSW (EPC asked for); the decision table is that of `sgx-detect`.
    """
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


def kernel_version(facts: Facts) -> tuple[int, int] | None:
    """Major and minor version of the running kernel; None when they could not be read or told."""
    release = known(facts.kernel.release)
    parts = (release or "").split("-")[0].split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0]), int(parts[1])


def _content(facts: Facts, name: str) -> bytes:
    content = known(facts.firmware.variable(name))
    try:
        return b"" if content is None or content.data is None else bytes.fromhex(content.data)
    except ValueError:
        return b""


def _firmware_evidence(facts: Facts) -> Iterator[Evidence]:
    for name in ("SOFTWAREGUARDSTATUS", "EPCBIOS", "EPCSW"):
        content = facts.firmware.variable(name)
        yield shown(f"firmware.variables[{name}]", content if isinstance(content, Unread) else content.data or "")
    yield feature_control_evidence(facts)
    yield from kernel_log(facts, "by BIOS", "zero EPC", "SGX1 instruction")


def _judge_configuration(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    if sgx is None:
        return unknown("cpuid-unread", msg("CPUID could not be read."), (shown("cpu.cpuid", facts.cpu.cpuid),))
    evidence = (*leaf_evidence(facts, 0x12, 0, "eax", "edx"), *_firmware_evidence(facts))
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
    evidence = (*_epc_evidence(sgx), *kernel_log(facts, "zero EPC", "EPC section"))
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


def _epc_bytes(sgx: SgxEnumeration, *, sound: bool) -> int:
    return sum(
        section.size
        for section in sgx.epc
        if section.type == EpcType.EPC and (section.protection == EpcProtection.CONFIDENTIALITY_INTEGRITY) == sound
    )


def _epc_evidence(sgx: SgxEnumeration) -> Iterator[Evidence]:
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


_FEATURES = ("sgx2", "exinfo", "enclv", "oversub", "kss", "edeccssa", "aexnotify")


def _judge_features(_facts: Facts, verdicts: Verdicts) -> Verdict:
    rolled = conjunction(verdicts, tuple(f"feature.{name}" for name in _FEATURES))
    if rolled.status is Status.UNSUPPORTED:
        return unsupported("no-features", msg("The processor has SGX1 and none of its later features."))
    return rolled


def _judge_feature(name: str, present: bool | None, evidence: tuple[Evidence, ...]) -> Verdict:
    status = as_opt(present)
    if status is Status.SUPPORTED:
        return supported(evidence)
    if status is Status.UNKNOWN:
        return unknown("cpuid-unread", msg("CPUID could not be read."), evidence)
    return unsupported("no-feature", msg("The processor does not have {name}.", name=name), evidence)


def _capability_bit(bit: SgxCapabilities, facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    present = None if sgx is None or sgx.capability is None else bit in sgx.capability.capabilities
    return _judge_feature(bit.name or "", present, tuple(leaf_evidence(facts, 0x12, 0, "eax")))


def _attribute_bit(bit: AttributeFlags, facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    present = None if sgx is None or sgx.attributes is None else bool(sgx.attributes.flags & bit)
    return _judge_feature(bit.name or "", present, tuple(leaf_evidence(facts, 0x12, 1, "eax")))


def _judge_exinfo(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    present = None if sgx is None or sgx.capability is None else MiscSelect.EXINFO in sgx.capability.miscselect
    return _judge_feature("EXINFO", present, tuple(leaf_evidence(facts, 0x12, 0, "ebx")))


def _judge_total(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    if sgx is None:
        return unknown("cpuid-unread", msg("CPUID could not be read."))
    sound = _epc_bytes(sgx, sound=True)
    confidential = _epc_bytes(sgx, sound=False)
    detail: Message | str = size(sound)
    if confidential:
        plain = msg("{size} (no integrity protection)", size=size(confidential))
        detail = msg("{first}, {second}", first=size(sound), second=plain) if sound else plain
    nodes = known(facts.kernel.epc_nodes)
    in_use = None if nodes is None else sum(node.total_bytes for node in nodes)
    evidence = [*_epc_evidence(sgx), shown("kernel.epc_nodes", facts.kernel.epc_nodes if in_use is None else in_use)]
    if in_use is not None and nodes and in_use < sound + confidential:
        return Verdict(
            Status.UNSUPPORTED,
            "epc-section-dropped",
            msg(
                "The kernel uses only {used} of the enclave memory: it has dropped a section.",
                used=size(in_use),
            ),
            tuple(evidence),
            (firmware.UPDATE_BIOS,),
            detail=detail,
        )
    return supported(evidence, detail=detail)


def size(count: int) -> str:
    """A number of bytes for people, in binary units."""
    for unit, bits in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << bits:
            return f"{count / (1 << bits):.4g} {unit}"
    return f"{count} B"


def _judge_fsgsbase(facts: Facts, _verdicts: Verdicts) -> Verdict:
    info = known(facts.cpu.cpuinfo)
    if info is None:
        return unknown(
            "cpuinfo-unread",
            msg("The kernel's list of CPU flags could not be read."),
            (shown("cpu.cpuinfo", facts.cpu.cpuinfo),),
        )
    if "fsgsbase" in info.flags:
        return supported((Evidence("cpu.cpuinfo.flags", "fsgsbase"),))
    return fatal(
        "no-fsgsbase",
        msg("Programs may not use the FSGSBASE instructions, which Gramine needs: the kernel is older than 5.9."),
        (Evidence("cpu.cpuinfo.flags", "no fsgsbase"), shown("kernel.release", facts.kernel.release)),
    )


def _judge_smt(facts: Facts, _verdicts: Verdicts) -> Verdict:
    state = known(facts.cpu.smt)
    evidence = (shown("cpu.smt", facts.cpu.smt),)
    if state is None:
        return unknown("smt-unread", msg("Whether Hyper-Threading is on could not be read."), evidence)
    if state != "on":
        return supported(evidence)
    return unsupported(
        "smt-on",
        msg("Hyper-Threading is on; verifiers then see SW_HARDENING_NEEDED or worse, and some networks refuse that."),
        evidence,
        (firmware.DISABLE_SMT,),
    )


def _capability(bit: SgxCapabilities) -> Check:
    name = bit.name or ""
    return Check(
        f"feature.{name.lower()}",
        _FEATURE_TITLES[name.lower()],
        lambda facts, verdicts: _capability_bit(bit, facts, verdicts),
        parent="features",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    )


def _attribute(bit: AttributeFlags) -> Check:
    name = bit.name or ""
    return Check(
        f"feature.{name.lower()}",
        _FEATURE_TITLES[name.lower()],
        lambda facts, verdicts: _attribute_bit(bit, facts, verdicts),
        parent="features",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    )


_FEATURE_TITLES = {
    "sgx2": msg("SGX2"),
    "enclv": msg("ENCLV"),
    "oversub": msg("OVERSUB"),
    "edeccssa": msg("EDECCSSA"),
    "kss": msg("KSS"),
    "aexnotify": msg("AEX-Notify"),
}
_ENABLED = ("cpu.sgx", "cpu.configuration")

CHECKS: tuple[Check, ...] = (
    Check(
        "isa",
        msg("SGX instruction set"),
        _judge_isa,
        uses=("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc"),
    ),
    Check("cpu.sgx", msg("CPU support"), _judge_cpu, parent="isa"),
    Check(
        "cpu.configuration",
        msg("CPU configuration"),
        _judge_configuration,
        parent="isa",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
    Check(
        "cpu.attributes",
        msg("Enclave attributes"),
        _judge_attributes,
        parent="isa",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    ),
    Check(
        "cpu.epc",
        msg("Enclave Page Cache"),
        _judge_epc,
        parent="isa",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    ),
    Check(
        "cpu.agreement",
        msg("All logical CPUs agree"),
        _judge_agreement,
        parent="isa",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
    Check(
        "features",
        msg("SGX features"),
        _judge_features,
        parent="isa",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
        uses=tuple(f"feature.{name}" for name in _FEATURES),
    ),
    _capability(SgxCapabilities.SGX2),
    Check(
        "feature.exinfo",
        msg("EXINFO"),
        _judge_exinfo,
        parent="features",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    ),
    _capability(SgxCapabilities.ENCLV),
    _capability(SgxCapabilities.OVERSUB),
    _attribute(AttributeFlags.KSS),
    _capability(SgxCapabilities.EDECCSSA),
    _attribute(AttributeFlags.AEXNOTIFY),
    Check(
        "epc.total",
        msg("Total EPC size"),
        _judge_total,
        parent="features",
        needs=_ENABLED,
        hidden_by=frozenset(_ENABLED),
    ),
    Check(
        "cpu.fsgsbase",
        msg("FSGSBASE instructions"),
        _judge_fsgsbase,
        parent="isa",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
    Check(
        "cpu.smt",
        msg("Hyper-Threading off"),
        _judge_smt,
        parent="isa",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
)
"""In the order of sgx-detect's tree."""
