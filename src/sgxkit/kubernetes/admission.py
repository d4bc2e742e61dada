"""The webhook's judgement: a pod that asks for enclave memory gets what must come with it, as a JSON patch.

Pure functions over the pod of an AdmissionReview. What is there already is left alone, so a second look at a pod
changes nothing; a pod that asks for no enclave memory is not touched at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgxkit.host.checks.kubernetes import quantity
from sgxkit.kubernetes.devices import AESM_FOLDER_IN_CONTAINER, INTEL_PREFIX
from sgxkit.messages import Message, msg

AESM_CONTAINER = "aesmd"
AESM_VOLUME = "aesmd-socket"
AESM_ENVIRONMENT = ("SGX_AESM_ADDR", "1")
"""The switch by which Intel's quote library asks the daemon rather than quoting in the process."""
_MAX_CONTAINERS = 256

Operation = dict[str, Any]


class RefusedError(Exception):
    """The pod cannot be what it says; the message is for who made it."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """How pods are completed.

    provision_namespaces  where a pod may be its own quote provider, and so get the provisioning key.
    aesm_folder           where the host has the daemon's socket.
    """

    prefix: str = INTEL_PREFIX
    provision_namespaces: frozenset[str] = frozenset()
    aesm_folder: str = AESM_FOLDER_IN_CONTAINER

    @property
    def quote_provider(self) -> str:
        return f"{INTEL_PREFIX}/quote-provider"


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of a pod: the patch, and what its maker should know."""

    operations: tuple[Operation, ...] = ()
    warnings: tuple[Message, ...] = ()


def admit(pod: Mapping[str, Any], namespace: str, settings: AdmissionSettings) -> Admission:
    """Complete a pod; raises RefusedError for one that contradicts itself or asks for what it may not have."""
    spec = _mapping(pod, "spec")
    places = [
        (f"/spec/{kind}/{index}", one)
        for kind in ("containers", "initContainers")
        for index, one in _listed(spec, kind)
    ]
    users = [(path, one) for path, one in places if _asked_epc(one, settings) is not None]
    if not users:
        return Admission()
    provider = _mapping(pod, "metadata").get("annotations") or {}
    quoting = provider.get(settings.quote_provider)
    names = [str(one.get("name")) for _, one in users]
    warnings = []
    if quoting is not None and quoting != AESM_CONTAINER and quoting not in names:
        warnings.append(
            msg(
                "{annotation} names {name}, which is no container with enclave memory here",
                annotation=settings.quote_provider,
                name=quoting,
            )
        )
    operations: list[Operation] = []
    for path, container in users:
        name = str(container.get("name"))
        wanted = {"epc": str(_asked_epc(container, settings)), "enclave": "1"}
        if quoting == name:
            if namespace not in settings.provision_namespaces:
                raise RefusedError(
                    msg(
                        "{resource} is not given to pods of namespace {namespace}: it identifies the platform",
                        resource=f"{settings.prefix}/provision",
                        namespace=namespace,
                    )
                )
            wanted["provision"] = "1"
        operations += _resource_operations(path, container, wanted, settings)
        if quoting == AESM_CONTAINER:
            operations += _aesm_operations(path, container)
    if quoting == AESM_CONTAINER:
        operations += _volume_operations(spec, names, settings)
    operations += _annotation_operations(pod, spec, settings)
    return Admission(tuple(operations), tuple(warnings))


def _listed(spec: Mapping[str, Any], kind: str) -> list[tuple[int, Mapping[str, Any]]]:
    entries = spec.get(kind) or []
    if not isinstance(entries, list) or len(entries) > _MAX_CONTAINERS:
        raise RefusedError(msg("{field} is malformed", field=f"spec.{kind}"))
    return [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, Mapping)]


def _asked_epc(container: Mapping[str, Any], settings: AdmissionSettings) -> int | None:
    """Bytes of enclave memory that a container asks for; None where it asks for none."""
    resources = _mapping(container, "resources")
    name = f"{settings.prefix}/epc"
    asked = [
        str(part[name]) for part in (_mapping(resources, "limits"), _mapping(resources, "requests")) if name in part
    ]
    if not asked:
        return None
    sizes = [quantity(one) for one in asked]
    if sizes[0] is None or any(size != sizes[0] for size in sizes):
        raise RefusedError(
            msg(
                "container {name}: {resource} must be a whole number of bytes, the same in limits and requests",
                name=container.get("name"),
                resource=name,
            )
        )
    return sizes[0] or None


def _resource_operations(
    path: str, container: Mapping[str, Any], wanted: Mapping[str, str], settings: AdmissionSettings
) -> list[Operation]:
    resources = container.get("resources")
    if not isinstance(resources, Mapping):
        raise RefusedError(msg("{field} is malformed", field=path))
    operations: list[Operation] = []
    for part in ("limits", "requests"):
        there = resources.get(part)
        if not isinstance(there, Mapping):
            operations.append({"op": "add", "path": f"{path}/resources/{part}", "value": {}})
            there = {}
        for kind, amount in wanted.items():
            name = f"{settings.prefix}/{kind}"
            if name not in there:
                operations.append({"op": "add", "path": f"{path}/resources/{part}/{_escaped(name)}", "value": amount})
    return operations


def _aesm_operations(path: str, container: Mapping[str, Any]) -> list[Operation]:
    operations: list[Operation] = []
    mounts, environment = container.get("volumeMounts"), container.get("env")
    mounts = mounts if isinstance(mounts, list) else None
    environment = environment if isinstance(environment, list) else None
    if not any(one.get("mountPath") == AESM_FOLDER_IN_CONTAINER for one in mounts or ()):
        # The daemon itself makes the socket there; all others only connect to it.
        mount = {
            "name": AESM_VOLUME,
            "mountPath": AESM_FOLDER_IN_CONTAINER,
            "readOnly": container.get("name") != AESM_CONTAINER,
        }
        operations += _appended(f"{path}/volumeMounts", mount, absent=mounts is None)
    name, value = AESM_ENVIRONMENT
    if not any(one.get("name") == name for one in environment or ()):
        operations += _appended(f"{path}/env", {"name": name, "value": value}, absent=environment is None)
    return operations


def _volume_operations(spec: Mapping[str, Any], names: list[str], settings: AdmissionSettings) -> list[Operation]:
    volumes = spec.get("volumes")
    volumes = volumes if isinstance(volumes, list) else None
    sidecar = AESM_CONTAINER in names and len(names) > 1
    wanted = (
        {"emptyDir": {"medium": "Memory"}}
        if sidecar
        # Not DirectoryOrCreate: where no daemon was ever, the pod must say so rather than wait at an empty folder.
        else {
            "hostPath": {
                "path": settings.aesm_folder,
                "type": "DirectoryOrCreate" if AESM_CONTAINER in names else "Directory",
            }
        }
    )
    for volume in volumes or ():
        if volume.get("name") == AESM_VOLUME:
            if not set(wanted) & set(volume):
                raise RefusedError(
                    msg("volume {name} is there, and is no {kind}", name=AESM_VOLUME, kind=next(iter(wanted)))
                )
            return []
    return _appended("/spec/volumes", {"name": AESM_VOLUME, **wanted}, absent=volumes is None)


def _annotation_operations(
    pod: Mapping[str, Any], spec: Mapping[str, Any], settings: AdmissionSettings
) -> list[Operation]:
    """All the enclave memory of the pod, for runtimes that give it to a virtual machine."""
    name, total = f"{settings.prefix}/epc", _total_epc(spec, settings)
    annotations = _mapping(pod, "metadata").get("annotations")
    if not isinstance(annotations, Mapping):
        return [{"op": "add", "path": "/metadata/annotations", "value": {name: _binary(total)}}]
    if name in annotations:
        return []
    return [{"op": "add", "path": f"/metadata/annotations/{_escaped(name)}", "value": _binary(total)}]


def _total_epc(spec: Mapping[str, Any], settings: AdmissionSettings) -> int:
    """What the scheduler counts: containers and sidecars, or the largest init container with its sidecars."""
    sidecars = largest = 0
    for _, one in _listed(spec, "initContainers"):
        size = _asked_epc(one, settings) or 0
        if one.get("restartPolicy") == "Always":
            sidecars += size
            largest = max(largest, sidecars)
        else:
            largest = max(largest, sidecars + size)
    return max(largest, sidecars + sum(_asked_epc(one, settings) or 0 for _, one in _listed(spec, "containers")))


def _binary(size: int) -> str:
    for suffix, bits in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if size and size % (1 << bits) == 0:
            return f"{size >> bits}{suffix}"
    return str(size)


def _appended(path: str, value: Mapping[str, Any], *, absent: bool) -> list[Operation]:
    first = [{"op": "add", "path": path, "value": []}] if absent else []
    return [*first, {"op": "add", "path": f"{path}/-", "value": value}]


def _mapping(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
