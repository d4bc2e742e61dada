"""A device plugin and a kubelet, in one event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from doubles.sgx_devices import make_host
from sgxkit.errors import InputError
from sgxkit.kubernetes.device_plugin import DevicePlugin, PluginSettings
from sgxkit.kubernetes.device_plugin_api import ContainerPreferredAllocationRequest
from sgxkit.kubernetes.devices import HostView, Limits, sgx_resources
from sgxkit.kubernetes.endpoint import Question
from sgxkit.kubernetes.fake_kubelet import GRACE_SECONDS, FakeKubelet
from sgxkit.kubernetes.plugin_metrics import plugin_responder

ENCLAVE, PROVISION = "sgx.intel.com/enclave", "sgx.intel.com/provision"
SOON = 10.0


@asynccontextmanager
async def running(
    folder: Path, view: HostView, limits: Limits | None = None, cdi: Path | None = None
) -> AsyncIterator[DevicePlugin]:
    resources = sgx_resources(limits or Limits(5, 2))
    plugin = DevicePlugin(resources, PluginSettings(folder, view, interval=0.02, cdi=cdi))
    task = asyncio.create_task(plugin.run())
    try:
        yield plugin
    finally:
        plugin.stop()
        await task


@pytest.fixture
def folder(socket_folder: Path) -> Path:
    return socket_folder / "k"


@pytest.fixture
def view(tmp_path: Path) -> HostView:
    return make_host(tmp_path)


def test_devices_are_offered_lost_and_found_again(folder: Path, view: HostView) -> None:
    async def scenario() -> None:
        now = [0.0]
        kubelet = FakeKubelet(folder, clock=lambda: now[0])
        async with running(folder, view) as plugin:
            await asyncio.sleep(0.1)
            assert "kubelet is not there" in str(plugin.unready_because())
            await kubelet.start()
            for resource, count in ((ENCLAVE, 5), (PROVISION, 2)):
                assert await kubelet.wait_until(lambda name=resource: kubelet.watches(name), SOON)
                assert kubelet.capacity(resource) == kubelet.allocatable(resource) == count
            assert plugin.unready_because() is None
            assert plugin.is_alive()
            (view.dev / "sgx_provision").unlink()
            assert await kubelet.wait_until(lambda: kubelet.allocatable(PROVISION) == 0, SOON)
            assert kubelet.capacity(PROVISION) == 2
            assert kubelet.allocatable(ENCLAVE) == 5
            (view.dev / "sgx_provision").symlink_to("/dev/null")
            assert await kubelet.wait_until(lambda: kubelet.allocatable(PROVISION) == 2, SOON)
        assert await kubelet.wait_until(lambda: kubelet.allocatable(ENCLAVE) == 0, SOON)
        assert kubelet.capacity(ENCLAVE) == 5
        now[0] = GRACE_SECONDS
        assert kubelet.capacity(ENCLAVE) is None
        assert [path.name for path in folder.iterdir()] == ["kubelet.sock"]
        await kubelet.stop()

    asyncio.run(scenario())


def test_a_refused_plugin_waits_longer_each_time_and_comes_back(folder: Path, view: HostView) -> None:
    async def scenario() -> None:
        kubelet = FakeKubelet(folder)
        kubelet.refuses = True
        await kubelet.start()
        async with running(folder, view, Limits(1, 0)) as plugin:
            assert await kubelet.wait_until(lambda: len(kubelet.registered) == 2, SOON)
            assert "refused" in str(plugin.unready_because())
            kubelet.refuses = False
            assert await kubelet.wait_until(lambda: kubelet.watches(ENCLAVE), SOON)
        await kubelet.stop()

    asyncio.run(scenario())


def test_the_kubelets_preference_is_answered(folder: Path, view: HostView) -> None:
    async def scenario() -> None:
        kubelet = FakeKubelet(folder)
        await kubelet.start()
        async with running(folder, view):
            assert await kubelet.wait_until(lambda: kubelet.watches(ENCLAVE), SOON)
            ids = tuple(device.id for device in kubelet.endpoints[ENCLAVE].devices)
            request = ContainerPreferredAllocationRequest(ids, ids[-1:], 2)
            answer = await kubelet.prefer(ENCLAVE, request)
            (chosen,) = answer.container_responses
            assert ids[-1] in chosen.device_ids
        await kubelet.stop()

    asyncio.run(scenario())


def test_metrics_are_what_prometheus_reads(folder: Path, view: HostView, tmp_path: Path) -> None:
    async def scenario() -> None:
        kubelet = FakeKubelet(folder)
        await kubelet.start()
        async with running(folder, view, cdi=tmp_path / "cdi") as plugin:
            respond = plugin_responder(plugin)
            assert await kubelet.wait_until(lambda: plugin.unready_because() is None, SOON)
            await kubelet.allocate(ENCLAVE, "sgx-enclave-0")
            assert respond(Question("GET", "/healthz")).status == 200
            assert respond(Question("GET", "/readyz")).status == 200
            assert respond(Question("GET", "/other")).status == 404
            text = respond(Question("GET", "/metrics")).body.decode()
            found = {
                (sample.name, sample.labels["resource"]): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            assert found["sgxkit_device_plugin_devices", ENCLAVE] == 5
            assert found["sgxkit_device_plugin_allocations_total", ENCLAVE] == 1
            assert found["sgxkit_device_plugin_watchers", PROVISION] == 1
            await kubelet.stop()
            assert await kubelet.wait_until(lambda: plugin.unready_because() is not None, SOON)
            assert respond(Question("GET", "/readyz")).status == 503
        (path,) = (tmp_path / "cdi").iterdir()
        assert json.loads(path.read_text())["kind"] == "sgxkit.dev/sgx"
        assert path.stat().st_mode & 0o777 == 0o644

    asyncio.run(scenario())


def test_a_folder_with_too_long_a_path_is_refused(tmp_path: Path, view: HostView) -> None:
    async def scenario() -> None:
        with pytest.raises(InputError, match="socket"):
            DevicePlugin(sgx_resources(Limits(1, 0)), PluginSettings(tmp_path / ("x" * 100), view))

    asyncio.run(scenario())
