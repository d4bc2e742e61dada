"""The JSON document, the tree and the page."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from doubles.hosts import HOSTS, changed, cpuinfo, healthy, ordinary_guest
from sgxkit.host.checks.registry import CHECKS
from sgxkit.host.checks.status import Status
from sgxkit.host.collect import load_facts
from sgxkit.host.facts import Facts, OsRelease, TextFile
from sgxkit.host.html import page
from sgxkit.host.profiles import PROFILES, Readiness
from sgxkit.host.report import Kind, diagnose, document
from sgxkit.host.tree import lines
from sgxkit.host.wording import conclusion

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/doctor.schema.json").read_text(encoding="utf-8"))
RUN = PROFILES["run"]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["profile"]["enum"] == list(PROFILES)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_diagnosis_follows_the_schema(host: str, profile: str) -> None:
    diagnosis = diagnose(HOSTS[host](), PROFILES[profile])
    found = json.loads(json.dumps(document(diagnosis, version="0")))
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert [check["id"] for check in found["checks"]] == [check.id for check in CHECKS]
    assert found["exit_code"] == diagnosis.readiness.value


def test_the_schema_refuses_what_is_not_a_diagnosis() -> None:
    found = document(diagnose(healthy(), RUN), version="0")
    for change in ({"exit_code": 7}, {"profile": "other"}, {"extra": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**found, **change}, SCHEMA)


def test_a_healthy_host_is_summed_up() -> None:
    found = document(diagnose(healthy(), RUN), version="0")
    assert found["host"] == {
        "name": "server1",
        "operating_system": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-28-amd64",
        "processor": "Intel(R) Xeon(R) Gold 6330",
        "virtual_machine": False,
        "container": "none",
        "epc_bytes": 0x1_0000_0000,
        "features": ["SGX2", "EXINFO", "KSS", "EDECCSSA", "AEX-Notify"],
    }
    assert found["findings"] == []


EXPORT = """Detecting SGX, this may take a minute...
cpuid_7h: {Ok: {sgx: true, sgx_lc: true}}
cpuid_12h_0:
  Ok: {sgx1: true, sgx2: true, enclv: false, oversub: false, miscselect_valid: 1,
       max_enclave_size_32: 0x80000000, max_enclave_size_64: 0x1000000000}
cpuid_12h_1: {Ok: {attributes_flags_valid: 0x36, attributes_xfrm_valid: 0x1b}}
cpuid_12h_epc: {Ok: [{Epc: {ty: ConfidentialityIntegrityProtected, phys_base: 0, phys_size: 0x5e00000}}]}
msr_3ah: {Ok: {locked: true, sgx: true, sgx_lc: %s}}
efi_epcbios: {Err: "No such file or directory (os error 2)"}
efi_epcsw: {Err: "No such file or directory (os error 2)"}
efi_softwareguardstatus: {Ok: {status: Enabled}}
"""


def test_an_export_of_sgx_detect_is_judged_as_far_as_it_goes() -> None:
    diagnosis = diagnose(load_facts((EXPORT % "true").encode()), RUN)
    assert diagnosis.verdicts["isa"].status is Status.SUPPORTED
    assert diagnosis.verdicts["flc.configuration"].status is Status.SUPPORTED
    assert diagnosis.readiness is Readiness.UNKNOWN
    assert diagnosis.findings[0].check.id == "device.node"


def test_an_export_of_sgx_detect_shows_locked_launch_control() -> None:
    diagnosis = diagnose(load_facts((EXPORT % "false").encode()), RUN)
    assert diagnosis.verdicts["flc.configuration"].code == "flc-locked"
    assert diagnosis.verdicts["flc"].status is Status.UNSUPPORTED


def tree(facts: Facts, profile: str = "run", *, verbose: bool = False) -> list[str]:
    return [
        "  " * line.depth
        + "; ".join(f"{entry.mark} {entry.title} {entry.detail}".rstrip() for entry in line.entries)
        + ("folded " + "; ".join(map(str, line.folded)) if line.folded else "")
        for line in lines(diagnose(facts, PROFILES[profile]), verbose=verbose)
    ]


def test_the_tree_of_a_healthy_host_is_that_of_sgx_detect() -> None:
    assert tree(healthy()) == [
        "supported SGX instruction set",
        "  supported CPU support Intel(R) Xeon(R) Gold 6330",
        "  supported CPU configuration",
        "  supported Enclave attributes",
        "  supported Enclave Page Cache",
        "  supported All logical CPUs agree",
        "  supported SGX features",
        "    supported SGX2; supported EXINFO; unsupported ENCLV; unsupported OVERSUB; supported KSS; "
        "supported EDECCSSA; supported AEX-Notify",
        "    supported Total EPC size 4 GiB (no integrity protection)",
        "  supported FSGSBASE instructions",
        "  supported Hyper-Threading off",
        "supported Flexible launch control",
        "  supported CPU support",
        "  supported CPU configuration",
        "  supported Able to launch production mode enclave",
        "supported SGX system software",
        "  supported Linux kernel 6.1.0-28-amd64",
        "  supported SGX kernel device /dev/sgx_enclave",
        "  supported libsgx_enclave_common",
        "  supported Platform software packages 2.29.100.1-bookworm1",
        "  supported AESM service",
        "  supported Able to launch enclaves",
        "    supported Debug mode",
        "    supported Production mode",
        "supported Host",
        "  supported Repository fits this release",
        "  supported Signing keys of repositories",
        "  supported Clock",
    ]


def test_what_a_failed_need_hides_is_folded_into_one_line() -> None:
    found = tree(ordinary_guest())
    assert found[:2] == ["fatal SGX instruction set", "  fatal CPU support"]
    assert found[2].startswith("  folded CPU configuration; Enclave attributes; Enclave Page Cache;")
    assert "folded Flexible launch control" in found


def test_verbose_shows_every_check_once() -> None:
    shown = [line.check for line in lines(diagnose(ordinary_guest(), RUN), verbose=True)]
    assert sorted(filter(None, shown)) == sorted(check.id for check in CHECKS)


def test_a_profile_brings_its_branches() -> None:
    assert "supported Remote attestation" in tree(healthy(), "attest")
    assert "supported Host of virtual machines" in tree(healthy(), "vm-host")
    assert not any("attestation" in line for line in tree(healthy()))


def test_the_conclusion_says_the_first_cause() -> None:
    assert str(conclusion(diagnose(healthy(), RUN))) == "Ready: this host can run enclaves (profile run)."
    text = str(conclusion(diagnose(HOSTS["bios-off"](), RUN)))
    assert text == "Not ready: this host cannot run enclaves (profile run). SGX is turned off in the BIOS set-up."


HOSTILE = "<script>alert(1)</script>\"'&</pre><img src=x onerror=alert(1)>\x1b[2J"


def hostile() -> Facts:
    facts = cpuinfo(HOSTS["bios-off"](), model_name=HOSTILE)
    facts = changed(facts, "system", hostname=HOSTILE, os_release=OsRelease("debian", (), "12", HOSTILE, HOSTILE))
    facts = changed(facts, "kernel", command_line=HOSTILE, release=HOSTILE)
    facts = changed(facts, "quote_provider", configuration=TextFile(HOSTILE, HOSTILE, False))
    return replace(facts, source=replace(facts.source, producer=HOSTILE, notes=(HOSTILE,)))


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("facts", [hostile, *HOSTS.values()])
def test_the_page_is_whole_and_safe(facts: object, language: str) -> None:
    text = page(diagnose(facts(), PROFILES["attest"]), version="0", language=language)  # type: ignore[operator, arg-type]
    parser = Tags()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert not parser.seen & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for name, _ in parser.attributes if name.startswith("on") or name in ("src", "style")]
    links = [value or "" for name, value in parser.attributes if name == "href"]
    assert all(link.startswith("https://") for link in links)
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"<script|<img", text)


def test_the_page_shows_causes_evidence_remedies_and_facts() -> None:
    text = page(diagnose(HOSTS["flc-locked"](), RUN), version="1.2.3")
    for part in ("locked by the BIOS", "cpu.msrs[0x3a]", "0x0000000000040001", "SGX Launch Control Policy",
                 "in the BIOS set-up", "systemctl reboot --firmware-setup", "sgxkit 1.2.3", "server1",
                 "&quot;producer&quot;: &quot;sgxkit-probe&quot;"):  # fmt: skip
        assert part in text


def test_findings_of_one_kind() -> None:
    diagnosis = diagnose(HOSTS["old-psw"](), RUN)
    assert diagnosis.of_kind(Kind.MISSING) == ()
    assert [finding.verdict.code for finding in diagnosis.of_kind(Kind.REMARK)] == ["psw-old"]
