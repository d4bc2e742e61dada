"""Checking a manifest: TOML, the schema, the rules, and on which line each thing stands."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import Any

from sgxkit.gramine.finding import Finding, ManifestError, RefusedBy, error
from sgxkit.gramine.rules import rule_findings
from sgxkit.gramine.schema import MANIFEST, replacement
from sgxkit.gramine.shape import mismatches
from sgxkit.gramine.toml_lines import Path, key_lines
from sgxkit.messages import msg

MAX_MANIFEST_SIZE = 64 << 20
"""Bytes. A manifest with 20,000 trusted files has three million."""

_AT_LINE = re.compile(r" \(at line (?P<line>\d+), column \d+\)$")


def parse(text: str, file: str) -> dict[str, Any]:
    """Parse TOML; ManifestError with the line where it is none."""
    try:
        return tomllib.loads(text)
    except ValueError as problem:  # numbers and dates that TOML allows and Python cannot hold, too
        said = str(problem)
        place = _AT_LINE.search(said)
        finding = error(
            "toml", (), msg("not TOML: {reason}", reason=_AT_LINE.sub("", said).rstrip(".")), RefusedBy.SCHEMA
        )
        line = int(place["line"]) if place else text.count("\n") + 1 if "end of document" in said else None
        raise ManifestError(file, [replace(finding, line=line)]) from problem
    except RecursionError as problem:
        nested = error("toml", (), msg("arrays or tables are nested too deeply"), RefusedBy.SCHEMA)
        raise ManifestError(file, [nested]) from problem


def decode(content: bytes, file: str) -> str:
    """Decode a manifest as TOML wants it; ManifestError where it is too large or no UTF-8."""
    if len(content) > MAX_MANIFEST_SIZE:
        problem = msg("over {limit} bytes is no manifest", limit=MAX_MANIFEST_SIZE)
        raise ManifestError(file, [error("toml", (), problem, RefusedBy.SCHEMA)])
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        finding = error("toml", (), msg("not TOML: {reason}", reason="not UTF-8"), RefusedBy.SCHEMA)
        raise ManifestError(file, [replace(finding, line=line)]) from problem


def check_text(text: str, file: str) -> list[Finding]:
    """Return everything that is found in a manifest's text, in the order of its lines; empty where all is well."""
    try:
        manifest = parse(text, file)
    except ManifestError as problem:
        return list(problem.findings)
    return with_lines(check(manifest), text)


def check(manifest: dict[str, Any]) -> list[Finding]:
    """Return everything that is found in a parsed manifest, without lines."""
    found: dict[tuple[str, Path], Finding] = {}
    for finding in (*map(_explained, mismatches(MANIFEST, manifest)), *rule_findings(manifest)):
        found.setdefault((finding.code, finding.path), finding)
    return list(found.values())


def with_lines(findings: list[Finding], text: str) -> list[Finding]:
    """Add to each finding the line where its key stands in `text`, or the nearest table or array around it."""
    if not findings:
        return []
    lines = key_lines(text)
    placed = [replace(finding, line=_line(lines, finding.path)) for finding in findings]
    return sorted(placed, key=lambda finding: (finding.line or 0, finding.key))


def _line(lines: dict[Path, int], path: Path) -> int | None:
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _explained(finding: Finding) -> Finding:
    """Add what is to be written now to a finding about a key, or a way of writing, that older releases had."""
    if finding.code == "unknown-key":
        instead = replacement(finding.key)
        if instead is not None:
            return replace(finding, code="removed-key", problem=msg("is a key of older releases"), fix=instead)
        return finding
    match finding.path:
        case ("loader", "entrypoint"):
            return replace(finding, fix=msg("write loader.entrypoint.uri; a string is the form before 1.8"))
        case ("sgx", "trusted_files" | "allowed_files"):
            return replace(finding, fix=msg("write an array; tables with names are the form before 1.0"))
        case ("sgx", "remote_attestation"):
            return replace(finding, fix=msg('write "none" or "dcap"; true and "epid" are of older releases'))
    return finding
