"""A lab's PCS: each question's answer, header and status, and questions that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.dcap.certificate import parse_certificate, split_pem
from sgxkit.dcap.chains import read_crl
from sgxkit.dcap.ecdsa import raw_signature_verifies
from sgxkit.dcap.pck import parse_pck_platform
from sgxkit.dcap.signed_json import split_signed_json
from sgxkit.lab.authority import Lab
from sgxkit.lab.pcs_api import Reply, answer
from sgxkit.lab.world import FIRST_NUMBER, World, new_world, revoke_pck, rotate_qe, tcb_recovery

NOW = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)
V4 = "/sgx/certification/v4"
FMSPC = "00606A001AB0"


def a_lab(*events: Callable[[World], World]) -> Lab:
    world = new_world("test", NOW)
    for event in events:
        world = event(world)
    return Lab(bytes(32), world)


def recovery(world: World) -> World:
    return tcb_recovery(world, NOW)


def ask(target: str, lab: Lab | None = None) -> Reply:
    return answer(lab or a_lab(), target, NOW)


@pytest.mark.parametrize(
    ("target", "member", "header"),
    [
        (f"{V4}/tcb?fmspc={FMSPC}", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"{V4}/tcb?fmspc={FMSPC.lower()}&update=early", "tcbInfo", "TCB-Info-Issuer-Chain"),
        (f"/sgx/certification/v3/tcb?fmspc={FMSPC}", "tcbInfo", "SGX-TCB-Info-Issuer-Chain"),
        (f"{V4}/qe/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        (f"{V4}/qve/identity?update=standard", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        ("/sgx/certification/v3/qe/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        ("/tdx/certification/v4/qe/identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"),
        (f"{V4}/tcbevaluationdatanumbers", "tcbEvaluationDataNumbers", "TCB-Evaluation-Data-Numbers-Issuer-Chain"),
    ],
)
def test_signed_documents_are_signed_by_the_chain_in_their_header(target: str, member: str, header: str) -> None:
    reply = ask(target)
    assert reply.status == 200
    text, signature = split_signed_json(reply.body.decode(), member)
    assert " " not in text.split('"tcbLevels"', maxsplit=1)[0]
    signer, root = (parse_certificate(one) for one in split_pem(unquote(reply.headers[header]), header))
    assert raw_signature_verifies(signer.public_key, signature, text.encode())
    assert (signer.common_name, root.common_name) == ("Intel SGX TCB Signing", "Intel SGX Root CA")


def test_identities_are_of_whom_they_are_asked_for() -> None:
    for path, identity in (
        (f"{V4}/qe/identity", "QE"),
        (f"{V4}/qve/identity", "QVE"),
        (f"{V4}/qae/identity", "QAE"),
        ("/tdx/certification/v4/qe/identity", "TD_QE"),
    ):
        assert json.loads(ask(path).body)["enclaveIdentity"]["id"] == identity


def test_tcb_info_of_version_3_of_the_api_is_version_2() -> None:
    document = json.loads(ask(f"/sgx/certification/v3/tcb?fmspc={FMSPC}").body)["tcbInfo"]
    assert document["version"] == 2
    assert "id" not in document
    assert document["tcbLevels"][0]["tcb"]["sgxtcbcomp01svn"] == 10


@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_revocation_lists_come_in_pem_and_der(ca: str) -> None:
    lab = a_lab(lambda world: revoke_pck(world, NOW))
    der, pem = (ask(f"{V4}/pckcrl?ca={ca}{end}", lab) for end in ("&encoding=der", ""))
    assert x509.load_pem_x509_crl(pem.body) == x509.load_der_x509_crl(der.body)
    issuer, _ = split_pem(unquote(der.headers["SGX-PCK-CRL-Issuer-Chain"]), "chain")
    crl = read_crl(der.body, "PCK CRL", parse_certificate(issuer))
    assert crl.revokes(lab.pck(0).certificate.serial_number) is (ca == "platform")


def test_the_root_list_is_der_beside_a_pcs_and_hexadecimal_from_a_pccs() -> None:
    der, hexadecimal = ask("/IntelSGXRootCA.der"), ask(f"{V4}/rootcacrl")
    assert bytes.fromhex(hexadecimal.body.decode()) == der.body
    root = parse_certificate(a_lab().hierarchy.root.der)
    assert not read_crl(der.body, "root CA CRL", root).revokes(1)


def certificate_query(lab: Lab, generation: int, **more: str) -> str:
    query = {
        "encrypted_ppid": lab.encrypted_ppid.hex(),
        "cpusvn": lab.cpusvn(generation).hex(),
        "pcesvn": "0d00",
        "pceid": "0000",
    } | more
    return "&".join(f"{name}={value}" for name, value in query.items() if value)


def test_the_best_certificate_for_a_tcb_is_given() -> None:
    lab = a_lab(recovery, recovery)
    for generation in range(-2, 3):
        reply = ask(f"{V4}/pckcert?{certificate_query(lab, generation)}", lab)
        assert reply.status == 200
        assert reply.headers["SGX-TCBm"] == lab.tcbm(generation).hex().upper()
        assert (reply.headers["SGX-FMSPC"], reply.headers["SGX-PCK-Certificate-CA-Type"]) == (FMSPC, "platform")
        (leaf,) = split_pem(reply.body.decode(), "leaf")
        assert parse_pck_platform(parse_certificate(leaf)).cpusvn == lab.cpusvn(generation)
    beyond = ask(f"{V4}/pckcert?{certificate_query(lab, 0, cpusvn='ff' * 16)}", lab)
    assert beyond.headers["SGX-TCBm"] == lab.tcbm(2).hex().upper()
    by_qe_id = certificate_query(lab, 0, encrypted_ppid="", qeid=lab.qe_id.hex())
    assert ask(f"{V4}/pckcert?{by_qe_id}", lab).status == 200
    listed = json.loads(ask(f"{V4}/pckcerts?{certificate_query(lab, 0, cpusvn='', pcesvn='')}", lab).body)
    assert [one["tcbm"] for one in listed] == [lab.tcbm(one).hex().upper() for one in range(2, -3, -1)]
    assert unquote(listed[0]["cert"]) == lab.pck(2).pem


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"encrypted_ppid": "00" * 384}, 404),
        ({"pceid": "0100"}, 404),
        ({"cpusvn": "00" * 16}, 404),
        ({"pcesvn": "0c00"}, 404),
        ({"qeid": "00"}, 404),
        ({"encrypted_ppid": "00"}, 400),
        ({"cpusvn": "xx"}, 400),
        ({"pceid": ""}, 400),
    ],
)
def test_other_platforms_have_no_certificate(more: dict[str, str], status: int) -> None:
    assert ask(f"{V4}/pckcert?{certificate_query(a_lab(), 0, **more)}").status == status


def test_fmspcs_are_listed_by_kind() -> None:
    assert json.loads(ask(f"{V4}/fmspcs").body) == [{"fmspc": FMSPC, "platform": "E5"}]
    assert json.loads(ask(f"{V4}/fmspcs?platform=client").body) == []


def test_numbers_can_be_asked_for_until_they_are_retired() -> None:
    lab = a_lab(*[recovery] * 5, lambda world: rotate_qe(world, NOW))
    newest = FIRST_NUMBER + 6
    document = json.loads(ask(f"{V4}/tcbevaluationdatanumbers", lab).body)["tcbEvaluationDataNumbers"]
    offered = [one["tcbEvaluationDataNumber"] for one in document["tcbEvalNumbers"]]
    assert offered == [newest, newest - 1, newest - 2, newest - 3]
    for number in range(FIRST_NUMBER - 1, newest + 2):
        wanted = 200 if number in offered else 410 if FIRST_NUMBER <= number < newest else 404
        for target in (f"{V4}/tcb?fmspc={FMSPC}&", f"{V4}/qe/identity?"):
            reply = ask(f"{target}tcbEvaluationDataNumber={number}", lab)
            assert reply.status == wanted
            if wanted == 200:
                assert f'"tcbEvaluationDataNumber":{number},' in reply.body.decode()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("/sgx/certification/v5/tcb", 404),
        ("/sgx/certification/v3/fmspcs", 404),
        ("/tdx/certification/v4/pckcrl?ca=platform", 404),
        ("/sgx/certification/v4/tcb/../tcb", 404),
        (f"{V4}/tcb", 400),
        (f"{V4}/tcb?fmspc=00", 400),
        (f"{V4}/tcb?fmspc=00606A000000", 404),
        (f"/tdx/certification/v4/tcb?fmspc={FMSPC}", 404),
        (f"{V4}/tcb?fmspc={FMSPC}&fmspc={FMSPC}", 400),
        (f"{V4}/tcb?fmspc={FMSPC}&update=late", 400),
        (f"{V4}/tcb?fmspc={FMSPC}&update=early&tcbEvaluationDataNumber=20", 400),
        (f"{V4}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=x", 400),
        (f"{V4}/tcb?{'&'.join(f'a{n}=1' for n in range(40))}", 400),
        (f"{V4}/tcb?fmspc", 400),
        (f"{V4}/pckcrl", 400),
        (f"{V4}/pckcrl?ca=other", 400),
        (f"{V4}/pckcrl?ca=platform&encoding=hex", 400),
        (f"{V4}/fmspcs?platform=E7", 400),
    ],
)
def test_wrong_questions_have_their_status(target: str, status: int) -> None:
    reply = ask(target)
    assert reply.status == status
    assert reply.headers["Error-Code"] == str(status)
    assert reply.body == b""


@given(st.text(max_size=80), st.sampled_from(["", f"{V4}/", f"{V4}/tcb?", f"{V4}/pckcert?", f"{V4}/pckcrl?ca="]))
def test_any_question_has_an_answer(text: str, beginning: str) -> None:
    assert ask(beginning + text).status in (200, 400, 404, 410)
