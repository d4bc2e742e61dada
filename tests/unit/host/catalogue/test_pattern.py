"""The language of signatures: what it says, what it refuses, and that no line makes it slow."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.host.catalogue.pattern import MAX_ALTERNATIVES, MAX_LENGTH, PatternError, compile_pattern


def found(pattern: str, line: str) -> bool:
    return compile_pattern(pattern).regex.search(line.encode()) is not None


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("SGX disabled by BIOS.", "[ 0.5] x86/cpu: SGX disabled by BIOS."),
        ("load QE3: {hex}", "Failed to load QE3: 0x4004"),
        ("load QE3: {hex}!", "Failed to load QE3: 4004!"),
        ("mpa[{number}]: error", "mpa[917]: error"),
        ("cannot open {...}: denied", "cannot open /dev/sgx_enclave: denied"),
        ("user {word} denied", "user alice denied"),
        ("SGX1 supported{ }= false", "SGX1 supported      \t= false"),
        ("error code {30|38}", "error code 38"),
        ("the device{| node} is gone", "the device is gone"),
        ("{{RD,WR}} not allowed", "{RD,WR} not allowed"),
        ("a+b*(c)?[x] signature", "a+b*(c)?[x] signature"),
        ("飞地 enclave lost", "错误: 飞地 enclave lost"),
    ],
)
def test_a_signature_is_found(pattern: str, line: str) -> None:
    assert found(pattern, line)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("SGX disabled by BIOS.", "SGX disabled by BIOS!"),
        ("SGX disabled by BIOS.", "sgx disabled by bios."),
        ("mpa[{number}]: error", "mpa[x]: error"),
        ("cannot open {...}: denied", "cannot open\n/dev: denied"),
        ("cannot open {...}: denied", "cannot open " + "x" * 300 + ": denied"),
        ("user {word} denied", "user alice was denied"),
        ("error code {30|38}", "error code 39"),
    ],
)
def test_a_signature_is_not_found(pattern: str, line: str) -> None:
    assert not found(pattern, line)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "is empty"),
        ("x" * (MAX_LENGTH + 1), "longer than"),
        ("abc", "6 characters"),
        ('"\\"\\"\\"\\"\\"\\"', "6 characters"),
        ("一二三四五六七八", "6 characters"),
        ("abcdefg {...}", "not followed by literal text"),
        ("{...} abcdefg", "begins with"),
        ("abcdefg {...}{number}", "not followed by literal text"),
        ("abcdefg {number}0", "could be a part of it"),
        ("abcdefg {hex}fee", "could be a part of it"),
        ("abcdefg {number}{|1}", "could be a part of it"),
        ("abcdefg{ } x", "could be a part of it"),
        ("abcdefg {oops}", "no placeholder"),
        ("abcdefg {", "single brace"),
        ("abcdefg }", "single brace"),
        ("abcdefg {a|a}", "one twice"),
        ("abcdefg {" + "|".join(map(str, range(MAX_ALTERNATIVES + 1))) + "}", "alternatives"),
        ("abcdefg " + "{number} " * 7, "more than 6 placeholders"),
        ("abcdefg\nhijklm", "within one line"),
        ("abcdefg\x1b[0m", "control characters"),
    ],
)
def test_a_signature_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=re.escape(why)):
        compile_pattern(pattern)


@given(st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + " ", min_size=8, max_size=60))
@settings(max_examples=60, deadline=None)
def test_text_finds_itself_and_only_itself(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    try:
        pattern = compile_pattern(escaped)
    except PatternError:
        return
    assert pattern.regex.search(b"x " + text.encode() + b" y")
    assert not pattern.regex.search(text[:-1].encode())


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_signature_or_refused(text: str) -> None:
    try:
        pattern = compile_pattern(text)
    except PatternError:
        return
    assert pattern.anchors


def test_a_line_made_to_be_slow_is_refused_in_one_pass() -> None:
    # Each of these would make a backtracking expression try every way of cutting the line into pieces.
    pattern = compile_pattern("abcdef {...} x {...} x {...} x {...} x {...} end")
    line = b"abcdef " + b" x " * 20_000
    assert pattern.regex.search(line) is None
    assert b"(?>" in pattern.regex.pattern
    assert not re.search(rb"[^{,]\*|\+\)|\.\*", pattern.regex.pattern)
