"""What is said about a manifest: which key, on which line, what is wrong, what to write, and who refuses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sgxkit.errors import SgxkitError
from sgxkit.gramine.toml_lines import Path
from sgxkit.messages import Message, msg


class RefusedBy(StrEnum):
    """The first of Gramine's parts that refuses it.

    NOBODY means that everything runs, and does something else than what is written.
    """

    SCHEMA = "gramine-manifest-check"
    SIGNER = "gramine-sgx-sign"
    LOADER = "gramine-sgx"
    NOBODY = "nobody"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one key.

    code  stable, for programs.
    path  of the key; empty for the whole file.
    line  counted from 1; None where the key is not in the file (it is missing).
    fix   what to write or do; None where that follows from the problem.
    """

    code: str
    severity: Severity
    path: Path
    problem: Message
    refused_by: RefusedBy
    fix: Message | None = None
    line: int | None = None

    @property
    def key(self) -> str:
        """The key as it is written in TOML, with indices in brackets: ``fs.mounts[0].uri``."""
        return dotted(self.path)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def sentence(self) -> Message:
        """The key and the problem."""
        if not self.path:
            return self.problem
        return msg("{key}: {problem}", key=self.key, problem=self.problem)

    def to_json(self) -> dict[str, object]:
        return {
            "code": self.code,
            "severity": str(self.severity),
            "key": self.key,
            "line": self.line,
            "problem": str(self.problem),
            "fix": None if self.fix is None else str(self.fix),
            "refused_by": str(self.refused_by),
        }


def dotted(path: Path) -> str:
    """Write a path as TOML does; keys that are no bare keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part and part.isascii() and part.replace("-", "").replace("_", "").isalnum()
            written = part if bare else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{written}" if text else written
    return text


def error(code: str, path: Path, problem: Message, by: RefusedBy, fix: Message | None = None) -> Finding:
    return Finding(code, Severity.ERROR, path, problem, by, fix)


def warning(code: str, path: Path, problem: Message, fix: Message | None = None) -> Finding:
    return Finding(code, Severity.WARNING, path, problem, RefusedBy.NOBODY, fix)


class ManifestError(SgxkitError):
    """A manifest that cannot be used: what was found, the first of it as the message."""

    code = "manifest"
    exit_code = 3

    def __init__(self, file: str, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        first = self.findings[0]
        more = len(self.findings) - 1
        place = file if first.line is None else f"{file}:{first.line}"
        message = msg("{place}: {problem}", place=place, problem=first.sentence())
        if more:
            message = msg("{first} (and {count} more)", first=message, count=more)
        super().__init__(message, hint=first.fix)
