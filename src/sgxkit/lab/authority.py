"""What Intel operates around a platform: a lab's certification authorities, its platform and its certificates.

The hierarchy is Intel's (PCK Certificate and CRL Specification, 2.1): a root; PCK Processor and Platform CAs; the TCB
signing certificate; a PCK certificate for each TCB of the platform. Their dates are fixed: they follow from no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache

from sgxkit.dcap.chains import PCK_CERTIFICATE_NAME, ROOT_CA_NAME, TCB_SIGNING_NAME, PckCa
from sgxkit.dcap.pck import PckPlatform
from sgxkit.emulator.fuses import Fuses
from sgxkit.lab.certificates import Certified, certify, derive, revocation_list, utc
from sgxkit.lab.profiles import LabProfile, features, find_profile
from sgxkit.lab.world import World

PCEID = bytes(2)
PCESVN = 13
SEED_SIZE = 32

_FIRST_MICROCODE = 10
_CA_VALIDITY = (utc(2018, 5, 21), utc(2049, 12, 31))
_PCK_VALIDITY = (utc(2020, 1, 1), utc(2049, 12, 31))
_EPOCH = utc(2018, 1, 1)


@dataclass(frozen=True)
class Lab:
    """A lab: the seed that all its secrets come from, and its world."""

    seed: bytes = field(repr=False)
    world: World

    @property
    def profile(self) -> LabProfile:
        return find_profile(self.world.cpu)

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """Its authorities, which no event changes."""
        return _hierarchy(self.seed, self.world.name)

    @cached_property
    def ppid(self) -> bytes:
        """Names the machine, 16 bytes."""
        return derive(self.seed, "PPID", 16)

    @cached_property
    def qe_id(self) -> bytes:
        """By which a PCCS knows the machine, 16 bytes: the first of a quote header's user data."""
        return derive(self.seed, "QE ID", 16)

    @cached_property
    def encrypted_ppid(self) -> bytes:
        """What stands for the PPID under Intel's RSA-3072 key, 384 bytes. Nothing is encrypted in it."""
        return derive(self.seed, "encrypted PPID", 384)

    @cached_property
    def fuses(self) -> Fuses:
        """The secrets of the emulated processor, at its present TCB."""
        world = self.world
        return Fuses.from_seed(
            derive(self.seed, "fuses", 32),
            cpusvn=self.cpusvn(world.generation),
            profile=features(self.profile, flc=world.flc, sgx2=world.sgx2),
        )

    def cpusvn(self, generation: int) -> bytes:
        """The CPUSVN at a generation of microcode; a lab's are its TCB components, one a byte."""
        return bytes(components(generation, self.world.configuration))

    def pck(self, generation: int) -> Certified:
        """The PCK certificate for one generation of the platform's TCB."""
        return _pck(self.seed, self.world.name, self.world.configuration, generation, self.profile)

    def pck_chain(self, generation: int) -> str:
        """That certificate, its CA and the root, in PEM."""
        return self.pck(generation).pem + self.hierarchy.pck_ca_chain(self.profile.ca)

    def tcbm(self, generation: int) -> bytes:
        """The TCB that a PCK certificate is for, as the PCS writes it: CPUSVN and PCESVN, 18 bytes."""
        return self.cpusvn(generation) + PCESVN.to_bytes(2, "little")

    def pck_crl(self, ca: PckCa, clock: datetime) -> bytes:
        """The list of revoked PCK certificates of one CA, in DER."""
        revoked = [
            (self.pck(one.generation).certificate.serial_number, one.at)
            for one in self.world.revocations
            if ca is self.profile.ca
        ]
        return self._crl(self.hierarchy.ca(ca), clock, revoked)

    def root_crl(self, clock: datetime) -> bytes:
        """The root's list of revoked CAs, in DER; there never is one."""
        return self._crl(self.hierarchy.root, clock, [])

    def _crl(self, issuer: Certified, clock: datetime, revoked: list[tuple[int, datetime]]) -> bytes:
        validity = self.world.published(clock)
        # One a day, and one more for each revocation.
        number = max(1, (validity[0] - _EPOCH).days + len(revoked))
        return revocation_list(issuer, number, validity, revoked)


@dataclass(frozen=True)
class Hierarchy:
    """The keys of "Intel"."""

    root: Certified
    processor_ca: Certified
    platform_ca: Certified
    tcb_signing: Certified

    def ca(self, which: PckCa) -> Certified:
        return self.platform_ca if which is PckCa.PLATFORM else self.processor_ca

    def pck_ca_chain(self, which: PckCa) -> str:
        """A PCK CA and the root, in PEM."""
        return self.ca(which).pem + self.root.pem

    @property
    def tcb_signing_chain(self) -> str:
        """The TCB signing certificate and the root, in PEM."""
        return self.tcb_signing.pem + self.root.pem


def organization(name: str) -> str:
    """Who a lab's certificates say they are by."""
    return f"sgxkit lab {name} (emulated)"


def components(generation: int, configuration: int) -> tuple[int, ...]:
    """The 16 TCB components: microcode twice, as Intel has it, then firmware, then what configuration changes."""
    microcode = _FIRST_MICROCODE + generation
    return (microcode, microcode, 3, 3, 255, configuration, *[0] * 10)


@lru_cache(maxsize=16)
def _hierarchy(seed: bytes, name: str) -> Hierarchy:
    who = organization(name)
    root = certify(seed, "root CA", ROOT_CA_NAME, who, None, validity=_CA_VALIDITY, path_length=1)
    return Hierarchy(
        root,
        certify(seed, "processor CA", "Intel SGX PCK Processor CA", who, root, validity=_CA_VALIDITY, path_length=0),
        certify(seed, "platform CA", "Intel SGX PCK Platform CA", who, root, validity=_CA_VALIDITY, path_length=0),
        certify(seed, "TCB signing", TCB_SIGNING_NAME, who, root, validity=_CA_VALIDITY),
    )


@lru_cache(maxsize=256)
def _pck(seed: bytes, name: str, configuration: int, generation: int, profile: LabProfile) -> Certified:
    scalable = profile.ca is PckCa.PLATFORM
    cpusvn = bytes(components(generation, configuration))
    platform = PckPlatform(
        ppid=derive(seed, "PPID", 16),
        tcb_components=cpusvn,
        pcesvn=PCESVN,
        cpusvn=cpusvn,
        pceid=PCEID,
        fmspc=profile.fmspc,
        sgx_type=profile.sgx_type,
        platform_instance_id=derive(seed, "platform instance ID", 16) if scalable else None,
        dynamic_platform=False if scalable else None,
        cached_keys=True if scalable else None,
        smt_enabled=True if scalable else None,
    )
    return certify(
        seed,
        f"PCK {generation}",
        PCK_CERTIFICATE_NAME,
        organization(name),
        _hierarchy(seed, name).ca(profile.ca),
        validity=_PCK_VALIDITY,
        platform=platform,
    )
