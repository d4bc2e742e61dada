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
from http.server import BaseHTTPRequestHandler

from sgxkit.errors import InputError, SgxkitError
from sgxkit.lab.limited_server import LimitedServer, Limits
from sgxkit.lab.pcs_api import Reply
from sgxkit.messages import msg

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
