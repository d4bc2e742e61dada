"""The cluster as `sgxkit k8s status` reads it, and what is left after an uninstall."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from doubles.api_server import FakeApiServer, apply_patch, make_node, serving
from sgxkit.kubernetes.api_server import ApiServer
from sgxkit.kubernetes.cluster import (
    QUOTE_ANNOTATION,
    Cluster,
    clean,
    cluster_document,
    plan_cleaning,
    read_cluster,
    record_quote,
)
from sgxkit.kubernetes.node_state import NodeState, emulated_node_state, node_patch

NOW = datetime(2026, 1, 2, tzinfo=UTC)
GIB = 1 << 30


def sgx_node(name: str, status: str = "True", **allocatable: str) -> dict[str, Any]:
    state = NodeState("sgx.intel.com", GIB, {"sgx.intel.com/capable": "true"}, status, "Any", "any")  # type: ignore[arg-type]
    node = apply_patch(make_node(name), node_patch(make_node(name), state, NOW))
    node["status"]["allocatable"] |= {"sgx.intel.com/epc": str(GIB), "sgx.intel.com/enclave": "10", **allocatable}
    return node


def pod(name: str, node: str | None = "a", phase: str = "Running", **limits: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "apps", "labels": {}},
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "main", "resources": {"limits": {f"sgx.intel.com/{k}": v for k, v in limits.items()}}}
            ],
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def part(name: str, node: str, ready: str) -> dict[str, Any]:
    one = pod(name, node)
    one["metadata"]["labels"] = {"app.kubernetes.io/part-of": "sgx-stack", "app.kubernetes.io/name": name}
    one["status"]["conditions"][0]["status"] = ready
    return one


def read(nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Cluster:
    fake = FakeApiServer(nodes={one["metadata"]["name"]: one for one in nodes}, pods=pods)
    with serving(fake) as server, ApiServer(server.credentials) as client:
        return read_cluster(client, "sgx.intel.com")


def test_nodes_with_what_they_offer_and_what_is_asked_of_them() -> None:
    pods = [
        pod("one", enclave="1", epc="256Mi"),
        pod("two", enclave="1", epc="512Mi"),
        pod("done", phase="Succeeded", enclave="1"),
        pod("waiting", None, "Pending", enclave="1"),
        pod("other"),
        part("device-plugin", "a", "True"),
        part("aesm", "a", "False"),
        part("pccs", "a", "False"),
    ]
    cluster = read([sgx_node("a"), make_node("b")], pods)
    node = cluster.nodes["a"]
    assert (node.ready, node.epc_bytes, node.requested_epc) == (True, GIB, 768 << 20)
    assert (node.enclaves, node.requested_enclaves) == (10, 2)
    assert node.parts == {"device-plugin": True, "aesm": False}
    assert cluster.pccs is False
    assert cluster.other_nodes == 1
    assert [one.name for one in cluster.workloads] == ["done", "one", "two", "waiting"]
    assert cluster.works
    assert cluster_document(cluster)["nodes"][0]["name"] == "a"


def test_a_cluster_works_where_some_node_does() -> None:
    assert not read([make_node("a")], []).works
    assert not read([sgx_node("a", "False")], []).works
    cordoned = sgx_node("a")
    cordoned["spec"]["unschedulable"] = True
    assert not read([cordoned], []).works
    assert not read([sgx_node("a", **{"sgx.intel.com/enclave": "0"})], []).works
    assert read([sgx_node("a", "False"), sgx_node("b")], []).works


def test_what_is_strange_is_no_bug() -> None:
    strange = [{"metadata": {}}, {"metadata": {"name": "x"}, "status": None}, {"spec": [], "metadata": {"name": "y"}}]
    nodes = {str(index): one for index, one in enumerate(strange)}
    with serving(FakeApiServer(nodes=nodes, pods=strange)) as server, ApiServer(server.credentials) as client:  # type: ignore[arg-type]
        assert not read_cluster(client, "sgx.intel.com").works


def test_a_verified_quote_is_recorded_with_the_pod_and_shown_with_its_node() -> None:
    one, two = pod("one", enclave="1"), pod("two", enclave="1")
    two["metadata"]["annotations"] = {QUOTE_ANNOTATION: "2025-01-01T00:00:00Z UpToDate"}
    fake = FakeApiServer(nodes={"a": sgx_node("a")}, pods=[one, two])
    with serving(fake) as server, ApiServer(server.credentials) as client:
        record_quote(client, "apps", "one", "OutOfDate", NOW)
        cluster = read_cluster(client, "sgx.intel.com")
    assert [found.quote for found in cluster.workloads] == [
        "2026-01-02T00:00:00Z OutOfDate",
        "2025-01-01T00:00:00Z UpToDate",
    ]
    assert cluster.nodes["a"].quote == "2026-01-02T00:00:00Z OutOfDate"


def test_nothing_is_left_in_node_objects_after_cleaning() -> None:
    bare = make_node("b")
    emulated = apply_patch(bare, node_patch(bare, emulated_node_state(GIB), NOW))
    emulated["status"]["allocatable"]["sgx.sgxkit.dev/enclave"] = "0"
    emulated["status"]["capacity"]["sgx.sgxkit.dev/enclave"] = "0"
    nodes = {"a": make_node("a"), "b": copy.deepcopy(emulated)}
    with serving(FakeApiServer(nodes=nodes)) as server, ApiServer(server.credentials) as client:
        plans = list(plan_cleaning(client.items("/api/v1/nodes"), "sgx.sgxkit.dev"))
        assert [plan.node for plan in plans] == ["b"]
        assert server.nodes["b"] == emulated, "a plan changes nothing"
        for plan in plans:
            clean(client, plan)
        assert server.nodes["b"] == bare
        assert list(plan_cleaning(client.items("/api/v1/nodes"), "sgx.sgxkit.dev")) == []
