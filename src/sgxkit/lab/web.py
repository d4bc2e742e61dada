"""The HTTP side of a lab: GET, on the loopback interface, for clients of any manners.

The standard library's server, with limits: how many connections, how long each may last whatever it does, how long
one wait may be. Over TLS the handshake happens in the connection's own thread, so that nobody waits for another's.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any

from sgxkit.errors import InputError, SgxkitError
from sgxkit.lab.pcs_api import Reply
from sgxkit.messages import msg


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for one wait, seconds for one connection in all, and how many connections at a time."""

    wait: float = 10.0
    connection: float = 60.0
    connections: int = 128


DEFAULT_LIMITS = Limits()


@contextmanager
def serving(
    respond: Callable[[str], Reply],
    port: int,
    name: str,
    *,
    tls: ssl.SSLContext | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[str]:
    """Answer GET requests with `respond` until the block ends; yields the address. Port 0 lets the system choose.

    Raises InputError where it cannot listen there.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "sgxkit-lab"
        sys_version = ""
        timeout = limits.wait

        def do_GET(self) -> None:
            try:
                reply = respond(self.path)
            except SgxkitError as error:  # the lab was removed, or damaged, while it is served
                reply = Reply(503, f"{error}\n".encode(), "text/plain; charset=utf-8")
            self.send_response(reply.status)
            for header, value in reply.headers.items():
                self.send_header(header, value)
            self.send_header("SGXKIT-Emulated-Lab", name)
            self.send_header("Request-ID", f"{time.monotonic_ns():032x}")
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *args: object) -> None:
            del args  # what is asked of a lab interests nobody

    try:
        server = LimitedServer(("127.0.0.1", port), Handler, limits, tls)
    except OSError as error:
        raise InputError(
            msg("cannot listen at {address}: {reason}", address=f"127.0.0.1:{port}", reason=error.strerror or error)
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="pcs", daemon=True)
    thread.start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.close_all()
        server.server_close()


class LimitedServer(ThreadingHTTPServer):
    """Knows every open connection and since when, and ends those that last too long."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._open: dict[socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        del client_address
        with self._lock:
            if len(self._open) >= self._limits.connections:
                return False
            self._open[request] = time.monotonic()
        request.settimeout(self._limits.wait)
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        # A copy: wrapping takes the socket away from the one that is known here and closed in the end.
        with self._tls.wrap_socket(request.dup(), server_side=True) as secured:
            super().finish_request(secured, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called several times a second: end what has lasted too long."""
        now = time.monotonic()
        with self._lock:
            late = [one for one, since in self._open.items() if now - since > self._limits.connection]
        _end(late)

    def close_all(self) -> None:
        """End every connection, so that the threads which serve them end."""
        with self._lock:
            every = list(self._open)
        _end(every)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or does not like the certificate: not our affair."""
        del request, client_address


def _end(connections: list[socket]) -> None:
    for connection in connections:
        try:
            connection.shutdown(SHUT_RDWR)
        except OSError:
            continue  # it ended by itself meanwhile
