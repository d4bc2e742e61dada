"""The child process that talks to the hosts: pyinfra connects, our own plan and journal do the rest.

pyinfra needs a process of its own: it is built on gevent, keeps global state, and matches operations of several hosts
by their position. So nothing of its operations is used here: each host has a greenlet, which runs the same code as
`sgxkit setup` does on one host, on a `Target` whose primitives go through the connection. Steps are known by host and
by id. Standard input brings one JSON job, secrets included; standard output carries one JSON event a line.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patch, as gevent wants it
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from gevent.pool import Pool  # noqa: E402
from pyinfra.api.command import QuoteString, StringCommand  # noqa: E402
from pyinfra.api.config import Config  # noqa: E402
from pyinfra.api.exceptions import ConnectError  # noqa: E402
from pyinfra.api.inventory import Inventory  # noqa: E402
from pyinfra.api.state import State  # noqa: E402
from pyinfra.connectors.util import make_unix_command_for_host  # noqa: E402
from pyinfra.context import ctx_state  # noqa: E402

from sgxkit import __version__  # noqa: E402
from sgxkit.errors import FormatError, HostError, SgxkitError  # noqa: E402
from sgxkit.host.collect import PROBE  # noqa: E402
from sgxkit.host.facts import Facts, load_facts_json  # noqa: E402
from sgxkit.host.fleet.channel import FIND_PYTHON, Channel, bootstrap  # noqa: E402
from sgxkit.host.profiles import PROFILES  # noqa: E402
from sgxkit.host.report import Kind, diagnose  # noqa: E402
from sgxkit.host.setup.actions import RepositoryKey  # noqa: E402
from sgxkit.host.setup.apply import apply, recover, status, undo  # noqa: E402
from sgxkit.host.setup.document import plan_document  # noqa: E402
from sgxkit.host.setup.journal import open_journal, read_journal  # noqa: E402
from sgxkit.host.setup.look import observe  # noqa: E402
from sgxkit.host.setup.options import Options  # noqa: E402
from sgxkit.host.setup.plan import make_plan  # noqa: E402
from sgxkit.host.setup.step import Step  # noqa: E402
from sgxkit.host.setup.target import Target  # noqa: E402
from sgxkit.messages import msg  # noqa: E402

REBOOT_SECONDS = 900.0
_MAX_REBOOTS = 3


def emit(host: str, event: str, **fields: object) -> None:
    """Write one event."""
    sys.stdout.write(json.dumps({"host": host, "event": event, **fields}) + "\n")
    sys.stdout.flush()


class Remote:
    """One host: its connection, made again after a reboot."""

    def __init__(self, state: Any, host: Any, job: dict[str, Any], machine: dict[str, Any]) -> None:
        self.state, self.host, self.job, self.machine = state, host, job, machine
        self.round_trips = 0
        self.channel: Channel | None = None

    def connect(self) -> Target:
        """Connect and start the primitives; HostError where either fails."""
        try:
            self.host.connected = False
            self.host.connect(show_errors=False, raise_exceptions=True)
        except ConnectError as error:
            raise HostError(msg("no connection: {reason}", reason=_one_line(error))) from error
        text, source = bootstrap()
        arguments: dict[str, Any] = {}
        if self.machine["sudo"]:
            arguments = {"_sudo": True}
            if self.job.get("sudo_password"):
                arguments["_sudo_password"] = self.job["sudo_password"]
            # Has pyinfra place its askpass helper where a password is needed, and tells a refusal apart.
            good, output = self.host.run_shell_command(StringCommand("true"), **arguments)
            if not good:
                raise HostError(msg("sudo is refused: {reason}", reason=_one_line(output.stderr)))
        line = StringCommand("sh", "-c", QuoteString(FIND_PYTHON), QuoteString(text))
        command = make_unix_command_for_host(self.state, self.host, line, **arguments)
        stdin, stdout, stderr = self.host.connector.client.exec_command(command.get_raw_value())
        stdin.write(source)
        stdin.flush()
        self.channel = Channel(stdin, stdout)
        target = Target(remote=self._call)
        try:
            if not target.rooted:
                raise HostError(msg("root's rights are needed: log in as root, or use sudo"))
        except HostError as error:
            raise HostError(msg("{error} {said}", error=error.message, said=_last_words(stdout, stderr))) from error
        return target

    def _call(self, name: str, *arguments: Any) -> Any:
        assert self.channel is not None
        result = self.channel(name, *arguments)
        self.round_trips += 1
        return result

    def close(self) -> None:
        """End the connection, and with it what runs at its other end."""
        try:
            self.host.disconnect()
        except (OSError, EOFError, AttributeError):
            return

    def after_reboot(self, boot: str) -> Target:
        """Wait until the host is back with another boot, and connect again."""
        deadline = time.monotonic() + float(self.job.get("reboot_seconds", REBOOT_SECONDS))
        self.close()
        while time.monotonic() < deadline:
            time.sleep(2)
            try:
                target = self.connect()
                if target.boot != boot:
                    return target
                self.close()
            except (SgxkitError, OSError, EOFError):
                continue
        raise HostError(msg("it did not come back from its reboot in time"))


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())[:300]


def _last_words(stdout: Any, stderr: Any) -> str:
    """The last line that a program which ended wrote to standard error."""
    stdout.channel.settimeout(5)
    try:
        if not stdout.channel.status_event.wait(5):
            return ""
        lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return _one_line(lines[-1]) if lines else ""


class Events:
    """Progress of one host, as events."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.step = ""

    def begin(self, number: int, total: int, step: Step) -> None:
        self.step = step.id
        emit(self.host, "step", step=step.id, number=number, total=total, state="begun")

    def done(self, seconds: float) -> None:
        emit(self.host, "step", step=self.step, state="done", seconds=round(seconds, 3))

    def held(self) -> None:
        emit(self.host, "step", step=self.step, state="held")


def read_remote_facts(target: Target, timeout: float, network: bool) -> Facts:
    """Run the probe on the host, by its own Python."""
    arguments = [target.interpreter, "-I", "-S", "-", "--timeout", repr(timeout)]
    if not network:
        arguments.append("--no-network")
    completed = target.run(arguments, timeout=timeout + 10, data=PROBE.read_bytes())
    try:
        return load_facts_json(completed.output)
    except FormatError as error:
        raise HostError(
            msg("The probe of this host gave no valid document: {reason}", reason=error.message)
        ) from error


def judged(facts: Facts, profile: str) -> dict[str, object]:
    """What the doctor says, in short."""
    diagnosis = diagnose(facts, PROFILES[profile])
    missing = [f"{finding.check.id}: {finding.verdict.code}" for finding in diagnosis.of_kind(Kind.MISSING)]
    unknown = [f"{finding.check.id}: {finding.verdict.code}" for finding in diagnosis.of_kind(Kind.UNKNOWN)]
    return {"readiness": diagnosis.readiness.value, "missing": missing, "unknown": unknown}


def options_of(job: dict[str, Any]) -> Options:
    """The options of `sgxkit setup`, out of the job."""
    fields = dict(job["options"])
    key = fields.pop("repo_key")
    fields["users"] = tuple(fields["users"])
    return Options(**fields, repo_key=None if key is None else RepositoryKey(**key))


def work(remote: Remote, name: str, job: dict[str, Any]) -> dict[str, object]:
    """Do the job on one host and return its result."""
    target = remote.connect()
    emit(name, "connected")
    timeout, network = float(job.get("timeout", 5.0)), bool(job.get("network", True))
    task = job["task"]
    if task == "doctor":
        return judged(read_remote_facts(target, timeout, network), job["profile"])
    if task == "status":
        standings = status(target, read_journal(target))
        steps = [{"id": entry.entry.step, "state": entry.state} for entry in standings]
        bad = any(entry.state in ("drifted", "unfinished") for entry in standings)
        return {"steps": steps, "readiness": int(bad)}
    if task == "undo":
        with open_journal(target) as journal:
            undone = undo(target, journal, Events(name))
        stayed = [f"{step}: {why}" for step, why in undone.stayed]
        return {"undone": list(undone.steps), "stayed": stayed, "readiness": int(bool(stayed))}
    options = options_of(job)
    given = load_facts_json(job["facts"]) if job.get("facts") else None

    def facts_now() -> Facts:
        return given or read_remote_facts(target, timeout, network)

    if task == "plan":
        facts = facts_now()
        journal = read_journal(target)
        seen = observe(target, facts, options, rebooted=journal.rebooted())
        plan = make_plan(facts, options, seen, due=journal.due)
        document = plan_document(plan, seen, version=__version__)
        return {"plan": document, "readiness": int(plan.ended and plan.steps[-1].by_person)}
    done: list[str] = []
    person: list[str] = []
    for _ in range(_MAX_REBOOTS + 1):
        boot = target.boot
        with open_journal(target) as journal:
            recover(target, journal)
            facts = facts_now()
            seen = observe(target, facts, options, rebooted=journal.rebooted())
            plan = make_plan(facts, options, seen, due=journal.due)
            applied = apply(target, journal, plan, Events(name))
        done += applied.done
        person = [step.id for step in applied.person]
        if not applied.rebooting:
            break
        emit(name, "rebooting")
        target = remote.after_reboot(boot)
        emit(name, "connected")
    result: dict[str, object] = {"done": done, "by_person": person, "readiness": int(bool(person))}
    if options.purpose.doctor is not None:
        verdict = judged(read_remote_facts(target, timeout, network), options.purpose.doctor)
        result |= {"doctor": verdict, "readiness": verdict["readiness"] or int(bool(person))}
    return result


def one_host(state: Any, host: Any, job: dict[str, Any], machine: dict[str, Any]) -> None:
    """Do the job on one host; whatever goes wrong there is that host's result and nobody else's."""
    name = machine["name"]
    remote = Remote(state, host, job, machine)
    begun = time.monotonic()
    try:
        outcome: dict[str, object] = {"ok": True, **work(remote, name, job)}
    except HostError as error:
        outcome = {"ok": False, "code": "host", "message": str(error)}
    except SgxkitError as error:
        hint = "" if error.hint is None else f" ({error.hint})"
        outcome = {"ok": False, "code": error.code, "message": f"{error}{hint}"}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one host's trouble must not end the others
        outcome = {"ok": False, "code": "bug", "message": f"{type(error).__name__}: {_one_line(error)}"}
    finally:
        remote.close()
    seconds = time.monotonic() - begun
    emit(name, "result", seconds=round(seconds, 3), round_trips=remote.round_trips, **outcome)


def data_of(machine: dict[str, Any], job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of pyinfra's SSH connector for one host."""
    data: dict[str, Any] = {
        "ssh_hostname": machine["address"],
        "ssh_strict_host_key_checking": machine["host_key"],
        "ssh_paramiko_connect_kwargs": {"timeout": 15, "banner_timeout": 30, "auth_timeout": 30},
    }
    names = {"port": "ssh_port", "user": "ssh_user", "key": "ssh_key", "known_hosts": "ssh_known_hosts_file"}
    data |= {theirs: machine[ours] for ours, theirs in names.items() if machine[ours] is not None}
    if job.get("ssh_password"):
        data["ssh_password"] = job["ssh_password"]
        data["ssh_allow_agent"] = data["ssh_look_for_keys"] = False
    if machine["jump"] is not None:
        own = Path("~/.ssh/config").expanduser()
        include = f"Include {own}\n" if own.is_file() else ""
        file = folder / f"{len(list(folder.iterdir()))}.conf"
        lines = [f"  StrictHostKeyChecking {machine['host_key']}"]
        if machine["key"] is not None:
            lines.append(f"  IdentityFile {machine['key']}")
        if machine["known_hosts"] is not None:
            lines.append(f"  UserKnownHostsFile {machine['known_hosts']}")
        identity = "\n".join(["Host *", *lines, "", ""])
        file.write_text(f"Host {machine['address']}\n  ProxyJump {machine['jump']}\n\n{identity}{include}")
        data["ssh_config_file"] = str(file)
    return data


def main() -> None:
    """Read the job, do it on all hosts at once within the limit, and end."""
    job = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory(prefix="sgxkit-fleet-") as folder:
        machines = {machine["name"]: machine for machine in job["machines"]}
        names = [(name, data_of(machine, job, Path(folder))) for name, machine in machines.items()]
        state = State(Inventory((names, {})), Config())
        with ctx_state.use(state):
            pool = Pool(int(job["parallel"]))
            for host in state.inventory:
                pool.spawn(one_host, state, host, job, machines[host.name])
            pool.join()
    usage = time.process_time()
    emit("", "end", cpu_seconds=round(usage, 3))


if __name__ == "__main__":
    main()
