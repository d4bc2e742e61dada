"""Setting up a fleet, beside the bare SSH sessions that it cannot do without.

Hosts are roots of their own on this machine, so that both sides share its processors with every sshd. Needs root,
debootstrap's system of the tests (`make test` makes it), and pyinfra.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from doubles.fleet import Node, nodes_over
from doubles.hosts import changed
from doubles.releases import RELEASES, in_tree
from sgxkit.host.fleet.run import Job, run_fleet
from sgxkit.host.setup.options import Options

SYSTEM = Path(".pytest_cache/d/systems/bookworm")
PARALLEL = 20


def bare(node: Node) -> None:
    """One SSH session that does nothing."""
    quiet = ("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")
    known = ("-o", f"UserKnownHostsFile={node.key.parent / 'bare'}")
    target = ("-i", str(node.key), "-p", str(node.port), "root@127.0.0.1", "true")
    subprocess.run(["ssh", *quiet, *known, *target], check=True)


def main() -> None:
    if os.geteuid() != 0 or not SYSTEM.is_dir():
        print("skipped: needs root, and the system that tests/system/test_setup_fleet.py makes")
        return
    count = int(os.environ.get("SGXKIT_FLEET_HOSTS", "20"))
    facts = json.dumps(changed(in_tree(), "system", os_release=RELEASES["debian 12"]).to_json())
    job = Job("apply", "run", Options("run", users=("games",)), PARALLEL, facts=facts, network=False)
    with tempfile.TemporaryDirectory() as folder, nodes_over(SYSTEM.resolve(), Path(folder)) as make:
        nodes = make(count)
        begun = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(bare, nodes))
        alone = time.perf_counter() - begun
        machines = [node.machine(f"n{number}") for number, node in enumerate(nodes)]
        first = run_fleet(machines, job, lambda _: None)
        again = run_fleet(machines, job, lambda _: None)
    assert all(host.state == "ok" for host in (*first.hosts, *again.hosts))
    print(f"{count} hosts, {PARALLEL} at a time")
    print(f"  bare `ssh HOST true`   {alone:7.2f} s")
    for name, result in (("apply, and the doctor", first), ("apply again", again)):
        trips = sum(host.round_trips for host in result.hosts) / count
        cpu = 1000 * result.cpu_seconds / count
        print(f"  {name:22} {result.seconds:7.2f} s  {result.seconds / alone:5.1f} x bare")
        print(f"      per host: {trips:.0f} round trips, {cpu:.0f} ms of the controller's processor time")
