"""The options that every command takes: --json, --debug, --no-color, --lang.

They may stand before or after the command's name. `command` registers a function as a command and adds them; what
was chosen is read with `settings()`.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperCommand

from sgxkit.errors import InputError
from sgxkit.messages import Language, language_from_environment, msg

COMMON_PANEL = "Common options"


@dataclass(frozen=True, slots=True)
class Settings:
    """How results and errors are shown."""

    json: bool = False
    debug: bool = False
    color: bool = True
    language: Language = "en"


_settings: ContextVar[Settings] = ContextVar("settings")


def settings() -> Settings:
    """Return what the common options of this run say."""
    return _settings.get()


def reset_settings() -> None:
    """Begin a run: nothing chosen yet, the language as the environment has it."""
    _settings.set(Settings(language=language_from_environment()))


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=COMMON_PANEL)]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=COMMON_PANEL)
]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="Print plain text.", rich_help_panel=COMMON_PANEL)]
LANGUAGES: tuple[Language, ...] = get_args(Language)
LanguageOption = Annotated[
    Literal["en", "zh"] | None,
    typer.Option("--lang", help="Language of messages.", rich_help_panel=COMMON_PANEL),
]


def choose(*, json: bool, debug: bool, no_color: bool, lang: Language | None) -> None:
    """Add what one place of the command line chose to what was chosen before it."""
    now = settings()
    _settings.set(
        replace(
            now,
            json=now.json or json,
            debug=now.debug or debug,
            color=now.color and not no_color,
            language=lang or now.language,
        )
    )


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


_COMMON = (
    _parameter("json", JsonOption, False),
    _parameter("debug", DebugOption, False),
    _parameter("no_color", NoColorOption, False),
    _parameter("lang", LanguageOption, None),
)


class _Command(TyperCommand):
    """A command that refuses an option with one value which is given twice, rather than let the last one count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = [] if ctx.resilient_parsing else self.make_parser(ctx).parse_args(args=list(args))[2]
        for parameter, times in Counter(given).items():
            options: Any = parameter
            if times > 1 and options.param_type_name == "option" and not (options.multiple or options.is_flag):
                raise InputError(
                    msg("{option} is given more than once", option=options.opts[0]),
                    hint=msg("it would not be clear which of them counts"),
                )
        return super().parse_args(ctx, args)


def command(
    app: typer.Typer, name: str, *, options_first: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as the command `name` of `app`, with the common options added to its own.

    With `options_first`, everything from the first argument on is an argument.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)

        @functools.wraps(function)
        def run(*args: Any, json: bool, debug: bool, no_color: bool, lang: Language | None, **own: Any) -> None:
            choose(json=json, debug=debug, no_color=no_color, lang=lang)
            try:
                function(*args, **own)
            except KeyboardInterrupt as interrupt:
                # typer would make exit code 130 of it, which a command may also mean: a program that it ran ended so.
                raise typer.Abort from interrupt

        parameters = [*signature.parameters.values(), *_COMMON]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        context: dict[str, Any] = {"allow_interspersed_args": False} if options_first else {}
        app.command(name, cls=_Command, context_settings=context)(run)
        return function

    return register
