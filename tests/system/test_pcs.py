"""The client of PCS and PCCS against a real server on this machine, in both dialects and in every kind of trouble."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from doubles.intel_service import (
    FMSPC,
    FakeService,
    Reply,
    authorities,
    make_collateral,
    replies,
    serve,
    write_tls_files,
)
from sgxkit.dcap import pcs, transport
from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.collateral import MAX_CHAIN, MAX_JSON, Collateral, CollateralError, parse_bundle
from sgxkit.dcap.quote import TeeType
from sgxkit.dcap.transport import Patience, Trust
from sgxkit.errors import InputError
from sgxkit.messages import Message

SHARED = Path(__file__).parents[3] / "shared"
COLLATERAL = make_collateral()
HASTY = Patience(connect=5, read=5, total=20, attempts=4, first_delay=0.01, longest_delay=0.02)
TCB = "/sgx/certification/v4/tcb"
IDENTITY = "/sgx/certification/v4/qe/identity"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(replies(COLLATERAL)) as running:
        yield running


def source_of(service: FakeService, flavour: str = "pcs", trust: Trust = transport.PUBLIC_AUTHORITIES) -> pcs.Service:
    if flavour == "pcs":
        return pcs.pcs(service.url, root_crl_url=f"{service.url}/IntelSGXRootCA.der", trust=trust)
    version = flavour.removeprefix("pccs ")
    return pcs.pccs(f"{service.url}/sgx/certification/{version}/", trust=trust)


def fetch(
    service: FakeService,
    flavour: str = "pcs",
    *,
    tee: TeeType = TeeType.SGX,
    ca: PckCa = PckCa.PROCESSOR,
    fmspc: bytes = FMSPC,
    update: pcs.Update = "standard",
    number: int | None = None,
    patience: Patience = HASTY,
    trust: Trust = transport.PUBLIC_AUTHORITIES,
    notes: list[Message] | None = None,
) -> Collateral:
    return pcs.fetch_collateral(
        tee,
        fmspc,
        ca,
        source=source_of(service, flavour, trust),
        update=update,
        tcb_evaluation_data_number=number,
        patience=patience,
        note=(notes if notes is not None else []).append,
    )


def pem(crl: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(crl) + b"-----END X509 CRL-----\n"


class TestDialects:
    @pytest.mark.parametrize("flavour", ["pcs", "pccs v4", "pccs v3"])
    def test_sgx(self, flavour: str) -> None:
        collateral = make_collateral(version=2 if flavour == "pccs v3" else 3)
        with serve(replies(collateral, flavour)) as service:  # type: ignore[arg-type]
            assert fetch(service, flavour) == collateral
            assert len(service.questions) == 4

    @pytest.mark.parametrize("flavour", ["pcs", "pccs v4"])
    def test_tdx(self, flavour: str) -> None:
        collateral = make_collateral("TDX", ca="platform")
        with serve(replies(collateral, flavour)) as service:  # type: ignore[arg-type]
            assert fetch(service, flavour, tee=TeeType.TDX, ca=PckCa.PLATFORM) == collateral
            asked = {question.path: question.query for question in service.questions}
            assert asked["/sgx/certification/v4/pckcrl"] == {"ca": "platform", "encoding": "der"}
            assert asked["/tdx/certification/v4/tcb"] == {"fmspc": "00906ED50000"}

    def test_tdx_is_not_in_version_3(self, service: FakeService) -> None:
        with pytest.raises(InputError, match="TDX"):
            fetch(service, "pccs v3", tee=TeeType.TDX)
        assert not service.questions

    @pytest.mark.parametrize(
        "encode", [bytes, lambda crl: crl.hex().upper().encode(), pem], ids=["DER", "hex", "PEM"]
    )
    def test_every_encoding_of_crls(self, service: FakeService, encode: Callable[[bytes], bytes]) -> None:
        service.change("/pckcrl", body=encode(COLLATERAL.pck_crl))
        service.change(".der", body=encode(COLLATERAL.root_ca_crl))
        assert fetch(service) == COLLATERAL

    def test_update_and_evaluation_number_are_asked_for(self, service: FakeService) -> None:
        fetch(service, update="early")
        fetch(service, number=17)
        asked = [question.query for question in service.questions if question.path in (TCB, IDENTITY)]
        assert [query.get("update") for query in asked].count("early") == 2
        assert [query.get("tcbEvaluationDataNumber") for query in asked].count("17") == 2
        with pytest.raises(InputError, match="exclude"):
            fetch(service, update="early", number=17)

    def test_inside_a_running_event_loop(self, service: FakeService) -> None:
        async def main() -> Collateral:
            return fetch(service)

        assert asyncio.run(main()) == COLLATERAL

    @pytest.mark.skipif(not (SHARED / "vectors").is_dir(), reason="the shared vectors are not here")
    @pytest.mark.parametrize("vector", ["automata-sgx3-sample-quotes-268c06", "automata-tdx4-sample-quotes-f8f82d"])
    @pytest.mark.parametrize("flavour", ["pcs", "pccs v4"])
    def test_intels_own_collateral(self, vector: str, flavour: str) -> None:
        collateral = parse_bundle((SHARED / "vectors" / vector / "collateral.json").read_bytes())
        info = json.loads(collateral.tcb_info)
        with serve(replies(collateral, flavour)) as service:  # type: ignore[arg-type]
            assert fetch(service, flavour, tee=TeeType[info["id"]], fmspc=bytes.fromhex(info["fmspc"])) == collateral

    @pytest.mark.skipif(not (SHARED / "fixtures" / "pcs").is_dir(), reason="the shared fixtures are not here")
    def test_recorded_answers_of_intels_service(self) -> None:
        def recorded(name: str) -> dict[str, str]:
            found: dict[str, str] = json.loads((SHARED / "fixtures" / "pcs" / name).read_text())
            return found

        info, identity = recorded("sgx_tcb_info_00906ED50000.json"), recorded("sgx_qe_identity.json")
        crl, numbers = recorded("pck_crl_processor.json"), recorded("sgx_tcb_eval_nums.json")
        answers = {
            TCB: Reply(
                info["tcb_info_json"].encode(),
                headers={"TCB-Info-Issuer-Chain": quote(info["issuer_chain"], safe="")},
            ),
            IDENTITY: Reply(
                identity["enclave_identity_json"].encode(),
                headers={"SGX-Enclave-Identity-Issuer-Chain": quote(identity["issuer_chain"], safe="")},
            ),
            "/sgx/certification/v4/pckcrl": Reply(
                crl["crl_data"].encode(), headers={"SGX-PCK-CRL-Issuer-Chain": quote(crl["issuer_chain"], safe="")}
            ),
            "/IntelSGXRootCA.der": Reply((SHARED / "fixtures/pcs/gotdx/rootcrl.der").read_bytes()),
            "/sgx/certification/v4/tcbevaluationdatanumbers": Reply(
                numbers["tcb_evaluation_data_numbers_json"].encode(),
                headers={"TCB-Evaluation-Data-Numbers-Issuer-Chain": quote(numbers["issuer_chain"], safe="")},
            ),
            "/sgx/certification/v4/fmspcs": Reply(recorded("fmspcs.json")["fmspcs_json"].encode()),
        }
        with serve(answers) as service:
            collateral = fetch(service)
            assert info["tcb_info_json"].startswith(f'{{"tcbInfo":{collateral.tcb_info},"signature":')
            assert collateral.tcb_info_issuer_chain == info["issuer_chain"]
            found = pcs.tcb_evaluation_data_numbers(TeeType.SGX, source=source_of(service), patience=HASTY)
            assert [entry.number for entry in found.numbers] == [19, 18, 17]
            assert len(pcs.fmspcs(source=source_of(service), patience=HASTY)) > 30


class TestLists:
    def test_fmspcs(self, service: FakeService) -> None:
        found = pcs.fmspcs("E5", source=source_of(service), patience=HASTY)
        assert found[0] == pcs.FmspcEntry(bytes.fromhex("00a06d080000"), "E5")
        assert service.questions[0].query == {"platform": "E5"}

    def test_evaluation_numbers(self, service: FakeService) -> None:
        found = pcs.tcb_evaluation_data_numbers(TeeType.SGX, source=source_of(service), patience=HASTY)
        assert [entry.number for entry in found.numbers] == [18, 17]
        assert found.issuer_chain == COLLATERAL.tcb_info_issuer_chain
        assert json.loads(found.document)["id"] == "SGX"

    @pytest.mark.parametrize("body", [b"{}", b"[1]", b'[{"fmspc":"00","platform":"E5"}]', b"[", b"\xff"])
    def test_malformed_lists(self, service: FakeService, body: bytes) -> None:
        service.change("/fmspcs", body=body)
        with pytest.raises(transport.BadAnswerError):
            pcs.fmspcs(source=source_of(service), patience=HASTY)

    def test_a_pccs_has_no_lists(self, service: FakeService) -> None:
        with pytest.raises(transport.NotFoundError):
            pcs.tcb_evaluation_data_numbers(TeeType.TDX, source=pcs.pccs(service.url), patience=HASTY)


class TestPckCertificate:
    LEAF = authorities()["tcb"].pem
    CHAIN = authorities()["processor"].pem + authorities()["root"].pem
    PPID = bytes(range(256)) + bytes(128)
    QUESTION = (PPID, bytes(range(16)), 0x0D0C, b"\x01\x00")

    def answers(self) -> dict[str, Reply]:
        headers = {
            "SGX-PCK-Certificate-Issuer-Chain": quote(self.CHAIN, safe=""),
            "SGX-TCBm": "14140204018007000000000000000000" + "0D00",
            "SGX-FMSPC": "00906ED50000",
            "SGX-PCK-Certificate-CA-Type": "processor",
        }
        return {"/sgx/certification/v4/pckcert": Reply(self.LEAF.encode(), headers=headers)}

    def test_pccs(self) -> None:
        with serve(self.answers()) as service:
            found = pcs.fetch_pck_certificate(*self.QUESTION, bytes(16), source=pcs.pccs(service.url), patience=HASTY)
            assert service.questions[0].query == {
                "encrypted_ppid": self.PPID.hex(),
                "cpusvn": "000102030405060708090a0b0c0d0e0f",
                "pcesvn": "0c0d",
                "pceid": "0100",
                "qeid": "00" * 16,
            }
        assert found.chain == self.LEAF + self.CHAIN
        assert found.fmspc == FMSPC
        assert found.ca is PckCa.PROCESSOR
        assert found.tcbm is not None
        assert found.tcbm[16:] == b"\x0d\x00"

    def test_the_subscription_key_goes_over_tls_only(self, tmp_path: Path) -> None:
        pem, ca_file = write_tls_files(tmp_path)
        with serve(self.answers(), tls=pem) as service:
            source = pcs.pcs(service.url, trust=Trust(ca_file), subscription_key="secret1")
            pcs.fetch_pck_certificate(*self.QUESTION, source=source, patience=HASTY)
            assert service.questions[0].headers["ocp-apim-subscription-key"] == "secret1"
            assert service.questions[0].headers["ppid-encryption-key"] == "RSA-3072"
        assert "secret1" not in repr(source)
        with serve(self.answers()) as service:
            with pytest.raises(InputError, match="https"):
                pcs.fetch_pck_certificate(*self.QUESTION, source=replace(source, url=service.url), patience=HASTY)
            assert not service.questions

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, transport.UnauthorizedError),
            (404, transport.NotFoundError),
            (461, transport.NotFoundError),
            (462, transport.NotFoundError),
            (460, transport.BadAnswerError),
        ],
    )
    def test_refusals(self, status: int, error: type[CollateralError]) -> None:
        with serve({"/sgx/certification/v4/pckcert": Reply(status=status)}) as service:
            with pytest.raises(error) as caught:
                pcs.fetch_pck_certificate(*self.QUESTION, bytes(16), source=pcs.pccs(service.url), patience=HASTY)
            assert len(service.questions) == 1
        assert caught.value.exit_code == 2
        assert caught.value.hint is not None
        assert "00010203" not in str(caught.value)  # the PPID tells machines apart

    @pytest.mark.parametrize("change", [
        {"headers": {}}, {"body": b"not PEM"}, {"body": b"\xff"},
        {"headers": {"SGX-PCK-Certificate-Issuer-Chain": quote(CHAIN), "SGX-FMSPC": "00"}},
    ])  # fmt: skip
    def test_malformed(self, change: dict[str, object]) -> None:
        with serve(self.answers()) as service:
            service.change("/pckcert", **change)
            with pytest.raises(transport.BadAnswerError):
                pcs.fetch_pck_certificate(*self.QUESTION, bytes(16), source=pcs.pccs(service.url), patience=HASTY)

    def test_what_cannot_be_asked(self) -> None:
        source = pcs.pccs("https://127.0.0.1:1")
        ppid, cpusvn, pcesvn, pceid = self.QUESTION
        for arguments in (
            (ppid[:16], cpusvn, pcesvn, pceid, bytes(16)),
            (ppid, cpusvn[1:], pcesvn, pceid, bytes(16)),
            (ppid, cpusvn, pcesvn, b"", bytes(16)),
            (ppid, cpusvn, pcesvn, pceid, b""),
            (ppid, cpusvn, pcesvn, pceid, None),
        ):
            with pytest.raises(InputError):
                pcs.fetch_pck_certificate(*arguments, source=source)


class TestTrouble:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, transport.BadAnswerError),
            (401, transport.UnauthorizedError),
            (403, transport.UnauthorizedError),
            (404, transport.NotFoundError),
            (410, transport.RetiredError),
            (418, transport.BadAnswerError),
        ],
    )
    def test_refusals_are_final(self, service: FakeService, status: int, error: type[CollateralError]) -> None:
        headers = {"Error-Code": "X\x07", "Error-Message": "no\x1b[31m such thing"}
        service.answers[TCB] = Reply(status=status, headers=headers)
        with pytest.raises(error) as caught:
            fetch(service)
        assert service.count("/tcb") == 1
        assert caught.value.exit_code == 2
        assert caught.value.hint is not None
        assert str(status) in str(caught.value)
        assert "no" in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_passing_trouble_passes(self, service: FakeService, status: int) -> None:
        service.first[TCB] = [Reply(status=status), Reply(status=status, headers={"Retry-After": "0"})]
        notes: list[Message] = []
        assert fetch(service, notes=notes) == COLLATERAL
        assert service.count("/tcb") == 3
        assert service.count("/pckcrl") == 1
        assert len(notes) == 2
        assert str(status) in str(notes[0])

    @pytest.mark.parametrize(
        ("status", "error"), [(429, transport.ThrottledError), (503, transport.UnreachableError)]
    )
    def test_lasting_trouble_ends(self, service: FakeService, status: int, error: type[CollateralError]) -> None:
        service.answers[TCB] = Reply(status=status)
        with pytest.raises(error):
            fetch(service)
        assert service.count("/tcb") == HASTY.attempts

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        "wait", ["3600", "9" * 500, format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)]
    )
    def test_a_long_retry_after_is_not_waited_for(self, service: FakeService, status: int, wait: str) -> None:
        service.answers[TCB] = Reply(status=status, headers={"Retry-After": wait})
        with pytest.raises((transport.ThrottledError, transport.UnreachableError)):
            fetch(service)
        assert service.count("/tcb") == 1

    @pytest.mark.parametrize(
        "wait", ["soon", "-1", "", format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)]
    )
    def test_a_retry_after_without_meaning_is_no_wait(self, service: FakeService, wait: str) -> None:
        service.first[TCB] = [Reply(status=429, headers={"Retry-After": wait})]
        assert fetch(service) == COLLATERAL

    def test_a_connection_that_breaks_is_tried_again(self, service: FakeService) -> None:
        whole = service.answers[TCB]
        service.first[TCB] = [replace(whole, headers={**whole.headers, "Content-Length": "1", "Bad Header": "\n"})]
        assert fetch(service) == COLLATERAL

    def test_nobody_there(self) -> None:
        with serve({}) as service:
            pass
        with pytest.raises(transport.UnreachableError, match="cannot be reached"):
            fetch(service)

    def test_a_read_that_takes_too_long(self, service: FakeService) -> None:
        service.change("/tcb", hold=True)
        with pytest.raises(transport.UnreachableError, match="does not answer"):
            fetch(service, patience=replace(HASTY, read=0.2, attempts=2))
        assert service.count("/tcb") == 2

    def test_all_together_takes_too_long(self, service: FakeService) -> None:
        service.change("/tcb", hold=True)
        with pytest.raises(transport.UnreachableError, match=r"within 0\.5 seconds"):
            fetch(service, patience=replace(HASTY, read=50, total=0.5))

    def test_too_long_an_answer_is_not_read_to_its_end(self, service: FakeService) -> None:
        service.change("/tcb", body=b" " * (MAX_JSON + 1), hold=True)
        with pytest.raises(transport.BadAnswerError, match="more than"):
            fetch(service)

    def test_a_compressed_answer_is_not_opened(self, service: FakeService) -> None:
        whole = service.answers[TCB]
        service.answers[TCB] = replace(
            whole, body=gzip.compress(whole.body), headers={**whole.headers, "Content-Encoding": "gzip"}
        )
        with pytest.raises(transport.BadAnswerError, match="encoding"):
            fetch(service)
        assert service.questions[0].headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_not_followed(self, service: FakeService, status: int) -> None:
        service.answers[TCB] = Reply(status=status, headers={"Location": f"{service.url}/elsewhere"})
        service.answers["/elsewhere"] = replies(COLLATERAL)[TCB]
        with pytest.raises(transport.BadAnswerError, match="redirects to"):
            fetch(service)
        assert service.count("/elsewhere") == 0


class TestWrongAnswers:
    @pytest.mark.parametrize(
        ("other", "number", "key"),
        [
            (make_collateral("TDX"), None, "id"),
            (make_collateral(fmspc=bytes(6)), None, "fmspc"),
            (make_collateral(number=16), 17, "tcbEvaluationDataNumber"),
        ],
        ids=["TEE", "FMSPC", "number"],
    )
    def test_tcb_info_of_something_else(
        self, service: FakeService, other: Collateral, number: int | None, key: str
    ) -> None:
        body = f'{{"tcbInfo":{other.tcb_info},"signature":"{"00" * 64}"}}'.encode()
        service.change("/tcb", body=body)
        with pytest.raises(transport.BadAnswerError, match=key):
            fetch(service, number=number)

    def test_identity_of_something_else(self, service: FakeService) -> None:
        other = make_collateral("TDX").qe_identity
        service.change("/qe/identity", body=f'{{"enclaveIdentity":{other},"signature":"{"00" * 64}"}}'.encode())
        with pytest.raises(transport.BadAnswerError, match="TD_QE"):
            fetch(service)

    @pytest.mark.parametrize("path", ["/tcb", "/qe/identity", "/pckcrl", ".der"])
    @pytest.mark.parametrize("body", [b"", b"{}", b"\xff\xff", b"<html>", b'{"tcbInfo":{},"signature":""}'])
    def test_malformed_bodies(self, service: FakeService, path: str, body: bytes) -> None:
        service.change(path, body=body)
        with pytest.raises(transport.BadAnswerError) as caught:
            fetch(service)
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize("path", ["/tcb", "/qe/identity", "/pckcrl"])
    @pytest.mark.parametrize("chain", [None, "", "not PEM", "%FF", "-----BEGIN%20CERTIFICATE-----" + "A" * MAX_CHAIN])
    def test_malformed_chains(self, service: FakeService, path: str, chain: str | None) -> None:
        headers = {
            name: chain
            for answer in service.answers
            if answer.endswith(path) and chain is not None
            for name in service.answers[answer].headers
        }
        service.change(path, headers=headers)
        with pytest.raises(transport.BadAnswerError):
            fetch(service)


class TestTls:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        return write_tls_files(tmp_path)

    def test_a_certificate_of_its_own_is_refused(self, files: tuple[Path, Path]) -> None:
        with serve(replies(COLLATERAL, "pccs v4"), tls=files[0]) as service:
            with pytest.raises(transport.UntrustedServiceError) as caught:
                fetch(service, "pccs v4")
            assert not service.questions
        assert "--ca-file" in str(caught.value.hint)

    def test_a_certificate_of_its_own_is_accepted_when_named(self, files: tuple[Path, Path]) -> None:
        with serve(replies(COLLATERAL, "pccs v4"), tls=files[0]) as service:
            assert fetch(service, "pccs v4", trust=Trust(ca_file=files[1])) == COLLATERAL

    def test_another_certificate_than_the_named_is_refused(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        _, other = write_tls_files(tmp_path / "other")
        with (
            serve(replies(COLLATERAL, "pccs v4"), tls=files[0]) as service,
            pytest.raises(transport.UntrustedServiceError),
        ):
            fetch(service, "pccs v4", trust=Trust(ca_file=other))

    def test_any_certificate_is_accepted_when_asked_for(self, files: tuple[Path, Path]) -> None:
        with serve(replies(COLLATERAL, "pccs v4"), tls=files[0]) as service:
            assert fetch(service, "pccs v4", trust=Trust(insecure=True)) == COLLATERAL

    def test_a_ca_file_that_is_none(self, service: FakeService, tmp_path: Path) -> None:
        (tmp_path / "empty.pem").write_text("")
        for path in (tmp_path / "absent.pem", tmp_path / "empty.pem", tmp_path):
            with pytest.raises(InputError, match="CA file"):
                fetch(service, trust=Trust(ca_file=path))
        with pytest.raises(InputError, match="exclude"):
            fetch(service, trust=Trust(ca_file=tmp_path, insecure=True))


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "", "localhost:8081", "ftp://host", "https://", "https://user:word@host", "https://host/?a=b",
            "https://host/#a", "http://[::1", "https://ho st/", "https://\udcff/", "file:///etc/passwd",
        ],
    )  # fmt: skip
    def test_what_cannot_be_an_address(self, url: str) -> None:
        for make in (pcs.pcs, pcs.pccs):
            with pytest.raises(InputError):
                make(url)

    def test_the_address_of_intels_configuration_file(self) -> None:
        for url in ("https://localhost:8081/sgx/certification/v3/", "https://localhost:8081/sgx/certification/v3"):
            assert pcs.pccs(url).api_version == 3
            assert pcs.pccs(url).url == "https://localhost:8081"
        assert pcs.pccs("https://host/behind/a/proxy/").url == "https://host/behind/a/proxy"
        with pytest.raises(InputError, match="ended"):
            pcs.pcs("https://api.trustedservices.intel.com/sgx/certification/v3/")

    def test_a_prefix_stays_in_the_path(self) -> None:
        answers = {f"/behind/a/proxy{path}": reply for path, reply in replies(COLLATERAL, "pccs v4").items()}
        with serve(answers) as service:
            source = pcs.pccs(f"{service.url}/behind/a/proxy/")
            assert (
                pcs.fetch_collateral(TeeType.SGX, FMSPC, PckCa.PROCESSOR, source=source, patience=HASTY) == COLLATERAL
            )

    def test_intel_is_the_default(self) -> None:
        assert pcs.pcs() == pcs.Service("pcs", "https://api.trustedservices.intel.com")

    def test_an_fmspc_has_six_bytes(self, service: FakeService) -> None:
        with pytest.raises(InputError, match="FMSPC"):
            fetch(service, fmspc=b"12345")
