"""What a device plugin says of itself over HTTP: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sgxkit.kubernetes.device_plugin import DevicePlugin
from sgxkit.kubernetes.endpoint import Question, Reply, health_reply
from sgxkit.kubernetes.metrics import CONTENT_TYPE, Metric, Sample, exposition


def plugin_responder(plugin: DevicePlugin) -> Callable[[Question], Reply]:
    """Return what answers the questions about `plugin`."""

    def respond(question: Question) -> Reply:
        unready = plugin.unready_because()
        reply = health_reply(
            question.path, alive=plugin.is_alive(), unready=None if unready is None else str(unready)
        )
        if reply is not None:
            return reply
        if question.path == "/metrics":
            return Reply(200, exposition(_metrics(plugin)), CONTENT_TYPE)
        return Reply(404)

    return respond


def _metrics(plugin: DevicePlugin) -> Iterator[Metric]:
    services = [part.service for part in plugin.parts]

    def metric(name: str, text: str, values: list[float], *, counter: bool = False) -> Metric:
        samples = tuple(
            Sample(value, {"resource": service.resource.name})
            for service, value in zip(services, values, strict=True)
        )
        return Metric(f"sgxkit_device_plugin_{name}", "counter" if counter else "gauge", text, samples)

    yield metric("devices", "Devices offered.", [service.resource.count for service in services])
    yield metric(
        "healthy_devices",
        "Devices that can be used now.",
        [0 if service.unhealthy is not None else service.resource.count for service in services],
    )
    yield metric("watchers", "Streams that watch the devices; the kubelet's is one.", [s.watchers for s in services])
    counts = [service.counts for service in services]
    for name, text, values in (
        ("registrations_total", "Registrations that the kubelet accepted.", [one.registrations for one in counts]),
        ("failed_registrations_total", "Registrations that failed.", [one.failed_registrations for one in counts]),
        ("allocations_total", "Allocations answered.", [one.allocations for one in counts]),
        ("refused_allocations_total", "Allocations refused.", [one.refused_allocations for one in counts]),
    ):
        yield metric(name, text, list(values), counter=True)
    if plugin.cross_check is not None:
        yield from plugin.cross_check.metrics()
