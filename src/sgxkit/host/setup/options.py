"""What the host is wanted for, and what its owner decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from sgxkit.errors import InputError
from sgxkit.host.setup.actions import FINGERPRINT, RepositoryKey
from sgxkit.messages import Message, msg

ProfileName = Literal["run", "attest", "oasis-node", "gramine", "kubernetes-node", "pccs"]
Aesm = Literal["apt", "docker", "podman", "none"]
Driver = Literal["auto", "in-kernel", "legacy"]

AESM_IMAGE = "ghcr.io/oasisprotocol/aesmd-dcap:master"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a profile needs beside the driver and its devices.

    provision   the provision device and its group: for whoever makes quotes in its own process, and for AESM.
    aesm        whether AESM must answer; clock: whether something must keep the time.
    doctor      the doctor's profile that judges the result; None where it has none.
    """

    title: Message
    provision: bool = False
    aesm: bool = False
    quote_provider: bool = False
    clock: bool = False
    devices: bool = True
    doctor: str | None = None


PURPOSES: Mapping[ProfileName, Purpose] = MappingProxyType(
    {
        "run": Purpose(msg("run enclaves"), doctor="run"),
        "attest": Purpose(
            msg("run enclaves and make quotes of them"),
            provision=True,
            aesm=True,
            quote_provider=True,
            doctor="attest",
        ),
        "oasis-node": Purpose(
            msg("run an Oasis ParaTime node"),
            provision=True,
            aesm=True,
            quote_provider=True,
            clock=True,
            doctor="oasis-node",
        ),
        "gramine": Purpose(
            msg("run unmodified programs in Gramine"),
            provision=True,
            aesm=True,
            quote_provider=True,
            doctor="gramine",
        ),
        "kubernetes-node": Purpose(
            msg("offer SGX to the pods of a Kubernetes cluster"), provision=True, clock=True, doctor="kubernetes-node"
        ),
        "pccs": Purpose(msg("serve collateral to other hosts"), devices=False, clock=True),
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """The owner's decisions.

    aesm         how AESM is installed (`apt`: by the system's package manager, whichever it is); None: by packages
                 where Intel has them for this system, else in a container; none where the profile does without.
    pccs         URL of the service that the quote provider asks, or ``local``; None: what is configured, else the
                 service for where this host stands.
    users        accounts that are to run enclaves.
    repo_url     a repository in the place of Intel's, signed by `repo_key`.
    """

    profile: ProfileName = "run"
    aesm: Aesm | None = None
    pccs: str | None = None
    driver: Driver = "auto"
    reboot: bool = True
    users: tuple[str, ...] = ()
    repo_url: str | None = None
    repo_key: RepositoryKey | None = None
    aesm_image: str = AESM_IMAGE

    @property
    def purpose(self) -> Purpose:
        return PURPOSES[self.profile]


def check_options(options: Options) -> Options:
    """Return `options` if what was given as text can be used; InputError says which cannot."""
    if options.pccs is not None and options.pccs != "local":
        _require_url("--pccs", options.pccs, ("https", "http"))
    if options.repo_url is not None:
        _require_url("--repo-url", options.repo_url, ("https", "http", "file"))
    if options.repo_key is not None:
        _require_url("--repo-key", options.repo_key.url, ("https", "http", "file"))
        if not FINGERPRINT.fullmatch(options.repo_key.fingerprint):
            raise InputError(msg("--repo-fingerprint must be the 40 or 64 hexadecimal digits of a whole fingerprint"))
    image = options.aesm_image
    if not image.isascii() or not image.isprintable() or " " in image or image.startswith("-") or '"' in image:
        raise InputError(msg("{option}: {text} cannot be used", option="--aesm-image", text=image[:80]))
    return options


def _require_url(option: str, url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.netloc or parts.scheme == "file") and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or set(" \"'<>\\`") & set(url):
        raise InputError(
            msg("{option}: {text} is no URL of {schemes}", option=option, text=url[:80], schemes=", ".join(schemes))
        )
