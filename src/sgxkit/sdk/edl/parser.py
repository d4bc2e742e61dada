"""EDL, token by token: the grammar that edger8r of Intel's SDK accepts, without what files say about each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from sgxkit.errors import FormatError
from sgxkit.messages import Message, msg
from sgxkit.sdk.edl.attributes import (
    AttributeValue,
    function_attributes,
    member_declaration,
    parameter_declaration,
    require_usable_pointers,
)
from sgxkit.sdk.edl.lexer import Token, refuse, shown, tokens
from sgxkit.sdk.edl.syntax import (
    BASICS,
    VOID,
    Composite,
    CType,
    Declaration,
    Ecall,
    EdlFile,
    Enumeration,
    Extent,
    Import,
    Named,
    Ocall,
    Pointer,
    Struct,
    Union,
)

_MAX_POINTERS = 16
_MAX_DIMENSIONS = 16
_MAX_ELEMENTS = 1 << 32

_TYPE_WORDS = {"char", "short", "unsigned", "int", "float", "double", "long"}
_KEYWORDS = (
    _TYPE_WORDS
    | (BASICS.keys() - {name for name in BASICS if " " in name})
    | {"struct", "union", "enum", "enclave", "trusted", "untrusted", "from", "import", "allow", "public"}
    | {"transition_using_threads", "include", "propagate_errno", "const"}
)


def parse_edl(data: bytes, file: str) -> EdlFile:
    """Read one EDL file, called `file` in errors; raises FormatError with file, line and column."""
    return _Parser(data, file).file()


def parse_type(text: str) -> tuple[CType, tuple[int, ...]]:
    """Read a C type as EDL writes it, and after it the dimensions of an array: ``uint8_t[16]``."""
    parser = _Parser(text.encode(), text)
    kind = parser.full_type()
    dimensions = parser.dimensions()
    parser.take("end", "")
    if kind == VOID:
        raise FormatError(text, msg("the type has no size"))
    return kind, dimensions


class _Parser:
    def __init__(self, data: bytes, file: str) -> None:
        self.name = PurePath(file).name.removesuffix(".edl")
        self.tokens = tokens(data, file)
        self.now = next(self.tokens)

    # Tokens

    def advance(self) -> Token:
        taken, self.now = self.now, next(self.tokens, self.now)
        return taken

    def unexpected(self) -> FormatError:
        return refuse(self.now.position, msg("unexpected {token}", token=shown(self.now)))

    def at(self, text: str) -> bool:
        return self.now.kind in ("word", "symbol") and self.now.text == text

    def skip(self, text: str) -> bool:
        """Take `text` if it stands here."""
        if self.at(text):
            self.advance()
            return True
        return False

    def take(self, kind: str, text: str | None = None) -> Token:
        if self.now.kind != kind or (text is not None and self.now.text != text):
            raise self.unexpected()
        return self.advance()

    def symbol(self, text: str) -> Token:
        return self.take("symbol", text)

    def word(self, text: str) -> Token:
        return self.take("word", text)

    def identifier(self) -> Token:
        if self.now.kind != "word" or self.now.text in _KEYWORDS:
            raise self.unexpected()
        return self.advance()

    def separated(self, item: Callable[[], None], end: str) -> None:
        """One item or more with commas between them, up to `end`."""
        item()
        while not self.skip(end):
            self.symbol(",")
            item()

    # The file

    def file(self) -> EdlFile:
        includes: list[str] = []
        imports: list[Import] = []
        composites: list[Composite] = []
        ecalls: list[Ecall] = []
        ocalls: list[Ocall] = []
        self.word("enclave")
        self.symbol("{")
        while not self.skip("}"):
            if self.at("include"):
                includes.append(self.include())
            elif self.at("from"):
                imports.append(self.import_())
            elif self.skip("trusted"):
                self.block(includes, lambda: ecalls.append(self.ecall()))
            elif self.skip("untrusted"):
                self.block(includes, lambda: ocalls.append(self.ocall()))
            elif self.now.text in ("struct", "union", "enum"):
                composites.append(self.composite())
            else:
                raise self.unexpected()
        self.symbol(";")
        self.take("end")
        return EdlFile(self.name, tuple(includes), tuple(imports), tuple(composites), tuple(ecalls), tuple(ocalls))

    def include(self) -> str:
        self.word("include")
        return self.take("string").text

    def import_(self) -> Import:
        position = self.word("from").position
        path = self.take("string").text
        self.word("import")
        names: list[str] = []
        if self.skip("*"):
            self.symbol(";")
        else:
            self.separated(lambda: names.append(self.identifier().text), ";")
        return Import(path, tuple(names), position)

    def block(self, includes: list[str], function: Callable[[], None]) -> None:
        self.symbol("{")
        while self.at("include"):
            includes.append(self.include())
        while not self.skip("}"):
            function()
        self.symbol(";")

    # Functions

    def ecall(self) -> Ecall:
        public = self.skip("public")
        name, returns, parameters = self.function()
        switchless = self.skip("transition_using_threads")
        self.symbol(";")
        require_usable_pointers(name.text, parameters)
        return Ecall(name.text, returns, parameters, not public, switchless, name.position)

    def ocall(self) -> Ocall:
        convention, dllimport = function_attributes(self.attributes() if self.at("[") else ())
        name, returns, parameters = self.function()
        allow: list[str] = []
        if self.skip("allow"):
            self.symbol("(")
            if not self.skip(")"):
                self.separated(lambda: allow.append(self.identifier().text), ")")
        errno = self.skip("propagate_errno")
        switchless = self.skip("transition_using_threads")
        errno = errno or self.skip("propagate_errno")
        self.symbol(";")
        require_usable_pointers(name.text, parameters)
        return Ocall(
            name.text, returns, parameters, tuple(allow), convention, dllimport, errno, switchless, name.position
        )

    def function(self) -> tuple[Token, CType, tuple[Declaration, ...]]:
        returns = self.full_type()
        if self.at("["):
            raise refuse(self.now.position, msg("an array cannot be returned"), hint=msg("return a pointer"))
        name = self.identifier()
        parameters: list[Declaration] = []
        self.symbol("(")
        if self.skip(")"):
            return name, returns, ()
        first = self.parameter(alone=True)
        if first is None:
            return name, returns, ()
        parameters.append(first)
        while not self.skip(")"):
            self.symbol(",")
            parameter = self.parameter()
            assert parameter is not None
            parameters.append(parameter)
        _require_distinct(parameters)
        return name, returns, tuple(parameters)

    def parameter(self, *, alone: bool = False) -> Declaration | None:
        """A parameter; None for a single ``void``, where it may stand `alone`."""
        attributes = self.attributes() if self.at("[") else None
        constant = self.skip("const")
        kind = self.type_specifier()
        if alone and kind == VOID and attributes is None and not constant and self.skip(")"):
            return None
        if constant and not self.at("*"):
            raise self.unexpected()
        kind = self.pointers(kind)
        name = self.identifier()
        return parameter_declaration(name, kind, self.dimensions(), attributes, constant=constant)

    # Types

    def full_type(self) -> CType:
        return self.pointers(self.type_specifier())

    def pointers(self, kind: CType) -> CType:
        for _ in range(_MAX_POINTERS):
            if not self.skip("*"):
                return kind
            kind = Pointer(kind)
        raise self.unexpected()

    def type_specifier(self) -> CType:
        if self.now.kind != "word":
            raise self.unexpected()
        for tag in ("struct", "union", "enum"):
            if self.skip(tag):
                return Named(tag, self.identifier().text)
        if self.now.text in _TYPE_WORDS:
            return BASICS[self.arithmetic()]
        if self.now.text in BASICS:
            return BASICS[self.advance().text]
        return Named("", self.identifier().text)

    def arithmetic(self) -> str:
        """The types that are written with several words, by the one name that each has here."""
        unsigned = self.skip("unsigned")
        prefix = "unsigned " if unsigned else ""
        if self.skip("char"):
            return f"{prefix}char"
        if not unsigned and (self.at("float") or self.at("double")):
            return self.advance().text
        if self.skip("short"):
            self.skip("int")
            return f"{prefix}short"
        if self.skip("long"):
            if not unsigned and self.skip("double"):
                return "long double"
            if self.skip("long"):
                return f"{prefix}long long"
            self.skip("int")
            return f"{prefix}long"
        if not unsigned:
            self.word("int")
            return "int"
        self.skip("int")
        return "unsigned int"

    def dimensions(self) -> tuple[int, ...]:
        found: list[int] = []
        elements = 1
        while self.at("["):
            position = self.advance().position
            if self.at("]"):
                raise refuse(position, msg("an array needs its size"))
            count = int(self.take("number").text)
            self.symbol("]")
            if not count:
                raise refuse(position, msg("an array cannot be empty"))
            found.append(count)
            elements *= count
            if elements > _MAX_ELEMENTS or len(found) > _MAX_DIMENSIONS:
                raise refuse(position, msg("the array is too large"))
        return tuple(found)

    def attributes(self) -> tuple[AttributeValue, ...]:
        found: list[AttributeValue] = []

        def one() -> None:
            name = self.identifier()
            found.append(AttributeValue(name.text, self.extent() if self.skip("=") else None, name.position))

        begin = self.symbol("[")
        if self.at("]"):
            raise refuse(begin.position, msg("no attribute stands between the brackets"))
        self.separated(one, "]")
        return tuple(found)

    def extent(self) -> Extent:
        return int(self.advance().text) if self.now.kind == "number" else self.identifier().text

    # Structs, unions, enums

    def composite(self) -> Composite:
        keyword = self.advance()
        if keyword.text == "enum":
            return self.enumeration(keyword)
        name = self.identifier()
        self.symbol("{")
        members: list[Declaration] = []
        while not members or not self.at("}"):
            members.append(self.member(keyword.text))
            self.symbol(";")
        self.symbol("}")
        self.symbol(";")
        _require_distinct(members)
        composite = Struct if keyword.text == "struct" else Union
        return composite(name.text, tuple(members), name.position)

    def member(self, of: str) -> Declaration:
        attributes = self.attributes() if of == "struct" and self.at("[") else None
        kind = self.full_type()
        name = self.identifier()
        return member_declaration(name, kind, self.dimensions(), attributes)

    def enumeration(self, keyword: Token) -> Enumeration:
        name = "" if self.at("{") else self.identifier().text
        values: list[tuple[str, Extent | None]] = []

        def one() -> None:
            key = self.identifier().text
            values.append((key, self.extent() if self.skip("=") else None))

        self.symbol("{")
        if not self.skip("}"):
            self.separated(one, "}")
        self.symbol(";")
        return Enumeration(name, tuple(values), keyword.position)


def _require_distinct(declarations: list[Declaration]) -> None:
    seen: set[str] = set()
    for declaration in declarations:
        if declaration.name in seen:
            raise refuse(declaration.position, _twice(declaration.name))
        seen.add(declaration.name)


def _twice(name: str) -> Message:
    return msg("{name} is declared twice", name=name)
