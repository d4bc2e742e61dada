"""What all tests share."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    # A shell that runs pytest in the background has it ignore SIGINT, and so would every program that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run every enumeration whole, not a sample")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--exhaustive"):
        return
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.skip(reason="exhaustive: make test-all"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # Quotes and keys are made anew in each process; tests that run in several must have the same names in all.
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder with a short path: that of a UNIX socket has at most 107 bytes, and `tmp_path` may be long."""
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        yield Path(folder)
