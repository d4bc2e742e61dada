"""What a container was given by its host: devices and AESM's socket."""

from __future__ import annotations

from sgxkit.host.checks.check import Check, Verdict, Verdicts, fatal, not_applicable, supported, unknown
from sgxkit.host.checks.devices import container_kind, node_evidence
from sgxkit.host.checks.drivers import enclave_node, nodes_read
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.facts import Facts
from sgxkit.host.remedies import surroundings as remedies
from sgxkit.messages import msg


def _judge_container(facts: Facts, _verdicts: Verdicts) -> Verdict:
    container = known(facts.system.container)
    if container is None:
        return unknown(
            "container-unread",
            msg("Whether this is a container could not be read."),
            (shown("system.container", facts.system.container),),
        )
    if container.kind == "none":
        return not_applicable(msg("This is not a container."))
    return supported((shown("system.container.evidence", container.evidence),), detail=container.kind)


def _judge_device(facts: Facts, _verdicts: Verdicts) -> Verdict:
    kind = container_kind(facts)
    if kind == "none":
        return not_applicable(msg("This is not a container."))
    node = enclave_node(facts)
    if node is not None:
        return supported((node_evidence(node),))
    device = facts.devices.node("/dev/sgx_enclave")
    if not nodes_read(facts):
        return unknown(
            "nodes-unread", msg("Whether there is an SGX device could not be read."), (node_evidence(device),)
        )
    return fatal(
        "device-not-passed",
        msg("The host has an SGX device, but this container was not given it."),
        (Evidence("system.container.kind", kind), node_evidence(device), shown("kernel.misc_devices", _misc(facts))),
        (remedies.pass_devices(kind, ("/dev/sgx_enclave", "/dev/sgx_provision")),),
    )


def _misc(facts: Facts) -> object:
    misc = known(facts.kernel.misc_devices)
    return facts.kernel.misc_devices if misc is None else [device.name for device in misc if "sgx" in device.name]


CHECKS: tuple[Check, ...] = (
    Check("container", msg("Container"), _judge_container, parent="host"),
    Check(
        "container.device",
        msg("Container was given the device"),
        _judge_device,
        parent="container",
        needs=("kernel.driver",),
        hidden_by=frozenset({"kernel.driver"}),
    ),
)
