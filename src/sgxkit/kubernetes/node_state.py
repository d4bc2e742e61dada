"""What a node is to be known for: read from its facts, and the patch that makes the node object say so.

Both are pure. Capacity only is patched: the kubelet copies what it does not know from there into allocatable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sgxkit.host.checks.kubernetes import quantity
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.profiles import Profile, Readiness
from sgxkit.host.report import Diagnosis, Kind, diagnose
from sgxkit.kubernetes.devices import EMULATED_PREFIX, INTEL_PREFIX
from sgxkit.messages import msg

CAPABLE_LABEL = "sgx.intel.com/capable"
EMULATED_LABEL = "sgx.sgxkit.dev/emulated"
_FEATURES: Mapping[str, str] = {
    "feature.sgx2": "sgx.sgxkit.dev/sgx2",
    "flc": "sgx.sgxkit.dev/flc",
    "feature.kss": "sgx.sgxkit.dev/kss",
}
LABELS = (CAPABLE_LABEL, EMULATED_LABEL, *_FEATURES.values())
CONDITION = "SGXReady"
_MAX_MESSAGE = 1024
ConditionStatus = Literal["True", "False", "Unknown"]

NODE_PROFILE = Profile(
    "node-agent",
    msg("offer SGX to the pods of a Kubernetes cluster"),
    required=("cpu.sgx", "cpu.configuration", "cpu.attributes", "cpu.epc", "device.node"),
    watched=("token_provider", "kernel.conflict", "provision.node"),
)
"""What the node itself must have; what the cluster lists of it is this program's own work."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node object is to say of SGX.

    prefix     domain of the resource for enclave memory.
    epc_bytes  None where it could not be told, which changes nothing of what is listed.
    status     whether enclaves can run, with a one-word `reason` and a sentence.
    """

    prefix: str
    epc_bytes: int | None
    labels: Mapping[str, str]
    status: ConditionStatus
    reason: str
    message: str

    @property
    def epc_resource(self) -> str:
        return f"{self.prefix}/epc"


def read_node_state(facts: Facts, prefix: str = INTEL_PREFIX) -> NodeState:
    """Judge a host's facts; a node that is not ready has no enclave memory to give, and no labels."""
    diagnosis = diagnose(facts, NODE_PROFILE)
    status: ConditionStatus = {
        Readiness.READY: "True",
        Readiness.NOT_READY: "False",
        Readiness.UNKNOWN: "Unknown",
    }[diagnosis.readiness]  # type: ignore[assignment]  # values of the literal type
    epc = {"True": diagnosis.summary.epc_bytes, "False": 0}.get(status)
    labels = _labels(diagnosis) if status == "True" else {}
    reason, message = _explanation(diagnosis)
    return NodeState(prefix, epc, labels, status, reason, message)


def emulated_node_state(epc_bytes: int, prefix: str = EMULATED_PREFIX) -> NodeState:
    """What a node of a development cluster is to say: a software platform, which protects nothing."""
    return NodeState(
        prefix,
        epc_bytes,
        {EMULATED_LABEL: "true"},
        "True",
        "Emulated",
        "This node offers a software platform. It protects nothing.",
    )


def _labels(diagnosis: Diagnosis) -> dict[str, str]:
    features = {
        label: "true"
        for check, label in _FEATURES.items()
        if check in diagnosis.verdicts and diagnosis.verdicts[check].status is Status.SUPPORTED
    }
    return {CAPABLE_LABEL: "true", **features}


def _explanation(diagnosis: Diagnosis) -> tuple[str, str]:
    """The root cause that doctor names first, as the word and the sentence of a condition."""
    for kind in (Kind.MISSING, Kind.UNKNOWN):
        for finding in diagnosis.of_kind(kind):
            words = f"{finding.verdict.code}".replace("-", " ").replace("_", " ").title().replace(" ", "")
            cause = finding.verdict.cause or finding.check.title
            return words or "NotReady", f"{finding.check.title}: {cause}"[:_MAX_MESSAGE]
    return "Ready", "Enclaves can run on this node."


def node_patch(
    node: Mapping[str, Any], state: NodeState, now: datetime, *, without_plugin: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The operations that make `node` say what `state` is; none where it says so already.

    `without_plugin` are resources whose device plugin is known to be away: what is listed of them is stale. The patch
    is for the node's status subresource, which takes labels too.
    """
    return [
        *_capacity_operations(node, state, without_plugin),
        *_label_operations(node, state.labels),
        *_condition_operations(node, state, now),
    ]


def removal_patch(node: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The operations that take back everything `node_patch` may have written."""
    operations: list[dict[str, Any]] = []
    for part in ("capacity", "allocatable"):
        if f"{prefix}/epc" in _mapping(node, "status", part):
            operations.append({"op": "remove", "path": f"/status/{part}/{_escaped(f'{prefix}/epc')}"})
    operations += _label_operations(node, {})
    index = _condition_index(node)
    if index is not None:
        operations += [
            {"op": "test", "path": f"/status/conditions/{index}/type", "value": CONDITION},
            {"op": "remove", "path": f"/status/conditions/{index}"},
        ]
    return operations


def _capacity_operations(
    node: Mapping[str, Any], state: NodeState, without_plugin: Collection[str]
) -> list[dict[str, Any]]:
    capacity = _mapping(node, "status", "capacity")
    name = state.epc_resource
    operations: list[dict[str, Any]] = []
    listed = quantity(str(capacity[name])) if name in capacity else None
    if state.epc_bytes == 0 and name in capacity:
        operations.append({"op": "remove", "path": f"/status/capacity/{_escaped(name)}"})
    elif state.epc_bytes and listed != state.epc_bytes:
        if not capacity:
            operations.append({"op": "add", "path": "/status/capacity", "value": {}})
        operations.append({"op": "add", "path": f"/status/capacity/{_escaped(name)}", "value": str(state.epc_bytes)})
    for stale in sorted(without_plugin):
        if stale in capacity and stale != name:
            operations.append({"op": "remove", "path": f"/status/capacity/{_escaped(stale)}"})
    return operations


def _label_operations(node: Mapping[str, Any], wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    labels = _mapping(node, "metadata", "labels")
    operations: list[dict[str, Any]] = []
    for name in LABELS:
        path = f"/metadata/labels/{_escaped(name)}"
        if name in wanted and labels.get(name) != wanted[name]:
            if not labels and not operations:
                operations.append({"op": "add", "path": "/metadata/labels", "value": {}})
            operations.append({"op": "add", "path": path, "value": wanted[name]})
        elif name not in wanted and name in labels:
            operations.append({"op": "remove", "path": path})
    return operations


def _condition_operations(node: Mapping[str, Any], state: NodeState, now: datetime) -> list[dict[str, Any]]:
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    index = _condition_index(node)
    listed = None if index is None else node["status"]["conditions"][index]
    if listed is not None and all(
        listed.get(name) == value
        for name, value in (("status", state.status), ("reason", state.reason), ("message", state.message))
    ):
        return []
    same = listed is not None and listed.get("status") == state.status
    condition = {
        "type": CONDITION,
        "status": state.status,
        "reason": state.reason,
        "message": state.message,
        "lastHeartbeatTime": moment,
        "lastTransitionTime": (listed or {}).get("lastTransitionTime", moment) if same else moment,
    }
    if index is not None:
        return [
            # The list may have been put in another order meanwhile; then the patch fails, and is made anew.
            {"op": "test", "path": f"/status/conditions/{index}/type", "value": CONDITION},
            {"op": "replace", "path": f"/status/conditions/{index}", "value": condition},
        ]
    if not isinstance(node.get("status", {}).get("conditions"), list):
        return [{"op": "add", "path": "/status/conditions", "value": [condition]}]
    return [{"op": "add", "path": "/status/conditions/-", "value": condition}]


def _condition_index(node: Mapping[str, Any]) -> int | None:
    conditions = node.get("status", {}).get("conditions")
    for index, condition in enumerate(conditions if isinstance(conditions, list) else ()):
        if isinstance(condition, dict) and condition.get("type") == CONDITION:
            return index
    return None


def listed_status(node: Mapping[str, Any]) -> str | None:
    """What the node's condition says now; None where it has none."""
    index = _condition_index(node)
    return None if index is None else str(node["status"]["conditions"][index].get("status"))


def event_document(node: Mapping[str, Any], state: NodeState, now: datetime) -> dict[str, Any]:
    """An event about the node: it became ready for SGX, or stopped being so, and why (core/v1 Event)."""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = str(node["metadata"]["name"])
    ready = state.status == "True"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name[:200]}.sgx.", "namespace": "default"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Node",
            "name": name,
            "uid": str(node["metadata"].get("uid", name)),
        },
        "reason": "SGXReady" if ready else "SGXNotReady",
        "message": f"{state.reason}: {state.message}"[:_MAX_MESSAGE],
        "type": "Normal" if ready else "Warning",
        "source": {"component": "sgxkit-node-agent", "host": name},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def nfd_features(state: NodeState) -> str:
    """The same for Node Feature Discovery's local source: labels, and enclave memory for a NodeFeatureRule."""
    lines = [f"{name}={value}" for name, value in sorted(state.labels.items())]
    if state.epc_bytes:
        lines += ["# +no-label", f"{state.epc_resource}={state.epc_bytes}"]
    return "".join(f"{line}\n" for line in lines)


def _mapping(node: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found: Any = node
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _escaped(name: str) -> str:
    """A reference token of a JSON pointer (RFC 6901, 3)."""
    return name.replace("~", "~0").replace("/", "~1")
