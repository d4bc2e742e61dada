"""What a support engineer would say of each composed host: the verdict, the first cause, the first remedy."""

from __future__ import annotations

import json

import pytest

from doubles.hosts import HOSTS, healthy, kubernetes_node
from sgxkit.host.checks.check import Outcome
from sgxkit.host.facts import facts_to_json, parse_facts
from sgxkit.host.profiles import PROFILES, Readiness
from sgxkit.host.report import Kind, diagnose
from sgxkit.host.wording import title_of

READY, NOT_READY, UNKNOWN = Readiness
EXPECTED = [
    # host, profile, readiness, primary cause, first remedy
    ("healthy", "run", READY, None, None),
    ("healthy", "attest", READY, None, None),
    ("healthy", "oasis-node", READY, None, None),
    ("healthy", "gramine", READY, None, None),
    ("healthy", "vm-host", READY, None, None),
    ("healthy", "kubernetes-node", UNKNOWN, "kubernetes.node no-cluster", "give-cluster-credentials"),
    ("kubernetes-node", "kubernetes-node", READY, None, None),
    ("azure-guest", "run", READY, None, None),
    ("azure-guest", "attest", READY, None, None),
    ("bios-off", "run", NOT_READY, "cpu.configuration bios-disabled", "enable-sgx-in-bios"),
    ("bios-off", "attest", NOT_READY, "cpu.configuration bios-disabled", "enable-sgx-in-bios"),
    ("flc-locked", "run", NOT_READY, "flc.configuration flc-locked", "unlock-launch-control-in-bios"),
    ("flc-locked", "vm-host", READY, None, None),
    ("no-flc", "run", NOT_READY, "flc.cpu no-flc", "use-sgx-hardware"),
    ("no-flc", "attest", NOT_READY, "flc.cpu no-flc", "use-sgx-hardware"),
    ("dev-noexec", "run", NOT_READY, "device.exec dev-noexec", "remount-dev-exec"),
    ("not-in-group", "run", NOT_READY, "device.open not-in-group", "join-group-sgx"),
    ("dead-aesm", "run", READY, None, None),
    ("dead-aesm", "attest", NOT_READY, "aesm.running aesm-not-running", "start-aesm"),
    ("stale-socket-in-container-setup", "attest", NOT_READY, "aesm.socket socket-stale", "start-aesm"),
    ("old-psw", "run", READY, None, None),
    ("old-psw", "attest", NOT_READY, "psw.version psw-old", "upgrade-psw"),
    ("container-without-device", "run", NOT_READY, "container.device device-not-passed", "pass-devices"),
    ("unregistered", "run", READY, None, None),
    ("unregistered", "attest", NOT_READY, "registration not-registered", "register-platform"),
    ("qcnl-comma", "attest", NOT_READY, "quote.configuration configuration-json-syntax",
     "correct-quote-provider-configuration"),
    ("clock-off", "run", READY, None, None),
    ("clock-off", "oasis-node", NOT_READY, "clock clock-off", "synchronise-clock"),
    ("old-kernel", "run", NOT_READY, "kernel.version kernel-too-old", "newer-kernel"),
    ("no-epc", "run", NOT_READY, "cpu.epc no-epc", "set-epc-size-in-bios"),
    ("ordinary-guest", "run", NOT_READY, "cpu.sgx hidden-by-hypervisor", "use-sgx-instance"),
    ("ordinary-guest", "oasis-node", NOT_READY, "cpu.sgx hidden-by-hypervisor", "use-sgx-instance"),
]  # fmt: skip


@pytest.mark.parametrize(("host", "profile", "readiness", "cause", "remedy"), EXPECTED)
def test_a_composed_host_is_diagnosed(
    host: str, profile: str, readiness: Readiness, cause: str | None, remedy: str | None
) -> None:
    diagnosis = diagnose(HOSTS[host](), PROFILES[profile])
    assert diagnosis.readiness is readiness
    decisive = [finding for finding in diagnosis.findings if finding.kind is not Kind.REMARK]
    first = decisive[0] if decisive else None
    assert (None if first is None else f"{first.check.id} {first.verdict.code}") == cause
    assert (None if first is None else first.verdict.remedies[0].id) == remedy


@pytest.mark.parametrize("host", HOSTS)
def test_facts_that_went_through_json_are_judged_alike(host: str) -> None:
    facts = HOSTS[host]()
    again = parse_facts(json.loads(json.dumps(facts_to_json(facts))))
    for profile in PROFILES.values():
        assert diagnose(again, profile).findings == diagnose(facts, profile).findings


@pytest.mark.parametrize(
    ("host", "count"), [("bios-off", 1), ("ordinary-guest", 1), ("dev-noexec", 1), ("old-psw", 1), ("no-flc", 1),
                        ("qcnl-comma", 1), ("unregistered", 1), ("no-epc", 1)]
)  # fmt: skip
def test_consequences_are_not_repeated(host: str, count: int) -> None:
    assert len(diagnose(HOSTS[host](), PROFILES["attest"]).of_kind(Kind.MISSING)) == count


def test_independent_causes_come_most_fundamental_first() -> None:
    missing = diagnose(HOSTS["old-kernel"](), PROFILES["attest"]).of_kind(Kind.MISSING)
    assert [finding.check.id for finding in missing] == ["kernel.version", "psw.version"]


def test_a_healthy_host_has_nothing_to_remark() -> None:
    for profile in ("run", "attest", "oasis-node", "gramine", "vm-host"):
        assert diagnose(healthy(), PROFILES[profile]).findings == ()


def test_a_node_without_the_device_plugin_is_told_to_install_it() -> None:
    diagnosis = diagnose(kubernetes_node(resources=False), PROFILES["kubernetes-node"])
    assert [finding.verdict.code for finding in diagnosis.of_kind(Kind.MISSING)] == [
        "no-sgx-resources",
        "no-epc-resource",
    ]
    assert diagnosis.findings[0].verdict.remedies[0].id == "install-device-plugin"


def test_commands_are_those_of_the_distribution() -> None:
    def commands(host: str, profile: str) -> str:
        finding = diagnose(HOSTS[host](), PROFILES[profile]).findings[0]
        return "\n".join(line for remedy in finding.verdict.remedies for line in remedy.commands)

    assert "linux-generic-hwe-20.04" in commands("old-kernel", "run")
    psw = diagnose(HOSTS["old-kernel"](), PROFILES["attest"]).findings[1].verdict.remedies[0]
    assert psw.commands == (
        "# Intel has no current packages for this release: upgrade it, or run AESM in a container",
    )
    assert "distro/Debian12/sgx_debian_local_repo.tgz" in commands("old-psw", "attest")
    assert "libsgx-dcap-default-qpl" in commands("old-psw", "attest")
    assert "usermod -aG sgx bob" in commands("not-in-group", "run")
    assert "mode=0755,nosuid,exec" in commands("dev-noexec", "run")
    assert "docker run --device /dev/sgx_enclave --device /dev/sgx_provision" in commands(
        "container-without-device", "run"
    )


def test_the_comma_is_pointed_at() -> None:
    cause = diagnose(HOSTS["qcnl-comma"](), PROFILES["attest"]).findings[0].verdict.cause
    assert cause is not None
    assert "line 5, column 3" in str(cause)
    assert "comma" in str(cause)


def test_a_consequence_is_not_repeated() -> None:
    found = diagnose(HOSTS["healthy"](), PROFILES["kubernetes-node"]).of_kind(Kind.UNKNOWN)
    assert [finding.check.id for finding in found] == ["kubernetes.node"]
    assert {"kubernetes.resources", "kubernetes.epc"} <= set(found[0].explains)


def test_what_a_remedy_takes_is_said_in_the_punctuation_of_the_language() -> None:
    (finding,) = diagnose(HOSTS["bios-off"](), PROFILES["run"]).of_kind(Kind.MISSING)
    title = title_of(finding.verdict.remedies[0])
    assert title.render("en").endswith(" (as root; needs a reboot; in the BIOS set-up)")
    assert title.render("zh").endswith("（以 root 身份；需要重启；在 BIOS 设置中）")


def test_a_new_kernel_without_word_of_flc_is_not_said_to_have_it() -> None:
    verdict = diagnose(HOSTS["ordinary-guest"](), PROFILES["run"]).verdicts["kernel.version"]
    assert verdict.outcome is Outcome.NOT_REACHED
    assert verdict.evidence
