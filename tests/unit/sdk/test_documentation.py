"""The examples of docs/sdk-enclaves.md print what the document says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from doubles.compiled_enclave import EDL, compiled_enclave

DOCUMENT = Path(__file__).parents[3] / "docs" / "sdk-enclaves.md"
_EXAMPLE = re.compile(
    r"^<!-- runnable: (?P<name>[a-z-]+) -->\n```python\n(?P<code>.*?)^```\n"
    r"\nIt prints:\n\n```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
EXAMPLES = {found["name"]: (found["code"], found["output"]) for found in _EXAMPLE.finditer(DOCUMENT.read_text())}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_prints_what_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name != "interface":
        compiled_enclave(tmp_path)
        shutil.copy(EDL, tmp_path)
        monkeypatch.chdir(tmp_path)
    code, output = EXAMPLES[name]
    exec(compile(code, f"{DOCUMENT.name}:{name}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == output


def test_every_example_is_run() -> None:
    assert EXAMPLES
    assert len(EXAMPLES) == DOCUMENT.read_text().count("<!-- runnable: ")
