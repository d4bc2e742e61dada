"""A lab at work: its PCS over HTTP and its AESM daemon, both of the world as it is at that moment.

An event (`sgxkit lab tcb-recovery`, ...) is seen by the next question; nothing has to be started again.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from sgxkit.aesm import server as aesm
from sgxkit.aesm.address import MAX_SOCKET_PATH, Address, TcpAddress, UnixAddress, has_unix_sockets
from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.errors import SgxkitError
from sgxkit.lab import web
from sgxkit.lab.authority import Lab, organization
from sgxkit.lab.certificates import derive_key
from sgxkit.lab.pcs_api import ROOT_CRL_PATH, Reply, answer
from sgxkit.lab.quoting import QuotingEnclave
from sgxkit.lab.store import ROOT, WORLD, lab_folder, load_lab, write_private

STATUS_PATH = "/lab"
AESM_SOCKET = "aesm.socket"
TLS_CERTIFICATE = "tls.pem"


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a lab is served."""

    name: str
    pcs: str
    aesm: Address
    root_certificate: Path
    tls_certificate: Path | None

    @property
    def root_crl(self) -> str:
        return self.pcs + ROOT_CRL_PATH


class LiveLab:
    """A lab as it is on disk now; read again only when its state was replaced."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self._name = name
        self._folder = folder
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._lab = load_lab(name, folder=folder)

    def now(self) -> Lab:
        """Raises InputError once the lab was removed."""
        with self._lock:
            try:
                status = (lab_folder(self._name, folder=self._folder) / WORLD).stat()
                stamp = (status.st_mtime_ns, status.st_ino)
            except OSError:
                stamp = None
            if stamp is None or stamp != self._stamp:
                self._lab = load_lab(self._name, folder=self._folder)
                self._stamp = stamp
            return self._lab


class LiveQuoting:
    """The quoting enclave of a lab that may change: `sgxkit.aesm.server.QuotingService`."""

    def __init__(self, live: LiveLab) -> None:
        self._live = live
        self._enclave = QuotingEnclave(live.now())

    def _now(self) -> QuotingEnclave:
        try:
            lab = self._live.now()
        except SgxkitError as error:
            raise AesmError(AesmCode.SERVICE_STOPPED) from error
        if self._enclave.lab is not lab:
            # An attestation key survives what leaves it alone.
            kept = self._enclave.lab.world.key_generation == lab.world.key_generation
            self._enclave = QuotingEnclave(lab, initialised=kept and self._enclave.initialised)
        return self._enclave

    def key_ids(self) -> tuple[bytes, ...]:
        return self._now().key_ids()

    def target_info(self, key_id: bytes) -> bytes:
        return self._now().target_info(key_id)

    def public_key_id(self, key_id: bytes, *, make: bool) -> bytes:
        return self._now().public_key_id(key_id, make=make)

    def quote_size(self, key_id: bytes) -> int:
        return self._now().quote_size(key_id)

    def quote(self, report: bytes, key_id: bytes, qe_report_info: bytes | None) -> tuple[bytes, bytes | None]:
        return self._now().quote(report, key_id, qe_report_info)


@contextmanager
def serving(
    name: str, *, port: int = 0, address: Address | None = None, tls: bool = False, folder: Path | None = None
) -> Iterator[Serving]:
    """Serve a lab until the block ends; raises InputError where it cannot.

    The PCS is at `port` of 127.0.0.1, any free one if 0, the AESM daemon at `address`, by default a socket in the
    lab's folder.
    """
    live = LiveLab(name, folder)
    home = lab_folder(name, folder=folder)
    context = _tls_context(live.now(), home) if tls else None

    def respond(target: str) -> Reply:
        if target == STATUS_PATH:
            status = {"lab": name, "emulated": True, "pid": os.getpid()}
            return Reply(200, json.dumps(status).encode())
        return answer(live.now(), target, datetime.now(UTC))

    with (
        web.serving(respond, port, name, tls=context) as url,
        aesm.serving(LiveQuoting(live), address or default_address(home)) as listening,
    ):
        yield Serving(name, url, listening, home / ROOT, home / TLS_CERTIFICATE if tls else None)


def default_address(home: Path) -> Address:
    """A socket in the lab's folder, or a TCP port where that cannot be."""
    path = home / AESM_SOCKET
    if has_unix_sockets() and len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return UnixAddress(path)
    return TcpAddress(0)


def _tls_context(lab: Lab, home: Path) -> ssl.SSLContext:
    """Make the lab's TLS certificate, for this computer only, and leave it in its folder for clients to trust."""
    key = derive_key(lab.seed, "TLS key")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, organization(lab.world.name))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL reads keys from files only.
    temporary = home / f".tls.{secrets.token_hex(8)}"
    try:
        write_private(temporary, secret.decode() + pem.decode())
        context.load_cert_chain(temporary)
        temporary.unlink()
        write_private(temporary, pem.decode())
        temporary.replace(home / TLS_CERTIFICATE)
    finally:
        temporary.unlink(missing_ok=True)
    return context
