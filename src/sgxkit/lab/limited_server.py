"""The standard library's HTTP server, with limits: how many connections, how long each may last, how long a wait.

It imports nothing of ours, so that small programs can have it.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for one wait, seconds for one connection in all, and how many connections at a time."""

    wait: float = 10.0
    connection: float = 60.0
    connections: int = 128


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
