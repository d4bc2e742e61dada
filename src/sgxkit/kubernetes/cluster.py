"""The cluster as one sees it who asks where SGX is: nodes with what they offer, and the pods that use it.

Two lists, page by page; of each object only what is shown is kept, so that a cluster of thousands of nodes fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sgxkit.host.checks.kubernetes import quantity
from sgxkit.kubernetes.api_server import ApiServer, Document, namespaced_path, node_path
from sgxkit.kubernetes.node_state import CONDITION, EMULATED_LABEL, LABELS, removal_patch

QUOTE_ANNOTATION = "sgx.sgxkit.dev/quote"
_MAX_QUOTE = 80
PARTS = ("device-plugin", "node-agent", "aesm")
"""Programs of the stack that run on nodes, by their pods' label app.kubernetes.io/name."""


@dataclass(slots=True)
class Workload:
    """A pod that asks for devices or enclave memory; `quote` says when its quote was verified last, and as what."""

    namespace: str
    name: str
    node: str | None
    phase: str
    ready: bool
    enclaves: int
    epc_bytes: int
    quote: str


@dataclass(slots=True)
class Node:
    """A node that has, or had, something of SGX.

    ready       what the node agent says; None where it does not run.
    quote       the last quote of a pod there that was verified: when, and the TCB status.
    parts       programs of the stack, and whether they are ready there.
    """

    name: str
    ready: bool | None
    reason: str
    emulated: bool
    schedulable: bool
    epc_bytes: int
    enclaves: int
    provisions: int
    requested_epc: int = 0
    requested_enclaves: int = 0
    quote: str = ""
    parts: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Cluster:
    """What `sgxkit k8s status` shows."""

    prefix: str
    nodes: dict[str, Node]
    workloads: list[Workload]
    pccs: bool | None
    other_nodes: int

    @property
    def works(self) -> bool:
        """Whether a pod could run an enclave somewhere: a node that offers devices and is not known to be unready."""
        return any(node.enclaves and node.ready is not False and node.schedulable for node in self.nodes.values())


def read_cluster(server: ApiServer, prefix: str) -> Cluster:
    """Ask for every node and pod; raises ApiServerError."""
    cluster = Cluster(prefix, {}, [], None, 0)
    for document in server.items("/api/v1/nodes"):
        node = read_node(document, prefix)
        if node is None:
            cluster.other_nodes += 1
        else:
            cluster.nodes[node.name] = node
    for document in server.items("/api/v1/pods"):
        _add_pod(cluster, document)
    cluster.workloads.sort(key=lambda one: (one.namespace, one.name))
    return cluster


def read_node(document: Mapping[str, Any], prefix: str) -> Node | None:
    """What a node object says of SGX; None where it says nothing."""
    metadata, status = _mapping(document, "metadata"), _mapping(document, "status")
    labels, allocatable, capacity = (
        _mapping(metadata, "labels"),
        _mapping(status, "allocatable"),
        _mapping(status, "capacity"),
    )
    condition = next((one for one in status.get("conditions") or () if one.get("type") == CONDITION), None)
    listed = any(name.startswith(f"{prefix}/") for name in capacity)
    if condition is None and not listed and not any(label in labels for label in LABELS):
        return None
    words = {"True": True, "False": False}
    kubelet = next((one.get("status") for one in status.get("conditions") or () if one.get("type") == "Ready"), None)

    def amount(kind: str) -> int:
        return quantity(str(allocatable.get(f"{prefix}/{kind}", "0"))) or 0

    return Node(
        name=str(metadata.get("name", "")),
        ready=None if condition is None else words.get(str(condition.get("status"))),
        reason="" if condition is None else str(condition.get("reason", "")),
        emulated=labels.get(EMULATED_LABEL) == "true",
        schedulable=kubelet == "True" and not _mapping(document, "spec").get("unschedulable"),
        epc_bytes=amount("epc"),
        enclaves=amount("enclave"),
        provisions=amount("provision"),
    )


def _add_pod(cluster: Cluster, document: Mapping[str, Any]) -> None:
    metadata, spec, status = (_mapping(document, name) for name in ("metadata", "spec", "status"))
    phase = str(status.get("phase", ""))
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ())
    labels = _mapping(metadata, "labels")
    node = cluster.nodes.get(str(spec.get("nodeName", "")))
    part = labels.get("app.kubernetes.io/name")
    if labels.get("app.kubernetes.io/part-of") == "sgx-stack":
        if part in PARTS and node is not None:
            node.parts[str(part)] = node.parts.get(str(part), False) or ready
        elif part == "pccs":
            cluster.pccs = bool(cluster.pccs) or ready
    enclaves, epc = _requests(spec, cluster.prefix)
    if not enclaves and not epc:
        return
    quote = str(_mapping(metadata, "annotations").get(QUOTE_ANNOTATION, ""))[:_MAX_QUOTE]
    if node is not None:
        node.quote = max(node.quote, quote)  # they begin with the time
    if node is not None and phase not in ("Succeeded", "Failed"):
        node.requested_enclaves += enclaves
        node.requested_epc += epc
    cluster.workloads.append(
        Workload(
            str(metadata.get("namespace", "")),
            str(metadata.get("name", "")),
            None if spec.get("nodeName") is None else str(spec["nodeName"]),
            phase,
            ready,
            enclaves,
            epc,
            quote,
        )
    )


def _requests(spec: Mapping[str, Any], prefix: str) -> tuple[int, int]:
    """Enclave devices and enclave memory of a pod as the scheduler counts them."""
    totals = []
    for kind in ("enclave", "epc"):
        name = f"{prefix}/{kind}"
        together = sum(_asked(one, name) for one in spec.get("containers") or ())
        largest = max((_asked(one, name) for one in spec.get("initContainers") or ()), default=0)
        totals.append(max(together, largest))
    return totals[0], totals[1]


def _asked(container: Mapping[str, Any], name: str) -> int:
    limits = _mapping(_mapping(container, "resources"), "limits")
    return quantity(str(limits[name])) or 0 if name in limits else 0


def cluster_document(cluster: Cluster) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "prefix": cluster.prefix,
        "works": cluster.works,
        "pccs_ready": cluster.pccs,
        "other_nodes": cluster.other_nodes,
        "nodes": [
            {name: getattr(node, name) for name in Node.__slots__}
            for node in sorted(cluster.nodes.values(), key=lambda one: one.name)
        ],
        "workloads": [{name: getattr(one, name) for name in Workload.__slots__} for one in cluster.workloads],
    }


def record_quote(server: ApiServer, namespace: str, pod: str, tcb_status: str, at: datetime) -> None:
    """Leave in a pod's annotations that its quote was verified; raises ApiServerError."""
    path = namespaced_path(namespace, "pods", pod)
    annotations = _mapping(_mapping(server.get(path), "metadata"), "annotations")
    value = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {tcb_status}"
    first: list[Document] = [] if annotations else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
    name = QUOTE_ANNOTATION.replace("/", "~1")
    server.patch(path, [*first, {"op": "add", "path": f"/metadata/annotations/{name}", "value": value}])


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What would be taken out of one node object."""

    node: str
    operations: tuple[Document, ...]


def plan_cleaning(nodes: Iterable[Mapping[str, Any]], prefix: str) -> Iterator[Cleaning]:
    """What is left in node objects of labels, the condition, and every resource of `prefix`."""
    for node in nodes:
        operations = removal_patch(node, prefix)
        for part in ("capacity", "allocatable"):
            for name in _mapping(_mapping(node, "status"), part):
                if name.startswith(f"{prefix}/") and name != f"{prefix}/epc":
                    operations.append({"op": "remove", "path": f"/status/{part}/{name.replace('/', '~1')}"})
        if operations:
            yield Cleaning(str(_mapping(node, "metadata").get("name", "")), tuple(operations))


def clean(server: ApiServer, cleaning: Cleaning) -> None:
    """Carry it out; raises ApiServerError."""
    server.patch(f"{node_path(cleaning.node)}/status", list(cleaning.operations))


def _mapping(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}
