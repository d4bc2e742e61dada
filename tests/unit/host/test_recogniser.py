"""Recognising signatures in what logs come wrapped in, in chunks and long lines."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.host.catalogue.shelf import shipped_entries
from sgxkit.host.recogniser import CHUNK, ENOUGH, EXCERPT, KEPT, Recogniser

ENTRIES = shipped_entries()
QE3 = "aesm.qe3-no-privilege"
FEW = [entry for entry in ENTRIES if entry.id.startswith("aesm.qe3")]
LINE = "Nov 21 10:00:01 host aesm_service[901]: Failed to load QE3: 0x4004"


def read(data: bytes, name: str = "log") -> Recogniser:
    recogniser = Recogniser(ENTRIES)
    recogniser.read(name, io.BytesIO(data))
    return recogniser


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        LINE + "\r",
        "[pod/aesmd-x7/aesmd] 2026-11-21T10:00:01Z Failed to load QE3: 0x4004",
        "2026-11-21T10:00:01.000000000Z stderr F Failed to load QE3: 0x4004",
        json.dumps({"log": LINE + "\n", "stream": "stderr"}),
        json.dumps({"MESSAGE": LINE, "PRIORITY": "3"}),
        json.dumps({"MESSAGE": list(LINE.encode()), "PRIORITY": "3"}),
        '{ "MESSAGE" : [ ' + ", ".join(map(str, b"\x1b[31m" + LINE.encode())) + " ] }",
        "MESSAGE=" + LINE,
        "\x1b[31mNov 21\x1b[0m Failed to load \x1b[1mQE3\x1b[0m: 0x4004",
        "<3>[  12.5] Failed to load QE3: 0x4004",
    ],
)
def test_a_wrapped_line_is_recognised(line: str) -> None:
    recogniser = read(f"before\n{line}\nafter\n".encode())
    assert [(found.number, found.source) for found in recogniser.findings[QE3].lines] == [(2, "log")]
    assert recogniser.logs[0].lines == 3
    assert recogniser.logs[0].recognised == 1


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("[read_persistent_data ..] Couldn't find the platform library. (null)", "provider.library-missing"),
        ('error gathering device information while adding custom device "/dev/sgx/enclave": no', "device.wrong-name"),
        ('"/dev" mounted with `noexec` option', "device.noexec"),
    ],
)  # fmt: skip
def test_escapes_of_json_are_read(line: str, entry: str) -> None:
    for escaped in (json.dumps({"msg": line}), json.dumps({"msg": line}).replace("'", "\\u0027")):
        assert entry in read(escaped.encode()).findings


def test_bytes_that_are_no_text_do_no_harm() -> None:
    data = bytes(range(256)) * 50 + b"\n" + b"\xff\xfe " + LINE.encode() + b" \xc3\n"
    (line,) = read(data).findings[QE3].lines
    assert line.text.startswith("\ufffd\ufffd Nov 21")


@pytest.mark.parametrize("where", [0, 1, 40, 4000, -40, -1])
def test_a_signature_across_the_end_of_a_chunk_is_found(where: int) -> None:
    filler = b"x" * 99 + b"\n"
    before = filler * (CHUNK // 100 - 1)
    before += b"y" * (CHUNK - len(before) - len(LINE) + where - 1) + b"\n"
    recogniser = read(before + LINE.encode() + b"\n" + filler)
    (line,) = recogniser.findings[QE3].lines
    assert line.number == before.count(b"\n") + 1


@pytest.mark.parametrize("place", [10, CHUNK - 30, CHUNK, 2 * CHUNK + 17, 3 * CHUNK])
def test_a_line_longer_than_any_buffer_is_searched_and_counted_once(place: int) -> None:
    data = b"first\n" + b"o" * place + LINE.encode() + b"o" * (2 * CHUNK) + b"\nlast " + LINE.encode()
    recogniser = read(data)
    assert [line.number for line in recogniser.findings[QE3].lines] == [2, 3]
    assert recogniser.findings[QE3].count == 2
    assert all(len(line.text) <= EXCERPT + 2 for line in recogniser.findings[QE3].lines)
    assert "QE3: 0x4004" in recogniser.findings[QE3].lines[0].text
    assert recogniser.logs[0].lines == 3


def test_of_many_lines_the_first_and_the_last_are_kept() -> None:
    data = b"".join(b"%d %s\n" % (number, LINE.encode()) for number in range(1, 901))
    finding = read(data).findings[QE3]
    assert (finding.count, finding.complete) == (900, True)
    assert [line.number for line in finding.lines] == [*range(1, KEPT + 1), 900]


@pytest.mark.parametrize("near", ["x: Failed to load QE3: 0x9999", LINE])
def test_what_a_log_repeats_hides_nothing_else(near: str) -> None:
    data = f"{near}\n".encode() * 3 * ENOUGH
    rest = "[QCNL] Encountered CURL error: (28) Timeout\nFailed to load QE3: 0x2006\nFailed to load PCE: 0x4004\n"
    findings = read(data + rest.encode()).findings
    assert {"provider.timeout", "aesm.qe3-no-device", QE3} == findings.keys()
    assert findings["provider.timeout"].lines[0].number == 3 * ENOUGH + 1
    if near == LINE:
        assert (findings[QE3].count, findings[QE3].complete) == (ENOUGH, False)
    else:
        assert (findings[QE3].count, findings[QE3].complete) == (1, True)


def test_every_entry_repeated_is_counted_as_far_as_it_counts() -> None:
    few = [entry for entry in ENTRIES if entry.id.startswith(("provider", "aesm"))]
    recogniser = Recogniser(few)
    lines = [entry.examples[0].encode() for entry in few]
    recogniser.read("log", io.BytesIO(b"\n".join(lines * (ENOUGH + 10))))
    assert {name: finding.count for name, finding in recogniser.findings.items()} == {
        entry.id: ENOUGH for entry in few
    }


def test_each_log_has_its_own_lines() -> None:
    recogniser = Recogniser(ENTRIES)
    for name in ("one", "two"):
        recogniser.read(name, io.BytesIO(LINE.encode()))
    assert [(line.source, line.number) for line in recogniser.findings[QE3].lines] == [("one", 1), ("two", 1)]
    assert recogniser.findings[QE3].count == 2


def test_two_signatures_of_a_line_are_both_found() -> None:
    line = b"[load_qe] SGXError:4004. [QPL] No certificate data for this platform. Error code is 0xb006\n"
    line += b"sgx_create_enclave QE fail [load_qe], SGXError:4004.[QPL] No certificate data for this platform."
    assert {QE3, "provider.no-certificate", "provider.cannot-connect"} == read(line).findings.keys()


def test_progress_is_told_all_bytes() -> None:
    told: list[int] = []
    Recogniser(ENTRIES).read("log", io.BytesIO(b"x\n" * CHUNK), told.append)
    assert sum(told) == 2 * CHUNK


def test_an_empty_catalogue_recognises_nothing() -> None:
    recogniser = Recogniser(())
    recogniser.read("log", io.BytesIO(LINE.encode()))
    assert recogniser.findings == {}


RECOGNISER = Recogniser(ENTRIES)


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_whatever_stands_around_a_signature_it_is_found(before: bytes, after: bytes) -> None:
    # An escape sequence that begins before may rightly swallow what follows it.
    before = before.replace(b"\x1b", b"")
    RECOGNISER.findings.clear()
    RECOGNISER.read("log", io.BytesIO(before + b" " + LINE.encode() + b" " + after))
    assert RECOGNISER.findings[QE3].lines[0].number == before.count(b"\n") + 1


@given(st.lists(st.sampled_from([b"\n", b"x", LINE.encode(), b"\x1b[0m"]), max_size=60), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_how_a_stream_is_cut_changes_nothing(parts: list[bytes], size: int) -> None:
    class Trickle(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            return super().read(size)

    whole, cut = Recogniser(FEW), Recogniser(FEW)
    data = b"".join(parts)
    whole.read("log", io.BytesIO(data))
    cut.read("log", Trickle(data))
    assert whole.findings == cut.findings
    assert whole.logs == cut.logs
