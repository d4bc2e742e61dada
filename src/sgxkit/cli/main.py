"""`sgxkit`: the root of the command line, and what becomes of errors."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from itertools import pairwise
from typing import Annotated, Any

import typer

from sgxkit import __version__
from sgxkit.cli import (
    aesm,
    collateral,
    diagnose,
    doctor,
    enclave,
    gramine,
    k8s,
    lab,
    options,
    output,
    quote,
    quote_verify,
    ratls,
    secrets,
    selftest,
    setup,
    support_bundle,
    up,
)
from sgxkit.cli import run as run_program
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
diagnose.register(app)
support_bundle.register(app)
quote.register(app)
quote_verify.register(app)
collateral.register(app)
enclave.register(app)
gramine.register(app)
aesm.register(app)
lab.register(app)
k8s.register(app)
setup.register(app)
up.register(app)
run_program.register(app)
selftest.register(app)
ratls.register(app)
secrets.register(app)


def _report(error: SgxkitError, *, as_json: bool) -> None:
    if as_json:
        _print_json_error(error.code, str(error), None if error.hint is None else str(error.hint))
        return
    _print_error(output.say(error.message), None if error.hint is None else output.say(error.hint))


def _report_usage(error: typer.TyperException, *, as_json: bool) -> None:
    context: Any = getattr(error, "ctx", None)
    if context is not None and error.format_message() == context.get_help():
        sys.stderr.write(f"{context.get_help()}\n")  # a group without a command: what there is to choose from
        return
    from sgxkit.cli.usage import usage_message

    problem = usage_message(error.format_message())
    hint = msg("`{command} --help` lists what is possible", command=context.command_path if context else "sgxkit")
    if as_json:
        _print_json_error("usage", str(problem), str(hint))
    else:
        _print_error(output.say(problem), output.say(hint))


def _print_json_error(code: str, message: str, hint: str | None) -> None:
    output.print_json({"error": {"code": code, "message": message, "hint": hint}})


def _print_error(message: str, hint: str | None) -> None:
    from rich.text import Text

    console = output.console(stderr=True)
    console.print(Text.assemble((output.say(msg("error:")), "bold red"), " ", message))
    if hint is not None:
        console.print(Text.assemble((output.say(msg("hint:")), "bold"), " ", hint))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code (docs/exit-codes.md); nothing escapes but the exit code."""
    options.reset_settings()
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="sgxkit", standalone_mode=False)
        sys.stdout.flush()  # here, where a failure can still be told, rather than at the end of the process
        return code if isinstance(code, int) else 0
    except SgxkitError as error:
        if _debugging(arguments):
            traceback.print_exc()
        _report(error, as_json=_wants_json(arguments))
        return error.exit_code
    except typer.TyperException as error:
        _heed_language(arguments)
        _report_usage(error, as_json=_wants_json(arguments))
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        _print_error(output.say(msg("interrupted")), None)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_went_away()
    except SystemExit as stop:
        # rich and typer turn a broken pipe into exit code 1, which here would say "refused" or "not ready".
        if isinstance(stop.__context__, BrokenPipeError):
            return _reader_went_away()
        raise
    except Exception as error:  # noqa: BLE001 - the last line: a bug is reported as a bug, not as a traceback
        if _debugging(arguments):
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is None and error.errno in _CANNOT_WRITE:
            _discard_output()
            _print_error(output.say(msg("standard output cannot be written: {reason}", reason=error.strerror)), None)
            return EXIT_USAGE
        if isinstance(error, OSError) and "--install-completion" in arguments:
            _print_error(
                output.say(msg("{path} cannot be written: {reason}", path=error.filename, reason=error.strerror)),
                None,
            )
            return EXIT_USAGE
        _print_error(
            output.say(msg("a bug in sgxkit: {kind}: {text}", kind=type(error).__name__, text=error)),
            output.say(msg("run it again with --debug and report what it prints")),
        )
        return EXIT_BUG


_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _reader_went_away() -> int:
    """`sgxkit ... | head`: not an error of ours."""
    _discard_output()
    return 128 + signal.SIGPIPE


def _discard_output() -> None:
    # Python flushes standard output at exit; it must not find the same trouble again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _debugging(arguments: list[str]) -> bool:
    return options.settings().debug or "--debug" in arguments


def _wants_json(arguments: list[str]) -> bool:
    """Whether errors are wanted as JSON, also where the command line could not be read to its --json."""
    return options.settings().json or "--json" in arguments


def _heed_language(arguments: list[str]) -> None:
    """Follow --lang also where the command line could not be read so far."""
    words = " ".join(arguments).replace("--lang=", "--lang ").split(" ")
    for language in options.LANGUAGES:
        if ("--lang", language) in pairwise(words):
            options.choose(json=False, debug=False, no_color=False, lang=language)


def _open_standard_streams() -> None:
    """Open what the caller closed (``2>&-``), and let no encoding of the caller's lose a result."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the lowest free number each time, so that no file of ours becomes a standard stream
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def main() -> None:
    """Run the command line of this process; the entry point of the installed program."""
    _open_standard_streams()
    sys.exit(run(sys.argv[1:]))
