"""Device nodes: there, executable, open to this user, and the right to the provisioning key.

Two conventions meet on the provision device: systemd leaves it to root, Intel's packages give it to group sgx_prv
(`linksgx.sh`), and create that group only if the node exists at that moment.
"""

from __future__ import annotations

import errno
from pathlib import PurePosixPath

from sgxkit.host.checks.check import (
    Check,
    Verdict,
    Verdicts,
    blamed_on,
    conjunction,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.drivers import PATHS, enclave_node, is_device, nodes_read
from sgxkit.host.checks.evidence import Evidence, absent, known, shown
from sgxkit.host.facts import DeviceNode, Facts, NodeStatus, Unread
from sgxkit.host.remedies import aesm as aesm_remedies
from sgxkit.host.remedies import devices as remedies
from sgxkit.host.remedies import kernel as kernel_remedies
from sgxkit.host.remedies import surroundings
from sgxkit.messages import msg

_PARTS = ("device.node", "device.exec", "device.open")


def container_kind(facts: Facts) -> str:
    """The kind of container that the facts were read in, `none` outside one or where that is unknown."""
    container = known(facts.system.container)
    return "none" if container is None else container.kind


def node_evidence(node: DeviceNode) -> Evidence:
    """A node's mode, owner and group."""
    status = node.status
    if isinstance(status, Unread):
        return shown(f"devices.nodes[{node.path}]", status)
    owner, group = status.owner or str(status.uid), status.group or str(status.gid)
    link = f" -> {status.link_target}" if status.link_target is not None else ""
    return Evidence(f"devices.nodes[{node.path}]", f"{status.type} {status.mode:04o} {owner}:{group}{link}")


def _user_evidence(facts: Facts) -> Evidence:
    user = facts.accounts.user
    if isinstance(user, Unread):
        return shown("accounts.user", user)
    return Evidence("accounts.user", f"{user.name or ''}({user.uid}), groups {', '.join(map(str, user.gids))}")


def _judge_device(facts: Facts, verdicts: Verdicts) -> Verdict:
    rolled = conjunction(verdicts, _PARTS)
    node = enclave_node(facts)
    return Verdict(rolled.status, rolled.code, because=rolled.because, detail="" if node is None else node.path)


def _judge_node(facts: Facts, verdicts: Verdicts) -> Verdict:
    node = enclave_node(facts)
    if node is not None:
        return supported((node_evidence(node),))
    evidence = tuple(node_evidence(facts.devices.node(path)) for path, _ in PATHS)
    if not nodes_read(facts):
        return unknown("nodes-unread", msg("Whether there is an SGX device could not be read."), evidence)
    missing = fatal(
        "no-node",
        msg("The kernel has an SGX driver, but /dev has no node for it."),
        evidence,
        (remedies.POPULATE_DEV,),
    )
    return blamed_on(missing, verdicts, "kernel.driver", "container.device")


def _judge_exec(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = enclave_node(facts)
    if node is None:
        return unknown("no-device", msg("There is no device to ask."))
    mounts = facts.devices.mounts
    if isinstance(mounts, Unread):
        return unknown(
            "mounts-unread", msg("The mounted file systems could not be read."), (shown("devices.mounts", mounts),)
        )
    parents = {str(parent) for parent in PurePosixPath(node.path).parents}
    above = [mount for mount in mounts if mount.mount_point in parents or mount.mount_point == node.path]
    evidence = tuple(
        Evidence(f"devices.mounts[{mount.mount_point}]", f"{mount.type} {','.join(mount.options)}") for mount in above
    )
    # The root file system's own options do not apply to what is mounted on /dev.
    nearest = max(above, key=lambda mount: len(mount.mount_point), default=None)
    if nearest is None or "noexec" not in nearest.options:
        return supported(evidence)
    in_container = container_kind(facts) != "none"
    return fatal(
        "dev-noexec",
        msg(
            "{mount} is mounted with noexec, so enclave pages cannot be mapped as executable.",
            mount=nearest.mount_point,
        ),
        evidence,
        (surroundings.CONTAINER_DEV_EXEC,) if in_container else (remedies.REMOUNT_EXEC,),
    )


def _judge_open(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = enclave_node(facts)
    if node is None:
        return unknown("no-device", msg("There is no device to ask."))
    opened = node.open_read_write
    evidence = (
        shown(f"devices.nodes[{node.path}].open_read_write", opened),
        node_evidence(node),
        _user_evidence(facts),
    )
    if not isinstance(opened, Unread):
        return supported(evidence)
    if opened.kind == "permission":
        return _judge_refusal(facts, node, evidence)
    if opened.errno == errno.EBUSY:
        return fatal(
            "device-busy",
            msg("{path} is in use by another program.", path=node.path),
            evidence,
            (remedies.CLOSE_OTHER_USER,),
        )
    if opened.errno is not None:
        return fatal(
            "open-failed",
            msg("{path} cannot be opened: {reason}.", path=node.path, reason=opened.text),
            evidence,
            (kernel_remedies.READ_KERNEL_LOG,),
        )
    return unknown("open-untried", msg("Whether {path} opens was not tried.", path=node.path), evidence)


def _judge_refusal(facts: Facts, node: DeviceNode, evidence: tuple[Evidence, ...]) -> Verdict:
    status = known(node.status)
    user = known(facts.accounts.user)
    if status is None or user is None:
        return fatal("refused", msg("This user may not open {path}.", path=node.path), evidence)
    kind = container_kind(facts)
    if kind != "none" and status.mode & 0o060 == 0o060 and status.gid not in user.gids:
        return fatal(
            "container-user-lacks-group",
            msg(
                "The container's user may not open {path}: it lacks the host's group number {gid}.",
                path=node.path,
                gid=status.gid,
            ),
            evidence,
            (surroundings.add_container_group(kind, status.gid),),
        )
    if status.mode & 0o060 != 0o060 or status.gid == 0:
        return fatal(
            "device-only-for-root",
            msg("{path} is open to root only: no udev rule gives it to a group.", path=node.path),
            evidence,
            (remedies.OWN_BY_GROUP, remedies.join_group(facts, "sgx")),
        )
    group = status.group or str(status.gid)
    if status.gid in user.gids:
        return fatal(
            "refused-by-cgroup",
            msg(
                "This user's group may open {path}, but the system refuses it: a device cgroup or a security module.",
                path=node.path,
            ),
            evidence,
            (kernel_remedies.READ_KERNEL_LOG,),
        )
    listed = next((entry for entry in known(facts.accounts.groups) or () if entry.gid == status.gid), None)
    if listed is not None and user.name in listed.members:
        return fatal(
            "group-not-effective",
            msg("The user is in group {group}, but this session began before that.", group=group),
            (*evidence, Evidence(f"accounts.groups[{group}]", ", ".join(listed.members))),
            (remedies.log_in_again(group),),
        )
    return fatal(
        "not-in-group",
        msg("The user is not in group {group}, which owns {path}.", group=group, path=node.path),
        evidence,
        (remedies.join_group(facts, group),),
    )


def _judge_links(facts: Facts, _verdicts: Verdicts) -> Verdict:
    links = tuple(facts.devices.node(path) for path in ("/dev/sgx/enclave", "/dev/sgx/provision"))
    evidence = tuple(node_evidence(node) for node in links)
    enclave = known(links[0].status)
    if enclave is not None and is_device(enclave):
        return supported(evidence)
    if isinstance(enclave, NodeStatus) and enclave.type == "dangling":
        return unsupported(
            "link-dangles",
            msg("/dev/sgx/enclave is a link to nothing."),
            evidence,
            (remedies.LINK_OLD_NAMES,),
        )
    if absent(links[0].status):
        return unsupported(
            "no-links",
            msg("There is no /dev/sgx/enclave; only software from before PSW 2.13 looks for it."),
            evidence,
            (remedies.LINK_OLD_NAMES,),
        )
    return unknown("nodes-unread", msg("Whether there is an SGX device could not be read."), evidence)


def provision_node(facts: Facts) -> DeviceNode | None:
    """The provision device that exists; None where none does."""
    nodes = (facts.devices.node(path) for path in ("/dev/sgx_provision", "/dev/sgx/provision", "/dev/sgx_prv"))
    return next((node for node in nodes if is_device(node.status)), None)


def _judge_provision(facts: Facts, verdicts: Verdicts) -> Verdict:
    node = provision_node(facts)
    if node is not None:
        return supported((node_evidence(node),), detail=node.path)
    first = facts.devices.node("/dev/sgx_provision")
    if not absent(first.status):
        return unknown(
            "nodes-unread", msg("Whether there is an SGX device could not be read."), (node_evidence(first),)
        )
    kind = container_kind(facts)
    missing = fatal(
        "no-provision-node",
        msg("There is no /dev/sgx_provision, so no quoting enclave can be launched."),
        (node_evidence(first),),
        (surroundings.pass_devices(kind, ("/dev/sgx_enclave", "/dev/sgx_provision")),)
        if kind != "none"
        else (remedies.POPULATE_DEV,),
    )
    return blamed_on(missing, verdicts, "kernel.driver", "container.device", "device.node")


def _judge_right(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = provision_node(facts)
    if node is None:
        return unknown("no-device", msg("There is no device to ask."))
    status, groups = known(node.status), known(facts.accounts.groups)
    services, user = known(facts.accounts.service_users), known(facts.accounts.user)
    opened = not isinstance(node.open_read_write, Unread)
    group = None if status is None else next((entry for entry in groups or () if entry.gid == status.gid), None)
    evidence = (
        node_evidence(node),
        shown(f"devices.nodes[{node.path}].open_read_write", node.open_read_write),
        _user_evidence(facts),
        shown(
            "accounts.groups", "none" if group is None else f"{group.name}: {', '.join(group.members) or 'nobody'}"
        ),
    )
    for_group = status is not None and status.mode & 0o060 == 0o060 and status.gid != 0
    for_all = status is not None and status.mode & 0o006 == 0o006
    if for_all or (opened and user is not None and user.uid != 0):
        return supported(evidence)
    if status is None or groups is None or services is None:
        return unknown("accounts-unread", msg("Who may use the provisioning key could not be read."), evidence)
    if "aesmd" in services:
        if for_group and group is not None and "aesmd" in group.members:
            return supported(evidence)
        return fatal(
            "aesm-lacks-provision",
            msg("AESM may not open {path}, so its quoting enclave cannot be launched.", path=node.path),
            evidence,
            (remedies.PROVISION_GROUP, aesm_remedies.READ_LOG),
        )
    if opened:
        return supported(evidence)
    return unsupported(
        "user-lacks-provision",
        msg("This user may not open {path}; quotes then have to be made by AESM.", path=node.path),
        evidence,
        (remedies.join_group(facts, "sgx_prv" if group is None else group.name),),
    )


def _judge_low_addresses(facts: Facts, _verdicts: Verdicts) -> Verdict:
    lowest = known(facts.kernel.mmap_min_addr)
    evidence = (shown("kernel.mmap_min_addr", facts.kernel.mmap_min_addr),)
    if lowest is None:
        return unknown("mmap-min-addr-unread", msg("vm.mmap_min_addr could not be read."), evidence)
    if lowest == 0:
        return supported(evidence)
    return unsupported(
        "no-low-mappings",
        msg(
            "Enclaves that begin at address 0 cannot be mapped (vm.mmap_min_addr is {lowest}); few need it.",
            lowest=lowest,
        ),
        evidence,
        (kernel_remedies.MMAP_MIN_ADDR,),
    )


CHECKS: tuple[Check, ...] = (
    Check("device", msg("SGX kernel device"), _judge_device, parent="psw", uses=_PARTS, folds=True),
    Check(
        "device.node",
        msg("Device node"),
        _judge_node,
        parent="device",
        uses=("kernel.driver", "container.device"),
    ),
    Check(
        "device.exec",
        msg("/dev allows execution"),
        _judge_exec,
        parent="device",
        needs=("device.node",),
        hidden_by=frozenset({"device.node"}),
    ),
    Check(
        "device.open",
        msg("Opens for reading and writing"),
        _judge_open,
        parent="device",
        needs=("device.node",),
        hidden_by=frozenset({"device.node"}),
    ),
    Check(
        "device.links",
        msg("Links /dev/sgx/enclave and /dev/sgx/provision"),
        _judge_links,
        parent="device",
        needs=("device.node",),
        hidden_by=frozenset({"device.node"}),
    ),
    Check(
        "device.low_addresses",
        msg("Enclaves at address 0"),
        _judge_low_addresses,
        parent="device",
        needs=("device.node",),
        hidden_by=frozenset({"device.node"}),
    ),
)
PROVISION_CHECKS: tuple[Check, ...] = (
    Check(
        "provision.node",
        msg("Provision device"),
        _judge_provision,
        parent="attestation",
        uses=("kernel.driver", "container.device", "device.node"),
    ),
    Check(
        "provision.right",
        msg("Right to the provisioning key"),
        _judge_right,
        parent="attestation",
        needs=("provision.node",),
        hidden_by=frozenset({"provision.node"}),
    ),
)
