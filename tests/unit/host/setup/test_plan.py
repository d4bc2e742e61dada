"""Every system in every state of its driver gets a plan; what is planned is what holds afterwards."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles.hosts import HOSTS, changed, healthy, without_aesm
from doubles.releases import RELEASES, STATES, host, in_tree, noexec, old_kernel, software_controlled
from sgxkit.errors import FormatError, InputError
from sgxkit.host.facts import Dmi, Facts, OsRelease, TextFile
from sgxkit.host.setup.actions import (
    KINDS,
    AddUserToGroup,
    InstallPackages,
    Reboot,
    SetFstabLine,
    WriteEfiVariable,
    WriteFile,
    action_from_json,
    action_to_json,
)
from sgxkit.host.setup.change import diff
from sgxkit.host.setup.document import plan_document
from sgxkit.host.setup.observed import Observed, SeenFile, from_facts
from sgxkit.host.setup.options import PURPOSES, Options, check_options
from sgxkit.host.setup.plan import Plan, make_plan
from unit.host.test_facts import TEXT, instances

SCHEMA = json.loads((Path(__file__).parents[4] / "docs/schema/setup-plan.schema.json").read_text())
SNAPSHOT = Path(__file__).with_name("plans.txt")


def ids(plan: Plan) -> list[str]:
    return [step.id for step in plan.steps]


def snapshot() -> str:
    """All plans, those of systems that get the same one on one line."""
    lines = []
    for profile in ("run", "attest", "oasis-node", "pccs"):
        for state in STATES:
            plans = []
            for release in RELEASES:
                plan = make_plan(host(release, state), Options(profile, users=("alice",)))  # type: ignore[arg-type]
                plans.append((" ".join(ids(plan)) + (" END" if plan.ended else ""), release))
            lines.append(f"{profile}, {state}")
            for steps, group in groupby(sorted(plans), key=lambda entry: entry[0]):
                same = [release for _, release in group]
                who = "all" if len(same) == len(RELEASES) else ", ".join(same)
                lines.append(f"    {who}: {steps}")
    return "\n".join(lines) + "\n"


def test_every_system_in_every_state_has_the_plan_of_the_snapshot() -> None:
    made = snapshot()
    if os.environ.get("SGXKIT_WRITE_SNAPSHOTS"):
        SNAPSHOT.write_text(made)
    assert made == SNAPSHOT.read_text(), "SGXKIT_WRITE_SNAPSHOTS=1 writes it anew; read the difference"


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("profile", PURPOSES)
def test_composed_hosts_have_plans_that_go_to_json(name: str, profile: str) -> None:
    facts = HOSTS[name]()
    plan = make_plan(facts, Options(profile))  # type: ignore[arg-type]
    document = plan_document(plan, from_facts(facts), version="0")
    assert [step["id"] for step in document["steps"]] == ids(plan)  # type: ignore[attr-defined]
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    for step in plan.steps:
        assert action_from_json(action_to_json(step.action)) == step.action


def test_a_host_that_has_everything_needs_nothing() -> None:
    links = {"/dev/sgx/enclave": "sgx", "/dev/sgx/provision": "sgx_prv"}
    facts = healthy()
    nodes = facts.devices.nodes
    assert isinstance(nodes, tuple)
    from doubles.hosts import node

    facts = changed(
        facts,
        "devices",
        nodes=tuple(node(entry.path, group=links[entry.path]) if entry.path in links else entry for entry in nodes),
    )
    assert ids(make_plan(facts, Options("oasis-node"))) == []


def test_a_dev_without_exec_keeps_its_other_options() -> None:
    plan = make_plan(noexec(), Options("run"))
    (line,) = [step.action for step in plan.steps if isinstance(step.action, SetFstabLine)]
    assert line.line == "devtmpfs /dev devtmpfs rw,nosuid,relatime,exec 0 0"
    seen = Observed(files={"/etc/fstab": SeenFile(b"# /dev is not here\nLABEL=x / ext4 rw 0 1\n", 0o644)})
    assert diff(line, seen)[-1] == f"+{line.line}"


def test_a_new_kernel_comes_before_what_needs_its_driver_and_only_where_it_is_wanted() -> None:
    facts = changed(old_kernel(), "system", os_release=RELEASES["debian 11"])
    assert ids(make_plan(facts, Options("run")))[:3] == ["kernel.repository", "kernel.package", "kernel.reboot"]
    without = make_plan(facts, Options("run", reboot=False))
    assert not [step for step in without.steps if isinstance(step.action, Reboot)]
    assert without.reboots
    installed = Observed(kernels=("5.4.0-1-generic", "6.1.0-9-amd64"), rebooted=False)
    assert "kernel.package" not in ids(make_plan(facts, Options("run"), installed))


def test_the_largest_epc_is_asked_for_where_the_bios_leaves_it_to_software() -> None:
    plan = make_plan(software_controlled(), Options("run"))
    assert ids(plan) == ["firmware.epc", "firmware.reboot"]
    action = plan.steps[0].action
    assert isinstance(action, WriteEfiVariable)
    assert action.data == "0000d405"


def test_what_only_a_person_can_do_names_the_board() -> None:
    dmi = Dmi("Dell Inc.", "PowerEdge R750", "Dell Inc.", "0WT8Y6", "Dell Inc.", "1.2.4", "05/28/2021", None)
    (step,) = make_plan(changed(HOSTS["bios-off"](), "system", dmi=dmi), Options("run")).steps
    assert "PowerEdge R750" in str(step.todo[0])
    assert "1.2.4" in str(step.todo[0])
    assert step.by_person


def test_leftovers_of_old_guides_are_cleared() -> None:
    source = TextFile("/etc/apt/sources.list.d/intel-sgx.list", "deb <https://download.01.org/x> focal main\n", False)
    facts = changed(
        without_aesm(healthy()), "software", apt_sources=(source,), packages=HOSTS["old-psw"]().software.packages
    )
    steps = ids(make_plan(facts, Options("attest")))
    assert steps.index("leftover.intel-sgx.list") < steps.index("packages.quoting")
    assert steps.index("leftover.packages") < steps.index("packages.quoting")


def test_a_sound_configuration_of_the_quote_provider_is_left_alone() -> None:
    options = Options("attest")
    assert "provider.configuration" not in ids(make_plan(healthy(), options))
    assert "provider.configuration" in ids(make_plan(HOSTS["qcnl-comma"](), options))
    named = make_plan(healthy(), Options("attest", pccs="https://pccs.example:8081/sgx/certification/v4/"))
    (written,) = [step.action for step in named.steps if step.id == "provider.configuration"]
    assert isinstance(written, WriteFile)
    assert '"https://pccs.example:8081/sgx/certification/v4/"' in written.content
    assert ids(named)[-1] == "aesm.restart"


def test_consequences_of_a_run_that_was_cut_short_are_still_due() -> None:
    facts = in_tree()
    seen = from_facts(facts)
    assert "udev.reload" in ids(make_plan(facts, Options("run"), seen))
    rules = next(step.action for step in make_plan(facts, Options("run"), seen).steps if step.id == "udev.rules")
    assert isinstance(rules, WriteFile)
    done = Observed(
        files={rules.path: SeenFile(rules.content.encode(), 0o644)},
        groups={"sgx": frozenset(), "sgx_prv": frozenset()},
        mounts={"/dev": ("rw",)},
    )
    assert ids(make_plan(facts, Options("run"), done)) == []
    assert ids(make_plan(facts, Options("run"), done, due=frozenset({"udev.reload"}))) == ["udev.reload"]


NASTY = st.sampled_from(
    ["$(id)", "a;b", "`id`", "-x", "a b", "a\nb", "a'b", 'a"b', "..", "x\0y", "{{ 7 }}", "😀", "", "a" * 300]
)


@settings(max_examples=150, deadline=None)
@given(
    NASTY | TEXT, st.sampled_from(["user", "image", "url", "pccs", "codename", "id"]), st.sampled_from(list(PURPOSES))
)
def test_names_from_outside_are_plain_or_refused(text: str, place: str, profile: str) -> None:
    facts = in_tree()
    release = RELEASES["ubuntu 24.04"]
    options = Options(profile)  # type: ignore[arg-type]
    fields: dict[str, object] = {}
    if place == "codename":
        facts = changed(facts, "system", os_release=OsRelease("ubuntu", ("debian",), "24.04", text, ""))
    elif place == "id":
        facts = changed(facts, "system", os_release=OsRelease(text, ("debian",), text, "noble", ""))
    else:
        facts = changed(facts, "system", os_release=release)
        value: object = (text,) if place == "user" else text
        fields[{"user": "users", "image": "aesm_image", "url": "repo_url"}.get(place, place)] = value
        if place == "image":
            fields["aesm"] = "podman"
    from dataclasses import replace

    try:
        plan = make_plan(facts, check_options(replace(options, **fields)))  # type: ignore[arg-type]
    except InputError:
        return
    for step in plan.steps:
        match step.action:
            case AddUserToGroup():
                assert step.action.user.isascii()
                assert step.action.user.isprintable()
                assert not step.action.user.startswith("-")
            case InstallPackages():
                assert all(name.replace("-", "").replace(".", "").isalnum() for name in step.action.names)
            case WriteFile():
                assert "\0" not in step.action.content
                if place in ("image", "pccs"):
                    assert "\n" not in text or text not in step.action.content


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(instances(Facts), st.sampled_from(list(PURPOSES)))
def test_any_facts_have_a_plan_or_are_refused(facts: Facts, profile: str) -> None:
    try:
        plan = make_plan(facts, Options(profile))  # type: ignore[arg-type]
    except InputError:
        return
    assert plan_document(plan, from_facts(facts), version="0")["steps"] is not None


@pytest.mark.parametrize(
    "document",
    [
        {"action": "write-file", "path": "/etc/../x", "content": "", "mode": 420},
        {"action": "write-file", "path": "/etc/x", "content": "", "mode": 0o4755},
        {"action": "install-packages", "packager": "apt", "names": ["--force"], "release": None},
        {"action": "add-user-to-group", "user": "a b", "group": "sgx"},
        {"action": "enable-unit", "unit": "../x.service"},
        {"action": "set-fstab-line", "mount_point": "/dev", "line": "x /proc x x 0 0"},
        {"action": "no-such"},
        {},
        [],
        {"action": "write-file", "path": "/x"},
    ],
)
def test_actions_from_outside_are_read_strictly(document: object) -> None:
    with pytest.raises(FormatError):
        action_from_json(document)


def test_the_schema_knows_every_action() -> None:
    known = SCHEMA["$defs"]["step"]["properties"]["action"]["properties"]["action"]["enum"]
    assert set(known) == set(KINDS)
