"""Against dcap-qvl, an independent verifier: nothing that it refuses is accepted here at the same policy.

Its own default policy refuses debug mode, service TDs and TDs without SEPT_VE_DISABLE, as ours does; it reports the
TCB status and leaves that to the caller, so every status but Revoked is accepted here. The differences that remain
are listed below and explained in docs/verification.md.
"""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from doubles.platform import AT, make_platform
from real_quotes import Vector, named, vectors
from sgxkit.dcap import Collateral, Policy, TcbStatus, Verification, Verifier, export_bundle
from sgxkit.errors import FormatError
from system.test_hostile_quotes import flipped, mutate, mutated_collateral

SAME_POLICY = Policy(accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED})
MUTANTS = 1_500
ALL_MUTANTS = 30_000

# What dcap-qvl 0.7 refuses and Intel's library accepts, as we do: quotes of kinds that it has not implemented.
ONLY_THE_PEER_REFUSES = (
    "SGX TEE quote must have version 3",  # SGX in the formats of version 4 and 5
    "Unsupported DCAP PCK cert format",  # certification data types 1 to 3 with a chain from elsewhere
    "missing field `sgxtcbcomponents`",  # TCB info of version 2
    "Invalid QE auth data length",  # authentication data of another size than 32 bytes
    "QE auth data",
)


def peer_refusal(quote: bytes, collateral: Collateral, root: bytes | None, at: datetime) -> str | None:
    """Why dcap-qvl refuses, None where it accepts."""
    try:
        pieces = dcap_qvl.QuoteCollateralV3.from_json(export_bundle(collateral))
        now = int(at.timestamp())
        if root is None:
            dcap_qvl.verify(quote, pieces, now)
        else:
            dcap_qvl.verify_with_root_ca(quote, pieces, root, now)
    except Exception as error:  # noqa: BLE001 - the peer raises several kinds
        return str(error)
    return None


def ours(verifier: Verifier, quote: bytes, collateral: Collateral, at: datetime) -> Verification | None:
    try:
        verification = verifier.examine(quote, collateral, at=at)
    except FormatError:
        return None
    return verification if verification.verified else None


def compare(verifier: Verifier, quote: bytes, collateral: Collateral, root: bytes | None, at: datetime) -> bool:
    """Fail where we accept what the peer refuses without one of the known reasons; say whether we accepted."""
    if ours(verifier, quote, collateral, at) is None:
        return False
    refusal = peer_refusal(quote, collateral, root, at)
    assert refusal is None or any(reason in refusal for reason in ONLY_THE_PEER_REFUSES), refusal
    return True


def root_of(vector: Vector) -> bytes | None:
    if vector.trusted_root is None:
        return None
    certificate = x509.load_pem_x509_certificate(vector.trusted_root.encode())
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("kind", ["vectors", "vectors-mock", "vectors-negative"])
def test_vectors(kind: str) -> None:
    found = vectors(kind)
    if not found:
        pytest.skip(f"the real quotes (../shared/{kind}) are not here")
    accepted = 0
    for vector in found:
        verifier = Verifier(SAME_POLICY, trust_anchor=vector.anchor)
        accepted += compare(verifier, vector.quote, vector.collateral, root_of(vector), vector.at)
    assert accepted > 0


@named("vectors")
def test_the_same_status_where_both_accept(vector: Vector) -> None:
    verifier = Verifier(SAME_POLICY, trust_anchor=vector.anchor)
    verification = ours(verifier, vector.quote, vector.collateral, vector.at)
    peer: Any = vector.expected.get("dcap_qvl")
    if verification is None or not isinstance(peer, dict) or "status" not in peer:
        return
    assert verification.tcb is not None
    assert verification.tcb.launch_status == peer["status"]


def try_mutants(count: int) -> None:
    source = random.Random(7)
    platforms = [make_platform("SGX"), make_platform("TDX")]
    cases = []
    for platform in platforms:
        root = platform.root.certificate.public_bytes(serialization.Encoding.DER)
        verifier = Verifier(SAME_POLICY, trust_anchor=platform.anchor)
        quote = platform.quote(version=3 if platform.tee == "SGX" else 4)
        cases.append((verifier, quote, platform.collateral(), root))
        assert compare(*cases[-1], AT)
    for number in range(count):
        verifier, quote, collateral, root = cases[number % 2]
        match number % 3:
            case 0:
                compare(verifier, flipped(quote, source.randrange(8 * len(quote))), collateral, root, AT)
            case 1:
                compare(verifier, mutate(quote, source), collateral, root, AT)
            case _:
                compare(verifier, quote, mutated_collateral(collateral, source), root, AT)


def test_mutants() -> None:
    try_mutants(MUTANTS)


@pytest.mark.exhaustive
def test_many_mutants() -> None:
    try_mutants(ALL_MUTANTS)
