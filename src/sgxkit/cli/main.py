"""`sgxkit`: the root of the command line, and what becomes of errors."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer

from sgxkit import __version__
from sgxkit.cli import collateral, doctor, options, output, quote, quote_verify
from sgxkit.errors import SgxkitError
from sgxkit.messages import msg

EXIT_USAGE = 3
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="sgxkit",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a bare machine to an attested Intel SGX workload, and the proof of it.",
    epilog="Documentation: docs/ of the source, or https://github.com/sgxkit/sgxkit/tree/main/docs",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sgxkit {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    json: options.JsonOption = False,
    debug: options.DebugOption = False,
    no_color: options.NoColorOption = False,
    lang: options.LanguageOption = None,
) -> None:
    del version
    options.choose(json=json, debug=debug, no_color=no_color, lang=lang)


doctor.register(app)
quote.register(app)
quote_verify.register(app)
collateral.register(app)


def _report(error: SgxkitError) -> None:
    if options.settings().json:
        output.print_json(
            {
                "error": {
                    "code": error.code,
                    "message": str(error),
                    "hint": None if error.hint is None else str(error.hint),
                }
            }
        )
        return
    _print_error(output.say(error.message), None if error.hint is None else output.say(error.hint))


def _print_error(message: str, hint: str | None) -> None:
    from rich.text import Text

    console = output.console(stderr=True)
    console.print(Text.assemble((output.say(msg("error:")), "bold red"), " ", message))
    if hint is not None:
        console.print(Text.assemble((output.say(msg("hint:")), "bold"), " ", hint))


def _usage_hint(error: typer.TyperException) -> str:
    context: Any = getattr(error, "ctx", None)
    path = "sgxkit" if context is None else context.command_path
    return output.say(msg("`{command} --help` lists what is possible", command=path))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code (docs/exit-codes.md); nothing escapes but the exit code."""
    options.reset_settings()
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="sgxkit", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SgxkitError as error:
        if _debugging(arguments):
            traceback.print_exc()
        _report(error)
        return error.exit_code
    except typer.TyperException as error:
        _print_error(output.printable(error.format_message()), _usage_hint(error))
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        _print_error(output.say(msg("interrupted")), None)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`sgxkit ... | head`): not an error of ours. Python flushes standard output at exit;
        # it must not find the broken pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last line: a bug is reported as a bug, not as a traceback
        if _debugging(arguments):
            traceback.print_exc()
        _print_error(
            output.say(msg("a bug in sgxkit: {kind}: {text}", kind=type(error).__name__, text=error)),
            output.say(msg("run it again with --debug and report what it prints")),
        )
        return EXIT_BUG


def _debugging(arguments: list[str]) -> bool:
    return options.settings().debug or "--debug" in arguments


def main() -> None:
    """Run the command line of this process; the entry point of the installed program."""
    sys.exit(run(sys.argv[1:]))
