"""A double of Intel for tests: collateral made on the spot, and a server that plays PCS and PCCS.

Nothing of it is Intel's: keys are made anew in each run, so what it signs verifies under no real root.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from doubles.platform import Authority, certify, crl
from sgxkit.dcap.collateral import Collateral

FMSPC = bytes.fromhex("00906ED50000")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=30)


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def authorities() -> dict[str, Authority]:
    root = certify("Intel SGX Root CA", None, ca=True)
    return {
        "root": root,
        "platform": certify("Intel SGX PCK Platform CA", root, ca=True),
        "processor": certify("Intel SGX PCK Processor CA", root, ca=True),
        "tcb": certify("Intel SGX TCB Signing", root, ca=False),
    }


@cache
def revoked_platforms() -> tuple[Authority, ...]:
    return tuple(certify("Intel SGX PCK Certificate", authorities()["processor"]) for _ in range(3))


def make_collateral(
    tee: Literal["SGX", "TDX"] = "SGX",
    *,
    fmspc: bytes = FMSPC,
    ca: Literal["platform", "processor"] = "processor",
    version: Literal[2, 3] = 3,
    number: int = 17,
    begin: datetime = BEGIN,
    end: datetime = END,
    crl_end: datetime = END,
    tcb_signer: Authority | None = None,
) -> Collateral:
    """Make a complete set, each piece in force from `begin` to `end` (CRLs to `crl_end`)."""
    made = authorities()
    signer = tcb_signer or made["tcb"]
    pck_ca = made[ca]
    svns = [20, 20, 2, 4, 1, 128, *[0] * 10]
    if version == 2:
        tcb: dict[str, object] = {f"sgxtcbcomp{i:02}svn": svn for i, svn in enumerate(svns, 1)}
    else:
        tcb = {"sgxtcbcomponents": [{"svn": svn} for svn in svns]}
        if tee == "TDX":
            tcb["tdxtcbcomponents"] = [{"svn": 5}] * 2 + [{"svn": 0}] * 14
    level = {"tcbDate": _time(begin), "tcbStatus": "UpToDate"}
    info = {
        **({"id": tee} if version == 3 else {}),
        "version": version,
        "issueDate": _time(begin),
        "nextUpdate": _time(end),
        "fmspc": fmspc.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": number,
        "tcbLevels": [
            {"tcb": {**tcb, "pcesvn": 13}, **level},
            {
                "tcb": {**tcb, "pcesvn": 5},
                **level,
                "tcbStatus": "OutOfDate",
                "advisoryIDs": ["INTEL-SA-00334", "INTEL-SA-00615"],
            },
        ],
    }
    identity = {
        "id": "TD_QE" if tee == "TDX" else "QE",
        "version": 2,
        "issueDate": _time(begin),
        "nextUpdate": _time(end),
        "tcbEvaluationDataNumber": number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": "8C" * 32,
        "isvprodid": 1,
        "tcbLevels": [{"tcb": {"isvsvn": 8}, **level}],
    }
    tcb_info, qe_identity = (json.dumps(document, separators=(",", ":")) for document in (info, identity))
    chain = signer.pem + made["root"].pem
    return Collateral(
        pck_crl_issuer_chain=pck_ca.pem + made["root"].pem,
        root_ca_crl=crl(made["root"], begin=begin, end=crl_end),
        pck_crl=crl(pck_ca, revoked_platforms(), begin=begin, end=crl_end),
        tcb_info_issuer_chain=chain,
        tcb_info=tcb_info,
        tcb_info_signature=signer.sign(tcb_info.encode()),
        qe_identity_issuer_chain=chain,
        qe_identity=qe_identity,
        qe_identity_signature=signer.sign(qe_identity.encode()),
    )


@dataclass(frozen=True)
class Reply:
    """What the server answers; `hold` makes it wait for the end of the test in the middle of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False


Flavour = Literal["pcs", "pccs v3", "pccs v4"]


def replies(collateral: Collateral, flavour: Flavour = "pcs") -> dict[str, Reply]:
    """Return what a service of this flavour answers, by path: what attestation.md calls its differences."""
    document = json.loads(collateral.tcb_info)
    tee = "tdx" if document.get("id") == "TDX" else "sgx"
    version = "v3" if flavour == "pccs v3" else "v4"
    tcb_header = "SGX-TCB-Info-Issuer-Chain" if flavour == "pccs v3" else "TCB-Info-Issuer-Chain"
    pcs = flavour == "pcs"
    numbers = json.dumps(
        {
            "id": tee.upper(),
            "version": 1,
            "issueDate": _time(BEGIN),
            "nextUpdate": _time(END),
            "tcbEvalNumbers": [
                {"tcbEvaluationDataNumber": 18, "tcbRecoveryEventDate": _time(BEGIN), "tcbDate": _time(BEGIN)},
                {"tcbEvaluationDataNumber": 17, "tcbRecoveryEventDate": _time(BEGIN), "tcbDate": _time(BEGIN)},
            ],
        },
        separators=(",", ":"),
    )
    served = {
        f"/sgx/certification/{version}/pckcrl": Reply(
            collateral.pck_crl if pcs else collateral.pck_crl.hex().encode(),
            headers={"SGX-PCK-CRL-Issuer-Chain": quote(collateral.pck_crl_issuer_chain, safe="")},
        ),
        f"/{tee}/certification/{version}/tcb": Reply(
            f'{{"tcbInfo":{collateral.tcb_info},"signature":"{collateral.tcb_info_signature.hex()}"}}'.encode(),
            headers={tcb_header: quote(collateral.tcb_info_issuer_chain, safe="")},
        ),
        f"/{tee}/certification/{version}/qe/identity": Reply(
            (
                f'{{"enclaveIdentity":{collateral.qe_identity},'
                f'"signature":"{collateral.qe_identity_signature.hex()}"}}'
            ).encode(),
            headers={"SGX-Enclave-Identity-Issuer-Chain": quote(collateral.qe_identity_issuer_chain, safe="")},
        ),
    }
    if pcs:
        served["/IntelSGXRootCA.der"] = Reply(collateral.root_ca_crl)
        served[f"/{tee}/certification/v4/tcbevaluationdatanumbers"] = Reply(
            f'{{"tcbEvaluationDataNumbers":{numbers},"signature":"{"5a" * 64}"}}'.encode(),
            headers={"TCB-Evaluation-Data-Numbers-Issuer-Chain": quote(collateral.tcb_info_issuer_chain, safe="")},
        )
        served["/sgx/certification/v4/fmspcs"] = Reply(
            b'[{"fmspc":"00A06D080000","platform":"E5"},{"fmspc":"00906EA50000","platform":"client"}]'
        )
    else:
        served[f"/sgx/certification/{version}/rootcacrl"] = Reply(
            collateral.root_ca_crl.hex().encode(), headers={"Content-Type": "application/pkix-crl"}
        )
    return served


@dataclass(frozen=True)
class Question:
    """What the server was asked."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass
class FakeService:
    """The running server: what it answers may be changed, what it was asked is kept.

    `first` holds, by path, replies to be given once each before the usual one.
    """

    url: str
    answers: dict[str, Reply]
    first: dict[str, list[Reply]] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply_to(self, question: Question) -> Reply:
        with self.lock:
            self.questions.append(question)
            if waiting := self.first.get(question.path):
                return waiting.pop(0)
        return self.answers.get(question.path, Reply(status=404))

    def count(self, ending: str) -> int:
        return sum(question.path.endswith(ending) for question in self.questions)

    def counts(self) -> Counter[str]:
        return Counter(question.path for question in self.questions)

    def change(self, ending: str, **changes: object) -> None:
        for path, reply in self.answers.items():
            if path.endswith(ending):
                self.answers[path] = replace(reply, **changes)  # type: ignore[arg-type]


@contextmanager
def serve(answers: dict[str, Reply], *, tls: Path | None = None) -> Iterator[FakeService]:
    """Serve on a free port of 127.0.0.1, over TLS where `tls` is a PEM file of key and certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = service.reply_to(Question(parts.path, query, headers))
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + reply.hold))
                self.end_headers()
                self.wfile.write(reply.body)
                if reply.hold:
                    self.wfile.flush()
                    service.released.wait(60)
                    self.close_connection = True
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had enough, which some tests are about

        def log_message(self, *args: object) -> None:
            del args  # the tests ask what was asked, nobody reads a log

    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, client_address: Any) -> None:
            request.settimeout(60)
            if context is None:
                super().finish_request(request, client_address)
                return
            # In the connection's own thread: a client that says nothing must not keep the others out.
            with context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)

        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address  # a client that refuses the certificate, which some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    service = FakeService(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}", answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def write_tls_files(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1; returns the server's file, with its key, and the CA file."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a PCCS of its own")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(secret + pem)
    (folder / "ca.pem").write_bytes(pem)
    return folder / "server.pem", folder / "ca.pem"
