"""Hosts composed for tests: one healthy server, and what differs on others.

Nobody captured these; each is what the sources of docs/reference/host.md say that such a host shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sgxkit.host.facts import (
    SCHEMA,
    AccountFacts,
    AesmExchange,
    AesmFacts,
    AesmReply,
    AptKey,
    ClockFacts,
    ClockState,
    Container,
    CpuFacts,
    CpuidLeaf,
    CpuidOfCpu,
    Cpuinfo,
    DeviceFacts,
    DeviceNode,
    EfiContent,
    EfiVariable,
    Endpoint,
    EpcNode,
    Facts,
    FirmwareFacts,
    Group,
    HttpReply,
    Hypervisor,
    Init,
    KernelFacts,
    KernelLog,
    KernelModule,
    KubernetesCluster,
    KubernetesFacts,
    KubernetesNode,
    Launch,
    LaunchFacts,
    Library,
    MiscDevice,
    Mount,
    Msr,
    MsrsOfCpu,
    NamedValue,
    NetworkFacts,
    NodeStatus,
    OsRelease,
    Package,
    Process,
    QuoteProviderFacts,
    RegistrationFacts,
    ServiceFacts,
    SoftwareFacts,
    Source,
    SystemFacts,
    TextFile,
    Tool,
    Unit,
    Unread,
    User,
    VirtualizationFacts,
)

ABSENT = Unread("absent", "No such file or directory", 2)
REFUSED = Unread("permission", "Permission denied", 13)
UNRECORDED = Unread("unrecorded", "not in this document")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
PCS = "https://api.trustedservices.intel.com/sgx/certification/v4/"
QCNL = '{\n  // the service that has the certificates\n  "pccs_url": "' + PCS + '",\n  "use_secure_cert": true\n}\n'
ENCLAVE, PROVISION = "/dev/sgx_enclave", "/dev/sgx_provision"
ALL_NODES = (ENCLAVE, PROVISION, "/dev/sgx_vepc", "/dev/sgx/enclave", "/dev/sgx/provision", "/dev/isgx", "/dev/sgx",
             "/dev/sgx_prv", "/dev/gsgx")  # fmt: skip

Change = Callable[[Facts], Facts]


def node(
    path: str, *, mode: int = 0o660, gid: int = 990, group: str | None = "sgx", opened: object = True,
    edmm: object = True, link: str | None = None,
) -> DeviceNode:  # fmt: skip
    status = NodeStatus("character", link, 10, 125, mode, 0, gid, "root", group)
    return DeviceNode(path, status, opened, edmm)  # type: ignore[arg-type]


def missing(path: str) -> DeviceNode:
    return DeviceNode(path, ABSENT, ABSENT, ABSENT)


def nodes(*present: DeviceNode) -> tuple[DeviceNode, ...]:
    by_path = {entry.path: entry for entry in present}
    return tuple(by_path.get(path, missing(path)) for path in ALL_NODES)


def leaves(
    *, sgx: bool = True, flc: bool = True, sgx1: bool = True, sgx2: bool = True, epc: int = 0x1_0000_0000,
    protection: int = 2, attributes: int = 0x4B6, vendor: str = "GenuineIntel",
) -> tuple[CpuidLeaf, ...]:  # fmt: skip
    ebx, edx, ecx = (int.from_bytes(vendor.encode()[at : at + 4], "little") for at in (0, 4, 8))
    found = [
        CpuidLeaf(0, 0, 0x1B, ebx, ecx, edx),
        CpuidLeaf(7, 0, 0, int(sgx) << 2, int(flc) << 30, 0),
        CpuidLeaf(
            0x12, 0, int(sgx1) | int(sgx1 and sgx2) << 1 | int(sgx1) << 11, int(sgx1), 0, 0x381F if sgx1 else 0
        ),
        CpuidLeaf(0x12, 1, attributes if sgx1 else 0, 0, 0x2E7 if sgx1 else 0, 0),
    ]
    if epc:
        found.append(CpuidLeaf(0x12, 2, 1, 1, (epc & 0xFFFF_F000) | protection, epc >> 32))
    found.append(CpuidLeaf(0x12, 3 if epc else 2, 0, 0, 0, 0))
    return tuple(found)


def cpuid(*cpus: tuple[CpuidLeaf, ...]) -> tuple[CpuidOfCpu, ...]:
    return tuple(CpuidOfCpu(number, "device", entry) for number, entry in enumerate(cpus))


def msrs(feature_control: int = 1 << 18 | 1 << 17 | 1, *, cpus: int = 2, platform: int = 0, debug: int = 0) -> Any:
    return tuple(
        MsrsOfCpu(
            number, (Msr(0x3A, feature_control), Msr(0xCE, platform), Msr(0x503, debug), Msr(0x8B, 0xD0003B9 << 32))
        )
        for number in range(cpus)
    )


def reply(code: int | None, *, closed: bool = False, message: int = 19) -> AesmReply:
    if closed:
        return AesmReply("closed", None, None, None, None, None, None, None, None)
    return AesmReply("response", message, code, None, 2 if code == 0 else None, None, None, None, None)


def conversation(select: int | None = 0, init: int | None = 0, legacy: int | None = None) -> tuple[AesmExchange, ...]:
    def old() -> AesmReply:
        return reply(None, closed=True) if legacy is None else reply(legacy)

    return (
        AesmExchange(19, "selectAttKeyID", 0.01, reply(select)),
        AesmExchange(21, "getSupportedAttKeyIDNum", 0.01, reply(select)),
        AesmExchange(15, "initQuoteEx", 0.01, reply(init)),
        AesmExchange(10, "getWhiteListSize", 0.01, old()),
        AesmExchange(12, "sgxGetExtendedEpidGroupId", 0.01, old()),
    )


def packages(version: str, *names: str) -> tuple[Package, ...]:
    return tuple(Package(name, version, "dpkg", "installed") for name in names)


CURRENT = (
    *packages(
        "2.29.100.1-bookworm1", "sgx-aesm-service", "libsgx-enclave-common", "libsgx-urts", "libsgx-quote-ex",
        "libsgx-aesm-quote-ex-plugin", "libsgx-aesm-ecdsa-plugin", "libsgx-aesm-pce-plugin",
    ),
    *packages("1.26.100.1-bookworm1", "libsgx-dcap-ql", "libsgx-dcap-default-qpl"),
)  # fmt: skip
AESMD = Unit("aesmd.service", "loaded", "active", "running", "enabled", "success")
FLAGS = ("fsgsbase", "sgx", "sgx_lc", "vmx", "aes")


def efi(**contents: bytes) -> tuple[EfiVariable, ...]:
    names = ("EPCBIOS", "EPCSW", "SOFTWAREGUARDSTATUS", "SgxRegistrationStatus", "SgxRegistrationConfiguration",
             "SgxRegistrationServerRequest")  # fmt: skip
    return tuple(
        EfiVariable(name, "guid", EfiContent(7, len(contents[name]), contents[name].hex()))
        if name in contents
        else EfiVariable(name, None, ABSENT)
        for name in names
    )


def registration(*, complete: bool, error: int = 0) -> bytes:
    return bytes((1, 0, 7, 0, int(complete), 0, error))


def healthy() -> Facts:
    """A single-socket Ice Lake server with Debian 12, read by a user who may open the device."""
    return Facts(
        schema=SCHEMA,
        source=Source("sgxkit-probe", "0.1.0", "3.11.2", NOW, 0.2, "/", True, (), ()),
        cpu=CpuFacts(
            architecture="x86_64",
            online="0-1",
            smt="off",
            cpuinfo=Cpuinfo(2, 1, "GenuineIntel", 6, 106, 6, "Intel(R) Xeon(R) Gold 6330", ("0xd0003b9",), FLAGS, ()),
            cpuid=cpuid(leaves(), leaves()),
            msrs=msrs(),
        ),
        firmware=FirmwareFacts(
            boot_mode="uefi",
            variables=efi(
                SOFTWAREGUARDSTATUS=bytes((1, 0)),
                SgxRegistrationStatus=registration(complete=True),
                SgxRegistrationConfiguration=bytes(8),
            ),
            secure_boot=False,
        ),
        kernel=KernelFacts(
            release="6.1.0-28-amd64",
            version="#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1",
            command_line="BOOT_IMAGE=/vmlinuz-6.1.0-28-amd64 ro quiet",
            config=(NamedValue("CONFIG_X86_SGX", "y"), NamedValue("CONFIG_X86_SGX_KVM", "y")),
            lockdown="none",
            dmesg_restrict=0,
            mmap_min_addr=65536,
            epc_nodes=(EpcNode(0, 0x1_0000_0000),),
            misc_devices=(
                MiscDevice(125, "sgx_enclave"),
                MiscDevice(126, "sgx_provision"),
                MiscDevice(124, "sgx_vepc"),
            ),
            modules=(KernelModule("kvm_intel", True, None),),
            available_modules=(),
            modprobe_lines=(),
            udev_rules=(),
            log=KernelLog("journalctl", ("sgx: EPC section 0x100000000-0x1ffffffff",), True),
        ),
        devices=DeviceFacts(
            nodes=nodes(
                node(ENCLAVE),
                node(PROVISION, gid=991, group="sgx_prv", opened=REFUSED, edmm=ABSENT),
                node("/dev/sgx_vepc", edmm=ABSENT),
            ),
            mounts=(
                Mount("/", "/dev/nvme0n1p2", "ext4", ("rw", "relatime")),
                Mount("/dev", "udev", "devtmpfs", ("rw", "nosuid", "relatime", "mode=755")),
            ),
        ),
        accounts=AccountFacts(
            user=User("alice", 1000, 1000, (1000, 990), 0),
            groups=(Group("sgx", 990, ("alice", "aesmd")), Group("sgx_prv", 991, ("aesmd",))),
            service_users=("aesmd",),
        ),
        system=SystemFacts(
            hostname="server1",
            os_release=OsRelease("debian", (), "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"),
            hypervisor=Hypervisor(False, None),
            dmi=ABSENT,
            cloud="none",
            container=Container("none", ()),
            init=Init("systemd", True, 252),
        ),
        clock=ClockFacts(ClockState(True, 0.0003, 0.01, "adjtimex")),
        services=ServiceFacts(
            units=(AESMD, Unit("chrony.service", "loaded", "active", "running", "enabled", "success")),
            processes=(Process(700, "aesm_service", 110),),
        ),
        aesm=AesmFacts(
            socket_path="/var/run/aesmd/aesm.socket",
            socket=NodeStatus("socket", None, None, None, 0o777, 110, 110, "aesmd", "aesmd"),
            connect=True,
            conversation=conversation(),
            bundles=("libquote_ex_service.so", "libecdsa_quote_service.so", "libpce_service.so"),
            configuration=TextFile("/etc/aesmd.conf", "", False),
        ),
        software=SoftwareFacts(
            packages=CURRENT,
            libraries=(
                Library("/usr/lib/x86_64-linux-gnu/libsgx_enclave_common.so.1", False, None),
                Library(
                    "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1",
                    True,
                    "/usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1.14.100.1",
                ),
            ),
            tools=(),
            apt_sources=(
                TextFile(
                    "/etc/apt/sources.list.d/intel-sgx.list",
                    "deb [signed-by=/etc/apt/keyrings/intel-sgx-keyring.asc arch=amd64] "
                    "file:///opt/intel/sgx_debian_local_repo bookworm main\n",
                    False,
                ),
            ),
            apt_keys=(
                AptKey(
                    "/etc/apt/keyrings/intel-sgx-keyring.asc",
                    "150434D1488BF80308B69398E5C7F0FA1C6C6C3C",
                    "CN=Intel(R) Software Development Products",
                    int(datetime(2023, 3, 20, tzinfo=UTC).timestamp()),
                    int(datetime(2027, 3, 20, tzinfo=UTC).timestamp()),
                ),
            ),
        ),
        quote_provider=QuoteProviderFacts(
            environment=(), configuration=TextFile("/etc/sgx_default_qcnl.conf", QCNL, False), pccs_urls=(PCS,)
        ),
        network=NetworkFacts(endpoints=(Endpoint(PCS, HttpReply(200, None, 0.2, 0.1)),)),
        registration=RegistrationFacts(log=ABSENT, configuration=ABSENT),
        kubernetes=KubernetesFacts(cluster=ABSENT),
        virtualization=VirtualizationFacts(
            kvm=node("/dev/kvm", group="kvm", edmm=ABSENT),
            kvm_intel_parameters=(),
            qemu=(Tool("qemu-system-x86_64", "/usr/bin/qemu-system-x86_64", "QEMU emulator version 7.2.15"),),
            libvirt_qemu_conf=ABSENT,
        ),
        launch=LaunchFacts(debug=Launch("launched", "in 3 ms"), production=Launch("launched", "in 3 ms")),
    )


def changed(facts: Facts, section: str, **fields: object) -> Facts:
    """The facts with some of one section's fields replaced."""
    return replace(facts, **{section: replace(getattr(facts, section), **fields)})  # type: ignore[arg-type]


def cpuinfo(facts: Facts, **fields: object) -> Facts:
    info = facts.cpu.cpuinfo
    assert isinstance(info, Cpuinfo)
    return changed(facts, "cpu", cpuinfo=replace(info, **fields))  # type: ignore[arg-type]


def without_driver(facts: Facts) -> Facts:
    """No SGX in the kernel, so no device, nothing launched and nothing quoted."""
    facts = changed(facts, "kernel", misc_devices=(), epc_nodes=ABSENT, log=KernelLog("journalctl", (), True))
    facts = changed(facts, "devices", nodes=nodes())
    nothing = Launch("no_device", "there is no SGX device")
    facts = changed(facts, "launch", debug=nothing, production=nothing)
    return changed(facts, "aesm", conversation=conversation(select=38, init=38))


def without_aesm(facts: Facts) -> Facts:
    facts = changed(
        facts, "aesm", socket=ABSENT, connect=ABSENT, conversation=ABSENT, bundles=ABSENT, configuration=ABSENT
    )
    facts = changed(facts, "services", units=(), processes=())
    facts = changed(facts, "accounts", service_users=())
    return changed(facts, "software", packages=(), libraries=(), apt_sources=(), apt_keys=())


def bios_off() -> Facts:
    facts = cpuinfo(without_driver(healthy()), flags=("fsgsbase", "vmx", "aes"))
    facts = changed(facts, "cpu", cpuid=cpuid(leaves(sgx1=False, epc=0), leaves(sgx1=False, epc=0)), msrs=REFUSED)
    facts = changed(facts, "firmware", variables=efi(SOFTWAREGUARDSTATUS=bytes((0, 0))))
    return changed(facts, "kernel", log=KernelLog("journalctl", ("x86/cpu: SGX disabled by BIOS.",), True))


def flc_locked() -> Facts:
    facts = cpuinfo(without_driver(healthy()), flags=("fsgsbase", "sgx", "vmx", "aes"))
    facts = changed(facts, "cpu", msrs=msrs(1 << 18 | 1))
    facts = changed(
        facts,
        "devices",
        nodes=nodes(
            node(PROVISION, mode=0o600, gid=0, group="root", opened=REFUSED), node("/dev/sgx_vepc", edmm=ABSENT)
        ),
    )
    return changed(
        facts,
        "kernel",
        misc_devices=(MiscDevice(126, "sgx_provision"), MiscDevice(124, "sgx_vepc")),
        log=KernelLog(
            "journalctl", ("x86/cpu: SGX Launch Control is locked. Support SGX virtualization only.",), True
        ),
    )


def no_flc() -> Facts:
    facts = cpuinfo(without_aesm(without_driver(healthy())), flags=("fsgsbase", "sgx", "vmx", "aes"))
    return changed(
        facts, "cpu", cpuid=cpuid(*[leaves(flc=False, sgx2=False, protection=1, epc=0x5D8_0000)] * 2), msrs=REFUSED
    )


def dev_noexec() -> Facts:
    facts = changed(
        healthy(), "devices", mounts=(Mount("/dev", "udev", "devtmpfs", ("rw", "nosuid", "noexec", "relatime")),)
    )
    refused = Launch("failed", "mmap: Operation not permitted", "mmap", 1)
    return changed(facts, "launch", debug=refused, production=refused)


def not_in_group() -> Facts:
    facts = changed(
        healthy(), "accounts", user=User("bob", 1001, 1001, (1001,), 0), groups=(Group("sgx", 990, ("aesmd",)),
                                                                                Group("sgx_prv", 991, ("aesmd",)))
    )  # fmt: skip
    present = (node(ENCLAVE, opened=REFUSED, edmm=REFUSED),
               node(PROVISION, gid=991, group="sgx_prv", opened=REFUSED, edmm=REFUSED))  # fmt: skip
    facts = changed(facts, "devices", nodes=nodes(*present))
    untried = Launch("not_attempted", "the device cannot be opened")
    return changed(facts, "launch", debug=untried, production=untried)


def dead_aesm() -> Facts:
    facts = changed(
        healthy(), "aesm", connect=Unread("error", "Connection refused", 111), conversation=UNRECORDED
    )  # fmt: skip
    return changed(
        facts,
        "services",
        units=(Unit("aesmd.service", "loaded", "failed", "failed", "enabled", "exit-code"),),
        processes=(),
    )


def stale_socket_in_container_setup() -> Facts:
    """AESM ran in a container that is gone: no package, no unit, but its socket file."""
    facts = changed(
        healthy(), "aesm", connect=Unread("error", "Connection refused", 111), conversation=UNRECORDED, bundles=ABSENT
    )
    facts = changed(facts, "services", units=Unread("unsupported", "systemd does not manage this system"),
                    processes=Unread("error", "not read"))  # fmt: skip
    return changed(facts, "software", packages=Unread("timeout", "no answer"))


def old_psw() -> Facts:
    old = packages(
        "2.27.100.1-bookworm1", "sgx-aesm-service", "libsgx-enclave-common", "libsgx-urts", "libsgx-launch",
        "libsgx-epid", "libsgx-aesm-launch-plugin", "libsgx-aesm-epid-plugin",
    )  # fmt: skip
    facts = changed(healthy(), "software", packages=old)
    return changed(
        facts,
        "aesm",
        conversation=conversation(select=30, init=30, legacy=0),
        bundles=("lible_launch_service_bundle.so", "libepid_quote_service_bundle.so"),
    )


def container_without_device() -> Facts:
    facts = changed(healthy(), "devices", nodes=nodes(), mounts=(Mount("/dev", "tmpfs", "tmpfs", ("rw", "nosuid")),))
    facts = changed(facts, "system", container=Container("docker", ("/.dockerenv",)))
    untried = Launch("no_device", "there is no SGX device")
    facts = changed(facts, "launch", debug=untried, production=untried)
    facts = changed(without_aesm(facts), "services", units=Unread("unsupported", "no systemd"))
    return changed(facts, "cpu", msrs=ABSENT)


def unregistered() -> Facts:
    facts = cpuinfo(healthy(), packages=2)
    facts = changed(
        facts,
        "firmware",
        variables=efi(
            SOFTWAREGUARDSTATUS=bytes((1, 0)),
            SgxRegistrationStatus=registration(complete=False),
            SgxRegistrationConfiguration=bytes(8),
            SgxRegistrationServerRequest=bytes(64),
        ),
    )
    return changed(facts, "aesm", conversation=conversation(select=0, init=44))


def qcnl_comma() -> Facts:
    text = (
        "{\n"
        f'  "pccs_url": "{PCS}",\n'
        f'  "collateral_service": "{PCS}"\n'
        "\n"
        '  "retry_times": 6,\n'
        '  "retry_delay": 10\n'
        "}\n"
    )
    facts = changed(
        healthy(), "quote_provider", configuration=TextFile("/etc/sgx_default_qcnl.conf", text, False), pccs_urls=()
    )
    facts = changed(facts, "network", endpoints=())
    return changed(facts, "aesm", conversation=conversation(select=0, init=42))


def clock_off() -> Facts:
    return changed(healthy(), "clock", state=ClockState(False, 4.2, 16.0, "chronyc"))


def old_kernel() -> Facts:
    facts = without_aesm(without_driver(healthy()))
    facts = cpuinfo(facts, flags=("fsgsbase", "vmx", "aes"))
    facts = changed(facts, "kernel", release="5.4.0-200-generic", config=(NamedValue("CONFIG_X86_SGX", "n"),))
    return changed(
        facts, "system", os_release=OsRelease("ubuntu", ("debian",), "20.04", "focal", "Ubuntu 20.04.6 LTS")
    )


def no_epc() -> Facts:
    facts = changed(without_driver(healthy()), "cpu", cpuid=cpuid(leaves(epc=0), leaves(epc=0)))
    return changed(facts, "kernel", log=KernelLog("journalctl", ("sgx: There are zero EPC sections.",), True))


def azure_guest() -> Facts:
    """An Azure DCsv3 instance: a virtual EPC, no MSRs, no registration variables, Azure's collateral cache."""
    facts = changed(healthy(), "cpu", cpuid=cpuid(*[leaves(epc=0x8000_0000, attributes=0xB6)] * 2), msrs=REFUSED)
    facts = changed(facts, "kernel", epc_nodes=(EpcNode(0, 0x8000_0000),), release="6.8.0-1018-azure")
    facts = changed(facts, "firmware", variables=efi())
    facts = changed(
        facts,
        "system",
        hypervisor=Hypervisor(True, "Microsoft Hv"),
        cloud="azure",
        os_release=OsRelease("ubuntu", ("debian",), "24.04", "noble", "Ubuntu 24.04.1 LTS"),
    )
    facts = changed(facts, "software", apt_sources=(
        TextFile("/etc/apt/sources.list.d/intel-sgx.list",
                 "deb [arch=amd64] https://download.01.org/intel-sgx/sgx_repo/ubuntu noble main\n", False),
    ))  # fmt: skip
    azure = "https://global.acccache.azure.net/sgx/certification/v4/"
    return changed(
        facts,
        "quote_provider",
        configuration=TextFile("/etc/sgx_default_qcnl.conf", '{"pccs_url": "' + azure + '"}', False),
        pccs_urls=(azure,),
    )


def ordinary_guest() -> Facts:
    """A virtual machine of a cloud that gives it no SGX."""
    facts = cpuinfo(without_aesm(without_driver(healthy())), flags=("fsgsbase", "aes"))
    facts = changed(facts, "cpu", cpuid=cpuid(*[leaves(sgx=False, flc=False, sgx1=False, epc=0)] * 2), msrs=REFUSED)
    return changed(facts, "system", hypervisor=Hypervisor(True, "KVMKVMKVM"), cloud="amazon")


def kubernetes_node(*, resources: bool = True) -> Facts:
    allocatable = (
        NamedValue("sgx.intel.com/enclave", "110"),
        NamedValue("sgx.intel.com/provision", "110"),
        NamedValue("sgx.intel.com/epc", "4294967296"),
    )
    found = KubernetesNode(
        "server1", True, False, (NamedValue("intel.feature.node.kubernetes.io/sgx", "true"),),
        allocatable if resources else (), allocatable if resources else (),
    )  # fmt: skip
    return changed(
        healthy(), "kubernetes", cluster=KubernetesCluster("kubeconfig", "https://10.0.0.1:6443", "server1", (found,))
    )


HOSTS: dict[str, Callable[[], Facts]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        healthy, bios_off, flc_locked, no_flc, dev_noexec, not_in_group, dead_aesm, stale_socket_in_container_setup,
        old_psw, container_without_device, unregistered, qcnl_comma, clock_off, old_kernel, no_epc, azure_guest,
        ordinary_guest, kubernetes_node,
    )
}  # fmt: skip
