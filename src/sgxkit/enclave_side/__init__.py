"""For programs inside an enclave: quotes, sealing keys, RA-TLS certificates, secrets.

It works through Gramine's /dev/attestation. The package needs Python 3.8 and nothing else, so that it can be
copied into an enclave by itself; certificates and secrets need the libcrypto that Python's own ssl module
uses. It imports nothing of the rest of sgxkit.

    from sgxkit import enclave_side

    quote = enclave_side.quote(b"up to 64 bytes of one's own")
    key = enclave_side.seal_key("mrsigner")
    certificate = enclave_side.make_certificate()
"""

from sgxkit.enclave_side.attestation import (
    EnclaveSideError,
    attestation_type,
    get_key,
    my_target_info,
    quote,
    report,
    seal_key,
    set_key,
)
from sgxkit.enclave_side.certificate import KeyAndCertificate, make_certificate
from sgxkit.enclave_side.provisioning import fetch_gramine_secret, fetch_secret

__all__ = [
    "EnclaveSideError",
    "KeyAndCertificate",
    "attestation_type",
    "fetch_gramine_secret",
    "fetch_secret",
    "get_key",
    "make_certificate",
    "my_target_info",
    "quote",
    "report",
    "seal_key",
    "set_key",
]
