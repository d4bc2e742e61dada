"""The server's end of TLS in which the client shows a certificate that it made for itself.

Python's ssl module can only refuse such certificates, or not ask for any; OpenSSL itself (by pyOpenSSL) hands them
to us. The handshake proves that the client has the certificate's key; whose key that is, `PeerVerifier` judges.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from sgxkit.errors import InputError, SgxkitError
from sgxkit.messages import msg

_PIECE = 16 << 10

T = TypeVar("T")


class ConnectionLostError(SgxkitError):
    """The other end went away, is too slow, or does not speak TLS."""

    code = "connection"
    exit_code = 2


def server_context(certificate: Path, key: Path) -> SSL.Context:
    """Return a context with the server's own certificate chain and key (PEM) that asks each client for a certificate.

    Raises InputError where they cannot be used.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # No tickets and no cache: a client that comes again is judged again.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    try:
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.check_privatekey()
    except (SSL.Error, OSError) as error:
        raise InputError(
            msg("{path} cannot be used: {reason}", path=f"{certificate}, {key}", reason=_reason(error)),
            hint=msg("PEM files of a certificate, with what certifies it, and of its key"),
        ) from error
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    return context


class MutualTls:
    """One connection, each step of which must be over by the deadline, a time of `time.monotonic`.

    Raises ConnectionLostError whatever goes wrong with it.
    """

    def __init__(self, connection: socket.socket, context: SSL.Context, deadline: float) -> None:
        self._socket = connection
        self._deadline = deadline
        # Without a socket of its own OpenSSL reads from and writes to memory, and never waits.
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._step(self._tls.do_handshake)

    @property
    def peer_certificate(self) -> bytes | None:
        """The client's certificate (DER); None if it showed none."""
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    def receive(self) -> bytes:
        """Return some bytes, or none where the client has closed its end."""
        try:
            return self._step(lambda: self._tls.recv(_PIECE))
        except SSL.ZeroReturnError:
            return b""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        left = memoryview(data)
        while left:
            sent = self._step(lambda piece=bytes(left[:_PIECE]): self._tls.send(piece))  # type: ignore[misc]
            left = left[sent:]

    def close(self) -> None:
        """Say that nothing follows."""
        self._step(self._tls.shutdown)

    def _step(self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                self._flush()
                self._feed()
                continue
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                self._flush()
                raise ConnectionLostError(msg("not TLS as it should be: {reason}", reason=_reason(error))) from error
            self._flush()
            return result

    def _feed(self) -> None:
        try:
            self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
            data = self._socket.recv(_PIECE)
        except OSError as error:
            raise _lost(error) from error
        if not data:
            raise ConnectionLostError(msg("the other end closed the connection"))
        self._tls.bio_write(data)

    def _flush(self) -> None:
        while True:
            try:
                data = self._tls.bio_read(_PIECE)
            except SSL.WantReadError:
                return
            try:
                self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
                self._socket.sendall(data)
            except OSError as error:
                raise _lost(error) from error


def _lost(error: OSError) -> ConnectionLostError:
    return ConnectionLostError(msg("the connection is lost: {reason}", reason=error.strerror or str(error)))


def _reason(error: Exception) -> str:
    """What OpenSSL says: a list of (library, function, reason)."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = "; ".join(str(entry[-1]) for entry in reasons)
    return said or (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or "unknown"
