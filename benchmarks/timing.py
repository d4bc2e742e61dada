"""Taking times that can be compared on a machine that does other things too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

ROUNDS = 15
SECONDS_PER_ROUND = 0.05


def best_times(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return seconds per call of each candidate: the best of several rounds, the candidates taking turns.

    The best round is the one least disturbed; taking turns lets a slow phase of the machine fall on all alike.
    """
    counts: dict[str, int] = {}
    for name, call in candidates.items():
        call()
        begin = time.perf_counter()
        call()
        counts[name] = max(1, int(SECONDS_PER_ROUND / max(time.perf_counter() - begin, 1e-7)))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            begin = time.perf_counter()
            for _ in range(counts[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / counts[name])
    return best
