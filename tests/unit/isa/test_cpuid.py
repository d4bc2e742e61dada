from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.cpuid import (
    CpuidRegisters,
    EpcProtection,
    EpcSection,
    MiscSelect,
    SgxCapabilities,
    StructuredFeatures,
    decode_epc_section,
    decode_sgx,
    decode_sgx_attributes,
    decode_sgx_capability,
    decode_structured_features,
    enclave_bytes,
    hypervisor_signature,
    vendor,
)

REGISTER = st.integers(0, 2**32 - 1)
REGISTERS = st.builds(CpuidRegisters, REGISTER, REGISTER, REGISTER, REGISTER)

# An Azure DCsv3 guest (ayeks/SGX-hardware issue 92); its EPC section is composed: 8 GiB at 0x4000000000.
DCSV3 = {
    (0x0, 0): CpuidRegisters(0x1B, 0x756E6547, 0x6C65746E, 0x49656E69),
    (0x7, 0): CpuidRegisters(0x0, 0xF1BF2FBF, 0x40415F46, 0x0),
    (0x12, 0): CpuidRegisters(0x3, 0x1, 0x0, 0x381F),
    (0x12, 1): CpuidRegisters(0xB6, 0x0, 0x2E7, 0x0),
    (0x12, 2): CpuidRegisters(0x00000001, 0x40, 0x00000002, 0x2),
    (0x12, 3): CpuidRegisters(0, 0, 0, 0),
}


def test_azure_dcsv3() -> None:
    sgx = decode_sgx(DCSV3)
    assert sgx.max_basic_leaf == 0x1B
    assert sgx.vendor == "GenuineIntel"
    assert sgx.features is not None
    assert (sgx.features.sgx, sgx.features.sgx_lc, sgx.features.sgx_keys) == (True, True, False)
    assert sgx.capability is not None
    assert sgx.capability.capabilities == SgxCapabilities.SGX1 | SgxCapabilities.SGX2
    assert (sgx.capability.sgx1, sgx.capability.sgx2) == (True, True)
    assert sgx.capability.miscselect == MiscSelect.EXINFO
    assert sgx.capability.max_enclave_bytes_not64 == 2**31
    assert sgx.capability.max_enclave_bytes_64 == 2**56
    assert sgx.attributes is not None
    assert sgx.attributes.flags == (
        AttributeFlags.DEBUG
        | AttributeFlags.MODE64BIT
        | AttributeFlags.PROVISIONKEY
        | AttributeFlags.EINITTOKEN_KEY
        | AttributeFlags.KSS
    )
    assert sgx.attributes.xfrm == 0x2E7
    assert sgx.epc == (EpcSection(2, 1, 0x40_0000_0000, 8 << 30, EpcProtection.CONFIDENTIALITY),)
    assert sgx.epc[0].usable


@pytest.mark.parametrize(
    ("register", "bit", "name"),
    [("ebx", 2, "sgx"), ("ecx", 30, "sgx_lc"), ("edx", 1, "sgx_keys")],
)
def test_each_structured_feature_is_one_bit(register: str, bit: int, name: str) -> None:
    zeros = {"eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
    ones = dict.fromkeys(zeros, 4294967295)
    only = decode_structured_features(CpuidRegisters(**zeros | {register: 1 << bit}))
    all_but = decode_structured_features(CpuidRegisters(**ones | {register: 0xFFFF_FFFF ^ 1 << bit}))
    for field in ("sgx", "sgx_lc", "sgx_keys"):
        assert getattr(only, field) is (field == name)
        assert getattr(all_but, field) is (field != name)


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (0, "SGX1"),
        (1, "SGX2"),
        (5, "ENCLV"),
        (6, "OVERSUB"),
        (7, "EVERIFYREPORT2"),
        (10, "EUPDATESVN"),
        (11, "EDECCSSA"),
    ],
)
def test_capability_bits_have_the_manuals_names(bit: int, name: str) -> None:
    capability = decode_sgx_capability(CpuidRegisters(1 << bit, 0, 0, 0))
    assert capability.capabilities is SgxCapabilities[name]


def test_firmware_off_shows_as_size_zero() -> None:
    capability = decode_sgx_capability(CpuidRegisters(0, 0, 0, 0))
    assert not capability.sgx1
    assert (capability.max_enclave_bytes_not64, capability.max_enclave_bytes_64) == (0, 0)


@pytest.mark.parametrize(("log2", "size"), [(0, 0), (12, 4096), (63, 1 << 63), (64, 2**64 - 1), (255, 2**64 - 1)])
def test_enclave_size_saturates(log2: int, size: int) -> None:
    assert enclave_bytes(log2) == size


@given(
    base=st.integers(0, 2**40 - 1).map(lambda page: page << 12),
    size=st.integers(0, 2**40 - 1).map(lambda page: page << 12),
    protection=st.integers(0, 15),
    kind=st.integers(1, 15),
    noise=st.integers(0, 0xFF),
)
def test_epc_section_fields(base: int, size: int, protection: int, kind: int, noise: int) -> None:
    registers = CpuidRegisters(
        eax=base & 0xFFFF_F000 | noise << 4 | kind,
        ebx=base >> 32 | noise << 24,
        ecx=size & 0xFFFF_F000 | noise << 4 | protection,
        edx=size >> 32 | noise << 24,
    )
    assert decode_epc_section(2, registers) == EpcSection(2, kind, base, size, protection)


def test_a_section_is_usable_by_its_type_whatever_its_protection() -> None:
    usable = {
        (kind, protection)
        for kind in range(1, 16)
        for protection in range(16)
        if EpcSection(2, kind, 0, 4096, protection).usable
    }
    assert usable == {(1, protection) for protection in range(16)}


def test_xeon_gold_5315y() -> None:
    """Registers published as ayeks/SGX-hardware pull request 87: 65144 MiB, EUPDATESVN, SGX-KEYS."""
    assert decode_structured_features(CpuidRegisters(0, 0xF3BFB7EF, 0x40417F5E, 0xBC040412)) == StructuredFeatures(
        True, True, True
    )
    capability = decode_sgx_capability(CpuidRegisters(0x403, 1, 0, 0x381F))
    assert capability.capabilities == SgxCapabilities.SGX1 | SgxCapabilities.SGX2 | SgxCapabilities.EUPDATESVN
    section = decode_epc_section(2, CpuidRegisters(0x18000001, 0x70, 0xE7800002, 0xF))
    assert section == EpcSection(2, 1, 0x70_1800_0000, 65144 << 20, EpcProtection.CONFIDENTIALITY)


def test_enumeration_ends_at_a_gap() -> None:
    section = CpuidRegisters(0x1001, 0, 0x2001, 0)
    invalid = CpuidRegisters(0x1000, 0, 0x2001, 0)
    assert len(decode_sgx({(0x12, 2): section, (0x12, 3): section, (0x12, 5): section}).epc) == 2
    assert len(decode_sgx({(0x12, 2): section, (0x12, 3): invalid, (0x12, 4): section}).epc) == 1


def test_what_was_not_read_is_none() -> None:
    nothing = decode_sgx({})
    assert (nothing.max_basic_leaf, nothing.vendor, nothing.features) == (None, None, None)
    assert (nothing.capability, nothing.attributes, nothing.epc) == (None, None, ())


def test_texts() -> None:
    assert vendor(CpuidRegisters(0x10, 0x68747541, 0x444D4163, 0x69746E65)) == "AuthenticAMD"
    assert hypervisor_signature(CpuidRegisters(0, 0x4B4D564B, 0x564B4D56, 0x4D)) == "KVMKVMKVM"


@given(st.dictionaries(st.tuples(st.sampled_from([0, 7, 0x12]), st.integers(0, 20)), REGISTERS))
def test_any_registers_decode(table: dict[tuple[int, int], CpuidRegisters]) -> None:
    sgx = decode_sgx(table)
    assert all(0 <= section.base < 1 << 52 and section.base % 4096 == 0 for section in sgx.epc)
    if (0x12, 1) in table:
        registers = table[(0x12, 1)]
        attributes = decode_sgx_attributes(registers)
        assert attributes.to_bytes() == b"".join(
            value.to_bytes(4, "little") for value in (registers.eax, registers.ebx, registers.ecx, registers.edx)
        )
