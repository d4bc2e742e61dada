"""A mebibyte of hostile input: seconds and memory, against the limit of 1 s and 200 MiB."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from sgxkit.dcap import Verifier, parse_bundle
from sgxkit.dcap.envelope import find_quotes
from sgxkit.dcap.quote_layout import layout
from sgxkit.errors import FormatError
from system import test_hostile_quotes as hostile

LIMIT_SECONDS = 1.0
LIMIT_BYTES = 200 << 20
MIB = 1 << 20


def envelopes() -> dict[str, bytes]:
    """Inputs that look like one thing around another, again and again."""
    quote = hostile.genuine_quote("SGX", 3)
    one = json.dumps({"quote": quote.hex()}).encode()
    return {
        "hex": quote.hex().encode().ljust(MIB, b"0"),
        "quotes in JSON without end": b"[" + b",".join([one] * (MIB // len(one) - 1)) + b"]",
        "JSON as deep as it goes": b"[" * (MIB // 2) + b"]" * (MIB // 2),
        "PEM blocks without end": b"-----BEGIN QUOTE-----\nAAAA\n-----END QUOTE-----\n" * (MIB // 47),
        "PEM beginnings": b"-----BEGIN CERTIFICATE-----\n" * (MIB // 28),
        "base64 without end": b"QUFB" * (MIB // 4),
        "dots": b"e30." * (MIB // 4),
    }


def measure(call: Callable[[], object]) -> tuple[float, int]:
    begin = time.perf_counter()
    with suppress(FormatError):
        call()
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    with suppress(FormatError):
        call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


def main() -> None:
    platform, collateral = hostile.made("SGX")
    verifier = Verifier(trust_anchor=platform.anchor, remember=0)
    rows = []
    for name, data in hostile.large_inputs().items():
        rows.append((f"verify: {name}", measure(lambda data=data: verifier.examine(data, collateral, at=hostile.AT))))  # type: ignore[misc]
        rows.append((f"inspect: {name}", measure(lambda data=data: layout(data))))  # type: ignore[misc]
    for name, data in (hostile.large_inputs() | envelopes()).items():
        rows.append((f"find quotes: {name}", measure(lambda data=data: find_quotes(data))))  # type: ignore[misc]
        rows.append((f"read as a bundle: {name}", measure(lambda data=data: parse_bundle(data))))  # type: ignore[misc]
    rows.sort(key=lambda row: row[1][0], reverse=True)
    print(f"  {len(rows)} inputs of 1 MiB, the slowest ten; limit {LIMIT_SECONDS:.0f} s and {LIMIT_BYTES >> 20} MiB")
    for name, (seconds, peak) in rows[:10]:
        shares = f"{seconds / LIMIT_SECONDS:5.2f} x   {peak / MIB:6.1f} MiB  {peak / LIMIT_BYTES:5.2f} x"
        print(f"  {name:<52} {seconds:6.3f} s  {shares}")
    largest = max(rows, key=lambda row: row[1][1])
    print(f"  most memory: {largest[0]}, {largest[1][1] / MIB:.1f} MiB  {largest[1][1] / LIMIT_BYTES:.2f} x")
