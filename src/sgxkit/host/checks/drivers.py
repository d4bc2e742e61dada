"""Which of the SGX drivers a host has, by the device nodes and names that each of them makes.

legacy isgx: /dev/isgx. DCAP before 1.32: /dev/sgx. DCAP 1.32-1.36: /dev/sgx/enclave. DCAP 1.41 and the kernel's own
(Linux 5.11): /dev/sgx_enclave, told apart by the module `intel_sgx`, which the kernel's own does not have.
"""

from __future__ import annotations

from enum import Enum

from sgxkit.host.checks.evidence import absent, known
from sgxkit.host.facts import DeviceNode, Facts, NodeStatus, Unread


class Driver(Enum):
    """A generation of the driver; the value is how it is called."""

    IN_TREE = "in-tree"
    DCAP = "DCAP"
    DCAP_EARLY = "early DCAP"
    LEGACY = "isgx"
    NONE = "none"


PATHS: tuple[tuple[str, Driver], ...] = (
    ("/dev/sgx_enclave", Driver.IN_TREE),
    ("/dev/sgx/enclave", Driver.DCAP),
    ("/dev/isgx", Driver.LEGACY),
    ("/dev/sgx", Driver.DCAP_EARLY),
)
"""Enclave devices in the order in which they are tried."""


def modules(facts: Facts) -> frozenset[str]:
    """Names of SGX modules that are loaded; none where that was not read."""
    return frozenset(module.name for module in known(facts.kernel.modules) or () if module.loaded)


def is_device(status: object) -> bool:
    """Whether a path is a device node, or a link to one."""
    return isinstance(status, NodeStatus) and status.type == "character"


def enclave_node(facts: Facts) -> DeviceNode | None:
    """The first enclave device that exists; None where none does or that was not read."""
    nodes = (facts.devices.node(path) for path, _ in PATHS)
    return next((node for node in nodes if is_device(node.status)), None)


def driver(facts: Facts) -> Driver | None:
    """Tell the driver's generation; None where nothing was read that tells it."""
    loaded = modules(facts)
    misc = known(facts.kernel.misc_devices)
    names = frozenset(device.name for device in misc or ())
    node = enclave_node(facts)
    if "sgx_enclave" in names or (node is not None and node.path == "/dev/sgx_enclave"):
        return Driver.DCAP if "intel_sgx" in loaded else Driver.IN_TREE
    if node is not None:
        return dict(PATHS)[node.path]
    if "isgx" in loaded or "isgx" in names:
        return Driver.LEGACY
    if misc is not None or all(absent(facts.devices.node(path).status) for path, _ in PATHS):
        return Driver.NONE
    return None


def nodes_read(facts: Facts) -> bool:
    """Whether it is known of every enclave device whether it exists."""
    statuses = [facts.devices.node(path).status for path, _ in PATHS]
    return all(not isinstance(status, Unread) or absent(status) for status in statuses)
