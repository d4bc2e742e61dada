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


def lines(node: Node) -> Iterator[Text]:
    """Render a tree, its root first."""
    yield _line("", node, "bold")
    yield from _below(node, "")


def _below(node: Node, indent: str) -> Iterator[Text]:
    for child in node.children:
        last = child is node.children[-1]
        yield _line(indent + ("└─ " if last else "├─ "), child, "bold" if child.children else "")
        yield from _below(child, indent + ("   " if last else "│  "))


def _line(guide: str, node: Node, label_style: str) -> Text:
    from rich.text import Text

    line = Text.assemble((guide, "dim"), (_say(node.label), label_style or node.style))
    if node.value is not None:
        line.append(": " if label_style == "" else " ")
        line.append(_say(node.value), node.style)
    if node.note:
        line.append(f"  {node.note}", "dim")
    return line


def _say(text: str | Message) -> str:
    """A line's text: what came from the quote must not be able to start another line or steer the terminal."""
    said = output.say(text) if isinstance(text, Message) else text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in said)
