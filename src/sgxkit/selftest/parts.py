"""The four parts of the selftest: each sample where it is installed, else what stands in for it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from sgxkit.dcap.policy import Policy
from sgxkit.dcap.quote import parse_quote
from sgxkit.dcap.sources import collateral_for_quote
from sgxkit.dcap.verify import Verifier
from sgxkit.enclave.sgxs import write_sgxs
from sgxkit.errors import FormatError, SgxkitError
from sgxkit.messages import Message, msg
from sgxkit.sample.images import Sample
from sgxkit.selftest.installed import (
    COMPILER_HINT,
    DCAP_HINT,
    GRAMINE_HINT,
    SDK_HINT,
    Installed,
    not_found,
)
from sgxkit.selftest.part import Outcome, PartId, PartResult
from sgxkit.selftest.program import Machine, Ran, compiler, copy_of, run
from sgxkit.up.surroundings import Surroundings
from sgxkit.up.walk import Findings, Step, StepResult, walk

_MAX_QUOTE = 64 << 10
_HELLO = "Hello, world"
_FINISHED = "SampleEnclave successfully returned"
_COMPLETED = "Verification completed"

_MANIFEST = """\
libos.entrypoint = "/helloworld"
loader.log_level = "error"
loader.env.LD_LIBRARY_PATH = "/lib"
fs.mounts = [
  { path = "/lib", uri = "file:{{ gramine.runtimedir() }}" },
  { path = "/helloworld", uri = "file:helloworld" },
]
sgx.debug = true
sgx.trusted_files = [ "file:helloworld", "file:{{ gramine.runtimedir() }}/" ]
"""
_PROGRAM = '#include <stdio.h>\nint main(void) { puts("Hello, world"); return 0; }\n'


@dataclass(slots=True)
class Selftest:
    """What the parts share.

    surroundings   the platform, its AESM and who judges its quotes.
    machine        how programs of others are started.
    scratch        a folder to build in.
    """

    surroundings: Surroundings
    machine: Machine
    installed: Installed
    scratch: Path
    quote: Path | None = None
    _steps: dict[Step, StepResult] = field(default_factory=dict)
    _findings: Findings = field(default_factory=Findings)

    def results(self) -> Iterator[PartResult]:
        """Run the parts, and yield each when it is done."""
        for part in (self.sample_enclave, self.quote_generation, self.quote_verification, self.gramine):
            begin = time.perf_counter()
            result = part()
            yield replace(result, seconds=result.seconds or time.perf_counter() - begin)

    def sample_enclave(self) -> PartResult:
        """SampleEnclave of Intel's SDK: enclaves can be launched, called, and call out."""
        expected = msg("it ends by itself and says: {text}", text=f"Info: {_FINISHED}.")
        sample, sdk = self.installed.sample_enclave, self.installed.sdk
        if sample is None or sdk is None or not self.machine.runs_programs:
            return self._own_steps(
                PartId.SAMPLE_ENCLAVE,
                msg("the built-in sample enclave is launched in debug and in production mode, and answers 42"),
                (Step.LAUNCH, Step.CALL, Step.SEAL, Step.LOCAL_ATTESTATION),
                (not_found("SampleEnclave"), SDK_HINT),
            )
        ran = self._build_and_run(sample, sdk, ["./app"], answer=b"\n")
        good = ran.problem is None and ran.code == 0 and _FINISHED in ran.output
        return _of_program(PartId.SAMPLE_ENCLAVE, str(sample), expected, ran, good=good, text=_FINISHED)

    def quote_generation(self) -> PartResult:
        """QuoteGenerationSample of Intel's DCAP: an enclave's report becomes a quote."""
        sample, sdk = self.installed.quote_generation, self.installed.sdk
        if sample is None or sdk is None or not self.machine.runs_programs:
            return self._own_steps(
                PartId.QUOTE_GENERATION,
                msg("AESM makes a quote of the built-in sample enclave"),
                (Step.QUOTE,),
                (not_found("QuoteGenerationSample"), DCAP_HINT),
            )
        ran = self._build_and_run(sample, sdk, ["./app"])
        self.quote = self.scratch / sample.name / "quote.dat"
        return _of_program(
            PartId.QUOTE_GENERATION,
            str(sample),
            msg("it ends by itself and leaves a quote in quote.dat"),
            ran,
            good=ran.problem is None and ran.code == 0 and self.quote.is_file(),
        )

    def quote_verification(self) -> PartResult:
        """QuoteVerificationSample of Intel's DCAP: the quote is genuine and in force."""
        sample, sdk = self.installed.quote_verification, self.installed.sdk
        if self.machine.lab is not None:
            reason = (
                not_found("QuoteVerificationSample")
                if sample is None
                else msg("Intel's library trusts Intel's root only, and this platform has a root of its own")
            )
            return self._verify_ourselves((reason, *([] if sample is not None else [DCAP_HINT])))
        if sample is None or sdk is None or self.quote is None or not self.quote.is_file():
            missing = (
                () if sample is not None and sdk is not None else (not_found("QuoteVerificationSample"), DCAP_HINT)
            )
            return self._verify_ourselves(missing)
        ran = self._build_and_run(sample, sdk, ["./app", "-quote", str(self.quote)])
        good = ran.problem is None and ran.code == 0 and _COMPLETED in ran.output
        expected = msg("it says that verification completed")
        return _of_program(PartId.QUOTE_VERIFICATION, str(sample), expected, ran, good=good, text=_COMPLETED)

    def gramine(self) -> PartResult:
        """Gramine's helloworld: an unmodified program in an enclave."""
        here, cc = self.installed.gramine, compiler()
        if not self.machine.runs_programs:
            return PartResult(
                PartId.GRAMINE,
                Outcome.NOT_INSTALLED,
                "sgxkit run",
                True,
                msg("an unmodified program launches an enclave"),
                msg("nothing could be run"),
                0.0,
                (msg("programs run on x86-64 Linux only"),),
            )
        if here is None or cc is None:
            missing = (not_found("Gramine"), GRAMINE_HINT) if here is None else (COMPILER_HINT,)
            return self._static_program(cc, missing)
        folder = self.scratch / "helloworld"
        folder.mkdir()
        (folder / "helloworld.c").write_text(_PROGRAM, encoding="ascii")
        (folder / "helloworld.manifest.template").write_text(_MANIFEST, encoding="ascii")
        key = folder / "key.pem"
        sgxkit = [sys.executable, "-m", "sgxkit"]
        return self._commands(
            PartId.GRAMINE,
            f"gramine-sgx helloworld ({here})",
            expected=msg("the program prints: {text}", text=_HELLO),
            commands=[
                [cc, "-o", "helloworld", "helloworld.c"],
                [*sgxkit, "enclave", "generate-key", str(key)],
                [*sgxkit, "gramine", "render", "helloworld.manifest.template", "-o", "helloworld.manifest"],
                [*sgxkit, "gramine", "sign", "helloworld.manifest", "--key", str(key)],
                self.machine.command([str(here / "gramine-sgx"), "helloworld"]),
            ],
            folder=folder,
            text=_HELLO,
        )

    def _static_program(self, cc: str | None, missing: tuple[Message, ...]) -> PartResult:
        """A program in C that loads and enters an enclave by the kernel's own interface."""
        ran = "launch.c"
        expected = msg(
            "a static program launches the sample enclave by the kernel's interface, and prints: {text}", text="42"
        )
        if cc is None:
            happened = msg("nothing could be run")
            more = () if COMPILER_HINT in missing else (COMPILER_HINT,)
            return PartResult(
                PartId.GRAMINE, Outcome.NOT_INSTALLED, ran, True, expected, happened, 0.0, (*missing, *more)
            )
        folder = self.scratch / "launch"
        folder.mkdir()
        (folder / "launch.c").write_bytes(files("sgxkit.selftest").joinpath("launch.c").read_bytes())
        with (folder / "sample.sgxs").open("wb") as file:
            write_sgxs(Sample.SAMPLE.image, file)
        (folder / "sample.sigstruct").write_bytes(Sample.SAMPLE.sigstruct.to_bytes())
        launch = self.machine.command(["./launch", "sample.sgxs", "sample.sigstruct", "20", "22"])
        static = [cc, "-static", "-O2", "-o", "launch", "launch.c"]
        result = self._commands(
            PartId.GRAMINE,
            ran,
            expected=expected,
            commands=[static, launch],
            folder=folder,
            text="the enclave says: 42",
        )
        return replace(result, stand_in=True, missing=missing)

    def _commands(
        self, part: PartId, name: str, *, expected: Message, commands: list[list[str]], folder: Path, text: str
    ) -> PartResult:
        """Run commands one after the other; the last one must print `text`."""
        ran = Ran(None, "")
        for command in commands:
            ran = run(command, folder, self.machine.environment)
            if ran.problem is not None or ran.code != 0:
                return _of_program(part, name, expected, ran, good=False)
        return _of_program(part, name, expected, ran, good=text in ran.output, text=text)

    def _build_and_run(self, sample: Path, sdk: Path, program: list[str], *, answer: bytes = b"") -> Ran:
        folder = copy_of(sample, self.scratch)
        environment = sdk_environment(self.machine.environment, sdk)
        built = run(["make", "SGX_MODE=HW", "SGX_DEBUG=1", f"SGX_SDK={sdk}"], folder, environment)
        if built.problem is not None or built.code != 0:
            return replace(built, code=built.code or 1, problem=built.problem or msg("it could not be built"))
        return run(self.machine.command(program), folder, environment, answer=answer)

    def _own_steps(
        self, part: PartId, expected: Message, steps: tuple[Step, ...], missing: tuple[Message, ...]
    ) -> PartResult:
        """Judge steps of sgxkit's own walk with the sample enclave; all are taken when the first is asked for."""
        self._walk()
        taken = [self._steps[step] for step in steps if step in self._steps]
        error = next((result.error for result in taken if result.error is not None), None)
        if error is None and len(taken) < len(steps):
            error = next(result.error for result in self._steps.values() if result.error is not None)
        assert error is not None or taken
        return PartResult(
            part,
            Outcome.PASSED if error is None else Outcome.FAILED,
            "sgxkit up",
            True,
            expected,
            taken[-1].sentences[0] if error is None else error.message,
            sum(result.seconds for result in taken),
            missing,
        )

    def _verify_ourselves(self, missing: tuple[Message, ...]) -> PartResult:
        if self.quote is None or not self.quote.is_file():
            return self._own_steps(
                PartId.QUOTE_VERIFICATION,
                msg("the quote is verified, and a debug enclave's refused"),
                (Step.COLLATERAL, Step.VERIFY, Step.REFUSE_DEBUG),
                missing,
            )
        expected = msg("the quote of QuoteGenerationSample is verified; its enclave may be in debug mode")
        error = self._verify(self.quote)
        return PartResult(
            PartId.QUOTE_VERIFICATION,
            Outcome.PASSED if error is None else Outcome.FAILED,
            "sgxkit quote verify",
            True,
            expected,
            msg("verified") if error is None else error.message,
            0.0,
            missing,
        )

    def _verify(self, path: Path) -> SgxkitError | None:
        try:
            with path.open("rb") as file:
                quote = file.read(_MAX_QUOTE)
            collateral = collateral_for_quote(parse_quote(quote), self.surroundings.collateral)
            verifier = Verifier(Policy(allow_debug=True), trust_anchor=self.surroundings.trust_anchor)
            verifier.verify(quote, collateral)
        except OSError as error:
            return FormatError(path.name, msg("it cannot be read: {reason}", reason=error.strerror or error))
        except SgxkitError as error:
            return error
        return None

    def _walk(self) -> None:
        if not self._steps:
            for result in walk(self.surroundings, Policy(), self._findings):
                self._steps[result.step] = result


def sdk_environment(environment: Mapping[str, str], sdk: Path) -> dict[str, str]:
    """Return what Intel's `environment` file of the SDK sets, and that quotes are asked of AESM."""
    libraries = [str(sdk / "lib64"), str(sdk / "sdk_libs")]
    before = environment.get("LD_LIBRARY_PATH")
    return {
        **environment,
        "SGX_SDK": str(sdk),
        "PATH": os.pathsep.join([environment.get("PATH", os.defpath), str(sdk / "bin"), str(sdk / "bin" / "x64")]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([before] if before else [])]),
        "SGX_AESM_ADDR": "1",
    }


def _of_program(part: PartId, name: str, expected: Message, ran: Ran, *, good: bool, text: str = "") -> PartResult:
    """Make the result of what ended like that; of its output the line with `text` is shown where it was good."""
    said = [line for line in ran.output.splitlines() if line.strip() and text in line]
    return PartResult(
        part,
        Outcome.PASSED if good else Outcome.FAILED,
        name,
        False,
        expected,
        msg("it said: {text}", text=_printable(said[-1])) if good and said else ran.happened,
        0.0,
        output="" if good else ran.output,
    )


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text)[:200]
