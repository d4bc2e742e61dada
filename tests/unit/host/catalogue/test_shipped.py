"""Every shipped entry: it is sound, translated, found in a long log, and silent on logs of healthy hosts."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from sgxkit.host.catalogue.entry import Entry, Severity
from sgxkit.host.catalogue.reader import read_file
from sgxkit.host.catalogue.shelf import SHIPPED, shipped_entries
from sgxkit.host.recogniser import Finding, Recogniser

ENTRIES = shipped_entries()
CLEAN = sorted((Path(__file__).parents[1] / "clean_logs").iterdir())
LINES = 10_000

# Words of logs, those of SGX among them, so that the lines look like what is searched for without being it.
WORDS = """
session opened for user root systemd Started daily apt activities eth0 link is up Reached target Network port ssh2
device usb high-speed number using xhci_hcd CRON nginx GET HTTP/1.1 200 Mozilla/5.0 level=info reconcile sgx SGX AESM
aesm_service enclave Enclave EPC section quote error Error failed Failed to open load Cannot Couldn't Permission
denied Connection refused [QCNL] [QPL] SGX_QL_SUCCESS BIOS. /dev/sgx_enclave /dev/sgx_provision kernel:
""".split()  # noqa: SIM905 - a list of words reads better as words


def unrelated_lines(count: int) -> list[str]:
    words = random.Random(5)
    return [
        f"Nov 21 {i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d} server1 {words.choice(WORDS)}[{i}]: "
        + " ".join(words.choices(WORDS, k=8))
        for i in range(count)
    ]


HAYSTACK = [f"{line}\n".encode() for line in unrelated_lines(LINES)]
RECOGNISER = Recogniser(ENTRIES)


def recognise(data: bytes) -> dict[str, Finding]:
    RECOGNISER.findings.clear()
    RECOGNISER.read("log", io.BytesIO(data))
    return dict(RECOGNISER.findings)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_recognised_in_ten_thousand_unrelated_lines(entry: Entry) -> None:
    place = random.Random(entry.id).randrange(LINES - 100)
    needles = [f"{line}\n".encode() for line in entry.examples]
    finding = recognise(b"".join([*HAYSTACK[:place], *needles, *HAYSTACK[place:]]))[entry.id]
    assert finding.count == len(entry.examples)
    assert [line.number for line in finding.lines][:3] == [place + 1 + i for i in range(len(entry.examples))][:3]


def test_nothing_is_recognised_in_unrelated_lines() -> None:
    assert recognise(b"".join(HAYSTACK)) == {}


def test_there_are_five_clean_logs_at_least() -> None:
    assert len(CLEAN) >= 5


@pytest.mark.parametrize("log", CLEAN, ids=lambda path: path.name)
def test_nothing_is_recognised_in_the_log_of_a_healthy_host(log: Path) -> None:
    data = log.read_bytes()
    assert recognise(data) == {}
    assert data.count(b"\n") > 5


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.name)
def test_a_shipped_file_is_sound(path: Path) -> None:
    reading = read_file(path.read_bytes(), path.name)
    assert [str(problem) for problem in reading.problems] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_told_in_chinese(entry: Entry) -> None:
    chinese = entry.translations["zh"]
    for text in (chinese.title, chinese.cause, chinese.fix):
        assert any("\u4e00" <= character <= "\u9fff" for character in text)


def test_consequences_name_entries_and_never_each_other() -> None:
    follows = {entry.id: entry.consequence_of for entry in ENTRIES}
    assert {name for names in follows.values() for name in names} <= follows.keys()
    seen: dict[str, int] = {}

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"{name} follows from itself"
        if name not in seen:
            seen[name] = 1 + max((depth(cause, (*above, name)) for cause in follows[name]), default=0)
        return seen[name]

    assert all(depth(name) for name in follows)


def test_the_catalogue_covers_the_collected_signatures() -> None:
    assert len(ENTRIES) >= 80
    assert {entry.severity for entry in ENTRIES} == set(Severity)


def test_a_harmless_entry_proposes_no_repair() -> None:
    assert [entry.id for entry in ENTRIES if entry.severity is Severity.HARMLESS and entry.commands] == []
