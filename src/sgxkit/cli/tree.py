"""A tree of labelled values, one line each however long, so that a line can be copied, searched and piped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgxkit.cli import output
from sgxkit.messages import Message

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(slots=True)
class Node:
    """One line of a tree: a label, perhaps a value and a note after it, and the lines below."""

    label: str | Message
    value: str | Message | None = None
    style: str = ""
    note: str = ""
    children: list[Node] = field(default_factory=list)

    def add(self, label: str | Message, value: str | Message | None = None, style: str = "", note: str = "") -> Node:
        """Add a line below and return it."""
        child = Node(label, value, style, note)
        self.children.append(child)
        return child


@dataclass(frozen=True, slots=True)
class _Guides:
    """What is drawn before a line and before the lines below it, for the last of its kind and for the others."""

    item: str
    last: str
    below: str
    below_last: str


_DRAWN = _Guides("├─ ", "└─ ", "│  ", "   ")
_PLAIN = _Guides("|- ", "`- ", "|  ", "   ")


def lines(node: Node, encoding: str) -> Iterator[Text]:
    """Render a tree, its root first, in characters that `encoding` has."""
    guides = _DRAWN if _fits("├─└│", encoding) else _PLAIN
    yield _line("", node, "bold", encoding)
    yield from _below(node, "", guides, encoding)


def _below(node: Node, indent: str, guides: _Guides, encoding: str) -> Iterator[Text]:
    for child in node.children:
        last = child is node.children[-1]
        guide = indent + (guides.last if last else guides.item)
        yield _line(guide, child, "bold" if child.children else "", encoding)
        yield from _below(child, indent + (guides.below_last if last else guides.below), guides, encoding)


def _line(guide: str, node: Node, label_style: str, encoding: str) -> Text:
    from rich.text import Text

    line = Text.assemble((guide, "dim"), (_say(node.label, encoding), node.style or label_style))
    if node.value is not None:
        line.append(" " if node.children else ": ")
        line.append(_say(node.value, encoding), node.style)
    if node.note:
        line.append(f"  {node.note}", "dim")
    return line


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _say(text: str | Message, encoding: str) -> str:
    """A line's text: what came from the quote must not be able to start another line or steer the terminal."""
    said = output.say(text) if isinstance(text, Message) else output.printable(text)
    return said if _fits(said, encoding) else said.encode(encoding, "backslashreplace").decode(encoding)
