"""IntervalMap: values by address, against a list with one value an address."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.emulator.tracer.interval_map import IntervalMap

ADDRESSES = st.integers(0, 40)


@given(st.lists(st.tuples(ADDRESSES, ADDRESSES, st.integers(0, 3)), max_size=12), ADDRESSES, ADDRESSES)
@settings(max_examples=60, deadline=None)
def test_it_holds_what_was_set_last(changes: list[tuple[int, int, int]], start: int, end: int) -> None:
    values, plain = IntervalMap(), [0] * 41
    for first, last, value in changes:
        values.set(first, last, value)
        plain[first:last] = [value] * max(0, last - first)
    assert [values[address] for address in range(41)] == plain
    runs = list(values.runs(start, end))
    assert [value for first, last, value in runs for _ in range(first, last)] == plain[start:end]
    assert all(one[2] != other[2] for one, other in pairwise(runs))
