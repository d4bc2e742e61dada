from __future__ import annotations

import hmac
from dataclasses import replace

import pytest

from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.profile import PROFILES, SKYLAKE_CLIENT, CpuProfile
from sgxkit.isa.cpuid import EpcSection, decode_sgx

FUSES = Fuses.from_seed(b"one")


def test_a_seed_gives_the_same_platform_every_time() -> None:
    assert Fuses.from_seed(b"one") == FUSES
    # RFC 5869, written out: labs on disk keep only the seed, so this must never change.
    extracted = hmac.digest(b"sgxkit emulated platform", b"one", "sha256")
    for name, value in zip(("root provisioning key", "root seal key", "owner epoch"), secrets_of(FUSES), strict=True):
        assert value == hmac.digest(extracted, name.encode() + b"\x01", "sha256")[:16]


def test_another_seed_shares_no_secret() -> None:
    other = Fuses.from_seed(b"two")
    secrets = {value for fuses in (FUSES, other) for value in secrets_of(fuses)}
    assert len(secrets) == 6


def test_generated_platforms_differ() -> None:
    assert Fuses.generate() != Fuses.generate()


def secrets_of(fuses: Fuses) -> tuple[bytes, ...]:
    return fuses.root_provisioning_key, fuses.root_seal_key, fuses.owner_epoch


def test_secrets_are_not_shown() -> None:
    shown = repr(FUSES)
    assert str(FUSES.root_provisioning_key) not in shown
    assert str(FUSES.root_seal_key) not in shown
    assert "cpusvn" in shown


@pytest.mark.parametrize("name", ["root_provisioning_key", "root_seal_key", "cpusvn", "owner_epoch"])
def test_each_value_has_16_bytes(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(FUSES, **{name: bytes(15)})


def test_a_cpusvn_above_in_any_component_is_not_supported() -> None:
    fuses = replace(FUSES, cpusvn=bytes([3] * 16))
    assert fuses.supports_cpusvn(bytes([3] * 16))
    assert fuses.supports_cpusvn(bytes(16))
    for component in range(16):
        above = bytearray(16)
        above[component] = 4
        assert not fuses.supports_cpusvn(bytes(above))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_cpuid_says_what_the_profile_has(profile: CpuProfile) -> None:
    sections = (
        EpcSection(subleaf=2, type=1, base=0x70_2000_0000, size=0x5D8_0000, protection=1),
        EpcSection(subleaf=3, type=1, base=0xF_FFFF_FFFF_F000, size=0x1_0000_0000, protection=2),
    )
    read = decode_sgx(profile.cpuid(sections))
    assert read.capability is not None
    assert read.capability.capabilities == profile.capabilities
    assert read.capability.miscselect == profile.miscselect
    assert read.capability.max_enclave_size_not64 == profile.max_size_not64
    assert read.capability.max_enclave_size_64 == profile.max_size_64
    assert read.attributes == profile.attributes
    assert read.epc == sections


def test_profiles_differ_in_sgx2() -> None:
    assert not SKYLAKE_CLIENT.sgx2
    assert [name for name, profile in PROFILES.items() if profile.sgx2] == ["icelake-sp", "sapphire-rapids"]
