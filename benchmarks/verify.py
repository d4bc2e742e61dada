"""Verifications a second, one thread: against dcap-qvl in the same run, and against the signatures that remain.

The time that no verifier can save is that of the ECDSA P-256 verifications: 9 where nothing is known (PCK, PCK CA and
TCB signing certificates, two CRLs, TCB info, QE identity, QE report, quote; the root is pinned), 2 for another
quoting enclave on a known platform (QE report, quote), 1 for a known attestation key (quote).
"""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from itertools import zip_longest

import dcap_qvl
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.timing import best_times
from doubles import platform as double
from doubles.platform import AT, Platform, make_platform
from sgxkit.dcap import (
    Collateral,
    Verification,
    Verifier,
    certificate,
    chains,
    ecdsa,
    identity,
    parse_quote,
    pck,
    tcb,
)

QES = 64


def peers_collateral(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )


# As much as Intel publishes for a current server platform: the size of the TCB info decides what reading it costs.
LEVELS = 16
REVOKED = 57
DESCRIBED_COMPONENTS = (
    ("BIOS", "Early Microcode Update"),
    ("OS/VMM", "SGX Late Microcode Update"),
    ("OS/VMM", "TXT SINIT"),
    ("BIOS", ""),
)


def realistic_collateral(platform: Platform) -> Collateral:
    levels = [
        double.tcb_level(7 - depth // 3, "UpToDate" if depth == 0 else "OutOfDate", pcesvn=40 - depth)
        | {"advisoryIDs": [f"INTEL-SA-{number:05}" for number in range(depth)]}
        for depth in range(LEVELS)
    ]
    for level in levels:
        plain = level["tcb"]["sgxtcbcomponents"]
        described = [
            {"category": category, "type": kind} if kind else {"category": category}
            for category, kind in DESCRIBED_COMPONENTS
        ]
        level["tcb"]["sgxtcbcomponents"] = [
            component | text for component, text in zip_longest(plain, described, fillvalue={})
        ]
    strangers = [double.certify("Revoked", platform.ca) for _ in range(REVOKED)]
    return platform.collateral(levels=levels, revoked_by_ca=strangers)


def forget_what_was_parsed() -> None:
    for remembered in (
        certificate.parse_certificate,
        chains.read_chain,
        certificate.parse_crl,
        pck._parse_extension,
        tcb.parse_tcb_info,
        identity.parse_enclave_identity,
    ):
        remembered.cache_clear()


def row(name: str, seconds: float, what: str, peer: float) -> None:
    print(
        f"  {name:<46} {seconds * 1e6:6.0f} us {1 / seconds:7.0f}/s   "
        f"{what:<8} {peer * 1e6:5.0f} us   {seconds / peer:5.2f} x"
    )


def main() -> None:
    platform = make_platform(extension=double.sgx_extension(pcesvn=40))
    collateral = realistic_collateral(platform)
    raw = platform.quote()
    quote = parse_quote(raw)
    key = ecdsa.public_key(quote.attestation_key)
    # Quoting enclaves of one platform, each with its own attestation key, and several quotes by one of them.
    others = [replace(platform, attestation_key=ec.generate_private_key(ec.SECP256R1())).quote() for _ in range(QES)]
    same_key = [platform.quote(body=double.report_body(isvsvn=number).to_bytes()) for number in range(QES)]

    nothing_kept = Verifier(trust_anchor=platform.anchor, remember=0)
    warm = Verifier(trust_anchor=platform.anchor, remember=1)
    keeping_one = Verifier(trust_anchor=platform.anchor, remember=1)
    root = platform.root.certificate.public_bytes(serialization.Encoding.DER)
    peers = peers_collateral(collateral)
    now = int(AT.timestamp())
    next_other, next_same = itertools.cycle(others), itertools.cycle(same_key)

    def first_sight() -> None:
        forget_what_was_parsed()
        assert nothing_kept.examine(raw, collateral, at=AT).verified

    times = best_times(
        {
            "bare": lambda: ecdsa.raw_signature_verifies(key, quote.signature, quote.signed_bytes),
            "peer": lambda: dcap_qvl.verify_with_root_ca(raw, peers, root, now),
            "cold": lambda: nothing_kept.examine(raw, collateral, at=AT),
            "first sight": first_sight,
            "known platform": lambda: keeping_one.examine(next(next_other), collateral, at=AT),
            "known key": lambda: warm.examine(next(next_same), collateral, at=AT),
        }
    )
    bare, peer = times["bare"], times["peer"]
    print(f"  one P-256 verification: {bare * 1e6:.0f} us; a quote of {len(raw)} bytes, TCB info of {LEVELS} levels")
    row("cold: all checked again, parsed pieces reused", times["cold"], "dcap-qvl", peer)
    row("first sight: all parsed and checked", times["first sight"], "dcap-qvl", peer)
    row("cold", times["cold"], "9 bare  ", 9 * bare)
    row("known platform, another quoting enclave", times["known platform"], "2 bare  ", 2 * bare)
    row("known attestation key", times["known key"], "1 bare  ", bare)

    threads = os.cpu_count() or 1
    one, several = many(platform, collateral, same_key, 1), many(platform, collateral, same_key, threads)
    print(f"  verify_many, known key: {one:.0f}/s on 1 thread, {several:.0f}/s on {threads}: {several / one:.2f} x")
    print(f"  what this machine gives {threads} threads that only hash: {hashing_speedup(threads):.2f} x")


def many(platform: Platform, collateral: Collateral, quotes: list[bytes], threads: int) -> float:
    """Return verifications a second, the best of some rounds."""
    verifier = Verifier(trust_anchor=platform.anchor)
    count = 8000
    best = 0.0
    for _ in range(3):
        items = itertools.islice(itertools.cycle([(quote, collateral) for quote in quotes]), count)
        begin = time.perf_counter()
        answers = verifier.verify_many(items, at=AT, threads=threads)
        assert all(isinstance(answer, Verification) and answer.verified for answer in answers)
        best = max(best, count / (time.perf_counter() - begin))
    return best


def hashing_speedup(threads: int) -> float:
    """Return how much faster threads hash than one: hashing releases the GIL, so this is the limit."""

    def hash_much(_: int) -> None:
        for _ in range(400):
            sha256(block).digest()

    block = bytes(1 << 20)
    seconds = []
    for workers in (1, threads):
        with ThreadPoolExecutor(workers) as pool:
            begin = time.perf_counter()
            list(pool.map(hash_much, range(threads)))
            seconds.append(time.perf_counter() - begin)
    return seconds[0] / seconds[1]
