"""A Kubernetes node that offers SGX to pods: known, ready, labelled, with the resources of the device plug-in."""

from __future__ import annotations

from sgxkit.host.checks.check import (
    Check,
    Judge,
    Verdict,
    Verdicts,
    conjunction,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.evidence import Evidence, absent, known, shown
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts, KubernetesNode, NamedValue
from sgxkit.host.remedies import surroundings as remedies
from sgxkit.messages import Message, msg

_PARTS = ("kubernetes.node", "kubernetes.resources", "kubernetes.epc", "kubernetes.labels")
LABELS = (
    "intel.feature.node.kubernetes.io/sgx",
    "sgx.intel.com/capable",
    "feature.node.kubernetes.io/cpu-security.sgx.enabled",
)
RESOURCES = ("sgx.intel.com/enclave", "sgx.intel.com/provision")
EPC = "sgx.intel.com/epc"


def this_node(facts: Facts) -> KubernetesNode | None:
    """The node that this host is; the only one of the cluster where its name is not known."""
    cluster = known(facts.kubernetes.cluster)
    if cluster is None:
        return None
    names = {cluster.node_name, known(facts.system.hostname)} - {None}
    matching = [node for node in cluster.nodes if node.name in names]
    if not matching and cluster.node_name is None and len(cluster.nodes) == 1:
        return cluster.nodes[0]
    return matching[0] if matching else None


def _value(entries: tuple[NamedValue, ...], name: str) -> str | None:
    return next((entry.value for entry in entries if entry.name == name), None)


def _judge_kubernetes(_facts: Facts, verdicts: Verdicts) -> Verdict:
    return conjunction(verdicts, _PARTS)


def _judge_node(facts: Facts, _verdicts: Verdicts) -> Verdict:
    cluster = known(facts.kubernetes.cluster)
    evidence = [shown("kubernetes.cluster", facts.kubernetes.cluster if cluster is None else cluster.server)]
    if cluster is None:
        cause = (
            msg("No credentials for a Kubernetes cluster were found.")
            if absent(facts.kubernetes.cluster)
            else msg("The Kubernetes cluster could not be asked.")
        )
        return unknown("no-cluster", cause, evidence, (remedies.CLUSTER_CREDENTIALS,))
    node = this_node(facts)
    if node is None:
        evidence.append(shown("kubernetes.cluster.nodes", [entry.name for entry in cluster.nodes]))
        return unknown(
            "node-not-found",
            msg("Which node of the cluster this host is could not be told."),
            evidence,
            (remedies.CLUSTER_CREDENTIALS,),
        )
    evidence.append(Evidence(f"kubernetes.cluster.nodes[{node.name}].ready", str(node.ready).lower()))
    if node.ready is False or node.unschedulable:
        return fatal(
            "node-not-ready",
            msg("Node {name} is not ready, or is closed to new pods.", name=node.name),
            (
                *evidence,
                Evidence(f"kubernetes.cluster.nodes[{node.name}].unschedulable", str(node.unschedulable).lower()),
            ),
            (remedies.NODE_READY,),
        )
    return supported(evidence, detail=node.name)


def quantity(text: str) -> int | None:
    """A Kubernetes quantity in bytes, as far as extended resources use them (integers and binary suffixes)."""
    if len(text) > 24:
        return None
    for suffix, bits in (("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)):
        if text.endswith(suffix) and text[: -len(suffix)].isdecimal():
            return int(text[: -len(suffix)]) << bits
    factor = {"k": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
    digits = text[:-1] if factor != 1 else text
    return int(digits) * factor if digits.isdecimal() else None


_NO_NODE = Verdict(Status.UNKNOWN, "no-node", because=("kubernetes.node",))


def _judge_resources(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = this_node(facts)
    if node is None:
        return _NO_NODE
    values = {name: _value(node.allocatable, name) for name in RESOURCES}
    evidence = tuple(
        Evidence(f"kubernetes.cluster.nodes[{node.name}].allocatable[{name}]", value or "not there")
        for name, value in values.items()
    )
    if not all(quantity(value or "0") for value in values.values()):
        return fatal(
            "no-sgx-resources",
            msg("Node {name} offers pods no SGX devices: the device plug-in does not run there.", name=node.name),
            evidence,
            (remedies.INSTALL_DEVICE_PLUGIN, remedies.LABEL_NODE),
        )
    return supported(evidence)


def _judge_epc(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = this_node(facts)
    if node is None:
        return _NO_NODE
    value = _value(node.allocatable, EPC)
    evidence = (Evidence(f"kubernetes.cluster.nodes[{node.name}].allocatable[{EPC}]", value or "not there"),)
    if not quantity(value or "0"):
        return fatal(
            "no-epc-resource",
            msg(
                "Node {name} does not list its enclave memory ({resource}), so pods that ask for it stay pending.",
                name=node.name,
                resource=EPC,
            ),
            evidence,
            (remedies.REGISTER_EPC, remedies.INSTALL_DEVICE_PLUGIN),
        )
    return supported(evidence, detail=value or "")


def _judge_labels(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = this_node(facts)
    if node is None:
        return _NO_NODE
    found = [name for name in LABELS if _value(node.labels, name) == "true"]
    evidence = (shown(f"kubernetes.cluster.nodes[{node.name}].labels", [f"{name}=true" for name in found]),)
    if not found:
        return unsupported(
            "no-sgx-label",
            msg(
                "Node {name} has no label for SGX, so the pods of the device plug-in are not placed on it.",
                name=node.name,
            ),
            evidence,
            (remedies.LABEL_NODE,),
        )
    return supported(evidence)


def _part(name: str, title: Message, judge: Judge) -> Check:
    return Check(
        name, title, judge, parent="kubernetes", needs=("kubernetes.node",), hidden_by=frozenset({"kubernetes.node"})
    )


CHECKS: tuple[Check, ...] = (
    Check("kubernetes", msg("Kubernetes node"), _judge_kubernetes, uses=_PARTS),
    Check("kubernetes.node", msg("Node known and ready"), _judge_node, parent="kubernetes"),
    _part("kubernetes.resources", msg("SGX devices offered to pods"), _judge_resources),
    _part("kubernetes.epc", msg("Enclave memory listed"), _judge_epc),
    _part("kubernetes.labels", msg("Labelled for SGX"), _judge_labels),
)
