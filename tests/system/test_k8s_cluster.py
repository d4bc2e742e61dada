"""The charts on a real cluster: `make test-kubernetes`. Minutes, root, and tools that have to be built."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from doubles.helm import STACK, WORKLOAD
from doubles.mini_cluster import IMAGE, NODE, TAG, MiniCluster, mini_cluster, wait, why_not

if os.environ.get("SGXKIT_TEST_CLUSTER") != "1":
    pytest.skip("a cluster is started by make test-kubernetes only", allow_module_level=True)
if (reason := why_not()) is not None:
    pytest.skip(reason, allow_module_level=True)

IMAGES = f"global.image.repository={IMAGE},global.image.tag={TAG}"
APP = (
    ",".join(f"{prefix}image.repository={IMAGE},{prefix}image.tag={TAG}" for prefix in ("", "preflight."))
    + ",replicas=1"
)
WAITS = 'command=["/py/bin/python3","-c","import time; time.sleep(100000)"]'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniCluster]:
    with mini_cluster(tmp_path_factory.mktemp("c")) as found:
        for name in ("sgx-system", "apps"):
            found.run("kubectl", "create", "namespace", name)
        yield found


def allocatable(cluster: MiniCluster, name: str) -> str | None:
    found: str | None = cluster.node()["status"]["allocatable"].get(name)
    return found


def is_running(cluster: MiniCluster, namespace: str) -> bool:
    pods = cluster.objects("pods", namespace)
    return bool(pods) and all(
        one["status"]["phase"] == "Running" and all(part["ready"] for part in one["status"]["containerStatuses"])
        for one in pods
    )


def remove_everything(cluster: MiniCluster) -> None:
    for namespace in ("apps", "sgx-system"):
        for release in json.loads(cluster.run("helm", "list", "-n", namespace, "-o", "json")):
            cluster.run("helm", "uninstall", release["name"], "-n", namespace, "--timeout", "120s")
        wait(lambda where=namespace: not cluster.objects("pods", where), 90, "pods are gone")


def test_the_emulated_stack_from_install_to_uninstall(cluster: MiniCluster) -> None:
    before = cluster.node()
    emulated = str(STACK / "values-emulated.yaml")
    cluster.run(
        "helm", "install", "sgx", str(STACK), "-n", "sgx-system", "-f", emulated,
        "--set", f"{IMAGES},node-agent.intervalSeconds=10",
    )  # fmt: skip
    wait(lambda: is_running(cluster, "sgx-system"), 90, "the stack runs")
    wait(lambda: allocatable(cluster, "sgx.sgxkit.dev/epc") == str(128 << 20), 60, "enclave memory is listed")
    wait(lambda: allocatable(cluster, "sgx.sgxkit.dev/enclave") == "110", 60, "devices are listed")
    assert cluster.node()["metadata"]["labels"]["sgx.sgxkit.dev/emulated"] == "true"
    cluster.run("helm", "test", "sgx", "-n", "sgx-system", "--timeout", "120s")

    options = ("--set", f"{APP},sgx.emulated=true,sgx.prefix=sgx.sgxkit.dev,sgx.epc=32Mi", "--set-json", WAITS)
    cluster.run("helm", "install", "app", str(WORKLOAD), "-n", "apps", *options)
    wait(lambda: is_running(cluster, "apps"), 90, "the application runs")
    cluster.run("helm", "test", "app", "-n", "apps", "--timeout", "120s")

    (pod,) = cluster.objects("pods", "apps")
    cluster.stop_kubelet()
    cluster.start_kubelet()
    wait(lambda: allocatable(cluster, "sgx.sgxkit.dev/enclave") == "110", 60, "devices are back after a restart")
    wait(lambda: is_running(cluster, "sgx-system"), 60, "the stack is ready after a restart")
    (after,) = cluster.objects("pods", "apps")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"], "the application went on"
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0

    cluster.run("kubectl", "drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", "90s")
    cluster.run("kubectl", "uncordon", NODE)
    wait(lambda: is_running(cluster, "apps"), 90, "the application is back after the drain")

    remove_everything(cluster)
    node = cluster.node()
    assert "sgx.sgxkit.dev/epc" not in node["status"]["capacity"]
    assert node["metadata"]["labels"] == before["metadata"]["labels"]
    assert {one["type"] for one in node["status"]["conditions"]} == {
        one["type"] for one in before["status"]["conditions"]
    }
    wait(lambda: allocatable(cluster, "sgx.sgxkit.dev/enclave") in (None, "0"), 60, "no device is offered")
    kinds = "all,clusterrole,clusterrolebinding,role,rolebinding"
    labelled = ("-A", "-l", "app.kubernetes.io/part-of=sgx-stack", "-o", "name")
    assert cluster.run("kubectl", "get", kinds, *labelled) == ""


def exec_in(cluster: MiniCluster, pod: str, *command: str) -> str:
    return cluster.run("kubectl", "exec", "-n", "apps", pod, "-c", "app", "--", *command, check=False)


def test_a_pod_gets_its_device_and_no_other(cluster: MiniCluster) -> None:
    """The node has no SGX: its label is set by hand, the agent left out. The devices are real device nodes."""
    cluster.run("kubectl", "label", "node", NODE, "sgx.intel.com/capable=true")
    chosen = "node-agent.enabled=false,webhook.enabled=true,webhook.replicas=1,device-plugin.crossCheck=true"
    cluster.run("helm", "install", "sgx", str(STACK), "-n", "sgx-system", "--set", f"{IMAGES},{chosen}")
    wait(lambda: allocatable(cluster, "sgx.intel.com/enclave") == "110", 90, "devices are listed")
    options = ("--set", f"{APP},sgx.quoteProvider=none,sgx.epc=", "--set-json", WAITS)
    cluster.run("helm", "install", "app", str(WORKLOAD), "-n", "apps", *options)
    wait(lambda: is_running(cluster, "apps"), 90, "the application runs: its preflight opened the device")
    (pod,) = [one["metadata"]["name"] for one in cluster.objects("pods", "apps")]
    listed = exec_in(cluster, pod, "/py/bin/python3", "-c", "import os; print(sorted(os.listdir('/dev')))")
    assert "sgx_enclave" in listed
    assert "sgx_provision" not in listed

    wait(lambda: is_running(cluster, "sgx-system"), 60, "the webhook runs")
    asked = container_of_a_new_pod(cluster)
    assert asked["resources"]["limits"]["sgx.intel.com/enclave"] == "1", "the webhook completed it"
    (plugin,) = [
        one["metadata"]["name"] for one in cluster.objects("pods", "sgx-system")
        if one["metadata"]["labels"]["app.kubernetes.io/name"] == "device-plugin"
    ]  # fmt: skip
    metrics = cluster.run(
        "kubectl", "get", "--raw", f"/api/v1/namespaces/sgx-system/pods/{plugin}:9417/proxy/metrics"
    )
    assert "sgxkit_cross_check_failing 0" in metrics
    assert "sgxkit_pod_without_device{" not in metrics

    device = cluster.device("sgx_enclave")
    kept = device.with_name("kept")
    device.rename(kept)
    wait(lambda: allocatable(cluster, "sgx.intel.com/enclave") == "0", 60, "a device that is gone is not offered")
    assert allocatable(cluster, "sgx.intel.com/provision") == "110"
    kept.rename(device)
    wait(lambda: allocatable(cluster, "sgx.intel.com/enclave") == "110", 60, "a device that is back is offered")
    remove_everything(cluster)


def container_of_a_new_pod(cluster: MiniCluster) -> dict[str, Any]:
    """What becomes of a pod that asks for enclave memory alone; it is not made."""
    limits = {"sgx.intel.com/epc": "1Mi"}
    container = {"name": "a", "image": f"{IMAGE}:{TAG}", "resources": {"limits": limits}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asks", "namespace": "apps"},
        "spec": {"containers": [container]},
    }
    path = cluster.folder / "asks.json"
    path.write_text(json.dumps(pod))
    made = json.loads(cluster.run("kubectl", "create", "--dry-run=server", "-o", "json", "-f", str(path)))
    return dict(made["spec"]["containers"][0])


def test_a_hostpath_instead_of_the_resource_is_explained(cluster: MiniCluster) -> None:
    """What the chart that people have today does: the path is there, and may not be opened."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hostpath", "namespace": "apps"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "app",
                    "image": f"{IMAGE}:{TAG}",
                    "args": ["k8s", "preflight"],
                    "volumeMounts": [{"name": "device", "mountPath": "/dev/sgx_enclave"}],
                }
            ],
            "volumes": [{"name": "device", "hostPath": {"path": "/dev/sgx_enclave"}}],
        },
    }
    path = cluster.folder / "pod.json"
    path.write_text(json.dumps(pod))
    cluster.run("kubectl", "apply", "-f", str(path))

    def message() -> str:
        (one,) = cluster.objects("pods", "apps")
        (status,) = one["status"].get("containerStatuses") or [{}]
        return str(status.get("state", {}).get("terminated", {}).get("message", ""))

    wait(message, 60, "the pod ended")
    assert "hostPath" in message()
    assert "sgx.intel.com/enclave" in message()
    cluster.run("kubectl", "delete", "-f", str(path), "--now")
