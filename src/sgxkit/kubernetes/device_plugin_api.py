"""The kubelet's device plugin API, version v1beta1: messages, methods, names (proto/device_plugin.proto).

The kubelet serves `Registration` at kubelet.sock of its device plugin folder; a plugin serves `DevicePlugin` at a
socket of its own in the same folder. Neither has TLS: who may write to the folder is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from sgxkit.errors import InputError
from sgxkit.messages import msg

VERSION = "v1beta1"
PLUGIN_FOLDER = Path("/var/lib/kubelet/device-plugins")
"""A constant of the kubelet's, whatever its --root-dir."""
KUBELET_SOCKET = "kubelet.sock"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
PRE_START_SECONDS = 30.0

REGISTRATION = "v1beta1.Registration"
DEVICE_PLUGIN = "v1beta1.DevicePlugin"

_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_RESOURCE = re.compile(rf"(?P<prefix>{_DNS}(\.{_DNS})*)/(?P<name>[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Empty:
    """No content."""

    WIRE: ClassVar[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class DevicePluginOptions:
    """What the kubelet may ask of a plugin beyond Allocate."""

    WIRE: ClassVar[Mapping[str, int]] = {"pre_start_required": 1, "get_preferred_allocation_available": 2}
    pre_start_required: bool = False
    get_preferred_allocation_available: bool = False


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """A plugin makes itself known; `endpoint` is its socket's file name in the plugin folder."""

    WIRE: ClassVar[Mapping[str, int]] = {"version": 1, "endpoint": 2, "resource_name": 3, "options": 4}
    version: str = ""
    endpoint: str = ""
    resource_name: str = ""
    options: DevicePluginOptions | None = None


@dataclass(frozen=True, slots=True)
class NumaNode:
    """A NUMA node, by its number."""

    WIRE: ClassVar[Mapping[str, int]] = {"id": 1}
    id: int = 0


@dataclass(frozen=True, slots=True)
class TopologyInfo:
    """The NUMA nodes that a device is near to."""

    WIRE: ClassVar[Mapping[str, int]] = {"nodes": 1}
    nodes: tuple[NumaNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """One device; its identifier has at most 63 characters."""

    WIRE: ClassVar[Mapping[str, int]] = {"id": 1, "health": 2, "topology": 3}
    id: str = ""
    health: str = ""
    topology: TopologyInfo | None = None


@dataclass(frozen=True, slots=True)
class ListAndWatchResponse:
    """All devices there are; each message of the stream replaces the one before."""

    WIRE: ClassVar[Mapping[str, int]] = {"devices": 1}
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerPreferredAllocationRequest:
    """Choose `allocation_size` of the available ones, with all that must be included."""

    WIRE: ClassVar[Mapping[str, int]] = {"available": 1, "must_include": 2, "allocation_size": 3}
    available: tuple[str, ...] = ()
    must_include: tuple[str, ...] = ()
    allocation_size: int = 0


@dataclass(frozen=True, slots=True)
class PreferredAllocationRequest:
    """One request a container."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_requests": 1}
    container_requests: tuple[ContainerPreferredAllocationRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerPreferredAllocationResponse:
    """The identifiers chosen."""

    WIRE: ClassVar[Mapping[str, int]] = {"device_ids": 1}
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreferredAllocationResponse:
    """One response a request, in order."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_responses": 1}
    container_responses: tuple[ContainerPreferredAllocationResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerAllocateRequest:
    """The devices that the kubelet chose for a container."""

    WIRE: ClassVar[Mapping[str, int]] = {"device_ids": 1}
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocateRequest:
    """One request a container; the kubelet sends one at a time."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_requests": 1}
    container_requests: tuple[ContainerAllocateRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host in the container."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_path": 1, "host_path": 2, "read_only": 3}
    container_path: str = ""
    host_path: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device node of the host in the container, with cgroup permissions out of r, w and m."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_path": 1, "host_path": 2, "permissions": 3}
    container_path: str = ""
    host_path: str = ""
    permissions: str = ""


@dataclass(frozen=True, slots=True)
class CdiDevice:
    """A device by its CDI name, vendor/class=name."""

    WIRE: ClassVar[Mapping[str, int]] = {"name": 1}
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContainerAllocateResponse:
    """What the container gets."""

    WIRE: ClassVar[Mapping[str, int]] = {"envs": 1, "mounts": 2, "devices": 3, "annotations": 4, "cdi_devices": 5}
    envs: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    cdi_devices: tuple[CdiDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class AllocateResponse:
    """One response a request, in order."""

    WIRE: ClassVar[Mapping[str, int]] = {"container_responses": 1}
    container_responses: tuple[ContainerAllocateResponse, ...] = ()


@dataclass(frozen=True, slots=True)
class PreStartContainerRequest:
    """Sent before the container starts, to a plugin that asked for it."""

    WIRE: ClassVar[Mapping[str, int]] = {"device_ids": 1}
    device_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreStartContainerResponse:
    """No content."""

    WIRE: ClassVar[Mapping[str, int]] = {}


def is_resource_name(text: str) -> bool:
    """Whether this can be the name of an extended resource: ``domain/name``, not of Kubernetes' own domains.

    Kubernetes: a DNS-1123 subdomain of at most 253 characters, a name of at most 63; quota's ``requests.`` must fit.
    """
    found = _RESOURCE.fullmatch(text)
    if found is None or len(found["name"]) > 63 or len(f"requests.{found['prefix']}") > 253:
        return False
    return not (found["prefix"] == "kubernetes.io" or found["prefix"].endswith(".kubernetes.io"))


def check_prefix(prefix: str) -> str:
    """Return a resource name's domain, or raise InputError."""
    if not is_resource_name(f"{prefix}/enclave"):
        raise InputError(
            msg("{prefix} is not the domain of extended resources", prefix=prefix),
            hint=msg("a DNS name in lower case that is not Kubernetes' own, such as sgx.intel.com"),
        )
    return prefix
