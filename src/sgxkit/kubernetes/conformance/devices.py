"""Checks of the devices that a plugin lists and hands out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import PurePosixPath

import grpc
import grpc.aio

from sgxkit.kubernetes.conformance.stand import (
    ConformanceCheck,
    SkippedError,
    Stand,
)
from sgxkit.kubernetes.device_plugin_api import (
    DEVICE_PLUGIN,
    HEALTHY,
    PRE_START_SECONDS,
    UNHEALTHY,
    AllocateRequest,
    AllocateResponse,
    ContainerAllocateRequest,
    ContainerAllocateResponse,
    ContainerPreferredAllocationRequest,
    Empty,
    ListAndWatchResponse,
)
from sgxkit.kubernetes.grpc_calls import call, connected, stream
from sgxkit.kubernetes.protobuf import encode
from sgxkit.messages import msg

_MAX_MESSAGE = 4 << 20
_PARALLEL = 200
_NODES = {"enclave": "sgx_enclave", "provision": "sgx_provision"}
_NO_DEVICE = "no-such-device"


def _ids(stand: Stand, resource: str) -> tuple[str, ...]:
    return tuple(device.id for device in stand.kubelet.endpoints[resource].devices)


async def _granted(stand: Stand, resource: str, *ids: str) -> ContainerAllocateResponse:
    try:
        answer = await stand.kubelet.allocate(resource, *ids)
    except grpc.aio.AioRpcError as error:
        stand.require(False, msg("{resource}: Allocate fails: {reason}", resource=resource, reason=error.details()))
        raise
    count = len(answer.container_responses)
    stand.require(count == 1, msg("{resource}: {count} responses to one request", resource=resource, count=count))
    return answer.container_responses[0]


async def _lists_devices(stand: Stand) -> None:
    await stand.kubelet.restart()
    await stand.require_watched(msg("after the kubelet's start"))
    before = {}
    for resource in stand.resources:
        ids = before[resource] = _ids(stand, resource)
        stand.require(ids, msg("{resource}: the first list is empty", resource=resource))
        stand.require(len(set(ids)) == len(ids), msg("{resource}: an identifier comes twice", resource=resource))
        stand.require(
            all(0 < len(one) <= 63 for one in ids), msg("{resource}: an identifier is too long", resource=resource)
        )
        healths = {device.health for device in stand.kubelet.endpoints[resource].devices}
        stand.require(
            healths <= {HEALTHY, UNHEALTHY}, msg("{resource}: a health that is no word for it", resource=resource)
        )
    await stand.kubelet.restart()
    await stand.require_watched(msg("after the kubelet's start"))
    for resource, ids in before.items():
        same = set(_ids(stand, resource)) == set(ids)
        stand.require(same, msg("{resource}: other identifiers after a restart", resource=resource))


async def _fits_a_message(stand: Stand) -> None:
    for resource in stand.resources:
        size = len(encode(stand.kubelet.endpoints[resource].lists[-1][1]))
        stand.require(size < _MAX_MESSAGE, msg("{resource}: its list has {size} bytes", resource=resource, size=size))


async def _grants_what_it_says(stand: Stand) -> None:
    for resource in stand.resources:
        ids = _ids(stand, resource)
        for count in {1, min(2, len(ids))}:
            granted = await _granted(stand, resource, *ids[:count])
            paths = [device.container_path for device in granted.devices]
            stand.require(len(set(paths)) == len(paths), msg("{resource}: a device comes twice", resource=resource))
            for device in granted.devices:
                stand.require(
                    set(device.permissions) <= set("rw") and device.permissions,
                    msg("{resource}: permissions {given}", resource=resource, given=device.permissions),
                )
                for path in (device.container_path, device.host_path):
                    stand.require(
                        PurePosixPath(path).is_absolute(),
                        msg("{resource}: {path} is not absolute", resource=resource, path=path),
                    )
            expected = _NODES.get(resource.partition("/")[2])
            if resource.startswith("sgx.intel.com/") and expected is not None and not granted.cdi_devices:
                names = {PurePosixPath(device.host_path).name for device in granted.devices}
                stand.require(
                    names == {expected},
                    msg("{resource}: grants {names}", resource=resource, names=", ".join(sorted(names)) or "-"),
                )


async def _answers_each_request(stand: Stand) -> None:
    for resource in stand.resources:
        ids = _ids(stand, resource)[:3]
        request = AllocateRequest(tuple(ContainerAllocateRequest((one,)) for one in ids))
        async with connected(stand.kubelet.socket_of(resource)) as channel:
            answer = await call(channel, f"{DEVICE_PLUGIN}/Allocate", request, AllocateResponse, timeout=10.0)
        stand.require(
            len(answer.container_responses) == len(ids),
            msg(
                "{resource}: {count} responses to {asked} requests",
                resource=resource,
                asked=len(ids),
                count=len(answer.container_responses),
            ),
        )


async def _refused(stand: Stand, resource: str, *ids: str) -> bool:
    try:
        await stand.kubelet.allocate(resource, *ids)
    except grpc.aio.AioRpcError:
        return True
    return False


async def _refuses_unknown(stand: Stand) -> None:
    for resource in stand.resources:
        known = _ids(stand, resource)[:1]
        for ids in ((_NO_DEVICE,), (*known, _NO_DEVICE)):
            stand.require(
                await _refused(stand, resource, *ids),
                msg("{resource}: an identifier that it never listed is allocated", resource=resource),
            )


def _shared(stand: Stand) -> str:
    """A device node that a resource depends on."""
    folder = stand.setup.device_folder
    if folder is None:
        raise SkippedError(msg("needs --device-dir, to take a device away"))
    for name in _NODES.values():
        if (folder / name).exists():
            return name
    raise SkippedError(msg("{path} has no SGX device", path=folder))


def _kind_of(stand: Stand, kind: str) -> str | None:
    return next((one for one in stand.resources if one.partition("/")[2] == kind), None)


async def _follows_health(stand: Stand) -> None:
    resource = _kind_of(stand, "enclave")
    if resource is None:
        raise SkippedError(msg("it has no resource called enclave"))
    kubelet, within = stand.kubelet, stand.setup.within
    count = kubelet.allocatable(resource)
    async with stand.without_device(_NODES["enclave"]) as path:
        gone = await kubelet.wait_until(lambda: kubelet.allocatable(resource) == 0, within)
        stand.require(gone, msg("{resource}: stays healthy without its device", resource=resource))
        stand.require(
            kubelet.capacity(resource) == count,
            msg("{resource}: forgets devices that are unhealthy", resource=resource),
        )
        stand.require(
            await _refused(stand, resource, _ids(stand, resource)[0]),
            msg("{resource}: an unhealthy device is allocated", resource=resource),
        )
        path.write_text("not a device")
        await asyncio.sleep(within)
        stand.require(
            kubelet.allocatable(resource) == 0, msg("{resource}: takes a file for its device", resource=resource)
        )
        path.unlink()
    back = await kubelet.wait_until(lambda: kubelet.allocatable(resource) == count, within)
    stand.require(back, msg("{resource}: stays unhealthy with its device back", resource=resource))


async def _keeps_resources_apart(stand: Stand) -> None:
    enclave, provision = _kind_of(stand, "enclave"), _kind_of(stand, "provision")
    if enclave is None or provision is None:
        raise SkippedError(msg("it has not both enclave and provision"))
    kubelet = stand.kubelet
    count = kubelet.allocatable(enclave)
    async with stand.without_device(_NODES["provision"]):
        gone = await kubelet.wait_until(lambda: kubelet.allocatable(provision) == 0, stand.setup.within)
        stand.require(gone, msg("{resource}: stays healthy without its device", resource=provision))
        await stand.kubelet.restart()
        watched = await kubelet.wait_until(lambda: kubelet.watches(enclave), stand.setup.within)
        stand.require(
            watched and kubelet.allocatable(enclave) == count,
            msg("{resource}: is affected by a device that is not its own", resource=enclave),
        )
    await kubelet.wait_until(lambda: bool(kubelet.allocatable(provision)), stand.setup.within)


async def _tells_every_stream(stand: Stand) -> None:
    resource = _kind_of(stand, "enclave") or stand.resources[0]
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(2):
            channel = await stack.enter_async_context(connected(stand.kubelet.socket_of(resource)))
            streams.append(stream(channel, f"{DEVICE_PLUGIN}/ListAndWatch", Empty(), ListAndWatchResponse))
        try:
            for one in streams:
                first = await asyncio.wait_for(one.read(), 5.0)
                stand.require(
                    isinstance(first, ListAndWatchResponse) and first.devices,
                    msg("{resource}: a second stream gets no list", resource=resource),
                )
            if stand.setup.device_folder is not None:
                async with stand.without_device(_shared(stand)):
                    for one in streams:
                        with contextlib.suppress(TimeoutError):
                            second = await asyncio.wait_for(one.read(), stand.setup.within)
                            if isinstance(second, ListAndWatchResponse):
                                continue
                        stand.require(False, msg("{resource}: a stream does not get a change", resource=resource))
        finally:
            for one in streams:
                one.cancel()
    await stand.settle()
    await stand.kubelet.wait_until(lambda: bool(stand.kubelet.allocatable(resource)), stand.setup.within)


async def _allocates_in_parallel(stand: Stand) -> None:
    jobs = []
    for number in range(_PARALLEL):
        resource = stand.resources[number % len(stand.resources)]
        ids = _ids(stand, resource)
        jobs.append(stand.kubelet.allocate(resource, ids[number % len(ids)], timeout=20.0))
    results = await asyncio.gather(*jobs, return_exceptions=True)
    failed = [one for one in results if isinstance(one, BaseException)]
    stand.require(not failed, msg("{count} of {asked} allocations at once fail", count=len(failed), asked=_PARALLEL))


async def _prefers(stand: Stand) -> None:
    asked = 0
    for resource in stand.resources:
        if not stand.kubelet.endpoints[resource].options.get_preferred_allocation_available:
            continue
        ids = _ids(stand, resource)
        for size in {1, min(3, len(ids)), len(ids)}:
            must = ids[-1:]
            request = ContainerPreferredAllocationRequest(ids, must, size)
            answer = await stand.kubelet.prefer(resource, request)
            chosen = answer.container_responses[0].device_ids if answer.container_responses else ()
            stand.require(
                len(chosen) == len(set(chosen)) == size and set(must) <= set(chosen) <= set(ids),
                msg(
                    "{resource}: prefers {count} of {asked} devices, or other ones",
                    resource=resource,
                    count=len(chosen),
                    asked=size,
                ),
            )
            asked += 1
    if not asked:
        raise SkippedError(msg("it does not offer GetPreferredAllocation"))


async def _prepares(stand: Stand) -> None:
    asked = 0
    for resource in stand.resources:
        if stand.kubelet.endpoints[resource].options.pre_start_required:
            begun = time.monotonic()
            await stand.kubelet.pre_start(resource, _ids(stand, resource)[0])
            stand.require(
                time.monotonic() - begun < PRE_START_SECONDS,
                msg("{resource}: PreStartContainer takes too long", resource=resource),
            )
            asked += 1
    if not asked:
        raise SkippedError(msg("it does not offer PreStartContainer"))


async def _resolves_cdi(stand: Stand) -> None:
    names: set[str] = set()
    for resource in stand.resources:
        granted = await _granted(stand, resource, _ids(stand, resource)[0])
        names |= {device.name for device in granted.cdi_devices}
    if not names:
        raise SkippedError(msg("it names no CDI devices"))
    folder = stand.setup.cdi_folder
    if folder is None:
        raise SkippedError(msg("needs --cdi-dir, to read its specifications"))
    defined: set[str] = set()
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        defined |= {f"{document['kind']}={device['name']}" for device in document["devices"]}
        mode = path.stat().st_mode & 0o777
        stand.require(mode == 0o644, msg("{path} has mode {mode}", path=path.name, mode=f"{mode:o}"))
    unresolved = sorted(names - defined)
    stand.require(not unresolved, msg("{name} is in no specification", name=", ".join(unresolved)))


CHECKS: tuple[ConformanceCheck, ...] = (
    ConformanceCheck("lists", msg("lists its devices at once, by names that stay"), _lists_devices),
    ConformanceCheck("list-size", msg("keeps its list within a gRPC message"), _fits_a_message),
    ConformanceCheck("grants", msg("grants the device nodes of the resource, and no more"), _grants_what_it_says),
    ConformanceCheck("one-response-each", msg("answers each request of an Allocate"), _answers_each_request),
    ConformanceCheck("refuses-unknown", msg("refuses identifiers that it never listed"), _refuses_unknown),
    ConformanceCheck("health", msg("follows the health of its device nodes"), _follows_health),
    ConformanceCheck("independence", msg("keeps resources apart"), _keeps_resources_apart),
    ConformanceCheck("two-streams", msg("tells every stream what changes"), _tells_every_stream),
    ConformanceCheck("parallel", msg("allocates two hundred times at once"), _allocates_in_parallel),
    ConformanceCheck("preference", msg("prefers what is available and must be included"), _prefers),
    ConformanceCheck("pre-start", msg("prepares containers in time"), _prepares),
    ConformanceCheck("cdi", msg("names CDI devices that are specified"), _resolves_cdi),
)
