"""The status algebra, all of it (host.md 1.1)."""

from __future__ import annotations

import itertools

import pytest

from sgxkit.host.checks.status import Status, as_opt, as_req

S, U, F, Q = Status.SUPPORTED, Status.UNSUPPORTED, Status.FATAL, Status.UNKNOWN
AND = {
    (S, S): S, (S, U): S, (S, F): F, (S, Q): Q,
    (U, U): U, (U, F): F, (U, Q): Q,
    (F, F): F, (F, Q): F,
    (Q, Q): Q,
}  # fmt: skip
OR = {
    (S, S): S, (S, U): S, (S, F): S, (S, Q): S,
    (U, U): F, (U, F): F, (U, Q): Q,
    (F, F): F, (F, Q): Q,
    (Q, Q): Q,
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(itertools.product(Status, Status)))
def test_and_and_or_are_these_tables(one: Status, other: Status) -> None:
    pair = (one, other) if (one, other) in AND else (other, one)
    assert one & other is AND[pair]
    assert one | other is OR[pair]


@pytest.mark.parametrize(("one", "two", "three"), list(itertools.product(Status, Status, Status)))
def test_both_are_associative(one: Status, two: Status, three: Status) -> None:
    assert (one & two) & three is one & (two & three)
    assert (one | two) | three is one | (two | three)


def test_what_is_required_and_what_is_optional() -> None:
    assert [as_req(value) for value in (True, False, None)] == [S, F, Q]
    assert [as_opt(value) for value in (True, False, None)] == [S, U, Q]


def test_downgrading_touches_only_fatal() -> None:
    assert [status.downgrade_fatal() for status in (S, U, F, Q)] == [S, U, U, Q]


def test_failed_is_unsupported_or_fatal() -> None:
    assert [status.failed for status in (S, U, F, Q)] == [False, True, True, False]
