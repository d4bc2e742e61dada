"""Quotes in certificates: each extension, what it binds, and that broken evidence never falls back to weaker."""

from __future__ import annotations

from hashlib import sha256, sha384, sha512

import cbor2
import pytest

from doubles import envelopes as made
from doubles.envelopes import KEY_HASH, SPKI, certificate_der, key_claims, open_enclave_report, pem, quote_over
from doubles.envelopes import tagged_evidence as evidence
from real_quotes import Vector, named
from sgxkit.dcap.envelope import find_quotes, search_quotes
from sgxkit.dcap.found_quote import Bound, Envelope, FoundQuote
from sgxkit.dcap.ratls import (
    GRAMINE,
    GRAMINE_AS_WRITTEN,
    OPEN_ENCLAVE_EVIDENCE,
    OPEN_ENCLAVE_EVIDENCE_NEW,
    OPEN_ENCLAVE_REPORT,
    OPEN_ENCLAVE_REPORT_NEW,
    TAGGED_EVIDENCE,
)
from sgxkit.errors import FormatError

LEGACY = quote_over(KEY_HASH)
CLAIMS = key_claims()


def holds(found: FoundQuote) -> dict[Bound, bool]:
    return {binding.bound: binding.holds for binding in found.bindings}


class TestLegacy:
    @pytest.mark.parametrize("oid", [GRAMINE, GRAMINE_AS_WRITTEN])
    def test_found_with_its_binding(self, oid: str) -> None:
        (found,) = find_quotes(certificate_der((oid, LEGACY)))
        assert (found.data, found.envelope) == (LEGACY, Envelope.RA_TLS)
        assert found.path == (f"X.509 extension {oid}",)
        assert holds(found) == {Bound.PUBLIC_KEY: True}
        assert found.bindings[0].expected == sha256(SPKI).digest()

    def test_the_oid_as_gramine_writes_it(self) -> None:
        # tag and length of the OID a second time, inside
        assert bytes.fromhex("060b06092a864886f84d8a3906") in certificate_der((GRAMINE_AS_WRITTEN, LEGACY))

    def test_of_another_key(self) -> None:
        (found,) = find_quotes(certificate_der((GRAMINE, quote_over(bytes(32)))))
        assert holds(found) == {Bound.PUBLIC_KEY: False}

    @pytest.mark.parametrize("label", ["CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"])
    def test_in_pem(self, label: str) -> None:
        (found,) = find_quotes(pem(certificate_der((GRAMINE, LEGACY)), label).encode())
        assert holds(found) == {Bound.PUBLIC_KEY: True}

    def test_trust_settings_after_a_trusted_certificate(self) -> None:
        der = certificate_der((GRAMINE, LEGACY)) + bytes.fromhex("300406022a03")
        assert len(find_quotes(pem(der, "TRUSTED CERTIFICATE").encode())) == 1
        with pytest.raises(FormatError, match="no quote found"):
            find_quotes(pem(der, "CERTIFICATE").encode())

    def test_zero_padding_after_the_certificate(self) -> None:
        assert len(find_quotes(certificate_der((GRAMINE, LEGACY)) + bytes(8))) == 1

    @pytest.mark.parametrize("content", [b"", b"x" * 1000, LEGACY[1:]])
    def test_without_a_quote_is_refused(self, content: bytes) -> None:
        with pytest.raises(FormatError, match="no quote in it"):
            find_quotes(certificate_der((GRAMINE, content)))

    def test_twice_is_refused(self) -> None:
        # pyca/cryptography makes no such certificate; the second extension's OID is changed into the first's.
        der = certificate_der((GRAMINE, LEGACY), ("1.2.840.113741.1337.7", LEGACY))
        changed = der.replace(bytes.fromhex("2a864886f84d8a3907"), bytes.fromhex("2a864886f84d8a3906"))
        with pytest.raises(FormatError, match="comes twice"):
            find_quotes(changed)


class TestTaggedEvidence:
    def test_found_with_its_bindings(self) -> None:
        (found,) = find_quotes(certificate_der((TAGGED_EVIDENCE, evidence(CLAIMS))))
        assert found.envelope is Envelope.TAGGED_EVIDENCE
        assert holds(found) == {Bound.CLAIMS: True, Bound.PUBLIC_KEY: True}
        assert dict(found.details)["claims"] == "pubkey-hash"

    def test_beside_the_legacy_extension(self) -> None:
        both = find_quotes(certificate_der((GRAMINE_AS_WRITTEN, LEGACY), (TAGGED_EVIDENCE, evidence(CLAIMS))))
        assert [found.envelope for found in both] == [Envelope.RA_TLS, Envelope.TAGGED_EVIDENCE]
        assert all(binding.holds for found in both for binding in found.bindings)

    @pytest.mark.parametrize(("number", "digest"), [(7, sha384(SPKI).digest()), (8, sha512(SPKI).digest())])
    def test_longer_hashes_of_the_key(self, number: int, digest: bytes) -> None:
        (found,) = find_quotes(certificate_der((TAGGED_EVIDENCE, evidence(key_claims(digest, number)))))
        assert holds(found)[Bound.PUBLIC_KEY]

    def test_claims_that_the_quote_does_not_carry(self) -> None:
        (found,) = find_quotes(certificate_der((TAGGED_EVIDENCE, evidence(CLAIMS, quote_over(bytes(32))))))
        assert holds(found) == {Bound.CLAIMS: False, Bound.PUBLIC_KEY: True}

    def test_claims_about_another_key(self) -> None:
        (found,) = find_quotes(certificate_der((TAGGED_EVIDENCE, evidence(key_claims(bytes(32))))))
        assert holds(found) == {Bound.CLAIMS: True, Bound.PUBLIC_KEY: False}

    def test_claims_without_a_key_bind_none(self) -> None:
        (found,) = find_quotes(certificate_der((TAGGED_EVIDENCE, evidence(cbor2.dumps({"nonce": b"1"})))))
        assert holds(found) == {Bound.CLAIMS: True, Bound.PUBLIC_KEY: False}

    def test_outside_a_certificate_there_is_no_key_to_compare(self) -> None:
        (found,) = find_quotes(evidence(CLAIMS))
        assert holds(found) == {Bound.CLAIMS: True, Bound.PUBLIC_KEY: False}
        assert found.bindings[1].expected is None

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "not CBOR"),
            (b"\xd9\xea\x60", "not CBOR"),
            (cbor2.dumps([LEGACY, CLAIMS]), "not CBOR tag 60000"),
            (cbor2.dumps(cbor2.CBORTag(60001, [LEGACY, CLAIMS])), "not CBOR tag 60000"),
            (cbor2.dumps(cbor2.CBORTag(60000, [LEGACY])), "not an array of two"),
            (cbor2.dumps(cbor2.CBORTag(60000, [LEGACY, CLAIMS, b""])), "not an array of two"),
            (cbor2.dumps(cbor2.CBORTag(60000, [LEGACY, "claims"])), "not an array of two"),
            (cbor2.dumps(cbor2.CBORTag(60000, {1: LEGACY, 2: CLAIMS})), "not an array of two"),
            (cbor2.dumps(cbor2.CBORTag(60000, [b"no quote", CLAIMS])), "no quote in it"),
            (evidence(CLAIMS) + b"\0", "bytes follow"),
            (evidence(CLAIMS)[:-1], "not CBOR"),
            (evidence(CLAIMS).replace(b"\xd9\xea\x60\x82", b"\xd9\xea\x60\x9f") + b"\xff", "not CBOR"),
            (evidence(CLAIMS).replace(b"\xd9\xea\x60", b"\xda\x00\x00\xea\x60"), "shortest form"),
            (b"\xd9\xea\x60" + b"\x81" * 100, "not CBOR"),
            (b"\xd9\xea\x60" + b"\0" * 70_000, "at most 65536"),
            (evidence(b""), "not CBOR"),
            (evidence(cbor2.dumps([1])), "not a map"),
            (evidence(cbor2.dumps({1: b""})), "not a map"),
            (evidence(b"\xa2\x61a\x01\x61a\x02"), "not CBOR"),
            (evidence(CLAIMS + b"\0"), "bytes follow"),
            (evidence(cbor2.dumps({"pubkey-hash": KEY_HASH})), "not"),
            (evidence(cbor2.dumps({"pubkey-hash": [1, KEY_HASH]})), "not an algorithm"),
            (evidence(key_claims(KEY_HASH, 2)), "hash algorithm 2"),
            (evidence(cbor2.dumps({"pubkey-hash": cbor2.dumps([True, KEY_HASH])})), "hash algorithm True"),
            (evidence(key_claims(KEY_HASH[:31])), "not a hash of its algorithm"),
        ],
    )
    def test_anything_else_is_refused_and_the_legacy_extension_does_not_count_instead(
        self, content: bytes, why: str
    ) -> None:
        der = certificate_der((GRAMINE, LEGACY), (TAGGED_EVIDENCE, content))
        with pytest.raises(FormatError, match=why):
            find_quotes(der)
        assert [found.data for found in search_quotes(der).quotes] == [LEGACY]  # to be looked at, with the problem


class TestOpenEnclave:
    @pytest.mark.parametrize("oid", [OPEN_ENCLAVE_REPORT, OPEN_ENCLAVE_REPORT_NEW])
    @pytest.mark.parametrize("hashed", [made.SPKI_PEM, SPKI], ids=["PEM", "DER"])
    @pytest.mark.parametrize("header", [True, False])
    def test_report(self, oid: str, hashed: bytes, header: bool) -> None:
        quote = quote_over(sha256(hashed).digest())
        (found,) = find_quotes(certificate_der((oid, open_enclave_report(quote) if header else quote)))
        assert (found.data, found.envelope) == (quote, Envelope.OPEN_ENCLAVE_CERTIFICATE)
        assert holds(found) == {Bound.PUBLIC_KEY: True}

    def test_of_another_key(self) -> None:
        (found,) = find_quotes(certificate_der((OPEN_ENCLAVE_REPORT, open_enclave_report(quote_over(b"x")))))
        assert holds(found) == {Bound.PUBLIC_KEY: False}

    @pytest.mark.parametrize("oid", [OPEN_ENCLAVE_EVIDENCE, OPEN_ENCLAVE_EVIDENCE_NEW])
    @pytest.mark.parametrize("key", [True, False])
    def test_evidence(self, oid: str, key: bool) -> None:
        claims = made.SPKI_PEM if key else b"another key"
        quote = quote_over(sha256(claims).digest())
        (found,) = find_quotes(certificate_der((oid, made.open_enclave_evidence(quote, claims))))
        assert holds(found) == {Bound.CLAIMS: True, Bound.PUBLIC_KEY: key}

    def test_without_a_quote_is_refused(self) -> None:
        with pytest.raises(FormatError, match="no quote in it"):
            find_quotes(certificate_der((OPEN_ENCLAVE_REPORT, b"nothing")))


class TestRealQuotes:
    @named("vectors")
    def test_each_in_a_certificate(self, vector: Vector) -> None:
        quote = vector.quote
        der = certificate_der((GRAMINE_AS_WRITTEN, quote), (TAGGED_EVIDENCE, evidence(CLAIMS, quote)))
        found = find_quotes(pem(der, "CERTIFICATE").encode())
        assert [one.data for one in found] == [quote, quote]
        assert [holds(one)[Bound.PUBLIC_KEY] for one in found] == [False, True]
        assert not holds(found[1])[Bound.CLAIMS]
