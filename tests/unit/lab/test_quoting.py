"""A lab's quotes and collateral: other verifiers agree, under the lab's root only, before and after events."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.aesm.key_id import INTEL_ECDSA_P256
from sgxkit.dcap import (
    INTEL_SGX_ROOT_CA,
    Collateral,
    Policy,
    TcbStatus,
    Verification,
    Verifier,
    anchor_from_pem,
    export_bundle,
    parse_quote,
)
from sgxkit.dcap.certificate import parse_certificate
from sgxkit.dcap.errors import UntrustedRootError
from sgxkit.dcap.identity import EnclaveIdentityId, parse_enclave_identity
from sgxkit.dcap.pck import parse_pck_platform
from sgxkit.dcap.signed_json import split_signed_json
from sgxkit.dcap.tcb import parse_tcb_info
from sgxkit.emulator.keys import make_report, verify_report
from sgxkit.isa.local_report import Report
from sgxkit.lab.authority import Lab
from sgxkit.lab.profiles import PROFILES
from sgxkit.lab.publication import collateral, enclave_identity, numbers_on_offer, tcb_info
from sgxkit.lab.quoting import SAMPLE_ENCLAVE, QuotingEnclave, quote_user_data, report_key_id
from sgxkit.lab.world import (
    STATUS_OF,
    InitialTcb,
    World,
    expire,
    new_world,
    revoke_pck,
    rotate_qe,
    tcb_recovery,
)

NOW = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)
KEY = INTEL_ECDSA_P256.to_bytes()
ANY_STATUS = Policy(accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED})


def a_lab(seed: bytes = bytes(32), **options: object) -> Lab:
    return Lab(seed, new_world("test", NOW, **options))  # type: ignore[arg-type]


def after(lab: Lab, event: Callable[[World], World]) -> Lab:
    return Lab(lab.seed, event(lab.world))


def examine(lab: Lab, quote: bytes, judged_by: Collateral, policy: Policy | None = None) -> Verification:
    anchor = anchor_from_pem(lab.hierarchy.root.pem, "root")
    return Verifier(policy, trust_anchor=anchor).examine(quote, judged_by, at=NOW)


def peer(lab: Lab, quote: bytes, judged_by: Collateral) -> str:
    """The status that dcap-qvl gives under the lab's root; it raises ValueError where it refuses."""
    pieces = dcap_qvl.QuoteCollateralV3.from_json(export_bundle(judged_by))
    return str(dcap_qvl.verify_with_root_ca(quote, pieces, lab.hierarchy.root.der, int(NOW.timestamp())).status)


@pytest.mark.parametrize("cpu", sorted(PROFILES))
@pytest.mark.parametrize("tcb", InitialTcb)
def test_a_new_lab_is_rated_as_it_was_asked_for(cpu: str, tcb: InitialTcb) -> None:
    lab = a_lab(cpu=cpu, tcb=tcb)
    quote, judged_by = quote_user_data(lab, b"challenge"), collateral(lab, NOW)
    verification = examine(lab, quote, judged_by, ANY_STATUS)
    assert verification.verified is (tcb is not InitialTcb.REVOKED)
    assert verification.tcb is not None
    assert verification.tcb.status is STATUS_OF[tcb]
    assert verification.quote.body.reportdata == b"challenge".ljust(64, b"\0")
    if tcb is InitialTcb.REVOKED:
        with pytest.raises(ValueError, match="Revoked"):
            peer(lab, quote, judged_by)
    else:
        assert peer(lab, quote, judged_by) == STATUS_OF[tcb]


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.sampled_from(sorted(PROFILES)))
def test_quotes_verify_under_the_labs_root_and_never_under_intels(seed: bytes, data: bytes, cpu: str) -> None:
    lab = a_lab(seed, cpu=cpu)
    quote, judged_by = quote_user_data(lab, data), collateral(lab, NOW)
    assert examine(lab, quote, judged_by).verified
    assert peer(lab, quote, judged_by) == "UpToDate"
    intel = Verifier(trust_anchor=INTEL_SGX_ROOT_CA).examine(quote, judged_by, at=NOW)
    assert isinstance(intel.error, UntrustedRootError)
    with pytest.raises(ValueError):
        dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(export_bundle(judged_by)), int(NOW.timestamp()))


def test_the_same_seed_is_the_same_lab() -> None:
    one, same, other = a_lab(b"s" * 32), a_lab(b"s" * 32), a_lab(b"t" * 32)
    assert quote_user_data(one, b"d") == quote_user_data(same, b"d")
    assert collateral(one, NOW).digest == collateral(same, NOW).digest
    assert one.hierarchy.root.der != other.hierarchy.root.der


def test_after_a_tcb_recovery_the_platform_is_out_of_date_until_it_is_patched() -> None:
    lab = a_lab()
    behind = after(lab, lambda world: tcb_recovery(world, NOW))
    quote, judged_by = quote_user_data(behind, b""), collateral(behind, NOW)
    assert peer(lab, quote, judged_by) == "OutOfDate"
    assert not examine(lab, quote, judged_by).verified
    verdict = examine(lab, quote, judged_by, ANY_STATUS).tcb
    assert verdict is not None
    assert (verdict.status, verdict.advisory_ids) == (TcbStatus.OUT_OF_DATE, ("LAB-SA-10021",))
    patched = after(lab, lambda world: tcb_recovery(world, NOW, patched=True))
    assert examine(lab, quote_user_data(patched, b""), judged_by).verified
    assert peer(lab, quote_user_data(patched, b""), judged_by) == "UpToDate"
    assert peer(lab, quote, judged_by) == "OutOfDate"


def test_an_early_recovery_is_seen_by_who_asks_early() -> None:
    lab = after(a_lab(), lambda world: tcb_recovery(world, NOW, early=True))
    quote = quote_user_data(lab, b"")
    assert peer(lab, quote, collateral(lab, NOW)) == "UpToDate"
    assert peer(lab, quote, collateral(lab, NOW, early=True)) == "OutOfDate"


def test_after_a_revocation_quotes_are_refused() -> None:
    lab = after(a_lab(), lambda world: revoke_pck(world, NOW - timedelta(days=1)))
    quote, judged_by = quote_user_data(lab, b""), collateral(lab, NOW)
    assert "revoked" in str(examine(lab, quote, judged_by, ANY_STATUS).error)
    with pytest.raises(ValueError, match="CertRevoked"):
        peer(lab, quote, judged_by)
    patched = after(lab, lambda world: tcb_recovery(world, NOW, patched=True))
    assert examine(lab, quote_user_data(patched, b""), collateral(patched, NOW)).verified


def test_after_expiry_quotes_are_refused() -> None:
    lab = after(a_lab(), lambda world: expire(world, NOW))
    quote, judged_by = quote_user_data(lab, b""), collateral(lab, NOW)
    assert "in force until" in str(examine(lab, quote, judged_by, ANY_STATUS).error)
    with pytest.raises(ValueError, match="Expired"):
        peer(lab, quote, judged_by)


def test_a_new_quoting_enclave_has_a_new_key_and_the_old_one_is_out_of_date() -> None:
    lab = a_lab()
    rotated = after(lab, lambda world: rotate_qe(world, NOW))
    old, new, judged_by = quote_user_data(lab, b""), quote_user_data(rotated, b""), collateral(rotated, NOW)
    assert parse_quote(old).attestation_key != parse_quote(new).attestation_key
    assert (peer(lab, old, judged_by), peer(lab, new, judged_by)) == ("OutOfDate", "UpToDate")
    left_behind = after(lab, lambda world: rotate_qe(world, NOW, identity_only=True))
    verdict = examine(lab, quote_user_data(left_behind, b""), judged_by, ANY_STATUS).tcb
    assert verdict is not None
    assert (verdict.platform_status, verdict.qe_status) == (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE)


def test_a_quote_is_of_version_3_to_the_letter() -> None:
    lab = a_lab()
    data = quote_user_data(lab, b"x" * 64)
    assert struct.unpack_from("<HHI", data) == (3, 2, 0)
    assert data[12:28].hex() == "939a7233f79c4ca9940a0db3957f0607"
    assert data[28:48] == lab.qe_id + bytes(4)
    (length,) = struct.unpack_from("<I", data, 432)
    assert len(data) == 436 + length
    quote = parse_quote(data)
    assert quote.qe_auth_data == bytes(range(32))
    assert quote.qe_report.reportdata == sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    assert struct.unpack_from("<H", data, 436 + 128 + 384 + 64 + 34) == (5,)
    assert data.endswith(b"-----END CERTIFICATE-----\n\0")


def test_certificates_say_what_the_platform_is() -> None:
    for cpu, profile in PROFILES.items():
        lab = a_lab(cpu=cpu)
        platform = parse_pck_platform(parse_certificate(lab.pck(0).der))
        assert (platform.fmspc, platform.sgx_type, platform.ppid) == (profile.fmspc, profile.sgx_type, lab.ppid)
        assert platform.cpusvn == lab.fuses.cpusvn
        assert (platform.platform_instance_id is None) == (profile.ca == "processor")
        assert "sgxkit lab test (emulated)" in lab.pck(0).certificate.issuer.rfc4514_string()


def test_every_answer_is_one_that_our_parsers_read() -> None:
    lab = after(a_lab(), lambda world: tcb_recovery(rotate_qe(world, NOW), NOW))
    for number in numbers_on_offer(lab.world):
        text, _ = split_signed_json(tcb_info(lab, number, NOW), "tcbInfo")
        old, _ = split_signed_json(tcb_info(lab, number, NOW, version=2), "tcbInfo")
        new, two = parse_tcb_info(text), parse_tcb_info(old)
        assert new.tcb_evaluation_data_number == number
        assert (two.version, two.levels) == (2, new.levels)
        for which in EnclaveIdentityId:
            identity, _ = split_signed_json(enclave_identity(lab, which, number, NOW), "enclaveIdentity")
            assert parse_enclave_identity(identity).id is which


def quoting(lab: Lab) -> QuotingEnclave:
    return QuotingEnclave(lab, initialised=True)


def report(lab: Lab, enclave: QuotingEnclave) -> Report:
    body = SAMPLE_ENCLAVE.report_body(lab.fuses.cpusvn, bytes(64))
    return make_report(lab.fuses, body, enclave.identity.target_info, report_key_id(lab))


@given(st.integers(0, 431), st.integers(1, 255))
def test_a_changed_report_is_not_quoted(where: int, change: int) -> None:
    lab = a_lab()
    enclave = quoting(lab)
    data = bytearray(report(lab, enclave).to_bytes())
    data[where] ^= change
    with pytest.raises(AesmError) as raised:
        enclave.quote(bytes(data), KEY, None)
    assert raised.value.status == AesmCode.INVALID_REPORT


def test_a_report_of_another_platform_or_for_another_enclave_is_not_quoted() -> None:
    lab, other = a_lab(), a_lab(b"o" * 32)
    enclave = quoting(lab)
    elsewhere = make_report(
        lab.fuses, report(lab, enclave).body, SAMPLE_ENCLAVE.target_info, report_key_id(lab)
    ).to_bytes()
    for wrong in (report(other, quoting(other)).to_bytes(), elsewhere, b"short"):
        with pytest.raises(AesmError) as raised:
            enclave.quote(wrong, KEY, None)
        assert raised.value.status == AesmCode.INVALID_REPORT


def test_the_quoting_enclave_reports_on_its_quote() -> None:
    lab = a_lab()
    enclave = quoting(lab)
    nonce = b"n" * 16
    info = nonce + SAMPLE_ENCLAVE.target_info.to_bytes() + bytes(432)
    quote, filled = enclave.quote(report(lab, enclave).to_bytes(), KEY, info)
    assert filled is not None
    made = Report.from_bytes(filled[-432:])
    assert verify_report(lab.fuses, made, SAMPLE_ENCLAVE.target_info)
    assert made.body.reportdata == sha256(nonce + quote).digest() + bytes(32)
    assert made.body.mrenclave == enclave.identity.mrenclave


def test_nothing_is_quoted_before_there_is_a_key() -> None:
    enclave = QuotingEnclave(a_lab())
    for ask in (
        lambda: enclave.quote_size(KEY),
        lambda: enclave.quote(report(enclave.lab, enclave).to_bytes(), KEY, None),
    ):
        with pytest.raises(AesmError) as raised:
            ask()
        assert raised.value.status == AesmCode.ATT_KEY_NOT_INITIALIZED
    enclave.public_key_id(KEY, make=True)
    assert enclave.quote_size(KEY) == len(enclave.quote(report(enclave.lab, enclave).to_bytes(), KEY, None)[0])


def test_debug_enclaves_are_refused_by_default() -> None:
    lab = a_lab()
    quote = quote_user_data(lab, b"", debug=True)
    assert not examine(lab, quote, collateral(lab, NOW)).verified
    other = replace(SAMPLE_ENCLAVE, mrenclave=b"m" * 32)
    assert parse_quote(quote_user_data(lab, b"", enclave=other)).body.mrenclave == b"m" * 32  # type: ignore[union-attr]
