"""Every sentence has its Chinese, with the same fields, and no translation is left over."""

from __future__ import annotations

import ast
import string
from functools import cache
from pathlib import Path

import pytest

import sgxkit
from sgxkit.locale import catalog
from sgxkit.messages import Message, language_from_environment, msg

SOURCE = Path(sgxkit.__file__).parent
CHINESE = catalog("zh")


@cache
def templates() -> dict[str, str]:
    """Each template in the source, and a place where it stands."""
    found: dict[str, str] = {}
    for path in SOURCE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "msg(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "msg":
                template = node.args[0]
                assert isinstance(template, ast.Constant), f"{path}:{node.lineno}: not a literal"
                found.setdefault(template.value, f"{path.relative_to(SOURCE)}:{node.lineno}")
    return found


def fields_of(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_every_sentence_is_translated() -> None:
    missing = {template: place for template, place in templates().items() if template not in CHINESE}
    assert missing == {}


def test_no_translation_is_left_over() -> None:
    assert set(CHINESE) - set(templates()) == set()


def test_a_translation_has_the_same_fields() -> None:
    different = {
        template: translation
        for template, translation in CHINESE.items()
        if fields_of(translation) != fields_of(template)
    }
    assert different == {}


def test_messages_render_messages_inside_them() -> None:
    inner = msg("must be a string")
    outer = Message("{field}: {problem}", {"field": "x", "problem": inner})
    assert outer.render("en") == "x: must be a string"
    assert CHINESE["must be a string"] in outer.render("zh")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, "en"),
    ],
)
def test_the_locale_decides(environment: dict[str, str], language: str) -> None:
    assert language_from_environment(environment) == language
