"""What the two charts do that people have today, ours do too, and without their faults."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from doubles.helm import STACK, WORKLOAD, needs_helm, render
from doubles.seed_charts import SeedPlugin, SeedWorkload, plugin_values, workload_values
from sgxkit.kubernetes.allocation import allocate
from sgxkit.kubernetes.devices import Limits, sgx_resources

pytestmark = needs_helm


def option(container: dict[str, Any], name: str) -> str:
    (found,) = [one.partition("=")[2] for one in container["args"] if one.startswith(f"--{name}=")]
    return str(found)


@pytest.mark.parametrize("seed", [SeedPlugin(), SeedPlugin(enclave_limit=20, provision_limit=7)])
def test_the_plugin_chart(seed: SeedPlugin) -> None:
    objects = render(STACK, *plugin_values(seed))
    (plugin,) = [
        one for one in objects if one["kind"] == "DaemonSet" and one["metadata"]["name"] == "sgx-device-plugin"
    ]
    (container,) = plugin["spec"]["template"]["spec"]["containers"]
    prefix = option(container, "prefix")
    limits = Limits(int(option(container, "enclave-limit")), int(option(container, "provision-limit")))
    offered = {one.name: one.count for one in sgx_resources(limits, prefix=prefix)}
    assert offered == dict(zip(seed.resources, (seed.enclave_limit, seed.provision_limit), strict=True))
    assert f"{prefix}/epc" == seed.epc_resource
    assert seed.node_label in yaml.safe_dump(plugin["spec"]["template"]["spec"]["affinity"])
    # What is wrong there and not here.
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]
    assert container["readinessProbe"]
    assert plugin["metadata"]["namespace"] == "sgx-system"
    assert "DirectoryOrCreate" not in yaml.safe_dump(plugin)
    agents = [one for one in objects if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "sgx-node-agent"]
    verbs = {
        (verb, resource) for rule in agents[0]["rules"] for verb in rule["verbs"] for resource in rule["resources"]
    }
    assert verbs == {("get", "nodes"), ("patch", "nodes/status")}
    assert ("patch", "nodes") not in verbs


@pytest.mark.parametrize("seed", [SeedWorkload(), SeedWorkload(replicas=5)])
def test_the_development_chart(seed: SeedWorkload) -> None:
    example = str(WORKLOAD / "examples" / "sgx-dev.yaml")
    objects = render(WORKLOAD, "-f", example, *workload_values(seed), release="dev")
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert deployment["spec"]["replicas"] == seed.replicas
    limits = container["resources"]["limits"]
    assert {name for name in limits if name.startswith("sgx.intel.com/")} == {*seed.resources, "sgx.intel.com/epc"}
    # Each device that the chart mounts, the plugin grants by that path, with the right to open it.
    granted = set()
    for resource in sgx_resources(Limits(1, 1), legacy_paths=True):
        if resource.name in limits:
            granted |= {one.container_path for one in allocate(resource, resource.device_ids, None).devices}
    assert set(seed.device_paths) <= granted
    # What is wrong there and not here.
    volumes = [one.get("hostPath", {}).get("path", "") for one in pod["volumes"]]
    assert not any(path.startswith("/dev") for path in volumes)
    assert seed.aesm_path not in volumes
    assert "/var/run/aesmd" in volumes
    assert not any(one["kind"] == "Service" for one in objects)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["topologySpreadConstraints"]
    assert all(isinstance(amount, str) for amount in limits.values())
    assert limits["memory"] != seed.memory_limit
    for test in (one for one in objects if one["kind"] == "Pod"):
        assert "wget" not in yaml.safe_dump(test)
