"""`sgxkit setup`: plan what a host lacks, do it, take it back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.fleet import (
    AskSshOption,
    AskSudoOption,
    FleetOptions,
    HostsOption,
    ParallelOption,
    ReportOption,
    SerialOption,
    run_on_hosts,
)
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from rich.console import Console

    from sgxkit.host.facts import Facts
    from sgxkit.host.setup.actions import Action
    from sgxkit.host.setup.observed import Observed
    from sgxkit.host.setup.options import Options
    from sgxkit.host.setup.plan import Plan
    from sgxkit.host.setup.step import Step
    from sgxkit.host.setup.target import Target

setup_app = typer.Typer(
    name="setup",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bring a host into the state that a use of it needs, and back.",
)

ProfileName = Literal["run", "attest", "oasis-node", "gramine", "kubernetes-node", "pccs"]
ProfileOption = Annotated[ProfileName, typer.Option("--for", help="What the host is wanted for.")]
AesmOption = Annotated[
    Literal["apt", "docker", "podman", "none"] | None,
    typer.Option(
        "--aesm",
        help="How AESM comes onto the host; apt is the system's package manager, whichever it is. Default: packages "
        "where Intel has them for this system, else podman.",
    ),
]
PccsOption = Annotated[
    str | None,
    typer.Option("--pccs", metavar="URL|local", help="The service that the quote provider asks for certificates."),
]
DriverOption = Annotated[
    Literal["auto", "in-kernel", "legacy"], typer.Option("--driver", help="Which SGX driver is wanted.")
]
NoRebootOption = Annotated[bool, typer.Option("--no-reboot", help="Leave every reboot to somebody else.")]
UserOption = Annotated[
    list[str] | None,
    typer.Option(
        "--user", metavar="NAME", help="An account that is to run enclaves (repeat). Default: the one that used sudo."
    ),
]
RepoUrlOption = Annotated[
    str | None, typer.Option("--repo-url", metavar="URL", help="A package repository in the place of Intel's.")
]
RepoKeyOption = Annotated[
    str | None,
    typer.Option("--repo-key", metavar="URL", help="Where that repository's key is (https, http or file URL)."),
]
RepoFingerprintOption = Annotated[
    str | None, typer.Option("--repo-fingerprint", metavar="HEX", help="The whole fingerprint of that key.")
]
ImageOption = Annotated[
    str | None, typer.Option("--aesm-image", metavar="IMAGE", help="The container image of AESM.")
]
RootOption = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="A host that lies in a folder: a chroot tree, a mounted image."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(setup_app)


@command(setup_app, "plan")
def plan(
    *,
    profile: ProfileOption = "run",
    aesm: AesmOption = None,
    pccs: PccsOption = None,
    driver: DriverOption = "auto",
    no_reboot: NoRebootOption = False,
    user: UserOption = None,
    repo_url: RepoUrlOption = None,
    repo_key: RepoKeyOption = None,
    repo_fingerprint: RepoFingerprintOption = None,
    aesm_image: ImageOption = None,
    root: RootOption = None,
    facts: Annotated[
        Path | None,
        typer.Option("--facts", metavar="FILE", help="Plan for captured facts, not for this host."),
    ] = None,
    export: Annotated[
        Literal["ansible", "shell", "cloud-init"] | None,
        typer.Option(
            "--export", help="Write the plan as a playbook, a script or a cloud-config that needs no sgxkit."
        ),
    ] = None,
    hosts: HostsOption = None,
    parallel: ParallelOption = 20,
    serial: SerialOption = 0,
    report: ReportOption = None,
    ask_sudo_password: AskSudoOption = False,
    ask_ssh_password: AskSshOption = False,
) -> None:
    """Show what would be done, in order, with why, the exact change and the risks. Nothing is changed.

    Exit code: 0 the plan was shown, 1 it ends at a step for a person, 2 the host could not be read, 3 wrong use.
    """
    from sgxkit.host.setup.document import plan_document

    if export is not None and settings().json:
        raise InputError(msg("{first} and {second} exclude each other", first="--export", second="--json"))
    options = options_from(
        profile=profile,
        aesm=aesm,
        pccs=pccs,
        driver=driver,
        no_reboot=no_reboot,
        users=user,
        repo_url=repo_url,
        repo_key=repo_key,
        repo_fingerprint=repo_fingerprint,
        aesm_image=aesm_image,
    )
    if hosts is not None:
        if root is not None or facts is not None or export is not None:
            raise InputError(msg("--hosts cannot be combined with --root, --facts or --export"))
        chosen = FleetOptions(hosts, parallel, serial, report, ask_sudo_password, ask_ssh_password)
        run_on_hosts("plan", profile, options, chosen)
    made, seen, _ = planned(options, root, facts)
    if export is not None:
        from sgxkit.host.setup.export import EXPORTS

        sys.stdout.write(EXPORTS[export](made))
    elif settings().json:
        output.print_json(plan_document(made, seen, version=__version__))
    else:
        print_plan(made, seen)
    raise typer.Exit(1 if made.ended and made.steps[-1].by_person else 0)


@command(setup_app, "apply")
def apply_(
    *,
    profile: ProfileOption = "run",
    aesm: AesmOption = None,
    pccs: PccsOption = None,
    driver: DriverOption = "auto",
    no_reboot: NoRebootOption = False,
    user: UserOption = None,
    repo_url: RepoUrlOption = None,
    repo_key: RepoKeyOption = None,
    repo_fingerprint: RepoFingerprintOption = None,
    aesm_image: ImageOption = None,
    root: RootOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    hosts: HostsOption = None,
    parallel: ParallelOption = 20,
    serial: SerialOption = 0,
    report: ReportOption = None,
    ask_sudo_password: AskSudoOption = False,
    ask_ssh_password: AskSshOption = False,
) -> None:
    """Do what the plan says, step by step, and judge the host afterwards.

    Each step is written to a journal on the host before it begins, so that it can be taken back, and so that a run
    that was cut short goes on when it is started again. After a reboot, start it again.

    Exit code: 0 done and ready, 1 a step failed or more is missing, 2 could not tell, 3 wrong use.
    """
    from sgxkit.host.setup.apply import apply, recover
    from sgxkit.host.setup.journal import open_journal

    options = options_from(
        profile=profile,
        aesm=aesm,
        pccs=pccs,
        driver=driver,
        no_reboot=no_reboot,
        users=user,
        repo_url=repo_url,
        repo_key=repo_key,
        repo_fingerprint=repo_fingerprint,
        aesm_image=aesm_image,
    )
    if hosts is not None:
        _alone(root)
        chosen = FleetOptions(hosts, parallel, serial, report, ask_sudo_password, ask_ssh_password)
        run_on_hosts("apply", profile, options, chosen, yes=yes)
    target = target_from(root)
    with open_journal(target) as journal:
        recover(target, journal)
        made, seen, _ = planned(options, root, None)
        if not settings().json:
            print_plan(made, seen)
        if made.changes and not yes:
            _ask(msg("Do these {count} steps?", count=len(made.changes)))
        applied = apply(target, journal, made, _Progress())
    if applied.rebooting:
        _say(msg("The host reboots; start the same command again afterwards."))
        raise typer.Exit(0)
    _conclude(options, root, applied.done, [step.id for step in applied.person])


def _alone(root: Path | None) -> None:
    if root is not None:
        raise InputError(msg("{first} and {second} exclude each other", first="--hosts", second="--root"))


def _conclude(options: Options, root: Path | None, done: tuple[str, ...], person: list[str]) -> None:
    """Judge the host by the doctor, and say how it stands."""
    from sgxkit.cli.progress import progress
    from sgxkit.host.collect import collect_facts
    from sgxkit.host.profiles import PROFILES
    from sgxkit.host.report import diagnose
    from sgxkit.host.wording import conclusion

    readiness, sentence = 0, msg("Done.")
    judged = root is None and options.purpose.doctor is not None
    if judged and options.purpose.doctor is not None:
        with progress(msg("Reading this host ...")):
            diagnosis = diagnose(collect_facts(), PROFILES[options.purpose.doctor])
        readiness, sentence = diagnosis.readiness.value, conclusion(diagnosis)
    code = readiness or (1 if person else 0)
    if settings().json:
        output.print_json(
            {"done": list(done), "by_person": person, "readiness": readiness if judged else None, "exit_code": code}
        )
    else:
        if person:
            _say(msg("Left for a person: {steps}.", steps=", ".join(person)), "yellow")
        _say(sentence, "bold green" if code == 0 else "bold red")
    raise typer.Exit(code)


@command(setup_app, "undo")
def undo_(
    *,
    root: RootOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    hosts: HostsOption = None,
    parallel: ParallelOption = 20,
    serial: SerialOption = 0,
    report: ReportOption = None,
    ask_sudo_password: AskSudoOption = False,
    ask_ssh_password: AskSshOption = False,
) -> None:
    """Take back what the journal says was done, the last first, and nothing else.

    Exit code: 0 all of it, 1 something had to stay and is named, 3 wrong use.
    """
    from sgxkit.host.setup.apply import undo
    from sgxkit.host.setup.journal import open_journal

    if hosts is not None:
        _alone(root)
        chosen = FleetOptions(hosts, parallel, serial, report, ask_sudo_password, ask_ssh_password)
        run_on_hosts("undo", "run", None, chosen, yes=yes)
    target = target_from(root)
    with open_journal(target) as journal:
        entries = journal.entries()
        if not entries:
            if settings().json:
                output.print_json({"undone": [], "stayed": []})
            else:
                _say(msg("There is nothing to take back."))
            return
        if not settings().json:
            for entry in reversed(entries):
                _print_entry(entry.number, entry.step, entry.action)
        if not yes:
            _ask(msg("Take these {count} steps back?", count=len(entries)))
        undone = undo(target, journal, _Progress())
    if settings().json:
        stayed = [{"step": step, "why": str(why)} for step, why in undone.stayed]
        output.print_json({"undone": list(undone.steps), "stayed": stayed})
    else:
        for step, why in undone.stayed:
            _say(msg("{step}: {why}", step=step, why=why), "yellow")
        _say(
            msg("Taken back: {count} steps.", count=len(undone.steps)), "bold green" if not undone.stayed else "bold"
        )
    raise typer.Exit(1 if undone.stayed else 0)


@command(setup_app, "status")
def status_(
    *,
    root: RootOption = None,
    hosts: HostsOption = None,
    parallel: ParallelOption = 20,
    serial: SerialOption = 0,
    report: ReportOption = None,
    ask_sudo_password: AskSudoOption = False,
    ask_ssh_password: AskSshOption = False,
) -> None:
    """Show what was done to this host, and what has changed since.

    Exit code: 0 everything holds, 1 something drifted or is unfinished, 3 wrong use.
    """
    from datetime import UTC, datetime

    from sgxkit.errors import SetupError
    from sgxkit.host.setup.actions import action_to_json
    from sgxkit.host.setup.apply import status
    from sgxkit.host.setup.journal import read_journal

    if hosts is not None:
        _alone(root)
        chosen = FleetOptions(hosts, parallel, serial, report, ask_sudo_password, ask_ssh_password)
        run_on_hosts("status", "run", None, chosen)
    if os.geteuid() != 0:
        raise SetupError(msg("only root may read the journal"), hint=msg("run it with sudo"))
    target = target_from(root)
    standings = status(target, read_journal(target))
    bad = any(standing.state in ("drifted", "unfinished") for standing in standings)
    if settings().json:
        output.print_json(
            {
                "steps": [
                    {
                        "number": standing.entry.number,
                        "id": standing.entry.step,
                        "state": standing.state,
                        "time": datetime.fromtimestamp(standing.entry.time, UTC).isoformat(),
                        "action": action_to_json(standing.entry.action),
                    }
                    for standing in standings
                ]
            }
        )
    elif not standings:
        _say(msg("Nothing was done to this host."))
    for standing in standings if not settings().json else ():
        style = {"holds": "green", "drifted": "red", "unfinished": "red"}.get(standing.state, "dim")
        _print_entry(
            standing.entry.number, standing.entry.step, standing.entry.action, _STATES[standing.state], style
        )
    raise typer.Exit(1 if bad else 0)


_STATES = {
    "holds": msg("holds"),
    "drifted": msg("drifted"),
    "unfinished": msg("unfinished"),
    "unknown": msg("cannot be seen"),
}


def _print_entry(number: int, name: str, action: Action, state: Message | None = None, style: str = "") -> None:
    from rich.text import Text

    from sgxkit.host.setup.change import change
    from sgxkit.host.setup.observed import Observed

    shown = Text(f"{number:3}. {output.say(change(action, Observed()))}")
    shown.append(f"  {output.printable(name)}", "dim")
    if state is not None:
        shown.append(f"  {output.say(state)}", style)
    output.console().print(shown)


class _Progress:
    """Tells of each step on standard error."""

    def begin(self, number: int, total: int, step: Step) -> None:
        from sgxkit.host.setup.change import change
        from sgxkit.host.setup.observed import Observed

        line = f"[{number}/{total}] {output.say(change(step.action, Observed()))}"
        output.console(stderr=True).print(line, markup=False)

    def done(self, seconds: float) -> None:
        _line(output.console(stderr=True), msg("done in {seconds:.1f} s", seconds=seconds), "dim", indent=8)

    def held(self) -> None:
        _line(output.console(stderr=True), msg("holds already"), "dim", indent=8)


def _say(sentence: Message, style: str = "") -> None:
    _line(output.console(stderr=settings().json), sentence, style)


def _ask(question: Message) -> None:
    """Ask, and stop unless the answer is yes."""
    if not sys.stdin.isatty():
        raise InputError(msg("there is nobody to ask"), hint=msg("give --yes to do it without asking"))
    if not typer.confirm(output.say(question), default=False, err=True):
        raise typer.Abort


def target_from(root: Path | None) -> Target:
    """The host of --root, or this one."""
    from sgxkit.host.setup.target import Target

    if root is None:
        return Target()
    if not root.is_dir():
        raise InputError(msg("{path} is no folder", path=root))
    return Target(root.resolve())


def options_from(
    *,
    profile: ProfileName,
    aesm: Literal["apt", "docker", "podman", "none"] | None,
    pccs: str | None,
    driver: Literal["auto", "in-kernel", "legacy"],
    no_reboot: bool,
    users: list[str] | None,
    repo_url: str | None,
    repo_key: str | None,
    repo_fingerprint: str | None,
    aesm_image: str | None,
) -> Options:
    """Read the options that plan and apply share."""
    from sgxkit.host.setup.actions import RepositoryKey
    from sgxkit.host.setup.options import AESM_IMAGE, Options, check_options

    if (repo_key is None) != (repo_fingerprint is None):
        raise InputError(
            msg("--repo-key and --repo-fingerprint belong together"),
            hint=msg("a key is only taken when its whole fingerprint is the one that you name"),
        )
    if repo_key is not None and repo_url is None:
        raise InputError(msg("--repo-key is for a repository that --repo-url names"))
    key = None
    if repo_key is not None and repo_fingerprint is not None:
        key = RepositoryKey(repo_key, repo_fingerprint.replace(" ", "").upper())
    caller = os.environ.get("SUDO_USER", "")
    default = (caller,) if caller and caller != "root" else ()
    return check_options(
        Options(
            profile,
            aesm,
            pccs,
            driver,
            not no_reboot,
            tuple(users) if users else default,
            repo_url,
            key,
            aesm_image or AESM_IMAGE,
        )
    )


def planned(options: Options, root: Path | None, facts_file: Path | None) -> tuple[Plan, Observed, Facts]:
    """Read the host, or captured facts, and plan."""
    from dataclasses import replace

    from sgxkit.cli.input import read_input
    from sgxkit.cli.progress import progress
    from sgxkit.host.collect import collect_facts, load_facts
    from sgxkit.host.facts import MAX_DOCUMENT
    from sgxkit.host.setup.journal import read_journal
    from sgxkit.host.setup.look import observe
    from sgxkit.host.setup.observed import from_facts
    from sgxkit.host.setup.plan import make_plan

    if facts_file is not None:
        if root is not None:
            raise InputError(msg("{first} and {second} exclude each other", first="--facts", second="--root"))
        facts = load_facts(read_input(facts_file, MAX_DOCUMENT))
        seen = from_facts(facts)
        return make_plan(facts, options, seen), seen, facts
    target = target_from(root)
    with progress(msg("Reading this host ...")):
        if not target.live:
            options = replace(options, reboot=False)
        facts = collect_facts(root=None if target.live else target.root)
        journal = read_journal(target) if os.geteuid() == 0 else None
        seen = observe(target, facts, options, rebooted=None if journal is None else journal.rebooted())
    due = frozenset[str]() if journal is None else journal.due
    return make_plan(facts, options, seen, due=due), seen, facts


def print_plan(made: Plan, seen: Observed) -> None:
    """Print a plan for people."""
    console = output.console()
    title = made.options.purpose.title
    system = f"{made.distribution.id} {made.distribution.version}".strip() or "?"
    _line(console, msg("To {purpose}, on {system}:", purpose=title, system=system), "bold")
    for number, step in enumerate(made.steps, 1):
        console.print()
        print_step(console, number, step, seen)
    console.print()
    if not made.steps:
        _line(console, msg("Nothing is to be done: what was asked for holds already."), "bold green")
        return
    if made.held:
        _line(console, msg("{count} more hold already.", count=len(made.held)), "dim")
    if made.reboots:
        _line(console, msg("A reboot is needed."), "yellow")
    if made.ended:
        _line(console, msg("The plan ends here; when the last step is done, plan again."), "yellow")


def print_step(console: Console, number: int, step: Step, seen: Observed) -> None:
    """Print one step: what it changes, why, what could go wrong."""
    from rich.text import Text

    from sgxkit.host.setup.change import change, diff

    head = output.say(step.why if step.by_person else change(step.action, seen))
    note = f"  ({output.say(msg('by hand'))})" if step.by_person else ""
    console.print(Text.assemble((f"{number:2}. {head}", "bold"), (note, "yellow"), (f"  {step.id}", "dim")))
    if not step.by_person:
        _line(console, step.why, indent=4)
    for line in diff(step.action, seen):
        style = {"+": "green", "-": "red"}.get(line[:1], "dim")
        console.print(Text(f"      {output.printable(line)}", style=style))
    for sentence in step.todo:
        _line(console, sentence, indent=4)
    for typed in step.commands:
        console.print(Text(f"        {output.printable(typed)}", style="cyan"))
    if step.link is not None:
        console.print(Text(f"        {output.printable(step.link)}", style="dim"))
    for risk in step.risks:
        console.print(Text(f"    ! {output.say(risk)}", style="yellow"))
    if step.reboot:
        _line(console, msg("takes effect at the next boot"), "yellow", indent=4)


def _line(console: Console, sentence: Message, style: str = "", indent: int = 0) -> None:
    from rich.text import Text

    console.print(Text(" " * indent + output.say(sentence), style=style))
