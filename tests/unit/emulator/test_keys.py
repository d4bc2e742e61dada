"""A key depends on what the manual's table says, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.keys import (
    PKCS1_PADDING,
    SecsIdentity,
    cmac,
    derive_key,
    einittoken_mac,
    make_report,
    report_key,
    verify_report,
)
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EinitToken
from sgxkit.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.local_report import Report
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.targetinfo import TargetInfo

ALL_FLAGS = (
    AttributeFlags.INIT
    | AttributeFlags.MODE64BIT
    | AttributeFlags.PROVISIONKEY
    | AttributeFlags.EINITTOKEN_KEY
    | AttributeFlags.KSS
)
WHOLE_MASK = Attributes((1 << 64) - 1, (1 << 64) - 1)
POLICIES = st.builds(KeyPolicy, st.integers(0, 0x3F))
FUSES = Fuses.from_seed(b"keys", cpusvn=bytes([0x80] * 16))

# The bits that no test flips: they decide whether a key can be had at all.
_KEPT_FLAGS = int(AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKEN_KEY | AttributeFlags.KSS)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


IDENTITIES = st.builds(
    SecsIdentity,
    mrenclave=sized(32),
    mrsigner=sized(32),
    attributes=st.builds(
        Attributes, st.integers(0, (1 << 64) - 1).map(lambda flags: flags | ALL_FLAGS), st.integers(0, (1 << 64) - 1)
    ),
    miscselect=st.integers(0, (1 << 32) - 1),
    isvprodid=st.integers(0, 0xFFFF),
    isvsvn=st.integers(2, 0xFFFF),
    isvfamilyid=sized(16),
    isvextprodid=sized(16),
    configid=sized(64),
    configsvn=st.integers(2, 0xFFFF),
    cet_attributes=st.integers(0, 0xFF),
)


@st.composite
def requests(draw: st.DrawFn, keyname: KeyName, identity: SecsIdentity) -> KeyRequest:
    return KeyRequest(
        keyname,
        draw(POLICIES),
        isvsvn=draw(st.integers(0, identity.isvsvn)),
        cpusvn=bytes(byte & 0x7F for byte in draw(sized(16))),
        attributemask=Attributes(draw(st.integers(0, (1 << 64) - 1)), draw(st.integers(0, (1 << 64) - 1))),
        keyid=draw(sized(32)),
        miscmask=draw(st.integers(0, (1 << 32) - 1)),
        configsvn=draw(st.integers(0, identity.configsvn)),
        cet_attributes_mask=draw(st.integers(0, 0xFF)),
    )


def other_bytes(value: bytes, draw: st.DrawFn, keep: int = 0) -> bytes:
    """`value` with one bit changed, none of the `keep` bits of its bytes."""
    changed = bytearray(value)
    bits = [bit for bit in range(len(value) * 8) if not keep >> bit % 8 & 1]
    bit = draw(st.sampled_from(bits))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def other_int(value: int, bits: int, draw: st.DrawFn) -> int:
    return value ^ 1 << draw(st.integers(0, bits - 1))


# Of each kind of key: the dependencies that the manual's table has for it. `policy:X` is a field that counts if the
# bit X of KEYPOLICY is set, `no policy:X` if it is clear.
ALWAYS = frozenset({"fuses.root_provisioning_key"})
SEALING = ALWAYS | {
    "fuses.root_seal_key",
    "request.cpusvn",
    "request.isvsvn",
    "request.attributemask",
    "request.miscmask",
    "request.cet_attributes_mask",
    "request.keypolicy",
    "masked attributes",
    "masked miscselect",
    "masked cet",
    "identity.padding",
    "no policy NOISVPRODID: identity.isvprodid",
    "policy CONFIGID: identity.configid",
    "policy CONFIGID: request.configsvn",
    "policy ISVFAMILYID: identity.isvfamilyid",
    "policy ISVEXTPRODID: identity.isvextprodid",
}
DEPENDENCIES: dict[KeyName, frozenset[str]] = {
    KeyName.SEAL_KEY: SEALING
    | {
        "fuses.owner_epoch",
        "request.keyid",
        "policy MRENCLAVE: identity.mrenclave",
        "policy MRSIGNER: identity.mrsigner",
    },
    KeyName.PROVISION_SEAL_KEY: SEALING | {"identity.mrsigner"},
    KeyName.PROVISION_KEY: ALWAYS
    | {
        "request.cpusvn",
        "request.isvsvn",
        "request.attributemask",
        "request.miscmask",
        "request.cet_attributes_mask",
        "masked attributes",
        "masked miscselect",
        "masked cet",
        "identity.padding",
        "identity.isvprodid",
        "identity.mrsigner",
    },
    KeyName.EINITTOKEN_KEY: ALWAYS
    | {
        "fuses.root_seal_key",
        "fuses.owner_epoch",
        "request.cpusvn",
        "request.isvsvn",
        "request.keyid",
        "masked attributes",
        "masked miscselect",
        "masked cet",
        "identity.padding",
        "identity.isvprodid",
        "identity.mrsigner",
    },
    KeyName.REPORT_KEY: ALWAYS
    | {
        "fuses.root_seal_key",
        "fuses.owner_epoch",
        "fuses.cpusvn",
        "request.keyid",
        "identity.mrenclave",
        "identity.attributes",
        "identity.miscselect",
        "identity.cet_attributes",
        "identity.configid",
        "identity.configsvn",
    },
}

CHANGES = [
    "fuses.root_provisioning_key",
    "fuses.root_seal_key",
    "fuses.owner_epoch",
    "fuses.cpusvn",
    "identity.mrenclave",
    "identity.mrsigner",
    "identity.isvprodid",
    "identity.isvsvn",
    "identity.isvfamilyid",
    "identity.isvextprodid",
    "identity.configid",
    "identity.configsvn",
    "identity.padding",
    "identity.attributes under the mask",
    "identity.attributes outside the mask",
    "identity.miscselect under the mask",
    "identity.miscselect outside the mask",
    "identity.cet_attributes under the mask",
    "identity.cet_attributes outside the mask",
    "request.keypolicy",
    "request.isvsvn",
    "request.cpusvn",
    "request.keyid",
    "request.configsvn",
    "request.attributemask over a set attribute",
    "request.attributemask over a clear attribute",
    "request.miscmask over a set bit",
    "request.miscmask over a clear bit",
    "request.cet_attributes_mask over a set bit",
    "request.cet_attributes_mask over a clear bit",
]

REQUIRED = int(AttributeFlags.INIT | AttributeFlags.DEBUG)


def counts(change: str, keyname: KeyName, request: KeyRequest) -> bool:
    """Whether the manual's table says that `change` makes another key."""
    known = DEPENDENCIES[keyname]
    where, _, case = change.partition(" ")
    if where in ("identity.attributes", "identity.miscselect", "identity.cet_attributes"):
        short = {"attributes": "attributes", "miscselect": "miscselect", "cet_attributes": "cet"}[where[9:]]
        return where in known or (case == "under the mask" and f"masked {short}" in known)
    if case:  # a mask: it counts itself, or by what it selects
        short = {"attributemask": "attributes", "miscmask": "miscselect", "cet_attributes_mask": "cet"}[where[8:]]
        return where in known or (case.startswith("over a set") and f"masked {short}" in known)
    for known_one in known:
        condition, _, field = known_one.rpartition(": ")
        if field != change:
            continue
        kind, _, bit = condition.rpartition(" ")
        if not condition:
            return True
        return (KeyPolicy[bit] in request.keypolicy) == (kind == "policy")
    return False


def pick_bit(mask: int, draw: st.DrawFn) -> int | None:
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return 1 << draw(st.sampled_from(bits)) if bits else None


def changed(
    change: str, fuses: Fuses, identity: SecsIdentity, request: KeyRequest, draw: st.DrawFn
) -> tuple[Fuses, SecsIdentity, KeyRequest] | None:
    """The three with `change` made; None where these values leave no room for it."""
    where, _, case = change.partition(" ")
    holder, _, name = where.partition(".")
    if case:
        wide = {"attributes": 64, "attributemask": 64, "miscselect": 32, "miscmask": 32}.get(name, 8)
        ones = (1 << wide) - 1
        if wide == 64:
            mask, has = request.attributemask.flags | REQUIRED, identity.attributes.flags
            free = ones & ~_KEPT_FLAGS
        elif wide == 32:
            mask, has, free = request.miscmask, identity.miscselect, ones
        else:
            mask, has, free = request.cet_attributes_mask, identity.cet_attributes, ones
        if holder == "identity":
            bit = pick_bit(free & (mask if case == "under the mask" else ~mask), draw)
        else:
            # INIT and DEBUG are under the mask whatever it says: as a mask bit they never select anything more.
            selectable = ones & ~REQUIRED if wide == 64 else ones
            bit = pick_bit(selectable & (has if case.startswith("over a set") else ~has), draw)
        if bit is None:
            return None
        if holder == "identity":
            value = Attributes(has ^ bit, identity.attributes.xfrm) if wide == 64 else has ^ bit
            return fuses, replace(identity, **{name: value}), request
        old = request.attributemask
        new = Attributes(old.flags ^ bit, old.xfrm) if wide == 64 else getattr(request, name) ^ bit
        return fuses, identity, replace(request, **{name: new})
    target = {"fuses": fuses, "identity": identity, "request": request}[holder]
    value = getattr(target, name)
    if change == "fuses.cpusvn":
        new_value: object = other_bytes(value, draw, keep=0x80)  # never below what is asked for
    elif change == "request.cpusvn":
        new_value = other_bytes(value, draw, keep=0x80)
    elif change in ("request.isvsvn", "request.configsvn"):
        new_value = draw(st.integers(0, getattr(identity, name)).filter(lambda number: number != value))
    elif change in ("identity.isvsvn", "identity.configsvn"):
        new_value = draw(st.integers(getattr(request, name), 0xFFFF).filter(lambda number: number != value))
    elif change == "request.keypolicy":
        new_value = KeyPolicy(other_int(value, 6, draw))
    elif isinstance(value, bytes):
        new_value = other_bytes(value, draw)
    else:
        new_value = other_int(value, 16, draw)
    if holder == "fuses":
        return replace(fuses, **{name: new_value}), identity, request  # type: ignore[arg-type]
    if holder == "identity":
        return fuses, replace(identity, **{name: new_value}), request  # type: ignore[arg-type]
    return fuses, identity, replace(request, **{name: new_value})  # type: ignore[arg-type]


@pytest.mark.parametrize("keyname", list(KeyName), ids=lambda keyname: keyname.name)
@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_dependency_changes_the_key_and_nothing_else_does(
    change: str, keyname: KeyName, data: st.DataObject
) -> None:
    def draw(strategy: st.SearchStrategy[object]) -> object:
        return data.draw(strategy)

    identity = data.draw(IDENTITIES)
    request = data.draw(requests(keyname, identity))
    altered = changed(change, FUSES, identity, request, draw)  # type: ignore[arg-type]
    if altered is None:
        return
    same = derive_key(*altered) == derive_key(FUSES, identity, request)
    assert same != counts(change, keyname, request)


@pytest.mark.parametrize("keyname", list(KeyName), ids=lambda keyname: keyname.name)
@given(data=st.data())
def test_xfrm_counts_where_the_mask_selects_it(keyname: KeyName, data: st.DataObject) -> None:
    identity = data.draw(IDENTITIES)
    request = data.draw(requests(keyname, identity))
    bit = 1 << data.draw(st.integers(0, 63))
    other = replace(identity, attributes=Attributes(identity.attributes.flags, identity.attributes.xfrm ^ bit))
    selected = keyname is KeyName.REPORT_KEY or bool(request.attributemask.xfrm & bit)
    assert (derive_key(FUSES, other, request) != derive_key(FUSES, identity, request)) == selected


@given(IDENTITIES, st.data())
def test_keys_of_different_names_never_agree(identity: SecsIdentity, data: st.DataObject) -> None:
    request = data.draw(requests(KeyName.SEAL_KEY, identity))
    keys = {derive_key(FUSES, identity, replace(request, keyname=keyname)) for keyname in KeyName}
    assert len(keys) == len(KeyName)


IDENTITY = SecsIdentity(
    mrenclave=bytes([1] * 32),
    mrsigner=bytes([2] * 32),
    attributes=Attributes(ALL_FLAGS, 3),
    isvprodid=4,
    isvsvn=5,
    configsvn=6,
)


def without(flag: AttributeFlags) -> SecsIdentity:
    return replace(IDENTITY, attributes=Attributes(ALL_FLAGS & ~flag, 3))


def status_of(identity: SecsIdentity, request: KeyRequest) -> Status:
    with pytest.raises(SgxError) as refused:
        derive_key(FUSES, identity, request)
    return refused.value.status


VERSIONED = [KeyName.SEAL_KEY, KeyName.EINITTOKEN_KEY, KeyName.PROVISION_KEY, KeyName.PROVISION_SEAL_KEY]
TOO_NEW = bytes([0] * 15 + [0x81])


@pytest.mark.parametrize("keyname", VERSIONED)
def test_versions_have_ceilings(keyname: KeyName) -> None:
    derive_key(FUSES, IDENTITY, KeyRequest(keyname, isvsvn=5, cpusvn=FUSES.cpusvn))
    assert status_of(IDENTITY, KeyRequest(keyname, isvsvn=6)) is Status.SGX_INVALID_ISVSVN
    assert status_of(IDENTITY, KeyRequest(keyname, cpusvn=TOO_NEW)) is Status.SGX_INVALID_CPUSVN


@pytest.mark.parametrize("keyname", VERSIONED)
def test_the_cpusvn_is_checked_before_the_isvsvn(keyname: KeyName) -> None:
    assert status_of(IDENTITY, KeyRequest(keyname, isvsvn=6, cpusvn=TOO_NEW)) is Status.SGX_INVALID_CPUSVN


@pytest.mark.parametrize("keyname", [KeyName.SEAL_KEY, KeyName.PROVISION_SEAL_KEY])
def test_the_configsvn_has_a_ceiling(keyname: KeyName) -> None:
    derive_key(FUSES, IDENTITY, KeyRequest(keyname, configsvn=6))
    assert status_of(IDENTITY, KeyRequest(keyname, configsvn=7)) is Status.SGX_INVALID_ISVSVN


def test_the_report_key_has_no_ceilings() -> None:
    asked = KeyRequest(KeyName.REPORT_KEY, isvsvn=0xFFFF, cpusvn=TOO_NEW)
    assert derive_key(FUSES, IDENTITY, asked) == derive_key(FUSES, IDENTITY, KeyRequest(KeyName.REPORT_KEY))


@pytest.mark.parametrize(
    ("keyname", "flag"),
    [
        (KeyName.PROVISION_KEY, AttributeFlags.PROVISIONKEY),
        (KeyName.PROVISION_SEAL_KEY, AttributeFlags.PROVISIONKEY),
        (KeyName.EINITTOKEN_KEY, AttributeFlags.EINITTOKEN_KEY),
    ],
)
def test_some_keys_need_an_attribute_and_it_is_checked_first(keyname: KeyName, flag: AttributeFlags) -> None:
    request = KeyRequest(keyname, isvsvn=6, cpusvn=TOO_NEW)
    assert status_of(without(flag), request) is Status.SGX_INVALID_ATTRIBUTE
    assert status_of(IDENTITY, request) is Status.SGX_INVALID_CPUSVN


@pytest.mark.parametrize("keyname", [5, 0xFFFF])
def test_an_unknown_key_name(keyname: int) -> None:
    assert status_of(IDENTITY, KeyRequest(keyname)) is Status.SGX_INVALID_KEYNAME


@pytest.mark.parametrize(
    "request_",
    [
        KeyRequest(KeyName.SEAL_KEY, KeyPolicy.NOISVPRODID),
        KeyRequest(KeyName.SEAL_KEY, KeyPolicy.CONFIGID),
        KeyRequest(KeyName.SEAL_KEY, KeyPolicy.ISVFAMILYID),
        KeyRequest(KeyName.SEAL_KEY, KeyPolicy.ISVEXTPRODID),
        KeyRequest(KeyName.SEAL_KEY, configsvn=1),
        KeyRequest(99, configsvn=1),
    ],
)
def test_kss_fields_need_kss(request_: KeyRequest) -> None:
    with pytest.raises(GeneralProtectionFault):
        derive_key(FUSES, without(AttributeFlags.KSS), request_)


@pytest.mark.parametrize("keyname", list(KeyName))
def test_without_kss_everything_else_can_be_had(keyname: KeyName) -> None:
    request = KeyRequest(keyname, KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER, isvsvn=1)
    same = derive_key(FUSES, without(AttributeFlags.KSS), request) == derive_key(FUSES, IDENTITY, request)
    assert same == (keyname in VERSIONED), "the report key alone depends on an attribute that no mask selects"


def test_a_debug_enclave_never_has_a_production_key() -> None:
    debug = replace(IDENTITY, attributes=Attributes(ALL_FLAGS | AttributeFlags.DEBUG, 3))
    request = KeyRequest(KeyName.SEAL_KEY, KeyPolicy.MRSIGNER, attributemask=Attributes(0, 0))
    assert derive_key(FUSES, debug, request) != derive_key(FUSES, IDENTITY, request)


def test_cmac_is_that_of_the_rfc() -> None:
    """RFC 4493, section 4, examples 1 and 2."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert cmac(key, b"").hex() == "bb1d6929e95937287fa37d129b756746"
    assert cmac(key, bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")).hex() == "070a16b46b4d4144f79bdd9dd04a287c"


def test_the_padding_is_what_pkcs1_puts_before_a_sha256_digest() -> None:
    assert len(PKCS1_PADDING) == 352
    assert PKCS1_PADDING[332:].hex() == "003031300d060960864801650304020105000420"


# REPORTs

TARGETS = st.builds(
    TargetInfo,
    sized(32),
    st.builds(Attributes, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)),
    st.integers(0, (1 << 32) - 1),
    sized(64),
    st.integers(0, 0xFFFF),
)
KEYID = bytes(range(32))


@given(IDENTITIES, IDENTITIES, sized(64), sized(32))
def test_the_target_verifies_a_report_with_its_own_key(
    reporter: SecsIdentity, target: SecsIdentity, reportdata: bytes, keyid: bytes
) -> None:
    report = make_report(FUSES, reporter.report_body(bytes(16), reportdata), target.target_info, keyid)
    assert report.body == reporter.report_body(FUSES.cpusvn, reportdata)
    key = derive_key(FUSES, target, KeyRequest(KeyName.REPORT_KEY, keyid=report.keyid))
    assert cmac(key, report.to_bytes()[:384]) == report.mac
    assert verify_report(FUSES, report, target.target_info)


@given(TARGETS, TARGETS)
def test_another_target_does_not_verify_it(target: TargetInfo, other: TargetInfo) -> None:
    report = make_report(FUSES, IDENTITY.report_body(FUSES.cpusvn, bytes(64)), target, KEYID)
    assert verify_report(FUSES, report, other) == (target == other)


def test_no_single_bit_of_a_report_can_change() -> None:
    target = IDENTITY.target_info
    raw = make_report(FUSES, IDENTITY.report_body(FUSES.cpusvn, bytes(64)), target, KEYID).to_bytes()
    reserved = {*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304)}
    for at in set(range(len(raw))) - reserved:
        for bit in range(8):
            altered = bytearray(raw)
            altered[at] ^= 1 << bit
            assert not verify_report(FUSES, Report.from_bytes(bytes(altered)), target), (at, bit)


def test_another_platform_does_not_verify_it() -> None:
    target = IDENTITY.target_info
    report = make_report(FUSES, IDENTITY.report_body(FUSES.cpusvn, bytes(64)), target, KEYID)
    assert not verify_report(Fuses.from_seed(b"other", cpusvn=FUSES.cpusvn), report, target)
    assert not verify_report(replace(FUSES, cpusvn=bytes([0x81] * 16)), report, target)


def test_a_launch_enclave_makes_the_mac_that_einit_expects() -> None:
    request = KeyRequest(
        KeyName.EINITTOKEN_KEY,
        isvsvn=IDENTITY.isvsvn,
        cpusvn=FUSES.cpusvn,
        attributemask=WHOLE_MASK,
        keyid=KEYID,
        miscmask=0xFFFF_FFFF,
    )
    token = EinitToken(
        valid=True,
        mrenclave=bytes([7] * 32),
        cpusvnle=FUSES.cpusvn,
        isvprodidle=IDENTITY.isvprodid,
        isvsvnle=IDENTITY.isvsvn,
        maskedmiscselectle=IDENTITY.miscselect,
        maskedattributesle=IDENTITY.attributes,
        keyid=KEYID,
    )
    mac = cmac(derive_key(FUSES, IDENTITY, request), token.to_bytes()[:192])
    assert einittoken_mac(FUSES, token, IDENTITY.mrsigner) == mac
    assert einittoken_mac(FUSES, token, bytes(32)) != mac


@given(TARGETS, sized(32))
def test_ereport_and_egetkey_derive_the_same_report_key(target: TargetInfo, keyid: bytes) -> None:
    identity = SecsIdentity(
        target.measurement,
        bytes(32),
        Attributes(target.attributes.flags | AttributeFlags.KSS, target.attributes.xfrm),
        target.miscselect,
        configid=target.configid,
        configsvn=target.configsvn,
    )
    request = KeyRequest(KeyName.REPORT_KEY, keyid=keyid)
    assert report_key(FUSES, identity.target_info, keyid) == derive_key(FUSES, identity, request)
