"""Quotes that were tampered with: each flipped bit is refused, each truncation a FormatError, nothing crashes."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest

from doubles import platform as double
from doubles.platform import AT, Platform, make_platform
from sgxkit.dcap import Collateral, Policy, TcbStatus, Verifier, parse_quote
from sgxkit.dcap.quote import MAX_QUOTE_SIZE
from sgxkit.errors import FormatError

LENIENT = Policy(
    accepted_statuses=frozenset(TcbStatus) - {TcbStatus.REVOKED},
    allow_debug=True,
    require_sept_ve_disable=False,
)
KINDS = [("SGX", 3), ("SGX", 4), ("SGX", 5), ("TDX", 4), ("TDX", 5)]
SAMPLE = 400
MUTATIONS = 4_000
ALL_MUTATIONS = 100_000


@cache
def made(tee: str) -> tuple[Platform, Collateral]:
    platform = make_platform(tee)
    return platform, platform.collateral()


def accepted(verifier: Verifier, quote: bytes, collateral: Collateral) -> bool:
    try:
        return verifier.examine(quote, collateral, at=AT).verified
    except FormatError:
        return False


def flipped(quote: bytes, bit: int) -> bytes:
    changed = bytearray(quote)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def accepted_flips(tee: str, version: int, bits: Iterator[int] | range | list[int]) -> list[int]:
    platform, collateral = made(tee)
    verifier = Verifier(LENIENT, trust_anchor=platform.anchor)
    quote = platform.quote(version=version)
    assert accepted(verifier, quote, collateral)
    return [bit for bit in bits if accepted(verifier, flipped(quote, bit), collateral)]


@pytest.mark.parametrize(("tee", "version"), KINDS)
def test_a_sample_of_flipped_bits_is_refused(tee: str, version: int) -> None:
    size = 8 * len(made(tee)[0].quote(version=version))
    assert accepted_flips(tee, version, random.Random(version).sample(range(size), SAMPLE)) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize(("tee", "version"), KINDS)
def test_every_flipped_bit_is_refused(tee: str, version: int) -> None:
    size = 8 * len(made(tee)[0].quote(version=version))
    assert accepted_flips(tee, version, range(size)) == []


@pytest.mark.parametrize(("tee", "version"), KINDS)
def test_truncation_at_every_length(tee: str, version: int) -> None:
    quote = made(tee)[0].quote(version=version)
    for length in range(len(quote)):
        with pytest.raises(FormatError):
            parse_quote(quote[:length])


def mutate(data: bytes, source: random.Random) -> bytes:
    """Change bytes in one of the ways in which formats break: values, lengths, order, size."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        position = source.randrange(len(changed) + 1)
        match source.randrange(7):
            case 0 if changed:
                changed[position % len(changed)] ^= 1 << source.randrange(8)
            case 1:
                changed[position : position + 4] = source.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0", source.randbytes(4))
                )
            case 2:
                changed[position:position] = source.randbytes(source.randrange(1, 64))
            case 3:
                del changed[position : position + source.randrange(1, 64)]
            case 4:
                other = source.randrange(len(changed) + 1)
                size = source.randrange(1, 200)
                changed[position : position + size] = changed[other : other + size]
            case 5:
                del changed[position:]
            case _:
                changed += bytes(source.randrange(1, 64))
    return bytes(changed)


def mutated_collateral(collateral: Collateral, source: random.Random) -> Collateral:
    name = source.choice(
        [field.name for field in fields(collateral) if field.init and getattr(collateral, field.name)]
    )
    piece = getattr(collateral, name)
    changed: Any = mutate(piece.encode() if isinstance(piece, str) else piece, source)
    return replace(
        collateral, **{name: changed.decode("utf-8", "surrogateescape") if isinstance(piece, str) else changed}
    )


def try_mutations(count: int) -> None:
    source = random.Random(20260115)
    for number in range(count):
        tee, version = KINDS[number % len(KINDS)]
        platform, collateral = made(tee)
        verifier = Verifier(LENIENT, trust_anchor=platform.anchor)
        quote = genuine_quote(tee, version)
        if number % 4 == 3:
            collateral = mutated_collateral(collateral, source)
            verifier.examine(quote, collateral, at=AT)
            continue
        changed = mutate(quote, source)
        if accepted(verifier, changed, collateral):
            # Only what says the same may be accepted: the same quote with other padding.
            assert parse_quote(changed).signed_bytes == parse_quote(quote).signed_bytes


@cache
def genuine_quote(tee: str, version: int) -> bytes:
    return made(tee)[0].quote(version=version)


def test_mutations_raise_nothing_else() -> None:
    try_mutations(MUTATIONS)


@pytest.mark.exhaustive
def test_a_hundred_thousand_mutations_raise_nothing_else() -> None:
    try_mutations(ALL_MUTATIONS)


def large_inputs() -> dict[str, bytes]:
    """A mebibyte of each kind that could take long: also what benchmarks/hostile.py times."""
    quote = genuine_quote("SGX", 3)
    one_mib = MAX_QUOTE_SIZE
    pem = made("SGX")[0].pck.pem.encode()
    filler = one_mib - len(quote)
    body = quote[:432]

    def signature_data(kind: int, content: bytes) -> bytes:
        inner = quote[436 : 436 + 128 + 384 + 64] + b"\0\0" + kind.to_bytes(2, "little")
        inner += len(content).to_bytes(4, "little") + content
        return body + len(inner).to_bytes(4, "little") + inner

    room = one_mib - 2048
    return {
        "zero padding": quote + bytes(filler),
        "zero padding, then one byte": quote + bytes(filler - 1) + b"\1",
        "more than is read": quote + bytes(filler + 1),
        "random": random.Random(1).randbytes(one_mib),
        "certificates without end": signature_data(5, pem * (room // len(pem))),
        "one long certificate": signature_data(
            5, b"-----BEGIN CERTIFICATE-----\n" + b"A" * (room - 100) + b"\n-----END CERTIFICATE-----\n"
        ),
        "beginnings of certificates": signature_data(5, b"-----BEGIN CERTIFICATE-----\n" * (room // 28)),
        "DER elements without end": signature_data(5, b"\x30\x00" * (room // 2)),
        "spaces": signature_data(5, pem + b" " * (room - len(pem))),
    }


@pytest.mark.parametrize("name", list(large_inputs()))
def test_a_mebibyte_stays_within_memory(name: str) -> None:
    platform, collateral = made("SGX")
    verifier = Verifier(LENIENT, trust_anchor=platform.anchor)
    data = large_inputs()[name]
    tracemalloc.start()
    try:
        assert accepted(verifier, data, collateral) == (name == "zero padding")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize(
    "piece", ["tcb_info", "qe_identity", "pck_crl", "tcb_info_issuer_chain", "pck_certificate_chain"]
)
def test_a_mebibyte_of_collateral_stays_within_memory(piece: str) -> None:
    platform, collateral = made("SGX")
    huge: Any = {
        "tcb_info": double.tcb_info([double.tcb_level(0, "UpToDate")] * 2000),
        "qe_identity": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "pck_crl": b"\x30\x82\xff\xff" * (1 << 18),
        "tcb_info_issuer_chain": platform.tcb_signer.pem * 1000,
        "pck_certificate_chain": platform.pck.pem * 1000,
    }[piece]
    signature = {
        f"{name}_signature": platform.tcb_signer.sign(huge.encode())
        for name in ("tcb_info", "qe_identity")
        if name == piece
    }
    verifier = Verifier(LENIENT, trust_anchor=platform.anchor)
    tracemalloc.start()
    try:
        verification = verifier.examine(
            genuine_quote("SGX", 3), replace(collateral, **{piece: huge}, **signature), at=AT
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not verification.verified
    assert peak < 64 << 20
