"""EINIT refuses each single corruption with the manual's status, in the manual's order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doubles.enclaves import (
    DATA,
    EPC_BASE,
    FLAGS,
    SECS,
    SIGSTRUCT,
    TOKEN,
    Os,
    built,
    created,
    initialized,
    new_processor,
    signed,
    sigstruct_for,
)
from sgxkit.emulator.einit import einit
from sgxkit.emulator.faults import GeneralProtectionFault, PageFault
from sgxkit.emulator.keys import SecsIdentity, cmac, derive_key
from sgxkit.emulator.profile import SKYLAKE_CLIENT
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EinitToken
from sgxkit.isa.keyrequest import KeyName, KeyRequest
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import Status


def test_einit_makes_the_identity() -> None:
    system = built()
    measurement = system.measurement
    sigstruct = sigstruct_for(measurement)
    assert system.init(sigstruct) is Status.SGX_SUCCESS
    assert system.processor.enclaves[system.secs].initialized
    assert system.processor.enclaves[system.secs].identity == SecsIdentity(
        mrenclave=measurement,
        mrsigner=sigstruct.mrsigner,
        attributes=Attributes(FLAGS | AttributeFlags.INIT, 3),
        isvprodid=3,
        isvsvn=4,
        isvfamilyid=bytes([1] * 16),
        isvextprodid=bytes([2] * 16),
    )


# Offset of one byte of each field, and what a change of it alone does.
CORRUPTIONS = {
    "HEADER": (0, Status.SGX_INVALID_SIG_STRUCT),
    "HEADER, last byte": (15, Status.SGX_INVALID_SIG_STRUCT),
    "VENDOR": (16, Status.SGX_INVALID_SIG_STRUCT),
    "DATE": (20, Status.SGX_INVALID_SIGNATURE),
    "HEADER2": (24, Status.SGX_INVALID_SIG_STRUCT),
    "HEADER2, last byte": (39, Status.SGX_INVALID_SIG_STRUCT),
    "SWDEFINED": (40, Status.SGX_INVALID_SIGNATURE),
    "reserved 1": (44, Status.SGX_INVALID_SIG_STRUCT),
    "reserved 1, last byte": (127, Status.SGX_INVALID_SIG_STRUCT),
    "MODULUS": (128, Status.SGX_INVALID_SIGNATURE),
    "MODULUS, last byte": (511, Status.SGX_INVALID_SIGNATURE),
    "EXPONENT": (512, Status.SGX_INVALID_SIG_STRUCT),
    "SIGNATURE": (516, Status.SGX_INVALID_SIGNATURE),
    "SIGNATURE, last byte": (899, Status.SGX_INVALID_SIGNATURE),
    "MISCSELECT": (900, Status.SGX_INVALID_SIGNATURE),
    "MISCMASK": (904, Status.SGX_INVALID_SIGNATURE),
    "CET_ATTRIBUTES": (908, Status.SGX_INVALID_SIGNATURE),
    "CET_ATTRIBUTES_MASK": (909, Status.SGX_INVALID_SIGNATURE),
    "reserved 2": (910, Status.SGX_INVALID_SIG_STRUCT),
    "ISVFAMILYID": (912, Status.SGX_INVALID_SIGNATURE),
    "ATTRIBUTES": (928, Status.SGX_INVALID_SIGNATURE),
    "ATTRIBUTEMASK": (944, Status.SGX_INVALID_SIGNATURE),
    "ENCLAVEHASH": (960, Status.SGX_INVALID_SIGNATURE),
    "reserved 3": (992, Status.SGX_INVALID_SIG_STRUCT),
    "ISVEXTPRODID": (1008, Status.SGX_INVALID_SIGNATURE),
    "ISVPRODID": (1024, Status.SGX_INVALID_SIGNATURE),
    "ISVSVN": (1026, Status.SGX_INVALID_SIGNATURE),
    "reserved 4": (1028, Status.SGX_INVALID_SIG_STRUCT),
    "Q1": (1040, Status.SGX_INVALID_SIGNATURE),
    "Q1, last byte": (1423, Status.SGX_INVALID_SIGNATURE),
    "Q2": (1424, Status.SGX_INVALID_SIGNATURE),
    "Q2, last byte": (1807, Status.SGX_INVALID_SIGNATURE),
}


@pytest.mark.parametrize(("at", "status"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_a_corrupted_field(at: int, status: Status) -> None:
    system = built()
    raw = bytearray(sigstruct_for(system.measurement).to_bytes())
    raw[at] ^= 1
    assert system.init(bytes(raw)) is status
    assert not system.processor.enclaves[system.secs].initialized


SIGNED_BUT_WRONG = {
    "ENCLAVEHASH": ({"enclavehash": bytes(32)}, Status.SGX_INVALID_MEASUREMENT),
    "ATTRIBUTES.FLAGS": ({"attributes": Attributes(FLAGS | 2, 3)}, Status.SGX_INVALID_ATTRIBUTE),
    "ATTRIBUTES.XFRM": ({"attributes": Attributes(FLAGS, 7)}, Status.SGX_INVALID_ATTRIBUTE),
    "MISCSELECT": ({"miscselect": 1}, Status.SGX_INVALID_ATTRIBUTE),
    "CET_ATTRIBUTES": ({"cet_attributes": 1}, Status.SGX_INVALID_ATTRIBUTE),
}


@pytest.mark.parametrize(("fields", "status"), SIGNED_BUT_WRONG.values(), ids=SIGNED_BUT_WRONG.keys())
def test_a_field_that_the_author_signed_wrong(fields: dict[str, object], status: Status) -> None:
    system = built()
    sigstruct = replace(sigstruct_for(system.measurement), **fields)  # type: ignore[arg-type]
    assert system.init(signed(sigstruct)) is status
    assert not system.processor.enclaves[system.secs].initialized


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": Attributes(FLAGS | 2, 3), "attributemask": Attributes(~2 & (1 << 64) - 1, 3)},
        {"attributes": Attributes(FLAGS, 7), "attributemask": Attributes((1 << 64) - 1, 3)},
        {"miscselect": 1, "miscmask": 0xFFFF_FFFE},
        {"cet_attributes": 1, "cet_attributes_mask": 0xFE},
        {"vendor": 0x8086},
        {"date": 0, "swdefined": 7},
    ],
)
def test_what_a_mask_leaves_open_or_the_processor_ignores(fields: dict[str, object]) -> None:
    system = built()
    assert system.init(sigstruct_for(system.measurement, **fields)) is Status.SGX_SUCCESS


def test_a_failed_einit_can_be_tried_again() -> None:
    system = built()
    measurement = system.measurement
    assert system.init(sigstruct_for(bytes(32))) is Status.SGX_INVALID_MEASUREMENT
    assert system.measurement == measurement
    assert system.init(sigstruct_for(measurement)) is Status.SGX_SUCCESS


def test_a_family_id_needs_kss() -> None:
    system = Os()
    system.create(replace(SECS, attributes=Attributes(AttributeFlags.MODE64BIT, 3)))
    fields = {"attributes": Attributes(AttributeFlags.MODE64BIT, 3), "isvfamilyid": bytes(16)}
    family = {**fields, "isvfamilyid": bytes([1] * 16)}
    assert system.init(sigstruct_for(system.measurement, **family)) is Status.SGX_INVALID_SIG_STRUCT
    assert system.init(sigstruct_for(system.measurement, **fields)) is Status.SGX_SUCCESS


# Faults


def test_operands_must_be_aligned() -> None:
    system = created()
    system.memory.write(SIGSTRUCT, bytes(PAGE_SIZE))
    system.memory.write(TOKEN, bytes(PAGE_SIZE))
    for operands, name in (
        ((SIGSTRUCT + 8, system.secs, TOKEN), "RBX"),
        ((SIGSTRUCT, system.secs + 8, TOKEN), "RCX"),
        ((SIGSTRUCT, system.secs, TOKEN + 256), "RDX"),
    ):
        with pytest.raises(GeneralProtectionFault, match=name):
            einit(system.processor, system.memory, *operands)


def test_the_secs_must_be_one() -> None:
    system = built()
    system.init(sigstruct_for(bytes(32)))
    for secs, problem in (
        (EPC_BASE + 64 * PAGE_SIZE, "not an EPC page"),
        (system.pages[DATA], "not a SECS"),
        (system.take(), "not a SECS"),
    ):
        with pytest.raises(PageFault, match=problem) as raised:
            einit(system.processor, system.memory, SIGSTRUCT, secs, TOKEN)
        assert raised.value.address == secs


def test_an_enclave_is_initialized_once() -> None:
    system = initialized()
    with pytest.raises(GeneralProtectionFault, match="initialized already"):
        system.init(sigstruct_for(system.measurement))


def test_the_signature_is_looked_at_before_the_secs() -> None:
    system = built()
    bad = replace(sigstruct_for(system.measurement), date=1)
    system.memory.write(SIGSTRUCT, bad.to_bytes())
    system.memory.write(TOKEN, bytes(PAGE_SIZE))
    free = system.take()
    assert einit(system.processor, system.memory, SIGSTRUCT, free, TOKEN) is Status.SGX_INVALID_SIGNATURE


# Launch control


def test_without_a_token_the_author_must_be_the_launch_key() -> None:
    system = built()
    assert system.init(sigstruct_for(system.measurement, author=1)) is Status.SGX_INVALID_EINITTOKEN
    system.processor.write_launch_key_hash(sigstruct_for(bytes(32), author=1).mrsigner)
    assert system.init(sigstruct_for(system.measurement, author=1)) is Status.SGX_SUCCESS


def test_only_the_launch_key_may_have_the_launch_attribute() -> None:
    attributes = Attributes(FLAGS | AttributeFlags.EINITTOKEN_KEY, 3)
    system = Os()
    system.create(replace(SECS, attributes=attributes))
    other = sigstruct_for(system.measurement, author=1, attributes=attributes)
    assert system.init(other) is Status.SGX_INVALID_ATTRIBUTE
    assert system.init(sigstruct_for(system.measurement, attributes=attributes)) is Status.SGX_SUCCESS


LAUNCHER = SecsIdentity(
    mrenclave=bytes([9] * 32),
    mrsigner=sigstruct_for(bytes(32)).mrsigner,
    attributes=Attributes(FLAGS | AttributeFlags.INIT | AttributeFlags.EINITTOKEN_KEY, 3),
    isvprodid=0x20,
    isvsvn=1,
)
WHOLE = Attributes((1 << 64) - 1, (1 << 64) - 1)


def token_for(system: Os, sigstruct: Sigstruct, launcher: SecsIdentity = LAUNCHER, **fields: object) -> EinitToken:
    """What a launch enclave makes: it asks EGETKEY for the launch key, and MACs the token's body with it."""
    fuses = system.processor.fuses
    keyid = bytes([3] * 32)
    token = replace(
        EinitToken(
            valid=True,
            attributes=system.processor.enclaves[system.secs].secs.attributes,
            mrenclave=system.measurement,
            mrsigner=sigstruct.mrsigner,
            cpusvnle=fuses.cpusvn,
            isvprodidle=launcher.isvprodid,
            isvsvnle=launcher.isvsvn,
            maskedattributesle=launcher.attributes,
            keyid=keyid,
        ),
        **fields,  # type: ignore[arg-type]
    )
    request = KeyRequest(
        KeyName.EINITTOKEN_KEY, isvsvn=launcher.isvsvn, cpusvn=fuses.cpusvn, attributemask=WHOLE, keyid=keyid
    )
    return replace(token, mac=cmac(derive_key(fuses, launcher, request), token.to_bytes()[:192]))


def with_other_author() -> tuple[Os, Sigstruct]:
    system = built()
    return system, sigstruct_for(system.measurement, author=1)


def test_a_token_lets_any_author_launch() -> None:
    system, sigstruct = with_other_author()
    assert system.init(sigstruct, token_for(system, sigstruct)) is Status.SGX_SUCCESS


def test_without_flexible_launch_control_a_token_of_intels_enclave_is_needed() -> None:
    attributes = Attributes(AttributeFlags.MODE64BIT, 3)
    system = Os(new_processor(profile=SKYLAKE_CLIENT))
    system.create(replace(SECS, attributes=attributes))
    sigstruct = sigstruct_for(system.measurement, attributes=attributes, isvfamilyid=bytes(16))
    assert system.init(sigstruct) is Status.SGX_INVALID_EINITTOKEN
    intels = replace(LAUNCHER, mrsigner=system.processor.launch_key_hash)
    assert system.init(sigstruct, token_for(system, sigstruct, intels)) is Status.SGX_SUCCESS


# Offset of one byte of each field of the token that the MAC or its key rests on.
TOKEN_FIELDS = {
    "ATTRIBUTES": 48,
    "MRENCLAVE": 64,
    "MRSIGNER": 128,
    "ISVPRODIDLE": 208,
    "ISVSVNLE": 210,
    "CET_MASKED_ATTRIBUTES_LE": 212,
    "MASKEDMISCSELECTLE": 236,
    "MASKEDATTRIBUTESLE": 240,
    "KEYID": 256,
    "MAC": 288,
}


@pytest.mark.parametrize("at", TOKEN_FIELDS.values(), ids=TOKEN_FIELDS.keys())
def test_a_corrupted_token(at: int) -> None:
    system, sigstruct = with_other_author()
    raw = bytearray(token_for(system, sigstruct).to_bytes())
    raw[at] ^= 1
    assert system.init(sigstruct, bytes(raw)) is Status.SGX_INVALID_EINITTOKEN


@pytest.mark.parametrize("at", [1, 4, 47, 96, 160, 213, 235])
def test_reserved_bits_of_a_token(at: int) -> None:
    system, sigstruct = with_other_author()
    raw = bytearray(token_for(system, sigstruct).to_bytes())
    raw[at] ^= 1
    assert system.init(sigstruct, bytes(raw)) is Status.SGX_INVALID_EINITTOKEN
    raw[0] = 0
    raw[192] = 0xFF
    system.processor.write_launch_key_hash(sigstruct.mrsigner)
    assert system.init(sigstruct, bytes(raw)) is Status.SGX_SUCCESS, "only VALID[0] counts then"


def test_a_debug_launch_enclave_launches_no_production_enclave() -> None:
    system, sigstruct = with_other_author()
    debug = replace(LAUNCHER, attributes=Attributes(LAUNCHER.attributes.flags | AttributeFlags.DEBUG, 3))
    assert system.init(sigstruct, token_for(system, sigstruct, debug)) is Status.SGX_INVALID_EINITTOKEN
    attributes = Attributes(FLAGS | AttributeFlags.DEBUG, 3)
    system.create(replace(SECS, attributes=attributes))
    sigstruct = sigstruct_for(system.measurement, author=1, attributes=attributes)
    assert system.init(sigstruct, token_for(system, sigstruct, debug)) is Status.SGX_SUCCESS


def test_a_token_of_a_newer_cpusvn() -> None:
    system, sigstruct = with_other_author()
    token = replace(token_for(system, sigstruct), cpusvnle=bytes([2] * 16))
    assert system.init(sigstruct, token) is Status.SGX_INVALID_CPUSVN


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"mrenclave": bytes(32)}, Status.SGX_INVALID_MEASUREMENT),
        ({"mrsigner": bytes(32)}, Status.SGX_INVALID_MEASUREMENT),
        ({"attributes": Attributes(FLAGS | 2, 3)}, Status.SGX_INVALID_ATTRIBUTE),
        ({"attributes": Attributes(FLAGS, 7)}, Status.SGX_INVALID_ATTRIBUTE),
    ],
)
def test_a_token_for_another_enclave(fields: dict[str, object], status: Status) -> None:
    system, sigstruct = with_other_author()
    assert system.init(sigstruct, token_for(system, sigstruct, **fields)) is status
