"""Run one task on many hosts, through a child process, in batches."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Literal

from sgxkit.errors import HostError, InputError
from sgxkit.host.fleet.inventory import Machine, machine_to_json
from sgxkit.host.setup.options import Options
from sgxkit.messages import msg

Task = Literal["doctor", "plan", "apply", "undo", "status"]
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HostResult:
    """How one host ended: ``ok``, ``failed`` (a step or the connection), or ``not-run`` (its batch was not begun).

    readiness   0, 1 or 2 as the command's exit code would be on that host; None where it did not come so far.
    document    what the worker said of it.
    """

    name: str
    state: Literal["ok", "failed", "not-run"]
    readiness: int | None = None
    message: str = ""
    seconds: float = 0.0
    round_trips: int = 0
    document: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class FleetResult:
    """All hosts in the inventory's order, and what it took: seconds, and seconds of this machine's processor."""

    hosts: tuple[HostResult, ...]
    seconds: float
    cpu_seconds: float

    @property
    def exit_code(self) -> int:
        """1 where a host failed, was not begun, or is not ready; else 2 where one could not be told; else 0."""
        if any(host.state != "ok" or host.readiness == 1 for host in self.hosts):
            return 1
        return 2 if any(host.readiness == 2 for host in self.hosts) else 0


@dataclass(frozen=True, slots=True)
class Job:
    """What to do on the hosts; `secrets` reach the child through its standard input and are kept nowhere."""

    task: Task
    profile: str
    options: Options | None = None
    parallel: int = 20
    serial: int = 0
    timeout: float = 5.0
    network: bool = True
    facts: str | None = None
    sudo_password: str | None = None
    ssh_password: str | None = None


def run_fleet(machines: Sequence[Machine], job: Job, on_event: Callable[[Event], None]) -> FleetResult:
    """Do the job on every machine, `serial` at a time where that is not 0, stopping after a batch with a failure.

    Raises InputError where pyinfra is not installed, HostError where the child process breaks.
    """
    if find_spec("pyinfra") is None:
        raise InputError(
            msg("--hosts needs pyinfra, which is not installed"), hint=msg("pip install 'sgxkit[setup]'")
        )
    begun = time.monotonic()
    size = job.serial or len(machines)
    results: dict[str, HostResult] = {}
    cpu = 0.0
    for at in range(0, len(machines), size):
        batch = machines[at : at + size]
        cpu += _run_batch(batch, job, on_event, results)
        if job.serial and any(results[machine.name].state != "ok" for machine in batch):
            break
    hosts = tuple(results.get(machine.name, HostResult(machine.name, "not-run")) for machine in machines)
    return FleetResult(hosts, time.monotonic() - begun, cpu)


def _run_batch(
    batch: Sequence[Machine], job: Job, on_event: Callable[[Event], None], results: dict[str, HostResult]
) -> float:
    child = subprocess.Popen(
        [sys.executable, "-m", "sgxkit.host.fleet.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    cpu = 0.0
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(json.dumps(_document(batch, job)).encode() + b"\n")
        child.stdin.close()
        for line in child.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a library's own word on standard output
            if event["event"] == "end":
                cpu = float(event["cpu_seconds"])
                continue
            if event["event"] == "result":
                results[event["host"]] = _result(event)
            on_event(event)
        errors = child.stderr.read().decode("utf-8", "replace")
        if child.wait() != 0:
            lines = errors.strip().splitlines() or ["?"]
            raise HostError(msg("the process that talks to the hosts broke: {reason}", reason=lines[-1][:300]))
        for machine in batch:
            if machine.name not in results:
                message = (errors.strip().splitlines() or ["no result"])[-1][:300]
                results[machine.name] = HostResult(machine.name, "failed", message=message)
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    return cpu


def _document(batch: Sequence[Machine], job: Job) -> dict[str, object]:
    return {
        "machines": [machine_to_json(machine) for machine in batch],
        "task": job.task,
        "profile": job.profile,
        "options": None if job.options is None else dataclasses.asdict(job.options),
        "parallel": job.parallel,
        "timeout": job.timeout,
        "network": job.network,
        "facts": job.facts,
        "sudo_password": job.sudo_password,
        "ssh_password": job.ssh_password,
    }


def _result(event: Event) -> HostResult:
    readiness = event.get("readiness")
    return HostResult(
        name=str(event["host"]),
        state="ok" if event.get("ok") else "failed",
        readiness=readiness if isinstance(readiness, int) else None,
        message=str(event.get("message", "")),
        seconds=float(event.get("seconds", 0)),
        round_trips=int(event.get("round_trips", 0)),
        document=MappingProxyType(
            {name: value for name, value in event.items() if name not in ("host", "event", "ok", "message")}
        ),
    )
