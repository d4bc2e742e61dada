"""Manifest templates: Jinja with the names that Gramine's renderer gives (gramine-manifest of release 1.9).

A template is its author's program, like a Makefile: it reads the environment and runs `ldd` and interpreters that it
names. Jinja's sandbox keeps it from Python's inner workings, no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any

from sgxkit.errors import InputError
from sgxkit.gramine.finding import Finding, ManifestError, RefusedBy, error
from sgxkit.gramine.installation import USUAL_FOLDERS, Installation
from sgxkit.messages import Message, msg

RUN_SECONDS = 60
"""What a program that a template runs may take."""

_TEMPLATE = "<template>"

# What is asked of the interpreter, once: what Gramine's renderer finds in its own.
_ASK_PYTHON = """
import json, sys, sysconfig
from types import SimpleNamespace
implementation = {name: value for name, value in vars(sys.implementation).items()
                  if isinstance(value, (str, int)) and not name.startswith("_")}
implementation["version"] = list(sys.implementation.version)
paths = sysconfig.get_paths()
json.dump({
    "paths": paths,
    "distlib": sysconfig.get_path("stdlib", vars={"py_version_short": sys.version_info[0]}) + "/dist-packages",
    "vars": {name: value for name, value in sysconfig.get_config_vars().items()
             if isinstance(value, (str, int, type(None)))},
    "implementation": implementation,
}, sys.stdout)
"""
_ASK_SYS_PATH = "import sys; print('\\0'.join(path for path in sys.path if path), end='')"


def render_template(
    text: str,
    definitions: Mapping[str, object],
    *,
    file: str,
    installation: Installation | None,
    python: Path | None = None,
) -> str:
    """Render a template to TOML.

    definitions   the names that ``-D`` gives; others than these and Gramine's own are errors.
    installation  None: the usual place is assumed, which is enough to check what was rendered.
    python        the interpreter that `python` stands for in the template; None: the system's.

    Raises ManifestError with the template's line, and InputError where a program that it runs fails.
    """
    jinja2 = _load_jinja2()
    from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415 - an extra

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.globals.update(
        gramine=_gramine(installation or Installation(USUAL_FOLDERS[0])),
        python=_Python(python or system_python()),
        env=os.environ,
        ldd=ldd,
    )
    try:
        return str(environment.from_string(text).render(**definitions))
    except jinja2.TemplateSyntaxError as problem:
        raise _template_error(file, problem.lineno, problem.message or "") from problem
    except jinja2.TemplateError as problem:
        raise _template_error(file, _line(problem.__traceback__), problem.message or "") from problem
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise _template_error(file, _line(problem.__traceback__), said) from problem


def is_template(name: str, text: str) -> bool:
    """Whether a file is a template, by its name or by Jinja's marks in it."""
    return name.endswith(".template") or "{{" in text or "{%" in text


def in_template(findings: list[Finding], template: str, rendered: str) -> list[Finding]:
    """Give findings, whose lines are those of what was rendered, the lines of the template.

    A line is the one with the same text, or the one that has the key, if there is one only; else it is left out.
    """
    lines, sources = rendered.splitlines(), [line.strip() for line in template.splitlines()]
    numbers: dict[str, list[int]] = {}
    for number, line in enumerate(sources, 1):
        numbers.setdefault(line, []).append(number)

    def place(finding: Finding) -> int | None:
        if finding.line is None:
            return None
        same = numbers.get(lines[finding.line - 1].strip(), [])
        if len(same) == 1:  # else every line is looked at: too slow for thousands of findings
            return same[0]
        key = next((part for part in reversed(finding.path) if isinstance(part, str)), None)
        named = [number for number, line in enumerate(sources, 1) if key is not None and key in line]
        return named[0] if len(named) == 1 else None

    return [replace(finding, line=place(finding)) for finding in findings]


def ldd(*binaries: str | os.PathLike[str]) -> list[str]:
    """Return the libraries that programs load, as `ldd` of this machine finds them, sorted."""
    output = _run(["ldd", *(os.fspath(binary) for binary in binaries)]).decode(errors="replace")
    found = set()
    for line in output.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] == "=>" and words[2].startswith("/"):
            found.add(words[2])
        elif len(words) >= 2 and words[0].startswith("/") and words[1].startswith("/"):
            found.add(words[0])
    return sorted(found)


def system_python() -> Path:
    """The interpreter that Gramine's own renderer runs in: the distribution's."""
    usual = Path("/usr/bin/python3")
    return usual if usual.exists() else Path(sys.executable)


def _gramine(installation: Installation) -> dict[str, object]:
    return {
        "libos": installation.libos,
        "pkglibdir": installation.folder,
        "runtimedir": _RuntimeFolder(installation.runtime),
    }


class _RuntimeFolder:
    """`gramine.runtimedir`, which templates write with and without parentheses."""

    def __init__(self, runtime: Callable[[str], Path]) -> None:
        self._runtime = runtime

    def __call__(self, libc: str = "glibc") -> Path:
        return self._runtime(libc)

    def __str__(self) -> str:
        return str(self())

    def __truediv__(self, other: str) -> Path:
        return self() / other


class _Python:
    """`python`: where an interpreter has its libraries. It is asked when a template first wants to know."""

    def __init__(self, interpreter: Path) -> None:
        self._interpreter = interpreter

    @cached_property
    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(_run([str(self._interpreter), "-c", _ASK_PYTHON]))
        return answer

    @property
    def stdlib(self) -> Path:
        return Path(self._answer["paths"]["stdlib"])

    @property
    def platstdlib(self) -> Path:
        return Path(self._answer["paths"]["platstdlib"])

    @property
    def purelib(self) -> Path:
        return Path(self._answer["paths"]["purelib"])

    @property
    def distlib(self) -> Path:
        return Path(self._answer["distlib"])

    @property
    def ext_suffix(self) -> str:
        return str(self._answer["vars"]["EXT_SUFFIX"])

    @property
    def implementation(self) -> SimpleNamespace:
        return SimpleNamespace(**self._answer["implementation"])

    def get_config_var(self, name: str) -> object:
        return self._answer["vars"].get(name)

    def get_path(self, name: str) -> str:
        return str(self._answer["paths"][name])

    def get_paths(self) -> dict[str, str]:
        return dict(self._answer["paths"])

    def get_sys_path(self, interpreter: str, include_nonexisting: bool = False) -> Iterator[Path]:
        for folder in _run([os.fspath(interpreter), "-c", _ASK_SYS_PATH]).split(b"\0"):
            path = Path(os.fsdecode(folder))
            if include_nonexisting or path.exists():
                yield path


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=RUN_SECONDS)  # noqa: S603 - the template's
    except subprocess.CalledProcessError as problem:
        said = problem.stderr.decode(errors="replace").strip() or problem.stdout.decode(errors="replace").strip()
        raise _run_error(command, said.splitlines()[-1] if said else str(problem.returncode)) from problem
    except subprocess.TimeoutExpired as problem:
        raise _run_error(command, msg("it took over {seconds} seconds", seconds=RUN_SECONDS)) from problem
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise _run_error(command, reason or str(problem)) from problem
    return done.stdout


def _run_error(command: list[str], reason: str | Message) -> InputError:
    shown = " ".join(command[:2])
    return InputError(msg("the template runs {command}, which failed: {reason}", command=shown, reason=reason))


def _template_error(file: str, line: int | None, reason: str) -> ManifestError:
    finding = error("template", (), msg("the template cannot be rendered: {reason}", reason=reason), RefusedBy.SCHEMA)
    return ManifestError(file, [replace(finding, line=line)])


def _line(trace: TracebackType | None) -> int | None:
    """The template's line that an error came from."""
    found = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _TEMPLATE:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _load_jinja2() -> ModuleType:
    try:
        import jinja2  # noqa: PLC0415
    except ImportError as problem:
        raise missing_extra("Jinja2") from problem
    return jinja2


def missing_extra(package: str) -> InputError:
    """Say how to get a package of the extra `gramine`."""
    return InputError(
        msg("this needs {package}, which is not installed", package=package),
        hint=msg("{command} installs it", command="pip install 'sgxkit[gramine]'"),
    )
