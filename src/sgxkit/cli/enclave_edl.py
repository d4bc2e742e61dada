"""`sgxkit enclave edl`: the interface that an EDL file declares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import settings
from sgxkit.cli.tree import Node, lines
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.sdk.edl.interface import Interface
    from sgxkit.sdk.edl.syntax import Composite, Declaration, Ecall, Ocall
    from sgxkit.sdk.layout import StructLayout, Types


def edl(
    file: Annotated[Path, typer.Argument(help="An EDL file.")],
    *,
    search_path: Annotated[
        list[Path] | None,
        typer.Option("--search-path", help="Look for imports here first; may be repeated.", metavar="DIR"),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="What a type of a C header is, such as key_t=uint8_t[16]; repeatable.", metavar="NAME=TYPE"
        ),
    ] = None,
    library: Annotated[
        bool, typer.Option("--library", help="Others import the file: it needs no public ECALL.")
    ] = False,
) -> None:
    """Show an EDL file and what it imports: the numbers of ECALLs and OCALLs, and how C lays out what they pass.

    Exit code: 0 shown, 3 the file is no EDL, contradicts itself, or cannot be read.
    """
    from sgxkit.sdk.document import interface_document
    from sgxkit.sdk.edl.interface import read_interface
    from sgxkit.sdk.layout import Types

    described = dict(_type(text) for text in types or ())
    interface = read_interface(file, search=search_path or (), library=library)
    known = Types(interface, described)
    if settings().json:
        output.print_json(interface_document(interface, known))
        return
    console = output.console()
    for line in lines(_tree(str(file), interface, known), console.encoding):
        console.print(line)
    for warning in interface.warnings:
        output.console(stderr=True).print(output.say(msg("warning: {text}", text=warning)), style="yellow")


def _type(text: str) -> tuple[str, str]:
    from sgxkit.sdk.edl.parser import parse_type

    name, equals, kind = text.partition("=")
    if not equals or not name:
        raise InputError(msg("{text} is not NAME=TYPE", text=text))
    parse_type(kind)
    return name, kind


def _tree(path: str, interface: Interface, types: Types) -> Node:
    root = Node(msg("interface {path}", path=path))
    ecalls = root.add("ECALL", str(len(interface.ecalls)))
    for number, ecall in enumerate(interface.ecalls):
        _add_function(ecalls, number, ecall, types)
    ocalls = root.add("OCALL", str(len(interface.ocalls)))
    for number, ocall in enumerate(interface.ocalls):
        _add_function(ocalls, number, ocall, types)
    if interface.composites:
        node = root.add(msg("types"), str(len(interface.composites)))
        for composite in interface.composites:
            _add_composite(node, composite, types)
    for label, values in ((msg("files"), interface.files), (msg("C headers"), interface.includes)):
        if values:
            node = root.add(label, str(len(values)))
            for value in values:
                node.add(value)
    return root


def _add_function(node: Node, number: int, function: Ecall | Ocall, types: Types) -> None:
    from sgxkit.sdk.document import marshalling

    below = node.add(f"{number} {signature(function)}", note=_notes(function))
    layout, unknown = marshalling(function, types)
    if unknown is not None:
        below.add(msg("layout"), unknown)
    elif layout is not None:
        _add_layout(below, f"ms_{function.name}_t", layout)


def _add_layout(node: Node, name: str, layout: StructLayout) -> None:
    below = node.add(name, msg("{size} bytes", size=layout.size))
    for field in layout.fields:
        below.add(f"{field.offset:#06x} {field.name}", field.text)


def _add_composite(node: Node, composite: Composite, types: Types) -> None:
    from sgxkit.sdk.edl.syntax import Enumeration

    if isinstance(composite, Enumeration):
        below = node.add(f"enum {composite.name}".strip())
        for name, value in composite.values:
            below.add(name, None if value is None else str(value))
        return
    try:
        _add_layout(node, f"{type(composite).__name__.lower()} {composite.name}", types.layout(composite))
    except InputError as error:
        node.add(f"{type(composite).__name__.lower()} {composite.name}", error.message)


def signature(function: Ecall | Ocall) -> str:
    """A function's declaration, as EDL writes it."""
    parameters = ", ".join(_parameter(parameter) for parameter in function.parameters)
    return f"{function.returns} {function.name}({parameters})"


def _parameter(declaration: Declaration) -> str:
    attributes = declaration.attributes
    constant = "const " if attributes is not None and attributes.readonly and not attributes.isptr else ""
    words = []
    if attributes is not None:
        words = [attributes.direction.value] if attributes.direction.value else []
        flags = ("string", "wstring", "isptr", "isary", "user_check", *(() if constant else ("readonly",)))
        words += [name for name in flags if getattr(attributes, name)]
        words += [f"{name}={getattr(attributes, name)}" for name in ("size", "count") if getattr(attributes, name)]
    brackets = f"[{', '.join(words)}] " if words else ""
    dimensions = "".join(f"[{count}]" for count in declaration.dimensions)
    return f"{brackets}{constant}{declaration.type} {declaration.name}{dimensions}"


def _notes(function: Ecall | Ocall) -> str:
    from sgxkit.sdk.edl.syntax import Ecall

    notes = [] if not function.switchless else ["switchless"]
    if isinstance(function, Ecall):
        notes += ["private" if function.private else "public"]
    else:
        notes += [f"allow({', '.join(function.allow)})"] if function.allow else []
        notes += ["propagate_errno"] if function.propagate_errno else []
    return " ".join(notes)
