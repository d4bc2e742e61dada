"""Remedies in the BIOS set-up, and the choice of hardware.

Names of BIOS options differ from vendor to vendor; those here are Intel's reference names. Source: Intel's hardware
set-up guide (intel/confidential-computing.tee.docs, `hardware_setup`).
"""

from __future__ import annotations

from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

_HARDWARE = "https://cc-enabling.trustedservices.intel.com/intel-tdx-enabling-guide/04/hardware_setup/"

ENABLE_SGX = Remedy(
    "enable-sgx-in-bios",
    msg(
        "Enter the BIOS set-up and set “SW Guard Extensions (SGX)” to Enabled; on a Xeon, first enable “Total Memory "
        "Encryption (TME)”."
    ),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link=_HARDWARE,
)
SET_EPC_SIZE = Remedy(
    "set-epc-size-in-bios",
    msg("Enter the BIOS set-up and give SGX memory: set “PRMRR size” (“SGX reserved memory size”) above zero."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link=_HARDWARE,
)
UNLOCK_FLC = Remedy(
    "unlock-launch-control-in-bios",
    msg("Enter the BIOS set-up and set “SGX Launch Control Policy” to Unlocked."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link=_HARDWARE,
)
UPDATE_BIOS = Remedy(
    "update-bios",
    msg("Update the BIOS; if that does not help, ask the vendor whether this board supports SGX."),
    ("dmidecode -s bios-version   # then look for a newer one at the vendor's",),
    root=True,
    reboot=True,
    firmware=True,
)
SET_ENABLED_INSTEAD_OF_SOFTWARE_CONTROLLED = Remedy(
    "set-sgx-enabled-in-bios",
    msg("Enter the BIOS set-up and choose Enabled instead of Software Controlled for SGX."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
)
REBOOT_PENDING = Remedy(
    "reboot",
    msg("Reboot: SGX is already scheduled to be enabled at the next boot."),
    ("systemctl reboot",),
    root=True,
    reboot=True,
)
ENABLE_VMX = Remedy(
    "enable-vmx-in-bios",
    msg("Enter the BIOS set-up and enable “Intel Virtualization Technology (VT-x)”."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
)
DISABLE_SMT = Remedy(
    "disable-hyper-threading",
    msg("Disable Hyper-Threading in the BIOS set-up."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link="https://docs.oasis.io/node/run-your-node/prerequisites/set-up-tee",
)
OTHER_HARDWARE = Remedy(
    "use-sgx-hardware",
    msg(
        "Use a machine with SGX: a Xeon Scalable of the 3rd generation or later, a Xeon E-2300, or an SGX instance "
        "of a cloud (Azure DCsv3/DCdsv3, Alibaba g7t/c7t/r7t, Tencent M6ce)."
    ),
    link="https://www.intel.com/content/www/us/en/architecture-and-technology/software-guard-extensions-processors.html",
)
SGX_INSTANCE = Remedy(
    "use-sgx-instance",
    msg(
        "Choose an instance type that offers SGX (Azure DCsv3/DCdsv3, Alibaba g7t/c7t/r7t, Tencent M6ce); other "
        "types hide it from the guest."
    ),
)
GIVE_GUEST_SGX = Remedy(
    "give-guest-sgx",
    msg("If the host is yours and has SGX, give it to this guest; run `sgxkit doctor --for vm-host` on the host."),
    (
        "# on the host, for QEMU 6.2 or later:",
        "qemu-system-x86_64 -cpu host,+sgx,+sgxlc,+sgx-provisionkey "
        "-object memory-backend-epc,id=epc0,size=64M,prealloc=on -M sgx-epc.0.memdev=epc0,sgx-epc.0.node=0 ...",
    ),
    link="https://www.qemu.org/docs/master/system/i386/sgx.html",
)
READ_AS_ROOT = Remedy(
    "read-as-root",
    msg("Run the doctor as root, so that it can read the processor's registers and the firmware's settings."),
    ("modprobe -a msr cpuid", "sgxkit doctor --verbose"),
    root=True,
)


ENABLE_SGX_OR_ASK_FOR_IT = Remedy(
    "enable-sgx-or-schedule",
    msg(
        "Enable SGX in the BIOS set-up; or, as this firmware leaves it to software, ask for it through its EFI "
        "variable EPCSW with Intel's tool (some firmware forgets it)."
    ),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link="https://github.com/intel/sgx-software-enable",
)
