"""`sgxkit quote inspect` as people run it: on real quotes, on envelopes, on garbage."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from doubles import envelopes as made
from doubles.envelopes import epid_quote, quote_over
from real_quotes import SHARED, Vector, named
from sgxkit.cli.main import run

ROOT = Path(__file__).parents[2]
SGXKIT = Path(sys.executable).with_name("sgxkit")


def command(*arguments: str | Path, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([SGXKIT, "quote", "inspect", *arguments], input=data, capture_output=True, check=False)


@cache
def validator() -> Draft202012Validator:
    schema = json.loads((ROOT / "docs/schema/quote.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def inspected(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Run the command in this process, as the whole set of quotes is large."""
    code = run(["quote", "inspect", str(path), *options])
    return code, capsys.readouterr().out


def document(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code, out = inspected(path, capsys, "--json")
    parsed: dict[str, Any] = json.loads(out)
    validator().validate(parsed)
    return code, parsed


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "input"
    path.write_bytes(data)
    return path


class TestRealQuotes:
    @named("vectors")
    def test_tree(self, vector: Vector, capsys: pytest.CaptureFixture[str]) -> None:
        code, out = inspected(vector.folder / "quote.bin", capsys, "--offsets", "--lang", "en")
        assert code == 0
        assert "nothing here is verified" in out
        assert "MRENCLAVE" in out or "MRTD" in out
        assert "@0 +2" in out
        assert ("DEBUG: " in out) == bool(vector.expected["report"].get("debug"))

    @named("vectors")
    def test_document(self, vector: Vector, capsys: pytest.CaptureFixture[str]) -> None:
        code, parsed = document(vector.folder / "quote.bin", capsys)
        assert code == 0
        (quote,) = parsed["quotes"]
        assert quote["error"] is None
        assert parsed["problems"] == []
        expected = vector.expected["report"]
        for name in ("mrenclave", "mrsigner", "mrtd", "rtmr0", "reportdata"):
            if name in expected:
                assert quote["body"][name] == expected[name]

    @named("vectors-negative")
    def test_altered_quotes_are_shown_or_what_is_wrong_with_them_is(
        self, vector: Vector, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, parsed = document(vector.folder / "quote.bin", capsys)
        (quote,) = parsed["quotes"]
        assert code == (0 if quote["error"] is None else 3)
        assert quote["fields"]
        assert inspected(vector.folder / "quote.bin", capsys)[0] == code

    @named("vectors-mock")
    def test_mock_quotes(self, vector: Vector, capsys: pytest.CaptureFixture[str]) -> None:
        _, parsed = document(vector.folder / "quote.bin", capsys)
        for quote in parsed["quotes"]:
            data = None if quote["signature_data"] is None else quote["signature_data"]["certification_data"]
            assert data is None or not data.get("intel_root")


@pytest.mark.skipif(not (SHARED / "fixtures").is_dir(), reason="the fixtures (../shared/fixtures) are not here")
def test_the_example_in_the_documentation_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    document_ = (ROOT / "docs/quotes.md").read_text()
    example = re.search(r"<!-- inspect: (\S+) -->\n```\n(.*?)```", document_, re.DOTALL)
    assert example is not None
    code, out = inspected(SHARED / example[1], capsys, "--lang", "en")
    assert code == 0
    printed = iter(out.splitlines())
    for line in example[2].splitlines():
        start = line.rstrip("…")
        assert start == "" or any(one.startswith(start) and (one == start or line != start) for one in printed), line


class TestCommand:
    def test_file_and_standard_input_say_the_same(self, tmp_path: Path) -> None:
        quote = quote_over(b"some data")
        from_file = command(written(tmp_path, quote))
        from_input = command("-", data=quote)
        assert from_file.returncode == from_input.returncode == 0
        assert from_file.stdout == from_input.stdout
        assert b"not Intel's" in from_file.stdout
        assert from_file.stderr == b""

    def test_a_certificate_with_two_quotes(self, tmp_path: Path) -> None:
        claims = made.key_claims()
        der = made.certificate_der(
            ("0.6.9.42.840.113741.1337.6", quote_over(bytes(32))), ("2.23.133.5.4.9", made.tagged_evidence(claims))
        )
        path = written(tmp_path, made.pem(der, "TRUSTED CERTIFICATE").encode())
        both = command("--lang", "en", path)
        assert both.returncode == 0
        assert b"[0] quote of an SGX enclave" in both.stdout
        assert b"[1] quote of an SGX enclave" in both.stdout
        assert b"NOT bound" in both.stdout
        second = command("--lang", "en", "--index", "1", path)
        assert b"[1] quote" in second.stdout
        assert b"[0]" not in second.stdout
        assert b"NOT bound" not in second.stdout

    @pytest.mark.parametrize("index", ["-1", "1"])
    def test_an_index_without_quote(self, tmp_path: Path, index: str) -> None:
        run_ = command(written(tmp_path, quote_over(b"")), f"--index={index}", "--lang=en")
        assert run_.returncode == 3
        assert b"the input has 1 quotes" in run_.stderr

    def test_raw_writes_the_bytes_of_the_quote(self, tmp_path: Path) -> None:
        quote = quote_over(b"") + bytes(10)
        path = written(tmp_path, quote.hex().encode())
        assert command(path, "--raw", tmp_path / "out").returncode == 0
        assert (tmp_path / "out").read_bytes() == quote
        to_output = command(path, "--raw", "-")
        assert (to_output.returncode, to_output.stdout) == (0, quote)

    def test_raw_wants_one_quote(self, tmp_path: Path) -> None:
        path = written(tmp_path, made.pem(quote_over(b""), "QUOTE").encode() * 2)
        refused = command(path, "--raw", "-")
        assert (refused.returncode, refused.stdout) == (3, b"")
        assert command(path, "--raw", "-", "--index", "1").stdout == quote_over(b"")

    def test_raw_into_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        refused = command(written(tmp_path, quote_over(b"")), "--raw", tmp_path / "no" / "out", "--lang=en")
        assert refused.returncode == 3
        assert b"cannot be written" in refused.stderr

    def test_debug_is_said_loudly(self) -> None:
        assert b"DEBUG: " in command("-", "--lang=en", data=quote_over(b"", debug=True)).stdout
        assert b"DEBUG" not in command("-", "--lang=en", data=quote_over(b"")).stdout

    def test_epid_is_shown_with_the_reason_why_it_cannot_be_verified(self) -> None:
        shown = command("-", "--lang=en", data=epid_quote())
        assert shown.returncode == 0
        assert b"it ended on 2025-04-02" in shown.stdout

    def test_a_cut_quote_is_shown_as_far_as_it_goes(self) -> None:
        shown = command("-", "--lang=en", data=quote_over(b"")[:1000])
        assert shown.returncode == 3
        assert b"body.mrenclave" in shown.stdout
        assert b"announced" in shown.stdout

    def test_a_good_quote_beside_a_broken_envelope_is_shown_and_the_run_fails(self) -> None:
        text = made.pem(quote_over(b""), "QUOTE") + "-----BEGIN QUOTE-----\n"
        shown = command("-", "--lang=en", data=text.encode())
        assert shown.returncode == 3
        assert b"MRENCLAVE" in shown.stdout
        assert b"does not end" in shown.stderr

    def test_chinese(self) -> None:
        assert "以下内容均未经验证" in command("-", "--lang=zh", data=quote_over(b"")).stdout.decode()

    def test_what_the_input_says_cannot_steer_the_terminal(self) -> None:
        report = {"isvEnclaveQuoteStatus": "\x1b[2J\nOK", "isvEnclaveQuoteBody": made.b64(epid_quote(signature=None))}
        shown = command("-", data=json.dumps(report).encode())
        assert shown.returncode == 0
        assert b"\x1b" not in shown.stdout
        assert rb"isvEnclaveQuoteStatus: \x1b[2J\nOK" in shown.stdout

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_any_encoding_of_the_terminal(self, encoding: str, language: str) -> None:
        shown = subprocess.run(
            [SGXKIT, "quote", "inspect", "-", "--lang", language],
            input=quote_over(b"")[:-1],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert shown.returncode == 3
        assert "body.mrenclave" in shown.stdout.decode(encoding)
        assert shown.stderr == b""


class TestGarbage:
    @pytest.mark.parametrize(
        "data",
        [b"", b"hello\n", bytes(100), b"{}", random.Random(1).randbytes(5000), b"\xff" * (1 << 20), b"x" * (2 << 20)],
        ids=range(7),
    )
    def test_is_refused_with_a_sentence(self, data: bytes) -> None:
        refused = command("-", "--lang=en", data=data)
        assert refused.returncode == 3
        assert refused.stdout == b""
        assert refused.stderr.startswith(b"error: input: ")
        assert b"Traceback" not in refused.stderr

    def test_as_a_document(self) -> None:
        refused = command("-", "--json", data=b"hello")
        assert refused.returncode == 3
        parsed = json.loads(refused.stdout)
        validator().validate(parsed)
        assert parsed["quotes"] == []
        assert parsed["problems"][0]["code"] == "format"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        refused = command(tmp_path / "absent", "--lang=en")
        assert refused.returncode == 3
        assert b"cannot be read" in refused.stderr

    @pytest.mark.parametrize("seed", range(40))
    def test_changed_quotes_are_shown_or_refused(
        self, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        choice = random.Random(seed)
        data = bytearray(choice.choice([quote_over(b""), quote_over(b"", version=5), epid_quote()]))
        for _ in range(choice.randrange(1, 6)):
            data[choice.randrange(min(len(data), 1200))] = choice.randrange(256)
        path = written(tmp_path, bytes(data[: choice.randrange(1, len(data) + 1)]))
        code, parsed = document(path, capsys)
        assert code in (0, 3)
        assert (code == 0) == (not parsed["problems"] and all(quote["error"] is None for quote in parsed["quotes"]))
        assert inspected(path, capsys, "--offsets")[0] == code
