"""docs/doctor.md says of every check what it is and which profile asks for it."""

from __future__ import annotations

from pathlib import Path

from sgxkit.host.checks.registry import CHECKS
from sgxkit.host.profiles import PROFILES, Readiness
from sgxkit.host.report import requirement

TEXT = (Path(__file__).parents[3] / "docs/doctor.md").read_text(encoding="utf-8")
MARKS = {"required": "●", "watched": "○", "none": ""}


def rows(heading: str) -> list[list[str]]:
    """The table that begins with the column `heading`, without its two head lines."""
    lines = TEXT.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[:1] + table[2:]


def test_the_table_of_checks_is_the_registry() -> None:
    head, *body = rows("check")
    assert head == ["check", "title", "reads", "supported when", *PROFILES]
    assert [(row[0], row[1]) for row in body] == [(f"`{check.id}`", str(check.title)) for check in CHECKS]
    assert all(row[2] and row[3] for row in body)
    for row, check in zip(body, CHECKS, strict=True):
        assert row[4:] == [MARKS[requirement(profile, check.id)] for profile in PROFILES.values()], check.id


def test_the_table_of_profiles_is_the_profiles() -> None:
    _, *body = rows("profile")
    assert [row[0] for row in body] == [f"`{name}`" for name in PROFILES]


def test_the_exit_codes_are_those() -> None:
    _, *body = rows("code")
    assert [int(row[0]) for row in body] == [*(readiness.value for readiness in Readiness), 3]
