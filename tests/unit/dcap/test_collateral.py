"""Collateral bundles: the three shapes are read, exactly and strictly; ours is written and read back unchanged."""

from __future__ import annotations

import base64
import json
import string
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import dcap_qvl
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.dcap.collateral import (
    MAX_BUNDLE,
    MAX_CHAIN,
    MAX_CRL,
    MAX_JSON,
    Collateral,
    decode_crl,
    export_bundle,
    parse_bundle,
)
from sgxkit.errors import FormatError

REPOSITORY = Path(__file__).parents[3]
SHARED = REPOSITORY.parent / "shared"
SCHEMA = json.loads((REPOSITORY / "docs" / "schema" / "collateral.schema.json").read_text())
needs_vectors = pytest.mark.skipif(not (SHARED / "vectors").is_dir(), reason="the shared vectors are not here")

ROOT_CRL = b"\x30\x82\x01\x00 not a CRL, and nobody looks"
PCK_CRL = b"\x30\x39 a length that reads as a digit"
SAMPLE = Collateral(
    pck_crl_issuer_chain="-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
    root_ca_crl=ROOT_CRL,
    pck_crl=PCK_CRL,
    tcb_info_issuer_chain="chain of the TCB info",
    tcb_info='{"id":"SGX","fmspc":"00906ED50000"}',
    tcb_info_signature=bytes(range(64)),
    qe_identity_issuer_chain="chain of the identity",
    qe_identity='{"id":"QE"}',
    qe_identity_signature=bytes(range(64, 128)),
)
PIECES = [field.name for field in fields(Collateral) if field.init]
SAMPLE_WITH_PCK = replace(SAMPLE, pck_certificate_chain="leaf, intermediate, root")


def pem(der: bytes) -> str:
    return f"-----BEGIN X509 CRL-----\n{base64.encodebytes(der).decode()}-----END X509 CRL-----\n"


def own() -> dict[str, Any]:
    bundle: dict[str, Any] = json.loads(export_bundle(SAMPLE))
    return bundle


def flat() -> dict[str, Any]:
    return {key: value for key, value in own().items() if key not in ("format", "version")}


def struct() -> dict[str, Any]:
    bundle = flat()
    for name, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        signature = bundle.pop(f"{name}_signature")
        bundle[name] = f'{{"{member}":{bundle[name]},"signature":"{signature}"}}'
    return {"version": 3, "tee_type": 0, **bundle}


SHAPES = {"own": own, "flat": flat, "struct": struct}


def parse(bundle: object) -> Collateral:
    return parse_bundle(json.dumps(bundle))


@pytest.mark.parametrize("collateral", [SAMPLE, SAMPLE_WITH_PCK], ids=["plain", "with PCK chain"])
def test_export_and_parse_give_the_same_collateral(collateral: Collateral) -> None:
    text = export_bundle(collateral)
    assert parse_bundle(text) == collateral
    assert parse_bundle(text.encode()) == collateral
    assert export_bundle(parse_bundle(text)) == text
    assert text.isascii()
    jsonschema.validate(json.loads(text), SCHEMA)


@given(
    st.builds(
        Collateral,
        **{name: st.text(max_size=50) for name in PIECES if not name.endswith(("crl", "signature"))},
        **{name: st.binary(max_size=50) for name in ("root_ca_crl", "pck_crl")},
        **{name: st.binary(min_size=64, max_size=64) for name in ("tcb_info_signature", "qe_identity_signature")},
    )
)
def test_any_collateral_survives_export(collateral: Collateral) -> None:
    assert parse_bundle(export_bundle(collateral)) == collateral


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_says_the_same(shape: str) -> None:
    assert parse(SHAPES[shape]()) == SAMPLE


@needs_vectors
def test_every_vector_is_read_and_survives_export() -> None:
    paths = sorted(SHARED.glob("vectors*/*/collateral.json"))
    assert len(paths) > 200
    for path in paths:
        collateral = parse_bundle(path.read_bytes())
        raw = json.loads(path.read_text())
        assert collateral.tcb_info == raw["tcb_info"], path
        assert collateral.pck_crl.hex() == raw["pck_crl"], path
        assert collateral.qe_identity_signature.hex() == raw["qe_identity_signature"], path
        text = export_bundle(collateral)
        assert parse_bundle(text) == collateral
        jsonschema.validate(json.loads(text), SCHEMA)


@needs_vectors
def test_dcap_qvl_and_sgxkit_read_each_others_bundles() -> None:
    for path in sorted(SHARED.glob("vectors/automata-*/collateral.json")):
        collateral = parse_bundle(path.read_bytes())
        theirs = dcap_qvl.QuoteCollateralV3.from_json(export_bundle(collateral))
        assert theirs.tcb_info == collateral.tcb_info
        assert theirs.root_ca_crl == collateral.root_ca_crl
        assert theirs.qe_identity_signature == collateral.qe_identity_signature
        assert parse_bundle(theirs.to_json()) == collateral


class TestCrl:
    @pytest.mark.parametrize("der", [ROOT_CRL, PCK_CRL, b"\x30" + bytes(range(256))])
    def test_every_encoding(self, der: bytes) -> None:
        for encoded in (
            der,
            der.hex().encode(),
            der.hex().upper().encode() + b"\n",
            base64.b64encode(der),
            base64.encodebytes(der),
            pem(der).encode(),
            pem(der).replace("\n", "\r\n").encode() + b"\0",
        ):
            assert decode_crl(encoded, "pck_crl") == der

    @pytest.mark.parametrize("shape", ["flat", "struct"])
    @pytest.mark.parametrize(
        "encode",
        [pem, bytes.hex, lambda der: base64.b64encode(der).decode(), list, lambda der: list(pem(der).encode())],
    )
    def test_every_encoding_in_a_bundle(self, shape: str, encode: Any) -> None:
        assert parse({**SHAPES[shape](), "pck_crl": encode(PCK_CRL), "root_ca_crl": encode(ROOT_CRL)}) == SAMPLE

    @pytest.mark.parametrize(
        "bad",
        [
            b"\xff\xfe",
            b"no digits of any kind!",
            b"303",
            b"AAAAAA==",
            b"-----BEGIN X509 CRL-----\nMA\n-----END X509 CRL-----\n",
            pem(ROOT_CRL).encode() * 2,
            pem(ROOT_CRL).replace("X509 CRL", "CERTIFICATE").encode(),
            b"\x30" + bytes(MAX_CRL),
            b"30" + b"00" * MAX_CRL,
        ],
        ids=lambda bad: repr(bad[:12]),
    )
    def test_refuses(self, bad: bytes) -> None:
        with pytest.raises(FormatError) as caught:
            decode_crl(bad, "pck_crl")
        assert caught.value.field == "pck_crl"

    def test_an_absent_crl_is_for_verification_to_refuse(self) -> None:
        assert parse({**flat(), "pck_crl": ""}).pck_crl == b""


class TestStruct:
    @pytest.mark.parametrize("version", [{}, {"version": 1}, {"version": 0x00010003},
                                         {"major_version": 3, "minor_version": 1}, {"major_version": 3}])  # fmt: skip
    def test_versions(self, version: dict[str, int]) -> None:
        bundle = {key: value for key, value in struct().items() if key != "version"}
        assert parse({**bundle, **version, "tee_type": 129, "pck_crl_size": 7}) == SAMPLE

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("version", {"version": 2}),
            ("version", {"version": 4}),
            ("version", {"version": True}),
            ("version", {"version": "3"}),
            ("version", {"version": 1 << 32}),
            ("major_version", {"major_version": 2, "minor_version": 0}),
            ("tee_type", {"tee_type": 1}),
            ("pck_crl_size", {"pck_crl_size": -1}),
            ("tcb_info", {"tcb_info": {"tcbInfo": {}}}),
            ("tcbInfo", {"tcb_info": SAMPLE.tcb_info}),
            ("enclaveIdentity", {"qe_identity": struct()["tcb_info"]}),
            ("tcb_info", {"tcb_info": struct()["tcb_info"] + " " * MAX_JSON}),
        ],
    )
    def test_refuses(self, field: str, change: dict[str, object]) -> None:
        with pytest.raises(FormatError) as caught:
            parse({**struct(), **change})
        assert caught.value.field == field

    def test_c_strings_may_bring_their_nul(self) -> None:
        assert (
            parse({key: value + "\0" if isinstance(value, str) else value for key, value in struct().items()})
            == SAMPLE
        )

    def test_texts_may_be_arrays_of_bytes(self) -> None:
        bundle = {key: list(value.encode()) if isinstance(value, str) else value for key, value in struct().items()}
        assert parse(bundle) == SAMPLE


class TestRefusals:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_every_missing_field_is_named(self, shape: str) -> None:
        whole = SHAPES[shape]()
        optional = ("version", "tee_type") if shape == "struct" else ("format",)
        for name in whole.keys() - optional:
            with pytest.raises(FormatError) as caught:
                parse({key: value for key, value in whole.items() if key != name})
            assert caught.value.field == name, name

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("value", [None, 1, True, {}, [256], [-1], [True], ["a"], [[]]], ids=repr)
    def test_every_wrong_type_is_named(self, shape: str, value: object) -> None:
        for name in SHAPES[shape]().keys() - {"version", "tee_type", "format"}:
            with pytest.raises(FormatError) as caught:
                parse({**SHAPES[shape](), name: value})
            assert caught.value.field == name

    @pytest.mark.parametrize("shape", SHAPES)
    def test_unknown_keys_are_refused(self, shape: str) -> None:
        with pytest.raises(FormatError, match="pck_certificat_chain"):
            parse({**SHAPES[shape](), "pck_certificat_chain": "a slip of the pen"})

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("format", {"format": "something else"}),
            ("version", {"version": "2"}),
            ("version", {"version": 1}),
            ("pck_crl", {"pck_crl": "3"}),
            ("pck_crl", {"pck_crl": pem(PCK_CRL)}),
            ("tcb_info_signature", {"tcb_info_signature": "00" * 63}),
            ("tcb_info_signature", {"tcb_info_signature": "00" * 65}),
            ("tcb_info_signature", {"tcb_info_signature": "0x" + "00" * 63}),
            ("tcb_info", {"tcb_info": " " * (MAX_JSON + 1)}),
            ("tcb_info_issuer_chain", {"tcb_info_issuer_chain": "x" * (MAX_CHAIN + 1)}),
            ("pck_certificate_chain", {"pck_certificate_chain": "x" * (MAX_CHAIN + 1)}),
        ],
    )  # fmt: skip
    def test_own_shape_is_strict(self, field: str, change: dict[str, object]) -> None:
        with pytest.raises(FormatError) as caught:
            parse({**own(), **change})
        assert caught.value.field == field
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**own(), **change}, SCHEMA)

    def test_equal_keys_are_refused(self) -> None:
        with pytest.raises(FormatError, match="twice"):
            parse_bundle(export_bundle(SAMPLE).replace("{", '{"version": "1",', 1))

    @pytest.mark.parametrize("data", [b"\xff{}", b"", b"[]", b"null", b'"x"', b"{}", b"{" * 1000, b"\0" * 9])
    def test_not_a_bundle(self, data: bytes) -> None:
        with pytest.raises(FormatError):
            parse_bundle(data)

    def test_too_long_is_refused_unread(self) -> None:
        with pytest.raises(FormatError, match=str(MAX_BUNDLE)):
            parse_bundle(b"{" * (MAX_BUNDLE + 1))


@given(st.binary() | st.text())
def test_arbitrary_input_raises_nothing_but_format_errors(data: bytes | str) -> None:
    with pytest.raises(FormatError):
        parse_bundle(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.text(string.hexdigits, max_size=130),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
)


@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_mutated_bundles_raise_nothing_but_format_errors(shape: str, data: st.DataObject) -> None:
    bundle = SHAPES[shape]()
    name = data.draw(st.sampled_from(sorted({*own(), *struct()})) | st.text(max_size=8))
    bundle[name] = data.draw(JSON)
    text = json.dumps(bundle)
    cut = data.draw(st.integers(0, len(text)))
    for candidate in (text, text[:cut], text[:cut] + data.draw(st.text(max_size=3)) + text[cut:]):
        try:
            parse_bundle(candidate)
        except FormatError:
            continue
