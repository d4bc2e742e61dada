"""The examples of docs/emulated-platform.md print what the document says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "emulated-platform.md"
_EXAMPLE = re.compile(
    r"^<!-- runnable: (?P<name>[a-z-]+) -->\n```python\n(?P<code>.*?)^```\n"
    r"\nIt prints:\n\n```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
EXAMPLES = {found["name"]: (found["code"], found["output"]) for found in _EXAMPLE.finditer(DOCUMENT.read_text())}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_prints_what_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = EXAMPLES[name]
    exec(compile(code, f"{DOCUMENT.name}:{name}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == output


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == DOCUMENT.read_text().count("<!-- runnable: ") == 4
