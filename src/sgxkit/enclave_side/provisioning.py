"""Fetch a secret: the enclave shows its RA-TLS certificate, the server its ordinary one.

Two protocols inside the same kind of TLS connection: Gramine's, which has one secret without a name
(`gramine-ra-tls` secret provisioning, version 1), and plain HTTP/1.1, ``GET /v1/secrets/NAME``, which is what
`sgxkit secrets serve` offers beside it.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import tempfile
from pathlib import Path
from urllib.parse import quote as url_quote

from sgxkit.enclave_side.attestation import EnclaveSideError
from sgxkit.enclave_side.certificate import KeyAndCertificate, make_certificate

REQUEST = b"SECRET_PROVISION_RA_TLS_REQUEST_V1\0"
RESPONSE = b"SECRET_PROVISION_RA_TLS_RESPONSE_V1:\0"
MAX_SECRET_SIZE = 1 << 20
DEFAULT_PORT = 4433
_SECONDS = 30.0


def fetch_gramine_secret(
    servers: str,
    ca_file: str | os.PathLike[str],
    identity: KeyAndCertificate | None = None,
    seconds: float = _SECONDS,
) -> bytes:
    """Ask by Gramine's protocol the first server that can be reached, and return the secret.

    `servers` is what Gramine's SECRET_PROVISION_SERVERS is: ``host:port``, several with commas, semicolons or spaces
    between. The server's certificate must lead to one of `ca_file` and be for that host. `identity` is by default a
    new RA-TLS certificate of this enclave. Raises EnclaveSideError.
    """
    context = _context(ca_file, identity)
    unreachable = []
    for host, port in _addresses(servers):
        try:
            connection = socket.create_connection((host, port), timeout=seconds)
        except OSError as error:
            unreachable.append(f"{host}:{port}: {error}")
            continue
        try:
            with connection, context.wrap_socket(connection, server_hostname=host) as stream:
                stream.sendall(REQUEST)
                return _answer(stream)
        except OSError as error:
            raise _refused(host, port, error) from error
    raise EnclaveSideError(f"no server can be reached: {'; '.join(unreachable) or 'none was named'}")


def fetch_secret(
    name: str,
    server: str,
    ca_file: str | os.PathLike[str],
    identity: KeyAndCertificate | None = None,
    seconds: float = _SECONDS,
) -> bytes:
    """Ask ``host:port`` for the secret `name` by HTTP, and return it; parameters and errors as above."""
    context = _context(ca_file, identity)
    ((host, port),) = _addresses(server)
    connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    try:
        connection.request("GET", f"/v1/secrets/{url_quote(name, safe='')}")
        response = connection.getresponse()
        body = response.read(MAX_SECRET_SIZE + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _refused(host, port, error) from error
    finally:
        connection.close()
    if response.status != 200:
        raise EnclaveSideError(f"{host}:{port} answered {response.status}: {body[:500].decode('utf-8', 'replace')!r}")
    if len(body) > MAX_SECRET_SIZE:
        raise EnclaveSideError(f"{host}:{port} sent more than {MAX_SECRET_SIZE} bytes")
    return body


def _context(ca_file: str | os.PathLike[str], identity: KeyAndCertificate | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.fspath(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    identity = identity or make_certificate()
    # ssl reads keys from files only. The folder is 0700, and inside an enclave /tmp should be of type tmpfs.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "identity.pem")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)
    return context


def _addresses(servers: str) -> list[tuple[str, int]]:
    found = []
    for server in servers.replace(",", " ").replace(";", " ").split():
        host, colon, port = server.rpartition(":")
        if not colon:
            host, port = server, str(DEFAULT_PORT)
        if not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{server!r} is not host:port")
        found.append((host.strip("[]"), int(port)))
    return found


def _answer(stream: ssl.SSLSocket) -> bytes:
    header = _receive(stream, len(RESPONSE))
    if header != RESPONSE:
        raise EnclaveSideError("the server does not speak Gramine's secret provisioning")
    size = int.from_bytes(_receive(stream, 4), "big")
    if size > MAX_SECRET_SIZE:
        raise EnclaveSideError(f"the secret has {size} bytes, at most {MAX_SECRET_SIZE} are taken")
    return _receive(stream, size)


def _receive(stream: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise EnclaveSideError(
                "the server closed the connection: it did not accept this enclave, or has no secret"
            )
        data += piece
    return data


def _refused(host: str, port: int, error: Exception) -> EnclaveSideError:
    return EnclaveSideError(f"{host}:{port} did not answer: {error}")
