"""TLS clients that go on only with an enclave: an `ssl.SSLContext` that every library takes which takes one.

The peer is judged at the end of the handshake, before anything is sent to it. The checks of names and of issuers that
TLS clients make otherwise are off: a certificate that an enclave made for itself has neither.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from sgxkit.errors import InputError
from sgxkit.messages import msg
from sgxkit.verifier.peer import Peer, PeerVerifier

Check = Callable[[bytes | None], Peer]


def client_context(peers: PeerVerifier, *, certificate: str | None = None) -> ssl.SSLContext:
    """Return a context for clients whose handshake raises what `PeerVerifier.verify` raises for that server.

    For httpx (``verify=``), urllib3 (``ssl_context=``), http.client, asyncio. `certificate` is a PEM file with the
     client's own key and certificate. `peer_of` tells afterwards who answered.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what stands in its place is below

    class PeerSocket(ssl.SSLSocket):
        peer: Peer | None = None

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                self.peer = peers.verify(self.getpeercert(binary_form=True))
            except BaseException:
                self.close()  # who called knows of OSError only
                raise

    class PeerObject(ssl.SSLObject):
        peer: Peer | None = None

        def do_handshake(self) -> None:
            super().do_handshake()
            self.peer = peers.verify(self.getpeercert(binary_form=True))

    context.sslsocket_class = PeerSocket
    context.sslobject_class = PeerObject
    if certificate is not None:
        try:
            context.load_cert_chain(certificate)
        except (OSError, ssl.SSLError) as error:
            raise InputError(msg("{path} cannot be used: {reason}", path=certificate, reason=str(error))) from error
    return context


def peer_of(connection: object) -> Peer:
    """Return the enclave behind a socket or object that a `client_context` made, or behind a response of httpx.

    With httpx ask before the response is closed (``with client.stream(...)``). Raises InputError for any other.
    """
    extensions = getattr(connection, "extensions", {})
    stream = extensions.get("network_stream") if isinstance(extensions, dict) else None
    candidates = [
        connection,
        *(stream.get_extra_info(name) for name in ("socket", "ssl_object") if stream is not None),
    ]
    peer = next((found for one in candidates if isinstance(found := getattr(one, "peer", None), Peer)), None)
    if peer is None:
        raise InputError(msg("the connection was not made by client_context, or its handshake is not over"))
    return peer
