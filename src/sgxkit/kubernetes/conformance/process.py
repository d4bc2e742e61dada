"""Checks of a plugin as a process: what it says over HTTP, what it costs, how it ends."""

from __future__ import annotations

import asyncio
import http.client

from sgxkit.kubernetes.conformance.stand import (
    ConformanceCheck,
    FailedError,
    SkippedError,
    Stand,
    end_process,
    processor_seconds,
)
from sgxkit.messages import msg

_END_SECONDS = 5.0
_IDLE_SECONDS = 3.0
_IDLE_SHARE = 0.05


def _get(address: tuple[str, int], path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=5.0)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise FailedError(msg("{path}: {reason}", path=path, reason=error)) from error
    finally:
        connection.close()


async def _tells_the_truth(stand: Stand) -> None:
    address = stand.setup.http
    if address is None:
        raise SkippedError(msg("needs --http, the address of its readiness"))
    await stand.require_watched(msg("before its readiness is asked"))
    await asyncio.sleep(0.5)
    status, _ = await asyncio.to_thread(_get, address, "/readyz")
    stand.require(status == 200, msg("{path} answers {status} while it is at work", path="/readyz", status=status))
    status, text = await asyncio.to_thread(_get, address, "/metrics")
    for resource in stand.resources:
        stand.require(
            status == 200 and resource in text,
            msg("{path} does not name {resource}", path="/metrics", resource=resource),
        )
    await stand.kubelet.stop()
    await asyncio.sleep(stand.setup.within)
    status, _ = await asyncio.to_thread(_get, address, "/readyz")
    await stand.kubelet.start()
    stand.require(
        status != 200, msg("{path} answers {status} while there is no kubelet", path="/readyz", status=status)
    )
    await stand.require_watched(msg("after the kubelet's start"))


async def _rests(stand: Stand) -> None:
    process = stand.process_id
    begun = processor_seconds(process)
    await asyncio.sleep(_IDLE_SECONDS)
    share = (processor_seconds(process) - begun) / _IDLE_SECONDS
    stand.require(
        share <= _IDLE_SHARE, msg("it uses {percent:.0f} % of a processor while nothing happens", percent=share * 100)
    )


async def _ends(stand: Stand) -> None:
    process = stand.start_plugin() if stand.process is None else stand.process
    sockets = [stand.kubelet.socket_of(resource) for resource in stand.resources]
    code = await end_process(process, _END_SECONDS)
    stand.process = None
    stand.require(
        code is not None, msg("it does not end within {seconds:g} seconds of SIGTERM", seconds=_END_SECONDS)
    )
    stand.require(code == 0, msg("it ends with exit code {code} after SIGTERM", code=code))
    kubelet = stand.kubelet
    closed = await kubelet.wait_until(
        lambda: all(kubelet.allocatable(resource) == 0 for resource in stand.resources), stand.setup.within
    )
    stand.require(closed, msg("it leaves streams open when it ends"))
    left = [path.name for path in sockets if path.exists()]
    stand.require(not left, msg("it leaves {path} behind", path=", ".join(left)))


CHECKS: tuple[ConformanceCheck, ...] = (
    ConformanceCheck("truthful", msg("says truly whether it is ready"), _tells_the_truth),
    ConformanceCheck("idle", msg("costs next to nothing while nothing happens"), _rests),
    ConformanceCheck("ends", msg("ends cleanly when asked to"), _ends),
)
