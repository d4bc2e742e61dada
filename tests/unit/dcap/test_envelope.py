"""Quotes are found in every form in which programs carry them, and what is bound to them is compared."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable
from hashlib import sha256

import pytest

from doubles import envelopes as made
from doubles.envelopes import epid_quote, open_enclave_report, pem, qgs_response, quote_over, tdx_quote_buffer
from real_quotes import SHARED, Vector, named
from sgxkit.dcap.envelope import (
    MAX_INPUT_SIZE,
    MAX_NESTING,
    MAX_OPENED,
    MAX_QUOTES,
    find_quotes,
    search_quotes,
)
from sgxkit.dcap.found_quote import Bound, Envelope, FoundQuote
from sgxkit.dcap.quote import UnsupportedQuoteError, parse_quote
from sgxkit.errors import FormatError

HELD = b"what the enclave holds"
QUOTE = quote_over(sha256(HELD).digest())


def only(data: bytes) -> FoundQuote:
    (found,) = find_quotes(data)
    return found


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(header: object, payload: object) -> bytes:
    parts = (b64url(json.dumps(part).encode()) for part in (header, payload))
    return f"{'.'.join(parts)}.{b64url(bytes(64))}".encode()


ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "HEX": lambda data: data.hex().upper(),
    "hex with 0x": lambda data: "0x" + data.hex(),
    "hex in lines": lambda data: "\r\n".join(textwrap.wrap(data.hex(), 70)),
    "hex with spaces": lambda data: data.hex(" "),
    "hex with colons": lambda data: data.hex(":"),
    "base64": b64,
    "base64 without padding": lambda data: b64(data).rstrip("="),
    "base64 in lines": lambda data: base64.encodebytes(data).decode(),
    "base64url": b64url,
    "base64url with padding": lambda data: base64.urlsafe_b64encode(data).decode(),
    "PEM QUOTE": lambda data: pem(data, "QUOTE"),
    "PEM with text around": lambda data: f"subject=/CN=x\n{pem(data, 'SGX QUOTE')}---\nServer certificate\n",
    "JSON": lambda data: json.dumps({"quote": data.hex(), "event_log": "[]"}),
    "JSON array": lambda data: json.dumps([{"a": {"b": [1, b64(data)]}}], indent=2),
    "JSON string": lambda data: json.dumps(b64(data)),
}


class TestEncodings:
    @pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
    @pytest.mark.parametrize("quote", [QUOTE, QUOTE + bytes(300), epid_quote()], ids=["plain", "padded", "EPID"])
    def test_each(self, encode: Callable[[bytes], str], quote: bytes) -> None:
        found = only(encode(quote).encode())
        assert found.data == quote
        assert found.path
        assert found.envelope in (Envelope.NONE, Envelope.JSON)
        assert found.bindings == ()

    @pytest.mark.parametrize("around", ["{}\n", "\ufeff{}", "  {} \r\n\0\0"])
    def test_what_files_have_around_text(self, around: str) -> None:
        assert only(around.format(b64(QUOTE)).encode()).data == QUOTE

    def test_itself(self) -> None:
        found = only(QUOTE)
        assert (found.data, found.path, found.envelope, found.where) == (QUOTE, (), Envelope.NONE, "the input itself")

    @pytest.mark.parametrize("size", range(8, len(QUOTE), 97))
    def test_a_quote_cut_short_is_still_found_so_that_the_parser_can_say_what_is_wrong(self, size: int) -> None:
        found = only(QUOTE[:size])
        assert found.data == QUOTE[:size]
        with pytest.raises(FormatError):
            parse_quote(found.data)

    def test_two_alphabets_in_one_text_are_no_base64(self) -> None:
        text = b64(QUOTE)
        mixed = text[:100] + "-_+/" + text[104:]
        with pytest.raises(FormatError, match="no quote found"):
            find_quotes(mixed.encode())

    @pytest.mark.parametrize("end", ["", "-----END OTHER-----"])
    def test_a_block_without_end_is_refused(self, end: str) -> None:
        begun = pem(QUOTE, "QUOTE").replace("-----END QUOTE-----", end)
        with pytest.raises(FormatError, match="does not end"):
            find_quotes(begun.encode())

    def test_a_block_that_is_not_base64_is_refused_even_beside_a_good_one(self) -> None:
        bad = "-----BEGIN QUOTE-----\n*\n-----END QUOTE-----\n"
        with pytest.raises(FormatError, match="not base64"):
            find_quotes((pem(QUOTE, "QUOTE") + bad).encode())

    def test_private_keys_are_passed_over(self) -> None:
        found = find_quotes((pem(QUOTE, "EC PRIVATE KEY") + pem(QUOTE, "QUOTE")).encode())
        assert [quote.path for quote in found] == [("PEM QUOTE",)]

    def test_nested_encodings_name_every_step(self) -> None:
        der = made.certificate_der(("1.2.840.113741.1337.6", quote_over(made.KEY_HASH)))
        found = only(b64(pem(der, "CERTIFICATE").encode()).encode())
        assert found.where == "base64 > PEM CERTIFICATE > X.509 extension 1.2.840.113741.1337.6"


class TestEpid:
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("signature", [None, bytes(100)])
    def test_is_found_and_refused_with_the_reason(self, version: int, signature: bytes | None) -> None:
        quote = epid_quote(signature=signature, version=version)
        found = only(quote)
        assert found.data == quote
        with pytest.raises(UnsupportedQuoteError, match="EPID"):
            parse_quote(found.data)

    def test_in_an_ias_report(self) -> None:
        report = {"id": "1", "version": 4, "isvEnclaveQuoteStatus": "OK"}
        report["isvEnclaveQuoteBody"] = b64(epid_quote(signature=None))
        found = only(json.dumps(report).encode())
        assert found.envelope is Envelope.IAS_REPORT
        assert found.details == (("isvEnclaveQuoteStatus", "OK"), ("version", 4))

    @pytest.mark.parametrize("key", [True, False])
    def test_in_a_certificate(self, key: bool) -> None:
        # The comment is what Intel answered: report, signature and signing certificate with bars between.
        reportdata = made.SPKI[-64:] if key else b"other"
        report = json.dumps({"isvEnclaveQuoteBody": b64(epid_quote(reportdata, signature=None))})
        found = only(made.certificate_der(("2.16.840.1.113730.1.13", f"{report}|c2ln|Y2VydA==".encode())))
        assert found.envelope is Envelope.IAS_CERTIFICATE
        assert [binding.holds for binding in found.bindings] == [key]


class TestOpenEnclave:
    def test_report(self) -> None:
        found = only(open_enclave_report(QUOTE))
        assert (found.data, found.envelope) == (QUOTE, Envelope.OPEN_ENCLAVE_REPORT)
        assert found.details == (("header version", 1), ("header type", "remote"))

    def test_report_with_padding_after_it(self) -> None:
        assert only(open_enclave_report(QUOTE) + bytes(50)).data == QUOTE

    @pytest.mark.parametrize(
        "size", [0, len(QUOTE) - 3, len(QUOTE) + 1, 2**64 - 1], ids=["none", "short", "long", "largest"]
    )
    def test_a_size_that_does_not_fit_is_refused(self, size: int) -> None:
        with pytest.raises(FormatError, match="announced") as caught:
            find_quotes(open_enclave_report(QUOTE, size=size))
        assert caught.value.offset == 8

    def test_a_local_report_is_refused_with_the_reason(self) -> None:
        with pytest.raises(FormatError, match="local report"):
            find_quotes(open_enclave_report(bytes(432), kind=1))

    @pytest.mark.parametrize("version", [2, 3])
    def test_evidence(self, version: int) -> None:
        quote = quote_over(sha256(b"custom").digest())
        found = only(made.open_enclave_evidence(quote, b"custom", version=version))
        assert (found.data, found.envelope) == (quote, Envelope.OPEN_ENCLAVE_EVIDENCE)
        assert ("format", "SGX ECDSA") in found.details
        assert [(binding.bound, binding.holds) for binding in found.bindings] == [(Bound.CLAIMS, True)]

    def test_evidence_over_other_claims(self) -> None:
        found = only(made.open_enclave_evidence(QUOTE, b"other"))
        assert [binding.holds for binding in found.bindings] == [False]

    def test_evidence_without_a_quote_is_refused(self) -> None:
        with pytest.raises(FormatError, match="no quote in it"):
            find_quotes(made.open_enclave_evidence(b"x" * 50, b""))

    def test_evidence_cut_short_is_refused(self) -> None:
        with pytest.raises(FormatError, match="announced"):
            find_quotes(made.open_enclave_evidence(QUOTE, b"")[:-1])


class TestAzure:
    @pytest.mark.parametrize(
        "request_body",
        [
            {"Quote": b64url(open_enclave_report(QUOTE)), "EnclaveHeldData": b64url(HELD)},
            {"QuoteHex": QUOTE.hex(), "EnclaveHeldDataHex": HELD.hex(), "Type": 2},
            {"quote": b64url(QUOTE), "runtimeData": {"data": b64url(HELD), "dataType": "Binary"}, "nonce": "1.5"},
            {"report": b64url(open_enclave_report(QUOTE)), "runtimeData": b64url(HELD), "number": 1.5},
        ],
    )
    def test_requests(self, request_body: dict[str, object]) -> None:
        found = only(json.dumps(request_body).encode())
        assert found.data == QUOTE
        assert found.envelope is Envelope.AZURE_REQUEST
        (binding,) = found.bindings
        assert binding.holds
        assert binding.expected == sha256(HELD).digest()

    def test_other_data(self) -> None:
        body = {"quote": b64url(QUOTE), "runtimeData": {"data": b64url(b"other"), "dataType": "Binary"}}
        (binding,) = only(json.dumps(body).encode()).bindings
        assert (binding.bound, binding.holds) == (Bound.RUNTIME_DATA, False)
        assert binding.present == sha256(HELD).digest()

    def test_data_bound_with_sha512(self) -> None:
        from hashlib import sha512

        body = {"quote": b64url(quote_over(sha512(HELD).digest())), "runtimeData": b64url(HELD)}
        (binding,) = only(json.dumps(body).encode()).bindings
        assert (binding.algorithm, binding.holds) == ("sha512", True)

    @pytest.mark.parametrize("name", ["EnclaveHeldData", "EnclaveHeldDataHex", "runtimeData"])
    def test_data_that_cannot_be_read_is_refused(self, name: str) -> None:
        with pytest.raises(FormatError, match="it is not"):
            find_quotes(json.dumps({"quote": b64url(QUOTE), name: "not!"}).encode())

    def test_signing_keys(self) -> None:
        # Azure's certificate has the quote in a DER OCTET STRING and, in the next extension, a version number.
        quote = quote_over(sha256(made.SPKI_PEM).digest())
        string = b"\x04\x82" + len(quote).to_bytes(2, "big") + quote
        der = made.certificate_der(("1.2.840.113556.10.1.1", string), ("1.2.840.113556.10.1.2", b"\x02\x01\x01"))
        found = only(json.dumps({"keys": [{"kty": "RSA", "x5c": [b64(der)]}]}).encode())
        assert found.where == "JSON keys[0].x5c[0] > base64 > X.509 extension 1.2.840.113556.10.1.1"
        assert found.envelope is Envelope.OPEN_ENCLAVE_CERTIFICATE
        assert [binding.holds for binding in found.bindings] == [True]

    def test_token_with_a_quote_in_a_claim(self) -> None:
        found = only(jwt({"alg": "RS256", "typ": "JWT"}, {"x-ms-quote": b64url(QUOTE)}))
        assert (found.data, found.envelope) == (QUOTE, Envelope.JWT)

    def test_token_with_a_quote_in_its_certificate(self) -> None:
        der = made.certificate_der(("1.3.6.1.4.1.311.105.1", open_enclave_report(quote_over(made.KEY_HASH))))
        found = only(jwt({"alg": "RS256", "x5c": [b64(der)]}, {}))
        assert found.envelope is Envelope.OPEN_ENCLAVE_CERTIFICATE
        assert [binding.holds for binding in found.bindings] == [True]


class TestTdx:
    @pytest.mark.parametrize("frame", [b"", (24 + 3 + len(QUOTE)).to_bytes(4, "big")])
    def test_answer_of_the_quote_service(self, frame: bytes) -> None:
        found = only(frame + qgs_response(QUOTE, selected_id=b"abc"))
        assert (found.data, found.envelope) == (QUOTE, Envelope.QGS_RESPONSE)

    @pytest.mark.parametrize("content", [QUOTE, qgs_response(QUOTE)], ids=["quote", "answer"])
    def test_buffer(self, content: bytes) -> None:
        found = only(tdx_quote_buffer(content))
        assert (found.data, found.envelope) == (QUOTE, Envelope.TDX_QUOTE_BUFFER)

    def test_buffer_with_an_error_status_is_refused(self) -> None:
        with pytest.raises(FormatError, match="status 0x8000000000000001"):
            find_quotes(tdx_quote_buffer(QUOTE, status=0x8000000000000001))

    def test_error_answer_is_refused(self) -> None:
        with pytest.raises(FormatError, match="error 0x12001"):
            find_quotes(qgs_response(b"", error=0x12001))

    def test_answer_cut_short_is_refused(self) -> None:
        with pytest.raises(FormatError, match="announced"):
            find_quotes(qgs_response(QUOTE)[:-1])


class TestRefused:
    @pytest.mark.parametrize(
        "data",
        [b"", b"\0", b"hello", b"{}", b"[]", b"{", bytes(5000), b"0x", b"=", b"\xff" * 100, b'"\\u"', b"a.b.c"],
    )
    def test_what_has_no_quote(self, data: bytes) -> None:
        with pytest.raises(FormatError, match="no quote found") as caught:
            find_quotes(data)
        assert "X.509" in str(caught.value)
        assert search_quotes(data).quotes == ()

    @pytest.mark.parametrize("text", ['{"quote":"%s","quote":"%s"}', '{"a":[{"b":1,"b":2}],"quote":"%s%s"}'])
    def test_json_that_readers_understand_differently(self, text: str) -> None:
        with pytest.raises(FormatError, match="twice"):
            find_quotes((text % (b64(QUOTE), b64(epid_quote()))).encode())

    def test_a_search_gives_what_was_found_and_what_was_wrong(self) -> None:
        bad = made.certificate_der(("2.23.133.5.4.9", b"\xd9\xea\x60\x82"))
        found = search_quotes((pem(QUOTE, "QUOTE") + pem(bad, "CERTIFICATE")).encode())
        assert [quote.data for quote in found.quotes] == [QUOTE]
        assert [problem.field for problem in found.problems] == ["PEM CERTIFICATE > tagged evidence"]


class TestLimits:
    def test_size(self) -> None:
        with pytest.raises(FormatError, match="at most 1048576"):
            find_quotes(QUOTE.ljust(MAX_INPUT_SIZE + 1, b"\0"))

    def test_nesting(self) -> None:
        data = QUOTE
        for _ in range(MAX_NESTING):
            data = b64(data).encode()
        assert only(data).path == ("base64",) * MAX_NESTING
        with pytest.raises(FormatError, match=f"within {MAX_NESTING} envelopes"):
            find_quotes(b64(data).encode())

    def test_number_of_quotes(self) -> None:
        block = pem(epid_quote(), "QUOTE")
        assert len(find_quotes((block * MAX_QUOTES).encode())) == MAX_QUOTES
        with pytest.raises(FormatError, match=f"more than {MAX_QUOTES} quotes"):
            find_quotes((block * (MAX_QUOTES + 1)).encode())

    @pytest.mark.parametrize(
        "data",
        [
            pem(b"\0" * 9, "X").encode() * (MAX_INPUT_SIZE // 60),
            b"-----BEGIN X-----" * (MAX_INPUT_SIZE // 17),
            json.dumps(["A" * 600] * 1700).encode(),
            b"[" * MAX_INPUT_SIZE,
            b'{"a":' * (MAX_INPUT_SIZE // 5),
            b'["' + b"\\" * (MAX_INPUT_SIZE - 4),
            b"[" + b"9" * (MAX_INPUT_SIZE - 2) + b"]",
            b"A" * MAX_INPUT_SIZE,
            b"ab" * (MAX_INPUT_SIZE // 2),
            b"." * MAX_INPUT_SIZE,
            b"0" * MAX_INPUT_SIZE,
            b"\xd9\xea\x60" + b"\x82" * (MAX_INPUT_SIZE - 3),
            b"\xd9\xea\x60\x82\x5a" + b"\xff" * 1000,
            b"\x30\x84\x00\x0f\xff\xfa" * (MAX_INPUT_SIZE // 6),
            b"\x30\x80" * (MAX_INPUT_SIZE // 2),
            b"\x01\0\0\0\x02\0\0\0" * (MAX_INPUT_SIZE // 8),
        ],
        ids=range(16),
    )
    def test_hostile_megabytes_are_given_up_after_a_bounded_number_of_pieces(
        self, data: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sgxkit.dcap import envelope

        looked_at: list[int] = []

        def is_quote(content: bytes) -> bool:
            looked_at.append(len(content))
            return False

        monkeypatch.setattr(envelope, "is_quote", is_quote)
        with pytest.raises(FormatError):
            find_quotes(data)
        # Every layer is smaller than what it was in, and only hex can also be read as base64: 2 * 4 layers at most.
        assert len(looked_at) <= MAX_OPENED
        assert sum(looked_at) <= 2 * (MAX_NESTING + 1) * MAX_INPUT_SIZE


class TestRealQuotes:
    @named("vectors")
    def test_raw_hex_base64_pem(self, vector: Vector) -> None:
        quote = vector.quote
        assert only(quote).data == quote
        for encode in (bytes.hex, b64, b64url, lambda data: pem(data, "QUOTE")):
            assert only(encode(quote).encode()).data == quote

    @named("vectors-negative")
    def test_altered_quotes_are_found_too(self, vector: Vector) -> None:
        assert only(vector.quote).data == vector.quote


@pytest.mark.skipif(not (SHARED / "fixtures").is_dir(), reason="the fixtures (../shared/fixtures) are not here")
class TestFixtures:
    @pytest.mark.parametrize(
        "name",
        [
            "maa.prod.uks.signing.cert.pem",
            "sample.signing.cert.cer",
            "sgx_cert_ec_bad.der",
            "sgx_cert_rsa_bad.der",
        ],
    )
    def test_certificates_of_open_enclave_and_azure_bind_their_key(self, name: str) -> None:
        found = only((SHARED / "fixtures/ratls" / name).read_bytes())
        assert found.envelope is Envelope.OPEN_ENCLAVE_CERTIFICATE
        (binding,) = found.bindings
        assert (binding.bound, binding.holds) == (Bound.PUBLIC_KEY, True)
        assert parse_quote(found.data).version == 3

    @pytest.mark.parametrize("number", [4, 5, 6, 7])
    def test_certificates_with_an_ias_report(self, number: int) -> None:
        found = only((SHARED / f"fixtures/ratls/ra_dump_cert_TEST{number}.der").read_bytes())
        assert found.envelope is Envelope.IAS_CERTIFICATE
        with pytest.raises(UnsupportedQuoteError):
            parse_quote(found.data)

    def test_a_certificate_without_quote(self) -> None:
        with pytest.raises(FormatError, match="no quote found"):
            find_quotes((SHARED / "fixtures/ratls/eus2.signing.cert.cer").read_bytes())

    @pytest.mark.parametrize("stack", ["intel", "oe"])
    @pytest.mark.parametrize("case", ["debug", "prodid", "release", "securityversion"])
    def test_enclave_info(self, stack: str, case: str) -> None:
        path = SHARED / f"fixtures/tokens/enclave-info/{stack}-enclave.info.{case}.json"
        found = only(path.read_bytes())
        assert [(binding.bound, binding.holds) for binding in found.bindings] == [(Bound.ENCLAVE_HELD_DATA, True)]
        info = json.loads(path.read_bytes())
        assert parse_quote(found.data).body.mrenclave.hex() == info["MrEnclaveHex"].lower()

    def test_attestation_request_and_signing_keys_of_azure(self) -> None:
        request = only((SHARED / "fixtures/tokens/post.attest.body.json").read_bytes())
        assert request.envelope is Envelope.AZURE_REQUEST
        keys = only((SHARED / "fixtures/tokens/get.certs.response.body.json").read_bytes())
        assert keys.path[0] == "JSON keys[0].x5c[0]"
        assert all(binding.holds for binding in request.bindings + keys.bindings)

    @pytest.mark.parametrize("form", ["*.bin", "*_quote.txt"])
    def test_epid_quotes(self, form: str) -> None:
        paths = sorted((SHARED / "fixtures/epid-ias").glob(form))
        assert paths
        for path in paths:
            assert len(only(path.read_bytes()).data) in (432, 1116)
