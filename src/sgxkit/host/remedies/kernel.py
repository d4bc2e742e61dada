"""Remedies: the kernel and its SGX driver."""

from __future__ import annotations

from sgxkit.host.facts import Facts
from sgxkit.host.remedies.distribution import Distribution, distribution
from sgxkit.host.remedies.distribution import newer_kernel as kernel_packages
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

_KERNEL_DOCS = "https://docs.kernel.org/arch/x86/sgx.html"


def _newer_kernel(distro: Distribution) -> tuple[str, ...]:
    """The distribution's own newer kernel; never one without its updates and signatures."""
    kernel = kernel_packages(distro)
    if kernel is None:
        upgrade = ("do-release-upgrade",) if distro.id == "ubuntu" else ()
        return ("# this release has no such kernel: upgrade it", *upgrade) if distro.packager != "none" else ()
    names = " ".join(kernel.packages)
    if distro.packager == "dnf":
        return (f"dnf upgrade {names}   # a kernel of 5.11 or newer needs release 9 or later",)
    if distro.packager == "zypper":
        return (f"zypper update {names}   # a kernel of 5.11 or newer needs SLES 15 SP4 or later",)
    suite = (
        (f"echo 'deb http://deb.debian.org/debian {kernel.suite} main' > /etc/apt/sources.list.d/bpo.list",)
        if kernel.suite
        else ()
    )
    target = f"-t {kernel.release} " if kernel.release else ""
    return (*suite, f"apt-get update && apt-get install --install-recommends {target}{names}")


def newer_kernel(facts: Facts) -> Remedy:
    """Install the distribution's kernel that has the driver."""
    return Remedy(
        "newer-kernel",
        msg("Install a kernel of this distribution of version 5.11 or newer, keep the old one, and reboot into it."),
        (*_newer_kernel(distribution(facts)), "systemctl reboot", "uname -r"),
        root=True,
        reboot=True,
        link=_KERNEL_DOCS,
    )


KERNEL_WITH_SGX = Remedy(
    "kernel-with-sgx",
    msg("Use a kernel that is built with CONFIG_X86_SGX=y; the driver is part of the kernel and not a module."),
    ("grep CONFIG_X86_SGX /boot/config-*",),
    root=True,
    reboot=True,
    link=_KERNEL_DOCS,
)
KERNEL_WITH_SGX_KVM = Remedy(
    "kernel-with-sgx-kvm",
    msg("Use a kernel that is built with CONFIG_X86_SGX_KVM=y."),
    ("grep CONFIG_X86_SGX_KVM /boot/config-*",),
    root=True,
    reboot=True,
    link=_KERNEL_DOCS,
)
READ_KERNEL_LOG = Remedy(
    "read-kernel-log",
    msg("Read what the kernel says about SGX at boot."),
    ("journalctl -k -b | grep -i sgx || dmesg | grep -i sgx",),
    root=True,
)
DRAIN_AND_REBOOT = Remedy(
    "drain-and-reboot",
    msg("Stop all enclaves, reboot, and update the kernel: it lost EPC pages that only a reboot brings back."),
    ("systemctl reboot",),
    root=True,
    reboot=True,
)


def allow_sgx_on_command_line(facts: Facts) -> Remedy:
    """Take `nosgx` off the kernel's command line."""
    grubby = ("grubby --update-kernel=ALL --remove-args=nosgx",)
    regenerate = {
        "apt": ("sed -i 's/\\bnosgx\\b//' /etc/default/grub", "update-grub"),
        "dnf": grubby,
        "zypper": ("sed -i 's/\\bnosgx\\b//' /etc/default/grub", "grub2-mkconfig -o /boot/grub2/grub.cfg"),
        "none": (),
    }[distribution(facts).packager]
    return Remedy(
        "remove-nosgx",
        msg("Remove nosgx from the kernel's command line and reboot."),
        (*regenerate, "systemctl reboot"),
        root=True,
        reboot=True,
    )


def remove_out_of_tree_driver(facts: Facts, module: str) -> Remedy:
    """Remove isgx or the DCAP driver in favour of the kernel's own."""
    distro = distribution(facts)
    package = {"apt": "apt-get remove intel-sgx-dkms   # if it came as a package"}.get(distro.packager)
    return Remedy(
        "remove-out-of-tree-driver",
        msg("Remove the old driver {module} and reboot, so that the kernel's own driver works alone.", module=module),
        (
            "[ -x /opt/intel/sgxdriver/uninstall.sh ] && /opt/intel/sgxdriver/uninstall.sh",
            *((package,) if package else ()),
            f"modprobe -r {module}",
            "systemctl reboot",
        ),
        root=True,
        reboot=True,
    )


MMAP_MIN_ADDR = Remedy(
    "allow-low-mappings",
    msg("Only for enclaves that must start at address 0: allow mappings there."),
    ("sysctl -w vm.mmap_min_addr=0",),
    root=True,
)
