"""A cluster of 5,000 nodes and 50,000 pods: what agents ask of the API server, and what `sgxkit k8s status` takes.

The API server is a process that answers from memory. Limits: one call a minute and node; status within 5 seconds and
300 MiB. The bare figure beside status is how long reading and parsing the same pages takes, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from doubles.api_server import FakeApiServer, make_node, serving
from sgxkit.kubernetes.api_server import ApiServer
from sgxkit.kubernetes.credentials import read_kubeconfig
from sgxkit.kubernetes.node_agent import INTERVAL, NodeAgent
from sgxkit.kubernetes.node_state import CAPABLE_LABEL, NodeState

NODES, PODS = 5_000, 50_000
LIMIT_CALLS = 1.0
LIMIT_SECONDS, LIMIT_MIB = 5.0, 300.0
SAMPLE = 200
ROUNDS = 5
GIB = 1 << 30


def state() -> NodeState:
    return NodeState("sgx.intel.com", 8 * GIB, {CAPABLE_LABEL: "true"}, "True", "Ready", "Enclaves can run.")


def node(number: int) -> dict[str, Any]:
    """About as large as a kubelet's: 50 images, five conditions, addresses."""
    one = make_node(f"node-{number:05d}")
    one["metadata"]["labels"] |= {CAPABLE_LABEL: "true", "topology.kubernetes.io/zone": f"zone-{number % 3}"}
    status = one["status"]
    resources = {"sgx.intel.com/epc": str(8 * GIB), "sgx.intel.com/enclave": "110", "sgx.intel.com/provision": "110"}
    status["allocatable"] |= resources
    status["capacity"] |= resources
    status["images"] = [
        {"names": [f"registry.example.com/image-{index}@sha256:{index:064x}"], "sizeBytes": index}
        for index in range(50)
    ]
    status["conditions"] += [
        {"type": f"Pressure{index}", "status": "False", "message": "x" * 80} for index in range(4)
    ]
    return one


def pod(number: int) -> dict[str, Any]:
    """Every tenth asks for an enclave."""
    limits = {"sgx.intel.com/enclave": "1", "sgx.intel.com/epc": "64Mi"} if number % 10 == 0 else {}
    environment = [{"name": f"NAME_{index}", "value": "x" * 20} for index in range(10)]
    return {
        "metadata": {"name": f"pod-{number:06d}", "namespace": f"team-{number % 50}", "labels": {"app": "a"}},
        "spec": {
            "nodeName": f"node-{number % NODES:05d}",
            "containers": [{"name": "main", "image": "a", "env": environment, "resources": {"limits": limits}}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def serve() -> None:
    """The API server's process: prints its address, and serves until standard input ends."""
    server = FakeApiServer(
        nodes={(one := node(number))["metadata"]["name"]: one for number in range(NODES)},
        pods=[pod(number) for number in range(PODS)],
    )
    with serving(server):
        print(server.url, flush=True)
        sys.stdin.read()


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start that process; yields a kubeconfig."""
    program = "import sys; sys.path.insert(0, 'tests'); from benchmarks.kubernetes import serve; serve()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        path = folder / "kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                    "clusters": [{"name": "k", "cluster": {"server": process.stdout.readline().strip()}}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                }
            )
        )
        try:
            yield path
        finally:
            process.stdin.close()


def main() -> None:
    measure_agents()
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as kubeconfig:
        measure_status(kubeconfig)


def measure_agents() -> None:
    """The calls of a sample of agents, a fresh cluster and after that nothing changes."""
    fresh = {f"node-{number:05d}": make_node(f"node-{number:05d}") for number in range(SAMPLE)}
    with serving(FakeApiServer(nodes=fresh)) as server, ApiServer(server.credentials) as client:
        agents = [NodeAgent(client, name, state) for name in fresh]
        for _ in range(ROUNDS):
            for agent in agents:
                agent.reconcile()
        calls = len(server.calls) / SAMPLE
    a_minute = calls / (ROUNDS * INTERVAL / 60)
    steady = 60 / INTERVAL
    print(f"agents of {SAMPLE} nodes, first {ROUNDS} rounds: {a_minute:.2f} calls a minute and node")
    print(f"after that: {steady:.2f}, {steady * NODES / 60:.0f} a second for {NODES} nodes")
    print(f"limit {LIMIT_CALLS:.0f}: {max(a_minute, steady) / LIMIT_CALLS:.2f} of it")


def measure_status(kubeconfig: Path) -> None:
    begun = time.perf_counter()
    with ApiServer(read_kubeconfig(kubeconfig)) as client:
        count = sum(1 for path in ("/api/v1/nodes", "/api/v1/pods") for _ in client.items(path))
    bare = time.perf_counter() - begun
    command = [sys.executable, "-m", "sgxkit", "k8s", "status", "--json", "--kubeconfig", str(kubeconfig)]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, mib = time.perf_counter() - begun, usage.ru_maxrss / 1024
    document = json.loads(text)
    assert len(document["nodes"]) == NODES
    assert len(document["workloads"]) == PODS // 10
    print(f"reading and parsing {count} objects: {bare:.2f} s")
    print(f"sgxkit k8s status of {NODES} nodes and {PODS} pods: {seconds:.2f} s, {mib:.0f} MiB")
    print(f"of {LIMIT_SECONDS:.0f} s: {seconds / LIMIT_SECONDS:.2f}; of {LIMIT_MIB:.0f} MiB: {mib / LIMIT_MIB:.2f}")
    print(f"beside bare reading: {seconds / bare:.2f} times")
