"""Whatever bytes come in: the search raises FormatError or finds, the layout and the inspection never raise."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import envelopes as made
from doubles.envelopes import epid_quote, quote_over
from doubles.platform import make_platform, td_report
from sgxkit.dcap.envelope import find_quotes, search_quotes
from sgxkit.dcap.inspection import inspect_quote
from sgxkit.dcap.inspection_document import inspection_document
from sgxkit.dcap.quote_layout import layout
from sgxkit.errors import FormatError

CLAIMS = made.key_claims()
LEGACY = quote_over(made.KEY_HASH)
TDX = make_platform("TDX")
QUOTES = {
    "v3": LEGACY,
    "v3 with a PPID": made.sgx_platform().quote(certification=(3, bytes(404))),
    "v4": quote_over(b"", version=4),
    "v5": quote_over(b"", version=5),
    "v4 TDX": TDX.quote(version=4),
    "v5 TDX 1.5": TDX.quote(version=5) + bytes(100),
    "v5 TDX 1.5ex": TDX.quote(version=5, body=td_report(885)),
    "EPID": epid_quote(),
    "EPID of IAS": epid_quote(signature=None),
}
CERTIFICATE = made.certificate_der(
    ("0.6.9.42.840.113741.1337.6", LEGACY), ("2.23.133.5.4.9", made.tagged_evidence(CLAIMS))
)
OPEN_ENCLAVE = made.open_enclave_report(quote_over(sha256(made.SPKI_PEM).digest()))
REQUEST = {"quote": base64.urlsafe_b64encode(OPEN_ENCLAVE).decode(), "runtimeData": {"data": "AAAA"}}
ENVELOPES = {
    "certificate": CERTIFICATE,
    "evidence": made.tagged_evidence(CLAIMS),
    "Open Enclave report": OPEN_ENCLAVE,
    "Open Enclave evidence": made.open_enclave_evidence(LEGACY, b"claims"),
    "Open Enclave certificate": made.certificate_der(("1.2.840.113556.10.1.1", OPEN_ENCLAVE)),
    "QGS": made.qgs_response(LEGACY),
    "TDX buffer": made.tdx_quote_buffer(made.qgs_response(LEGACY)),
    "PEM": made.pem(CERTIFICATE, "CERTIFICATE").encode(),
    "JSON": json.dumps(REQUEST).encode(),
    "hex": LEGACY.hex().encode(),
    "base64": base64.encodebytes(CERTIFICATE),
}

edits = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 16), st.integers(1, 5000)),
        st.tuples(st.just("insert"), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=40)),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[str, int, bytes | int]]) -> bytes:
    for what, at, value in changes:
        # Half of all changes hit the first 64 bytes, where the headers are.
        place = at % 64 if at & 1 else at % (len(data) + 1)
        if isinstance(value, int):
            data = data[:place] + data[place + value :]
        else:
            data = data[:place] + value + data[place + (len(value) if what == "set" else 0) :]
    return data


def look_at_everything(data: bytes) -> None:
    search = search_quotes(data)
    assert search.quotes or search.problems
    for found in search.quotes:
        inspect_quote(found)
    json.dumps(inspection_document(search))
    if search.problems:
        with pytest.raises(FormatError):
            find_quotes(data)
    else:
        assert find_quotes(data) == search.quotes


@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    look_at_everything(data)


@given(st.text(max_size=2000))
def test_any_text(text: str) -> None:
    look_at_everything(text.encode("utf-8", "replace"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | st.sampled_from([made.SPKI.hex(), "A" * 600]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["quote", "runtimeData", "data", "EnclaveHeldData", "isvEnclaveQuoteBody", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json(value: object) -> None:
    look_at_everything(json.dumps(value).encode())


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
@given(changes=edits)
def test_mutated_envelopes(envelope: bytes, changes: list[tuple[str, int, bytes | int]]) -> None:
    look_at_everything(edited(envelope, changes))


@pytest.mark.parametrize("quote", QUOTES.values(), ids=QUOTES)
@given(changes=edits)
def test_mutated_quotes(quote: bytes, changes: list[tuple[str, int, bytes | int]]) -> None:
    data = edited(quote, changes)
    look_at_everything(data)
    check_layout(data)


@given(st.binary(max_size=2000))
def test_layout_of_any_bytes(data: bytes) -> None:
    check_layout(data)


@given(st.sampled_from([1, 2, 3, 4, 5]), st.binary(max_size=2000))
def test_layout_of_any_bytes_after_a_version(version: int, data: bytes) -> None:
    check_layout(version.to_bytes(2, "little") + data)


def check_layout(data: bytes) -> None:
    """Every byte belongs to exactly one field, in order; only the last field can be cut short."""
    found = layout(data)
    position = 0
    for field in found.fields:
        assert field.offset == position
        position += field.size
        stands = data[field.offset : position]
        if isinstance(field.value, int):
            assert field.value.to_bytes(field.size, "little") == stands
        else:
            assert field.value == stands
    assert position == len(data)
    assert all(field.missing == 0 for field in found.fields[:-1])
    if found.error is None:
        assert all(field.missing == 0 and field.path != "unread" for field in found.fields)
