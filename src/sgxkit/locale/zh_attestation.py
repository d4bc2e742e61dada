"""Chinese for the sentences of `sgxkit`: attestation."""

CATALOG: dict[str, str] = {}
