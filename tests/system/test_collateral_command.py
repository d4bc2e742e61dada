"""`sgxkit collateral` as people and programs use it, against a server on this machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doubles.intel_service import FakeService, Reply, make_collateral, replies, serve, write_tls_files
from sgxkit.cli.main import run
from sgxkit.dcap.collateral import export_bundle, parse_bundle
from sgxkit.dcap.sources import utc_now

SHARED = Path(__file__).parents[3] / "shared"
needs_vectors = pytest.mark.skipif(not (SHARED / "vectors").is_dir(), reason="the shared vectors are not here")

NOW = utc_now().replace(microsecond=0)
LATER = NOW + timedelta(days=30)
COLLATERAL = make_collateral(begin=NOW - timedelta(days=1), end=LATER, crl_end=LATER)
ENDED = make_collateral("TDX", ca="platform", begin=NOW - timedelta(days=30), end=NOW, crl_end=NOW)
PLATFORM = ("--fmspc", "00906ed50000", "--ca", "processor")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SGXKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(replies(COLLATERAL, "pccs v4")) as running:
        yield running


class Sgxkit:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, exit_code: int = 0) -> SimpleNamespace:
        code = run(["collateral", *arguments])
        out, err = self.capsys.readouterr()
        assert code == exit_code, err
        return SimpleNamespace(out=out, err=err)

    def json(self, *arguments: str, exit_code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", exit_code=exit_code).out)


@pytest.fixture
def sgxkit(capsys: pytest.CaptureFixture[str]) -> Sgxkit:
    return Sgxkit(capsys)


class TestFetch:
    def test_into_cache_and_bundle(self, sgxkit: Sgxkit, service: FakeService, folder: Path) -> None:
        said = sgxkit("fetch", *PLATFORM, "--pccs", service.url, "-o", "bundle.json")
        assert "FMSPC 00906ed50000" in said.out
        assert "not verified" in said.out
        assert str(folder) in said.out
        assert parse_bundle(Path("bundle.json").read_bytes()) == COLLATERAL
        assert len(list(folder.glob("*.json"))) == 1
        sgxkit("fetch", *PLATFORM, "--pccs", service.url)
        assert service.count("/tcb") == 1

    def test_to_standard_output(self, sgxkit: Sgxkit, service: FakeService, folder: Path) -> None:
        said = sgxkit("fetch", *PLATFORM, "--pccs", service.url, "-o", "-", "--no-cache")
        assert parse_bundle(said.out) == COLLATERAL
        assert not folder.exists()

    def test_json(self, sgxkit: Sgxkit, service: FakeService, folder: Path) -> None:
        found = sgxkit.json("fetch", *PLATFORM, "--pccs", service.url)
        assert found["service"] == f"pccs v4 {service.url}"
        assert found["cache"] == str(folder)
        assert found["collateral"]["fmspc"] == "00906ed50000"
        assert found["collateral"]["verified"] is False

    def test_a_pcs_that_is_not_intels(self, sgxkit: Sgxkit) -> None:
        with serve(replies(COLLATERAL)) as service:
            root_crl = f"{service.url}/IntelSGXRootCA.der"
            sgxkit("fetch", *PLATFORM, "--pcs", service.url, "--root-crl", root_crl, "--evaluation-number", "17")
            assert service.count(".der") == 1
            assert {question.query.get("tcbEvaluationDataNumber") for question in service.questions} == {"17", None}

    def test_retries_are_said_on_standard_error(self, sgxkit: Sgxkit, service: FakeService) -> None:
        service.first["/sgx/certification/v4/tcb"] = [Reply(status=503)]
        said = sgxkit("fetch", *PLATFORM, "--pccs", service.url, "-o", "-")
        assert "503; asking again" in said.err
        assert parse_bundle(said.out) == COLLATERAL

    def test_errors_mean_cannot_tell(self, sgxkit: Sgxkit, service: FakeService) -> None:
        service.answers.clear()
        said = sgxkit("fetch", *PLATFORM, "--pccs", service.url, exit_code=2)
        assert "answered 404" in said.err
        assert not said.out
        error = sgxkit.json("fetch", *PLATFORM, "--pccs", service.url, exit_code=2)["error"]
        assert error["code"] == "collateral-not-found"
        assert error["hint"]

    def test_tls(self, sgxkit: Sgxkit, tmp_path: Path) -> None:
        pem, ca_file = write_tls_files(tmp_path)
        with serve(replies(COLLATERAL, "pccs v4"), tls=pem) as service:
            assert "--ca-file" in sgxkit("fetch", *PLATFORM, "--pccs", service.url, exit_code=2).err
            sgxkit("fetch", *PLATFORM, "--pccs", service.url, "--ca-file", str(ca_file), "--no-cache")
            said = sgxkit("fetch", *PLATFORM, "--pccs", service.url, "--insecure", "--no-cache")
            assert "impostor" in said.err

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--fmspc", "00906ed50000"),
            ("--ca", "platform"),
            ("--fmspc", "00906ed5000", "--ca", "platform"),
            ("--fmspc", "00906ed50000", "--ca", "neither"),
            (*PLATFORM, "--pcs", "https://a", "--pccs", "https://b"),
            (*PLATFORM, "--pccs", "https://a", "--root-crl", "https://b"),
            (*PLATFORM, "--pccs", "no address"),
            (*PLATFORM, "--update", "early", "--evaluation-number", "17"),
            (*PLATFORM, "--evaluation-number", "-1"),
            (*PLATFORM, "--quote", "quote.bin"),
            ("--quote", "absent.bin"),
            (*PLATFORM, "--ca-file", "absent.pem"),
        ],
    )
    def test_wrong_use(self, sgxkit: Sgxkit, arguments: tuple[str, ...], folder: Path) -> None:
        sgxkit("fetch", *arguments, exit_code=3)

    @needs_vectors
    @pytest.mark.parametrize(
        "vector",
        ["automata-sgx3-sample-quotes-268c06", "automata-tdx4-sample-quotes-f8f82d", "phala-sgx3-sgx-quote-f8b810"],
    )
    def test_for_a_quote(self, sgxkit: Sgxkit, vector: str) -> None:
        source = SHARED / "vectors" / vector
        collateral = parse_bundle((source / "collateral.json").read_bytes())
        with serve(replies(collateral, "pccs v4")) as service:
            sgxkit("fetch", "--quote", str(source / "quote.bin"), "--pccs", service.url, "-o", "bundle.json")
            asked = {question.path: question.query for question in service.questions}
            tee = json.loads(collateral.tcb_info)["id"].lower()
            assert asked[f"/{tee}/certification/v4/tcb"]["fmspc"] == json.loads(collateral.tcb_info)["fmspc"].upper()
            ca = "platform" if b"Platform" in collateral.pck_crl else "processor"
            assert asked["/sgx/certification/v4/pckcrl"]["ca"] == ca
        assert parse_bundle(Path("bundle.json").read_bytes()) == collateral


class TestExportAndImport:
    @pytest.fixture(autouse=True)
    def _imported(self, folder: Path, sgxkit: Sgxkit) -> None:
        Path("sgx.json").write_text(export_bundle(COLLATERAL))
        Path("tdx.json").write_text(export_bundle(ENDED))
        sgxkit("import", "sgx.json")
        assert "no longer in force" in sgxkit("import", "tdx.json").err

    def test_export_gives_what_was_imported(self, sgxkit: Sgxkit) -> None:
        assert parse_bundle(sgxkit("export", "--tee", "sgx").out) == COLLATERAL
        assert parse_bundle(sgxkit("export", "--fmspc", "00906ED50000", "--ca", "processor").out) == COLLATERAL
        said = sgxkit("export", "--tee", "tdx", "-o", "again.json")
        assert "no longer in force" in said.err
        assert parse_bundle(Path("again.json").read_bytes()) == ENDED

    def test_a_choice_must_be_possible(self, sgxkit: Sgxkit) -> None:
        assert "2 sets" in sgxkit("export", exit_code=3).err
        assert "no such collateral" in sgxkit("export", "--fmspc", "000000000000", exit_code=2).err
        assert "no such collateral" in sgxkit("export", "--update", "early", exit_code=2).err
        assert "exclude" in sgxkit("export", "--update", "early", "--evaluation-number", "1", exit_code=3).err

    def test_what_no_quote_can_be_judged_by_is_said(self, sgxkit: Sgxkit) -> None:
        assert "every quote judged by it is refused" in sgxkit("import", "sgx.json").err

    @needs_vectors
    def test_what_quotes_can_be_judged_by_needs_no_warning(self, sgxkit: Sgxkit) -> None:
        genuine = SHARED / "vectors" / "dstack-tdx4-attestation-0c699d" / "collateral.json"
        assert "refused" not in sgxkit("import", str(genuine)).err

    def test_what_was_imported_is_used_instead_of_the_service(self, sgxkit: Sgxkit) -> None:
        with serve({}) as service:
            sgxkit("import", "sgx.json", "--pccs", service.url)
            sgxkit("fetch", *PLATFORM, "--pccs", service.url)
            assert not service.questions

    def test_standard_input(self, sgxkit: Sgxkit, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(export_bundle(COLLATERAL).encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        sgxkit("import", "-", "--update", "early")
        assert parse_bundle(sgxkit("export", "--update", "early").out) == COLLATERAL

    def test_writing_takes_no_link_or_device_away(self, sgxkit: Sgxkit) -> None:
        Path("link").symlink_to("target")
        sgxkit("export", "--tee", "sgx", "-o", "link")
        assert Path("link").is_symlink()
        assert parse_bundle(Path("target").read_bytes()) == COLLATERAL

    def test_a_file_that_cannot_be_written(self, sgxkit: Sgxkit) -> None:
        assert "cannot be written" in sgxkit("export", "--tee", "sgx", "-o", "absent/file", exit_code=3).err
        Path("taken").mkdir()
        sgxkit("export", "--tee", "sgx", "-o", "taken", exit_code=3)
        assert not list(Path().glob(".*.tmp"))

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format":"sgxkit-collateral","version":"1"}'])
    def test_what_is_no_bundle(self, sgxkit: Sgxkit, text: str) -> None:
        Path("bad.json").write_text(text)
        for command in ("import", "show"):
            assert sgxkit.json(command, "bad.json", exit_code=3)["error"]["code"] == "format"
            sgxkit(command, "absent.json", exit_code=3)

    def test_show_cached(self, sgxkit: Sgxkit) -> None:
        said = sgxkit("show", "cached").out
        assert "SGX collateral for FMSPC 00906ed50000" in said
        assert "TDX collateral for FMSPC 00906ed50000" in said
        listed = sgxkit.json("show", "cached")
        assert {entry["collateral"]["tee"]: entry["in_force"] for entry in listed} == {"sgx": True, "tdx": False}

    def test_show_an_empty_cache(self, sgxkit: Sgxkit, tmp_path: Path) -> None:
        assert "empty" in sgxkit("show", "cached", "--cache-dir", str(tmp_path / "none")).out
        assert sgxkit.json("show", "cached", "--cache-dir", str(tmp_path / "none")) == []
        assert not (tmp_path / "none").exists()


class TestShow:
    def test_every_piece_is_there(self, sgxkit: Sgxkit) -> None:
        Path("bundle.json").write_text(export_bundle(COLLATERAL))
        said = sgxkit("show", "bundle.json").out
        for expected in (
            "not verified",
            "processor CA",
            "evaluation number 17",
            "SGX 20 20 2 4 1 128 0×10  PCE 5",
            "OutOfDate",
            "INTEL-SA-00334, INTEL-SA-00615",
            "identity QE",
            "ISVSVN 8",
            "root_ca_crl, 0 revoked",
            "pck_crl, 3 revoked",
            "Intel SGX PCK Processor CA",
            "Intel SGX TCB Signing",
            "2049-12-31",
            f"in force until: {LATER:%Y-%m-%d %H:%M:%SZ}",
        ):
            assert expected in said

    def test_json(self, sgxkit: Sgxkit) -> None:
        Path("bundle.json").write_text(export_bundle(ENDED))
        found = sgxkit.json("show", "bundle.json")
        assert (found["tee"], found["ca"], found["verified"]) == ("tdx", "platform", False)
        assert found["tcb_info"]["levels"][0]["tdx_components"][0] == 5
        assert found["tcb_info"]["levels"][1]["advisory_ids"] == ["INTEL-SA-00334", "INTEL-SA-00615"]
        assert found["crls"]["pck_crl"]["revoked"] == 3
        assert found["earliest_expiration"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}"

    def test_chinese(self, sgxkit: Sgxkit) -> None:
        Path("bundle.json").write_text(export_bundle(COLLATERAL))
        assert "未经验证" in sgxkit("show", "bundle.json", "--lang", "zh").out

    @needs_vectors
    def test_every_vector_is_shown(self, sgxkit: Sgxkit) -> None:
        paths = sorted(SHARED.glob("vectors/*/collateral.json"))
        assert paths
        for path in paths:
            info = json.loads(parse_bundle(path.read_bytes()).tcb_info)
            found = sgxkit.json("show", str(path))
            assert found["fmspc"] == info["fmspc"].lower(), path
            assert len(found["tcb_info"]["levels"]) == len(info["tcbLevels"]), path
            assert sgxkit("show", str(path)).out, path


def test_nothing_needs_the_network_to_be_imported() -> None:
    script = "import sys, sgxkit.cli.main, sgxkit.dcap.sources; sys.exit('httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ})
