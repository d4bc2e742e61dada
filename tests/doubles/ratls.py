"""Enclaves with RA-TLS certificates on a lab's platform, right ones and wrong ones, and servers that they talk to."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sgxkit.dcap import Policy, Verifier
from sgxkit.dcap.errors import ExpiredError, PolicyError, UntrustedRootError
from sgxkit.dcap.sources import BundleSource
from sgxkit.dcap.trust import anchor_from_pem
from sgxkit.emulator.keys import SecsIdentity
from sgxkit.enclave_side import make_certificate
from sgxkit.enclave_side.certificate import KeyAndCertificate
from sgxkit.lab import publication
from sgxkit.lab.authority import Lab
from sgxkit.lab.quoting import SAMPLE_ENCLAVE, quote_user_data
from sgxkit.messages import Message
from sgxkit.verifier import NoQuoteError, PeerVerifier, UnboundQuoteError, client_context
from sgxkit.verifier.mutual_tls import server_context
from sgxkit.verifier.secret_release import Secrets
from sgxkit.verifier.secret_server import SecretServer

OURS = SAMPLE_ENCLAVE
POLICY = Policy(
    mrenclave=frozenset({OURS.mrenclave}), mrsigner=frozenset({OURS.mrsigner}), isvprodid=1, minimum_isvsvn=1
)
WRONG = (
    "other MRENCLAVE",
    "debug",
    "old SVN",
    "expired collateral",
    "lab root not trusted",
    "wrong public key hash",
    "replayed certificate",
    "no quote",
)
"""What can be wrong with a peer; `wrong_peer` makes each."""


def identity(lab: Lab, enclave: SecsIdentity = OURS, *, debug: bool = False) -> KeyAndCertificate:
    return make_certificate(
        hostnames=("localhost", "127.0.0.1"),
        quote=lambda data: quote_user_data(lab, data, enclave=enclave, debug=debug),
    )


def judge(lab: Lab, policy: Policy = POLICY) -> PeerVerifier:
    anchor = anchor_from_pem(lab.hierarchy.root.pem, "lab")
    return PeerVerifier(
        Verifier(policy, trust_anchor=anchor), BundleSource(publication.collateral(lab, datetime.now(UTC)))
    )


@contextmanager
def https(shown: KeyAndCertificate, tmp_path: Path) -> Iterator[int]:
    """A web server with that certificate; yields its port."""
    pem = tmp_path / "server.pem"
    pem.write_text(shown.private_key_pem + shown.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(port: int, peers: PeerVerifier) -> int:
    with httpx.Client(verify=client_context(peers), trust_env=False) as client:
        return client.get(f"https://127.0.0.1:{port}/").status_code


def wrong_peer(
    wrong: str, lab: Lab, policy: Policy, enclave: SecsIdentity
) -> tuple[KeyAndCertificate, PeerVerifier, type[Exception]]:
    """What a peer shows, who judges it, and with what it is refused: all as it should be but for one of `WRONG`."""
    shown, peers = identity(lab, enclave), judge(lab, policy)
    match wrong:
        case "other MRENCLAVE":
            return identity(lab, replace(enclave, mrenclave=bytes(32))), peers, PolicyError
        case "debug":
            return identity(lab, enclave, debug=True), peers, PolicyError
        case "old SVN":
            return identity(lab, replace(enclave, isvsvn=enclave.isvsvn - 1)), peers, PolicyError
        case "expired collateral":
            old = BundleSource(publication.collateral(lab, datetime.now(UTC) - timedelta(days=365)))
            return shown, replace(peers, source=old), ExpiredError
        case "lab root not trusted":
            return shown, replace(peers, verifier=Verifier(policy)), UntrustedRootError
        case "wrong public key hash":
            return _copied_quotes(lab, enclave), peers, UnboundQuoteError
        case "replayed certificate":
            return _replayed(lab, enclave), peers, httpx.ConnectError
        case "no quote":
            return _without_quote(), peers, NoQuoteError
    raise ValueError(wrong)


def _without_quote() -> KeyAndCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return KeyAndCertificate(private, made.public_bytes(serialization.Encoding.DER))


def _copied_quotes(lab: Lab, enclave: SecsIdentity) -> KeyAndCertificate:
    """A certificate for a key of one's own, with the quotes of somebody else's."""
    theirs: list[bytes] = []

    def remember(data: bytes) -> bytes:
        theirs.append(quote_user_data(lab, data, enclave=enclave))
        return theirs[-1]

    make_certificate(quote=remember)
    return make_certificate(quote=lambda _: theirs.pop(0))


def _replayed(lab: Lab, enclave: SecsIdentity) -> KeyAndCertificate:
    """Somebody else's certificate, with a private key that claims to belong to it and does not."""
    theirs, own = identity(lab, enclave), identity(lab, enclave)
    private = serialization.load_der_private_key(theirs.private_key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    mine = serialization.load_der_private_key(own.private_key, None)
    assert isinstance(mine, ec.EllipticCurvePrivateKey)
    scalar = private.private_numbers().private_value.to_bytes(32, "big")
    other = mine.private_numbers().private_value.to_bytes(32, "big")
    assert theirs.private_key.count(scalar) == 1
    return KeyAndCertificate(theirs.private_key.replace(scalar, other), theirs.certificate)


@dataclass(frozen=True)
class Served:
    """A server of secrets, and what a client needs."""

    address: str
    ca_file: Path
    said: list[str]


@contextmanager
def secrets_server(peers: PeerVerifier, tmp_path: Path, secrets: Secrets) -> Iterator[Served]:
    certificate, key = server_certificate(tmp_path)
    said: list[str] = []

    def note(message: Message) -> None:
        said.append(str(message))
        print(message)

    listener = socket.create_server(("127.0.0.1", 0))
    name = next(iter(secrets.values))
    with SecretServer(listener, server_context(certificate, key), peers, secrets, name, note):
        yield Served(f"127.0.0.1:{listener.getsockname()[1]}", certificate, said)


def server_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secrets")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "server.crt", folder / "server.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
