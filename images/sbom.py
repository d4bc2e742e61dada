"""Print what an image holds, as CycloneDX 1.5 JSON: packages of Python and of the distribution.

Run in the image while it is built: ``python3 sbom.py NAME VERSION``. Nothing but the standard library.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import quote


def python_packages() -> Iterator[dict[str, object]]:
    for one in metadata.distributions():
        name, version = str(one.metadata["Name"]), one.version
        licenses = one.metadata.get("License-Expression") or one.metadata.get("License") or ""
        component: dict[str, object] = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{quote(name.lower())}@{quote(version)}",
        }
        if licenses and "\n" not in licenses:
            component["licenses"] = [{"license": {"name": licenses}}]
        yield component


def system_packages() -> Iterator[dict[str, object]]:
    query = shutil.which("dpkg-query")
    if query is None:
        return
    release = Path("/etc/os-release").read_text()
    system = next(
        (line.partition("=")[2].strip('"') for line in release.splitlines() if line.startswith("ID=")), "debian"
    )
    form = "${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(  # noqa: S603 - an argument list, no shell
        [query, "-W", "-f", form], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        name, version, architecture = line.split("\t")
        purl = f"pkg:deb/{system}/{quote(name)}@{quote(version)}?arch={architecture}"
        yield {"type": "library", "name": name, "version": version, "purl": purl}


def document(name: str, version: str) -> dict[str, object]:
    components = sorted([*python_packages(), *system_packages()], key=lambda one: str(one["purl"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(document(*sys.argv[1:3]), sys.stdout, indent=1)
    sys.stdout.write("\n")
