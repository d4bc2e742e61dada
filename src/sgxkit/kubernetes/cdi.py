"""Container Device Interface: the resources as CDI devices, in a specification file that runtimes read.

CNCF Container Device Interface specification 1.1.0. A reader refuses fields that are newer than the version which
the file declares, so the lowest version is declared that has what is used: 0.5.0 (hostPath), 0.7.0 (additionalGids).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from sgxkit.kubernetes.devices import Resource
from sgxkit.kubernetes.whole_file import write_public

CDI_FOLDER = Path("/var/run/cdi")
VENDOR, CLASS = "sgxkit.dev", "sgx"


def qualified_name(resource: Resource) -> str:
    """The CDI name of a resource's devices: they are all the same."""
    return f"{VENDOR}/{CLASS}={resource.kind}"


def cdi_document(resources: Iterable[Resource], additional_gids: tuple[int, ...] = ()) -> dict[str, object]:
    """The specification of these resources; `additional_gids` let users other than root open the device nodes."""
    devices = []
    for resource in resources:
        edits: dict[str, object] = {}
        nodes = [(f"/dev/{node}", node) for node in resource.nodes] + [
            (alias, node) for node, alias in resource.aliases
        ]
        if nodes:
            edits["deviceNodes"] = [
                {"path": path, "hostPath": f"/dev/{node}", "permissions": "rw"} for path, node in nodes
            ]
        if resource.mounts:
            edits["mounts"] = [
                {
                    "hostPath": mount.host,
                    "containerPath": mount.container,
                    "options": ["bind", "nosuid", "nodev", "noexec", "ro" if mount.read_only else "rw"],
                }
                for mount in resource.mounts
            ]
        if additional_gids:
            edits["additionalGids"] = list(additional_gids)
        devices.append({"name": resource.kind, "containerEdits": edits})
    return {
        "cdiVersion": "0.7.0" if additional_gids else "0.5.0",
        "kind": f"{VENDOR}/{CLASS}",
        "devices": devices,
    }


def write_cdi(
    resources: Iterable[Resource], folder: Path = CDI_FOLDER, additional_gids: tuple[int, ...] = ()
) -> Path:
    """Write the specification file, which appears whole; raises HostError where it cannot be written."""
    path = folder / f"{VENDOR}-{CLASS}.json"
    write_public(path, json.dumps(cdi_document(resources, additional_gids), indent=2) + "\n")
    return path
