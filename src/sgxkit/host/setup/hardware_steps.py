"""Steps for the processor, the firmware and the kernel: what only a person, or only a boot, can change."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Literal

from sgxkit.host.checks.check import Verdicts, root_causes
from sgxkit.host.checks.drivers import Driver, driver
from sgxkit.host.checks.evidence import known
from sgxkit.host.facts import EfiContent, Facts
from sgxkit.host.remedies.distribution import Distribution, newer_kernel
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.host.setup.actions import (
    AddAptRepository,
    AskPerson,
    InstallKernel,
    Reboot,
    RemoveKernelArgument,
    RemovePackages,
    WriteEfiVariable,
    WriteFile,
)
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.step import Step
from sgxkit.messages import Message, msg

_PROCESSOR = ("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc")
_EPCSW_GUID = "d69a279b-58eb-45d1-a148-771bb9eb5251"
_EFI_ATTRIBUTES = 7
"""Non-volatile, for boot and run time (UEFI 2.10, 8.2)."""
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MINIMUM_KERNEL = "5.11"


def processor_steps(facts: Facts, verdicts: Verdicts) -> Iterator[Step]:
    """What the processor and the BIOS need; the first thing that only a person can do ends the plan."""
    for name in _PROCESSOR:
        if not verdicts[name].failed:
            continue
        root = root_causes(name, verdicts)[0]
        verdict = verdicts[root]
        if verdict.code == "software-controlled" and (size := _largest_epc(facts)):
            yield Step(
                "firmware.epc",
                WriteEfiVariable("EPCSW", _EPCSW_GUID, _EFI_ATTRIBUTES, struct.pack("<I", size).hex()),
                msg("SGX is off, and this BIOS lets software enable it for the next boot."),
                risks=(msg("Some firmware forgets the setting; then SGX must be enabled in the BIOS set-up."),),
                reboot=True,
            )
            yield Step(
                "firmware.reboot",
                Reboot(),
                msg("SGX will be enabled at the next boot."),
                risks=(_INTERRUPTS,),
                ends=True,
            )
            return
        if verdict.code == "enabled-at-next-boot":
            yield Step(
                "firmware.reboot",
                Reboot(),
                msg("SGX is off now and will be enabled at the next boot."),
                risks=(_INTERRUPTS,),
                ends=True,
            )
            return
        yield by_person(
            f"firmware.{verdict.code}", verdict.cause or msg("SGX is not usable."), verdict.remedies, facts
        )
        return
    if verdicts["flc.configuration"].code == "flc-locked":
        verdict = verdicts["flc.configuration"]
        yield by_person("firmware.flc-locked", verdict.cause or msg("SGX is not usable."), verdict.remedies, facts)


_INTERRUPTS = msg("A reboot ends everything that runs on this host.")


def board(facts: Facts) -> Message | None:
    """The board at hand and its BIOS, as a person looks for them in a manual."""
    dmi = known(facts.system.dmi)
    if dmi is None:
        return None
    names = [dmi.system_vendor, dmi.product_name, dmi.board_vendor, dmi.board_name]
    shown = ", ".join(dict.fromkeys(name for name in names if name))
    bios = " ".join(text for text in (dmi.bios_vendor, dmi.bios_version, dmi.bios_date) if text)
    return msg("This board: {board}; its BIOS: {bios}.", board=shown or "?", bios=bios or "?")


def by_person(name: str, why: Message, remedies: tuple[Remedy, ...], facts: Facts) -> Step:
    """A step that ends the plan until somebody has done it."""
    at_hand = board(facts)
    return Step(
        name,
        AskPerson(name),
        why,
        ends=True,
        todo=(*((at_hand,) if at_hand else ()), *(remedy.title for remedy in remedies)),
        commands=tuple(line for remedy in remedies for line in remedy.commands if "BIOS" not in line),
        link=next((remedy.link for remedy in remedies if remedy.link), None),
    )


def _largest_epc(facts: Facts) -> int:
    content = known(facts.firmware.variable("EPCBIOS"))
    if not isinstance(content, EfiContent) or content.data is None:
        return 0
    try:
        data = bytes.fromhex(content.data)
    except ValueError:
        return 0
    size: int = struct.unpack_from("<I", data, 4)[0] if len(data) >= 12 else 0
    return size


_BOOT_TOOLS: Mapping[str, Literal["grubby", "update-grub", "grub2-mkconfig"]] = {
    "apt": "update-grub",
    "dnf": "grubby",
    "zypper": "grub2-mkconfig",
}


def kernel_steps(facts: Facts, verdicts: Verdicts, distro: Distribution, options: Options) -> Iterator[Step]:
    """The kernel with its own driver, and no other beside it; or the driver of old where nothing else can serve."""
    without_flc = verdicts["flc.cpu"].code in ("no-flc", "guest-without-flc")
    if without_flc or options.driver == "legacy":
        yield from _legacy_driver(facts, verdicts, distro, options, without_flc=without_flc)
        return
    if verdicts["kernel.command_line"].code == "nosgx":
        why = msg("SGX is switched off by nosgx on the kernel's command line.")
        tool = _BOOT_TOOLS.get(distro.packager)
        if tool is None:
            yield by_person("kernel.nosgx", why, verdicts["kernel.command_line"].remedies, facts)
            return
        yield Step(
            "kernel.nosgx",
            RemoveKernelArgument("nosgx", tool),
            why,
            risks=(msg("The boot loader's configuration is written anew."),),
            reboot=True,
        )
    if verdicts["kernel.conflict"].code in ("two-drivers", "isgx-on-flc"):
        yield from _without_isgx(distro)
    version = verdicts["kernel.version"].code
    if version in ("kernel-too-old", "kernel-needs-old-driver"):
        yield from _newer_kernel(facts, distro)
    elif verdicts["kernel.config"].code == "kernel-without-sgx":
        verdict = verdicts["kernel.config"]
        yield by_person("kernel.without-sgx", verdict.cause or msg("SGX is not usable."), verdict.remedies, facts)


def _without_isgx(distro: Distribution) -> Iterator[Step]:
    if distro.packager != "none":
        yield Step(
            "kernel.isgx-package",
            RemovePackages(distro.packager, ("intel-sgx-dkms",)),
            msg("The old driver isgx disturbs the kernel's own."),
            risks=(
                msg("Programs that were built for /dev/isgx stop working."),
                msg("A driver that Intel's .bin installed is removed by /opt/intel/sgxdriver/uninstall.sh, by hand."),
            ),
            reboot=True,
        )
    yield Step(
        "kernel.isgx-blacklist",
        WriteFile("/etc/modprobe.d/sgxkit-no-isgx.conf", "blacklist isgx\n"),
        msg("A module that is blacklisted is not loaded at the next boot."),
        reboot=True,
    )


def _newer_kernel(facts: Facts, distro: Distribution) -> Iterator[Step]:
    release = known(facts.kernel.release) or "?"
    why = msg("Kernel {release} has no SGX driver; 5.11 is the first.", release=release)
    kernel = newer_kernel(distro)
    if kernel is None or distro.packager == "none":
        yield _mainline(why, distro)
        return
    after: tuple[str, ...] = ()
    if kernel.suite is not None:
        yield Step(
            "kernel.repository",
            AddAptRepository(
                "http://deb.debian.org/debian",
                kernel.suite,
                ("main",),
                f"/etc/apt/sources.list.d/{kernel.suite}.sources",
                _DEBIAN_KEYRING,
                None,
            ),
            msg("The distribution's own newer kernel is in {suite}.", suite=kernel.suite),
            risks=(
                msg("The suite of a release whose support has ended moves to archive.debian.org."),
                msg("Packages of backports are installed only where they are asked for by name."),
            ),
        )
        after = ("kernel.repository",)
    yield Step(
        "kernel.package",
        InstallKernel(distro.packager, kernel.packages, kernel.release, MINIMUM_KERNEL),
        why,
        risks=(
            msg("The old kernel stays and can be chosen at boot."),
            msg("Modules that were built for the old kernel (DKMS) must be built again."),
        ),
        reboot=True,
    )
    yield Step(
        "kernel.reboot",
        Reboot(),
        msg("The new kernel runs from the next boot on."),
        risks=(_INTERRUPTS,),
        after=("kernel.package", *after),
    )


def _mainline(why: Message, distro: Distribution) -> Step:
    ubuntu = distro.id == "ubuntu"
    return Step(
        "kernel.upgrade-release",
        AskPerson("kernel.upgrade-release"),
        why,
        ends=True,
        todo=(
            msg("Upgrade this system to a release whose kernel has SGX; this one has none of its own."),
            *(
                (
                    msg(
                        "As a last resort only: a mainline kernel of Ubuntu's kernel team. It gets no security "
                        "updates, is not signed (Secure Boot refuses it), and must be verified: check CHECKSUMS.gpg, "
                        "then the sums, and install the headers of both kinds."
                    ),
                )
                if ubuntu
                else ()
            ),
        ),
        commands=(
            (
                "do-release-upgrade",
                "gpg --recv-keys 60AA7B6F30434AE68E569963E50C6A0917C622B0",
                "gpg --verify CHECKSUMS.gpg CHECKSUMS && sha256sum --ignore-missing -c CHECKSUMS",
                "apt install ./linux-headers-*_all.deb ./linux-headers-*-generic_*_amd64.deb "
                "./linux-modules-*.deb ./linux-image-unsigned-*.deb",
            )
            if ubuntu
            else ()
        ),
        link="https://kernel.ubuntu.com/mainline/" if ubuntu else None,
    )


_LEGACY_STATE = msg(
    "The out-of-tree driver isgx is no longer maintained by anyone; PSW 2.28 and later do not support it, so that "
    "enclaves run only with software of 2.27 or older, and DCAP quotes are impossible."
)


def _legacy_driver(
    facts: Facts, verdicts: Verdicts, distro: Distribution, options: Options, *, without_flc: bool
) -> Iterator[Step]:
    cause = verdicts["flc.cpu"].cause
    why = cause if without_flc and cause else msg("The driver of old was asked for.")
    if options.driver == "in-kernel" or options.purpose.aesm:
        remedies = verdicts["flc.cpu"].remedies
        if without_flc:
            yield by_person("driver.no-flc", why, remedies, facts)
            return
    if driver(facts) is Driver.LEGACY:
        return
    if not without_flc:
        yield Step(
            "driver.legacy-refused",
            AskPerson("driver.legacy-refused"),
            msg(
                "This processor has flexible launch control: the kernel's own driver serves it, and isgx would harm."
            ),
            ends=True,
            todo=(msg("Leave out --driver legacy."),),
        )
        return
    commands: tuple[str, ...]
    link: str | None
    if (distro.id, distro.version) in (("ubuntu", "16.04"), ("ubuntu", "18.04")):
        how = msg(
            "Add Fortanix's repository, compare its key's fingerprint with Fortanix's page, install the driver."
        )
        link = "https://edp.fortanix.com/docs/installation/guide/"
        commands = (
            "curl -fsSL https://download.fortanix.com/linux/apt/fortanix.gpg -o /usr/share/keyrings/fortanix.asc",
            "gpg --show-keys --with-fingerprint /usr/share/keyrings/fortanix.asc",
            "echo 'deb [signed-by=/usr/share/keyrings/fortanix.asc] https://download.fortanix.com/linux/apt xenial "
            "main' > /etc/apt/sources.list.d/fortanix.list",
            'apt-get update && apt-get install "linux-headers-$(uname -r)" intel-sgx-dkms',
        )
    elif (distro.id, distro.version) in (("fedora", "33"), ("fedora", "34")):
        how = msg("Build and install the kernel module package that Oasis publishes for this release.")
        link = "https://github.com/oasisprotocol/sgx-driver-kmod"
        commands = ()
    else:
        how = msg("Run Intel's installer of the driver for this release, after comparing its checksum.")
        link = "https://download.01.org/intel-sgx/sgx-linux/"
        commands = ("sha256sum sgx_linux_x64_driver_*.bin", "sh ./sgx_linux_x64_driver_*.bin")
    secure_boot = known(facts.firmware.secure_boot)
    yield Step(
        "driver.legacy",
        AskPerson("driver.legacy"),
        why,
        risks=(
            _LEGACY_STATE,
            *(
                (msg("Secure Boot is on: the kernel refuses the module unless you sign it with a key of yours."),)
                if secure_boot
                else ()
            ),
        ),
        ends=True,
        todo=(how, msg("Reboot, and see that /dev/isgx is there.")),
        commands=commands,
        link=link,
    )
