"""Remedies: collateral, the quote provider's configuration, and registration.

Sources: Intel's installation guide and multi-package registration guide (intel/confidential-computing.tee.docs);
DCAP's samples of sgx_default_qcnl.conf.
"""

from __future__ import annotations

import json
import shlex

from sgxkit.host.facts import Facts
from sgxkit.host.remedies.distribution import distribution
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

_REGISTRATION = "https://cc-enabling.trustedservices.intel.com/intel-sgx-sw-installation-guide-linux/02/installation_instructions/"

_SERVICES = {
    "azure": (
        "https://global.acccache.azure.net/sgx/certification/v4/",
        '"local_pck_url": "http://169.254.169.254/metadata/THIM/sgx/certification/v4/", "custom_request_options": '
        '{"get_cert": {"headers": {"metadata": "true"}, "params": {"api-version": "2021-07-22-preview"}}}',
    ),
    "alibaba": ("https://sgx-dcap-server-vpc.REGION.aliyuncs.com/sgx/certification/v4/", ""),
}
_INTEL = "https://api.trustedservices.intel.com/sgx/certification/v4/"


def provider_members(cloud: str | None, url: str | None = None, *, secure: bool = True) -> list[str]:
    """Members of the configuration as JSON text: of the service at `url`, or else of the one for this cloud."""
    service, more = (url, "") if url is not None else _SERVICES.get(cloud or "", (_INTEL, ""))
    trusted = "true" if secure else "false"
    members = [
        f'"pccs_url": {json.dumps(service)}',
        f'"use_secure_cert": {trusted}',
        '"retry_times": 6',
        '"retry_delay": 5',
    ]
    if more:
        members.append(more)
    return members


def configure_provider(cloud: str | None, path: str) -> Remedy:
    """Write a configuration that fits where the host stands."""
    members = provider_members(cloud)
    return Remedy(
        "configure-quote-provider",
        msg("Write a configuration that names your PCCS (here: the service for this host), and restart AESM."),
        (
            f"cat > {shlex.quote(path)} <<'EOF'\n{{" + ", ".join(members) + "}\nEOF",
            "systemctl restart aesmd   # the file is read once per process",
        ),
        root=True,
    )


def correct_configuration(path: str) -> Remedy:
    """Correct the file at hand."""
    return Remedy(
        "correct-quote-provider-configuration",
        msg("Correct the file at the place named above, and restart AESM; it is read once per process."),
        (f"${{EDITOR:-vi}} {shlex.quote(path)}", "systemctl restart aesmd"),
        root=True,
    )


def reach_service(url: str) -> Remedy:
    """Find out why the service does not answer."""
    crl = shlex.quote(url.rstrip("/") + "/rootcacrl")
    return Remedy(
        "reach-pccs",
        msg("Find out why the service does not answer: address, DNS, proxy, firewall, or a PCCS that is down."),
        (f"curl -v {crl} -o /dev/null", "systemctl status pccs   # if the PCCS runs on this host"),
    )


def trust_certificate(path: str) -> Remedy:
    """Deal with a PCCS whose certificate nobody signed."""
    return Remedy(
        "trust-pccs-certificate",
        msg("Give the PCCS a trusted certificate, add its CA to the system, or set use_secure_cert to false."),
        (f'${{EDITOR:-vi}} {shlex.quote(path)}   # "use_secure_cert": false', "systemctl restart aesmd"),
        root=True,
    )


def link_provider(library: str) -> Remedy:
    """Give the library the name that the quoting enclave's loader looks for."""
    return Remedy(
        "link-quote-provider",
        msg("Link the library to the name that is looked for, or install the package that does."),
        (
            f"ln -s {shlex.quote(library.rsplit('/', 1)[-1])} {shlex.quote(library.rsplit('.so', 1)[0])}.so.1",
            "ldconfig",
        ),
        root=True,
    )


def register_platform(facts: Facts) -> Remedy:
    """Register with Intel, by the agent."""
    install = {
        "apt": "apt-get install sgx-ra-service",
        "dnf": "dnf install sgx-ra-service",
        "zypper": "zypper install sgx-ra-service",
        "none": "# install sgx-ra-service",
    }[distribution(facts).packager]
    return Remedy(
        "register-platform",
        msg("Register the platform with Intel by the registration agent, and reboot."),
        (install, "systemctl reboot", "cat /var/log/mpa_registration.log"),
        root=True,
        reboot=True,
        link=_REGISTRATION,
    )


REGISTER_BY_HAND = Remedy(
    "register-platform-by-hand",
    msg("Or without a reboot: send the platform manifest to Intel or to your PCCS by hand."),
    (
        "PCKIDRetrievalTool -f platform.csv",
        "cut -d, -f6 platform.csv | xxd -r -p | curl --data-binary @- -H 'Content-Type: application/octet-stream' "
        "https://api.trustedservices.intel.com/sgx/registration/v1/platform",
    ),
    root=True,
    link=_REGISTRATION,
)
AUTO_REGISTRATION_IN_BIOS = Remedy(
    "enable-auto-registration-in-bios",
    msg("Enter the BIOS set-up and enable “SGX Auto MP Registration”."),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link=_REGISTRATION,
)
FACTORY_RESET = Remedy(
    "sgx-factory-reset",
    msg(
        "Enter the BIOS set-up and choose “SGX Factory Reset”, so that the platform makes a new manifest to register."
    ),
    ("systemctl reboot --firmware-setup",),
    root=True,
    reboot=True,
    firmware=True,
    link=_REGISTRATION,
)
READ_REGISTRATION_LOG = Remedy(
    "read-registration-log",
    msg("Read the registration agent's log; its unit being inactive (dead) is normal."),
    ("cat /var/log/mpa_registration.log", "mpa_manage -get_last_registration_error_code"),
    root=True,
)
PRODUCTION_PARTS = Remedy(
    "use-production-parts",
    msg("Use a production processor with production microcode and debugging locked; Intel registers no other."),
)
CHECK_QUOTING_BY_APPLICATION = Remedy(
    "try-a-quote",
    msg("Make a quote with an application of yours, or install AESM, which can be asked without an enclave."),
)
