"""Trust anchors: the root key that everything must lead to.

The anchor is a public key, not a certificate: Intel has reissued the root's certificate (notAfter 2033, then 2049)
with the same key, and both occur in genuine quotes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.dcap.certificate import parse_certificate, split_pem
from sgxkit.dcap.ecdsa import signature_verifies
from sgxkit.errors import FormatError
from sgxkit.messages import msg


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A root CA: a name for people, and its key as 65 bytes (04, x, y).

    `certificates` are SHA-256 of certificates known to be that root's. They are self-signed, so their signature says
    nothing that the pinned key does not; those known need not be checked, and others are.
    """

    name: str
    point: bytes
    certificates: frozenset[bytes] = frozenset()


INTEL_SGX_ROOT_CA = TrustAnchor(
    "Intel SGX Root CA",
    bytes.fromhex(
        "040ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
        "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
    ),
    frozenset(
        {
            bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
            bytes.fromhex("fc64f8076d79a4fee9d1d473d74c89eb8d8fd55c5abafeabeba7366d20429404"),
        }
    ),
)


def anchor_from_pem(text: str, name: str) -> TrustAnchor:
    """Make a trust anchor of another root's certificate, for the quotes of a lab.

    Raises FormatError unless it is one self-signed CA certificate.
    """
    certificates = split_pem(text, name)
    if len(certificates) != 1:
        raise FormatError(name, msg("must be one certificate, the root's own"))
    root = parse_certificate(certificates[0], name)
    if not root.is_ca or root.subject != root.issuer:
        raise FormatError(name, msg("not the certificate of a root CA"))
    if not signature_verifies(root.public_key, root.signature, root.signed_bytes):
        raise FormatError(name, msg("its own signature does not verify"))
    return TrustAnchor(
        f"{root.common_name} (SHA-256 {root.digest.hex()[:16]}…)", root.public_point, frozenset({root.digest})
    )
