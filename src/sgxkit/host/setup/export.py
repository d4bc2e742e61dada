"""The same plan for those who run something else: a POSIX shell script, an Ansible playbook, a cloud-config.

Each is written from the typed actions, so that nothing that comes from outside is ever a piece of a command: words
of the shell are quoted by `shlex.quote`, YAML is made by a dumper, and text that Jinja would read as a template is
marked `!unsafe`. They need nothing of sgxkit's. They may be run again, but keep no journal: only what `sgxkit setup
apply` did can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from sgxkit.host.setup.actions import Reboot
from sgxkit.host.setup.export_ansible import playbook
from sgxkit.host.setup.export_shell import script
from sgxkit.host.setup.plan import Plan

Format = Literal["ansible", "shell", "cloud-init"]


def cloud_config(plan: Plan) -> str:
    """A cloud-config that leaves the script to cloud-init: for once, or for every boot where the plan reboots."""
    import yaml  # noqa: PLC0415 - planning needs no YAML

    often = "per-boot" if any(isinstance(step.action, Reboot) for step in plan.steps) else "per-instance"
    file = {
        "path": f"/var/lib/cloud/scripts/{often}/sgxkit-setup.sh",
        "owner": "root:root",
        "permissions": "0700",
        "content": script(plan),
    }
    text: str = yaml.safe_dump({"write_files": [file]}, sort_keys=False, allow_unicode=False, width=1000)
    return f"#cloud-config\n{text}"


EXPORTS: Mapping[Format, Callable[[Plan], str]] = MappingProxyType(
    {"ansible": playbook, "shell": script, "cloud-init": cloud_config}
)
