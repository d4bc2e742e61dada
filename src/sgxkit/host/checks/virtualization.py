"""A host that gives SGX to virtual machines: KVM, the EPC device for guests, QEMU and libvirt.

Documentation/arch/x86/sgx.rst ("Virtual EPC"); QEMU's docs/system/i386/sgx.rst (since 6.2).
"""

from __future__ import annotations

import re

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
from sgxkit.host.checks.devices import node_evidence
from sgxkit.host.checks.drivers import is_device
from sgxkit.host.checks.evidence import Evidence, absent, known, shown
from sgxkit.host.checks.kernel import config
from sgxkit.host.facts import Facts, Unread
from sgxkit.host.remedies import devices, firmware
from sgxkit.host.remedies import kernel as kernel_remedies
from sgxkit.host.remedies import surroundings as remedies
from sgxkit.messages import Message, msg

FIRST_QEMU = (6, 2)
_PARTS = ("vm.kvm", "vm.config", "vm.vepc", "vm.qemu", "vm.libvirt")


def _judge_host(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, _PARTS)


def _judge_kvm(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = known(facts.virtualization.kvm)
    info = known(facts.cpu.cpuinfo)
    flags = () if info is None else info.flags
    if node is None:
        return unknown(
            "kvm-unread",
            msg("Whether KVM is there could not be read."),
            (shown("virtualization.kvm", facts.virtualization.kvm),),
        )
    evidence = (node_evidence(node), shown("cpu.cpuinfo.flags", "vmx" if "vmx" in flags else "no vmx"))
    if is_device(node.status):
        return supported(evidence)
    if not absent(node.status):
        return unknown("kvm-unread", msg("Whether KVM is there could not be read."), evidence)
    if info is not None and "vmx" not in flags:
        return fatal(
            "no-vmx", msg("VT-x is off, so there is no KVM."), evidence, (firmware.ENABLE_VMX, remedies.LOAD_KVM)
        )
    return fatal("no-kvm", msg("KVM is not loaded."), evidence, (remedies.LOAD_KVM, firmware.ENABLE_VMX))


def _judge_config(facts: Facts, _verdicts: Verdicts) -> Verdict:
    value = config(facts, "CONFIG_X86_SGX_KVM")
    if value is None:
        if is_device(facts.devices.node("/dev/sgx_vepc").status):
            return supported((node_evidence(facts.devices.node("/dev/sgx_vepc")),), code="shown-by-device")
        return unknown(
            "config-unread",
            msg("Whether the kernel is built with SGX for guests could not be read."),
            (shown("kernel.config", facts.kernel.config),),
        )
    evidence = (Evidence("kernel.config[CONFIG_X86_SGX_KVM]", value),)
    if value == "y":
        return supported(evidence)
    return fatal(
        "kernel-without-sgx-kvm",
        msg("The kernel is built without SGX for guests."),
        evidence,
        (kernel_remedies.KERNEL_WITH_SGX_KVM,),
    )


def _judge_vepc(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = facts.devices.node("/dev/sgx_vepc")
    evidence = (node_evidence(node), shown("devices.nodes[/dev/sgx_vepc].open_read_write", node.open_read_write))
    if absent(node.status):
        return fatal(
            "no-vepc",
            msg("There is no /dev/sgx_vepc, which gives enclave memory to guests."),
            evidence,
            (kernel_remedies.READ_KERNEL_LOG, kernel_remedies.KERNEL_WITH_SGX_KVM),
        )
    if not is_device(node.status):
        return unknown("nodes-unread", msg("Whether there is an SGX device could not be read."), evidence)
    if isinstance(node.open_read_write, Unread) and node.open_read_write.kind == "permission":
        return unsupported(
            "vepc-refused",
            msg("This user may not open /dev/sgx_vepc; QEMU must run as one that may."),
            evidence,
            (devices.join_group(facts, "sgx"),),
        )
    return supported(evidence)


def _judge_qemu(facts: Facts, _verdicts: Verdicts) -> Verdict:
    programs = known(facts.virtualization.qemu)
    if programs is None and not absent(facts.virtualization.qemu):
        return unknown(
            "qemu-unread",
            msg("Whether QEMU is installed could not be read."),
            (shown("virtualization.qemu", facts.virtualization.qemu),),
        )
    evidence = tuple(Evidence(f"virtualization.qemu[{tool.path}]", tool.version or "") for tool in programs or ())
    versions = [match for tool in programs or () if (match := re.search(r"(\d{1,9})\.(\d{1,9})", tool.version or ""))]
    newest = max(((int(match[1]), int(match[2])) for match in versions), default=None)
    if not programs:
        return fatal(
            "no-qemu",
            msg("QEMU is not installed."),
            (Evidence("virtualization.qemu", "none"),),
            (remedies.install_qemu(facts),),
        )
    if newest is None:
        return unknown("qemu-version-unread", msg("QEMU's version could not be read."), evidence)
    if newest < FIRST_QEMU:
        return fatal(
            "qemu-too-old",
            msg("QEMU {version} does not know SGX; 6.2 is the first.", version=f"{newest[0]}.{newest[1]}"),
            evidence,
            (remedies.install_qemu(facts),),
        )
    return supported(evidence, detail=f"{newest[0]}.{newest[1]}")


def _judge_libvirt(facts: Facts, _verdicts: Verdicts) -> Verdict:
    file = facts.virtualization.libvirt_qemu_conf
    if isinstance(file, Unread):
        if absent(file):
            return Verdict(
                supported().status, "no-libvirt", evidence=(shown("virtualization.libvirt_qemu_conf", file),)
            )
        return unknown(
            "libvirt-unread",
            msg("libvirt's configuration could not be read."),
            (shown("virtualization.libvirt_qemu_conf", file),),
        )
    listed = re.search(r"^\s*cgroup_device_acl\s*=\s*\[[^\]]*\]", file.text, re.MULTILINE)
    evidence = (
        Evidence("virtualization.libvirt_qemu_conf", "no cgroup_device_acl" if listed is None else listed[0]),
    )
    if listed is not None and "/dev/sgx_vepc" in listed[0]:
        return supported(evidence)
    return unsupported(
        "libvirt-without-vepc",
        msg("libvirt does not let its guests open /dev/sgx_vepc."),
        evidence,
        (remedies.LIBVIRT_DEVICES,),
    )


def _part(name: str, title: Message, judge: Judge) -> Check:
    return Check(
        name,
        title,
        judge,
        parent="vm",
        needs=("cpu.sgx", "cpu.configuration"),
        hidden_by=frozenset({"cpu.sgx", "cpu.configuration"}),
    )


CHECKS: tuple[Check, ...] = (
    Check("vm", msg("Host of virtual machines"), _judge_host, uses=_PARTS),
    _part("vm.kvm", msg("KVM"), _judge_kvm),
    _part("vm.config", msg("Kernel built with SGX for guests"), _judge_config),
    _part("vm.vepc", msg("EPC device for guests"), _judge_vepc),
    _part("vm.qemu", msg("QEMU 6.2 or newer"), _judge_qemu),
    _part("vm.libvirt", msg("libvirt lets guests use it"), _judge_libvirt),
)
