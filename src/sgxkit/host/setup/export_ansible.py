"""A plan as an Ansible playbook. YAML is made by a dumper, and no value is read as a template."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sgxkit.host.setup import rendered
from sgxkit.host.setup.actions import (
    Action,
    AddAptRepository,
    AddGroup,
    AddRpmRepository,
    AddUserToGroup,
    AskPerson,
    DisableUnit,
    EnableUnit,
    InstallKernel,
    InstallPackages,
    Reboot,
    ReloadSystemd,
    ReloadUdev,
    Remount,
    RemoveFile,
    RemoveKernelArgument,
    RemovePackages,
    RepositoryKey,
    RestartUnit,
    SetFstabLine,
    StartUnit,
    UnpackRepository,
    WriteEfiVariable,
    WriteFile,
)
from sgxkit.host.setup.change import change
from sgxkit.host.setup.export_shell import lines
from sgxkit.host.setup.observed import Observed
from sgxkit.host.setup.plan import Plan

Task = dict[str, object]


def playbook(plan: Plan) -> str:
    """The whole plan for the hosts of group `sgx`; a step for a person pauses or, where the plan ends, fails."""
    import yaml  # noqa: PLC0415 - planning needs no YAML

    class Dumper(yaml.SafeDumper):
        """Marks text that Jinja would read as a template (`!unsafe`, ansible-core's tag)."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        tag = "!unsafe" if re.search(r"\{[{%#]", value) else "tag:yaml.org,2002:str"
        return dumper.represent_scalar(tag, value, style="|" if "\n" in value else '"' if tag == "!unsafe" else None)

    Dumper.add_representer(str, text)
    play = [{"name": f"Set hosts up for {plan.options.profile}", "hosts": "all", "become": True, "tasks": _all(plan)}]
    written: str = yaml.dump(play, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=1000)
    return f"# Needs ansible-core 2.15 or later.\n---\n{written}"


def _all(plan: Plan) -> list[Task]:
    """Every step's tasks; what follows from a step is done only where that step changed something."""
    found: list[Task] = []
    results: dict[str, list[str]] = {}
    for number, step in enumerate(plan.steps, 1):
        name = f"{step.id}: {step.why if step.by_person else change(step.action, Observed())}"
        if step.by_person:
            sentences = "\n".join([str(step.why), *map(str, step.todo), *step.commands])
            module = "ansible.builtin.fail" if step.ends else "ansible.builtin.debug"
            found.append({"name": name, module: {"msg": sentences}})
            continue
        causes = [result for cause in step.after for result in results.get(cause, [])]
        if isinstance(step.action, Reboot) and not causes:
            causes = [result for other in plan.steps if other.reboot for result in results.get(other.id, [])]
        for part, task in enumerate(tasks(step.action), 1):
            result = f"step_{number}_{part}"
            condition = {"when": " or ".join(f"{cause} is changed" for cause in causes)} if causes else {}
            registered = {} if "register" in task or "assert" in str(task.keys()) else {"register": result}
            found.append({"name": name, **task, **condition, **registered})
            if registered:
                results.setdefault(step.id, []).append(result)
    return found


def tasks(action: Action) -> Iterator[Task]:
    """The tasks of one action."""
    match action:
        case AddAptRepository():
            if action.key is not None:
                yield from _key(action.key, action.keyring)
            yield _copy(action.sources, rendered.apt_source(action), 0o644)
            yield {"ansible.builtin.apt": {"update_cache": True}}
        case AddRpmRepository():
            yield from _key(action.key, action.keyring)
            yield {"ansible.builtin.command": {"argv": ["rpm", "--import", action.keyring]}, "changed_when": False}
            yield _copy(rendered.rpm_repository_path(action), rendered.rpm_repository(action), 0o644)
        case UnpackRepository():
            parent = action.folder.rsplit("/", 1)[0]
            yield {"ansible.builtin.file": {"path": parent, "state": "directory", "mode": "0755"}}
            yield {
                "ansible.builtin.unarchive": {
                    "src": action.url,
                    "dest": parent,
                    "remote_src": True,
                    "creates": action.folder,
                    "owner": "root",
                    "group": "root",
                }
            }
        case InstallPackages() | InstallKernel():
            module = {
                "apt": "ansible.builtin.apt",
                "dnf": "ansible.builtin.dnf",
                "zypper": "community.general.zypper",
            }
            arguments: dict[str, object] = {"name": list(action.names), "state": "present"}
            if action.packager == "apt":
                arguments |= {"update_cache": True, "install_recommends": True}
                if action.release is not None:
                    arguments["default_release"] = action.release
            if isinstance(action, InstallKernel):
                arguments["state"] = "latest"
            yield {module[action.packager]: arguments}
        case RemovePackages():
            module = {
                "apt": "ansible.builtin.apt",
                "dnf": "ansible.builtin.dnf",
                "zypper": "community.general.zypper",
            }
            yield {module[action.packager]: {"name": list(action.names), "state": "absent"}}
        case WriteFile():
            parent = action.path.rsplit("/", 1)[0]
            yield {"ansible.builtin.file": {"path": parent, "state": "directory", "mode": "0755"}}
            yield _copy(action.path, action.content, action.mode)
        case RemoveFile():
            yield {"ansible.builtin.file": {"path": action.path, "state": "absent"}}
        case SetFstabLine():
            expression = rf"^[^#\s]\S*\s+{re.escape(action.mount_point)}\s"
            yield {"ansible.builtin.lineinfile": {"path": "/etc/fstab", "regexp": expression, "line": action.line}}
        case Remount():
            argv = ["mount", "-o", f"remount,{action.option}", action.mount_point]
            yield {"ansible.builtin.command": {"argv": argv}, "changed_when": False}
        case AddGroup():
            yield {"ansible.builtin.group": {"name": action.name, "system": True, "state": "present"}}
        case AddUserToGroup():
            yield {"ansible.builtin.user": {"name": action.user, "groups": [action.group], "append": True}}
        case EnableUnit():
            yield {"ansible.builtin.systemd_service": {"name": action.unit, "enabled": True, "state": "started"}}
        case StartUnit():
            yield {"ansible.builtin.systemd_service": {"name": action.unit, "state": "started"}}
        case DisableUnit():
            yield {"ansible.builtin.systemd_service": {"name": action.unit, "enabled": False, "state": "stopped"}}
        case RestartUnit():
            yield {"ansible.builtin.command": {"argv": ["systemctl", "try-restart", action.unit]}}
        case ReloadUdev():
            yield {"ansible.builtin.command": {"argv": ["udevadm", "control", "--reload"]}, "changed_when": False}
            argv = ["udevadm", "trigger", "--subsystem-match=misc"]
            yield {"ansible.builtin.command": {"argv": argv}, "changed_when": False}
        case ReloadSystemd():
            yield {"ansible.builtin.systemd_service": {"daemon_reload": True}}
        case WriteEfiVariable() | RemoveKernelArgument():
            yield {"ansible.builtin.shell": {"cmd": "\n".join(["set -eu", *lines(action)])}}
        case Reboot():
            yield {"ansible.builtin.reboot": {}}
        case AskPerson():
            return


def _copy(path: str, content: str, mode: int) -> Task:
    return {
        "ansible.builtin.copy": {
            "dest": path,
            "content": content,
            "mode": f"{mode:04o}",
            "owner": "root",
            "group": "root",
        }
    }


def _key(key: RepositoryKey, path: str) -> Iterator[Task]:
    parent = path.rsplit("/", 1)[0]
    yield {"ansible.builtin.file": {"path": parent, "state": "directory", "mode": "0755"}}
    fetched = f"{path}.new"
    yield {"ansible.builtin.get_url": {"url": key.url, "dest": fetched, "mode": "0644"}}
    yield {
        "ansible.builtin.command": {"argv": ["gpg", "--batch", "--show-keys", "--with-colons", fetched]},
        "register": "key",
        "changed_when": False,
    }
    # Every primary key in the file must be the trusted one.
    found = "key.stdout | regex_findall('pub:[^\\n]*\\n(?:[^\\n]*\\n)*?fpr:+([0-9A-F]+):')"
    yield {"ansible.builtin.assert": {"that": [f"{found} | unique | list == ['{key.fingerprint}']"]}}
    yield {"ansible.builtin.copy": {"src": fetched, "dest": path, "mode": "0644", "remote_src": True}}
