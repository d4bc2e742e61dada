"""`--hosts`: what several commands share when they work on many hosts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.options import settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from sgxkit.host.fleet.inventory import Machine
    from sgxkit.host.fleet.run import FleetResult, Task
    from sgxkit.host.setup.options import Options

HostsOption = Annotated[
    str | None,
    typer.Option(
        "--hosts", metavar="INVENTORY.toml|TARGET,...", help="Work on these hosts over SSH, not on this one."
    ),
]
ParallelOption = Annotated[
    int, typer.Option("--parallel", metavar="N", min=1, max=500, help="With --hosts: how many at the same time.")
]
SerialOption = Annotated[
    int,
    typer.Option(
        "--serial", metavar="N", min=0, help="With --hosts: batches of N; none is begun after one with a failure."
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.json|FILE.html", help="With --hosts: also write what became of each."),
]
AskSudoOption = Annotated[
    bool, typer.Option("--ask-sudo-password", help="With --hosts: ask once for the password of sudo.")
]
AskSshOption = Annotated[
    bool, typer.Option("--ask-ssh-password", help="With --hosts: ask once for the password of the log-in.")
]


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """The options that go with --hosts."""

    hosts: str
    parallel: int
    serial: int
    report: Path | None
    ask_sudo: bool
    ask_ssh: bool


def run_on_hosts(
    task: Task,
    profile: str,
    options: Options | None,
    chosen: FleetOptions,
    *,
    yes: bool = True,
    timeout: float = 5.0,
    network: bool = True,
) -> None:
    """Do a task on many hosts, tell of each, write the report, and exit."""
    from sgxkit.host.fleet.inventory import read_hosts
    from sgxkit.host.fleet.report import fleet_document, fleet_page
    from sgxkit.host.fleet.run import Job, run_fleet
    from sgxkit.host.output_file import write_whole

    machines = read_hosts(chosen.hosts)
    if chosen.report is not None and chosen.report.suffix not in (".json", ".html"):
        raise InputError(msg("{option}: {text} cannot be used", option="--report", text=chosen.report))
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(msg("there is nobody to ask"), hint=msg("give --yes to do it without asking"))
        question = output.say(msg("Change these {count} hosts?", count=len(machines)))
        if not typer.confirm(question, default=False, err=True):
            raise typer.Abort
    job = Job(
        task,
        profile,
        options,
        chosen.parallel,
        chosen.serial,
        timeout,
        network,
        sudo_password=_secret(msg("Password of sudo")) if chosen.ask_sudo else None,
        ssh_password=_secret(msg("Password of the log-in")) if chosen.ask_ssh else None,
    )
    with _shown(machines) as told:
        result = run_fleet(machines, job, told.tell)
    if chosen.report is not None:
        import json

        if chosen.report.suffix == ".json":
            text = json.dumps(fleet_document(result, task=task, version=__version__), indent=1) + "\n"
        else:
            text = fleet_page(result, task=task, language=settings().language)
        write_whole(chosen.report, text)
    if settings().json:
        output.print_json(fleet_document(result, task=task, version=__version__))
    else:
        _print(result)
    raise typer.Exit(result.exit_code)


def _secret(prompt: Message) -> str:
    import getpass

    return getpass.getpass(f"{output.say(prompt)}: ")


class _Told:
    """What is known of each host, as a table that is drawn again and again, or a line when a host is through."""

    def __init__(self, machines: tuple[Machine, ...], *, live: bool) -> None:
        self.rows: dict[str, str] = {machine.name: output.say(msg("waiting")) for machine in machines}
        self.live = live

    def tell(self, event: Mapping[str, Any]) -> None:
        """Take one event of the worker."""
        name = str(event["host"])
        match event["event"]:
            case "connected":
                self.rows[name] = output.say(msg("connected"))
            case "rebooting":
                self.rows[name] = output.say(msg("rebooting"))
            case "step" if event.get("state") == "begun":
                self.rows[name] = f"[{event.get('number')}/{event.get('total')}] {event.get('step')}"
            case "result":
                self.rows[name] = output.say(msg("through") if event.get("ok") else msg("failed"))
                if not self.live and not settings().json:
                    line = f"{output.printable(name)}: {self.rows[name]} ({float(event.get('seconds', 0)):.1f} s)"
                    output.console(stderr=True).print(line, markup=False)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False)
        for name, state in self.rows.items():
            table.add_row(Text(output.printable(name)), Text(output.printable(state)))
        return table


@contextmanager
def _shown(machines: tuple[Machine, ...]) -> Iterator[_Told]:
    """A live table where a person watches, else lines."""
    told = _Told(machines, live=sys.stderr.isatty() and not settings().json)
    if not told.live:
        yield told
        return
    from rich.live import Live

    with Live(told, console=output.console(stderr=True), refresh_per_second=4, transient=True):
        yield told


def _print(result: FleetResult) -> None:
    from rich.text import Text

    from sgxkit.host.fleet.report import detail, verdict

    console = output.console()
    width = max(len(host.name) for host in result.hosts)
    for host in result.hosts:
        done = host.state == "ok" and host.readiness == 0
        style = "green" if done else "dim" if host.state == "not-run" else "red"
        name = Text(f"{output.printable(host.name):{width}}  ")
        console.print(name.append(output.say(verdict(host)), style).append(f"  {output.printable(detail(host))}"))
    good = sum(host.state == "ok" and host.readiness == 0 for host in result.hosts)
    summary = msg(
        "{good} of {count} hosts done, in {seconds:.1f} s.",
        good=good,
        count=len(result.hosts),
        seconds=result.seconds,
    )
    console.print(Text(output.say(summary), "bold"))
