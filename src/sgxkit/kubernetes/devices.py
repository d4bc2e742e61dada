"""The resources that a node offers: what each hands to a container, and whether it can.

A resource has a number of devices with an identifier each. A device is a ticket: it lets one container open device
nodes. It is no share of enclave memory, so every device of a resource grants the same and is healthy or not together.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgxkit.errors import InputError
from sgxkit.kubernetes.device_plugin_api import check_prefix
from sgxkit.messages import Message, msg

INTEL_PREFIX = "sgx.intel.com"
EMULATED_PREFIX = "sgx.sgxkit.dev"
ENCLAVE_NODE, PROVISION_NODE = "sgx_enclave", "sgx_provision"
DEFAULT_LIMIT = 110
"""The kubelet's default for the number of pods on a node."""
MAX_LIMIT = 10_000
"""A list of devices must fit into one message of gRPC, 4 MiB."""

# Names that Intel's udev rules, and older SDKs in images, use for the same nodes.
LEGACY_PATHS: Mapping[str, str] = {ENCLAVE_NODE: "/dev/sgx/enclave", PROVISION_NODE: "/dev/sgx/provision"}
EFI_VARIABLES = Path("/sys/firmware/efi/efivars")
EFI_VARIABLES_IN_CONTAINER = "/run/efivars"
"""Container runtimes mask /sys/firmware."""
AESM_FOLDER_IN_CONTAINER, AESM_SOCKET = "/var/run/aesmd", "aesm.socket"
_MISC_MAJOR = 10

Kind = Literal["enclave", "provision", "qe", "registration"]
_NODES: Mapping[Kind, tuple[str, ...]] = {
    "enclave": (ENCLAVE_NODE,),
    "provision": (PROVISION_NODE,),
    "qe": (ENCLAVE_NODE, PROVISION_NODE),
    "registration": (ENCLAVE_NODE, PROVISION_NODE),
}


@dataclass(frozen=True, slots=True)
class HostPath:
    """A file or folder of the host, at another path in the container."""

    host: str
    container: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the node.

    nodes    names of device nodes under /dev, each also at `aliases` in the container.
    mounts   what is mounted besides; a socket of AESM among them says whether the resource is healthy.
    """

    name: str
    kind: Kind
    count: int
    nodes: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    mounts: tuple[HostPath, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    socket: Path | None = None

    @property
    def device_ids(self) -> tuple[str, ...]:
        """The same ones in every run: the kubelet remembers who has which."""
        return tuple(f"sgx-{self.kind}-{number}" for number in range(self.count))


@dataclass(frozen=True, slots=True)
class Limits:
    """How many containers may have each resource at a time; 0 does not offer it."""

    enclave: int = DEFAULT_LIMIT
    provision: int = DEFAULT_LIMIT
    qe: int = 0
    registration: int = 0

    def __post_init__(self) -> None:
        for kind in _NODES:
            if not 0 <= getattr(self, kind) <= MAX_LIMIT:
                raise InputError(msg("the limit of {kind} is between 0 and {most}", kind=kind, most=MAX_LIMIT))


@dataclass(frozen=True, slots=True)
class HostView:
    """Where this process sees the host's /dev and /sys: in a container they are mounted elsewhere."""

    dev: Path = field(default=Path("/dev"))
    sys: Path = field(default=Path("/sys"))


def sgx_resources(limits: Limits, *, prefix: str = INTEL_PREFIX, legacy_paths: bool = False) -> tuple[Resource, ...]:
    """The resources of a node with SGX; raises InputError where nothing would be offered."""
    check_prefix(prefix)
    resources = []
    for kind, nodes in _NODES.items():
        count = getattr(limits, kind)
        if count:
            aliases = tuple((node, LEGACY_PATHS[node]) for node in nodes) if legacy_paths else ()
            mounts: tuple[HostPath, ...] = ()
            if kind == "registration":
                mounts = (HostPath(str(EFI_VARIABLES), EFI_VARIABLES_IN_CONTAINER, read_only=False),)
            resources.append(Resource(f"{prefix}/{kind}", kind, count, nodes, aliases, mounts))
    return _offered(resources)


def emulated_resources(
    folder: Path, limits: Limits, *, lab: str, prefix: str = EMULATED_PREFIX
) -> tuple[Resource, ...]:
    """The resources of a software platform: a folder with a lab and its AESM socket, and what `sgxkit run` needs.

    There is no device node. Raises InputError as `sgx_resources` does.
    """
    check_prefix(prefix)
    environment = {
        "SGX_AESM_ADDR": "1",
        "SGXKIT_AESM": f"{AESM_FOLDER_IN_CONTAINER}/{AESM_SOCKET}",
        "SGXKIT_EMULATED": "1",
        "SGXKIT_LAB": lab,
        "SGXKIT_STATE_DIR": AESM_FOLDER_IN_CONTAINER,
    }
    mounts = (HostPath(str(folder), AESM_FOLDER_IN_CONTAINER),)
    kinds: tuple[Kind, ...] = ("enclave", "provision")
    return _offered(
        [
            Resource(
                f"{prefix}/{kind}",
                kind,
                getattr(limits, kind),
                mounts=mounts,
                environment=environment,
                socket=folder / AESM_SOCKET,
            )
            for kind in kinds
            if getattr(limits, kind)
        ]
    )


def _offered(resources: list[Resource]) -> tuple[Resource, ...]:
    if not resources:
        raise InputError(
            msg("every limit is 0, so nothing would be offered"), hint=msg("give --enclave-limit a number above 0")
        )
    return tuple(resources)


def unhealthy_because(resource: Resource, view: HostView) -> Message | None:
    """Why the resource's devices cannot be used now; None when they can."""
    for name in resource.nodes:
        problem = _node_problem(name, view)
        if problem is not None:
            return problem
    if resource.socket is not None and not is_socket(resource.socket):
        return msg("{path} is no socket: the AESM daemon does not run", path=resource.socket)
    return None


def _node_problem(name: str, view: HostView) -> Message | None:
    path = Path("/dev") / name
    try:
        status = (view.dev / name).stat()
    except OSError as error:
        return msg("{path}: {reason}", path=path, reason=error.strerror or error)
    if not stat.S_ISCHR(status.st_mode):
        return msg("{path} is no character device", path=path)
    expected = _registered_number(name, view)
    actual = os.major(status.st_rdev), os.minor(status.st_rdev)
    if (actual != expected) if expected is not None else (actual[0] != _MISC_MAJOR):
        return msg(
            "{path} is the device {major}:{minor} of another driver", path=path, major=actual[0], minor=actual[1]
        )
    return None


def _registered_number(name: str, view: HostView) -> tuple[int, int] | None:
    """The device number that the kernel's driver has now; None where sysfs cannot be read."""
    try:
        text = (view.sys / "class" / "misc" / name / "dev").read_text()
    except (OSError, ValueError):
        return None
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})\s*", text)
    return None if found is None else (int(found[1]), int(found[2]))


def is_socket(path: Path) -> bool:
    """Whether there is a UNIX socket at `path`."""
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def epc_by_numa_node(view: HostView) -> Mapping[int, int]:
    """Bytes of EPC on each NUMA node that has any, as Linux 5.17 and later tell; empty where it cannot be told."""
    sizes: dict[int, int] = {}
    for path in (view.sys / "devices" / "system" / "node").glob("node[0-9]*/x86/sgx_total_bytes"):
        number = path.parent.parent.name.removeprefix("node")
        try:
            size = int(path.read_text())
        except (OSError, ValueError):
            continue
        if size > 0 and number.isdecimal():
            sizes[int(number)] = size
    return dict(sorted(sizes.items()))


def numa_node_of_devices(count: int, sizes: Mapping[int, int]) -> tuple[int | None, ...]:
    """For each of `count` devices the NUMA node it counts for, in proportion to the EPC there.

    All None where there are not two nodes to choose from: a hint that excludes nothing is left out.
    """
    if len(sizes) < 2:
        return (None,) * count
    total, taken = sum(sizes.values()), 0
    nodes: list[int | None] = []
    for node, size in sizes.items():
        taken += size
        nodes += [node] * (count * taken // total - len(nodes))
    return tuple(nodes)
