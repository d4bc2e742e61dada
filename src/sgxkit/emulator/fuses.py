"""A platform's secrets and versions: what a real processor is born with, and what its firmware sets at boot.

Intel SDM Vol. 3D, 36.4 and the EGETKEY pseudo-code (CR_SEAL_FUSES, CR_CPUSVN, CR_SGXOWNEREPOCH).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sgxkit.emulator.profile import ICELAKE_SP, CpuProfile

CPUSVN_SIZE = 16
DEFAULT_CPUSVN = bytes([1] * CPUSVN_SIZE)


@dataclass(frozen=True, slots=True)
class Fuses:
    """One emulated platform. Two values with the same secrets are the same machine.

    root_provisioning_key   what every key is derived from; on hardware Intel knows it, too.
    root_seal_key           goes into every key but the provisioning key; on hardware no one knows it.
    cpusvn                  16 component versions, one a byte: the current TCB. A key can be had for this CPUSVN and
                            for any that is not above it in any component. (On hardware its meaning is Intel's own.)
    owner_epoch             IA32_SGXOWNEREPOCH: a new one makes all keys but the provisioning keys new.
    """

    root_provisioning_key: bytes = field(repr=False)
    root_seal_key: bytes = field(repr=False)
    cpusvn: bytes = DEFAULT_CPUSVN
    owner_epoch: bytes = bytes(16)
    profile: CpuProfile = ICELAKE_SP

    def __post_init__(self) -> None:
        for name in ("root_provisioning_key", "root_seal_key", "cpusvn", "owner_epoch"):
            if len(getattr(self, name)) != 16:
                raise ValueError(f"{name} must be 16 bytes")

    @classmethod
    def from_seed(cls, seed: bytes, *, cpusvn: bytes = DEFAULT_CPUSVN, profile: CpuProfile = ICELAKE_SP) -> Fuses:
        """The platform of `seed`, the same one every time: HKDF-SHA256 with each field's name."""
        return cls(
            root_provisioning_key=_from_seed(seed, b"root provisioning key"),
            root_seal_key=_from_seed(seed, b"root seal key"),
            cpusvn=cpusvn,
            owner_epoch=_from_seed(seed, b"owner epoch"),
            profile=profile,
        )

    @classmethod
    def generate(cls, *, cpusvn: bytes = DEFAULT_CPUSVN, profile: CpuProfile = ICELAKE_SP) -> Fuses:
        """A new platform with random secrets."""
        return cls.from_seed(secrets.token_bytes(32), cpusvn=cpusvn, profile=profile)

    def supports_cpusvn(self, cpusvn: bytes) -> bool:
        """Whether a key can be had for `cpusvn`: no component is above the current one."""
        return all(asked <= has for asked, has in zip(cpusvn, self.cpusvn, strict=True))


def _from_seed(seed: bytes, name: bytes) -> bytes:
    return HKDF(SHA256(), length=16, salt=b"sgxkit emulated platform", info=name).derive(seed)
