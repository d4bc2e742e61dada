"""Who has which devices on this node, by the kubelet's PodResources; and pods that run without what they asked for.

A kubelet whose device plugin was away when it started forgets that a resource is a plugin's, lists it from the node's
old status, and starts pods without their device. The API server knows what they asked for, the kubelet what they got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from sgxkit.errors import HostError
from sgxkit.host.checks.kubernetes import quantity
from sgxkit.kubernetes.grpc_calls import call, connected
from sgxkit.kubernetes.pod_resources_api import (
    POD_RESOURCES_LISTER,
    AllocatableResourcesRequest,
    AllocatableResourcesResponse,
    ListPodResourcesRequest,
    ListPodResourcesResponse,
)
from sgxkit.messages import msg

_SECONDS = 10.0


@dataclass(frozen=True, slots=True, order=True)
class PodWithoutDevice:
    """A container that asked for a resource, runs, and has no device of it."""

    namespace: str
    pod: str
    container: str
    resource: str


async def list_pod_devices(socket: Path) -> Mapping[tuple[str, str, str], frozenset[str]]:
    """The resources of which each container (namespace, pod, container) has a device; raises HostError."""
    try:
        async with connected(socket) as channel:
            answer = await call(
                channel,
                f"{POD_RESOURCES_LISTER}/List",
                ListPodResourcesRequest(),
                ListPodResourcesResponse,
                timeout=_SECONDS,
            )
    except grpc.aio.AioRpcError as error:
        raise _unanswered(socket, error) from error
    return {
        (pod.namespace, pod.name, container.name): frozenset(
            device.resource_name for device in container.devices if device.device_ids
        )
        for pod in answer.pod_resources
        for container in pod.containers
    }


def registered_resources(socket: Path) -> frozenset[str]:
    """The resources of every device plugin that the kubelet has; raises HostError."""

    async def ask() -> AllocatableResourcesResponse:
        async with connected(socket) as channel:
            return await call(
                channel,
                f"{POD_RESOURCES_LISTER}/GetAllocatableResources",
                AllocatableResourcesRequest(),
                AllocatableResourcesResponse,
                timeout=_SECONDS,
            )

    try:
        return frozenset(device.resource_name for device in asyncio.run(ask()).devices)
    except grpc.aio.AioRpcError as error:
        raise _unanswered(socket, error) from error


def _unanswered(socket: Path, error: grpc.aio.AioRpcError) -> HostError:
    return HostError(
        msg(
            "the kubelet does not answer at {path}: {reason}",
            path=socket,
            reason=error.details() or error.code().name,
        )
    )


def pods_without_devices(
    pods: Iterable[Mapping[str, Any]],
    devices: Mapping[tuple[str, str, str], frozenset[str]],
    resources: Iterable[str],
) -> tuple[PodWithoutDevice, ...]:
    """Compare what running pods of the node asked for with what the kubelet gave them.

    A pod that the kubelet does not list yet is not judged: it may just be starting, or just have ended.
    """
    wanted = frozenset(resources)
    listed = {(namespace, pod) for namespace, pod, _ in devices}
    found = []
    for pod in pods:
        metadata, status = pod.get("metadata", {}), pod.get("status", {})
        namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
        if status.get("phase") != "Running" or (namespace, name) not in listed:
            continue
        for container in pod.get("spec", {}).get("containers", ()):
            limits = container.get("resources", {}).get("limits") or {}
            asked = {one for one in wanted & set(limits) if quantity(str(limits[one]))}
            has = devices.get((namespace, name, str(container.get("name"))), frozenset())
            found += [
                PodWithoutDevice(namespace, name, str(container.get("name")), one) for one in sorted(asked - has)
            ]
    return tuple(sorted(found))
