"""New projects: a manifest template, a Makefile, a Containerfile, a README and a test for a program in Gramine.

The files are in `projects/`: those of one kind of program, over those that are common to all. Words in @ are
replaced; all else stands as it is, so that the templates can be read, tested and changed like what becomes of them.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sgxkit.errors import InputError
from sgxkit.messages import msg

KINDS = (
    "helloworld",
    "python",
    "pytorch",
    "tensorflow",
    "openjdk",
    "sqlite",
    "redis",
    "nginx",
    "nodejs",
    "custom",
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLACE = re.compile(r"@(?P<name>[a-z_]+)@")
_SETTINGS = "project.toml"
_MANIFEST = "manifest.template"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is to be known of a kind of program, from its ``project.toml``.

    summary    one sentence.
    packages   of Debian, that it needs.
    pip        Python packages that it needs beside.
    expected   what the test looks for in what the program prints.
    sources    files that the manifest trusts and that a change of makes another manifest.
    rules      of the Makefile, to build what is built; `built` are the files.
    """

    summary: str
    packages: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    expected: str = ""
    sources: tuple[str, ...] = ()
    rules: str = ""
    built: tuple[str, ...] = ()


def create_project(folder: Path, kind: str, *, manifest: str | None = None) -> list[Path]:
    """Make a project in a folder that is not there yet, or is empty, and return its files.

    The folder's name is the program's. `manifest` is a template to be taken instead of the kind's own. Raises
    InputError where the folder has something in it or cannot be made, and for a name that is none for a program.
    """
    require_new(folder)
    name = folder.absolute().name
    files = project_files(name, kind)
    if manifest is not None:
        files[f"{name}.manifest.template"] = manifest
    temporary = folder.absolute().with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir()
        for file, content in files.items():
            path = temporary / file
            path.write_text(content, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)
        temporary.replace(folder)
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=folder, reason=problem.strerror or problem)
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / file for file in sorted(files)]


def require_new(folder: Path) -> None:
    """Raise InputError where a project cannot be made at `folder`: its name, or something that is there."""
    name = folder.absolute().name
    if _NAME.fullmatch(name) is None:
        raise InputError(
            msg("{name} cannot be the name of a program", name=name),
            hint=msg("letters, digits, dots, dashes and underscores are possible"),
        )
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as problem:
        raise InputError(
            msg("{path} cannot be read: {reason}", path=folder, reason=problem.strerror or problem)
        ) from problem
    if taken:
        raise InputError(msg("{path} is there already", path=folder), hint=msg("name a new folder"))


def project_files(name: str, kind: str) -> dict[str, str]:
    """Return the files of a project, by their names."""
    texts = {**_texts("common"), **_texts(kind)}
    written: dict[str, Any] = tomllib.loads(texts.pop(_SETTINGS))
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in written.items()
    }
    settings = Kind(**values)
    words = _words(name, settings)
    return {f"{name}.{_MANIFEST}" if file == _MANIFEST else file: fill(text, words) for file, text in texts.items()}


def _words(name: str, kind: Kind) -> Mapping[str, str]:
    needed = [*kind.sources, *kind.built]
    return {
        "name": name,
        "summary": kind.summary,
        "packages": " ".join(kind.packages),
        "package_list": ", ".join(f"`{package}`" for package in kind.packages),
        "pip": "".join(f" '{package}'" for package in kind.pip),
        "expected": kind.expected,
        "sources": "".join(f" {file}" for file in needed),
        "rules": f"{kind.rules.strip()}\n\n" if kind.rules else "",
        "built": "".join(f" {file}" for file in kind.built),
    }


def fill(text: str, words: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: words.get(found["name"], found[0]), text)


def _texts(kind: str) -> dict[str, str]:
    folder = resources.files("sgxkit.gramine") / "projects" / kind
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()}
