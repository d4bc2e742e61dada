"""What EDL can say, as values (Intel SGX Developer Reference for Linux, "Enclave Definition Language Syntax")."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Kind = Literal["signed", "unsigned", "float", "void"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands: a file, a line and a column, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Position("", 0, 0)


@dataclass(frozen=True, slots=True)
class Basic:
    """A type that C has by itself; its size, in bytes, is also its alignment."""

    name: str
    size: int
    kind: Kind

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Named:
    """A struct, union or enum by its name, or, without a tag, a type that a C header defines."""

    tag: Literal["struct", "union", "enum", ""]
    name: str

    def __str__(self) -> str:
        return f"{self.tag} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer to something."""

    to: CType

    def __str__(self) -> str:
        return f"{self.to}*"


CType = Basic | Named | Pointer

# The sizes are those of x86-64 in the System V ABI, 3.1.2: the only ones that 64-bit enclaves on Linux have.
_BASICS: tuple[tuple[str, int, Kind], ...] = (
    ("char", 1, "signed"),
    ("unsigned char", 1, "unsigned"),
    ("short", 2, "signed"),
    ("unsigned short", 2, "unsigned"),
    ("int", 4, "signed"),
    ("unsigned int", 4, "unsigned"),
    ("long", 8, "signed"),
    ("unsigned long", 8, "unsigned"),
    ("long long", 8, "signed"),
    ("unsigned long long", 8, "unsigned"),
    ("float", 4, "float"),
    ("double", 8, "float"),
    ("long double", 16, "float"),
    ("int8_t", 1, "signed"),
    ("int16_t", 2, "signed"),
    ("int32_t", 4, "signed"),
    ("int64_t", 8, "signed"),
    ("uint8_t", 1, "unsigned"),
    ("uint16_t", 2, "unsigned"),
    ("uint32_t", 4, "unsigned"),
    ("uint64_t", 8, "unsigned"),
    ("size_t", 8, "unsigned"),
    ("wchar_t", 4, "signed"),
    ("void", 0, "void"),
)
BASICS = {name: Basic(name, size, kind) for name, size, kind in _BASICS}
VOID, CHAR, UNSIGNED_CHAR, WCHAR = (BASICS[name] for name in ("void", "char", "unsigned char", "wchar_t"))


class Direction(Enum):
    """Which way what a pointer points at is copied."""

    NONE = ""
    IN = "in"
    OUT = "out"
    INOUT = "in, out"

    @property
    def copies_in(self) -> bool:
        return self in (Direction.IN, Direction.INOUT)

    @property
    def copies_out(self) -> bool:
        return self in (Direction.OUT, Direction.INOUT)


Extent = int | str
"""A number, or the name of the parameter that has it."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stands in brackets before a pointer or an array."""

    direction: Direction = Direction.NONE
    size: Extent | None = None
    count: Extent | None = None
    string: bool = False
    wstring: bool = False
    isptr: bool = False
    isary: bool = False
    readonly: bool = False
    user_check: bool = False

    @property
    def sized(self) -> bool:
        return self.size is not None or self.count is not None

    @property
    def text(self) -> bool:
        return self.string or self.wstring


@dataclass(frozen=True, slots=True)
class Declaration:
    """A parameter, or a member of a struct or union.

    attributes   of what is passed by address; None for what is passed by value.
    dimensions   of an array, outermost first.
    """

    name: str
    type: CType
    dimensions: tuple[int, ...] = ()
    attributes: Attributes | None = None
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct that the EDL file defines."""

    name: str
    members: tuple[Declaration, ...]
    position: Position = field(default=NOWHERE, compare=False)

    @property
    def deep_copy(self) -> bool:
        """Whether a member says how much it points at, so that this is copied too."""
        return any(member.attributes is not None and member.attributes.sized for member in self.members)


@dataclass(frozen=True, slots=True)
class Union:
    """A union that the EDL file defines."""

    name: str
    members: tuple[Declaration, ...]
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enum; a value is a number, the name of another one, or None for one more than the value before."""

    name: str
    values: tuple[tuple[str, Extent | None], ...]
    position: Position = field(default=NOWHERE, compare=False)


Composite = Struct | Union | Enumeration


@dataclass(frozen=True, slots=True)
class Ecall:
    """A trusted function. A private one can only be called while an OCALL that allows it is served."""

    name: str
    returns: CType
    parameters: tuple[Declaration, ...]
    private: bool
    switchless: bool
    position: Position = field(default=NOWHERE, compare=False)


Convention = Literal["cdecl", "stdcall", "fastcall", ""]


@dataclass(frozen=True, slots=True)
class Ocall:
    """An untrusted function. `allow` names the ECALLs that may be made while it is served."""

    name: str
    returns: CType
    parameters: tuple[Declaration, ...]
    allow: tuple[str, ...] = ()
    convention: Convention = ""
    dllimport: bool = False
    propagate_errno: bool = False
    switchless: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Import:
    """``from "path" import names``; no names are all."""

    path: str
    names: tuple[str, ...]
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class EdlFile:
    """One file, its imports not yet followed. `name` is that of the file without ``.edl``."""

    name: str
    includes: tuple[str, ...]
    imports: tuple[Import, ...]
    composites: tuple[Composite, ...]
    ecalls: tuple[Ecall, ...]
    ocalls: tuple[Ocall, ...]
