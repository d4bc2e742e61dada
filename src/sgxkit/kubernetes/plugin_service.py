"""The DevicePlugin service of one resource, at one socket.

Every stream of ListAndWatch has its own place in the sequence of states, so a stream that nobody reads any more can
keep no update from another; the kubelet's going away cancels it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from sgxkit.errors import SgxkitError
from sgxkit.kubernetes.allocation import AllocationError, allocate, prefer
from sgxkit.kubernetes.device_plugin_api import (
    DEVICE_PLUGIN,
    HEALTHY,
    UNHEALTHY,
    AllocateRequest,
    AllocateResponse,
    ContainerPreferredAllocationResponse,
    Device,
    DevicePluginOptions,
    Empty,
    ListAndWatchResponse,
    NumaNode,
    PreferredAllocationRequest,
    PreferredAllocationResponse,
    PreStartContainerRequest,
    PreStartContainerResponse,
    TopologyInfo,
)
from sgxkit.kubernetes.devices import Resource
from sgxkit.kubernetes.grpc_calls import socket_address, streaming, unary
from sgxkit.messages import Message

OPTIONS = DevicePluginOptions(pre_start_required=False, get_preferred_allocation_available=True)
_SOCKET_MODE = 0o600

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(slots=True)
class Counts:
    """What a resource's plugin has done since it started."""

    registrations: int = 0
    failed_registrations: int = 0
    allocations: int = 0
    refused_allocations: int = 0


class DevicePluginService:
    """One resource: its devices' state, and the answers to the kubelet."""

    def __init__(self, resource: Resource, numa_nodes: tuple[int | None, ...], *, cdi: bool = False) -> None:
        self.resource = resource
        self.counts = Counts()
        self.watchers = 0
        self.unhealthy: Message | None = None
        self._cdi = cdi
        self._numa_nodes = dict(zip(resource.device_ids, numa_nodes, strict=True))
        self._version = 0
        self._closed = False
        self._changed = asyncio.Event()

    def update(self, unhealthy: Message | None) -> bool:
        """Say why the devices are unhealthy, None if they are not; returns whether that is a change of health."""
        changed = (unhealthy is None) != (self.unhealthy is None)
        self.unhealthy = unhealthy
        if changed:
            self._version += 1
            self._wake()
        return changed

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def devices(self) -> ListAndWatchResponse:
        """The state of every device now."""
        health = HEALTHY if self.unhealthy is None else UNHEALTHY
        return ListAndWatchResponse(
            tuple(
                Device(one, health, None if node is None else TopologyInfo((NumaNode(node),)))
                for one, node in self._numa_nodes.items()
            )
        )

    def handlers(self) -> Any:
        """What a gRPC server needs to know of this service."""
        return grpc.method_handlers_generic_handler(
            DEVICE_PLUGIN,
            {
                "GetDevicePluginOptions": unary(self._options, Empty),
                "ListAndWatch": streaming(self._list_and_watch, Empty),
                "GetPreferredAllocation": unary(self._prefer, PreferredAllocationRequest),
                "Allocate": unary(self._allocate, AllocateRequest),
                "PreStartContainer": unary(self._pre_start, PreStartContainerRequest),
            },
        )

    async def _options(self, _request: Empty, _context: Context) -> DevicePluginOptions:
        return OPTIONS

    async def _list_and_watch(self, _request: Empty, _context: Context) -> AsyncIterator[ListAndWatchResponse]:
        self.watchers += 1
        sent = -1
        try:
            while not self._closed:
                changed = self._changed
                if sent != self._version:
                    sent = self._version
                    yield self.devices()
                    continue
                await changed.wait()
        finally:
            self.watchers -= 1

    async def _allocate(self, request: AllocateRequest, context: Context) -> AllocateResponse:
        try:
            answers = tuple(
                allocate(self.resource, one.device_ids, self.unhealthy, cdi=self._cdi)
                for one in request.container_requests
            )
        except AllocationError as error:
            self.counts.refused_allocations += 1
            await _refuse(context, error)
            raise
        self.counts.allocations += 1
        return AllocateResponse(answers)

    async def _prefer(self, request: PreferredAllocationRequest, context: Context) -> PreferredAllocationResponse:
        try:
            return PreferredAllocationResponse(
                tuple(
                    ContainerPreferredAllocationResponse(prefer(one, self._numa_nodes))
                    for one in request.container_requests
                )
            )
        except AllocationError as error:
            await _refuse(context, error)
            raise

    async def _pre_start(self, _request: PreStartContainerRequest, _context: Context) -> PreStartContainerResponse:
        """Not asked for in `OPTIONS`; there is nothing to prepare."""
        return PreStartContainerResponse()


async def _refuse(context: Any, error: SgxkitError) -> None:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class PluginSocket:
    """A server of the service at a socket whose name no other process has: kubelets confuse those of one name."""

    def __init__(self, service: DevicePluginService, folder: Path) -> None:
        self.path = folder / f"{socket_stem(service.resource)}{secrets.token_hex(4)}.sock"
        self._server = grpc.aio.server(maximum_concurrent_rpcs=1024)
        self._server.add_generic_rpc_handlers((service.handlers(),))
        self._identity: tuple[int, int] | None = None

    async def listen(self) -> None:
        """Accept connections from now on; raises OSError or RuntimeError where that cannot be."""
        self._server.add_insecure_port(socket_address(self.path))
        await self._server.start()
        self.path.chmod(_SOCKET_MODE)
        self._identity = _identity(self.path)

    def is_there(self) -> bool:
        """Whether the socket's name still leads to it."""
        return self._identity is not None and _identity(self.path) == self._identity

    async def close(self, grace: float) -> None:
        """Stop answering; what is under way has `grace` seconds."""
        ours = self.is_there()
        await self._server.stop(grace)
        if ours:
            self.path.unlink(missing_ok=True)


def socket_stem(resource: Resource) -> str:
    """How the names of this resource's sockets begin."""
    return f"{resource.name.replace('/', '-')}-"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
