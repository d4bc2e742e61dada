"""Collateral: what Intel has published about the platform that made a quote.

`Collateral` holds the pieces exactly as they are signed; nothing in it is trusted until `sgxkit.dcap.verify` has
checked it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Collateral:
    """The signed pieces that a quote is judged by, raw.

    Certificate chains are PEM text, leaf first and root last. CRLs are DER. `tcb_info` and `qe_identity` are the JSON
    text of the inner object (the value of ``tcbInfo`` and ``enclaveIdentity``) byte for byte as signed, and their
    signatures are raw big-endian r and s, 32 bytes each (Intel PCS API v4).
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes
    pck_certificate_chain: str | None = None
    """For quotes whose certification data carries no certificate (types 1 to 3)."""
