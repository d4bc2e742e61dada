"""Pods that run without the device that they asked for, as the kubelet and the API server tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sgxkit.errors import HostError
from sgxkit.kubernetes.cross_check import CrossCheck
from sgxkit.kubernetes.grpc_calls import socket_address, unary
from sgxkit.kubernetes.pod_devices import PodWithoutDevice, list_pod_devices, registered_resources
from sgxkit.kubernetes.pod_resources_api import (
    POD_RESOURCES_LISTER,
    AllocatableResourcesRequest,
    AllocatableResourcesResponse,
    ContainerDevices,
    ContainerResources,
    ListPodResourcesRequest,
    ListPodResourcesResponse,
    PodResources,
)

ENCLAVE = "sgx.intel.com/enclave"


@asynccontextmanager
async def kubelet(path: Path, *pods: PodResources) -> AsyncIterator[None]:
    async def listing(_request: Any, _context: Any) -> ListPodResourcesResponse:
        return ListPodResourcesResponse(pods)

    async def allocatable(_request: Any, _context: Any) -> AllocatableResourcesResponse:
        return AllocatableResourcesResponse((ContainerDevices(ENCLAVE, ("sgx-enclave-0",)),))

    server = grpc.aio.server()
    methods = {
        "List": unary(listing, ListPodResourcesRequest),
        "GetAllocatableResources": unary(allocatable, AllocatableResourcesRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(POD_RESOURCES_LISTER, methods),))
    server.add_insecure_port(socket_address(path))
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


def given(name: str, *resources: str) -> PodResources:
    devices = tuple(ContainerDevices(one, ("sgx-enclave-0",)) for one in resources)
    return PodResources(name, "default", (ContainerResources("main", devices),))


def asked(name: str, phase: str = "Running", **limits: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "main", "resources": {"limits": limits}}]},
        "status": {"phase": phase},
    }


def checked(path: Path, pods: list[dict[str, Any]], *resources: PodResources) -> CrossCheck:
    check = CrossCheck(path, lambda: pods, (ENCLAVE,))

    async def look() -> None:
        async with kubelet(path, *resources):
            await check.look()

    asyncio.run(look())
    return check


LIMITS = {ENCLAVE: "1"}


@pytest.mark.parametrize(
    ("pod", "devices", "found"),
    [
        (asked("p", **LIMITS), given("p", ENCLAVE), False),
        (asked("p", **LIMITS), given("p"), True),
        (asked("p", **LIMITS), given("p", "other.com/gpu"), True),
        (asked("p", **LIMITS), given("q", ENCLAVE), False),
        (asked("p", "Pending", **LIMITS), given("p"), False),
        (asked("p", **{ENCLAVE: "0"}), given("p"), False),
        (asked("p", **{"other.com/gpu": "1"}), given("p"), False),
        ({"metadata": {}, "status": {"phase": "Running"}}, given("p"), False),
    ],
)
def test_what_was_asked_is_compared_with_what_was_given(
    tmp_path: Path, pod: dict[str, Any], devices: PodResources, found: bool
) -> None:
    check = checked(tmp_path / "s", [pod], devices)
    assert check.found == ((PodWithoutDevice("default", "p", "main", ENCLAVE),) if found else ())
    assert len(check.metrics()[0].samples) == found


def test_the_kubelet_says_which_plugins_are_registered(tmp_path: Path) -> None:
    async def ask() -> frozenset[str]:
        async with kubelet(tmp_path / "s"):
            return await asyncio.to_thread(registered_resources, tmp_path / "s")

    assert asyncio.run(ask()) == {ENCLAVE}


@pytest.mark.parametrize("ask", [registered_resources, lambda path: asyncio.run(list_pod_devices(path))])
def test_no_kubelet_is_an_error(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    with pytest.raises(HostError, match="does not answer"):
        ask(tmp_path / "absent")
