"""Checks of how a plugin finds the kubelet, and finds it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from sgxkit.kubernetes.conformance.stand import (
    ConformanceCheck,
    SkippedError,
    Stand,
    end_process,
    exited,
    open_files,
)
from sgxkit.kubernetes.device_plugin_api import DEVICE_PLUGIN, VERSION, Empty, ListAndWatchResponse, is_resource_name
from sgxkit.kubernetes.grpc_calls import connected, stream
from sgxkit.messages import msg

_MAX_RETRIES_A_SECOND = 10


async def _registers(stand: Stand) -> None:
    moment = time.monotonic()
    await stand.kubelet.restart()
    await stand.require_watched(msg("after the kubelet's start"))
    for one in stand.since(moment):
        request = one.request
        stand.require(request.version == VERSION, msg("it registers version {version}", version=request.version))
        stand.require(
            request.endpoint not in ("", ".", "..") and Path(request.endpoint).name == request.endpoint,
            msg("its endpoint {endpoint} is no bare file name", endpoint=request.endpoint),
        )
        stand.require(
            is_resource_name(request.resource_name),
            msg("{name} is no name of an extended resource", name=request.resource_name),
        )


async def _listens_first(stand: Stand) -> None:
    moment = time.monotonic()
    await stand.kubelet.restart()
    await stand.require_watched(msg("after the kubelet's start"))
    for one in stand.since(moment):
        stand.require(
            one.accepting,
            msg("{resource} registers before its socket accepts connections", resource=one.request.resource_name),
        )


async def _survives_restarts(stand: Stand) -> None:
    files = None if stand.process is None else open_files(stand.process.pid)
    for number in range(stand.setup.restarts):
        await stand.kubelet.restart()
        await stand.require_watched(msg("after restart {number} of the kubelet", number=number + 1))
    if stand.process is not None and files is not None:
        stand.require(stand.process.poll() is None, msg("its process ended"))
        await asyncio.sleep(0.5)
        now = open_files(stand.process.pid)
        stand.require(now <= files + 8, msg("it has {now} files open, {before} before", now=now, before=files))


async def _survives_kills(stand: Stand) -> None:
    """A kubelet that is killed leaves its socket, and the plugin's, behind."""
    for _ in range(3):
        await stand.kubelet.stop(killed=True)
        await asyncio.sleep(0.3)
        await stand.kubelet.start()
        await stand.require_watched(msg("after the kubelet was killed and started"))


async def _starts_without_kubelet(stand: Stand) -> None:
    """The folder itself is missing too."""
    process = stand.start_plugin()  # skipped here where it cannot be started
    await end_process(process)
    await _end_own(stand)
    await stand.kubelet.stop()
    with contextlib.suppress(OSError):
        for path in stand.setup.folder.iterdir():
            if not path.is_dir():
                path.unlink()
        stand.setup.folder.rmdir()
    stand.process = stand.start_plugin()
    stand.require(not await exited(stand.process, 3.0), msg("it ends where the kubelet is not there"))
    moment = time.monotonic()
    await stand.kubelet.start()
    stand.require(
        await stand.all_watched(max(stand.setup.within, 12.0)),
        msg("it does not register with a kubelet that comes later"),
    )
    stand.require(time.monotonic() - moment < 12.0, msg("it does not register with a kubelet that comes later"))


async def _end_own(stand: Stand) -> None:
    if stand.process is not None:
        await end_process(stand.process)
        stand.process = None


async def _bears_refusal(stand: Stand) -> None:
    stand.kubelet.refuses = True
    moment = time.monotonic()
    await stand.kubelet.restart()
    await asyncio.sleep(3.0)
    tries = len(stand.since(moment))
    most = int(3.0 * _MAX_RETRIES_A_SECOND * max(len(stand.resources), 1))
    stand.require(tries <= most, msg("it asks {count} times in 3 seconds where it is refused", count=tries))
    if stand.process is not None and stand.process.poll() is not None:
        stand.require(stand.process.returncode != 0, msg("it ends as if all were well where it is refused"))
        return
    stand.kubelet.refuses = False
    stand.require(await stand.all_watched(15.0), msg("it does not try again after it was refused"))


async def _bears_slowness(stand: Stand) -> None:
    stand.kubelet.delay = 2.0
    moment = time.monotonic()
    await stand.kubelet.restart()
    watched = await stand.all_watched(stand.setup.within + 6.0)
    stand.require(watched, msg("it does not wait for a slow kubelet"))
    for resource in stand.resources:
        count = sum(one.request.resource_name == resource for one in stand.since(moment))
        stand.require(
            count <= 3, msg("{resource} registers {count} times with a slow kubelet", resource=resource, count=count)
        )


async def _ends_old_streams(stand: Stand) -> None:
    """A stream opened before a restart is closed, and what changes later reaches the new one."""
    resource = stand.resources[0]
    async with connected(stand.kubelet.socket_of(resource)) as channel:
        old = stream(channel, f"{DEVICE_PLUGIN}/ListAndWatch", Empty(), ListAndWatchResponse)
        await asyncio.wait_for(old.read(), 5.0)
        await stand.kubelet.restart()
        await stand.require_watched(msg("after the kubelet's start"))
        closed = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(old.code(), 5.0)
            closed = True
        old.cancel()
    stand.require(closed, msg("{resource}: a stream of before the restart stays open", resource=resource))


async def _recovers_its_socket(stand: Stand) -> None:
    for resource in stand.resources:
        before = stand.kubelet.endpoints[resource]
        stand.kubelet.socket_of(resource).unlink()

        def again(name: str = resource, old: object = before) -> bool:
            return stand.kubelet.endpoints[name] is not old and stand.kubelet.watches(name)

        stand.require(
            await stand.kubelet.wait_until(again, stand.setup.within),
            msg("{resource}: its socket was removed, and it did not come back", resource=resource),
        )


async def _rolls_over(stand: Stand) -> None:
    """A second instance starts before the first ends, as a rolling update does."""
    second = stand.start_plugin()
    first, stand.process = stand.process, second
    stand.require(first is not None, msg("it is not running"))
    assert first is not None
    names = {resource: stand.kubelet.endpoints[resource].request.endpoint for resource in stand.resources}

    def replaced() -> bool:
        return all(stand.kubelet.endpoints[name].request.endpoint != names[name] for name in stand.resources)

    try:
        took_over = await stand.kubelet.wait_until(replaced, 15.0)
    finally:
        await end_process(first)
    stand.require(took_over, msg("a second instance registers with the same socket, or not at all"))
    stand.require(
        await stand.all_watched(20.0), msg("after the first instance ended the kubelet watches no other one")
    )


async def _bears_strange_files(stand: Stand) -> None:
    folder = os.fsencode(stand.setup.folder)
    strange = [folder + b"/garbage", folder + b"/not-\xff\xfe-utf-8", folder + b"/.hidden.sock"]
    subfolder = Path(os.fsdecode(folder + b"/DEPRECATION"))
    subfolder.mkdir(exist_ok=True)
    await stand.kubelet.stop()
    await stand.kubelet.start()
    for path in strange:
        with open(path, "wb") as file:  # noqa: PTH123 - a name that is not UTF-8
            file.write(b"\xff" * 64)
    await stand.require_watched(msg("with strange files in the folder"))
    await stand.kubelet.restart()
    await stand.require_watched(msg("with strange files in the folder"))
    subfolder.rmdir()


async def _bears_a_lost_folder(stand: Stand) -> None:
    if stand.setup.folder.is_mount():
        raise SkippedError(msg("{path} is a mount point and cannot be removed", path=stand.setup.folder))
    await stand.kubelet.stop()
    lost = stand.setup.folder.with_name(f".{stand.setup.folder.name}.lost")
    stand.setup.folder.rename(lost)
    await asyncio.sleep(1.0)
    await stand.kubelet.start()
    watched = await stand.all_watched(stand.setup.within + 10.0)
    for path in lost.iterdir():
        if not path.is_dir():
            path.unlink()
    lost.rmdir()
    stand.require(watched, msg("it does not come back after its folder was replaced"))


CHECKS: tuple[ConformanceCheck, ...] = (
    ConformanceCheck("registers", msg("registers in time, with the right version and names"), _registers),
    ConformanceCheck("listens-first", msg("listens before it registers"), _listens_first),
    ConformanceCheck("restarts", msg("survives restarts of the kubelet in a row"), _survives_restarts),
    ConformanceCheck("kubelet-killed", msg("survives a kubelet that was killed"), _survives_kills),
    ConformanceCheck("kubelet-absent", msg("waits for a kubelet that is not there"), _starts_without_kubelet),
    ConformanceCheck("kubelet-refuses", msg("bears being refused, without haste"), _bears_refusal),
    ConformanceCheck("kubelet-slow", msg("bears a slow kubelet"), _bears_slowness),
    ConformanceCheck("old-streams", msg("ends streams of before a restart"), _ends_old_streams),
    ConformanceCheck("socket-removed", msg("makes its socket again where somebody removed it"), _recovers_its_socket),
    ConformanceCheck("rolling-update", msg("lets a second instance take over"), _rolls_over),
    ConformanceCheck("strange-files", msg("bears strange files in its folder"), _bears_strange_files),
    ConformanceCheck("folder-replaced", msg("bears its folder being replaced"), _bears_a_lost_folder),
)
