"""The kubelet's PodResources API, version v1, as far as devices go (proto/pod_resources.proto).

The kubelet serves it at pod-resources/kubelet.sock of its root folder, to who may open the socket (root).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

POD_RESOURCES_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
POD_RESOURCES_LISTER = "v1.PodResourcesLister"


@dataclass(frozen=True, slots=True)
class ListPodResourcesRequest:
    """No content."""

    WIRE: ClassVar[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class AllocatableResourcesRequest:
    """No content."""

    WIRE: ClassVar[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class ContainerDevices:
    """The devices of one resource that a container has."""

    WIRE: ClassVar[Mapping[str, int]] = {"resource_name": 1, "device_ids": 2}
    resource_name: str = ""
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerResources:
    """A container of a pod."""

    WIRE: ClassVar[Mapping[str, int]] = {"name": 1, "devices": 2}
    name: str = ""
    devices: tuple[ContainerDevices, ...] = ()


@dataclass(frozen=True, slots=True)
class PodResources:
    """A pod of this node."""

    WIRE: ClassVar[Mapping[str, int]] = {"name": 1, "namespace": 2, "containers": 3}
    name: str = ""
    namespace: str = ""
    containers: tuple[ContainerResources, ...] = ()


@dataclass(frozen=True, slots=True)
class ListPodResourcesResponse:
    """Every pod that the kubelet runs."""

    WIRE: ClassVar[Mapping[str, int]] = {"pod_resources": 1}
    pod_resources: tuple[PodResources, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocatableResourcesResponse:
    """The devices of every plugin that is registered."""

    WIRE: ClassVar[Mapping[str, int]] = {"devices": 1}
    devices: tuple[ContainerDevices, ...] = ()
