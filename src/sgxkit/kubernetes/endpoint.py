"""HTTP(S) for the kubelet's probes, Prometheus and the API server: small questions, short answers, limits."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from sgxkit.errors import InputError
from sgxkit.lab.limited_server import LimitedServer, Limits
from sgxkit.messages import msg

_LIMITS = Limits(wait=10.0, connection=60.0, connections=64)
_ADDRESS = re.compile(r"(?P<host>[0-9A-Za-z.\-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked; `body` is empty for GET."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


def parse_listen_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``:PORT`` for every interface; raises InputError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 0xFFFF:
        raise InputError(
            msg("{text} is no address to listen at", text=text),
            hint=msg("it is HOST:PORT, or :PORT for every interface"),
        )
    return found["host"].strip("[]") or "0.0.0.0", int(found["port"])  # noqa: S104 - a pod's own address is not known


@contextmanager
def serving(
    address: tuple[str, int],
    respond: Callable[[Question], Reply],
    *,
    tls: ssl.SSLContext | None = None,
    largest_body: int = 0,
) -> Iterator[tuple[str, int]]:
    """Answer GET, and POST of up to `largest_body` bytes, until the block ends; yields the address.

    Raises InputError where it cannot listen there.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "sgxkit"
        sys_version = ""
        timeout = _LIMITS.wait

        def do_GET(self) -> None:
            self._answer(respond(Question("GET", self.path)))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or len(length) > 9 or int(length) > largest_body:
                self.close_connection = True
                self._answer(Reply(413))
                return
            self._answer(respond(Question("POST", self.path, self.rfile.read(int(length)))))

        def _answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *args: object) -> None:
            del args  # probes ask several times a minute

    try:
        server = _Server(address, Handler, _LIMITS, tls)
    except OSError as error:
        raise InputError(
            msg(
                "cannot listen at {address}: {reason}",
                address=f"{address[0]}:{address[1]}",
                reason=error.strerror or error,
            )
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True)
    thread.start()
    try:
        host, port = server.server_address[:2]
        yield str(host), port
    finally:
        server.shutdown()
        thread.join()
        server.close_all()
        server.server_close()


class _Server(LimitedServer):
    """A second instance may listen beside the first while it takes over, as in a rolling update."""

    allow_reuse_port = True


def health_reply(path: str, *, alive: bool, unready: str | None) -> Reply | None:
    """What /healthz and /readyz answer; None for another path. `unready` says why it is not ready."""
    if path == "/healthz":
        return Reply(200, b"ok\n") if alive else Reply(503, b"stuck\n")
    if path == "/readyz":
        return Reply(200, b"ok\n") if unready is None else Reply(503, f"{unready}\n".encode())
    return None
