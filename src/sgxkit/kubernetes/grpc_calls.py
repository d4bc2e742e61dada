"""gRPC over UNIX sockets, with this package's own messages: calls, and handlers for a server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sgxkit.kubernetes.protobuf import Message, MessageT, decoder, encode

Unary = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Message]]
Streaming = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], AsyncIterator[Message]]

_OPTIONS = (
    # A socket of the same name may be another process's tomorrow: no connection, and no back-off, is shared.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a UNIX socket until the block ends; nothing is asked before a call is made."""
    async with grpc.aio.insecure_channel(socket_address(socket), options=_OPTIONS) as channel:
        yield channel


async def call(
    channel: grpc.aio.Channel, method: str, request: Message, answer: type[MessageT], *, timeout: float | None
) -> MessageT:
    """Ask one question, such as ``v1beta1.Registration/Register``; raises grpc.aio.AioRpcError."""
    ask = channel.unary_unary(f"/{method}", request_serializer=encode, response_deserializer=decoder(answer))
    return await ask(request, timeout=timeout)  # type: ignore[no-any-return]  # what the deserializer returns


def stream(channel: grpc.aio.Channel, method: str, request: Message, answer: type[MessageT]) -> Any:
    """Begin a stream of answers: an asynchronous iterator with ``cancel()``."""
    ask = channel.unary_stream(f"/{method}", request_serializer=encode, response_deserializer=decoder(answer))
    return ask(request)


def unary(handle: Unary, request: type[Message]) -> Any:
    """A method with one answer."""
    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=decoder(request), response_serializer=encode
    )


def streaming(handle: Streaming, request: type[Message]) -> Any:
    """A method with a stream of answers."""
    return grpc.unary_stream_rpc_method_handler(
        handle, request_deserializer=decoder(request), response_serializer=encode
    )


def socket_address(path: Path) -> str:
    """The name that gRPC has for a UNIX socket."""
    return f"unix:{os.fspath(path.absolute())}"
