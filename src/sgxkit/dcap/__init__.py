"""DCAP attestation: quotes, collateral and their verification."""
