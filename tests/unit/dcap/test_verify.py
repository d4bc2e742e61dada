"""Each question of a verification, on a platform made for it; none of it needs the real quotes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from doubles import platform as double
from doubles.platform import AT, BEGIN, END, Platform, make_platform
from sgxkit.dcap import (
    INTEL_SGX_ROOT_CA,
    Collateral,
    CollateralMissingError,
    Policy,
    PolicyError,
    Step,
    TcbStatus,
    Verdict,
    Verification,
    VerificationError,
    Verifier,
)
from sgxkit.dcap.verification_document import verification_document
from sgxkit.errors import FormatError, InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes


@pytest.fixture(scope="module")
def sgx() -> Platform:
    return make_platform("SGX")


@pytest.fixture(scope="module")
def tdx() -> Platform:
    return make_platform("TDX")


def examine(
    platform: Platform, collateral: Collateral | None = None, *, quote: bytes | None = None, at: datetime = AT
) -> Verification:
    collateral = platform.collateral() if collateral is None else collateral
    return Verifier(trust_anchor=platform.anchor).examine(quote or platform.quote(), collateral, at=at)


def codes(verification: Verification) -> list[str]:
    return [error.code for error in verification.errors]


class TestGenuine:
    @pytest.mark.parametrize("version", [3, 4, 5])
    def test_sgx(self, sgx: Platform, version: int) -> None:
        verification = examine(sgx, quote=sgx.quote(version=version))
        assert verification.verified
        assert verification.tcb is not None
        assert verification.tcb.status is TcbStatus.UP_TO_DATE
        assert verification.verdict_of(Step.TDX_MODULE) is None

    @pytest.mark.parametrize(("version", "size"), [(4, 584), (5, 584), (5, 648), (5, 885)])
    def test_tdx(self, tdx: Platform, version: int, size: int) -> None:
        verification = examine(tdx, quote=tdx.quote(version=version, body=double.td_report(size)))
        assert verification.verified
        assert verification.verdict_of(Step.TDX_MODULE) is Verdict.PASSED

    def test_an_enclave_that_uses_control_flow_enforcement(self, sgx: Platform) -> None:
        body = double.report_body(cet_attributes=0x25).to_bytes()
        assert body[20] == 0x25
        verification = examine(sgx, quote=sgx.quote(body=body))
        assert verification.verified
        assert verification_document(verification)["quote"]["body"]["cet_attributes"] == "25"

    def test_verify_returns_the_record(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        assert verifier.verify(sgx.quote(), sgx.collateral(), at=AT).verified

    def test_verify_raises_with_the_record(self, sgx: Platform) -> None:
        levels = [double.tcb_level(0, "OutOfDate")]
        with pytest.raises(PolicyError) as caught:
            Verifier(trust_anchor=sgx.anchor).verify(sgx.quote(), sgx.collateral(levels=levels), at=AT)
        assert caught.value.verification is not None
        assert caught.value.verification.tcb is not None
        assert caught.value.verification.tcb.status is TcbStatus.OUT_OF_DATE

    def test_a_processor_ca_platform(self) -> None:
        platform = make_platform(extension=double.sgx_extension(instance=None), ca_name="Processor")
        verification = examine(platform)
        assert verification.verified
        assert verification.platform is not None
        assert verification.platform.platform_instance_id is None

    @pytest.mark.parametrize("kind", [1, 2, 3])
    def test_a_quote_that_names_its_platform_by_ppid(self, sgx: Platform, kind: int) -> None:
        size = {1: 16, 2: 256, 3: 384}[kind]
        quote = sgx.quote(certification=(kind, bytes(size) + bytes(16) + b"\x0d\x00" + bytes(2)))
        missing = examine(sgx, quote=quote)
        assert isinstance(missing.error, CollateralMissingError)
        assert missing.verdict_of(Step.PCK_CHAIN) is Verdict.NOT_REACHED
        with_chain = sgx.collateral(pck_certificate_chain=sgx.pck_chain)
        assert examine(sgx, with_chain, quote=quote).verified

    def test_authentication_data_of_any_length(self, sgx: Platform) -> None:
        for size in (0, 1, 64, 65535):
            assert examine(replace(sgx, qe_auth_data=bytes(size))).verified


def by_stranger(platform: Platform, **fields: Any) -> Platform:
    """The platform with some of its keys replaced by others of the same names."""
    return replace(platform, **fields)


class TestChain:
    def test_a_pck_certificate_of_another_authority(self, sgx: Platform) -> None:
        other = make_platform()
        verification = examine(replace(sgx, pck=other.pck, ca=other.ca, root=other.root), sgx.collateral())
        assert codes(verification)  # the anchor is the other root here, so the collateral is refused
        verification = Verifier(trust_anchor=sgx.anchor).examine(other.quote(), sgx.collateral(), at=AT)
        assert verification.verdict_of(Step.PCK_CHAIN) is Verdict.FAILED
        assert "chain.untrusted-root" in codes(verification)

    @pytest.mark.parametrize(
        "change",
        [
            lambda p: {"pck": double.certify("Intel SGX PCK Certificate", p.root, extension=double.sgx_extension())},
            lambda p: {"pck": double.certify("Another Name", p.ca, extension=double.sgx_extension())},
            lambda p: {
                "pck": double.certify("Intel SGX PCK Certificate", p.ca, ca=True, extension=double.sgx_extension())
            },
            lambda p: {"ca": double.certify("Intel SGX PCK Other CA", p.root, ca=True, key=p.ca.key)},
            lambda p: {"ca": double.certify("Intel SGX PCK Platform CA", p.root, ca=False, key=p.ca.key)},
            lambda p: {"ca": double.certify("Intel SGX PCK Platform CA", None, ca=True, key=p.ca.key)},
            lambda p: {"root": double.certify("Intel SGX Rogue CA", None, ca=True, key=p.root.key)},
        ],
        ids=[
            "issued by root",
            "other name",
            "leaf is a CA",
            "other CA name",
            "CA is a leaf",
            "CA self-signed",
            "root name",
        ],
    )
    def test_certificates_that_have_no_place_in_it(
        self, sgx: Platform, change: Callable[[Platform], dict[str, Any]]
    ) -> None:
        changed = replace(sgx, **change(sgx))
        verification = Verifier(trust_anchor=sgx.anchor).examine(changed.quote(), sgx.collateral(), at=AT)
        assert verification.verdict_of(Step.PCK_CHAIN) is Verdict.FAILED
        assert verification.tcb is None

    def test_a_root_certificate_that_was_changed(self, sgx: Platform) -> None:
        changed = double.certify("Intel SGX Root CA", None, ca=True, key=sgx.root.key)
        der = bytearray(changed.certificate.public_bytes(double.serialization.Encoding.DER))
        der[-1] ^= 1
        broken = replace(changed, certificate=x509.load_der_x509_certificate(bytes(der)))
        quote = replace(sgx, root=broken).quote()
        verification = Verifier(trust_anchor=sgx.anchor).examine(quote, sgx.collateral(), at=AT)
        assert "chain.invalid" in codes(verification)

    def test_a_certificate_of_an_unknown_version(self, sgx: Platform) -> None:
        encoded = sgx.pck.certificate.public_bytes(double.serialization.Encoding.DER)
        version = bytes.fromhex("a003020102")
        assert encoded.count(version) == 1
        changed = b64encode(encoded.replace(version, bytes.fromhex("a00302010a"))).decode()
        pem = f"-----BEGIN CERTIFICATE-----\n{changed}\n-----END CERTIFICATE-----\n" + sgx.ca.pem + sgx.root.pem
        assert codes(examine(sgx, sgx.collateral(pck_certificate_chain=pem))) == ["collateral.malformed"]

    def test_an_unknown_critical_extension(self, sgx: Platform) -> None:
        pck = double.certify(
            "Intel SGX PCK Certificate", sgx.ca, extension=double.sgx_extension(), critical=b"\x05\x00"
        )
        assert "collateral.malformed" in codes(examine(replace(sgx, pck=pck)))

    @pytest.mark.parametrize(
        "extension",
        [
            b"\x30\x00",
            double.sgx_extension() + b"\x00",
            double.sgx_extension(extra=b"\x30\x00"),
            double.sgx_extension(sgx_type=7),
            double.sgx_extension(pceid=bytes(3)),
            double.sgx_extension(components=(7,) * 15),
            double.sgx_extension(pcesvn=65536),
        ],
        ids=["empty", "trailing", "not a pair", "unknown type", "long PCE-ID", "15 components", "large PCESVN"],
    )
    def test_an_sgx_extension_that_is_not_as_specified(self, sgx: Platform, extension: bytes) -> None:
        pck = double.certify("Intel SGX PCK Certificate", sgx.ca, extension=extension)
        verification = examine(replace(sgx, pck=pck))
        assert codes(verification)[0] == "collateral.malformed"
        assert verification.verdict_of(Step.PCK_CHAIN) is Verdict.FAILED


class TestRevocation:
    def test_the_platform(self, sgx: Platform) -> None:
        verification = examine(sgx, sgx.collateral(revoked_by_ca=[sgx.pck]))
        assert codes(verification) == ["certificate.revoked"]
        assert verification.verdict_of(Step.PCK_CRL) is Verdict.FAILED
        assert verification.tcb is None

    @pytest.mark.parametrize("who", ["ca", "tcb_signer", "root"])
    def test_what_the_root_issued(self, sgx: Platform, who: str) -> None:
        verification = examine(sgx, sgx.collateral(revoked_by_root=[getattr(sgx, who)]))
        assert codes(verification) == ["certificate.revoked"]
        assert verification.verdict_of(Step.ROOT_CRL) is Verdict.FAILED

    def test_the_list_of_another_ca(self, sgx: Platform) -> None:
        other = double.certify("Intel SGX PCK Processor CA", sgx.root, ca=True)
        wrong = {"pck_crl": double.crl(other), "pck_crl_issuer_chain": other.pem + sgx.root.pem}
        assert codes(examine(sgx, sgx.collateral(**wrong))) == ["crl.issuer"]

    def test_a_list_by_another_key_of_the_same_name(self, sgx: Platform) -> None:
        other = double.certify("Intel SGX PCK Platform CA", sgx.root, ca=True)
        assert codes(examine(sgx, sgx.collateral(pck_crl=double.crl(other)))) == ["crl.signature"]

    def test_no_list(self, sgx: Platform) -> None:
        assert codes(examine(sgx, sgx.collateral(pck_crl=b"", root_ca_crl=b""))) == ["crl.missing", "crl.missing"]


class TestTime:
    def test_begin_is_included_and_end_is_not(self, sgx: Platform) -> None:
        assert examine(sgx, at=BEGIN).verified
        assert codes(examine(sgx, at=BEGIN - timedelta(seconds=1))) == ["not-yet-valid"]
        assert examine(sgx, at=END - timedelta(seconds=1)).verified
        assert codes(examine(sgx, at=END)) == ["expired"]

    def test_a_certificate_is_valid_through_its_last_second(self) -> None:
        platform = make_platform()
        end = BEGIN + timedelta(days=5)
        pck = double.certify("Intel SGX PCK Certificate", platform.ca, extension=double.sgx_extension(), end=end)
        platform = replace(platform, pck=pck)
        assert examine(platform, at=end).verified
        assert codes(examine(platform, at=end + timedelta(seconds=1))) == ["expired"]

    def test_the_status_is_told_though_collateral_expired(self, sgx: Platform) -> None:
        verification = examine(sgx, at=END)
        assert verification.tcb is not None
        assert not verification.verified

    def test_earliest_expiration(self, sgx: Platform) -> None:
        verification = examine(sgx)
        assert verification.collateral is not None
        assert verification.collateral.earliest_expiration == END
        assert verification.collateral.latest_issue == BEGIN

    def test_grace_is_for_published_lists(self, sgx: Platform) -> None:
        verifier = Verifier(Policy(collateral_grace_period=timedelta(days=7)), trust_anchor=sgx.anchor)
        quote, collateral = sgx.quote(), sgx.collateral()
        assert verifier.examine(quote, collateral, at=END + timedelta(days=7) - timedelta(seconds=1)).verified
        assert codes(verifier.examine(quote, collateral, at=END + timedelta(days=7))) == ["expired"]

    def test_a_time_needs_a_zone(self, sgx: Platform) -> None:
        with pytest.raises(InputError):
            examine(sgx, at=datetime(2026, 1, 15))  # noqa: DTZ001 - the point of the test

    def test_the_default_is_now(self, sgx: Platform) -> None:
        before = datetime.now(UTC)
        verification = Verifier(trust_anchor=sgx.anchor).examine(sgx.quote(), sgx.collateral())
        assert before <= verification.at <= datetime.now(UTC)


class TestSigned:
    def test_tcb_info_by_another_key(self, sgx: Platform) -> None:
        text = double.tcb_info([double.tcb_level(0, "UpToDate")])
        wrong = sgx.collateral(tcb_info_text=text, tcb_info_signature=sgx.pck.sign(text.encode()))
        assert codes(examine(sgx, wrong)) == ["tcb-info.signature"]

    def test_an_identity_by_another_key(self, sgx: Platform) -> None:
        text = double.qe_identity()
        wrong = sgx.collateral(identity_text=text, qe_identity_signature=sgx.pck.sign(text.encode()))
        assert codes(examine(sgx, wrong)) == ["qe-identity.signature"]

    def test_a_tcb_signer_that_is_not_one(self, sgx: Platform) -> None:
        text = double.tcb_info([double.tcb_level(0, "UpToDate")])
        wrong = sgx.collateral(
            tcb_info_text=text,
            tcb_info_signature=sgx.ca.sign(text.encode()),
            tcb_info_issuer_chain=sgx.ca.pem + sgx.root.pem,
        )
        assert codes(examine(sgx, wrong)) == ["chain.invalid"]

    @pytest.mark.parametrize(
        ("change", "code"), [({"fmspc": bytes(6)}, "tcb-info.mismatch"), ({"pceid": b"\1\0"}, "tcb-info.mismatch")]
    )
    def test_tcb_info_for_another_platform(self, sgx: Platform, change: dict[str, Any], code: str) -> None:
        text = double.tcb_info([double.tcb_level(0, "UpToDate")], **change)
        assert codes(examine(sgx, sgx.collateral(tcb_info_text=text))) == [code]

    def test_the_wrong_tee(self, sgx: Platform, tdx: Platform) -> None:
        text = double.tcb_info([double.tcb_level(0, "UpToDate", tdx_svn=0)], tee="TDX")
        assert codes(examine(sgx, sgx.collateral(tcb_info_text=text))) == ["tcb-info.type"]
        identity = double.qe_identity(identity="QE")
        verification = examine(tdx, tdx.collateral(identity_text=identity), quote=tdx.quote(version=4))
        assert codes(verification) == ["qe-identity.type"]

    @pytest.mark.parametrize("identity", ["TD_QE", "QVE", "QAE"])
    def test_identities_that_the_same_key_signs(self, sgx: Platform, identity: str) -> None:
        text = double.qe_identity(identity=identity)
        assert codes(examine(sgx, sgx.collateral(identity_text=text))) == ["qe-identity.type"]

    @pytest.mark.parametrize(
        "text",
        [
            '{"id":"SGX","id":"SGX"}',
            double.tcb_info([double.tcb_level(0, "UpToDate")], version=4),
            double.tcb_info([double.tcb_level(0, "UpToDate")], tcbType=1),
            double.tcb_info([]),
            double.tcb_info([double.tcb_level(0, "Fine")]),
            double.tcb_info([double.tcb_level(0, "TDRelaunchAdvised")]),
            double.tcb_info([double.tcb_level(-1, "UpToDate")]),
            double.tcb_info([double.tcb_level(65536, "UpToDate")]),
            double.tcb_info([double.tcb_level(True, "UpToDate")]),
            double.tcb_info([double.tcb_level(0, "UpToDate", pcesvn=True)]),
            double.tcb_info([double.tcb_level(0, "UpToDate"), double.tcb_level(0, "OutOfDate")]),
            double.tcb_info([double.tcb_level(0, "UpToDate")], issueDate="2026-01-01"),
            double.tcb_info([double.tcb_level(0, "UpToDate")], issueDate="2026-13-01T00:00:00Z"),
            double.tcb_info([double.tcb_level(0, "UpToDate")], tdxModule={}),
        ],
        ids=lambda text: text[-60:],
    )
    def test_signed_documents_that_make_no_sense(self, sgx: Platform, text: str) -> None:
        verification = examine(sgx, sgx.collateral(tcb_info_text=text))
        assert codes(verification) == ["collateral.malformed"]
        assert verification.verdict_of(Step.TCB_LEVEL) is Verdict.NOT_REACHED


class TestQuotingEnclave:
    def test_a_report_that_the_pck_did_not_sign(self, sgx: Platform) -> None:
        other = replace(
            sgx, pck=double.certify("Intel SGX PCK Certificate", sgx.ca, extension=double.sgx_extension())
        )
        quote = sgx.quote(certification=(5, other.pck_chain.encode()))
        assert codes(examine(sgx, quote=quote)) == ["qe-report.signature"]

    def test_an_attestation_key_that_the_report_does_not_name(self, sgx: Platform) -> None:
        stranger = replace(sgx, attestation_key=ec.generate_private_key(ec.SECP256R1()))
        good, forged = sgx.quote(), stranger.quote()
        # The genuine QE report over the forger's signature and key, 64 bytes each at the start of the signature data.
        spliced = forged[: 436 + 128] + good[436 + 128 :]
        assert codes(examine(sgx, quote=spliced)) == ["attestation-key.binding"]

    def test_other_authentication_data(self, sgx: Platform) -> None:
        quote = bytearray(sgx.quote())
        quote[436 + 128 + 384 + 64 + 2] ^= 1
        assert codes(examine(sgx, quote=bytes(quote))) == ["attestation-key.binding"]

    def test_a_debug_quoting_enclave(self, sgx: Platform) -> None:
        debug = replace(sgx, qe_attributes=sgx.qe_attributes | AttributeFlags.DEBUG)
        assert codes(examine(debug)) == ["qe.mismatch"]

    @pytest.mark.parametrize(
        "change",
        [{"signer": bytes(32)}, {"isvprodid": 2}, {"miscselect": "01000000"}, {"attributes": "01" + "00" * 15}],
    )
    def test_one_that_intel_does_not_vouch_for(self, sgx: Platform, change: dict[str, Any]) -> None:
        assert codes(examine(sgx, sgx.collateral(identity_text=double.qe_identity(**change)))) == ["qe.mismatch"]

    def test_one_below_every_level(self, sgx: Platform) -> None:
        assert codes(examine(replace(sgx, qe_isvsvn=7))) == ["tcb.not-supported"]


class TestRating:
    def test_every_condition_counts_in_one_level(self, sgx: Platform) -> None:
        # Components good for the first level with a PCESVN that is not, and the reverse: neither reaches it.
        levels = [double.tcb_level(7, "UpToDate", pcesvn=14), double.tcb_level(8, "UpToDate", pcesvn=1)]
        assert codes(examine(sgx, sgx.collateral(levels=levels))) == ["tcb.not-supported"]

    def test_levels_are_taken_from_high_to_low(self, sgx: Platform) -> None:
        unsorted = ((1, "Revoked"), (7, "UpToDate"), (3, "OutOfDate"))
        levels = [double.tcb_level(svn, status) for svn, status in unsorted]
        assert examine(sgx, sgx.collateral(levels=levels)).verified

    @pytest.mark.parametrize(
        ("platform_status", "component", "whole"),
        [
            ("UpToDate", "OutOfDate", "OutOfDate"),
            ("SWHardeningNeeded", "UpToDate", "SWHardeningNeeded"),
            ("SWHardeningNeeded", "OutOfDate", "OutOfDate"),
            ("ConfigurationNeeded", "UpToDate", "ConfigurationNeeded"),
            ("ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
            ("ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
            ("OutOfDate", "UpToDate", "OutOfDate"),
            ("OutOfDateConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded"),
            ("UpToDate", "Revoked", "Revoked"),
            ("Revoked", "UpToDate", "Revoked"),
        ],
    )
    def test_convergence(self, sgx: Platform, platform_status: str, component: str, whole: str) -> None:
        levels = [double.tcb_level(7, platform_status, advisories=["INTEL-SA-00002", "INTEL-SA-00001"])]
        identity = double.qe_identity(status=component)
        verification = examine(sgx, sgx.collateral(levels=levels, identity_text=identity))
        assert verification.tcb is not None
        assert verification.tcb.status == whole
        assert verification.tcb.qe_status == component
        assert verification.tcb.advisory_ids == ("INTEL-SA-00001", "INTEL-SA-00002")
        assert verification.verified == (whole == "UpToDate")

    def test_a_tdx_module_that_is_not_known(self, tdx: Platform) -> None:
        quote = tdx.quote(version=4, body=double.td_report(584, tee_tcb_svn=bytes([5, 2, 3])))
        assert codes(examine(tdx, quote=quote)) == ["tdx-module.mismatch"]

    def test_a_tdx_module_by_another_signer(self, tdx: Platform) -> None:
        quote = tdx.quote(version=4, body=double.td_report(584, mrsignerseam=b"\1" * 48))
        assert codes(examine(tdx, quote=quote)) == ["tdx-module.mismatch"]

    def test_an_old_tdx_module(self, tdx: Platform) -> None:
        quote = tdx.quote(version=4, body=double.td_report(584, tee_tcb_svn=bytes([1, 1, 3])))
        verification = examine(tdx, quote=quote)
        assert verification.tcb is not None
        assert verification.tcb.status is TcbStatus.OUT_OF_DATE
        assert verification.tcb.tdx_module_status is TcbStatus.OUT_OF_DATE
        assert verification.tcb.platform_status is TcbStatus.UP_TO_DATE

    def test_relaunch_advised(self, tdx: Platform) -> None:
        body = double.td_report(648, tee_tcb_svn=bytes([1, 1, 3]), tee_tcb_svn2=bytes([5, 1, 3]))
        verification = examine(tdx, quote=tdx.quote(version=5, body=body))
        assert verification.tcb is not None
        assert verification.tcb.status is TcbStatus.TD_RELAUNCH_ADVISED
        assert verification.tcb.launch_status is TcbStatus.OUT_OF_DATE
        assert verification.tcb.current_status is TcbStatus.UP_TO_DATE
        assert not verification.verified

    def test_a_revoked_module_beneath_a_running_td(self, tdx: Platform) -> None:
        info = json.loads(double.tcb_info([double.tcb_level(7, "UpToDate", tdx_svn=3)], tee="TDX"))
        info["tdxModuleIdentities"][0]["tcbLevels"][1]["tcbStatus"] = "Revoked"
        collateral = tdx.collateral(tcb_info_text=json.dumps(info, separators=(",", ":")))
        body = double.td_report(648, tee_tcb_svn=bytes([5, 1, 3]), tee_tcb_svn2=bytes([1, 1, 3]))
        verification = examine(tdx, collateral, quote=tdx.quote(version=5, body=body))
        assert verification.tcb is not None
        assert verification.tcb.status is TcbStatus.REVOKED
        assert verification.tcb.launch_status is TcbStatus.UP_TO_DATE

    def test_the_trust_anchor_cannot_be_changed(self, tdx: Platform) -> None:
        verifier = Verifier(trust_anchor=tdx.anchor)
        with pytest.raises(AttributeError):
            verifier.trust_anchor = INTEL_SGX_ROOT_CA  # type: ignore[misc]


class TestMissing:
    def test_a_certificate_without_its_chain(self, sgx: Platform) -> None:
        leaf = sgx.pck_chain.partition("-----END CERTIFICATE-----\n")
        quote = sgx.quote(certification=(4, (leaf[0] + leaf[1]).encode()))
        error = examine(sgx, quote=quote).error
        assert isinstance(error, CollateralMissingError)
        assert "carries its PCK certificate, but not the chain" in str(error)
        with_chain = replace(sgx.collateral(), pck_certificate_chain=sgx.pck_chain)
        assert examine(sgx, with_chain, quote=quote).verified

    def test_without_collateral_what_can_be_said_is_said(self, sgx: Platform) -> None:
        verification = Verifier(trust_anchor=sgx.anchor).examine(sgx.quote(), None, at=AT)
        assert isinstance(verification.error, CollateralMissingError)
        assert verification.verdict_of(Step.PCK_CHAIN) is Verdict.PASSED
        assert verification.verdict_of(Step.QUOTE_SIGNATURE) is Verdict.PASSED
        assert verification.verdict_of(Step.TCB_INFO) is Verdict.NOT_REACHED
        with pytest.raises(CollateralMissingError):
            Verifier(trust_anchor=sgx.anchor).verify(sgx.quote(), None, at=AT)

    def test_a_forgery_is_refused_even_without_collateral(self, sgx: Platform) -> None:
        quote = bytearray(sgx.quote())
        quote[100] ^= 1
        verification = Verifier(trust_anchor=sgx.anchor).examine(bytes(quote), None, at=AT)
        assert verification.error is not None
        assert verification.error.code == "quote.signature"


class TestMemory:
    """What is remembered must not outlive what it was true of."""

    def test_expiry_bites_with_a_warm_cache(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        quote, collateral = sgx.quote(), sgx.collateral()
        for _ in range(3):
            assert verifier.examine(quote, collateral, at=AT).verified
        assert codes(verifier.examine(quote, collateral, at=END)) == ["expired"]
        assert codes(verifier.examine(quote, collateral, at=BEGIN - timedelta(days=1))) == ["not-yet-valid"]
        assert verifier.examine(quote, collateral, at=AT).verified

    def test_expiry_of_the_platforms_own_certificate_bites(self) -> None:
        platform = make_platform()
        pck = double.certify("Intel SGX PCK Certificate", platform.ca, extension=double.sgx_extension(), end=AT)
        platform = replace(platform, pck=pck)
        verifier = Verifier(trust_anchor=platform.anchor)
        quote, collateral = platform.quote(), platform.collateral()
        assert verifier.examine(quote, collateral, at=AT).verified
        assert codes(verifier.examine(quote, collateral, at=AT + timedelta(seconds=1))) == ["expired"]

    def test_revocation_bites_with_a_warm_cache(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        quote = sgx.quote()
        assert verifier.examine(quote, sgx.collateral(), at=AT).verified
        revoked = sgx.collateral(revoked_by_ca=[sgx.pck])
        assert codes(verifier.examine(quote, revoked, at=AT)) == ["certificate.revoked"]
        assert codes(verifier.examine(quote, revoked, at=AT)) == ["certificate.revoked"]

    def test_a_tcb_recovery_bites_with_a_warm_cache(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        quote = sgx.quote()
        assert verifier.examine(quote, sgx.collateral(), at=AT).verified
        recovery = sgx.collateral(levels=[double.tcb_level(8, "UpToDate"), double.tcb_level(7, "OutOfDate")])
        assert codes(verifier.examine(quote, recovery, at=AT)) == ["policy"]

    def test_a_forged_quote_on_a_known_platform(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        quote, collateral = bytearray(sgx.quote()), sgx.collateral()
        assert verifier.examine(bytes(quote), collateral, at=AT).verified
        quote[48 + 64] ^= 1
        assert codes(verifier.examine(bytes(quote), collateral, at=AT)) == ["quote.signature"]

    def test_a_known_key_for_another_platform(self, sgx: Platform) -> None:
        other = replace(make_platform(), attestation_key=sgx.attestation_key)
        verifier = Verifier(trust_anchor=sgx.anchor)
        assert verifier.examine(sgx.quote(), sgx.collateral(), at=AT).verified
        assert not verifier.examine(other.quote(), sgx.collateral(), at=AT).verified

    def test_it_is_bounded(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor, remember=2)
        quote = sgx.quote()
        for number in range(5):
            text = double.tcb_info([double.tcb_level(0, "UpToDate")], number=number)
            assert verifier.examine(quote, sgx.collateral(tcb_info_text=text), at=AT).verified
        kept = (verifier._collateral, verifier._platforms, verifier._qes, verifier._ratings)
        assert [len(cache) for cache in kept] == [2, 2, 2, 2]

    def test_nothing_is_remembered_of_a_refusal(self, sgx: Platform) -> None:
        verifier = Verifier(trust_anchor=sgx.anchor)
        verifier.examine(sgx.quote(), sgx.collateral(pck_crl=b""), at=AT)
        assert [len(cache) for cache in (verifier._collateral, verifier._qes, verifier._ratings)] == [0, 0, 0]


class TestMany:
    def test_answers_come_in_order_and_on_all_cores(self, sgx: Platform) -> None:
        collateral = sgx.collateral()
        good = sgx.quote()
        bad = bytearray(good)
        bad[100] ^= 1
        items: list[tuple[bytes, Collateral | None]] = []
        for number in range(300):
            items.append(((good, bytes(bad), b"nonsense")[number % 3], collateral))
        verifier = Verifier(trust_anchor=sgx.anchor)
        answers = list(verifier.verify_many(iter(items), at=AT, threads=4))
        assert len(answers) == 300
        for number, answer in enumerate(answers):
            if number % 3 == 2:
                assert isinstance(answer, FormatError)
            else:
                assert isinstance(answer, Verification)
                assert answer.verified == (number % 3 == 0)

    def test_the_source_may_be_without_end(self, sgx: Platform) -> None:
        def endless() -> Any:
            while True:
                yield sgx_quote, collateral

        sgx_quote, collateral = sgx.quote(), sgx.collateral()
        answers = Verifier(trust_anchor=sgx.anchor).verify_many(endless(), at=AT, threads=2)
        assert next(answers)
        answers.close()


def test_an_error_can_be_raised_by_its_first_reason(sgx: Platform) -> None:
    with pytest.raises(VerificationError) as caught:
        Verifier(trust_anchor=sgx.anchor).verify(sgx.quote(), sgx.collateral(), at=END)
    assert caught.value.code == "expired"
    assert caught.value.exit_code == 1


def test_debug_enclaves_are_refused_unless_allowed(sgx: Platform) -> None:
    body = double.report_body(attributes=Attributes(AttributeFlags.INIT | AttributeFlags.DEBUG, 3)).to_bytes()
    quote = sgx.quote(body=body)
    verification = examine(sgx, quote=quote)
    assert [error.code for error in verification.errors] == ["policy"]
    allowed = Verifier(Policy(allow_debug=True), trust_anchor=sgx.anchor)
    assert allowed.examine(quote, sgx.collateral(), at=AT).verified
