"""Operating systems of docs/reference/host.md 3.2, as os-release(5) names them, and the states of an SGX driver."""

from __future__ import annotations

import struct
from collections.abc import Callable

from doubles.hosts import (
    ENCLAVE,
    PROVISION,
    Change,
    bios_off,
    changed,
    cpuid,
    cpuinfo,
    dev_noexec,
    efi,
    flc_locked,
    healthy,
    leaves,
    no_flc,
    node,
    nodes,
    without_aesm,
    without_driver,
)
from sgxkit.host.facts import Facts, KernelModule, MiscDevice, NamedValue, OsRelease

RELEASES: dict[str, OsRelease] = {
    f"{release.id} {release.version_id}": release
    for release in (
        OsRelease("ubuntu", ("debian",), "16.04", "xenial", "Ubuntu 16.04"),
        OsRelease("ubuntu", ("debian",), "18.04", "bionic", "Ubuntu 18.04"),
        OsRelease("ubuntu", ("debian",), "20.04", "focal", "Ubuntu 20.04"),
        OsRelease("ubuntu", ("debian",), "22.04", "jammy", "Ubuntu 22.04"),
        OsRelease("ubuntu", ("debian",), "24.04", "noble", "Ubuntu 24.04"),
        OsRelease("ubuntu", ("debian",), "26.04", "resolute", "Ubuntu 26.04"),
        OsRelease("debian", (), "10", "buster", "Debian 10"),
        OsRelease("debian", (), "11", "bullseye", "Debian 11"),
        OsRelease("debian", (), "12", "bookworm", "Debian 12"),
        OsRelease("debian", (), "13", "trixie", "Debian 13"),
        OsRelease("rhel", ("fedora",), "9.6", "", "RHEL 9.6"),
        OsRelease("rhel", ("fedora",), "10.0", "", "RHEL 10.0"),
        OsRelease("centos", ("rhel", "fedora"), "9", "", "CentOS Stream 9"),
        OsRelease("centos", ("rhel", "fedora"), "10", "", "CentOS Stream 10"),
        OsRelease("almalinux", ("rhel", "centos", "fedora"), "9.5", "", "AlmaLinux 9.5"),
        OsRelease("rocky", ("rhel", "centos", "fedora"), "8.10", "", "Rocky 8.10"),
        OsRelease("sles", ("suse",), "15.7", "", "SLES 15 SP7"),
        OsRelease("sles", ("suse",), "16.0", "", "SLES 16.0"),
        OsRelease("opensuse-leap", ("suse", "opensuse"), "15.6", "", "Leap 15.6"),
        OsRelease("anolis", ("rhel", "fedora", "centos"), "8.10", "", "Anolis 8.10"),
        OsRelease("alinux", ("rhel", "fedora", "centos"), "3", "", "Alibaba Cloud Linux 3"),
        OsRelease("azurelinux", (), "3.0", "", "Azure Linux 3.0"),
        OsRelease("tencentos", ("rhel", "fedora", "centos"), "3.1", "", "TencentOS 3.1"),
        OsRelease("fedora", (), "33", "", "Fedora 33"),
        OsRelease("fedora", (), "42", "", "Fedora 42"),
        OsRelease("arch", (), "", "", "Arch Linux"),
    )
}


def _bare(facts: Facts) -> Facts:
    facts = without_aesm(facts)
    facts = changed(facts, "accounts", groups=())
    return changed(facts, "software", packages=())


def in_tree() -> Facts:
    facts = _bare(healthy())
    return changed(
        facts,
        "devices",
        nodes=nodes(node(ENCLAVE, mode=0o600, gid=0, group="root"), node(PROVISION, mode=0o600, gid=0, group="root")),
    )


def old_kernel() -> Facts:
    facts = cpuinfo(_bare(without_driver(healthy())), flags=("fsgsbase", "vmx", "aes"))
    return changed(facts, "kernel", release="5.4.0-1-generic", config=(NamedValue("CONFIG_X86_SGX", "n"),))


def kernel_without_sgx() -> Facts:
    return changed(_bare(without_driver(healthy())), "kernel", config=(NamedValue("CONFIG_X86_SGX", "n"),))


def nosgx() -> Facts:
    return changed(_bare(without_driver(healthy())), "kernel", command_line="ro quiet nosgx")


def _old_driver(path: str, module: str, release: str) -> Change:
    def change(facts: Facts) -> Facts:
        facts = changed(facts, "devices", nodes=nodes(node(path, mode=0o666, gid=0, group="root")))
        facts = changed(facts, "kernel", release=release, modules=(KernelModule(module, True, None),))
        return changed(facts, "kernel", misc_devices=(MiscDevice(125, path.rsplit("/", 1)[1]),))

    return change


def dcap_driver() -> Facts:
    return _old_driver("/dev/sgx/enclave", "intel_sgx", "5.4.0-1-generic")(old_kernel())


def early_dcap_driver() -> Facts:
    return _old_driver("/dev/sgx", "intel_sgx", "5.4.0-1-generic")(old_kernel())


def isgx_on_flc() -> Facts:
    return _old_driver("/dev/isgx", "isgx", "5.4.0-1-generic")(old_kernel())


def isgx_without_flc() -> Facts:
    facts = no_flc()
    return _old_driver("/dev/isgx", "isgx", "5.4.0-1-generic")(_bare(facts))


def two_drivers() -> Facts:
    return changed(in_tree(), "kernel", modules=(KernelModule("isgx", True, None),))


def software_controlled() -> Facts:
    facts = changed(_bare(bios_off()), "kernel", log=healthy().kernel.log)
    facts = changed(facts, "cpu", cpuid=cpuid(*[leaves(sgx1=False, epc=0)] * 2))
    bios = struct.pack("<3I", 1, 0x5D4_0000, 0) + bytes(128)
    return changed(facts, "firmware", variables=efi(SOFTWAREGUARDSTATUS=bytes((2, 0)), EPCBIOS=bios))


def noexec() -> Facts:
    return changed(in_tree(), "devices", mounts=dev_noexec().devices.mounts)


def in_container() -> Facts:
    from doubles.hosts import container_without_device

    return container_without_device()


STATES: dict[str, Callable[[], Facts]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        in_tree, old_kernel, kernel_without_sgx, nosgx, dcap_driver, early_dcap_driver, isgx_on_flc, isgx_without_flc,
        no_flc, flc_locked, two_drivers, bios_off, software_controlled, noexec, in_container,
    )
}  # fmt: skip


def host(release: str, state: str) -> Facts:
    """The facts of one system in one state."""
    return changed(STATES[state](), "system", os_release=RELEASES[release])
