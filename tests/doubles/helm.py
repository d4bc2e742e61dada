"""Charts, rendered by the real helm of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
STACK, WORKLOAD = CHARTS / "sgx-stack", CHARTS / "sgx-workload"
TOOLS = ROOT / ".tools"
HELM = os.environ.get("SGXKIT_HELM") or shutil.which("helm") or shutil.which("helm", path=str(TOOLS))

needs_helm = pytest.mark.skipif(
    HELM is None, reason="helm is not installed: go install helm.sh/helm/v3/cmd/helm, or set SGXKIT_HELM"
)
Document = dict[str, Any]


def helm(*arguments: str) -> tuple[int, str]:
    """Run helm; returns its exit code and what it said."""
    assert HELM is not None
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def render(
    chart: Path, *options: str, release: str = "sgx", namespace: str = "sgx-system", kubernetes: str = "1.34.0"
) -> list[Document]:
    """The objects of a chart, tests and hooks as well."""
    code, text = helm(
        "template", release, str(chart), "--namespace", namespace, "--kube-version", kubernetes, *options
    )
    assert code == 0, text
    return [one for one in yaml.safe_load_all(text) if one]


def pod_of(document: Document) -> Document | None:
    """The pod's specification that an object has or makes."""
    if document["kind"] == "Pod":
        return dict(document["spec"])
    template = document.get("spec", {}).get("template") if isinstance(document.get("spec"), dict) else None
    return None if template is None else dict(template["spec"])


def containers_of(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", []), *pod["containers"]]
