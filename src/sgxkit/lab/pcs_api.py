"""What a lab's PCS answers: one question in, one reply out, nothing else touched.

Intel SGX and TDX PCS API v4 and v3, with what a PCCS adds (rootcacrl, qeid), so that clients of either are served
(docs/reference/attestation.md 6 and 7). Statuses: 400 for a question that is none, 404 for what is not known, 410 for
an evaluation data number that is retired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qsl, quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.identity import EnclaveIdentityId
from sgxkit.lab.authority import PCEID, PCESVN, Lab
from sgxkit.lab.publication import enclave_identity, evaluation_numbers, numbers_on_offer, tcb_info
from sgxkit.lab.world import FIRST_NUMBER

ROOT_CRL_PATH = "/IntelSGXRootCA.der"
_OLDEST_GENERATION = -2
_PLATFORMS = ("all", "client", "E3", "E5")
_PATH = re.compile(r"/(?P<tee>sgx|tdx)/certification/v(?P<version>3|4)/(?P<resource>[a-z/]{1,40})")
_JSON, _PEM, _CRL = "application/json", "application/x-pem-file", "application/pkix-crl"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class _RefusedError(Exception):
    """A question that is answered with an error."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.reply = Reply(status, headers={"Error-Code": str(status), "Error-Message": problem})


@dataclass(frozen=True, slots=True)
class _Question:
    lab: Lab
    clock: datetime
    tee: str
    version: int
    query: Mapping[str, str]

    def need(self, name: str, pattern: str) -> str:
        value = self.query.get(name, "")
        if not re.fullmatch(pattern, value):
            raise _RefusedError(400, f"Invalid request parameter: {name}")
        return value

    def number(self) -> int:
        """Which evaluation data number is asked for, by itself or as an update channel."""
        update = self.query.get("update")
        if "tcbEvaluationDataNumber" not in self.query:
            if update not in (None, "early", "standard"):
                raise _RefusedError(400, "Invalid request parameter: update")
            return self.lab.world.number(early=update == "early")
        number = int(self.need("tcbEvaluationDataNumber", r"[0-9]{1,9}"))
        if update is not None:
            raise _RefusedError(400, "update and tcbEvaluationDataNumber exclude each other")
        if number in numbers_on_offer(self.lab.world):
            return number
        if FIRST_NUMBER <= number < self.lab.world.number(early=True):
            raise _RefusedError(410, "The TCB evaluation data number is no longer available")
        raise _RefusedError(404, "No such TCB evaluation data number")


def answer(lab: Lab, target: str, clock: datetime) -> Reply:
    """Answer GET `target` (path and query) when the computer's clock shows `clock`."""
    path, _, query = target.partition("?")
    if path == ROOT_CRL_PATH:
        return Reply(200, lab.root_crl(clock), _CRL)
    found = _PATH.fullmatch(path)
    resource = None if found is None else found["resource"]
    resources = _SGX if found is not None and found["tee"] == "sgx" else _TDX
    if found is None or resource not in resources or (found["version"] == "3" and resource in _ONLY_V4):
        return Reply(404, headers={"Error-Code": "404", "Error-Message": "Not found"})
    try:
        question = _Question(lab, clock, found["tee"], int(found["version"]), _read_query(query))
        return resources[found["resource"]](question)
    except _RefusedError as error:
        return error.reply


def _read_query(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=16)
    except ValueError:
        raise _RefusedError(400, "Invalid query") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise _RefusedError(400, "A parameter comes twice")
    return query


def _chain(name: str, pem: str) -> dict[str, str]:
    """PEM has line ends, so that it stands percent-encoded in a header."""
    return {name: quote(pem, safe="")}


def _tcb(question: _Question) -> Reply:
    lab = question.lab
    fmspc = question.need("fmspc", r"[0-9A-Fa-f]{12}")
    number = question.number()
    if question.tee == "tdx" or bytes.fromhex(fmspc) != lab.profile.fmspc:
        raise _RefusedError(404, "No TCB info for this FMSPC")
    name = "TCB-Info-Issuer-Chain" if question.version == 4 else "SGX-TCB-Info-Issuer-Chain"
    text = tcb_info(lab, number, question.clock, version=3 if question.version == 4 else 2)
    return Reply(200, text.encode(), headers=_chain(name, lab.hierarchy.tcb_signing_chain))


def _identity(question: _Question, which: EnclaveIdentityId) -> Reply:
    if which is EnclaveIdentityId.QE and question.tee == "tdx":
        which = EnclaveIdentityId.TD_QE
    text = enclave_identity(question.lab, which, question.number(), question.clock)
    chain = _chain("SGX-Enclave-Identity-Issuer-Chain", question.lab.hierarchy.tcb_signing_chain)
    return Reply(200, text.encode(), headers=chain)


def _pck_crl(question: _Question) -> Reply:
    ca = PckCa(question.need("ca", "processor|platform"))
    encoding = question.query.get("encoding", "pem")
    if encoding not in ("pem", "der"):
        raise _RefusedError(400, "Invalid request parameter: encoding")
    encoded = question.lab.pck_crl(ca, question.clock)
    if encoding == "pem":
        encoded = x509.load_der_x509_crl(encoded).public_bytes(Encoding.PEM)
    chain = _chain("SGX-PCK-CRL-Issuer-Chain", question.lab.hierarchy.pck_ca_chain(ca))
    return Reply(200, encoded, _PEM if encoding == "pem" else _CRL, chain)


def _root_crl(question: _Question) -> Reply:
    """As a PCCS has it: hexadecimal digits under the content type of DER."""
    return Reply(200, question.lab.root_crl(question.clock).hex().encode(), _CRL)


def _fmspcs(question: _Question) -> Reply:
    profile = question.lab.profile
    platform = question.query.get("platform", "all")
    if platform not in _PLATFORMS:
        raise _RefusedError(400, "Invalid request parameter: platform")
    listed = [{"fmspc": profile.fmspc.hex().upper(), "platform": profile.kind}]
    return _as_json(listed if platform in ("all", profile.kind) else [])


def _numbers(question: _Question) -> Reply:
    chain = _chain("TCB-Evaluation-Data-Numbers-Issuer-Chain", question.lab.hierarchy.tcb_signing_chain)
    return Reply(200, evaluation_numbers(question.lab, question.clock).encode(), headers=chain)


def _pck_certificate(question: _Question) -> Reply:
    lab = question.lab
    cpusvn = bytes.fromhex(question.need("cpusvn", r"[0-9A-Fa-f]{32}"))
    pcesvn = int.from_bytes(bytes.fromhex(question.need("pcesvn", r"[0-9A-Fa-f]{4}")), "little")
    _check_platform(question)
    for generation in reversed(_generations(lab)):
        reached = all(has >= asked for has, asked in zip(cpusvn, lab.cpusvn(generation), strict=True))
        if reached and pcesvn >= PCESVN:
            headers = _certificate_headers(lab) | {"SGX-TCBm": lab.tcbm(generation).hex().upper()}
            return Reply(200, lab.pck(generation).pem.encode(), _PEM, headers)
    raise _RefusedError(404, "No PCK certificate for this TCB")


def _pck_certificates(question: _Question) -> Reply:
    _check_platform(question)
    lab = question.lab
    listed = [
        {
            "tcb": {f"sgxtcbcomp{number:02}svn": svn for number, svn in enumerate(lab.cpusvn(generation), 1)}
            | {"pcesvn": PCESVN},
            "tcbm": lab.tcbm(generation).hex().upper(),
            "cert": quote(lab.pck(generation).pem, safe=""),
        }
        for generation in reversed(_generations(lab))
    ]
    reply = _as_json(listed)
    return Reply(200, reply.body, reply.content_type, _certificate_headers(lab))


def _generations(lab: Lab) -> range:
    """The generations of microcode that there are certificates for."""
    world = lab.world
    newest = len(world.platform_events(world.number(early=True)))
    return range(_OLDEST_GENERATION, newest + 1)


def _check_platform(question: _Question) -> None:
    """Whether it is this lab's machine: by QE ID, as a PCCS is asked, or by encrypted PPID."""
    lab = question.lab
    pceid = question.need("pceid", r"[0-9A-Fa-f]{4}")
    if "qeid" in question.query:
        known = question.need("qeid", r"[0-9A-Fa-f]{1,260}").lower() == lab.qe_id.hex()
    else:
        known = question.need("encrypted_ppid", r"[0-9A-Fa-f]{768}").lower() == lab.encrypted_ppid.hex()
    if not known or bytes.fromhex(pceid) != PCEID:
        raise _RefusedError(404, "No such platform")


def _certificate_headers(lab: Lab) -> dict[str, str]:
    ca = lab.profile.ca
    return _chain("SGX-PCK-Certificate-Issuer-Chain", lab.hierarchy.pck_ca_chain(ca)) | {
        "SGX-FMSPC": lab.profile.fmspc.hex().upper(),
        "SGX-PCK-Certificate-CA-Type": str(ca),
    }


def _as_json(document: object) -> Reply:
    return Reply(200, json.dumps(document, separators=(",", ":")).encode())


_TDX: Mapping[str, Callable[[_Question], Reply]] = {
    "tcb": _tcb,
    "qe/identity": lambda question: _identity(question, EnclaveIdentityId.QE),
}
_SGX: Mapping[str, Callable[[_Question], Reply]] = {
    **_TDX,
    "qve/identity": lambda question: _identity(question, EnclaveIdentityId.QVE),
    "qae/identity": lambda question: _identity(question, EnclaveIdentityId.QAE),
    "pckcert": _pck_certificate,
    "pckcerts": _pck_certificates,
    "pckcrl": _pck_crl,
    "rootcacrl": _root_crl,
    "fmspcs": _fmspcs,
    "tcbevaluationdatanumbers": _numbers,
}
_ONLY_V4 = frozenset({"fmspcs", "tcbevaluationdatanumbers", "qae/identity"})
