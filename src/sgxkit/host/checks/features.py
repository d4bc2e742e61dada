"""What the processor offers beyond the least that SGX needs; bits after Intel SDM Vol. 3D."""

from __future__ import annotations

from sgxkit.host.checks.check import (
    Check,
    Judge,
    Verdict,
    Verdicts,
    conjunction,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.checks.processor import ENABLED, epc_evidence, part
from sgxkit.host.checks.readings import enumeration, leaf_evidence, size
from sgxkit.host.checks.status import Status, as_opt
from sgxkit.host.facts import Facts
from sgxkit.host.remedies import firmware
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.cpuid import EpcProtection, EpcType, MiscSelect, SgxCapabilities, SgxEnumeration
from sgxkit.messages import Message, msg

_FEATURES = tuple(
    f"feature.{name}" for name in ("sgx2", "exinfo", "enclv", "oversub", "kss", "edeccssa", "aexnotify")
)


def _judge_features(_facts: Facts, verdicts: Verdicts) -> Verdict:
    rolled = conjunction(verdicts, _FEATURES)
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


def _capability(bit: SgxCapabilities) -> Judge:
    def judge(facts: Facts, _verdicts: Verdicts) -> Verdict:
        sgx = enumeration(facts)
        present = None if sgx is None or sgx.capability is None else bit in sgx.capability.capabilities
        return _judge_feature(bit.name or "", present, tuple(leaf_evidence(facts, 0x12, 0, "eax")))

    return judge


def _attribute(bit: AttributeFlags) -> Judge:
    def judge(facts: Facts, _verdicts: Verdicts) -> Verdict:
        sgx = enumeration(facts)
        present = None if sgx is None or sgx.attributes is None else bool(sgx.attributes.flags & bit)
        return _judge_feature(bit.name or "", present, tuple(leaf_evidence(facts, 0x12, 1, "eax")))

    return judge


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
    evidence = [*epc_evidence(sgx), shown("kernel.epc_nodes", facts.kernel.epc_nodes if in_use is None else in_use)]
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


def _epc_bytes(sgx: SgxEnumeration, *, sound: bool) -> int:
    return sum(
        section.size
        for section in sgx.epc
        if section.type == EpcType.EPC and (section.protection == EpcProtection.CONFIDENTIALITY_INTEGRITY) == sound
    )


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


def _feature(name: str, title: Message, judge: Judge) -> Check:
    return part(name, title, judge, *ENABLED, parent="features")


CHECKS: tuple[Check, ...] = (
    part("features", msg("SGX features"), _judge_features, *ENABLED, uses=_FEATURES),
    _feature("feature.sgx2", msg("SGX2"), _capability(SgxCapabilities.SGX2)),
    _feature("feature.exinfo", msg("EXINFO"), _judge_exinfo),
    _feature("feature.enclv", msg("ENCLV"), _capability(SgxCapabilities.ENCLV)),
    _feature("feature.oversub", msg("OVERSUB"), _capability(SgxCapabilities.OVERSUB)),
    _feature("feature.kss", msg("KSS"), _attribute(AttributeFlags.KSS)),
    _feature("feature.edeccssa", msg("EDECCSSA"), _capability(SgxCapabilities.EDECCSSA)),
    _feature("feature.aexnotify", msg("AEX-Notify"), _attribute(AttributeFlags.AEXNOTIFY)),
    _feature("epc.total", msg("Total EPC size"), _judge_total),
    part("cpu.fsgsbase", msg("FSGSBASE instructions"), _judge_fsgsbase, "cpu.sgx"),
    part("cpu.smt", msg("Hyper-Threading off"), _judge_smt, "cpu.sgx"),
)
