"""Every sentence of the doctor has a Chinese translation with the same fields, and none is left over."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import sgxkit
from sgxkit.locale import catalog
from sgxkit.locale.zh_host import CATALOG

SOURCE = Path(sgxkit.__file__).parent
FILES = "qcnl.py rapidjson.py profiles.py report.py tree.py html.py wording.py output_file.py"
OURS = (
    "host/checks",
    "host/remedies",
    *(f"host/{name}" for name in FILES.split()),
    "cli/doctor.py",
    "cli/progress.py",
)


def templates() -> Iterator[str]:
    for name in OURS:
        path = SOURCE / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "msg":
                    yield ast.literal_eval(call.args[0])


def fields(template: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}


def test_every_template_is_translated() -> None:
    found = set(templates())
    assert len(found) > 400
    assert sorted(found - set(catalog("zh"))) == []


def test_no_translation_is_left_over() -> None:
    assert sorted(set(CATALOG) - set(templates())) == []


def test_translations_have_the_same_fields() -> None:
    assert [english for english, chinese in CATALOG.items() if fields(english) != fields(chinese)] == []
