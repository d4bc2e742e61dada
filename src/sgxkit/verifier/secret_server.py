"""The server that gives secrets to enclaves: RA-TLS, then Gramine's protocol or HTTP.

Gramine, "Attestation and Secret Provisioning": after the handshake the client sends a fixed line with a zero
byte, and the server a fixed line with a zero byte, the length in 4 bytes, big endian, and the secret.
Anything else is taken for HTTP/1.1: ``GET /v1/secrets/NAME``, one request a connection.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

from OpenSSL import SSL

from sgxkit.enclave_side.provisioning import REQUEST, RESPONSE
from sgxkit.errors import SgxkitError
from sgxkit.messages import Message, msg
from sgxkit.verifier.mutual_tls import MutualTls
from sgxkit.verifier.peer import Peer, PeerVerifier
from sgxkit.verifier.secret_release import AlreadyReleasedError, Secrets, UnknownSecretError

MAX_CLIENTS = 64
SECONDS = 30.0
"""For a whole connection, from the first byte of the handshake."""

_MAX_REQUEST = 8 << 10
_GET = re.compile(rb"GET /v1/secrets/([A-Za-z0-9._-]{1,64}) HTTP/1\.[01]\r\n")
_STATUS = {UnknownSecretError: HTTPStatus.NOT_FOUND, AlreadyReleasedError: HTTPStatus.GONE}

Note = Callable[[Message], None]


@dataclass(slots=True, eq=False)
class SecretServer:
    """Serves until it is closed; entering the context starts it.

    listener         a listening socket.
    gramine_secret   the name of the one secret that Gramine's protocol has.
    note             is told of each connection in a sentence, from several threads.
    """

    listener: socket.socket
    tls: SSL.Context
    peers: PeerVerifier
    secrets: Secrets
    gramine_secret: str
    note: Note
    _clients: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MAX_CLIENTS))
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._closed.set()
        self.listener.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def _accept(self) -> None:
        # In steps: closing a socket does not wake who waits at it on every system.
        self.listener.settimeout(0.5)
        while not self._closed.is_set():
            try:
                connection, address = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                if self._closed.is_set():
                    return
                time.sleep(0.1)  # out of descriptors: those of clients come back
                continue
            if not self._clients.acquire(blocking=False):
                connection.close()
                self.note(
                    msg("{client}: turned away, {limit} clients are connected", client=address[0], limit=MAX_CLIENTS)
                )
                continue
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, address[0]), daemon=True).start()

    def _serve(self, connection: socket.socket, client: str) -> None:
        try:
            with connection:
                self._answer(MutualTls(connection, self.tls, time.monotonic() + SECONDS), client)
        except SgxkitError as error:
            if not self._closed.is_set():
                self.note(msg("{client}: {problem}", client=client, problem=error.message))
        finally:
            with self._lock:
                self._open.discard(connection)
            self._clients.release()

    def _answer(self, stream: MutualTls, client: str) -> None:
        # Judged before a byte of the request is read.
        peer = self.peers.verify(stream.peer_certificate)
        request = _read_request(stream)
        if request == REQUEST:
            secret = self._release(self.gramine_secret, peer, client)
            stream.send(RESPONSE + len(secret).to_bytes(4, "big") + secret)
        else:
            stream.send(self._http(request, peer, client))
        stream.close()

    def _http(self, request: bytes, peer: Peer, client: str) -> bytes:
        found = _GET.match(request)
        if found is None:
            return _response(HTTPStatus.BAD_REQUEST, {"error": {"code": "request"}})
        try:
            secret = self._release(found[1].decode(), peer, client)
        except (UnknownSecretError, AlreadyReleasedError) as error:
            self.note(msg("{client}: {problem}", client=client, problem=error.message))
            return _response(_STATUS[type(error)], {"error": {"code": error.code}})
        return _head(HTTPStatus.OK, "application/octet-stream", secret)

    def _release(self, name: str, peer: Peer, client: str) -> bytes:
        secret, release = self.secrets.release(name, peer)
        who = release.identity.get("mrenclave") or release.identity["mrtd"]
        self.note(msg("{client}: released {name} to {identity}", client=client, name=name, identity=who))
        return secret


def _read_request(stream: MutualTls) -> bytes:
    data = b""
    while len(data) <= _MAX_REQUEST:
        if data == REQUEST or b"\r\n\r\n" in data:
            return data
        piece = stream.receive()
        if not piece:
            return data
        data += piece
    return data


def _response(status: HTTPStatus, document: object) -> bytes:
    return _head(status, "application/json", json.dumps(document).encode())


def _head(status: HTTPStatus, media_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
