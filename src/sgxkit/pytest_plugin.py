"""Enclaves in tests: a pytest plugin that is there wherever sgxkit is installed.

`sgx_platform` is an SGX machine, emulated and the same in every run; `sgx_enclave` loads enclaves of Intel's SDK
into it. The marker `sgx_lab` picks the machine. Nothing of sgxkit is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sgxkit.emulator.platform import EmulatedPlatform
    from sgxkit.sdk.edl.interface import Interface
    from sgxkit.sdk.sdk_enclave import SdkEnclave

MARKER = "sgx_lab"
_DEFAULT_PROFILE = "icelake-sp"
_DEFAULT_SEED = "sgxkit pytest"


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, for `pytest --markers` and `--strict-markers`."""
    config.addinivalue_line("markers", f"{MARKER}(name): let sgx_platform be the processor of this lab.")
    config.addinivalue_line(
        "markers",
        f"{MARKER}(profile=..., seed=..., epc_size=...): let sgx_platform be a processor of this kind, with secrets "
        "from this text and so many bytes of EPC.",
    )


@pytest.fixture
def sgx_platform(request: pytest.FixtureRequest) -> EmulatedPlatform:
    """An emulated SGX machine, just booted: what `sgx_lab` says, else an Ice Lake, the same in every run."""
    marker = request.node.get_closest_marker(MARKER)
    return _platform(*marker.args, **marker.kwargs) if marker is not None else _platform()


@pytest.fixture
def sgx_enclave(sgx_platform: EmulatedPlatform) -> Iterator[Callable[..., SdkEnclave]]:
    """Load signed enclaves of Intel's SDK: ``sgx_enclave(path, edl, **options)``, as `SdkEnclave.load` takes them.

    They are removed when the test ends.
    """
    from sgxkit.sdk.sdk_enclave import SdkEnclave  # noqa: PLC0415

    with ExitStack() as loaded:

        def load(path: Path | str, edl: Interface | Path | str, **options: Any) -> SdkEnclave:
            return loaded.enter_context(SdkEnclave.load(sgx_platform, path, edl, **options))

        yield load


def _platform(
    name: str | None = None, *, profile: str | None = None, seed: str | None = None, epc_size: int | None = None
) -> EmulatedPlatform:
    if name is not None:
        if (profile, seed, epc_size) != (None, None, None):
            raise pytest.UsageError(f"{MARKER}: a lab has its own profile, seed and EPC")
        from sgxkit.lab.platform import platform_of  # noqa: PLC0415
        from sgxkit.lab.store import load_lab  # noqa: PLC0415

        return platform_of(load_lab(name))
    from sgxkit.emulator.fuses import Fuses  # noqa: PLC0415
    from sgxkit.emulator.platform import DEFAULT_EPC_SIZE, EmulatedPlatform  # noqa: PLC0415
    from sgxkit.emulator.profile import PROFILES  # noqa: PLC0415

    kind = PROFILES.get(profile or _DEFAULT_PROFILE)
    if kind is None:
        raise pytest.UsageError(f"{MARKER}: there is no profile {profile}, only {', '.join(PROFILES)}")
    fuses = Fuses.from_seed((seed or _DEFAULT_SEED).encode(), profile=kind)
    return EmulatedPlatform.of(fuses, epc_size=epc_size or DEFAULT_EPC_SIZE)
