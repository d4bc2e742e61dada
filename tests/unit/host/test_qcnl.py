"""The quote provider's configuration, read as Intel's library reads it (host.md 2.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.host import rapidjson
from sgxkit.host.qcnl import DEFAULT_URL, Report, lint

PCS = "https://api.trustedservices.intel.com/sgx/certification/v4/"
GOOD = f'{{"pccs_url": "{PCS}", "use_secure_cert": true}}'
# The sample for Intel's PCS as DCAP shipped it until March 2026, its comments shortened.
INTEL_SAMPLE = """{
  // *** ATTENTION : This file is in JSON format so the keys are case sensitive. Don't change them.

  //PCCS server address
  "pccs_url": "https://192.168.1.100:8081/sgx/certification/v4/",

  // To accept insecure HTTPS certificate, set this option to false
  "use_secure_cert": true,

  "collateral_service": "https://api.trustedservices.intel.com/sgx/certification/v4/"

  "retry_times": 6,

  "retry_delay": 10
}
"""


def codes(report: Report) -> list[str]:
    return [finding.code for finding in report.findings]


def test_a_good_file_is_read() -> None:
    report = lint(GOOD)
    assert (report.format, report.findings) == ("json", ())
    assert report.config.pccs_url == PCS
    assert report.config.collateral_service == PCS


def test_comments_are_allowed() -> None:
    assert lint("// first\n{ /* a */ " + GOOD[1:] + "\n// last").findings == ()


def test_intels_own_broken_sample_is_caught_at_the_place() -> None:
    report = lint(INTEL_SAMPLE)
    assert codes(report) == ["json-syntax"]
    values = report.findings[0].message.values
    assert (values["line"], values["column"]) == (12, 3)
    assert values["offset"] == INTEL_SAMPLE.index('"retry_times"')
    assert report.config.pccs_url == DEFAULT_URL


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ('{"a": 1,}', 8),
        ('{"a": [1,]}', 9),
        ('{"a" 1}', 5),
        ("{a: 1}", 1),
        ('{"a": tru}', 9),
        ('{"a": "b', 8),
        ('{"a": "\n"}', 7),
        ('{"a": "\\x"}', 7),
        ('{"a": "\\ud800"}', 7),
        ('{"a": 1.}', 8),
        ('{"a": 1e}', 8),
        ('{"a": 1e999}', 6),
        ('{"a": -}', 7),
        ('{"a": 01}', 7),
        ("{} x", 3),
        ("{ /* ", 5),
        ("{ / }", 3),
        ("{", 1),
    ],
)
def test_errors_are_where_rapidjson_reports_them(text: str, offset: int) -> None:
    with pytest.raises(rapidjson.ParseError) as caught:
        rapidjson.parse(text.encode())
    assert caught.value.offset == offset
    assert codes(lint(text)) == ["json-syntax"]


def test_a_zero_byte_ends_the_text() -> None:
    assert rapidjson.parse(b"1\0,,,") == 1


@pytest.mark.parametrize(
    ("member", "code"),
    [
        ('"retry_times": "6"', "wrong-type"),
        ('"retry_times": 6.0', "wrong-type"),
        ('"retry_delay": 2147483648', "wrong-type"),
        ('"local_cache_only": 1', "wrong-type"),
        ('"custom_request_options": []', "wrong-type"),
        ('"pck_cache_expire_hours": null', "wrong-type"),
        ('"pck_cache_expire_hours": 2161', "cache-capped"),
        ('"tcb_update_type": "late"', "tcb-update-type"),
        ('"Retry_Times": 6', "unknown-key"),
        ('"retries": 6', "unknown-key"),
        ('"use_secure_cert": true', "duplicate-key"),
        ('"local_pck_url": "http://169.254.169.254/v4"', "no-trailing-slash"),
        ('"local_pck_url": "ftp://a/"', "bad-url"),
        ('"local_pck_url": "http://["', "bad-url"),
    ],
)
def test_what_the_library_reads_differently_is_said(member: str, code: str) -> None:
    assert codes(lint(GOOD[:-1] + f", {member}}}")) == [code]


def test_numbers_of_either_kind_are_hours() -> None:
    assert (
        lint(GOOD[:-1] + ', "pck_cache_expire_hours": 48.5, "verify_collateral_cache_expire_hours": 48}').findings
        == ()
    )


def test_of_a_repeated_key_the_first_counts() -> None:
    report = lint(f'{{"pccs_url": "{PCS}", "pccs_url": "https://other/"}}')
    assert (report.config.pccs_url, codes(report)) == (PCS, ["duplicate-key"])


def test_a_wrong_update_type_voids_the_whole_file() -> None:
    report = lint(GOOD[:-1] + ', "tcb_update_type": "late"}')
    assert report.config.pccs_url == DEFAULT_URL
    assert lint(GOOD[:-1] + ', "tcb_update_type": "EARLY"}').findings == ()


def test_a_missing_slash_and_a_missing_url_are_said() -> None:
    assert codes(lint('{"pccs_url": "https://pccs:8081/sgx/certification/v4"}')) == ["no-trailing-slash"]
    assert codes(lint("{}")) == ["no-pccs-url"]
    assert lint('{"local_cache_only": true}').findings == ()
    assert codes(lint("[]")) == ["not-object"]


def test_no_certificate_check_towards_intel_is_said() -> None:
    assert codes(lint(f'{{"pccs_url": "{PCS}", "use_secure_cert": false}}')) == ["insecure-pcs"]


def test_the_old_format_is_read() -> None:
    report = lint(f"# comment\nPCCS_URL = {PCS}\nUSE_SECURE_CERT=FALSE\n\nRETRY_TIMES=6\n")
    assert (report.format, codes(report)) == ("legacy", ["legacy-format", "insecure-pcs"])
    assert (report.config.pccs_url, report.config.use_secure_cert) == (PCS, False)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("PCCS", "unknown-line"),
        ("pccs_url=x", "unknown-line"),
        ("RETRY_TIMES=six", "wrong-type"),
        ("RETRY_TIMES=99999999999", "number-too-big"),
        ("RETRY_TIMES=" + "9" * 5000, "number-too-big"),
        ('LOCAL_PCK_URL="http://a/"', "bad-url"),
    ],
)
def test_lines_of_the_old_format_are_linted(line: str, code: str) -> None:
    assert codes(lint(f"PCCS_URL={PCS}\n{line}\n")) == ["legacy-format", code]


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "hello", "\ufeff" + GOOD])
def test_a_file_with_nothing_in_it_is_an_error(text: str) -> None:
    assert "no-settings" in codes(lint(text))


def test_deep_nesting_is_refused() -> None:
    assert codes(lint('{"a": ' + "[" * 100_000)) == ["json-syntax"]


@given(st.text())
def test_any_text_gives_a_report(text: str) -> None:
    lint(text)


@given(st.text(alphabet='{}[]",:/*\\\n ue0123456789.-+aA=#_' + "\udcff\ud800", max_size=40))
def test_nearly_json_gives_a_report(text: str) -> None:
    lint(text)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def plain(value: Any) -> Any:
    if isinstance(value, rapidjson.Object):
        return {key: plain(inner) for key, inner in value.members}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(values, st.booleans())
def test_what_json_writes_is_read_alike(value: Any, ascii_only: bool) -> None:
    if "\0" in json.dumps(value, ensure_ascii=False):
        return
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert plain(rapidjson.parse(text.encode("utf-8", "surrogatepass"))) == json.loads(text)
