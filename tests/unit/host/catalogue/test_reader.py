"""Files of the catalogue: what is refused, and that it is told with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import FormatError, InputError
from sgxkit.host.catalogue.entry import STAGES, STATES, CheckCondition, FactCondition, Severity
from sgxkit.host.catalogue.reader import MAX_FILE, OPTIONAL, REQUIRED, read_entries, read_file
from sgxkit.host.catalogue.shelf import SHIPPED, load_catalogue, own_folder, shipped_entries

GOOD = """format = 1
subject = "Ours"

[[entry]]
id = "ours.disk-full"
severity = "fault"
stage = "program"
patterns = ['enclave store {...} is full']
examples = ['ERROR enclave store /data is full']
counterexamples = ['enclave store /data is empty']
title = "The store is full"
cause = "Nobody cleans it."
look_for = "df"
fix = "Clean it."
sources = ["our runbook"]
raised_by = [{ check = "device.open", is = "failed" }, { fact = "system.hypervisor.present", equals = true }]
"""


def problems(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in read_file(data, "ours.toml").problems]


def test_a_sound_file_is_read() -> None:
    (entry,) = read_entries(GOOD.encode(), "ours.toml")
    assert (entry.id, entry.severity, entry.stage) == ("ours.disk-full", Severity.FAULT, "program")
    assert entry.raised_by == (
        CheckCondition("device.open", "failed"),
        FactCondition("system.hypervisor.present", True),
    )
    assert entry.english.look_for == "df"
    assert entry.texts("zh") == entry.english
    assert entry.origin == "ours.toml"


def test_a_translation_is_read() -> None:
    chinese = '[entry.zh]\ntitle = "满"\ncause = "无人清理"\nlook_for = "df"\nfix = "清理"\n'
    (entry,) = read_entries((GOOD + chinese).encode(), "ours.toml")
    assert entry.texts("zh").title == "满"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("format = 1", "format = 2", "ours.toml:1: format: must be 1, the version that this sgxkit reads"),
        ("format = 1", "format = true", "ours.toml:1: format: must be 1, the version that this sgxkit reads"),
        ('subject = "Ours"', "subject = 1", "ours.toml:2: subject: must be text"),
        ('subject = "Ours"', 'subjekt = "Ours"', "ours.toml:2: subjekt: is not a key of this format"),
        ("ours.disk-full", "Ours Disk", "ours.toml:5: entry.1.id: must be lower-case words"),
        ('severity = "fault"', 'severity = "bad"', "ours.toml:6: entry.1.severity: must be one of fault, warning"),
        ('stage = "program"', "", "ours.toml:4: entry.1.stage: must be one of"),
        ("is full']\nexamples", "is full', 'x']\nexamples", "ours.toml:8: entry.1.patterns.2: has no 6 characters"),
        (
            "is full']\nexamples",
            "is full', 'abcdefg']\nexamples",
            "ours.toml:8: entry.1.patterns.2: has no line that",
        ),
        ("store /data is full", "store is fine", "ours.toml:9: entry.1.examples.1: has none of the entry's patterns"),
        ("/data is empty", "/data is full", "ours.toml:10: entry.1.counterexamples.1: is recognised"),
        ('title = "The store is full"', "", "ours.toml:4: entry.1.title: is missing"),
        ('title = "The store is full"', 'title = " "', "ours.toml:11: entry.1.title: must be 1 to"),
        ('cause = "Nobody cleans it."', 'cause = "\\u001b[0m"', "ours.toml:12: entry.1.cause: holds control"),
        ('fix = "Clean it."', "fix = []", "ours.toml:14: entry.1.fix: must be text"),
        ('["our runbook"]', "[]", "ours.toml:15: entry.1.sources: must be a list of 1 to"),
        ('["our runbook"]', '"our runbook"', "ours.toml:15: entry.1.sources: must be a list of 1 to"),
        ("device.open", "device.opens", "ours.toml:16: entry.1.raised_by.1.check: is not a check"),
        ('is = "failed"', 'is = "broken"', "ours.toml:16: entry.1.raised_by.1.is: must be one of"),
        ("system.hypervisor.present", "system.hypervisor", "ours.toml:16: entry.1.raised_by.2.fact: is not the path"),
        ("equals = true", 'equals = "yes"', "ours.toml:16: entry.1.raised_by.2.equals: must be of the fact's type"),
        ("equals = true", "equal = true", "ours.toml:16: entry.1.raised_by.2: must have the keys check and is"),
        ("[[entry]]", "[entry]", "ours.toml:4: entry: must be tables"),
        ("sources =", "zh = 1\nsources =", "ours.toml:15: entry.1.zh: must be a table"),
        ("look_for = ", "look_for ", "ours.toml:13: $: is not TOML"),
    ],
)
def test_a_problem_is_told_with_its_place(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new, 1))
    assert any(text.startswith(problem) for text in found), found


def test_every_problem_is_told_at_once() -> None:
    bad = GOOD.replace('severity = "fault"', "").replace('fix = "Clean it."', "")
    assert len(problems(bad)) == 2


def test_an_id_is_taken_once() -> None:
    twice = GOOD + GOOD[GOOD.index("[[entry]]") :]
    assert problems(twice) == ["ours.toml:18: entry.2.id: is the id of an earlier entry of this file"]


def test_what_is_no_text_or_too_much_is_refused() -> None:
    assert problems(b"format = 1\n\xff\n") == ["ours.toml:2: $: is not UTF-8 text"]
    assert problems(b"#" * (MAX_FILE + 1)) == [f"ours.toml:1: $: is larger than {MAX_FILE} bytes"]
    assert problems("[" * 100_000)[0].startswith("ours.toml:1: $: is not TOML")


def test_reading_entries_raises_the_first_problem() -> None:
    with pytest.raises(FormatError, match=r"ours\.toml:5: entry\.1\.id: ") as caught:
        read_entries(GOOD.replace("ours.disk-full", "x").encode(), "ours.toml")
    assert "diagnose lint ours.toml" in str(caught.value.hint)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_told_about_and_raise_nothing(data: bytes) -> None:
    assert read_file(data, "x").problems


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_raises_nothing_but_problems(data: st.DataObject) -> None:
    text = (SHIPPED / "guests.toml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = text[:start] + data.draw(st.text(max_size=10)) + text[end:]
    reading = read_file(damaged.encode(), "x")
    count = damaged.count("\n") + 1
    assert all(1 <= problem.line <= count + 1 for problem in reading.problems)


def test_own_entries_join_the_shipped_and_replace_those_of_their_id(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not of the catalogue")
    replaced = GOOD.replace("ours.disk-full", "firmware.no-epc")
    (tmp_path / "replaced.toml").write_text(replaced)
    entries = {entry.id: entry for entry in load_catalogue(tmp_path)}
    assert len(entries) == len(shipped_entries()) + 1
    assert entries["firmware.no-epc"].english.title == "The store is full"
    assert entries["ours.disk-full"].origin == str(tmp_path / "ours.toml")


def test_two_own_files_may_not_have_one_id(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(FormatError, match="is also an entry of"):
        load_catalogue(tmp_path)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert load_catalogue(tmp_path / "none") == shipped_entries()


def test_an_own_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "dangling.toml").symlink_to("nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        load_catalogue(tmp_path)


def test_own_entries_lie_in_the_configuration_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_folder({"XDG_CONFIG_HOME": "/c"}, root=False) == Path("/c/sgxkit/catalogue.d")
    monkeypatch.setenv("HOME", "/home-of-tests")
    for unusable in ("", "relative"):
        folder = own_folder({"XDG_CONFIG_HOME": unusable}, root=False)
        assert folder == Path("/home-of-tests/.config/sgxkit/catalogue.d")
    assert own_folder({"XDG_CONFIG_HOME": "/c"}, root=True) == Path("/etc/sgxkit/catalogue.d")


def test_the_file_shown_in_the_guide_is_sound() -> None:
    guide = (Path(__file__).parents[4] / "docs/diagnose.md").read_text()
    shown = guide.partition("<!-- catalogue -->\n```toml\n")[2].partition("```\n")[0]
    assert problems(shown) == []
    (entry,) = read_entries(shown.encode(), "guide.toml")
    assert entry.texts("zh") != entry.english


def test_the_guide_explains_every_key_stage_and_placeholder() -> None:
    guide = (Path(__file__).parents[4] / "docs/diagnose.md").read_text()
    rows = "\n".join(line for line in guide.splitlines() if line.startswith("|"))
    for word in (*REQUIRED, *OPTIONAL, *STAGES, *STATES, "{...}", "{word}", "{ }", "{number}", "{hex}"):
        assert f"`{word}`" in rows, word
