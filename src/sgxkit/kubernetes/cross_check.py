"""The device plugin's second look: pods of this node that run without the device that they asked for.

Beside the plugin, in its event loop; the API server is asked in a thread. One list of the node's own pods each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sgxkit.errors import SgxkitError
from sgxkit.kubernetes.metrics import Metric, Sample
from sgxkit.kubernetes.pod_devices import PodWithoutDevice, list_pod_devices, pods_without_devices
from sgxkit.messages import Message, msg

_LOG = logging.getLogger("sgxkit.kubernetes.cross_check")
INTERVAL = 600.0


class CrossCheck:
    """Compares again and again; `list_pods` reads the pods of this node from the API server."""

    def __init__(
        self, socket: Path, list_pods: Callable[[], Iterable[Mapping[str, Any]]], resources: tuple[str, ...]
    ) -> None:
        self.found: tuple[PodWithoutDevice, ...] = ()
        self.problem: Message | None = None
        self._socket = socket
        self._list_pods = list_pods
        self._resources = resources

    async def look(self) -> None:
        """Compare once; raises SgxkitError where the kubelet or the API server cannot be asked."""
        pods = await asyncio.to_thread(lambda: list(self._list_pods()))
        found = pods_without_devices(pods, await list_pod_devices(self._socket), self._resources)
        for one in set(found) - set(self.found):
            _LOG.error(
                "%s",
                msg(
                    "pod {pod} runs without {resource}, which its container {container} asked for: restart it",
                    pod=f"{one.namespace}/{one.pod}",
                    container=one.container,
                    resource=one.resource,
                ),
            )
        self.found = found

    async def run(self, stopping: asyncio.Event, interval: float = INTERVAL) -> None:
        """Compare until `stopping`; what cannot be asked is said once."""
        while not stopping.is_set():
            try:
                await self.look()
                self.problem = None
            except SgxkitError as error:
                if error.message != self.problem:
                    _LOG.warning("%s", error)
                self.problem = error.message
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), interval)

    def metrics(self) -> tuple[Metric, ...]:
        """For the plugin's /metrics."""
        without = tuple(
            Sample(
                1,
                {"namespace": one.namespace, "pod": one.pod, "container": one.container, "resource": one.resource},
            )
            for one in self.found
        )
        return (
            Metric(
                "sgxkit_pod_without_device", "gauge", "Containers that run without a device they asked for.", without
            ),
            Metric(
                "sgxkit_cross_check_failing",
                "gauge",
                "Whether the kubelet or the API server cannot be asked.",
                (Sample(self.problem is not None, {}),),
            ),
        )
