"""Reads one file of the catalogue, strictly: every problem is told with its file, line and key.

Format 1 (docs/diagnose.md): a TOML document with ``format``, ``subject`` and ``[[entry]]`` tables. Nothing is
ignored: a key that is not known, a text that is empty and a condition on a check that does not exist are problems.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sgxkit.errors import FormatError
from sgxkit.host.catalogue.entry import (
    STAGES,
    STATES,
    CheckCondition,
    Condition,
    Entry,
    FactCondition,
    Severity,
    Stage,
    State,
    Texts,
)
from sgxkit.host.catalogue.fact_path import scalar_kind
from sgxkit.host.catalogue.pattern import Pattern, PatternError, compile_pattern
from sgxkit.host.catalogue.toml_lines import Path, key_lines
from sgxkit.host.checks.registry import BY_ID
from sgxkit.messages import Language, Message, msg

FORMAT = 1
"""Version of the file format."""

MAX_FILE = 1 << 20
"""Bytes of one file."""

MAX_ENTRIES = 1000
"""Entries of one file."""

MAX_TEXT = 4000
"""Characters of one text."""

MAX_ITEMS = 50
"""Items of one list."""

T = TypeVar("T")

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)+")
_TEXTS = tuple(field.name for field in dataclasses.fields(Texts))
_LANGUAGES: tuple[Language, ...] = ("zh",)
REQUIRED = {"id", "severity", "patterns", "examples", "sources", *_TEXTS}
OPTIONAL = {"stage", "counterexamples", "consequence_of", "raised_by", "lowered_by", "commands", *_LANGUAGES}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: `key` is dotted, with entries numbered from 1."""

    file: str
    line: int
    key: str
    text: Message

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """The problem with its place."""
        return msg("{file}:{line}: {key}: {problem}", file=self.file, line=self.line, key=self.key, problem=self.text)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds: its entries as far as they are sound, and all problems."""

    subject: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]


def read_entries(data: bytes, file: str) -> tuple[Entry, ...]:
    """Return the entries of a file; raises FormatError for the first problem of one that is not sound."""
    reading = read_file(data, file)
    for problem in reading.problems:
        raise FormatError(
            f"{problem.file}:{problem.line}: {problem.key}",
            problem.text,
            hint=msg("`sgxkit diagnose lint {file}` tells all problems at once.", file=file),
        )
    return reading.entries


def read_file(data: bytes, file: str) -> Reading:
    """Read a file and tell everything that is wrong with it; never raises for what the file says."""
    failed: Callable[[int, Message], Reading] = lambda line, text: Reading("", (), (Problem(file, line, "$", text),))  # noqa: E731
    if len(data) > MAX_FILE:
        return failed(1, msg("is larger than {limit} bytes", limit=MAX_FILE))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return failed(data.count(b"\n", 0, error.start) + 1, msg("is not UTF-8 text"))
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"\(at line (\d+)", str(error))
        reason = re.sub(r" \(at .*\)", "", str(error), flags=re.DOTALL)[:200]
        line = int(place[1]) if place else text.count("\n") + 1
        return failed(line, msg("is not TOML: {reason}", reason=reason))
    return _FileReader(document, key_lines(text), file).read()


class _FileReader:
    """Reads one document; `self.problems` grows on the way."""

    def __init__(self, document: dict[str, Any], lines: Mapping[Path, int], file: str) -> None:
        self.document = document
        self.lines = lines
        self.file = file
        self.problems: list[Problem] = []

    def problem(self, path: Path, text: Message) -> None:
        known = path
        while known not in self.lines or self.lines[known] == 0:
            known = known[:-1]
        shown = ".".join(str(part + 1) if isinstance(part, int) else part for part in path)
        self.problems.append(Problem(self.file, self.lines[known], shown or "$", text))

    def read(self) -> Reading:
        for key in sorted(self.document.keys() - {"format", "subject", "stage", "entry"}):
            self.problem((key,), msg("is not a key of this format"))
        if self.document.get("format") != FORMAT or isinstance(self.document.get("format"), bool):
            self.problem(("format",), msg("must be {format}, the version that this sgxkit reads", format=FORMAT))
        subject = self.text((), self.document, "subject") or ""
        stage = self.choice((), self.document, "stage", STAGES, required=False)
        tables = self.document.get("entry", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problem(("entry",), msg("must be tables: [[entry]]"))
            tables = []
        if not 0 < len(tables) <= MAX_ENTRIES:
            self.problem(("entry",), msg("must be 1 to {limit} tables", limit=MAX_ENTRIES))
            tables = tables[:MAX_ENTRIES]
        entries: dict[str, Entry] = {}
        for number, table in enumerate(tables):
            path: Path = ("entry", number)
            before = len(self.problems)
            entry = self.entry(path, table, stage)
            if entry is not None and entry.id in entries:
                self.problem((*path, "id"), msg("is the id of an earlier entry of this file"))
            elif entry is not None and len(self.problems) == before:
                entries[entry.id] = entry
        return Reading(subject, tuple(entries.values()), tuple(self.problems))

    def entry(self, path: Path, table: dict[str, Any], stage_of_file: str | None) -> Entry | None:
        before = len(self.problems)
        for key in sorted(table.keys() - REQUIRED - OPTIONAL):
            self.problem((*path, key), msg("is not a key of this format"))
        name = self.text(path, table, "id")
        if name is not None and not _ID.fullmatch(name):
            self.problem((*path, "id"), msg("must be lower-case words, joined by - and ., as in aesm.no-socket"))
        severity = self.choice(path, table, "severity", tuple(kind.value for kind in Severity))
        stage = self.choice(path, table, "stage", STAGES, required=stage_of_file is None) or stage_of_file
        patterns = self.patterns(path, table)
        english = self.texts(path, table)
        translations = {
            language: texts
            for language in _LANGUAGES
            if language in table and (texts := self.translation((*path, language), table[language])) is not None
        }
        values = {
            key: self.strings(path, table, key, required=key in REQUIRED, stripped=not key.endswith("examples"))
            for key in ("examples", "counterexamples", "consequence_of", "commands", "sources")
        }
        raised, lowered = (self.conditions(path, table, key) for key in ("raised_by", "lowered_by"))
        if len(self.problems) > before or name is None or severity is None or stage is None or english is None:
            return None
        entry = Entry(
            id=name,
            severity=Severity(severity),
            stage=cast(Stage, stage),
            patterns=patterns,
            raised_by=raised,
            lowered_by=lowered,
            english=english,
            translations=translations,
            origin=self.file,
            **values,
        )
        self.check_examples(path, entry)
        return entry

    def check_examples(self, path: Path, entry: Entry) -> None:
        """Each example is recognised, each signature has an example, no counterexample is recognised."""
        examples = [line.encode() for line in entry.examples]
        for number, line in enumerate(examples):
            if not any(pattern.regex.search(line) for pattern in entry.patterns):
                self.problem((*path, "examples", number), msg("has none of the entry's patterns"))
        for number, pattern in enumerate(entry.patterns):
            if not any(pattern.regex.search(line) for line in examples):
                self.problem((*path, "patterns", number), msg("has no line that it recognises among the examples"))
        for number, text in enumerate(entry.counterexamples):
            if entry.recognises(text):
                self.problem((*path, "counterexamples", number), msg("is recognised by the entry's patterns"))

    def patterns(self, path: Path, table: dict[str, Any]) -> tuple[Pattern, ...]:
        found = []
        for number, text in enumerate(self.strings(path, table, "patterns", required=True, stripped=False)):
            try:
                found.append(compile_pattern(text))
            except PatternError as error:
                self.problem((*path, "patterns", number), error.problem)
        return tuple(found)

    def texts(self, path: Path, table: dict[str, Any]) -> Texts | None:
        values = {key: self.text(path, table, key, prose=True) for key in _TEXTS}
        return None if None in values.values() else Texts(**cast("dict[str, str]", values))

    def translation(self, path: Path, table: object) -> Texts | None:
        if not isinstance(table, dict):
            self.problem(path, msg("must be a table"))
            return None
        for key in sorted(table.keys() - set(_TEXTS)):
            self.problem((*path, key), msg("is not a key of this format"))
        return self.texts(path, table)

    def text(self, path: Path, table: dict[str, Any], key: str, *, prose: bool = False) -> str | None:
        value = table.get(key)
        if value is None:
            self.problem((*path, key), msg("is missing"))
            return None
        text = self.string((*path, key), value, prose=prose)
        return " ".join(text.split()) if text is not None and prose else text

    def string(self, path: Path, value: object, *, prose: bool = False, stripped: bool = True) -> str | None:
        if not isinstance(value, str):
            self.problem(path, msg("must be text"))
        elif not value.strip() or len(value) > MAX_TEXT:
            self.problem(path, msg("must be 1 to {limit} characters of text", limit=MAX_TEXT))
        elif not prose and stripped and value != value.strip():
            self.problem(path, msg("begins or ends with a blank"))
        elif not (value.replace("\n", " ") if prose else value).isprintable():
            self.problem(path, msg("holds control characters"))
        else:
            return value
        return None

    def strings(
        self, path: Path, table: dict[str, Any], key: str, *, required: bool = False, stripped: bool = True
    ) -> tuple[str, ...]:
        values = table.get(key, [])
        if key not in table and required:
            self.problem((*path, key), msg("is missing"))
        elif not isinstance(values, list) or len(values) > MAX_ITEMS or (required and not values):
            self.problem(
                (*path, key), msg("must be a list of {least} to {limit} texts", least=int(required), limit=MAX_ITEMS)
            )
        else:
            found = [
                self.string((*path, key, number), value, stripped=stripped) for number, value in enumerate(values)
            ]
            return tuple(text for text in found if text is not None)
        return ()

    def choice(
        self, path: Path, table: dict[str, Any], key: str, choices: tuple[str, ...], *, required: bool = True
    ) -> str | None:
        value = table.get(key)
        if value is None and not required:
            return None
        if value not in choices:
            self.problem((*path, key), msg("must be one of {choices}", choices=", ".join(choices)))
            return None
        return cast(str, value)

    def conditions(self, path: Path, table: dict[str, Any], key: str) -> tuple[Condition, ...]:
        values = table.get(key, [])
        if not isinstance(values, list) or len(values) > MAX_ITEMS or not all(isinstance(v, dict) for v in values):
            self.problem((*path, key), msg("must be a list of tables"))
            return ()
        return tuple(
            condition
            for number, value in enumerate(values)
            for condition in self.condition((*path, key, number), value)
        )

    def condition(self, path: Path, table: dict[str, Any]) -> Iterator[Condition]:
        if table.keys() == {"fact", "equals"}:
            kind = scalar_kind(table["fact"]) if isinstance(table["fact"], str) else None
            if kind is None:
                self.problem((*path, "fact"), msg("is not the path of a text, number or truth value in the facts"))
            elif type(table["equals"]) is not kind:
                self.problem((*path, "equals"), msg("must be of the fact's type, {type}", type=kind.__name__))
            else:
                yield FactCondition(table["fact"], table["equals"])
        elif table.keys() <= {"check", "is", "code"} and {"check", "is"} <= table.keys():
            code = table.get("code")
            if table["check"] not in BY_ID:
                self.problem((*path, "check"), msg("is not a check of `sgxkit doctor`"))
            elif table["is"] not in STATES:
                self.problem((*path, "is"), msg("must be one of {choices}", choices=", ".join(STATES)))
            elif code is not None and not isinstance(code, str):
                self.problem((*path, "code"), msg("must be text"))
            else:
                yield CheckCondition(table["check"], cast(State, table["is"]), code)
        else:
            self.problem(path, msg("must have the keys check and is (and code), or fact and equals"))
