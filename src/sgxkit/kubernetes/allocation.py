"""What containers get, and which devices are best: pure functions of the device plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgxkit.errors import SgxkitError
from sgxkit.kubernetes.cdi import qualified_name
from sgxkit.kubernetes.device_plugin_api import (
    CdiDevice,
    ContainerAllocateResponse,
    ContainerPreferredAllocationRequest,
    DeviceSpec,
    Mount,
)
from sgxkit.kubernetes.devices import Resource
from sgxkit.messages import Message, msg

PERMISSIONS = "rw"


class AllocationError(SgxkitError):
    """A request of the kubelet's that cannot be met."""

    code = "allocation"


def allocate(
    resource: Resource, ids: Sequence[str], unhealthy: Message | None, *, cdi: bool = False
) -> ContainerAllocateResponse:
    """What a container with these devices gets; each device node once, however many it asked for.

    With `cdi` the device nodes are named by CDI instead. Raises AllocationError for no, unknown or repeated
    identifiers, and where the resource is unhealthy, which `unhealthy` says why.
    """
    known = set(resource.device_ids)
    unknown = next((one for one in ids if one not in known), None)
    if unknown is not None:
        raise AllocationError(msg("{resource} has no device {id}", resource=resource.name, id=unknown))
    if not ids or len(set(ids)) != len(ids):
        raise AllocationError(msg("no device of {resource} is named, or one twice", resource=resource.name))
    if unhealthy is not None:
        raise AllocationError(msg("{resource} is unhealthy: {reason}", resource=resource.name, reason=unhealthy))
    if cdi:
        return ContainerAllocateResponse(
            envs=resource.environment, cdi_devices=(CdiDevice(qualified_name(resource)),)
        )
    return ContainerAllocateResponse(
        envs=resource.environment,
        mounts=tuple(Mount(mount.container, mount.host, mount.read_only) for mount in resource.mounts),
        devices=tuple(DeviceSpec(container, host, PERMISSIONS) for container, host in device_paths(resource)),
    )


def device_paths(resource: Resource) -> tuple[tuple[str, str], ...]:
    """Path in the container and on the host of each device node, aliases after the nodes themselves."""
    own = tuple((f"/dev/{node}", f"/dev/{node}") for node in resource.nodes)
    return own + tuple((alias, f"/dev/{node}") for node, alias in resource.aliases)


def prefer(request: ContainerPreferredAllocationRequest, numa_nodes: Mapping[str, int | None]) -> tuple[str, ...]:
    """Choose devices of as few NUMA nodes as can be, with all that must be included.

    `numa_nodes` says where each device counts. Raises AllocationError for a request that cannot be met.
    """
    must, size = request.must_include, request.allocation_size
    available = [one for one in dict.fromkeys(request.available) if one in numa_nodes]
    if not set(must) <= set(available) or not len(set(must)) <= size <= len(available):
        raise AllocationError(
            msg("{size} of {count} devices cannot be chosen", size=size, count=len(available)),
            hint=msg("what must be included must be available, and fit"),
        )
    chosen = list(dict.fromkeys(must))
    groups: dict[int | None, list[str]] = {}
    for one in available:
        if one not in chosen:
            groups.setdefault(numa_nodes[one], []).append(one)
    begun = {numa_nodes[one] for one in chosen}
    while len(chosen) < size:
        wanted = size - len(chosen)
        # Where a device is already; else the smallest group that is enough; else the largest.
        node = min(
            groups,
            key=lambda one: (
                one not in begun,
                len(groups[one]) < wanted,
                len(groups[one]) if len(groups[one]) >= wanted else -len(groups[one]),
            ),
        )
        chosen += groups.pop(node)[:wanted]
    return tuple(chosen)
