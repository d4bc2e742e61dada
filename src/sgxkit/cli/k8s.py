"""`sgxkit k8s`: SGX on Kubernetes. The commands are in the modules beside this one, one file a program."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING

import typer

from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    import asyncio

k8s_app = typer.Typer(
    name="k8s",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="SGX on Kubernetes: what runs on nodes, and a view of the cluster.",
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    from sgxkit.cli import (
        k8s_conformance,
        k8s_device_plugin,
        k8s_node_agent,
        k8s_preflight,
        k8s_status,
        k8s_verify,
        k8s_webhook,
    )

    on_nodes = (k8s_device_plugin, k8s_node_agent, k8s_preflight, k8s_webhook)
    for module in (*on_nodes, k8s_status, k8s_verify, k8s_conformance):
        module.register(k8s_app)
    app.add_typer(k8s_app)


def need_grpc() -> None:
    """Raise InputError where the extra with gRPC is not installed."""
    try:
        import grpc
    except ImportError as error:
        raise InputError(
            msg("this needs the packages of the extra {extra}", extra="kubernetes"),
            hint=msg("pip install 'sgxkit[{extra}]'", extra="kubernetes"),
        ) from error
    del grpc


def log_to_stderr() -> None:
    """Let programs that run for long say what they do, with the time, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("sgxkit")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


@contextmanager
def stopped_by_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the event loop at SIGTERM and SIGINT, until the block ends."""
    numbers = (SIGTERM, SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
