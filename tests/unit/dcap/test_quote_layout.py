"""Every field of a quote by its place, also of broken quotes."""

from __future__ import annotations

import pytest

from doubles.envelopes import epid_quote, quote_over, sgx_platform
from doubles.platform import make_platform, td_report
from real_quotes import Vector, named
from sgxkit.dcap.epid import EpidQuote, EpidSignatureType, parse_epid_quote
from sgxkit.dcap.quote import UnsupportedQuoteError, parse_quote
from sgxkit.dcap.quote_layout import Field, layout
from sgxkit.dcap.quote_shape import body_span, is_quote, quote_end, reportdata_of
from sgxkit.errors import FormatError

REPORTDATA = bytes(range(64))
TDX = make_platform("TDX")


def by_path(data: bytes) -> dict[str, Field]:
    fields = layout(data).fields
    paths = [field.path for field in fields]
    assert len(set(paths)) == len(paths)
    return {field.path: field for field in fields}


@pytest.mark.parametrize("version", [3, 4, 5])
def test_places_in_an_sgx_quote(version: int) -> None:
    fields = by_path(quote_over(REPORTDATA, version=version))
    body = 54 if version == 5 else 48
    assert fields["header.version"] == Field("header.version", 0, 2, version)
    assert fields["body.mrenclave"].offset == body + 64
    assert fields["body.reportdata"] == Field("body.reportdata", body + 320, 64, REPORTDATA)
    assert fields["signature_data.size"].offset == body + 384
    inner = "signature_data" if version == 3 else "signature_data.certification_data"
    at = body + 384 + 4 + 128 + (0 if version == 3 else 6)
    assert fields[f"{inner}.qe_report.mrenclave"].offset == at + 64
    assert fields[f"{inner}.qe_auth_data.size"].offset == at + 384 + 64
    assert fields[f"{inner}.certification_data.type"].value == 5
    assert (version == 5) == ("body_type" in fields)


@pytest.mark.parametrize(("version", "size"), [(4, 584), (5, 584), (5, 648), (5, 885)])
def test_places_in_a_tdx_quote(version: int, size: int) -> None:
    fields = by_path(TDX.quote(version=version, body=td_report(size)) + bytes(10))
    body = 54 if version == 5 else 48
    assert fields["body.mrtd"] == Field("body.mrtd", body + 136, 48, fields["body.mrtd"].value)
    assert fields["body.rtmr3"].offset == body + 472
    assert ("body.mrservicetd" in fields) == (size > 584)
    assert ("body.cur_servtd_attr" in fields) == (size == 885)
    assert fields["signature_data.size"].offset == body + size
    assert fields["padding"].size == 10


@pytest.mark.parametrize(("kind", "ppid"), [(1, 16), (2, 256), (3, 384)])
def test_ppid_certification_data(kind: int, ppid: int) -> None:
    fields = by_path(
        sgx_platform().quote(certification=(kind, bytes(range(256))[:ppid].ljust(ppid, b"x") + bytes(20)))
    )
    assert fields["signature_data.certification_data.data.ppid"].size == ppid
    assert fields["signature_data.certification_data.data.pceid"].size == 2


def test_epid() -> None:
    fields = by_path(epid_quote(REPORTDATA))
    assert fields["header.group_id"] == Field("header.group_id", 4, 4, 0x0C14)
    assert fields["body.reportdata"] == Field("body.reportdata", 368, 64, REPORTDATA)
    assert fields["signature.data"].size == 200
    assert layout(epid_quote()).error is None
    assert "signature.size" not in by_path(epid_quote(signature=None))


def test_a_cut_quote_shows_what_is_there_and_what_is_missing() -> None:
    found = layout(quote_over(REPORTDATA)[:130])
    assert found.fields[-1].path == "body.mrenclave"
    assert (found.fields[-1].size, found.fields[-1].missing) == (18, 14)
    assert found.error is not None
    assert found.error.offset == 48


def test_an_unknown_version_is_shown_as_far_as_the_header() -> None:
    found = layout(b"\x06" + quote_over(REPORTDATA)[1:])
    assert [field.path for field in found.fields[-2:]] == ["header.user_data", "unread"]
    assert found.error is not None
    assert found.error.field == "version"


def test_bytes_after_a_quote_are_shown() -> None:
    found = layout(quote_over(REPORTDATA) + b"\0\0x")
    assert (found.fields[-1].path, found.fields[-1].value) == ("unread", b"\0\0x")
    assert found.error is not None


@named("vectors")
def test_real_quotes_are_read_whole(vector: Vector) -> None:
    quote = vector.quote
    found = layout(quote)
    assert found.error is None
    assert sum(field.size for field in found.fields) == len(quote)
    parsed = parse_quote(quote)
    values = {field.path: field.value for field in found.fields}
    assert values["body.reportdata"] == parsed.reportdata == reportdata_of(quote)
    assert quote_end(quote) == len(quote) - parsed.padding
    assert values.get("padding", b"") == bytes(parsed.padding)


class TestShape:
    @pytest.mark.parametrize(
        "quote",
        [
            quote_over(REPORTDATA),
            quote_over(REPORTDATA, version=5),
            TDX.quote(version=4, body=td_report(584)[:-64] + REPORTDATA),
            epid_quote(REPORTDATA),
        ],
        ids=["v3", "v5", "v4 TDX", "EPID"],
    )
    def test_reportdata_and_end(self, quote: bytes) -> None:
        assert is_quote(quote)
        assert reportdata_of(quote) == REPORTDATA
        assert quote_end(quote) == len(quote)
        assert body_span(quote) is not None

    def test_no_reportdata_where_the_quote_ends_before(self) -> None:
        assert reportdata_of(quote_over(REPORTDATA)[:400]) is None
        assert quote_end(quote_over(REPORTDATA)[:400]) is None

    def test_a_wrong_version_with_intels_vendor_id_is_still_meant_to_be_a_quote(self) -> None:
        assert is_quote(b"\x02" + quote_over(REPORTDATA)[1:])

    @pytest.mark.parametrize(
        "data", [b"", bytes(500), b"\x01\0\0\0\x02\0\0\0".ljust(500, b"\0"), b"\x03\0\x01\0" * 50]
    )
    def test_others_are_not(self, data: bytes) -> None:
        assert not is_quote(data)
        assert body_span(data) is None


class TestEpid:
    def test_values(self) -> None:
        quote = parse_epid_quote(epid_quote(REPORTDATA) + bytes(5))
        assert isinstance(quote, EpidQuote)
        assert (quote.version, quote.group_id, quote.qe_svn, quote.pce_svn) == (2, 0x0C14, 12, 13)
        assert quote.signature_type is EpidSignatureType.LINKABLE
        assert (quote.reportdata, quote.signature, quote.padding) == (REPORTDATA, bytes(range(200)), 5)

    def test_the_form_of_ias_reports(self) -> None:
        assert parse_epid_quote(epid_quote(signature=None)).signature is None

    @pytest.mark.parametrize(
        ("data", "field"),
        [
            (epid_quote()[:431], "EPID quote"),
            (epid_quote()[:434], "signature size"),
            (epid_quote()[:-1], "signature size"),
            (epid_quote() + b"x", "quote"),
            (b"\x03" + epid_quote()[1:], "version"),
            (b"\x02\x00\x02" + epid_quote()[3:], "signature type"),
        ],
    )
    def test_refused(self, data: bytes, field: str) -> None:
        with pytest.raises(FormatError) as caught:
            parse_epid_quote(data)
        assert caught.value.field == field

    def test_the_ecdsa_parser_refuses_them_with_the_reason(self) -> None:
        with pytest.raises(UnsupportedQuoteError, match="EPID"):
            parse_quote(epid_quote())
