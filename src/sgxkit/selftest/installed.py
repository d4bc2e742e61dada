"""Which of the samples are installed here, and how to install the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sgxkit.messages import Message, msg

_SDK = (Path("/opt/intel/sgxsdk"), Path("/opt/alibaba/teesdk/intel/sgxsdk"))
_DCAP = (
    Path("/SGXDataCenterAttestationPrimitives/SampleCode"),
    Path("/opt/intel/SGXDataCenterAttestationPrimitives/SampleCode"),
)


@dataclass(frozen=True, slots=True)
class Installed:
    """What was found; None where it was not.

    sdk                   the folder of Intel's SDK.
    sample_enclave, quote_generation, quote_verification   folders of the samples' sources.
    gramine               the folder of gramine-sgx.
    """

    sdk: Path | None
    sample_enclave: Path | None
    quote_generation: Path | None
    quote_verification: Path | None
    gramine: Path | None


def find_installed(samples: Iterable[Path] = (), environment: Mapping[str, str] = os.environ) -> Installed:
    """Look in the usual places: SGX_SDK, /opt/intel, PATH, and the folders `samples` first."""
    given = environment.get("SGX_SDK")
    sdks = [*([Path(given)] if given else []), *_SDK]
    sdk = next((folder for folder in sdks if (folder / "include" / "sgx.h").is_file()), None)
    places = [*samples, *([] if sdk is None else [sdk / "SampleCode"]), *_DCAP]
    gramine = shutil.which("gramine-sgx", path=environment.get("PATH"))
    return Installed(
        sdk=sdk,
        sample_enclave=_sample(places, "SampleEnclave"),
        quote_generation=_sample(places, "QuoteGenerationSample"),
        quote_verification=_sample(places, "QuoteVerificationSample"),
        gramine=None if gramine is None else Path(gramine).parent,
    )


def _sample(places: Iterable[Path], name: str) -> Path | None:
    candidates = (candidate for place in places for candidate in (place / name, place))
    return next((one for one in candidates if one.name == name and (one / "Makefile").is_file()), None)


SDK_HINT = msg(
    "to have it, install Intel's SGX SDK to /opt/intel: sgx_linux_x64_sdk_*.bin of "
    "https://download.01.org/intel-sgx/latest/linux-latest/distro/"
)
DCAP_HINT = msg(
    "to have it, clone https://github.com/intel/SGXDataCenterAttestationPrimitives to /opt/intel, and install "
    "libsgx-dcap-ql-dev, libsgx-dcap-quote-verify-dev and libsgx-dcap-default-qpl of Intel's repository"
)
GRAMINE_HINT = msg("to have it, install the package gramine of https://packages.gramineproject.io")
COMPILER_HINT = msg("to have one, install a C compiler and make: gcc, make, libc6-dev or glibc-static")


def not_found(name: str) -> Message:
    """Say that a sample is not here."""
    return msg("{name} is not installed here", name=name)
