"""A TLS server with an RA-TLS certificate: it says who it is, or stands before a service without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sgxkit.enclave_side.certificate import KeyAndCertificate
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

MAX_CLIENTS = 256
RENEWAL_SECONDS = 24 * 3600
"""A new key and new quotes each day: a quote says what the platform was when it was made."""

_HANDSHAKE_SECONDS = 15.0
_IDLE_SECONDS = 300.0
_PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A host, by name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server_address(text: str, *, default_port: int | None = None) -> ServerAddress:
    """Read ``host:port`` or ``[address]:port``; raises InputError."""
    host, colon, port = text.rpartition(":")
    if (not colon or text.endswith("]")) and default_port is not None:
        host, port = text, str(default_port)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or not port.isascii() or not port.isdigit() or not 0 <= int(port) < 1 << 16:
        raise InputError(msg("{text} is not host:port", text=text))
    return ServerAddress(bare, int(port))


async def serve_attested(
    listen: ServerAddress,
    make: Callable[[], KeyAndCertificate],
    *,
    forward: ServerAddress | None,
    started: Callable[[ServerAddress, KeyAndCertificate], None],
    note: Callable[[Message], None],
) -> None:
    """Serve until cancelled; `started` is told the address and the certificate once connections are taken.

    `make` gives a new key and certificate, at the start and each day. With `forward` what comes is passed on as
    it is, without TLS; without, each request is answered with the fingerprint of the certificate, as JSON over HTTP.

    Raises InputError where the address cannot be had.
    """
    identity = make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, identity)
    shown = identity
    clients = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        if clients >= MAX_CLIENTS:
            writer.close()
            return
        clients += 1
        try:
            # What ends a connection ends that connection only.
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError, ValueError):
                if forward is None:
                    await asyncio.wait_for(_introduce(reader, writer, shown), _HANDSHAKE_SECONDS)
                else:
                    await _pass_on(reader, writer, forward, note)
        finally:
            clients -= 1
            writer.close()

    try:
        server = await asyncio.start_server(
            serve, listen.host, listen.port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_SECONDS
        )
    except OSError as error:
        raise InputError(
            msg("{address} cannot be listened at: {reason}", address=str(listen), reason=error.strerror or error)
        ) from error
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        started(ServerAddress(host, port), identity)
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            shown = await asyncio.to_thread(make)
            _load(context, shown)


def _load(context: ssl.SSLContext, identity: KeyAndCertificate) -> None:
    # ssl reads keys from files only.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "identity.pem")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)


async def _introduce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: KeyAndCertificate) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = json.dumps({"certificate_sha256": sha256(identity.certificate).hexdigest()}).encode() + b"\n"
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    await writer.drain()


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    forward: ServerAddress,
    note: Callable[[Message], None],
) -> None:
    try:
        service_reader, service_writer = await asyncio.open_connection(forward.host, forward.port)
    except OSError as error:
        note(msg("{address} cannot be reached: {reason}", address=str(forward), reason=error.strerror or error))
        return
    try:
        await asyncio.gather(_copy(reader, service_writer), _copy(service_reader, writer))
    finally:
        service_writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await asyncio.wait_for(source.read(_PIECE), _IDLE_SECONDS):
        sink.write(data)
        await sink.drain()
    # TLS streams have no half that could be closed alone.
    if sink.can_write_eof():
        sink.write_eof()
    else:
        sink.close()
