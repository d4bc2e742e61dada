"""The two charts that people have today, as facts: what they make of their values, and what is wrong with it.

From docs/reference/kubernetes.md A10 (tke-sgx-plugin) and A11 (the Gramine and SDK chart).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeedPlugin:
    """tke-sgx-plugin: resources that nodes offer, the label it selects by, rights of its service account."""

    resources: tuple[str, ...] = ("sgx.intel.com/enclave", "sgx.intel.com/provision")
    enclave_limit: int = 110
    provision_limit: int = 110
    node_label: str = "sgx.intel.com/capable"
    epc_resource: str = "sgx.intel.com/epc"
    verbs: frozenset[str] = frozenset({"get", "list", "patch"})


@dataclass(frozen=True, slots=True)
class SeedWorkload:
    """The development chart: replicas over the nodes, each with the devices, kept alive for kubectl exec."""

    replicas: int = 2
    device_paths: tuple[str, ...] = ("/dev/sgx/enclave", "/dev/sgx/provision")
    resources: tuple[str, ...] = ("sgx.intel.com/enclave", "sgx.intel.com/provision")
    aesm_path: str = "/var/run/aesmd/aesm"
    memory_limit: str = "300Mi"


def plugin_values(seed: SeedPlugin) -> list[str]:
    """The same with charts/sgx-stack."""
    return [
        "--set",
        f"device-plugin.enclaveLimit={seed.enclave_limit},device-plugin.provisionLimit={seed.provision_limit}",
    ]


def workload_values(seed: SeedWorkload) -> list[str]:
    """The same with charts/sgx-workload: the device paths of old SDKs are the plugin's `legacyPaths`."""
    return ["--set", f"replicas={seed.replicas},sgx.provision=true"]
