"""A quoting service whose answers are fixed bytes: a client sees that the protocol works, and nothing else."""

from __future__ import annotations

from sgxkit.aesm.key_id import INTEL_ECDSA_P256


class FixedQuotes:
    """Answers every request that AESM of today knows."""

    def key_ids(self) -> tuple[bytes, ...]:
        return (INTEL_ECDSA_P256.to_bytes(),)

    def target_info(self, key_id: bytes) -> bytes:
        return b"T" * 512

    def public_key_id(self, key_id: bytes, *, make: bool) -> bytes:
        return b"K" * 32

    def quote_size(self, key_id: bytes) -> int:
        return 1024

    def quote(self, report: bytes, key_id: bytes, qe_report_info: bytes | None) -> tuple[bytes, bytes | None]:
        return b"Q" * 1024, None
