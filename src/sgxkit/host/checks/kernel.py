"""The kernel: new enough, built with SGX, not told to leave it alone, with one driver, and untroubled.

Only the kernel's own driver is maintained; it came with Linux 5.11 and serves processors with flexible launch
control (arch/x86/kernel/cpu/sgx). Distributions have carried it back to older kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgxkit.host.checks.check import (
    Check,
    Outcome,
    Verdict,
    Verdicts,
    blamed_on,
    conjunction,
    fatal,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.drivers import Driver, driver, enclave_node, modules
from sgxkit.host.checks.evidence import Evidence, known, shown
from sgxkit.host.checks.readings import kernel_log, kernel_version
from sgxkit.host.checks.status import Status
from sgxkit.host.facts import Facts
from sgxkit.host.remedies import kernel as remedies
from sgxkit.messages import msg

FIRST_WITH_SGX = (5, 11)
_PARTS = ("kernel.version", "kernel.config", "kernel.command_line", "kernel.driver", "kernel.conflict", "kernel.log")


def config(facts: Facts, name: str) -> str | None:
    """A kernel option's value; None where the configuration was not read."""
    return next((option.value for option in known(facts.kernel.config) or () if option.name == name), None)


def _judge_kernel(facts: Facts, verdicts: Verdicts) -> Verdict:
    rolled = conjunction(verdicts, _PARTS)
    release = known(facts.kernel.release)
    return Verdict(rolled.status, rolled.code, because=rolled.because, outcome=rolled.outcome, detail=release or "")


def _judge_version(facts: Facts, verdicts: Verdicts) -> Verdict:
    version = kernel_version(facts)
    found = driver(facts)
    evidence = (shown("kernel.release", facts.kernel.release),)
    if version is None:
        return unknown("release-unread", msg("The kernel's release could not be read."), evidence)
    new_enough = version >= FIRST_WITH_SGX or found is Driver.IN_TREE or config(facts, "CONFIG_X86_SGX") == "y"
    if new_enough:
        without_flc = [name for name in ("flc.cpu", "flc.configuration") if verdicts[name].status is Status.FATAL]
        if without_flc:
            return Verdict(
                Status.UNSUPPORTED,
                "no-flc-for-kernel",
                msg("The kernel's own driver works only with flexible launch control."),
                evidence,
                because=(without_flc[0],),
            )
        if verdicts["flc.cpu"].outcome is Outcome.NOT_REACHED:
            # Of "new enough, and FLC" only the half is known: neither yes nor no.
            return Verdict(
                Status.UNKNOWN, "not-reached", None, evidence, because=("flc.cpu",), outcome=Outcome.NOT_REACHED
            )
        return supported(evidence, code="ok" if version >= FIRST_WITH_SGX else "backport")
    if found in (Driver.DCAP, Driver.DCAP_EARLY, Driver.LEGACY):
        return unsupported(
            "kernel-needs-old-driver",
            msg(
                "Kernel {release} has no SGX driver of its own (5.11 is the first); it depends on one that is no "
                "longer maintained.",
                release=known(facts.kernel.release) or "",
            ),
            evidence,
            (remedies.newer_kernel(facts),),
        )
    return fatal(
        "kernel-too-old",
        msg("Kernel {release} has no SGX driver; 5.11 is the first.", release=known(facts.kernel.release) or ""),
        evidence,
        (remedies.newer_kernel(facts),),
    )


def _judge_config(facts: Facts, _verdicts: Verdicts) -> Verdict:
    value = config(facts, "CONFIG_X86_SGX")
    found = driver(facts)
    evidence = (
        shown("kernel.config", facts.kernel.config)
        if value is None
        else Evidence("kernel.config[CONFIG_X86_SGX]", value),
    )
    if value == "y" or found is Driver.IN_TREE:
        return supported(evidence)
    if found in (Driver.DCAP, Driver.DCAP_EARLY, Driver.LEGACY):
        return unsupported(
            "driver-out-of-tree",
            msg("The kernel is built without SGX; the driver comes from elsewhere."),
            evidence,
            (remedies.KERNEL_WITH_SGX,),
        )
    if value is not None:
        return fatal(
            "kernel-without-sgx", msg("The kernel is built without SGX."), evidence, (remedies.KERNEL_WITH_SGX,)
        )
    return unknown(
        "config-unread",
        msg("Whether the kernel is built with SGX could not be read."),
        evidence,
        (remedies.KERNEL_WITH_SGX,),
    )


def _judge_command_line(facts: Facts, _verdicts: Verdicts) -> Verdict:
    line = known(facts.kernel.command_line)
    evidence = (shown("kernel.command_line", facts.kernel.command_line),)
    if line is None:
        return unknown("command-line-unread", msg("The kernel's command line could not be read."), evidence)
    if "nosgx" in line.split():
        return fatal(
            "nosgx",
            msg("SGX is switched off by nosgx on the kernel's command line."),
            evidence,
            (remedies.allow_sgx_on_command_line(facts),),
        )
    return supported(evidence)


_SILENT_ABOUT_DRIVER = (
    "cpu.sgx",
    "cpu.configuration",
    "cpu.epc",
    "flc.cpu",
    "flc.configuration",
    "kernel.version",
    "kernel.config",
    "kernel.command_line",
)


def _judge_driver(facts: Facts, verdicts: Verdicts) -> Verdict:
    found = driver(facts)
    node = enclave_node(facts)
    evidence = (
        shown("devices.nodes", "none" if node is None else node.path),
        shown("kernel.modules", sorted(modules(facts))),
        *kernel_log(facts, "sgx:", "SGX disabled", "isgx:", "intel_sgx:"),
    )
    if found is None:
        return unknown("driver-unread", msg("Which SGX driver there is could not be read."), evidence)
    if found is Driver.IN_TREE:
        return supported(evidence, detail=found.value)
    if found is Driver.NONE:
        missing = fatal(
            "no-driver",
            msg("The kernel has no SGX driver at work, for a reason that is not to be seen here."),
            evidence,
            (remedies.READ_KERNEL_LOG,),
        )
        return blamed_on(missing, verdicts, *_SILENT_ABOUT_DRIVER)
    return Verdict(
        Status.UNSUPPORTED,
        "driver-outdated",
        msg("The {driver} driver is no longer maintained; PSW 2.28 and later do not support it.", driver=found.value),
        evidence,
        (remedies.newer_kernel(facts), remedies.remove_out_of_tree_driver(facts, _MODULES[found])),
        detail=found.value,
    )


_MODULES: Mapping[Driver, str] = {
    Driver.LEGACY: "isgx",
    Driver.DCAP: "intel_sgx",
    Driver.DCAP_EARLY: "intel_sgx",
}


def _judge_conflict(facts: Facts, verdicts: Verdicts) -> Verdict:
    loaded = modules(facts) & {"isgx", "intel_sgx"}
    misc = {device.name for device in known(facts.kernel.misc_devices) or ()}
    own = "sgx_enclave" in misc or config(facts, "CONFIG_X86_SGX") == "y"
    lines = [line for line in known(facts.kernel.modprobe_lines) or () if "intel_sgx" in line.text]
    evidence = (
        shown("kernel.modules", sorted(loaded)),
        *(Evidence(f"kernel.modprobe_lines[{line.path}:{line.number}]", line.text) for line in lines),
        *kernel_log(facts, "can not reset SGX LE public key", "second initialization call"),
    )
    if "isgx" in loaded and (own or "intel_sgx" in loaded):
        return unsupported(
            "two-drivers",
            msg("The old driver isgx is loaded beside another one; the two disturb each other."),
            evidence,
            (remedies.remove_out_of_tree_driver(facts, "isgx"),),
        )
    if "isgx" in loaded and verdicts["flc.cpu"].status is Status.SUPPORTED:
        return unsupported(
            "isgx-on-flc",
            msg("The old driver isgx is loaded, though this processor has flexible launch control."),
            evidence,
            (remedies.remove_out_of_tree_driver(facts, "isgx"), remedies.newer_kernel(facts)),
        )
    if known(facts.kernel.modules) is None:
        return unknown("modules-unread", msg("The list of kernel modules could not be read."), evidence)
    return supported(evidence)


def _judge_log(facts: Facts, _verdicts: Verdicts) -> Verdict:
    log = known(facts.kernel.log)
    if log is None:
        return unknown(
            "log-unread",
            msg("The kernel's log could not be read."),
            (shown("kernel.log", facts.kernel.log),),
            (remedies.READ_KERNEL_LOG,),
        )
    leaked = kernel_log(facts, "EPC page was leaked", "SGX may become unusable")
    if leaked:
        return unsupported(
            "epc-leaked",
            msg("The kernel has lost EPC pages; SGX may stop working until the next boot."),
            leaked,
            (remedies.DRAIN_AND_REBOOT,),
        )
    return supported(tuple(Evidence("kernel.log", line) for line in log.lines))


def _judge_edmm(facts: Facts, _verdicts: Verdicts) -> Verdict:
    node = enclave_node(facts)
    if node is None:
        return unknown("no-device", msg("There is no device to ask."))
    answer = known(node.edmm)
    evidence = (shown(f"devices.nodes[{node.path}].edmm", node.edmm), shown("kernel.release", facts.kernel.release))
    if answer is None:
        return unknown(
            "edmm-unread", msg("Whether the driver manages memory dynamically could not be read."), evidence
        )
    if answer:
        return supported(evidence)
    return unsupported(
        "no-edmm",
        msg("The driver cannot change an enclave's memory after its start; Linux can from 6.0 on."),
        evidence,
        (remedies.newer_kernel(facts),),
    )


CHECKS: tuple[Check, ...] = (
    Check("kernel", msg("Linux kernel"), _judge_kernel, parent="psw", uses=_PARTS, folds=True),
    Check(
        "kernel.version",
        msg("Kernel 5.11 or newer, and FLC"),
        _judge_version,
        parent="kernel",
        uses=("flc.cpu", "flc.configuration"),
    ),
    Check("kernel.config", msg("Kernel built with SGX"), _judge_config, parent="kernel"),
    Check("kernel.command_line", msg("Not switched off at boot"), _judge_command_line, parent="kernel"),
    Check("kernel.driver", msg("Driver generation"), _judge_driver, parent="kernel", uses=_SILENT_ABOUT_DRIVER),
    Check("kernel.conflict", msg("One driver only"), _judge_conflict, parent="kernel", uses=("flc.cpu",)),
    Check("kernel.log", msg("No SGX trouble in the kernel's log"), _judge_log, parent="kernel"),
    Check(
        "kernel.edmm",
        msg("Dynamic enclave memory (EDMM)"),
        _judge_edmm,
        parent="kernel",
        needs=("feature.sgx2", "kernel.driver"),
        hidden_by=frozenset({"feature.sgx2", "kernel.driver"}),
    ),
)
