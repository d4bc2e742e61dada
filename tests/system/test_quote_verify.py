"""`sgxkit quote verify`, the program: every vector through it, and what people get wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from doubles import platform as double
from doubles.platform import Platform, make_platform
from real_quotes import Vector, named
from sgxkit.cli.main import run
from sgxkit.dcap import export_bundle, parse_quote
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.lab import publication
from sgxkit.lab.quoting import quote_user_data
from sgxkit.lab.store import create_lab, root_certificate
from sgxkit.lab.world import new_world

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/verification.schema.json").read_text())
AT = "2026-01-15T00:00:00Z"


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The installed program, as a person starts it."""
    executable = Path(sys.executable).with_name("sgxkit")
    return subprocess.run(
        [executable, *arguments], check=False, capture_output=True, text=True, timeout=60, **options
    )


class Files:
    """A platform's quote, bundle and root as files."""

    def __init__(self, folder: Path, platform: Platform, **quote: Any) -> None:
        self.quote = folder / "quote.bin"
        self.bundle = folder / "bundle.json"
        self.root = folder / "root.pem"
        self.quote.write_bytes(platform.quote(**quote))
        self.bundle.write_text(export_bundle(platform.collateral()))
        self.root.write_text(platform.root.pem)

    def arguments(self, *more: str) -> list[str]:
        return [
            "quote", "verify", str(self.quote), "--collateral", str(self.bundle),
            "--trusted-root", str(self.root), "--at", AT, *more,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def sgx(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("sgx"), make_platform("SGX"))


@pytest.fixture(scope="module")
def tdx(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tdx"), make_platform("TDX"), version=5)


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run([*arguments, "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


def refused_claims(document: dict[str, Any]) -> list[str]:
    return [error["claim"] for error in document["policy"]]


EXPECTED_CODES = {"ERROR:TCB_NOT_SUPPORTED": "tcb.not-supported", "ERROR:TDX_MODULE_MISMATCH": "tdx-module.mismatch"}


@named("vectors")
def test_real_quotes(vector: Vector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["quote", "verify", str(vector.folder / "quote.bin"), "--collateral", str(vector.collateral_path)]
    arguments += ["--at", vector.expected["verification_time"]]
    if vector.trusted_root is not None:
        (tmp_path / "root.pem").write_text(vector.trusted_root)
        arguments += ["--trusted-root", str(tmp_path / "root.pem")]
    code, document = answer(arguments, capsys)
    jsonschema.validate(document, SCHEMA)
    expected = vector.expected["status"]
    if expected in EXPECTED_CODES:
        assert code == 1
        reasons = [step["error"]["code"] for step in document["steps"] if step["error"]]
        assert reasons[0] == EXPECTED_CODES[expected]
    else:
        assert document["tcb"]["status"] == expected
        assert document["tcb"]["advisory_ids"] == vector.expected["advisory_ids"]
        assert (code == 0) == (document["verdict"] == "verified")
        if expected != "UpToDate" or vector.expected["debug"]:
            assert code == 1


@named("vectors", with_collateral=False)
def test_real_quotes_without_collateral(
    vector: Vector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path))
    code, document = answer(["quote", "verify", str(vector.folder / "quote.bin"), "--offline"], capsys)
    jsonschema.validate(document, SCHEMA)
    assert code == (1 if "corrupted" in vector.name else 2)


@named("vectors-negative")
def test_altered_quotes(vector: Vector, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["quote", "verify", str(vector.folder / "quote.bin"), "--collateral", str(vector.collateral_path)]
    arguments += ["--at", vector.expected["verification_time"], "--json"]
    code = run(arguments)
    printed = json.loads(capsys.readouterr().out)
    assert code in (1, 3)
    assert (code == 3) == ("error" in printed)


class TestVerdicts:
    def test_verified(self, sgx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        code, document = answer(sgx.arguments(), capsys)
        jsonschema.validate(document, SCHEMA)
        assert (code, document["verdict"]) == (0, "verified")
        assert document["trust_anchor"]["intel"] is False

    def test_a_td(self, tdx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        code, document = answer(tdx.arguments(), capsys)
        jsonschema.validate(document, SCHEMA)
        assert code == 0
        assert document["quote"]["body"]["mrservicetd"] == "00" * 48

    def test_it_says_that_the_root_is_not_intels(self, sgx: Files) -> None:
        printed = program(*sgx.arguments())
        assert printed.returncode == 0
        assert "not Intel's root" in printed.stdout
        assert "VERIFIED" in printed.stdout

    def test_an_encoding_without_chinese_loses_no_verdict(self, sgx: Files) -> None:
        printed = program(*sgx.arguments("--lang", "zh"), env={"LANG": "C", "PYTHONIOENCODING": "ascii"})
        assert printed.returncode == 0, printed.stderr
        assert "MRENCLAVE" in printed.stdout

    def test_intels_root_does_not_vouch_for_it(self, sgx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["quote", "verify", str(sgx.quote), "--collateral", str(sgx.bundle), "--at", AT]
        code, document = answer(arguments, capsys)
        assert code == 1
        assert document["steps"][0]["error"]["code"] == "chain.untrusted-root"
        assert document["tcb"] is None

    def test_it_says_that_nobody_asked_whose_code_it_is(self, sgx: Files) -> None:
        assert "any genuine enclave passes" in program(*sgx.arguments()).stdout
        assert "any genuine enclave passes" not in program(*sgx.arguments("--mrenclave", "45" * 32)).stdout

    def test_without_collateral_it_cannot_tell(self, sgx: Files, tmp_path: Path) -> None:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SGXKIT_CACHE_DIR": str(tmp_path / "cache")}
        printed = program(
            "quote", "verify", str(sgx.quote), "--trusted-root", str(sgx.root), "--offline", env=environment
        )
        assert printed.returncode == 2
        assert "CANNOT TELL" in printed.stdout

    def test_a_service_that_is_not_there(self, sgx: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path))
        code = run(
            ["quote", "verify", str(sgx.quote), "--pccs", "https://127.0.0.1:9", "--trusted-root", str(sgx.root)]
        )
        assert code == 2

    def test_expired(self, sgx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [argument if argument != AT else "2026-03-01T00:00:00Z" for argument in sgx.arguments()]
        code, document = answer(arguments, capsys)
        assert code == 1
        assert {step["step"]: step["verdict"] for step in document["steps"]}["freshness"] == "failed"
        assert document["tcb"]["status"] == "UpToDate"

    def test_chinese(self, sgx: Files) -> None:
        printed = program(*sgx.arguments("--lang", "zh"))
        assert "验证通过" in printed.stdout

    def test_standard_input(self, sgx: Files) -> None:
        executable = Path(sys.executable).with_name("sgxkit")
        arguments = ["quote", "verify", "-", *sgx.arguments()[3:]]
        ended = subprocess.run(
            [executable, *arguments], check=False, input=sgx.quote.read_bytes(), capture_output=True, timeout=60
        )
        assert ended.returncode == 0

    def test_twice_in_a_row_says_the_same(self, sgx: Files) -> None:
        assert program(*sgx.arguments()).stdout == program(*sgx.arguments()).stdout


def test_it_names_the_lab_whose_quote_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(tmp_path))
    now = datetime.now(UTC)
    lab = create_lab(new_world("demo", now))
    (tmp_path / "quote").write_bytes(quote_user_data(lab, b"challenge"))
    (tmp_path / "bundle").write_text(export_bundle(publication.collateral(lab, now)))
    arguments = ["quote", "verify", str(tmp_path / "quote"), "--collateral", str(tmp_path / "bundle")]
    assert run(arguments) == 1
    arguments += ["--trusted-root", str(root_certificate("demo"))]
    capsys.readouterr()
    assert run(arguments) == 0
    assert "this is an emulated platform of lab demo" in capsys.readouterr().out
    code, document = answer(arguments, capsys)
    jsonschema.validate(document, SCHEMA)
    assert (code, document["lab"], document["trust_anchor"]["intel"]) == (0, "demo", False)


class TestPolicy:
    @pytest.mark.parametrize(
        ("flags", "claims"),
        [
            (["--mrenclave", "45" * 32], []),
            (["--mrenclave", "00" * 32], ["mrenclave"]),
            (["--mrenclave", "00" * 32, "--mrenclave", "0x" + "45" * 32], []),
            (["--mrsigner", "53" * 32, "--isvprodid", "5", "--min-isvsvn", "9"], []),
            (["--mrsigner", "00" * 32, "--isvprodid", "6", "--min-isvsvn", "10"],
             ["mrsigner", "isvprodid", "minimum_isvsvn"]),
            (["--reportdata", "44" * 64], []),
            (["--reportdata", "44" * 32], ["reportdata"]),
            (["--mrtd", "54" * 48], ["mrtd"]),
            (["--min-evaluation-number", "17"], []),
            (["--min-evaluation-number", "18"], ["minimum_tcb_evaluation_data_number"]),
        ],
    )  # fmt: skip
    def test_sgx(self, sgx: Files, flags: list[str], claims: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        code, document = answer(sgx.arguments(*flags), capsys)
        assert refused_claims(document) == claims
        assert code == (1 if claims else 0)

    @pytest.mark.parametrize(
        ("flags", "claims"),
        [
            (["--mrtd", "54" * 48, "--mrseam", "4d" * 48, "--rtmr0", "30" * 48, "--rtmr3", "33" * 48], []),
            (["--rtmr1", "30" * 48, "--rtmr2", "30" * 48], ["rtmr1", "rtmr2"]),
            (["--tdattributes", "0x10000000"], []),
            (["--tdattributes", "0x0/0xff"], []),
            (["--tdattributes", "0x0"], ["tdattributes"]),
            (["--mrenclave", "00" * 32], ["mrenclave"]),
            (["--mrservicetd", "11" * 48], ["mrservicetd"]),
        ],
    )
    def test_tdx(self, tdx: Files, flags: list[str], claims: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        code, document = answer(tdx.arguments(*flags), capsys)
        assert refused_claims(document) == claims
        assert code == (1 if claims else 0)

    def test_reportdata_of_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from hashlib import sha256

        (tmp_path / "data").write_bytes(b"public key")
        body = double.report_body(reportdata=sha256(b"public key").digest() + bytes(32)).to_bytes()
        files = Files(tmp_path, make_platform(), body=body)
        assert answer(files.arguments("--reportdata-file", str(tmp_path / "data")), capsys)[0] == 0
        (tmp_path / "data").write_bytes(b"another key")
        assert answer(files.arguments("--reportdata-file", str(tmp_path / "data")), capsys)[0] == 1

    def test_debug(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        body = double.report_body(attributes=Attributes(AttributeFlags.INIT | AttributeFlags.DEBUG, 3)).to_bytes()
        files = Files(tmp_path, make_platform(), body=body)
        code, document = answer(files.arguments(), capsys)
        assert (code, refused_claims(document)) == (1, ["debug"])
        assert answer(files.arguments("--allow-debug"), capsys)[0] == 0

    def test_a_td_that_its_host_can_disturb(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = Files(tmp_path, make_platform("TDX"), version=4, body=double.td_report(584, tdattributes=0))
        code, document = answer(files.arguments(), capsys)
        assert (code, refused_claims(document)) == (1, ["require_sept_ve_disable"])
        assert answer(files.arguments("--allow-sept-ve"), capsys)[0] == 0

    def test_statuses_advisories_and_grace(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        platform = make_platform()
        files = Files(tmp_path, platform)
        levels = [double.tcb_level(7, "OutOfDate", advisories=["INTEL-SA-00001", "INTEL-SA-00002"])]
        files.bundle.write_text(export_bundle(platform.collateral(levels=levels)))
        assert answer(files.arguments(), capsys)[0] == 1
        assert answer(files.arguments("--accept", "OutOfDate"), capsys)[0] == 0
        one = files.arguments("--accept", "OutOfDate", "--accept-advisory", "INTEL-SA-00001")
        assert refused_claims(answer(one, capsys)[1]) == ["accepted_advisories"]
        assert answer([*one, "--accept-advisory", "INTEL-SA-00002"], capsys)[0] == 0
        # The level's TCB date is 379 days before the time of verification.
        assert answer(files.arguments("--platform-grace", "378d"), capsys)[0] == 1
        assert answer(files.arguments("--platform-grace", "379d"), capsys)[0] == 0

    def test_grace_without_end(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        platform = make_platform()
        files = Files(tmp_path, platform)
        files.bundle.write_text(export_bundle(platform.collateral(levels=[double.tcb_level(7, "OutOfDate")])))
        graces = ["--platform-grace", "999999d", "--collateral-grace", "999999d"]
        assert answer(files.arguments(*graces), capsys)[0] == 0

    @pytest.mark.parametrize(
        ("at", "says"),
        [
            ("yesterday", "not a time with a time zone"),
            ("2026-01-15T00:00:00", "not a time with a time zone"),
            ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
            ("9999-12-31T23:59:59-05:00", "years 1 to 9999"),
        ],
    )
    def test_times_that_are_none(self, at: str, says: str, sgx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        assert run([*sgx.arguments()[:-1], at]) == 3
        assert says in capsys.readouterr().err

    def test_a_policy_file_and_flags_that_override_it(
        self, sgx: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        policy = tmp_path / "policy.toml"
        (tmp_path / "root.pem").write_text(sgx.root.read_text())
        policy.write_text(f'trust_anchor = "root.pem"\nmrenclave = "{"00" * 32}"\nisvprodid = 5\n')
        arguments = ["quote", "verify", str(sgx.quote), "--collateral", str(sgx.bundle), "--at", AT]
        arguments += ["--policy", str(policy)]
        assert refused_claims(answer(arguments, capsys)[1]) == ["mrenclave"]
        assert answer([*arguments, "--mrenclave", "45" * 32], capsys)[0] == 0

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("mrenclaves = []", "did you mean mrenclave?"),
            ('accepted_statuses = ["Revoked"]', "cannot accept the status Revoked"),
            ('accepted_statuses = ["Fine"]', "not a TCB status"),
            ('mrenclave = "00"', "1 bytes, must be 32"),
            ("isvprodid = true", "must be an integer"),
            ('allow_debug = "yes"', "must be true or false"),
            ('platform_grace_period = "soon"', "30d"),
            ("not toml", "not TOML"),
            ("", "no rule in it"),
            ("# mrenclave = ...", "no rule in it"),
            ("isvprodid = " + "[" * 20_000, "not TOML"),
            ("isvprodid = " + "9" * 5_000, "not TOML"),
            ('reportdata = ""', "it is empty"),
            ('reportdata = "00"\nreportdata_file = "policy.toml"', "exclude each other"),
            ('trust_anchor = "absent.pem"', "absent.pem cannot be read"),
        ],
    )
    def test_policies_that_are_none(self, sgx: Files, tmp_path: Path, text: str, says: str) -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text(text)
        printed = program(*sgx.arguments("--policy", str(policy)))
        assert printed.returncode == 3
        assert says in printed.stderr
        assert "Traceback" not in printed.stderr


class TestEnvelopes:
    def test_of_several_quotes_one_must_be_chosen(
        self, sgx: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        forged = bytearray(sgx.quote.read_bytes())
        forged[100] ^= 1
        both = tmp_path / "both.json"
        both.write_text(json.dumps([sgx.quote.read_bytes().hex(), forged.hex()]))
        arguments = sgx.arguments()
        arguments[2] = str(both)
        code, document = answer(arguments, capsys)
        assert (code, document["error"]["message"]) == (3, "the input has 2 quotes")
        assert answer([*arguments, "--index", "0"], capsys)[0] == 0
        assert answer([*arguments, "--index", "1"], capsys)[0] == 1

    def test_a_hex_quote(self, sgx: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "quote.hex").write_text(sgx.quote.read_bytes().hex())
        arguments = sgx.arguments()
        arguments[2] = str(tmp_path / "quote.hex")
        code, document = answer(arguments, capsys)
        assert code == 0
        assert document["envelope"]["where"] != ""

    def test_what_the_envelope_says_is_bound_must_be(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from hashlib import sha256

        platform = make_platform()
        held = b"what the enclave holds"
        body = double.report_body(reportdata=sha256(held).digest() + bytes(32)).to_bytes()
        files = Files(tmp_path, platform, body=body)
        good = {"QuoteHex": files.quote.read_bytes().hex(), "EnclaveHeldDataHex": held.hex()}
        for document, code in ((good, 0), (good | {"EnclaveHeldDataHex": b"something else".hex()}, 1)):
            files.quote.write_text(json.dumps(document))
            found, printed = answer(files.arguments(), capsys)
            assert found == code
            assert printed["envelope"]["bindings"][0]["holds"] is (code == 0)
            assert answer(files.arguments("--quote-only"), capsys)[0] == 0


class TestTerminal:
    """Names that come from outside must not steer the reader's terminal."""

    def test_in_a_certificates_name(self, sgx: Files, tmp_path: Path) -> None:
        platform = make_platform()
        evil = double.certify("\x1b]0;pwned\x07\u202e", platform.ca, extension=double.sgx_extension())
        files = Files(tmp_path, replace(platform, pck=evil))
        printed = program(*files.arguments())
        assert printed.returncode == 1
        assert "pwned" in printed.stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(printed.stdout)

    def test_in_a_policys_key(self, sgx: Files, tmp_path: Path) -> None:
        (tmp_path / "policy.toml").write_text('"\\u001b[31mkey" = 1')
        printed = program(*sgx.arguments("--policy", str(tmp_path / "policy.toml")))
        assert printed.returncode == 3
        assert "\x1b" not in printed.stderr


class TestWrongInput:
    @pytest.mark.parametrize("content", [b"", b"hello", b"\x02\x00" + bytes(430), b"\x03\x00", bytes(5000)])
    def test_what_is_no_quote(self, sgx: Files, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "input").write_bytes(content)
        printed = program("quote", "verify", str(tmp_path / "input"), "--collateral", str(sgx.bundle))
        assert printed.returncode == 3
        assert printed.stdout == ""
        assert printed.stderr.startswith("error: ")
        assert "Traceback" not in printed.stderr

    def test_files_that_are_not_there(self, sgx: Files, tmp_path: Path) -> None:
        for arguments in (
            ["quote", "verify", str(tmp_path / "absent"), "--collateral", str(sgx.bundle)],
            ["quote", "verify", str(sgx.quote), "--collateral", str(tmp_path / "absent")],
            ["quote", "verify", str(sgx.quote), "--policy", str(tmp_path / "absent")],
            ["quote", "verify", str(sgx.quote), "--trusted-root", str(tmp_path / "absent")],
            ["quote", "verify", str(tmp_path)],
        ):
            printed = program(*arguments)
            assert printed.returncode == 3
            assert "cannot be read" in printed.stderr

    @pytest.mark.parametrize(
        "flags",
        [
            ["--index", "1"],
            ["--index", "-1"],
            ["--mrenclave", "xyz"],
            ["--mrenclave", "00"],
            ["--accept", "Revoked"],
            ["--tdattributes", "-1"],
            ["--reportdata", ""],
            ["--reportdata", "00", "--reportdata-file", "/dev/null"],
            ["--reportdata-file", "/dev/null", "--reportdata", "00"],
            ["--isvprodid", "70000"],
            ["--no-such-option"],
            ["--pcs", "https://localhost"],
        ],
    )
    def test_options_that_make_no_sense(self, sgx: Files, flags: list[str]) -> None:
        printed = program(*sgx.arguments(*flags))
        assert printed.returncode == 3
        assert printed.stderr.startswith("error: ")
        assert "Traceback" not in printed.stderr

    def test_errors_as_json(self, sgx: Files, capsys: pytest.CaptureFixture[str]) -> None:
        code, document = answer(sgx.arguments("--mrenclave", "xyz"), capsys)
        assert code == 3
        assert document["error"]["code"] == "format"

    def test_interrupted_while_it_waits(self) -> None:
        executable = Path(sys.executable).with_name("sgxkit")
        with subprocess.Popen(
            [executable, "quote", "verify", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"Traceback" not in stderr


def test_a_quote_that_names_its_platform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = make_platform()
    files = Files(tmp_path, platform, certification=(3, bytes(384) + bytes(16) + b"\x0d\x00" + bytes(2)))
    code, document = answer(files.arguments(), capsys)
    assert (code, document["verdict"]) == (2, "cannot tell")
    files.bundle.write_text(export_bundle(replace(platform.collateral(), pck_certificate_chain=platform.pck_chain)))
    assert answer(files.arguments(), capsys)[0] == 0
    assert parse_quote(files.quote.read_bytes()).pck_chain_pem is None
