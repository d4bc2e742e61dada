"""Explanations of logs: joined with facts, ranked as a support engineer would, and as JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import jsonschema
import pytest

from doubles.hosts import HOSTS, healthy
from sgxkit.errors import InputError
from sgxkit.host.catalogue.entry import Severity
from sgxkit.host.catalogue.shelf import shipped_entries
from sgxkit.host.diagnose import LogDiagnosis, Result, Standing, diagnose_logs, document, logs_in_facts
from sgxkit.host.facts import Facts
from sgxkit.host.log_source import CommandLog, FileLog, TextLog

ENTRIES = shipped_entries()
SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/diagnose.schema.json").read_text())
NOEXEC = 'could not be opened: "/dev" mounted with `noexec` option.\n'
QE3 = "aesm_service[901]: Failed to load QE3: 0x4004\n"
ERROR_38 = "tee: aesm: error 38\n"
WHITE_LIST = "aesm_service[9]: [ADMIN]White List update failed due to network error\n"
REFUSED = "[QCNL] Encountered CURL error: (7) Couldn't connect to server\n"


def diagnose(*texts: str, facts: Facts | None = None) -> LogDiagnosis:
    logs = [TextLog(f"log{number}", text.encode()) for number, text in enumerate(texts)]
    diagnosis = diagnose_logs(ENTRIES, logs, facts)
    jsonschema.validate(document(diagnosis, version="test"), SCHEMA)
    return diagnosis


def ids(diagnosis: LogDiagnosis) -> list[str]:
    return [known.entry.id for known in diagnosis.explanations]


def test_without_facts_everything_is_possible() -> None:
    (known,) = diagnose(NOEXEC).explanations
    assert (known.entry.id, known.standing, known.grounds) == ("device.noexec", Standing.POSSIBLE, ())


def test_facts_confirm_an_explanation() -> None:
    (known,) = diagnose(NOEXEC, facts=HOSTS["dev-noexec"]()).explanations
    assert known.standing is Standing.CONFIRMED
    (ground,) = known.grounds
    assert ground.supports
    assert "noexec" in ground.evidence[0].value


def test_facts_speak_against_an_explanation_that_was_remedied() -> None:
    (known,) = diagnose(NOEXEC, facts=healthy()).explanations
    assert known.standing is Standing.CONTRADICTED


def test_what_the_facts_speak_against_comes_last() -> None:
    both = NOEXEC + "\n" + REFUSED
    assert ids(diagnose(both)) == ["device.noexec", "provider.cannot-connect"]
    facts = HOSTS["dev-noexec"]()
    assert ids(diagnose(both, facts=facts)) == ["device.noexec", "provider.cannot-connect"]
    assert ids(diagnose(NOEXEC + "error: Allocation of EPC memory failed\n", facts=healthy()))[-1] == "device.noexec"


def test_a_cause_comes_before_its_consequence() -> None:
    diagnosis = diagnose(ERROR_38 + QE3)
    assert ids(diagnosis) == ["aesm.qe3-no-privilege", "aesm.error-38"]
    assert [known.follows for known in diagnosis.explanations] == [(), ("aesm.qe3-no-privilege",)]
    assert diagnose(ERROR_38).explanations[0].follows == ()


def test_what_lies_nearer_the_processor_comes_first() -> None:
    text = REFUSED + QE3 + "x86/cpu: SGX disabled by BIOS.\n" + "E: Unable to locate package libsgx-launch\n"
    assert ids(diagnose(text)) == [
        "firmware.sgx-disabled",
        "package.epid-gone",
        "aesm.qe3-no-privilege",
        "provider.cannot-connect",
    ]


def test_harmless_lines_come_after_all_else_and_explain_nothing() -> None:
    assert ids(diagnose(WHITE_LIST + REFUSED))[-1] == "aesm.white-list"
    alone = diagnose(WHITE_LIST)
    assert alone.explanations[0].entry.severity is Severity.HARMLESS
    assert alone.result is Result.NOTHING


def test_a_fact_by_its_path_counts() -> None:
    line = "WARN: Warning: platform manifest is not available or current platform is not multi-package platform.\n"
    (known,) = diagnose(line, facts=HOSTS["azure-guest"]()).explanations
    assert known.standing is Standing.CONFIRMED
    assert known.grounds[0].evidence[0].fact == "system.hypervisor.present"
    assert diagnose(line, facts=healthy()).explanations[0].standing is Standing.POSSIBLE


@pytest.mark.parametrize("name", sorted(HOSTS))
def test_any_host_can_be_joined_with_any_line(name: str) -> None:
    text = "\n".join(line for entry in ENTRIES for line in entry.examples)
    diagnosis = diagnose(text, facts=HOSTS[name]())
    assert {known.entry.id for known in diagnosis.explanations} == {entry.id for entry in ENTRIES}


def test_the_logs_inside_facts_are_read() -> None:
    (log,) = logs_in_facts(HOSTS["bios-off"](), "facts.json")
    assert log.name == "facts.json:kernel.log"
    assert ids(diagnose_logs(ENTRIES, [log])) == ["firmware.sgx-disabled"]


def test_nothing_recognised_is_said_so() -> None:
    diagnosis = diagnose("all is well\n")
    assert (diagnosis.result, diagnosis.explanations) == (Result.NOTHING, ())
    assert [(log.lines, log.recognised) for log in diagnosis.logs] == [(1, 0)]


def test_a_command_that_fails_is_a_log_not_read() -> None:
    failing = CommandLog("journal", ("sh", "-c", "echo some line; echo no right to it >&2; exit 3"))
    absent = CommandLog("dmesg", ("sgxkit-no-such-program",))
    hinting = CommandLog(
        "empty", ("sh", "-c", "echo 'Hint: You see no messages of other users.' >&2; echo -- No entries --")
    )
    diagnosis = diagnose_logs(ENTRIES, [failing, absent, hinting])
    assert diagnosis.result is Result.COULD_NOT_TELL
    assert [str(log.reason) for log in diagnosis.unread] == [
        "sh failed: no right to it",
        "sgxkit-no-such-program cannot be run: No such file or directory",
        "sh failed: Hint: You see no messages of other users.",
    ]
    jsonschema.validate(document(diagnosis, version="test"), SCHEMA)


def test_what_a_command_prints_is_read() -> None:
    diagnosis = diagnose_logs(ENTRIES, [CommandLog("journal", ("printf", "%s", QE3))])
    assert ids(diagnosis) == ["aesm.qe3-no-privilege"]


def test_a_file_is_read_also_compressed(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.1.gz"
    plain.write_text(QE3)
    packed.write_bytes(gzip.compress(b"x\n" + QE3.encode()))
    diagnosis = diagnose_logs(ENTRIES, [FileLog(plain), FileLog(packed)])
    assert [(line.source, line.number) for line in diagnosis.explanations[0].finding.lines] == [
        (str(plain), 1),
        (str(packed), 2),
    ]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"x" * 1000)[:-20])
    for name, problem in (("none", "No such file"), (".", "Is a directory"), ("broken.gz", "cannot be decompressed")):
        with pytest.raises(InputError, match=problem):
            diagnose_logs(ENTRIES, [FileLog(tmp_path / name)])
