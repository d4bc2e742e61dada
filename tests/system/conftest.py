"""What system tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doubles.systems import Trees, made_systems


@pytest.fixture(scope="session")
def trees(pytestconfig: pytest.Config) -> Iterator[Trees]:
    """Real systems; tests lay their own file system over them."""
    with made_systems(pytestconfig) as made:
        yield made
