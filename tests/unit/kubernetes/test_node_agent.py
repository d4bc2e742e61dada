"""The node agent: what a node is to be known for, and the calls that make it so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from doubles.api_server import Call, FakeApiServer, apply_patch, make_node, serving
from doubles.hosts import HOSTS
from sgxkit.errors import HostError
from sgxkit.host.facts import Facts, Unread
from sgxkit.kubernetes.api_server import ApiServer, ApiServerError
from sgxkit.kubernetes.credentials import Credentials
from sgxkit.kubernetes.node_agent import NodeAgent, write_features
from sgxkit.kubernetes.node_state import (
    CAPABLE_LABEL,
    CONDITION,
    EMULATED_LABEL,
    NodeState,
    emulated_node_state,
    node_patch,
    read_node_state,
    removal_patch,
)
from sgxkit.messages import msg

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EPC = "sgx.intel.com/epc"
HEALTHY = HOSTS["healthy"]
GIB = 1 << 30


def state(epc: int | None = 4 * GIB, status: str = "True", reason: str = "Ready") -> NodeState:
    labels = {CAPABLE_LABEL: "true"} if status == "True" else {}
    return NodeState("sgx.intel.com", epc, labels, status, reason, f"it is {reason}")  # type: ignore[arg-type]


def in_a_container(facts: Facts) -> Facts:
    """What an unprivileged container cannot read."""
    return replace(facts, cpu=replace(facts.cpu, msrs=Unread("permission", "no /dev/cpu")))


@pytest.mark.parametrize("seen", [lambda facts: facts, in_a_container], ids=["host", "container"])
def test_a_healthy_node_lists_its_memory_and_labels(seen: Callable[[Facts], Facts]) -> None:
    found = read_node_state(seen(HEALTHY()))
    assert found.status == "True", found
    assert found.epc_bytes
    assert found.labels[CAPABLE_LABEL] == "true"
    assert EMULATED_LABEL not in found.labels


def test_a_node_without_sgx_lists_nothing_and_says_why() -> None:
    found = read_node_state(HOSTS["ordinary-guest"]())
    assert (found.status, found.epc_bytes, found.labels) == ("False", 0, {})
    assert found.reason.isalnum()
    assert found.message


def test_the_patch_brings_the_node_there_and_is_then_empty() -> None:
    node = make_node("a")
    operations = node_patch(node, state(), NOW)
    patched = apply_patch(node, operations)
    assert patched["status"]["capacity"][EPC] == str(4 * GIB)
    assert EPC not in patched["status"]["allocatable"], "the kubelet copies it there"
    assert patched["metadata"]["labels"][CAPABLE_LABEL] == "true"
    assert patched["status"]["conditions"][0]["type"] == "Ready"
    condition = patched["status"]["conditions"][1]
    assert (condition["type"], condition["status"]) == (CONDITION, "True")
    assert node_patch(patched, state(), NOW) == []


@pytest.mark.parametrize("listed", ["4294967296", "4Gi", "4194304Ki"])
def test_a_quantity_is_compared_by_its_value(listed: str) -> None:
    node = apply_patch(make_node("a"), node_patch(make_node("a"), state(), NOW))
    node["status"]["capacity"][EPC] = listed
    assert node_patch(node, state(), NOW) == []


@pytest.mark.parametrize("listed", ["0", "1Gi", "junk"])
def test_what_the_kubelet_changed_is_put_right(listed: str) -> None:
    node = apply_patch(make_node("a"), node_patch(make_node("a"), state(), NOW))
    node["status"]["capacity"][EPC] = listed
    assert apply_patch(node, node_patch(node, state(), NOW))["status"]["capacity"][EPC] == str(4 * GIB)


def test_a_node_that_stops_being_ready_loses_memory_and_labels() -> None:
    node = apply_patch(make_node("a"), node_patch(make_node("a"), state(), NOW))
    later = apply_patch(node, node_patch(node, state(0, "False", "NoDevice"), NOW))
    assert EPC not in later["status"]["capacity"]
    assert CAPABLE_LABEL not in later["metadata"]["labels"]
    assert later["status"]["conditions"][1]["status"] == "False"
    assert later["status"]["conditions"][1]["reason"] == "NoDevice"


def test_what_could_not_be_told_leaves_the_memory_listed() -> None:
    node = apply_patch(make_node("a"), node_patch(make_node("a"), state(), NOW))
    later = apply_patch(node, node_patch(node, state(None, "Unknown", "Unread"), NOW))
    assert later["status"]["capacity"][EPC] == str(4 * GIB)


@pytest.mark.parametrize("missing", ["capacity", "conditions", "labels"])
def test_a_node_that_is_new_has_not_everything_yet(missing: str) -> None:
    node = make_node("a")
    del (node["metadata"] if missing == "labels" else node["status"])[missing]
    patched = apply_patch(node, node_patch(node, state(), NOW))
    assert node_patch(patched, state(), NOW) == []


def test_everything_is_taken_back() -> None:
    node = make_node("a")
    patched = apply_patch(node, node_patch(node, state(), NOW))
    patched["status"]["allocatable"][EPC] = str(4 * GIB)
    assert apply_patch(patched, removal_patch(patched, "sgx.intel.com")) == node
    assert removal_patch(node, "sgx.intel.com") == []


def test_an_emulated_node_says_so() -> None:
    found = emulated_node_state(128 << 20)
    assert found.labels == {EMULATED_LABEL: "true"}
    assert found.epc_resource == "sgx.sgxkit.dev/epc"
    assert "protects nothing" in found.message


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with serving(FakeApiServer(nodes={"a": make_node("a")})) as found:
        yield found


@pytest.fixture
def client(server: FakeApiServer) -> Iterator[ApiServer]:
    with ApiServer(server.credentials) as found:
        yield found


class Reading:
    """A state that a test changes."""

    def __init__(self) -> None:
        self.now = state()

    def __call__(self) -> NodeState:
        return self.now


def test_a_round_is_one_question_and_a_patch_only_where_something_differs(
    server: FakeApiServer, client: ApiServer
) -> None:
    agent = NodeAgent(client, "a", Reading(), clock=lambda: NOW)
    agent.reconcile()
    assert server.calls == [Call("get", "nodes"), Call("patch", "nodes/status")]
    for _ in range(3):
        agent.reconcile()
    assert server.calls[2:] == [Call("get", "nodes")] * 3


def test_losing_sgx_is_an_event_with_the_reason(server: FakeApiServer, client: ApiServer) -> None:
    reading = Reading()
    agent = NodeAgent(client, "a", reading, clock=lambda: NOW)
    agent.reconcile()
    assert server.created == []
    reading.now = state(0, "False", "NoDevice")
    agent.reconcile()
    agent.reconcile()
    ((path, event),) = server.created
    assert path == "/api/v1/namespaces/default/events"
    assert (event["type"], event["reason"]) == ("Warning", "SGXNotReady")
    assert "NoDevice: it is NoDevice" in event["message"]
    reading.now = state()
    agent.reconcile()
    assert server.created[1][1]["type"] == "Normal"


def test_resources_whose_plugin_is_gone_are_removed_and_no_others(server: FakeApiServer, client: ApiServer) -> None:
    server.nodes["a"]["status"]["capacity"] |= {
        "sgx.intel.com/enclave": "10", "sgx.intel.com/provision": "10", "other.com/gpu": "1"
    }  # fmt: skip
    registered: frozenset[str] | None = frozenset({"sgx.intel.com/enclave"})

    def ask() -> frozenset[str]:
        if registered is None:
            raise HostError(msg("{text}", text="away"))
        return registered

    agent = NodeAgent(client, "a", Reading(), registered_resources=ask, clock=lambda: NOW)
    agent.reconcile()
    assert set(server.nodes["a"]["status"]["capacity"]) == {
        "cpu", "memory", EPC, "sgx.intel.com/enclave", "other.com/gpu"
    }  # fmt: skip
    registered = None
    agent.reconcile()
    assert "sgx.intel.com/enclave" in server.nodes["a"]["status"]["capacity"]


@pytest.mark.parametrize("status", [401, 403, 404, 409, 422, 429, 500, 503])
def test_a_refusal_is_an_error_with_its_status(server: FakeApiServer, client: ApiServer, status: int) -> None:
    server.failures.append((status, "not today"))
    agent = NodeAgent(client, "a", Reading())
    with pytest.raises(ApiServerError, match="not today") as caught:
        agent.reconcile()
    assert caught.value.status == status


def test_an_agent_goes_on_after_failures(server: FakeApiServer, client: ApiServer) -> None:
    server.failures.extend([(409, "conflict")])
    agent = NodeAgent(client, "a", Reading())
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop, 0.05))
    thread.start()
    try:
        for _ in range(600):
            if agent.health.rounds >= 2:
                break
            stop.wait(0.05)
    finally:
        stop.set()
        thread.join()
    assert agent.health.rounds >= 2
    assert agent.health.problem is None
    assert agent.is_alive(0.05)


def test_no_server_is_an_error_and_not_a_traceback() -> None:
    with ApiServer(Credentials("http://127.0.0.1:1"), timeout=2.0) as nobody, pytest.raises(ApiServerError) as caught:
        nobody.get("/api/v1/nodes/a")
    assert caught.value.status is None


def test_lists_are_read_page_by_page(server: FakeApiServer, client: ApiServer) -> None:
    server.nodes |= {f"n{number}": make_node(f"n{number}") for number in range(7)}
    assert len(list(client.items("/api/v1/nodes", limit="3"))) == 8
    assert server.calls == [Call("list", "nodes")] * 3


def test_the_file_for_node_feature_discovery(tmp_path: Path) -> None:
    path = write_features(tmp_path / "features.d", state())
    assert path.read_text().splitlines() == [f"{CAPABLE_LABEL}=true", "# +no-label", f"{EPC}={4 * GIB}"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert write_features(tmp_path / "features.d", state(0, "False")).read_text() == ""
