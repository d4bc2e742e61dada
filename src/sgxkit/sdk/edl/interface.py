"""An enclave's whole interface: its EDL file with all that it imports, in the order in which edger8r counts.

The order decides the numbers of ECALLs and OCALLs. A file comes before what it imports, and what was imported
before is not repeated; edger8r compares files by their names alone, and so does this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sgxkit.errors import FormatError, InputError
from sgxkit.messages import Message, msg
from sgxkit.sdk.edl.attributes import require_number
from sgxkit.sdk.edl.builtin import BUILTIN
from sgxkit.sdk.edl.lexer import MAX_SIZE, refuse
from sgxkit.sdk.edl.parser import parse_edl
from sgxkit.sdk.edl.syntax import (
    NOWHERE,
    Composite,
    Declaration,
    Ecall,
    EdlFile,
    Enumeration,
    Import,
    Named,
    Ocall,
    Pointer,
    Position,
    Struct,
    Union,
)

_MAX_FILES = 256
_MAX_FUNCTIONS = 1 << 14
_MAX_DEPTH = 64
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True, slots=True)
class Interface:
    """What an enclave offers and what it asks for; the place of an ECALL or OCALL is its number.

    includes   C headers, in the order in which they are named.
    files      what was read, the enclave's own file first.
    warnings   what edger8r warns of, too.
    """

    name: str
    ecalls: tuple[Ecall, ...]
    ocalls: tuple[Ocall, ...]
    composites: tuple[Composite, ...] = ()
    includes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[Message, ...] = ()


def read_interface(path: Path, *, search: Iterable[Path] = (), library: bool = False) -> Interface:
    """Read an EDL file and what it imports: from the folders `search`, from beside the files, and Intel's own.

    `library` says that others import the file, so that it needs no public ECALL. Raises FormatError with file, line
    and column for what is no EDL or contradicts itself, InputError for a file that cannot be read.
    """
    reader = _Reader((*search, path.parent))
    return _checked(reader.whole(_content(path), str(path), path), reader.files, library=library)


def parse_interface(text: str, *, name: str = "enclave", search: Iterable[Path] = ()) -> Interface:
    """Read an interface from EDL text, and what it imports from the folders `search` or Intel's own."""
    reader = _Reader(tuple(search))
    return _checked(reader.whole(text.encode(), f"{name}.edl", None), reader.files, library=False)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error


class _Reader:
    """Follows imports; `open` are the files from the first one to the one that is being read."""

    def __init__(self, search: Sequence[Path]) -> None:
        self.search = search
        self.open: list[str] = []
        self.files: list[str] = []

    def whole(self, data: bytes, shown: str, path: Path | None) -> EdlFile:
        first, *others = self.followed(self.entered(data, shown, path), path, None, None)
        for other in others:
            first = replace(
                first,
                includes=first.includes + other.includes,
                composites=first.composites + other.composites,
                ecalls=first.ecalls + other.ecalls,
                ocalls=first.ocalls + other.ocalls,
            )
            if len(first.ecalls) + len(first.ocalls) > _MAX_FUNCTIONS:
                raise FormatError(shown, msg("more than {limit} functions", limit=_MAX_FUNCTIONS))
        return first

    def entered(self, data: bytes, shown: str, path: Path | None, by: Position | None = None) -> EdlFile:
        identity = str(path.resolve()) if path is not None else shown
        if identity in self.open:
            raise refuse(by or Position(shown, 1, 1), msg("{path} imports itself", path=shown))
        if len(self.files) == _MAX_FILES:
            raise FormatError(
                shown, msg("{count} of them, at most {limit} are read", count=_MAX_FILES + 1, limit=_MAX_FILES)
            )
        self.open.append(identity)
        self.files.append(shown)
        return parse_edl(data, shown)

    def followed(
        self, file: EdlFile, path: Path | None, names: tuple[str, ...] | None, by: Position | None
    ) -> list[EdlFile]:
        """The file, with the functions `names` of it or with all, and after it what it imports."""
        found, missing = [file], None
        if names is not None:
            own = {ecall.name for ecall in file.ecalls} | {ocall.name for ocall in file.ocalls}
            missing = tuple(name for name in names if name not in own)
            ecalls = tuple(ecall for ecall in file.ecalls if ecall.name in names)
            ocalls = tuple(ocall for ocall in file.ocalls if ocall.name in names)
            found = [replace(file, ecalls=ecalls, ocalls=ocalls)]
            if missing and not file.imports:
                raise refuse(by or NOWHERE, msg("{path} has no {name}", path=file.name, name=missing[0]))
        for wanted in file.imports:
            # A file that was asked for some functions asks all its imports for those that it lacks.
            ask = missing if names is not None else (wanted.names or None)
            for one in self.followed(*self.imported(wanted, path), ask, wanted.position):
                _join(found, one)
        self.open.pop()
        return found

    def imported(self, wanted: Import, by: Path | None) -> tuple[EdlFile, Path | None]:
        folders = self.search if by is None else (*self.search, by.parent)
        for folder in folders:
            path = folder / wanted.path
            if path.is_file():
                return self.entered(_content(path), str(path), path, wanted.position), path
        if wanted.path in BUILTIN:
            return self.entered(BUILTIN[wanted.path].encode(), wanted.path, None, wanted.position), None
        raise refuse(
            wanted.position,
            msg("{path} is not found", path=wanted.path),
            hint=msg("name the folder that it is in as a search path"),
        )


def _join(found: list[EdlFile], one: EdlFile) -> None:
    """Add a file; of one that is there already, only what was not taken before, and without a name."""
    before = next((file for file in found if file.name == one.name), None)
    if before is not None:
        one = EdlFile(
            "",
            (),
            (),
            (),
            tuple(ecall for ecall in one.ecalls if ecall not in before.ecalls),
            tuple(ocall for ocall in one.ocalls if ocall not in before.ocalls),
        )
    found.append(one)


# What the whole must hold


def _checked(file: EdlFile, files: Iterable[str], *, library: bool) -> Interface:
    _require_functions_once(file)
    composites = _distinct_composites(file.composites)
    structs = {composite.name: composite for composite in composites if isinstance(composite, Struct)}
    for struct in structs.values():
        _require_member_sizes(struct)
    _require_finite(composites)
    warnings = []
    if not _IDENTIFIER.fullmatch(file.name):
        warnings.append(msg("the file's name {name} is no identifier of C", name=repr(file.name)))
    for function in _functions(file):
        warnings += [warning for one in function.parameters for warning in _struct_use(function.name, one, structs)]
    ecalls = {ecall.name for ecall in file.ecalls}
    for ocall in file.ocalls:
        for name in ocall.allow:
            if name not in ecalls:
                raise refuse(
                    ocall.position, msg("{ocall} allows {name}, which is no ECALL", ocall=ocall.name, name=name)
                )
    if not library and all(ecall.private for ecall in file.ecalls):
        raise FormatError(file.name, msg("the enclave has no public ECALL: nobody can call it"))
    allowed = {name for ocall in file.ocalls for name in ocall.allow}
    for ecall in file.ecalls:
        if ecall.private and ecall.name not in allowed:
            warnings.append(msg("no OCALL allows the private ECALL {name}", name=ecall.name))
    return Interface(
        file.name,
        file.ecalls,
        file.ocalls,
        composites,
        tuple(dict.fromkeys(file.includes)),
        tuple(files),
        tuple(warnings),
    )


def _functions(file: EdlFile) -> tuple[Ecall | Ocall, ...]:
    return (*file.ecalls, *file.ocalls)


def _require_functions_once(file: EdlFile) -> None:
    seen: dict[str, Position] = {}
    for function in _functions(file):
        if function.name in seen:
            problem = msg("{name} is declared twice, first at {first}", name=function.name, first=seen[function.name])
            raise refuse(function.position, problem)
        seen[function.name] = function.position


def _distinct_composites(composites: Iterable[Composite]) -> tuple[Composite, ...]:
    """All of them; unions and enums of the same content may be repeated, as C headers with guards are."""
    seen: dict[tuple[type[Struct | Union | Enumeration], str], Composite] = {}
    anonymous: list[Composite] = []
    for composite in composites:
        if not composite.name:
            anonymous.append(composite)
            continue
        key = (type(composite), composite.name)
        if key in seen and (isinstance(composite, Struct) or seen[key] != composite):
            first = seen[key].position
            problem = msg("{name} is declared twice, first at {first}", name=composite.name, first=first)
            raise refuse(composite.position, problem)
        seen.setdefault(key, composite)
    return (*seen.values(), *anonymous)


def _require_member_sizes(struct: Struct) -> None:
    members = {member.name: member for member in struct.members}
    for member in struct.members:
        if member.attributes is not None:
            for extent in (member.attributes.size, member.attributes.count):
                if isinstance(extent, str):
                    require_number(extent, members, member, f"struct {struct.name}")


def _require_finite(composites: Iterable[Composite]) -> None:
    """Raise FormatError for a struct or union that contains itself."""
    known = {
        (("struct" if isinstance(one, Struct) else "union"), one.name): one
        for one in composites
        if not isinstance(one, Enumeration)
    }
    finished: set[tuple[str, str]] = set()

    def visit(key: tuple[str, str], inside: tuple[tuple[str, str], ...]) -> None:
        if key in finished or key not in known:
            return
        if key in inside:
            raise refuse(known[key].position, msg("{name} contains itself", name=" ".join(key)))
        if len(inside) == _MAX_DEPTH:
            raise refuse(known[key].position, msg("more than {limit} structs in each other", limit=_MAX_DEPTH))
        for member in known[key].members:
            if isinstance(member.type, Named):
                for tag in (member.type.tag,) if member.type.tag else ("struct", "union"):
                    visit((tag, member.type.name), (*inside, key))
        finished.add(key)

    for key in known:
        visit(key, ())


def _struct_use(function: str, parameter: Declaration, structs: dict[str, Struct]) -> list[Message]:
    """Warnings about a parameter that has to do with a struct; raises FormatError where edger8r refuses."""
    kind = parameter.type
    if isinstance(kind, Named) and kind.tag == "struct" and parameter.attributes is None:
        struct = structs.get(kind.name)
        if struct is None:
            return []
        if struct.deep_copy:
            raise refuse(
                parameter.position,
                msg(
                    "struct {name} is copied with what it points at, so it cannot be passed by value", name=kind.name
                ),
            )
        if any(member.attributes is not None for member in struct.members):
            return [msg("{function}: what struct {name} points at is not copied", function=function, name=kind.name)]
        return []
    if isinstance(kind, Pointer) and isinstance(kind.to, Named) and kind.to.tag == "struct":
        struct = structs.get(kind.to.name)
        attributes = parameter.attributes
        out_only = attributes is not None and attributes.direction.copies_out and not attributes.direction.copies_in
        if struct is not None and struct.deep_copy and out_only:
            raise refuse(
                parameter.position,
                msg("struct {name} is copied with what it points at, so it cannot be [out] alone", name=kind.to.name),
            )
        return []
    inner = kind
    while isinstance(inner, Pointer):
        inner = inner.to
    if isinstance(inner, Named) and not inner.tag and inner.name in structs:
        if structs[inner.name].deep_copy:
            raise refuse(parameter.position, msg("{name} is a struct: write struct {name}", name=inner.name))
        return [msg("{function}: {name} is a struct: write struct {name}", function=function, name=inner.name)]
    return []
