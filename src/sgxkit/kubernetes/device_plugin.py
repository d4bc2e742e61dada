"""A device plugin at work: each resource listens, registers, and does so again whenever the kubelet needs it.

The kubelet empties its folder when it starts, answers Register before it has spoken with the plugin, and says nothing
when it goes away. So a resource listens before it registers, takes an open ListAndWatch for the proof that it is
registered, and registers again when its socket or the kubelet's is another one. The folder is looked at twice a
second: inotify would save nothing that can be measured, and has limits of its own.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from sgxkit.aesm.address import MAX_SOCKET_PATH
from sgxkit.errors import InputError
from sgxkit.kubernetes.cdi import write_cdi
from sgxkit.kubernetes.cross_check import CrossCheck
from sgxkit.kubernetes.device_plugin_api import (
    KUBELET_SOCKET,
    PLUGIN_FOLDER,
    REGISTRATION,
    VERSION,
    Empty,
    RegisterRequest,
)
from sgxkit.kubernetes.devices import (
    HostView,
    Resource,
    epc_by_numa_node,
    is_socket,
    numa_node_of_devices,
    unhealthy_because,
)
from sgxkit.kubernetes.grpc_calls import call, connected
from sgxkit.kubernetes.plugin_service import OPTIONS, DevicePluginService, PluginSocket, socket_stem
from sgxkit.messages import Message, msg

_LOG = logging.getLogger("sgxkit.kubernetes.device_plugin")

_REGISTER_SECONDS = 5.0
_CONFIRM_SECONDS = 10.0
"""How long the kubelet tries to dial a plugin that registered."""
_REPLACED_SECONDS = 15.0
"""A stream that ends while the kubelet stays: a newer instance has probably taken over, and this one is to end."""
_FIRST_RETRY, _LAST_RETRY = 0.25, 10.0
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """How a device plugin works.

    folder     the kubelet's device plugin folder.
    interval   seconds between two looks at the folder and the device nodes.
    cdi        folder for a CDI specification, by which devices are then named; None hands out device nodes.
    cdi_gids   groups that CDI adds to containers, so that users other than root can open the nodes.
    """

    folder: Path = PLUGIN_FOLDER
    view: HostView = field(default_factory=HostView)
    interval: float = 0.5
    cdi: Path | None = None
    cdi_gids: tuple[int, ...] = ()


class DevicePlugin:
    """Serves resources to the kubelet until it is stopped."""

    def __init__(
        self, resources: tuple[Resource, ...], settings: PluginSettings, cross_check: CrossCheck | None = None
    ) -> None:
        for resource in resources:
            longest = settings.folder / f"{socket_stem(resource)}12345678.sock"
            if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
                raise InputError(
                    msg("the path of a socket has 1 to {limit} bytes: {path}", limit=MAX_SOCKET_PATH, path=longest),
                    hint=msg("choose a shorter one"),
                )
        sizes = epc_by_numa_node(settings.view)
        self._settings = settings
        self._stopping = asyncio.Event()
        self.cross_check = cross_check
        self.parts = tuple(
            _ResourcePlugin(
                DevicePluginService(
                    resource, numa_node_of_devices(resource.count, sizes), cdi=settings.cdi is not None
                ),
                settings,
                self._stopping,
            )
            for resource in resources
        )

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`; sockets are removed then. Raises HostError where the CDI file cannot be written."""
        if self._settings.cdi is not None:
            resources = [part.service.resource for part in self.parts]
            write_cdi(resources, self._settings.cdi, self._settings.cdi_gids)
        jobs = [part.run() for part in self.parts]
        if self.cross_check is not None:
            jobs.append(self.cross_check.run(self._stopping))
        await asyncio.gather(*jobs)

    def unready_because(self) -> Message | None:
        """Why the plugin does not serve everything now: the kubelet must watch each resource."""
        for part in self.parts:
            if not part.service.watchers:
                return msg(
                    "the kubelet does not watch {resource}: {reason}",
                    resource=part.service.resource.name,
                    reason=part.problem or msg("it has not called back yet"),
                )
        return None

    def is_alive(self, now: float | None = None) -> bool:
        """Whether every resource was looked after within the last half minute."""
        moment = time.monotonic() if now is None else now
        return all(moment - part.looked < 30 for part in self.parts)


class _ResourcePlugin:
    """One resource: keeps a socket, and keeps it registered."""

    def __init__(self, service: DevicePluginService, settings: PluginSettings, stopping: asyncio.Event) -> None:
        self.service = service
        self.problem: Message | None = None
        self.looked = time.monotonic()
        self._settings = settings
        self._stopping = stopping
        self._socket: PluginSocket | None = None
        self._kubelet: object = None
        self._registered = False
        self._confirmed = False
        self._next_try = 0.0
        self._retry = _FIRST_RETRY

    async def run(self) -> None:
        self._remove_remains()
        try:
            while not self._stopping.is_set():
                self.looked = time.monotonic()
                self._look_at_health()
                await self._look_at_folder()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._settings.interval)
        finally:
            self.service.close()
            if self._socket is not None:
                await self._socket.close(_CLOSE_SECONDS)

    def _look_at_health(self) -> None:
        resource = self.service.resource
        unhealthy = unhealthy_because(resource, self._settings.view)
        if self.service.update(unhealthy):
            if unhealthy is None:
                _LOG.info(
                    "%s", msg("{resource}: {count} devices healthy", resource=resource.name, count=resource.count)
                )
            else:
                _LOG.warning(
                    "%s",
                    msg(
                        "{resource}: {count} devices unhealthy: {reason}",
                        resource=resource.name,
                        count=resource.count,
                        reason=unhealthy,
                    ),
                )

    async def _look_at_folder(self) -> None:
        kubelet = _signature(self._settings.folder / KUBELET_SOCKET)
        if kubelet is None:
            self._kubelet, self._registered = None, False
            self._fail(_absence(self._settings.folder / KUBELET_SOCKET))
            return
        if kubelet != self._kubelet:
            self._kubelet, self._registered = kubelet, False
            self._next_try, self._retry = 0.0, _FIRST_RETRY
        if self._socket is None or not self._socket.is_there():
            if not await self._listen():
                return
            self._registered, self._next_try = False, 0.0
        self._confirm()
        if not self._registered and time.monotonic() >= self._next_try:
            await self._register()

    def _confirm(self) -> None:
        """Whether the kubelet called back; if not, or no more, register once again after a while."""
        if not self._registered:
            return
        now = time.monotonic()
        if self.service.watchers:
            if not self._confirmed:
                _LOG.info("%s", msg("{resource}: the kubelet watches", resource=self.service.resource.name))
            self._confirmed, self._retry, self.problem = True, _FIRST_RETRY, None
            self._next_try = now + _REPLACED_SECONDS
        elif now >= self._next_try:
            self._registered = False
            if not self._confirmed:
                self._fail(msg("it answered the registration and did not call back"))

    async def _listen(self) -> bool:
        """Put a new socket in place of the one that is gone; streams of the old one end."""
        old, self._socket = self._socket, None
        if old is not None:
            await old.close(0)
        new = PluginSocket(self.service, self._settings.folder)
        try:
            await new.listen()
        except (OSError, RuntimeError) as error:
            await new.close(0)
            self._fail(msg("cannot listen at {address}: {reason}", address=new.path, reason=error))
            return False
        self._socket = new
        return True

    async def _register(self) -> None:
        assert self._socket is not None
        resource = self.service.resource
        request = RegisterRequest(VERSION, self._socket.path.name, resource.name, OPTIONS)
        try:
            async with connected(self._settings.folder / KUBELET_SOCKET) as channel:
                await call(channel, f"{REGISTRATION}/Register", request, Empty, timeout=_REGISTER_SECONDS)
        except grpc.aio.AioRpcError as error:
            self.service.counts.failed_registrations += 1
            self._fail(
                msg("the kubelet refused to register it: {reason}", reason=error.details() or error.code().name)
            )
            self._next_try = time.monotonic() + self._retry
            self._retry = min(self._retry * 2, _LAST_RETRY)
            return
        self.service.counts.registrations += 1
        self._registered, self._confirmed = True, False
        self._next_try = time.monotonic() + _CONFIRM_SECONDS
        _LOG.info("%s", msg("{resource}: registered, {count} devices", resource=resource.name, count=resource.count))

    def _fail(self, problem: Message) -> None:
        if problem != self.problem:
            _LOG.warning("%s: %s", self.service.resource.name, problem)
        self.problem = problem

    def _remove_remains(self) -> None:
        """Remove sockets of processes of ours that were killed: nobody listens there."""
        with suppress(OSError):
            for path in self._settings.folder.iterdir():
                name = path.name
                if name.startswith(socket_stem(self.service.resource)) and is_socket(path) and _is_deserted(path):
                    path.unlink(missing_ok=True)


def _signature(path: Path) -> tuple[int, ...] | None:
    """What tells one socket from the next at the same path; inode numbers are used again at once."""
    if not is_socket(path):
        return None
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino, status.st_ctime_ns
    return None


def _absence(path: Path) -> Message:
    """Why there is no kubelet to register with: none is there, or this user may not see it."""
    try:
        path.stat()
    except PermissionError as error:
        return msg("{path}: {reason}", path=path, reason=error.strerror or error)
    except OSError:
        pass  # absent, in whatever way
    return msg("the kubelet is not there: no {path}", path=path)


def _is_deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        return client.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
