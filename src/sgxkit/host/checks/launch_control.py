"""Flexible launch control: whether the kernel may launch enclaves of any signer, without a launch token.

Verdicts as `sgx-detect` has them, with one difference: where IA32_FEATURE_CONTROL may not be read, the kernel's own
behaviour tells, for Linux makes /dev/sgx_enclave only when launch control is unlocked
(arch/x86/kernel/cpu/feat_ctl.c, arch/x86/kernel/cpu/sgx/driver.c).
"""

from __future__ import annotations

from sgxkit.host.checks.check import Check, Verdict, Verdicts, alternative, fatal, supported, unknown
from sgxkit.host.checks.drivers import Driver, driver
from sgxkit.host.checks.evidence import Evidence, absent, known, shown
from sgxkit.host.checks.readings import (
    enumeration,
    feature_control,
    feature_control_evidence,
    in_virtual_machine,
    kernel_log,
    kernel_version,
    leaf_evidence,
)
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.remedies import firmware
from sgxkit.isa.msr import decode_feature_control
from sgxkit.messages import msg


def _judge_flc(_facts: Facts, verdicts: Verdicts) -> Verdict:
    configuration, launch = verdicts["flc.configuration"].status, verdicts["flc.launch"].status
    works = launch if configuration is Status.UNKNOWN else configuration & launch
    status = (verdicts["flc.cpu"].status & works).downgrade_fatal()
    if status is Status.SUPPORTED:
        return Verdict(status, "ok")
    members = ("flc.cpu", "flc.configuration", "flc.launch")
    failed = tuple(name for name in members if verdicts[name].failed)
    open_ones = tuple(name for name in members if verdicts[name].status is Status.UNKNOWN)
    return Verdict(status, "members", because=failed[:1] if status.failed else open_ones)


def _judge_cpu(facts: Facts, _verdicts: Verdicts) -> Verdict:
    sgx = enumeration(facts)
    evidence = tuple(leaf_evidence(facts, 7, 0, "ecx"))
    if sgx is None or sgx.features is None:
        info = known(facts.cpu.cpuinfo)
        if info is not None and "sgx_lc" in info.flags:
            return supported((Evidence("cpu.cpuinfo.flags", "sgx_lc"),))
        return unknown("cpuid-unread", msg("CPUID could not be read."), evidence, (firmware.READ_AS_ROOT,))
    if sgx.features.sgx_lc:
        return supported(evidence)
    if in_virtual_machine(facts):
        return fatal(
            "guest-without-flc",
            msg("The hypervisor gives this virtual machine SGX without flexible launch control."),
            evidence,
            (firmware.GIVE_GUEST_SGX, firmware.SGX_INSTANCE),
        )
    return fatal(
        "no-flc",
        msg(
            "The processor has no flexible launch control; Linux's own driver and Intel's software since PSW 2.28 "
            "do not work without it."
        ),
        (*evidence, *kernel_log(facts, "launch control CPU feature")),
        (firmware.OTHER_HARDWARE, firmware.UNLOCK_FLC),
    )


def _judge_configuration(facts: Facts, _verdicts: Verdicts) -> Verdict:
    value = known(feature_control(facts))
    found = driver(facts)
    info = known(facts.cpu.cpuinfo)
    version = kernel_version(facts)
    locked_lines = kernel_log(facts, "Launch Control is locked")
    evidence = (feature_control_evidence(facts), *locked_lines)
    locked = fatal(
        "flc-locked",
        msg("Flexible launch control is locked by the BIOS, so the kernel cannot launch enclaves."),
        (*evidence, shown("cpu.cpuinfo.flags", _flags(facts))),
        (firmware.UNLOCK_FLC, firmware.UPDATE_BIOS),
    )
    if value is not None:
        control = decode_feature_control(value)
        return supported(evidence) if control.lock and control.sgx_lc else locked
    if found is Driver.IN_TREE:
        return supported((*evidence, Evidence("kernel.misc_devices", "sgx_enclave")), code="shown-by-driver")
    if locked_lines or _provision_alone(facts):
        return locked
    if info is not None and version is not None and version >= (5, 11):
        if "sgx_lc" in info.flags:
            return supported((*evidence, shown("cpu.cpuinfo.flags", _flags(facts))), code="shown-by-kernel")
        if "sgx" in info.flags:
            return locked
    return unknown(
        "feature-control-unread",
        msg("Whether the BIOS has unlocked flexible launch control could not be read."),
        evidence,
        (firmware.READ_AS_ROOT,),
    )


def _flags(facts: Facts) -> str:
    info = known(facts.cpu.cpuinfo)
    if info is None:
        return "not read"
    return ", ".join(flag for flag in info.flags if flag.startswith("sgx")) or "no sgx, no sgx_lc"


def _provision_alone(facts: Facts) -> bool:
    """Linux registers /dev/sgx_provision first, and /dev/sgx_enclave only with launch control."""
    misc = known(facts.kernel.misc_devices)
    if misc is not None:
        names = {device.name for device in misc}
        return "sgx_provision" in names and "sgx_enclave" not in names
    provision = known(facts.devices.node("/dev/sgx_provision").status)
    return provision is not None and absent(facts.devices.node("/dev/sgx_enclave").status)


def _judge_launch(_facts: Facts, verdicts: Verdicts) -> Verdict:
    launch = verdicts["launch.production"]
    return Verdict(
        launch.status, launch.code, because=() if launch.status is Status.SUPPORTED else ("launch.production",)
    )


def _judge_token_provider(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return alternative(verdicts, ("flc.configuration", "aesm"))


CHECKS: tuple[Check, ...] = (
    Check(
        "flc",
        msg("Flexible launch control"),
        _judge_flc,
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
        uses=("flc.cpu", "flc.configuration", "flc.launch"),
    ),
    Check(
        "flc.cpu",
        msg("CPU support"),
        _judge_cpu,
        parent="flc",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
    Check(
        "flc.configuration",
        msg("CPU configuration"),
        _judge_configuration,
        parent="flc",
        needs=("cpu.sgx", "cpu.configuration", "flc.cpu"),
        hidden_by=frozenset({"cpu.sgx", "cpu.configuration", "flc.cpu"}),
    ),
    Check(
        "flc.launch",
        msg("Able to launch production mode enclave"),
        _judge_launch,
        parent="flc",
        needs=("cpu.sgx", "flc.cpu", "flc.configuration"),
        hidden_by=frozenset({"cpu.sgx", "flc.cpu", "flc.configuration"}),
        uses=("launch.production",),
    ),
    Check(
        "token_provider",
        msg("Any EINITTOKEN provider (or FLC)"),
        _judge_token_provider,
        parent="flc",
        uses=("flc.configuration", "aesm"),
        helper=True,
    ),
)
