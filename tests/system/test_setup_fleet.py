"""Many hosts at once: each for itself, in batches, over a reboot, after a kill; all of them on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from doubles.fleet import Node, nodes_over
from doubles.hosts import changed
from doubles.releases import RELEASES, in_tree, two_drivers
from doubles.systems import Trees, needs
from sgxkit.host.fleet.inventory import Machine
from sgxkit.host.fleet.report import fleet_document, fleet_page
from sgxkit.host.fleet.run import FleetResult, Job, run_fleet
from sgxkit.host.setup.options import Options


@pytest.fixture(scope="module")
def base(trees: Trees) -> Path:
    """The system that all of them begin as."""
    needs("ssh-keygen")
    return trees.system("bookworm")


@pytest.fixture
def fleet(base: Path, tmp_path: Path) -> Iterator[Callable[[int], list[Node]]]:
    """Makes nodes; they end with the test."""
    with nodes_over(base, tmp_path) as make:
        yield make


FACTS = json.dumps(changed(in_tree(), "system", os_release=RELEASES["debian 12"]).to_json())
JOB = Job("apply", "run", Options("run", users=("games",)), facts=FACTS, network=False)


def run(machines: list[Machine], job: Job = JOB, on_event: Callable[[Mapping[str, Any]], None] | None = None) -> Any:
    pytest.importorskip("pyinfra")
    result: FleetResult = run_fleet(machines, job, on_event or (lambda event: None))
    for host in result.hosts:
        print(host)  # shown where a test fails
    return {host.name: host for host in result.hosts}


def holds(node: Node) -> bool:
    return (node.root / "etc/udev/rules.d/95-sgxkit.rules").exists()


def test_a_mixed_fleet_is_set_up_each_host_for_itself(fleet: Callable[[int], list[Node]], tmp_path: Path) -> None:
    first, done_before, wrong, dead, by_sudo = fleet(5)
    run([done_before.machine("done-before")])
    dead.stop()
    subprocess.run(["chroot", str(by_sudo.root), "useradd", "-m", "-s", "/bin/sh", "admin"], check=True)
    (by_sudo.root / "etc/sudoers.d/admin").write_text("admin ALL=(ALL) NOPASSWD: ALL\n")
    shutil.copytree(by_sudo.root / "root/.ssh", by_sudo.root / "home/admin/.ssh")
    subprocess.run(["chroot", str(by_sudo.root), "chown", "-R", "admin", "/home/admin"], check=True)
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    machines = [
        first.machine("first"),
        done_before.machine("done-before"),
        wrong.machine("wrong-key", key=str(other)),
        dead.machine("dead"),
        by_sudo.machine("by-sudo", user="admin", sudo=True),
    ]
    events: list[Mapping[str, Any]] = []
    found = run(machines, on_event=events.append)
    assert {name: host.state for name, host in found.items()} == {
        "first": "ok", "done-before": "ok", "wrong-key": "failed", "dead": "failed", "by-sudo": "ok",
    }  # fmt: skip
    assert "group.sgx" in found["first"].document["done"] or "udev.rules" in found["first"].document["done"]
    assert found["done-before"].document["done"] == []
    assert "connect" in found["dead"].message.lower()
    assert "uthentication" in found["wrong-key"].message
    assert holds(first)
    assert holds(by_sudo)
    assert not holds(wrong)
    begun = [
        (event["host"], event["step"]) for event in events if event["event"] == "step" and event["state"] == "begun"
    ]
    assert len(begun) == len(set(begun))
    undone = run(machines, dataclasses.replace(JOB, task="undo", options=None))
    assert undone["first"].document["stayed"] == []
    assert not holds(first)
    assert not (first.root / "var/lib/sgxkit").exists()


def test_a_password_of_sudo_is_used_and_a_wrong_one_is_named(fleet: Callable[[int], list[Node]]) -> None:
    (node,) = fleet(1)
    subprocess.run(["chroot", str(node.root), "useradd", "-m", "-s", "/bin/sh", "admin"], check=True)
    subprocess.run(["chroot", str(node.root), "chpasswd"], input=b"admin:right one\n", check=True)
    (node.root / "etc/sudoers.d/admin").write_text("admin ALL=(ALL) ALL\n")
    shutil.copytree(node.root / "root/.ssh", node.root / "home/admin/.ssh")
    subprocess.run(["chroot", str(node.root), "chown", "-R", "admin", "/home/admin"], check=True)
    machine = node.machine("one", user="admin", sudo=True)
    wrong = run([machine], dataclasses.replace(JOB, sudo_password="wrong one"))
    assert wrong["one"].state == "failed"
    assert "sudo is refused" in wrong["one"].message
    assert "wrong one" not in wrong["one"].message
    assert not holds(node)
    right = run([machine], dataclasses.replace(JOB, sudo_password="right one"))
    assert right["one"].state == "ok", right["one"].message
    assert holds(node)


@pytest.mark.exhaustive
def test_a_host_behind_another_is_reached_through_it(fleet: Callable[[int], list[Node]]) -> None:
    bastion, behind = fleet(2)
    machine = behind.machine("behind", jump=f"root@localhost:{bastion.port}")
    found = run([machine])
    assert found["behind"].state == "ok", found["behind"].message
    assert holds(behind)
    assert not holds(bastion)
    bastion.stop()
    assert run([machine])["behind"].state == "failed"


def test_batches_stop_after_a_failure(fleet: Callable[[int], list[Node]]) -> None:
    nodes = fleet(3)
    nodes[1].stop()
    machines = [node.machine(f"n{number}") for number, node in enumerate(nodes)]
    found = run(machines, dataclasses.replace(JOB, serial=1))
    assert [found[f"n{number}"].state for number in range(3)] == ["ok", "failed", "not-run"]
    assert holds(nodes[0])
    assert not holds(nodes[2])


def test_a_host_that_reboots_midway_goes_on_afterwards(fleet: Callable[[int], list[Node]]) -> None:
    (node,) = fleet(1)
    facts = changed(two_drivers(), "system", os_release=RELEASES["debian 12"])
    job = dataclasses.replace(JOB, facts=json.dumps(facts.to_json()))
    told: list[str] = []

    def restart(event: Mapping[str, Any]) -> None:
        told.append(str(event["event"]))
        if event["event"] == "rebooting":
            deadline = time.monotonic() + 10
            while not (node.root / "reboot-wanted").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            node.stop()
            time.sleep(1)
            node.start()

    found = run([node.machine("one")], job, restart)
    assert found["one"].state == "ok", found["one"].message
    assert "rebooting" in told
    assert told.count("connected") == 2
    assert "reboot" in found["one"].document["done"]


def test_a_fleet_that_is_killed_in_the_middle_is_resumed(fleet: Callable[[int], list[Node]], tmp_path: Path) -> None:
    nodes = fleet(2)
    for node in nodes:  # a step that takes its time
        slow = node.root / "usr/local/sbin/usermod"
        slow.write_text('#!/bin/sh\nsleep 2\nexec /usr/sbin/usermod "$@"\n')
        slow.chmod(0o755)
    machines = [node.machine(f"n{number}") for number, node in enumerate(nodes)]
    document = json.dumps([dataclasses.asdict(machine) for machine in machines])
    script = (
        "import json, sys\n"
        "from sgxkit.host.fleet.inventory import Machine\n"
        "from sgxkit.host.fleet.run import Job, run_fleet\n"
        "from sgxkit.host.setup.options import Options\n"
        "machines, facts = json.loads(sys.stdin.read())\n"
        "job = Job('apply', 'run', Options('run', users=('games',)), facts=facts, network=False)\n"
        "run_fleet([Machine(**one) for one in machines], job, lambda event: print(event, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([json.loads(document), FACTS]).encode())
    process.stdin.close()
    for line in process.stdout:
        if b"member.games.sgx" in line and b"begun" in line:
            break
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while True:  # the program at work on the host is let finish, then the lock is free
        found = run(machines)
        if all(host.state == "ok" for host in found.values()):
            break
        assert all("another sgxkit" in host.message for host in found.values() if host.state != "ok"), found
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for node in nodes:
        assert "games" in (node.root / "etc/group").read_text().split("sgx:x:")[1].splitlines()[0]
    standing = run(machines, dataclasses.replace(JOB, task="status", options=None))
    assert all(host.readiness == 0 for host in standing.values())


def test_the_doctor_asks_many_hosts_and_writes_a_report(fleet: Callable[[int], list[Node]], tmp_path: Path) -> None:
    pytest.importorskip("pyinfra")
    nodes = fleet(2)
    inventory = tmp_path / "fleet.toml"
    known = nodes[0].key.parent / "known"
    text = f'[defaults]\nuser = "root"\nsudo = false\nkey = "{nodes[0].key}"\nknown_hosts = "{known}"\n'
    for number, node in enumerate(nodes):
        text += f'[[host]]\nname = "n{number}"\naddress = "127.0.0.1"\nport = {node.port}\n'
    inventory.write_text(text)
    report = tmp_path / "report.html"
    command = [sys.executable, "-m", "sgxkit", "doctor", "--hosts", str(inventory), "--no-network", "--json"]
    ran = subprocess.run(
        [*command, "--report", str(report)], check=False, capture_output=True, text=True, timeout=120
    )
    document = json.loads(ran.stdout)
    assert ran.returncode == document["exit_code"], ran.stderr
    assert [host["name"] for host in document["hosts"]] == ["n0", "n1"]
    assert all(host["state"] == "ok" for host in document["hosts"]), document
    assert all(host["round_trips"] < 10 for host in document["hosts"])
    assert "n1" in report.read_text()


@pytest.mark.exhaustive
def test_a_fleet_of_twenty(fleet: Callable[[int], list[Node]]) -> None:
    nodes = fleet(20)
    nodes[3].stop()
    machines = [node.machine(f"n{number}") for number, node in enumerate(nodes)]
    result = run_fleet(machines, JOB, lambda event: None)
    assert sum(host.state == "ok" for host in result.hosts) == 19
    assert all(holds(node) for number, node in enumerate(nodes) if number != 3)
    assert "n3" in fleet_page(result, task="apply")
    assert len(fleet_document(result, task="apply", version="0")["hosts"]) == 20  # type: ignore[arg-type]
