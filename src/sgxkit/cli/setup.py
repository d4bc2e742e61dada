"""`sgxkit setup`: plan what a host lacks, do it, take it back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sgxkit import __version__
from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from rich.console import Console

    from sgxkit.host.facts import Facts
    from sgxkit.host.setup.observed import Observed
    from sgxkit.host.setup.options import Options
    from sgxkit.host.setup.plan import Plan
    from sgxkit.host.setup.step import Step

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
) -> None:
    """Show what would be done, in order, with why, the exact change and the risks. Nothing is changed.

    Exit code: 0 the plan was shown, 1 it ends at a step for a person, 2 the host could not be read, 3 wrong use.
    """
    from sgxkit.host.setup.document import plan_document

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
    made, seen, _ = planned(options, root, facts)
    if settings().json:
        output.print_json(plan_document(made, seen, version=__version__))
    else:
        print_plan(made, seen)
    raise typer.Exit(1 if made.ended and made.steps[-1].by_person else 0)


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
    from sgxkit.host.setup.look import observe
    from sgxkit.host.setup.observed import from_facts
    from sgxkit.host.setup.plan import make_plan
    from sgxkit.host.setup.target import Target

    if facts_file is not None:
        if root is not None:
            raise InputError(msg("{first} and {second} exclude each other", first="--facts", second="--root"))
        facts = load_facts(read_input(facts_file, MAX_DOCUMENT))
        seen = from_facts(facts)
        return make_plan(facts, options, seen), seen, facts
    if root is not None and not root.is_dir():
        raise InputError(msg("{path} is no folder", path=root))
    with progress(msg("Reading this host ...")):
        target = Target() if root is None else Target(root.resolve())
        if not target.live:
            options = replace(options, reboot=False)
        facts = collect_facts(root=None if target.live else target.root)
        seen = observe(target, facts, options)
    return make_plan(facts, options, seen), seen, facts


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
