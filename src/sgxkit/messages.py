"""Sentences for people, kept apart from the language they are shown in.

Code writes a sentence once, in English, as a template with named fields: ``msg("{field} is cut short",
field="header")``. The template is also the key of its translation in `sgxkit.locale`, so a message that is
raised deep down can be shown in the reader's language at the edge. What a message carries as JSON is always the
English text: programs and support tickets read the same words everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, LiteralString

from sgxkit.locale import catalog

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Message:
    """One sentence: an English template and the values of its fields (a value may itself be a message)."""

    template: str
    values: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def render(self, language: Language = "en") -> str:
        """Return the sentence in `language`; a template without translation stays English."""
        template = catalog(language).get(self.template, self.template)
        return template.format_map(
            {
                name: value.render(language) if isinstance(value, Message) else value
                for name, value in self.values.items()
            }
        )

    def __str__(self) -> str:
        return self.render()


def msg(template: LiteralString, /, **values: object) -> Message:
    """Make a message; `template` is a literal so that tests can find every sentence and its translation."""
    return Message(template, MappingProxyType(values))


def language_from_environment(environment: Mapping[str, str] = os.environ) -> Language:
    """Return the reader's language: Chinese when the locale for messages says so, else English.

    POSIX order: LC_ALL, LC_MESSAGES, LANG; the first one set decides (POSIX.1-2017, XBD 8.2).
    """
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
