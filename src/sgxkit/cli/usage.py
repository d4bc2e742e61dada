"""What typer says of a command line that it cannot read, as messages, so that it too can be said in Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable

from sgxkit.messages import Message, msg

_Make = Callable[..., Message]

_PROBLEMS: tuple[tuple[str, _Make], ...] = (
    (r"(?P<value>'.*') is not one of (?P<choices>.+)\.", lambda **it: msg("{value} is not one of {choices}.", **it)),
    (
        r"Input should be greater than or equal to (?P<limit>\S+)",
        lambda **it: msg("Input should be greater than or equal to {limit}", **it),
    ),
    (
        r"Input should be less than or equal to (?P<limit>\S+)",
        lambda **it: msg("Input should be less than or equal to {limit}", **it),
    ),
    (r"Input should be a valid number.*", lambda: msg("Input should be a valid number")),
    (r"Input should be a valid integer.*", lambda: msg("Input should be a valid integer")),
    (r"path (?P<path>'.*') is not readable\.", lambda **it: msg("path {path} is not readable.", **it)),
)
_SENTENCES: tuple[tuple[str, _Make], ...] = (
    (
        r"No such option: (?P<option>\S+) \(Possible options: (?P<names>.+)\)",
        lambda **it: msg("No such option: {option} (Possible options: {names})", **it),
    ),
    (r"No such option: (?P<option>\S+)", lambda **it: msg("No such option: {option}", **it)),
    (
        r"No such command (?P<name>'.*')\. Did you mean (?P<near>'.*')\?",
        lambda **it: msg("No such command {name}. Did you mean {near}?", **it),
    ),
    (r"No such command (?P<name>'.*')\.", lambda **it: msg("No such command {name}.", **it)),
    (r"Missing command\.", lambda: msg("Missing command.")),
    (r"Missing argument (?P<name>'.*')\.", lambda **it: msg("Missing argument {name}.", **it)),
    (
        r"Got unexpected extra argument\(s\) \((?P<arguments>.*)\)",
        lambda **it: msg("Got unexpected extra argument(s) ({arguments})", **it),
    ),
    (r"Option (?P<name>'.*') requires an argument\.", lambda **it: msg("Option {name} requires an argument.", **it)),
    (
        r"Option (?P<name>'.*') does not take a value\.",
        lambda **it: msg("Option {name} does not take a value.", **it),
    ),
    (
        r"Invalid value for (?P<name>'\S+'): (?P<problem>.+)",
        lambda name, problem: msg(
            "Invalid value for {name}: {problem}", name=name, problem=_match(problem, _PROBLEMS)
        ),
    ),
)


def usage_message(text: str) -> Message:
    """Return typer's sentence as a message; one that is not known here stays as it is."""
    return _match(text.replace("Value error, ", ""), _SENTENCES)


def _match(text: str, known: tuple[tuple[str, _Make], ...]) -> Message:
    for pattern, make in known:
        if (found := re.fullmatch(pattern, text, re.DOTALL)) is not None:
            return make(**found.groupdict())
    return msg("{text}", text=text)
