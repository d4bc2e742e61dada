"""`sgxkit up`: does it all work here? From a diagnosis to a verified quote, on hardware or emulated."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.aesm import AddressOption
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.cli.termination import cleaning_up_when_terminated
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from sgxkit.up.choice import Wanted
    from sgxkit.up.surroundings import Surroundings
    from sgxkit.up.walk import StepResult


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @command(app, "up")
    def up(
        *,
        hardware: Annotated[bool, typer.Option("--hardware", help="Use SGX hardware and nothing else.")] = False,
        emulated: Annotated[
            bool, typer.Option("--emulated", help="Use an emulated platform, whatever is here.")
        ] = False,
        lab: Annotated[
            str | None,
            typer.Option("--lab", metavar="NAME", help="Emulated: use this lab of yours [default: a temporary one]."),
        ] = None,
        keep: Annotated[
            bool,
            typer.Option("--keep", help="Emulated: leave AESM and PCS running, in lab up or the one of --lab."),
        ] = False,
        aesm: AddressOption = None,
        pcs: Annotated[
            str | None,
            typer.Option("--pcs", metavar="URL", help="Hardware: collateral of this PCS [default: Intel's]."),
        ] = None,
        pccs: Annotated[
            str | None, typer.Option("--pccs", metavar="URL", help="Hardware: collateral of this PCCS.")
        ] = None,
        trusted_root: Annotated[
            Path | None,
            typer.Option("--trusted-root", metavar="FILE", help="Hardware: PEM of the root to trust, not Intel's."),
        ] = None,
        policy: Annotated[
            Path | None, typer.Option("--policy", metavar="FILE", help="What else is asked of the quote (TOML).")
        ] = None,
    ) -> None:
        """Run a sample enclave here and prove it: launch, call, seal, attest, quote, verify.

        On this computer's SGX where that is ready, else on an emulated platform, which protects nothing.

        Exit code: 0 all of it worked, 1 not ready or a step failed, 2 could not tell, 3 wrong use.
        """
        emulated = emulated or keep or lab is not None
        if hardware and emulated:
            raise InputError(msg("--hardware goes with none of --emulated, --lab and --keep"))
        if emulated and (pcs, pccs, trusted_root) != (None, None, None):
            raise InputError(msg("--pcs, --pccs and --trusted-root go with none of --emulated, --lab and --keep"))
        run = _Run(policy)
        with cleaning_up_when_terminated(), ExitStack() as stack:
            if run.choose("hardware" if hardware else "emulated" if emulated else "either"):
                run.surround_hardware(aesm, pcs, pccs, trusted_root)
            else:
                run.surround_emulated(stack, lab, keep=keep)
            run.walk()
            run.conclude()


class _Run:
    """One run: takes the steps, prints each as it is done, or collects them for one document."""

    def __init__(self, policy: Path | None) -> None:
        from sgxkit.dcap.policy_file import policy_from_settings, read_policy_file
        from sgxkit.up.walk import Findings

        self.begin = time.perf_counter()
        self.policy = policy_from_settings({}) if policy is None else read_policy_file(policy)
        self.results: list[StepResult] = []
        self.findings = Findings()
        self.surroundings: Surroundings | None = None
        self.kept = False

    def choose(self, wanted: Wanted) -> bool:
        """Whether it is to be hardware."""
        from sgxkit.cli.doctor import print_causes
        from sgxkit.up.choice import NotReadyError, choose
        from sgxkit.up.walk import Step, StepResult

        begin = time.perf_counter()
        try:
            with progress(msg("Reading this host ...")):
                choice = choose(wanted)
        except NotReadyError as error:
            if error.diagnosis is not None and not settings().json:
                print_causes(error.diagnosis)
            raise
        self.done(StepResult(Step.CHOOSE, time.perf_counter() - begin, choice.reasons))
        return choice.hardware

    def surround_hardware(
        self, aesm: str | None, pcs: str | None, pccs: str | None, trusted_root: Path | None
    ) -> None:
        from sgxkit.aesm.address import AESMD_SOCKET, UnixAddress, parse_address
        from sgxkit.cli.collateral import chosen_source
        from sgxkit.dcap.policy_file import read_trust_anchor
        from sgxkit.up.surroundings import hardware
        from sgxkit.up.walk import Step, StepResult

        begin = time.perf_counter()
        address = UnixAddress(AESMD_SOCKET) if aesm is None else parse_address(aesm)
        anchor = self.policy.trust_anchor if trusted_root is None else read_trust_anchor(trusted_root)
        source = chosen_source(
            bundle=None, pcs=pcs, pccs=pccs, root_crl=None, ca_file=None, insecure=False, offline=False
        )
        self.surroundings = hardware(address, source, anchor)
        self.done(StepResult(Step.SURROUND, time.perf_counter() - begin, self.surroundings.described))

    def surround_emulated(self, stack: ExitStack, lab: str | None, *, keep: bool) -> None:
        from sgxkit.up.surroundings import DEFAULT_LAB, kept_lab, named_lab, temporary_lab
        from sgxkit.up.walk import Step, StepResult

        begin = time.perf_counter()
        with progress(msg("starting lab {name}", name=lab or DEFAULT_LAB)):
            if keep:
                self.surroundings = stack.enter_context(kept_lab(lab or DEFAULT_LAB))
                self.kept = True
            else:
                self.surroundings = stack.enter_context(temporary_lab() if lab is None else named_lab(lab))
        self.done(StepResult(Step.SURROUND, time.perf_counter() - begin, self.surroundings.described))

    def walk(self) -> None:
        from sgxkit.up.walk import walk

        assert self.surroundings is not None
        for result in walk(self.surroundings, self.policy.policy, self.findings):
            self.done(result)

    def done(self, result: StepResult) -> None:
        self.results.append(result)
        if not settings().json:
            _print_step(result)

    def conclude(self) -> None:
        """Print the end of it; raises typer.Exit with the exit code of the step that failed."""
        seconds = time.perf_counter() - self.begin
        error = self.results[-1].error
        self.kept = self.kept and error is None  # what was made for nothing is taken back
        if settings().json:
            self.print_document(seconds)
        elif error is None:
            self.print_identity(seconds)
        else:
            _print(msg("stopped: {reason}", reason=error.message), "bold red")
            if error.hint is not None:
                _print(msg("hint: {hint}", hint=error.hint))
        if error is not None:
            raise typer.Exit(error.exit_code)

    def print_document(self, seconds: float) -> None:
        from sgxkit.up.document import document

        around = self.surroundings
        assert around is not None
        output.print_json(
            document(
                self.results,
                self.findings,
                seconds=seconds,
                platform=around.platform.info,
                trust_anchor=around.trust_anchor,
                lab=around.lab,
                environment=around.environment if self.kept else {},
                stop=["sgxkit", "lab", "stop", str(around.lab)] if self.kept else [],
            )
        )

    def print_identity(self, seconds: float) -> None:
        from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA

        around, identity = self.surroundings, self.findings.identity
        assert around is not None
        assert identity is not None
        console = output.console()
        console.print()
        console.print(f"MRENCLAVE  {identity.mrenclave.hex()}")
        console.print(f"MRSIGNER   {identity.mrsigner.hex()}")
        console.print(f"ISVPRODID  {identity.isvprodid}   ISVSVN {identity.isvsvn}")
        console.print()
        if around.lab is None and around.trust_anchor.point == INTEL_SGX_ROOT_CA.point:
            _print(msg("SGX works on this computer: all of it took {seconds:.1f} s.", seconds=seconds), "bold green")
        elif around.lab is None:
            _print(
                msg("All of it works here, in {seconds:.1f} s, under a root that is not Intel's:", seconds=seconds),
                "bold green",
            )
            _print(msg("that says nothing about real SGX hardware."), "bold yellow")
        else:
            _print(
                msg("SGX works on an emulated platform here: all of it took {seconds:.1f} s.", seconds=seconds),
                "bold green",
            )
        if self.kept:
            self.print_environment()
        console.print()
        _print(msg("Where to go next"))
        for line, what in self.next_commands():
            console.print(f"  {line:<34}{output.say(what)}", markup=False)

    def print_environment(self) -> None:
        around = self.surroundings
        assert around is not None
        console = output.console()
        console.print()
        _print(msg("AESM and PCS of lab {name} go on running. For other programs:", name=around.lab))
        for name, value in around.environment.items():
            console.print(f"  export {name}={quote(value)}", markup=False)

    def next_commands(self) -> Iterator[tuple[str, Message]]:
        around = self.surroundings
        assert around is not None
        if self.kept:
            yield f"sgxkit lab status {around.lab}", msg("where AESM and PCS are")
            yield f"sgxkit lab quote {around.lab} -o quote.bin", msg("a quote of this lab, to try a verifier with")
            yield f"sgxkit lab stop {around.lab}", msg("stops AESM and PCS; `sgxkit lab rm` removes the lab")
        elif around.lab is not None:
            yield "sgxkit up --keep", msg("leaves AESM and PCS running for your programs")
        if around.lab is not None:
            yield "sgxkit lab --help", msg("TCB recovery, revocation, expiry: at a command")
            yield "sgxkit doctor --for attest", msg("what real hardware would need here")
        yield "sgxkit enclave inspect FILE", msg("an enclave of your own")
        yield "sgxkit quote verify FILE", msg("a quote of your own")


def _print(message: Message, style: str = "") -> None:
    from rich.text import Text

    output.console().print(Text(output.say(message), style))


def _print_step(result: StepResult) -> None:
    from rich.text import Text

    console = output.console()
    drawn = output.draws("✔✘", console)
    good, bad = (Text("✔ ", "green"), Text("✘ ", "red")) if drawn else (Text("yes"), Text("no "))
    mark = good if result.error is None else bad
    head = Text.assemble(mark, (f"{result.seconds:6.2f} s  ", "dim"))
    room = console.width - len(head) if console.is_terminal else sys.maxsize
    sentences = result.sentences or (_FAILED[result.step.value],)
    for number, sentence in enumerate(sentences):
        for line in Text(output.say(sentence), "dim" if number else "").wrap(console, room):
            console.print(Text.assemble(head, line))
            head = Text(" " * len(head))
    sys.stdout.flush()


_FAILED = {
    "launch": msg("launching the sample enclave"),
    "call": msg("calling it"),
    "seal": msg("sealing and unsealing"),
    "local-attestation": msg("local attestation"),
    "quote": msg("remote attestation: a quote from AESM"),
    "collateral": msg("fetching the collateral"),
    "verify": msg("verifying the quote"),
    "refuse-debug": msg("refusing a debug enclave's quote"),
}
