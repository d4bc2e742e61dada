"""Exports hold the plan and nothing else: no text from outside is ever a command or a template."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.hosts import old_psw
from doubles.releases import RELEASES, STATES, host
from sgxkit.host.setup.actions import (
    Action,
    AddAptRepository,
    AddRpmRepository,
    AddUserToGroup,
    EnableUnit,
    InstallKernel,
    InstallPackages,
    Reboot,
    RemoveFile,
    RemovePackages,
    RepositoryKey,
    WriteFile,
    checked,
)
from sgxkit.host.setup.export import EXPORTS
from sgxkit.host.setup.export_shell import lines
from sgxkit.host.setup.options import Options
from sgxkit.host.setup.plan import Plan, make_plan
from sgxkit.host.setup.rendered import apt_source
from sgxkit.host.setup.step import Step
from sgxkit.messages import msg

KEY = RepositoryKey("https://x.example/`id`$(id);'\"", "A" * 40)
NASTY = "'; touch pwned; $(touch pwned) `touch pwned` \"\n{{ lookup('pipe', 'id') }} {% raw %} \\ %s\n"


class Loader(yaml.SafeLoader):
    """Reads Ansible's tag as what it stands for."""


def _unsafe(loader: Loader, node: yaml.ScalarNode) -> str:
    return "UNSAFE" + loader.construct_scalar(node)


Loader.add_constructor("!unsafe", _unsafe)


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for text in leaves(list(item))]
    if isinstance(value, list):
        return [text for item in value for text in leaves(item)]
    return [value] if isinstance(value, str) else []


def plan_of(*actions: Action) -> Plan:
    made = make_plan(host("debian 12", "in-tree"), Options("run"))
    steps = tuple(Step(f"s{number}", action, msg("reboot")) for number, action in enumerate(actions))
    return Plan(made.options, made.distribution, steps, (), False)


def test_every_plan_is_a_script_a_playbook_and_a_cloud_config() -> None:
    scripts: set[str] = set()
    for release in RELEASES:
        for state in STATES:
            plan = make_plan(host(release, state), Options("oasis-node", users=("alice",)))
            scripts.add(EXPORTS["shell"](plan))
            if state in ("in-tree", "old-kernel"):
                (play,) = yaml.load(EXPORTS["ansible"](plan), Loader)
                assert len(play["tasks"]) >= len(plan.steps)
                (file,) = yaml.safe_load(EXPORTS["cloud-init"](plan))["write_files"]
                assert file["content"] == EXPORTS["shell"](plan)
                assert ("per-boot" in file["path"]) == any(isinstance(step.action, Reboot) for step in plan.steps)
    for script in scripts:
        assert subprocess.run(["sh", "-n"], input=script.encode(), check=False, capture_output=True).stderr == b""


ACTIONS: list[tuple[Action, list[list[str]]]] = [
    (WriteFile("/etc/a b'c", NASTY), [["write_file", "/etc/a b'c", "0644", NASTY]]),
    (RemoveFile("/etc/$(id)"), [["rm", "-f", "/etc/$(id)"]]),
    (AddUserToGroup("alice", "sgx"), [["usermod", "--append", "--groups", "sgx", "alice"]]),
    (EnableUnit("a@b.service"), [["systemctl", "enable", "--now", "a@b.service"]]),
    (
        InstallPackages("apt", ("g++", "libsgx-urts"), "x"),
        [["apt-get", "update"], ["apt-get", "-y", "-t", "x", "install", "--", "g++", "libsgx-urts"]],
    ),
    (InstallKernel("dnf", ("kernel",), None, "5.11"), [["dnf", "-y", "install", "kernel"]]),
    (RemovePackages("zypper", ("x",)), [["zypper", "--non-interactive", "remove", "x"]]),
]


def commands(action: Action, tmp_path: Path) -> list[list[str]]:
    """What the lines of an action run, by programs that only write their arguments down."""
    log = tmp_path / "log"
    log.write_bytes(b"")
    names = ("write_file", "fetch_key", "rm", "usermod", "systemctl", "dnf", "zypper", "rpm", "mkdir", "curl", "tar")
    recorder = f'{{ {{ printf "%s\\0" "$N" "$@"; printf "\\n\\0"; }} >> {log}; }}\n'
    # A dash is no part of a function's name for every shell, so apt-get is a program.
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\nN=apt-get\nrecord() {recorder}record "$@"\n')
    program.chmod(0o755)
    head = "".join(f'{name}() {{ N={name}; record "$@"; }}\n' for name in names)
    script = f"set -eu\nrecord() {recorder}{head}" + "\n".join(lines(action))
    subprocess.run(["sh", "-c", script], check=True, cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    calls: list[list[str]] = [[]]
    for word in log.read_bytes().decode().split("\0")[:-1]:
        if word == "\n":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls[:-1]


@pytest.mark.parametrize(("action", "expected"), ACTIONS)
def test_every_word_reaches_its_program_as_one_word(
    action: Action, expected: list[list[str]], tmp_path: Path
) -> None:
    assert commands(checked(action), tmp_path) == expected
    assert not (tmp_path / "pwned").exists()


def test_a_repository_reaches_the_script_as_it_is(tmp_path: Path) -> None:
    action = AddAptRepository("https://y.example/$(touch${IFS}pwned);`id`'", "s", ("main",), "/etc/s", "/etc/k", KEY)
    found = commands(checked(action), tmp_path)
    assert found[0] == ["fetch_key", KEY.url, "/etc/k", KEY.fingerprint]
    assert found[1] == ["write_file", "/etc/s", "0644", apt_source(action)]
    assert not (tmp_path / "pwned").exists()


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_no_content_becomes_a_template_or_breaks_the_yaml(text: str) -> None:
    content = NASTY + text
    plan = plan_of(WriteFile("/etc/x", content), WriteFile("/etc/{{ x }}", text), AddRpmRepository(
        "dnf", "n", "https://z.example/{{7*7}}", "/etc/k", KEY))  # fmt: skip
    (play,) = yaml.load(EXPORTS["ansible"](plan), Loader)
    found = leaves(play)
    assert "UNSAFE" + content in found
    for value in found:
        assert value.startswith("UNSAFE") or not any(opening in value for opening in ("{{", "{%", "{#"))
    assert yaml.safe_load(EXPORTS["cloud-init"](plan))["write_files"][0]["content"] == EXPORTS["shell"](plan)


def test_steps_for_a_person_end_an_export_where_the_plan_ends() -> None:
    plan = make_plan(host("ubuntu 24.04", "bios-off"), Options("run"))
    assert "exit 1" in EXPORTS["shell"](plan)
    (play,) = yaml.load(EXPORTS["ansible"](plan), Loader)
    assert "ansible.builtin.fail" in play["tasks"][-1]


def test_services_are_restarted_by_a_playbook_only_where_something_changed() -> None:
    (play,) = yaml.load(EXPORTS["ansible"](make_plan(old_psw(), Options("attest"))), Loader)
    (restart,) = [task for task in play["tasks"] if task["name"].startswith("aesm.restart")]
    registered = {task.get("register") for task in play["tasks"]}
    assert restart["when"]
    assert {word for word in restart["when"].split() if word.startswith("step_")} <= registered
