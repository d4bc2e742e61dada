"""For relying parties: is whoever is at the other end of a TLS connection the enclave that is expected?

from sgxkit.dcap import Policy, Verifier
from sgxkit.verifier import PeerVerifier, client_context

peers = PeerVerifier(Verifier(Policy(mrsigner=frozenset({signer}))), source)
httpx.Client(verify=client_context(peers))
"""

from sgxkit.verifier.peer import NoQuoteError, Peer, PeerVerifier, UnboundQuoteError
from sgxkit.verifier.tls import client_context, peer_of

__all__ = ["NoQuoteError", "Peer", "PeerVerifier", "UnboundQuoteError", "client_context", "peer_of"]
