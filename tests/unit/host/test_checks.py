"""Every check with facts that make it pass and facts that make it fail."""

# ruff: noqa: E501 - the tables read best with one case in a line

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from doubles.hosts import (
    ABSENT,
    ENCLAVE,
    NOW,
    PCS,
    PROVISION,
    REFUSED,
    UNRECORDED,
    changed,
    conversation,
    cpuid,
    cpuinfo,
    efi,
    healthy,
    kubernetes_node,
    leaves,
    msrs,
    node,
    nodes,
    packages,
    registration,
    without_aesm,
    without_driver,
)
from sgxkit.host.checks.check import Outcome, Verdict
from sgxkit.host.checks.registry import CHECKS, judge
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import (
    AptKey,
    ClockState,
    Container,
    CpuidOfCpu,
    Endpoint,
    EpcNode,
    Facts,
    Group,
    HttpReply,
    Hypervisor,
    KernelLog,
    KernelModule,
    KubernetesCluster,
    Launch,
    Library,
    MiscDevice,
    Mount,
    NamedValue,
    NodeStatus,
    Package,
    Process,
    TextFile,
    Tool,
    Unit,
    Unread,
    User,
)

Judged = Callable[[], Facts]


@cache
def base() -> Facts:
    return healthy()


def with_(section: str, **fields: object) -> Judged:
    return lambda: changed(base(), section, **fields)


def log(*lines: str, facts: Judged = base) -> Facts:
    return changed(facts(), "kernel", log=KernelLog("dmesg", lines, True))


def module(*names: str) -> tuple[KernelModule, ...]:
    return tuple(KernelModule(name, True, None) for name in names)


def off(**variables: bytes) -> Facts:
    """SGX in CPUID, not enabled; the firmware says `variables`, and nothing else tells why."""
    facts = changed(without_driver(base()), "cpu", cpuid=cpuid(leaves(sgx1=False, epc=0)), msrs=REFUSED)
    return changed(facts, "firmware", variables=efi(**variables))


def epcbios(largest: int, current: int) -> bytes:
    return bytes(4) + largest.to_bytes(4, "little") + current.to_bytes(4, "little") + bytes(128)


def user_of(device: str, *, uid: int = 1001, gids: tuple[int, ...] = (1001,), groups: tuple[Group, ...] = (),
            **fields: object) -> Facts:  # fmt: skip
    facts = changed(base(), "accounts", user=User("bob", uid, uid, gids, 0), groups=groups)
    return changed(facts, "devices", nodes=nodes(node(device, opened=REFUSED, **fields)))  # type: ignore[arg-type]


def in_container(facts: Facts, kind: str = "docker") -> Facts:
    return changed(facts, "system", container=Container(kind, ("/.dockerenv",)))  # type: ignore[arg-type]


def legacy(path: str, *modules: str, version: str = "5.4.0-1-generic") -> Facts:
    facts = changed(without_driver(base()), "devices", nodes=nodes(node(path)))
    return changed(
        facts, "kernel", release=version, config=(NamedValue("CONFIG_X86_SGX", "n"),), modules=module(*modules)
    )


def aesm_says(**codes: int | None) -> Facts:
    return changed(base(), "aesm", conversation=conversation(**codes))


def keys(*expiries: datetime) -> Facts:
    found = tuple(
        AptKey(f"/k/{number}", "F" * 40, "Intel", 0, int(day.timestamp())) for number, day in enumerate(expiries)
    )
    return changed(base(), "software", apt_keys=found)


def sources(line: str) -> Judged:
    return with_("software", apt_sources=(TextFile("/etc/apt/sources.list.d/sgx.list", line + "\n", False),))


def qcnl(text: str) -> Judged:
    return with_("quote_provider", configuration=TextFile("/etc/sgx_default_qcnl.conf", text, False))


def endpoint(reply: object) -> Judged:
    return with_("network", endpoints=(Endpoint(PCS, reply),))  # type: ignore[arg-type]


def failing(step: str, *, errno: int | None = None, status: int | None = None) -> Facts:
    return changed(base(), "launch", debug=Launch("failed", "x", step, errno, status),
                   production=Launch("failed", "x", step, errno, status))  # fmt: skip


def cluster(**fields: object) -> Facts:
    facts = kubernetes_node()
    found = facts.kubernetes.cluster
    assert isinstance(found, KubernetesCluster)
    entry = replace(found.nodes[0], **fields)  # type: ignore[arg-type]
    return changed(facts, "kubernetes", cluster=replace(found, nodes=(entry,)))


def no_apt() -> Facts:
    return changed(base(), "software", apt_sources=ABSENT, apt_keys=ABSENT)


OTHER_FLC = cpuid(leaves(flc=False, sgx2=False))
SYSTEM_CONTAINER_AESM = without_aesm(in_container(base()))
DAY = datetime(2026, 11, 21, tzinfo=UTC)
FAILING: list[tuple[str, Judged, str]] = [
    ("isa", with_("cpu", cpuid=cpuid(leaves(epc=0))), "fatal members"),
    ("cpu.sgx", with_("cpu", architecture="aarch64"), "fatal not-x86"),
    ("cpu.sgx", with_("cpu", cpuid=cpuid(leaves(sgx=False, vendor="AuthenticAMD"))), "fatal not-intel"),
    ("cpu.sgx", with_("cpu", cpuid=cpuid(leaves(sgx=False))), "fatal no-sgx"),
    ("cpu.sgx", lambda: changed(changed(base(), "cpu", cpuid=cpuid(leaves(sgx=False))), "system",
                                hypervisor=Hypervisor(True, "KVMKVMKVM")), "fatal hidden-by-hypervisor"),
    ("cpu.sgx", lambda: cpuinfo(changed(base(), "cpu", cpuid=UNRECORDED), flags=()), "unknown cpuid-unread"),
    ("cpu.configuration", lambda: off(SOFTWAREGUARDSTATUS=b"\0\0"), "fatal bios-disabled"),
    ("cpu.configuration", lambda: off(SOFTWAREGUARDSTATUS=b"\1\0"), "fatal bios-inconsistent"),
    ("cpu.configuration", lambda: off(SOFTWAREGUARDSTATUS=b"\2\0"), "fatal software-control-broken"),
    ("cpu.configuration", lambda: off(SOFTWAREGUARDSTATUS=b"\2\0", EPCBIOS=epcbios(94, 94)), "fatal bios-inconsistent"),
    ("cpu.configuration", lambda: off(EPCBIOS=epcbios(94, 0)), "fatal software-controlled"),
    ("cpu.configuration", lambda: off(EPCBIOS=epcbios(94, 0), EPCSW=b"\x5e\0\0\0"), "fatal enabled-at-next-boot"),
    ("cpu.configuration", lambda: off(EPCBIOS=epcbios(0, 0)), "fatal software-control-broken"),
    ("cpu.configuration", off, "fatal off"),
    ("cpu.configuration", lambda: log("SGX disabled or unsupported by BIOS.", facts=off), "fatal bios-disabled"),
    ("cpu.configuration", lambda: cpuinfo(off(), flags=()), "fatal bios-disabled"),
    ("cpu.configuration", lambda: changed(off(), "cpu", msrs=msrs(1)), "fatal bios-disabled"),
    ("cpu.configuration", lambda: changed(off(), "firmware", variables=REFUSED), "fatal off-reason-unread"),
    ("cpu.configuration", lambda: changed(off(), "system", hypervisor=Hypervisor(True, "K")), "fatal off-in-guest"),
    ("cpu.attributes", with_("cpu", cpuid=cpuid(leaves(attributes=0x26))), "fatal attributes-missing"),
    ("cpu.attributes", with_("cpu", cpuid=cpuid(tuple(
        replace(entry, ecx=1) if (entry.leaf, entry.subleaf) == (0x12, 1) else entry for entry in leaves()
    ))), "fatal xfrm-missing"),
    ("cpu.attributes", with_("cpu", cpuid=cpuid(tuple(
        entry for entry in leaves() if (entry.leaf, entry.subleaf) != (0x12, 1)
    ))), "fatal attributes-unread"),
    ("cpu.epc", with_("cpu", cpuid=cpuid(leaves(epc=0x4000))), "fatal no-epc"),
    ("cpu.epc", with_("cpu", cpuid=cpuid(tuple(
        replace(entry, eax=2) if (entry.leaf, entry.subleaf) == (0x12, 2) else entry for entry in leaves()
    ))), "unknown epc-unknown-kind"),
    ("cpu.agreement", with_("cpu", cpuid=cpuid(leaves(), leaves(sgx2=False))), "fatal cpus-differ"),
    ("cpu.agreement", with_("cpu", msrs=(msrs()[0], replace(msrs(1)[1], cpu=1))), "fatal cpus-differ"),
    ("cpu.agreement", lambda: cpuinfo(base(), differing_flags=("sgx_lc",)), "fatal cpus-differ"),
    ("cpu.agreement", lambda: cpuinfo(base(), microcode=("0x1", "0x2")), "fatal cpus-differ"),
    ("cpu.agreement", with_("cpu", cpuid=(CpuidOfCpu(0, "export", leaves()),)), "unknown cpuid-unread"),
    ("features", with_("cpu", cpuid=cpuid(tuple(
        replace(entry, eax=1, ebx=0) if (entry.leaf, entry.subleaf) == (0x12, 0)
        else replace(entry, eax=0x36) if (entry.leaf, entry.subleaf) == (0x12, 1) else entry for entry in leaves()
    ))), "unsupported no-features"),
    ("feature.sgx2", with_("cpu", cpuid=cpuid(leaves(sgx2=False))), "unsupported no-feature"),
    *((f"feature.{name}", with_("cpu", cpuid=cpuid(tuple(
        replace(entry, eax=1, ebx=0) if (entry.leaf, entry.subleaf) == (0x12, 0) else entry for entry in leaves()
    ))), "unsupported no-feature") for name in ("exinfo", "enclv", "oversub", "edeccssa")),
    *((f"feature.{name}", with_("cpu", cpuid=cpuid(leaves(attributes=0x36))), "unsupported no-feature")
      for name in ("kss", "aexnotify")),
    ("epc.total", with_("kernel", epc_nodes=(EpcNode(0, 0x8000_0000),)), "unsupported epc-section-dropped"),
    ("cpu.fsgsbase", lambda: cpuinfo(base(), flags=("sgx",)), "fatal no-fsgsbase"),
    ("cpu.fsgsbase", with_("cpu", cpuinfo=REFUSED), "unknown cpuinfo-unread"),
    ("cpu.smt", with_("cpu", smt="on"), "unsupported smt-on"),
    ("flc", with_("cpu", cpuid=OTHER_FLC), "unsupported members"),
    ("flc.cpu", with_("cpu", cpuid=OTHER_FLC), "fatal no-flc"),
    ("flc.cpu", lambda: changed(changed(base(), "cpu", cpuid=OTHER_FLC), "system", hypervisor=Hypervisor(True, "K")),
     "fatal guest-without-flc"),
    ("flc.configuration", with_("cpu", msrs=msrs(1 << 18 | 1)), "fatal flc-locked"),
    ("flc.configuration", lambda: cpuinfo(changed(without_driver(base()), "cpu", msrs=REFUSED), flags=("sgx",)),
     "fatal flc-locked"),
    ("flc.configuration", lambda: changed(changed(without_driver(base()), "cpu", msrs=REFUSED), "kernel",
                                          misc_devices=(MiscDevice(1, "sgx_provision"),)), "fatal flc-locked"),
    ("flc.configuration", lambda: changed(changed(without_driver(base()), "cpu", msrs=REFUSED), "kernel",
                                          release="5.4.0"), "unknown feature-control-unread"),
    ("flc.launch", lambda: failing("EINIT", status=16), "fatal invalid-token"),
    ("token_provider", lambda: without_aesm(changed(base(), "cpu", cpuid=OTHER_FLC)), "fatal members"),
    ("psw", lambda: changed(changed(base(), "devices", nodes=nodes()), "software", libraries=()), "fatal members"),
    ("kernel", lambda: changed(without_driver(base()), "kernel", command_line="nosgx"), "fatal members"),
    ("kernel.version", lambda: changed(without_driver(base()), "kernel", release="5.10.0-9-amd64", config=()),
     "fatal kernel-too-old"),
    ("kernel.version", lambda: legacy("/dev/isgx", "isgx"), "unsupported kernel-needs-old-driver"),
    ("kernel.version", with_("cpu", msrs=msrs(1 << 18 | 1)), "unsupported no-flc-for-kernel"),
    ("kernel.version", with_("kernel", release="strange"), "unknown release-unread"),
    ("kernel.config", lambda: changed(without_driver(base()), "kernel", config=(NamedValue("CONFIG_X86_SGX", "n"),)),
     "fatal kernel-without-sgx"),
    ("kernel.config", lambda: legacy("/dev/isgx", "isgx"), "unsupported driver-out-of-tree"),
    ("kernel.config", lambda: changed(without_driver(base()), "kernel", config=REFUSED), "unknown config-unread"),
    ("kernel.command_line", with_("kernel", command_line="ro nosgx quiet"), "fatal nosgx"),
    ("kernel.driver", lambda: without_driver(base()), "fatal no-driver"),
    ("kernel.driver", lambda: legacy("/dev/isgx", "isgx"), "unsupported driver-outdated"),
    ("kernel.driver", lambda: legacy("/dev/sgx/enclave", "intel_sgx"), "unsupported driver-outdated"),
    ("kernel.driver", with_("kernel", modules=module("intel_sgx")), "unsupported driver-outdated"),
    ("kernel.conflict", with_("kernel", modules=module("isgx")), "unsupported two-drivers"),
    ("kernel.conflict", lambda: legacy("/dev/isgx", "isgx"), "unsupported isgx-on-flc"),
    ("kernel.conflict", with_("kernel", modules=REFUSED), "unknown modules-unread"),
    ("kernel.log", lambda: log("sgx: EREMOVE returned 13 and an EPC page was leaked. SGX may become unusable."),
     "unsupported epc-leaked"),
    ("kernel.edmm", with_("devices", nodes=nodes(node(ENCLAVE, edmm=False))), "unsupported no-edmm"),
    ("container", with_("system", container=UNRECORDED), "unknown container-unread"),
    ("container.device", lambda: in_container(changed(base(), "devices", nodes=nodes())), "fatal device-not-passed"),
    ("device", with_("devices", nodes=nodes()), "fatal members"),
    ("device.node", with_("devices", nodes=nodes()), "fatal no-node"),
    ("device.node", with_("devices", nodes=REFUSED), "unknown nodes-unread"),
    ("device.exec", with_("devices", mounts=(Mount("/dev", "udev", "devtmpfs", ("rw", "noexec")),)), "fatal dev-noexec"),
    ("device.open", lambda: user_of(ENCLAVE, groups=(Group("sgx", 990, ()),)), "fatal not-in-group"),
    ("device.open", lambda: user_of(ENCLAVE, groups=(Group("sgx", 990, ("bob",)),)), "fatal group-not-effective"),
    ("device.open", lambda: user_of(ENCLAVE, mode=0o600, gid=0, group="root"), "fatal device-only-for-root"),
    ("device.open", lambda: user_of(ENCLAVE, gids=(990,)), "fatal refused-by-cgroup"),
    ("device.open", lambda: in_container(user_of(ENCLAVE)), "fatal container-user-lacks-group"),
    ("device.open", with_("devices", nodes=nodes(node(ENCLAVE, opened=Unread("error", "busy", 16)))), "fatal device-busy"),
    ("device.open", with_("devices", nodes=nodes(node(ENCLAVE, opened=Unread("error", "No such device", 6)))),
     "fatal open-failed"),
    ("device.open", with_("devices", nodes=nodes(node(ENCLAVE, opened=UNRECORDED))), "unknown open-untried"),
    ("device.links", base, "unsupported no-links"),
    ("device.links", with_("devices", nodes=(*nodes(node(ENCLAVE))[:3], replace(
        node("/dev/sgx/enclave"), status=NodeStatus("dangling", "../x", None, None, 0o777, 0, 0, "root", "root")))),
     "unsupported link-dangles"),
    ("device.low_addresses", base, "unsupported no-low-mappings"),
    ("psw.library", with_("software", libraries=()), "fatal no-enclave-common"),
    ("psw.packages", with_("software", packages=()), "unsupported members"),
    ("psw.version", with_("software", packages=()), "unsupported no-psw"),
    ("psw.version", with_("software", packages=packages("2.27.100.1", "sgx-aesm-service")), "unsupported psw-old"),
    ("psw.version", with_("software", packages=(*packages("2.29.1", "libsgx-urts"), *packages("2.27.1", "sgx-aesm-service"))),
     "unsupported psw-mixed"),
    ("psw.version", with_("software", packages=UNRECORDED), "unknown packages-unread"),
    ("psw.removed", with_("software", packages=packages("2.29.1", "libsgx-urts", "libsgx-launch")),
     "unsupported removed-packages"),
    ("aesm", with_("aesm", connect=Unread("error", "refused", 111)), "fatal no-aesm"),
    ("aesm.installed", lambda: without_aesm(base()), "fatal aesm-not-installed"),
    ("aesm.running", lambda: changed(changed(base(), "aesm", connect=ABSENT), "services", processes=(), units=(
        Unit("aesmd.service", "loaded", "failed", "failed", "enabled", "exit-code"),)), "fatal aesm-not-running"),
    ("aesm.running", with_("services", processes=(Process(1, "aesm_service", 1), Process(2, "aesm_service", 1))),
     "unsupported two-aesm"),
    ("aesm.socket", with_("aesm", connect=Unread("error", "refused", 111)), "fatal socket-stale"),
    ("aesm.socket", with_("aesm", connect=ABSENT), "fatal no-socket"),
    ("aesm.socket", with_("aesm", connect=REFUSED), "fatal socket-refused"),
    ("aesm.socket", with_("aesm", connect=Unread("timeout", "no answer")), "fatal connect-failed"),
    ("aesm.socket", lambda: SYSTEM_CONTAINER_AESM, "fatal socket-not-passed"),
    ("aesm.answers", with_("aesm", conversation=tuple(
        replace(entry, reply=Unread("timeout", "no answer")) for entry in conversation())), "fatal aesm-silent"),
    ("aesm.generation", lambda: aesm_says(legacy=30), "unsupported aesm-old"),
    ("aesm.plugins", lambda: aesm_says(select=30), "fatal no-quote-plugin"),
    ("aesm.plugins", lambda: aesm_says(select=38), "fatal no-ecdsa-provider"),
    ("aesm.plugins", lambda: aesm_says(select=1), "fatal aesm-error"),
    ("loader", lambda: changed(changed(base(), "devices", nodes=nodes()), "software", libraries=()), "fatal members"),
    ("launch", lambda: failing("ECREATE", errno=5), "fatal members"),
    ("launch.debug", lambda: failing("ECREATE", errno=5), "fatal enclave-not-accepted"),
    ("launch.debug", lambda: failing("EADD", errno=12), "fatal out-of-epc"),
    ("launch.debug", lambda: failing("mmap", errno=1), "fatal mapping-refused"),
    ("launch.debug", lambda: failing("EINIT", errno=1), "fatal einit-not-permitted"),
    ("launch.debug", lambda: failing("EINIT", errno=13), "fatal launch-refused"),
    ("launch.debug", lambda: failing("EINIT", status=8), "fatal einit-refused"),
    ("launch.debug", lambda: failing("open"), "fatal launch-failed"),
    ("launch.debug", with_("launch", debug=Launch("no_device", "none")), "unknown no-device"),
    ("launch.debug", with_("launch", debug=Launch("not_attempted", "why")), "unknown not-tried"),
    ("launch.production", lambda: failing("EINIT", status=16), "fatal invalid-token"),
    ("attestation", lambda: aesm_says(init=44), "fatal members"),
    ("provision.node", with_("devices", nodes=nodes(node(ENCLAVE))), "fatal no-provision-node"),
    ("provision.right", with_("devices", nodes=nodes(node(ENCLAVE), node(PROVISION, mode=0o600, gid=0, opened=REFUSED))),
     "fatal aesm-lacks-provision"),
    ("provision.right", lambda: changed(base(), "accounts", service_users=()), "unsupported user-lacks-provision"),
    ("quote.library", lambda: changed(aesm_says(init=41), "software", libraries=()), "fatal no-provider"),
    ("quote.library", lambda: changed(aesm_says(init=41), "software", libraries=(
        Library("/usr/lib/libdcap_quoteprov.so.1.2", False, None),)), "fatal provider-not-linked"),
    ("quote.library", lambda: changed(base(), "software", packages=packages("1", "az-dcap-client", "libsgx-dcap-default-qpl")),
     "unsupported two-providers"),
    ("quote.configuration", qcnl('{"pccs_url": "https://a/",}'), "fatal configuration-json-syntax"),
    ("quote.configuration", qcnl('{"pccs_url": "https://a"}'), "fatal configuration-no-trailing-slash"),
    ("quote.configuration", qcnl('{"pccs_url": "https://a/", "retry_times": "6"}'), "unsupported configuration-wrong-type"),
    ("quote.configuration", with_("quote_provider", configuration=ABSENT), "unsupported no-configuration"),
    ("quote.service", endpoint(Unread("error", "Connection refused", 111)), "fatal pccs-unreachable"),
    ("quote.service", endpoint(HttpReply(404, None, None, 0.1)), "fatal pccs-error"),
    ("quote.service", endpoint(HttpReply(200, "self-signed certificate", None, 0.1)), "fatal pccs-untrusted"),
    ("quote.service", with_("network", endpoints=Unread("skipped", "--no-network")), "unknown network-not-tried"),
    *(("quote.generation", lambda code=code: aesm_says(init=code), f"fatal {name}") for code, name in (
        (2, "qe-no-device"), (12, "pccs-not-reached-by-aesm"), (29, "out-of-epc"), (30, "no-quote-plugin"),
        (38, "no-ecdsa-provider"), (40, "pce-not-loaded"), (41, "provider-not-loaded"), (42, "no-certificate"),
        (43, "bad-certificate"), (44, "no-platform-certificate"), (48, "qe-not-loaded"), (1, "aesm-error"),
        (99, "aesm-error"))),
    ("quote.generation", lambda: without_aesm(base()), "fatal no-way-to-quote"),
    ("registration", lambda: changed(aesm_says(init=44), "firmware", variables=efi(
        SgxRegistrationStatus=registration(complete=False))), "fatal not-registered"),
    ("registration", lambda: changed(aesm_says(init=44), "firmware", variables=efi(
        SgxRegistrationStatus=registration(complete=False), SgxRegistrationConfiguration=b"\1\0\x08\0\1\0\0\0")),
     "fatal not-registered-automatic-off"),
    ("registration", lambda: changed(aesm_says(init=44), "firmware", variables=efi(
        SgxRegistrationStatus=registration(complete=False, error=0xA3))), "fatal registration-failed"),
    ("registration", lambda: aesm_says(init=44), "fatal registered-elsewhere"),
    ("registration", lambda: changed(aesm_says(init=44), "firmware", variables=efi()), "fatal not-registered"),
    ("registration", lambda: changed(aesm_says(init=1), "firmware", variables=efi()), "unknown registration-unknown"),
    ("registration", lambda: cpuinfo(changed(aesm_says(init=1), "firmware", variables=efi()), packages=2),
     "unknown multi-package-unknown"),
    ("registration.production", with_("cpu", msrs=msrs(platform=1 << 27)), "unsupported not-production"),
    ("registration.production", with_("cpu", msrs=msrs(debug=1)), "unsupported not-production"),
    ("host", lambda: changed(base(), "clock", state=ClockState(True, 9.0, None, "chronyc")), "fatal members"),
    ("apt.repository", sources("deb [arch=amd64] https://download.01.org/intel-sgx/sgx_repo/ubuntu bionic main"),
     "unsupported wrong-codename"),
    ("apt.repository", sources("deb <https://download.fortanix.com/linux/apt> xenial main"), "unsupported malformed-source"),
    ("apt.keys", lambda: keys(datetime(2023, 5, 24, tzinfo=UTC)), "unsupported key-expired"),
    ("apt.keys", lambda: keys(datetime(2026, 12, 24, tzinfo=UTC)), "unsupported key-expires-soon"),
    ("apt.keys", lambda: replace(base(), source=replace(base().source, time=None)), "unknown time-unrecorded"),
    ("clock", with_("clock", state=ClockState(True, -0.7, 1.0, "chronyc")), "fatal clock-off"),
    ("clock", endpoint(HttpReply(200, None, -90.0, 0.1)), "fatal clock-off"),
    ("clock", with_("clock", state=ClockState(False, None, 16.0, "adjtimex")), "unsupported clock-unsynchronised"),
    ("clock", with_("clock", state=REFUSED), "unknown clock-unread"),
    ("kubernetes", lambda: cluster(ready=False), "fatal members"),
    ("kubernetes.node", lambda: cluster(ready=False), "fatal node-not-ready"),
    ("kubernetes.node", lambda: cluster(unschedulable=True), "fatal node-not-ready"),
    ("kubernetes.node", lambda: cluster(name="other"), "unknown node-not-found"),
    ("kubernetes.node", base, "unknown no-cluster"),
    ("kubernetes.resources", lambda: cluster(allocatable=(NamedValue("sgx.intel.com/enclave", "0"),)),
     "fatal no-sgx-resources"),
    ("kubernetes.epc", lambda: cluster(allocatable=()), "fatal no-epc-resource"),
    ("kubernetes.labels", lambda: cluster(labels=()), "unsupported no-sgx-label"),
    ("vm", with_("virtualization", qemu=()), "fatal members"),
    ("vm.kvm", with_("virtualization", kvm=replace(node("/dev/kvm"), status=ABSENT)), "fatal no-kvm"),
    ("vm.kvm", lambda: cpuinfo(changed(base(), "virtualization", kvm=replace(node("/dev/kvm"), status=ABSENT)), flags=("sgx",)),
     "fatal no-vmx"),
    ("vm.config", with_("kernel", config=(NamedValue("CONFIG_X86_SGX_KVM", "n"),)), "fatal kernel-without-sgx-kvm"),
    ("vm.vepc", with_("devices", nodes=nodes(node(ENCLAVE))), "fatal no-vepc"),
    ("vm.vepc", with_("devices", nodes=nodes(node("/dev/sgx_vepc", opened=REFUSED))), "unsupported vepc-refused"),
    ("vm.qemu", with_("virtualization", qemu=()), "fatal no-qemu"),
    ("vm.qemu", with_("virtualization", qemu=(Tool("qemu", "/q", "QEMU emulator version 5.2.0"),)), "fatal qemu-too-old"),
    ("vm.qemu", with_("virtualization", qemu=(Tool("qemu", "/q", None),)), "unknown qemu-version-unread"),
    ("vm.libvirt", with_("virtualization", libvirt_qemu_conf=TextFile("/etc/libvirt/qemu.conf", "", False)),
     "unsupported libvirt-without-vepc"),
]  # fmt: skip

PASSING: list[tuple[str, Judged]] = [
    *(
        (check.id, base)
        for check in CHECKS
        if not check.id.startswith(("kubernetes", "container", "device.l", "launch.whitelisted", "feature.e", "feature.o"))
    ),
    *((check.id, kubernetes_node) for check in CHECKS if check.id.startswith("kubernetes")),
    *((name, with_("cpu", cpuid=cpuid(tuple(
        replace(entry, eax=0xC63) if (entry.leaf, entry.subleaf) == (0x12, 0) else entry for entry in leaves()
    )))) for name in ("feature.exinfo", "feature.enclv", "feature.oversub", "feature.edeccssa")),
    ("container", lambda: in_container(base())),
    ("container.device", lambda: in_container(base())),
    ("device.links", with_("devices", nodes=nodes(node(ENCLAVE), node("/dev/sgx/enclave", link="../sgx_enclave")))),
    ("device.low_addresses", with_("kernel", mmap_min_addr=0)),
    ("cpu.sgx", with_("cpu", cpuid=REFUSED)),
    ("cpu.epc", with_("cpu", cpuid=cpuid(leaves(protection=1)))),
    ("cpu.epc", with_("cpu", cpuid=cpuid(leaves(protection=3)))),
    ("flc.configuration", with_("cpu", msrs=REFUSED)),
    ("flc.configuration", lambda: changed(without_driver(base()), "cpu", msrs=REFUSED)),
    ("kernel.version", lambda: changed(base(), "kernel", release="4.19.91-27.an8.x86_64")),
    ("kernel.driver", lambda: in_container(changed(base(), "devices", nodes=nodes()))),
    ("apt.keys", lambda: keys(datetime(2023, 5, 24, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))),
    ("apt.repository", sources("deb https://download.01.org/intel-sgx/sgx_repo/ubuntu jammy main")),
    ("provision.right", with_("devices", nodes=nodes(node(ENCLAVE), node(PROVISION, mode=0o666)))),
    ("quote.library", with_("software", libraries=())),
    ("quote.service", lambda: changed(
        changed(base(), "quote_provider", configuration=TextFile("/q", '{"pccs_url": "https://a/", "use_secure_cert": false}',
                                                                 False)),
        "network", endpoints=(Endpoint("https://a/", HttpReply(200, "self-signed", None, 0.1)),))),
    ("registration", lambda: changed(aesm_says(init=1), "cpu", smt="off")),
    ("vm.config", with_("kernel", config=REFUSED)),
    ("vm.libvirt", with_("virtualization", libvirt_qemu_conf=TextFile(
        "/q", 'cgroup_device_acl = [\n "/dev/null",\n "/dev/sgx_vepc" ]\n', False))),
]  # fmt: skip

NOT_APPLICABLE: list[tuple[str, Judged]] = [
    ("container", base),
    ("container.device", base),
    ("launch.whitelisted", base),
    ("apt.keys", no_apt),
    ("apt.repository", no_apt),
    ("aesm.installed", lambda: SYSTEM_CONTAINER_AESM),
    ("registration", lambda: changed(changed(aesm_says(init=1), "firmware", variables=efi()), "system",
                                     hypervisor=Hypervisor(True, "KVMKVMKVM"))),
]  # fmt: skip


def verdict(name: str, facts: Judged) -> Verdict:
    return judge(facts())[name]


@pytest.mark.parametrize(("name", "facts", "expected"), FAILING)
def test_a_check_fails(name: str, facts: Judged, expected: str) -> None:
    found = verdict(name, facts)
    assert found.outcome is Outcome.JUDGED
    assert f"{found.status.value} {found.code}" == expected


@pytest.mark.parametrize(("name", "facts"), PASSING)
def test_a_check_passes(name: str, facts: Judged) -> None:
    found = verdict(name, facts)
    assert (found.outcome, found.status) == (Outcome.JUDGED, Status.SUPPORTED), found


@pytest.mark.parametrize(("name", "facts"), NOT_APPLICABLE)
def test_a_check_does_not_apply(name: str, facts: Judged) -> None:
    assert verdict(name, facts).outcome is Outcome.NOT_APPLICABLE


def test_no_check_is_left_out() -> None:
    every = {check.id for check in CHECKS}
    assert {name for name, _ in PASSING} | {"launch.whitelisted"} == every
    assert {name for name, _, _ in FAILING} | {"launch.whitelisted"} == every


def test_facts_of_which_nothing_is_known_fail_nothing() -> None:
    from sgxkit.host.facts import Source, unread_facts

    source = Source("sgxkit-probe", "0", None, None, None, "/", False, (), ())
    for kind in ("unrecorded", "permission", "timeout", "error", "skipped"):
        verdicts = judge(unread_facts(source, Unread(kind, "why")))  # type: ignore[arg-type]
        fatal = {name for name, found in verdicts.items() if found.status is Status.FATAL}
        # A refused or failed connection is known: there is no AESM to be had.
        assert fatal <= (
            {"aesm", "aesm.socket", "quote.generation", "attestation"}
            if kind in ("permission", "timeout", "error")
            else set()
        )


def test_the_evidence_is_the_very_fact() -> None:
    def shown(name: str, facts: Judged) -> dict[str, str]:
        return {entry.fact: entry.value for entry in verdict(name, facts).evidence}

    assert shown("kernel.command_line", with_("kernel", command_line="ro nosgx"))["kernel.command_line"] == "ro nosgx"
    assert shown("flc.configuration", with_("cpu", msrs=msrs(1)))["cpu.msrs[0x3a]"] == "0x0000000000000001"
    assert shown("device.exec", with_("devices", mounts=(Mount("/dev", "udev", "devtmpfs", ("rw", "noexec")),))) == {
        "devices.mounts[/dev]": "devtmpfs rw,noexec"
    }
    assert shown("kernel.version", base) == {"kernel.release": "6.1.0-28-amd64"}


def test_packages_that_are_not_installed_do_not_count() -> None:
    removed = (Package("libsgx-launch", "2.27", "dpkg", "config-files"),)
    found = verdict("psw.removed", with_("software", packages=(*packages("2.29", "libsgx-urts"), *removed)))
    assert found.status is Status.SUPPORTED


def test_time_is_the_facts_own() -> None:
    late = replace(keys(DAY), source=replace(base().source, time=NOW + 10 * 365 * 86400))
    early = replace(keys(DAY), source=replace(base().source, time=0.0))
    assert judge(late)["apt.keys"].code == "key-expired"
    assert judge(early)["apt.keys"].code == "ok"
