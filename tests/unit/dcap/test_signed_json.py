"""Signed JSON: the exact text is cut out, and nothing that two readers could understand differently gets in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.dcap.signed_json import MAX_DEPTH, parse_strict_json, split_signed_json
from sgxkit.errors import FormatError

VECTORS = Path(__file__).parents[4] / "shared" / "vectors"
SIGNATURE = "0123456789abcdefABCDEF" + "5a" * 53


def served(inner: str, signature: str = SIGNATURE, member: str = "tcbInfo") -> str:
    return f'{{"{member}":{inner},"signature":"{signature}"}}'


# What two readers could understand differently, or what is not JSON at all.
BAD_VALUES = {
    "equal keys": '{"a":1,"a":1}',
    "equal keys below": '{"x":[{"y":{"a":1,"b":2,"a":3}}]}',
    "equal keys, one escaped": '{"a":1,"\\u0061":2}',
    "float": '{"svn":1.0}',
    "exponent": '{"svn":1e3}',
    "NaN": '{"svn":NaN}',
    "Infinity": '{"svn":-Infinity}',
    "2**63": '{"svn":9223372036854775808}',
    "below -2**63": "[-9223372036854775809]",
    "thousands of digits": "[" + "9" * 10_000 + "]",
    "leading zero": '{"svn":01}',
    "too deep": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "too deep, objects and arrays by turns": '[{"a":' * (MAX_DEPTH // 2) + "[]" + "}]" * (MAX_DEPTH // 2),
    "far too deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "far too deep and never closed": "[" * 200_000,
    "too deep after brackets in a string": '["}}]]",' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "]",
    "trailing bytes": "{}x",
    "second document": "{}{}",
    "comment": "{}//",
    "trailing comma": '{"a":1,}',
    "byte order mark": "\ufeff{}",
    "control character in a string": '{"a":"\n"}',
    "lone surrogate": '{"a":"\ud800"}',
    "escaped lone surrogate": '{"a":"\\ud800"}',
    "empty": "",
    "no-break space": "\u00a0{}",
}


@pytest.mark.parametrize("text", BAD_VALUES.values(), ids=BAD_VALUES)
def test_refuses(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_strict_json(text, "the field")
    assert caught.value.field == "the field"


def test_accepts_the_largest_numbers_and_the_greatest_depth() -> None:
    assert parse_strict_json("[9223372036854775807,-9223372036854775808]") == [2**63 - 1, -(2**63)]
    parse_strict_json('[{"a":' * (MAX_DEPTH // 2) + "0" + "}]" * (MAX_DEPTH // 2))
    value = parse_strict_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        assert isinstance(value, list)
        (value,) = value
    assert value == []


def test_brackets_and_digits_within_strings_are_text() -> None:
    value = {"a": "]" * 40, "[" * 40: "{" * 40, "mrsigner": "9" * 96, "c": ' "}', "d": ", -" + "9" * 40}
    assert parse_strict_json(json.dumps(value)) == value


def test_backslashes_are_refused_where_intel_has_none() -> None:
    assert parse_strict_json('{"a":"\\n"}') == {"a": "\n"}
    with pytest.raises(FormatError, match="backslash"):
        parse_strict_json('{"a":"\\n"}', escapes=False)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
                    lambda children: st.lists(children) | st.dictionaries(st.text(), children)))  # fmt: skip
def test_reads_what_was_written(value: object) -> None:
    for ascii_only in (True, False):
        assert parse_strict_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@given(st.text() | st.text(alphabet='{}[]",:\\ 0123456789.eE-ntfau\n'))
def test_raises_nothing_but_format_errors(text: str) -> None:
    for read in (parse_strict_json, lambda text: split_signed_json(text, "tcbInfo")):
        try:
            read(text)
        except FormatError:
            continue


class TestSplit:
    @pytest.mark.parametrize(
        "inner", ["{}", '{ "a" : [1, {"b":"}"}] }', '{"tcbInfo":{},"signature":"x"}', '{"é":"字"}']
    )
    @pytest.mark.parametrize("space", ["", " ", "\r\n\t "])
    def test_cuts_the_exact_text_in_either_order(self, inner: str, space: str) -> None:
        member = f'"tcbInfo"{space}:{space}{inner}'
        signature = f'"signature"{space}:{space}"{SIGNATURE}"'
        for first, last in ((member, signature), (signature, member)):
            text = f"{space}{{{space}{first}{space},{space}{last}{space}}}{space}"
            assert split_signed_json(text, "tcbInfo") == (inner, bytes.fromhex(SIGNATURE))

    @pytest.mark.parametrize(
        "text",
        [
            served("{}") + "x",
            served("{}") + served("{}"),
            served("{}") + "\0",
            served("[]"),
            served('"{}"'),
            served("null"),
            served("{}", signature=SIGNATURE[:-1]),
            served("{}", signature=SIGNATURE + "00"),
            served("{}", signature=" " + SIGNATURE[1:]),
            served("{}", signature="g" + SIGNATURE[1:]),
            served("{}", member="enclaveIdentity"),
            served("{}", member="tcbinfo"),
            served('{"a":"\\n"}'),
            f'{{"tcbInfo":{{}},"tcbInfo":{{}},"signature":"{SIGNATURE}"}}',
            f'{{"tcbInfo":{{}},"signature":"{SIGNATURE}","signature":"{SIGNATURE}"}}',
            f'{{"tcbInfo":{{}},"signature":"{SIGNATURE}","more":1}}',
            f'{{"outer":{served("{}")},"signature":"{SIGNATURE}"}}',
            '{"tcbInfo":{}}',
            f'{{"signature":"{SIGNATURE}"}}',
            f'{{"tcbInfo":{{}},"signature":["{SIGNATURE}"]}}',
            f"[{served('{}')}]",
            "{}",
        ],
    )
    def test_refuses(self, text: str) -> None:
        with pytest.raises(FormatError):
            split_signed_json(text, "tcbInfo")

    @given(
        st.dictionaries(
            st.text(alphabet=st.characters(exclude_characters='\\"', exclude_categories=["C"])),
            st.integers(0, 255) | st.text(alphabet="{}[],: signature") | st.booleans(),
        ),
        st.sampled_from([None, 0, 3]),
    )
    def test_cuts_what_was_wrapped(self, value: dict[str, object], indent: int | None) -> None:
        inner = json.dumps(value, ensure_ascii=False, indent=indent)
        assert split_signed_json(served(inner), "tcbInfo") == (inner, bytes.fromhex(SIGNATURE))

    @pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not here")
    def test_cuts_every_vector(self) -> None:
        count = 0
        for path in sorted(VECTORS.glob("*/collateral.json")):
            collateral = json.loads(path.read_text())
            for field, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
                inner, signature = collateral[field], collateral[f"{field}_signature"]
                assert split_signed_json(served(inner, signature, member), member) == (
                    inner,
                    bytes.fromhex(signature),
                )
                count += 1
        assert count
