"""A kubelet as device plugins see it: the Registration service, and the calls that follow a registration.

It behaves as the kubelet's device manager does: at start it removes everything but folders from its folder; Register
is answered at once and the plugin is called back afterwards; the newest registration of a resource wins; a stream
that ends makes every device unhealthy, and five minutes later the resource is forgotten. Registrations are recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from sgxkit.kubernetes.device_plugin_api import (
    DEVICE_PLUGIN,
    HEALTHY,
    KUBELET_SOCKET,
    REGISTRATION,
    VERSION,
    AllocateRequest,
    AllocateResponse,
    ContainerAllocateRequest,
    ContainerPreferredAllocationRequest,
    Device,
    DevicePluginOptions,
    Empty,
    ListAndWatchResponse,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    PreStartContainerRequest,
    PreStartContainerResponse,
    RegisterRequest,
    is_resource_name,
)
from sgxkit.kubernetes.grpc_calls import call, connected, socket_address, stream, unary
from sgxkit.kubernetes.protobuf import Message, MessageT

GRACE_SECONDS = 300.0
_CHECKPOINT = "kubelet_internal_checkpoint"
_DIAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Registered:
    """One call of Register: when, what was said, and whether the plugin's socket accepted connections by then."""

    at: float
    request: RegisterRequest
    accepting: bool
    accepted: bool


@dataclass(slots=True)
class Endpoint:
    """A plugin that registered, and what it has said of its devices since."""

    request: RegisterRequest
    registered_at: float
    task: asyncio.Task[None] | None = None
    devices: tuple[Device, ...] = ()
    lists: list[tuple[float, ListAndWatchResponse]] = field(default_factory=list)
    stopped_at: float | None = None

    @property
    def options(self) -> DevicePluginOptions:
        return self.request.options or DevicePluginOptions()


class FakeKubelet:
    """Serves `folder`; `clock` decides when a resource whose plugin went away is forgotten."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.registered: list[Registered] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.version = VERSION
        self.delay = 0.0
        """Seconds before Register is answered."""
        self.refuses = False
        self._clock = clock
        self._server: Any = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Empty the folder and serve; resources are not known before their plugins register again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if not path.is_dir() and path.name != _CHECKPOINT:
                path.unlink()
        self.endpoints = {}
        self._server = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(
            REGISTRATION, {"Register": unary(self._register, RegisterRequest)}
        )
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(socket_address(self.folder / KUBELET_SOCKET))
        await self._server.start()

    async def stop(self, *, killed: bool = False) -> None:
        """Go away; one that is killed leaves its socket behind."""
        for endpoint in self.endpoints.values():
            await self._disconnect(endpoint)
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
        path = self.folder / KUBELET_SOCKET
        path.unlink(missing_ok=True)
        if killed:
            with socket.socket(socket.AF_UNIX) as remains:
                remains.bind(os.fspath(path))

    async def restart(self, *, killed: bool = False) -> None:
        """Stop and start."""
        await self.stop(killed=killed)
        await self.start()

    async def _register(self, request: RegisterRequest, context: Any) -> Empty:
        accepting = _accepts(self.folder / request.endpoint)
        accepted = request.version == self.version and is_resource_name(request.resource_name) and not self.refuses
        self.registered.append(Registered(time.monotonic(), request, accepting, accepted))
        self._tell()
        if self.delay:
            await asyncio.sleep(self.delay)
        if not accepted:
            await context.abort(
                grpc.StatusCode.UNKNOWN,
                f"requested API version {request.version!r} is not supported by kubelet, only {self.version!r} is",
            )
        endpoint = Endpoint(request, time.monotonic())
        old = self.endpoints.get(request.resource_name)
        self.endpoints[request.resource_name] = endpoint
        endpoint.task = asyncio.create_task(self._watch(endpoint))
        if old is not None:
            await self._disconnect(old)
        return Empty()

    async def _watch(self, endpoint: Endpoint) -> None:
        try:
            async with connected(self.folder / endpoint.request.endpoint) as channel:
                await asyncio.wait_for(channel.channel_ready(), _DIAL_SECONDS)
                async for message in stream(channel, f"{DEVICE_PLUGIN}/ListAndWatch", Empty(), ListAndWatchResponse):
                    endpoint.devices = message.devices
                    endpoint.lists.append((time.monotonic(), message))
                    self._tell()
        except (grpc.aio.AioRpcError, TimeoutError):
            pass  # how a stream ends when its plugin goes away; what follows is the same
        finally:
            endpoint.stopped_at = self._clock()
            self._tell()

    async def _disconnect(self, endpoint: Endpoint) -> None:
        if endpoint.task is not None:
            endpoint.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await endpoint.task

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds, which is tried after each event here; returns whether it came to hold."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            news = self._news
            if condition():
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left, 0.2))
        return True

    def watches(self, resource: str) -> bool:
        """Whether there is a stream of the resource's devices that has said something."""
        endpoint = self.endpoints.get(resource)
        return endpoint is not None and endpoint.stopped_at is None and bool(endpoint.lists)

    def capacity(self, resource: str) -> int | None:
        """What the node's status would list: every device; None once the resource is forgotten."""
        endpoint = self.endpoints.get(resource)
        if endpoint is None or (
            endpoint.stopped_at is not None and self._clock() - endpoint.stopped_at >= GRACE_SECONDS
        ):
            return None
        return len(endpoint.devices)

    def allocatable(self, resource: str) -> int | None:
        """What the node's status would list: every healthy device."""
        if self.capacity(resource) is None:
            return None
        endpoint = self.endpoints[resource]
        if endpoint.stopped_at is not None:
            return 0
        return sum(device.health == HEALTHY for device in endpoint.devices)

    def socket_of(self, resource: str) -> Path:
        """The socket that the resource's plugin registered last."""
        return self.folder / self.endpoints[resource].request.endpoint

    async def allocate(self, resource: str, *ids: str, timeout: float = 10.0) -> AllocateResponse:
        """Ask for these devices for one container, as the kubelet does; raises grpc.aio.AioRpcError."""
        return await self._ask(
            resource, "Allocate", AllocateRequest((ContainerAllocateRequest(ids),)), AllocateResponse, timeout
        )

    async def prefer(
        self, resource: str, request: ContainerPreferredAllocationRequest, timeout: float = 10.0
    ) -> PreferredAllocationResponse:
        """Ask which devices are best."""
        asked = PreferredAllocationRequest((request,))
        return await self._ask(resource, "GetPreferredAllocation", asked, PreferredAllocationResponse, timeout)

    async def pre_start(self, resource: str, *ids: str, timeout: float = 30.0) -> PreStartContainerResponse:
        """Say that a container with these devices is about to start."""
        asked = PreStartContainerRequest(ids)
        return await self._ask(resource, "PreStartContainer", asked, PreStartContainerResponse, timeout)

    async def _ask(
        self, resource: str, method: str, request: Message, answer: type[MessageT], timeout: float
    ) -> MessageT:
        async with connected(self.socket_of(resource)) as channel:
            return await call(channel, f"{DEVICE_PLUGIN}/{method}", request, answer, timeout=timeout)


def _accepts(path: Path) -> bool:
    """Whether somebody listens at a socket now."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
    except (OSError, ValueError):
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        return client.connect_ex(os.fspath(path)) == 0
