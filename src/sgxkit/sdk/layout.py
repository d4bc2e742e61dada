"""How C lays out what goes in and out of an enclave (System V ABI for x86-64, 3.1.2).

What edger8r passes is one struct for a function; `Types.marshalling` lays it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from sgxkit.errors import InputError
from sgxkit.messages import msg
from sgxkit.sdk.edl.interface import Interface
from sgxkit.sdk.edl.parser import parse_type
from sgxkit.sdk.edl.syntax import (
    BASICS,
    VOID,
    Basic,
    CType,
    Declaration,
    Ecall,
    Enumeration,
    Named,
    Ocall,
    Pointer,
    Struct,
    Union,
)

POINTER_SIZE = 8
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Opaque:
    """A type of which only the size and the alignment are known, both in bytes; in Python it is bytes."""

    size: int
    alignment: int = 1


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """An array, outermost dimension first."""

    element: Resolved
    dimensions: tuple[int, ...]


Resolved = Basic | Pointer | Opaque | ArrayOf | Struct | Union | Enumeration
"""A type after all names in it have been looked up."""

KnownType = str | Opaque
"""What a caller says of a type that a C header defines: a C type as EDL writes it (``uint8_t[16]``), or its size."""

# Types of Intel's headers and of the C library that EDL files name, as SDK 2.26 has them.
SDK_TYPES: Mapping[str, KnownType] = {
    **dict.fromkeys(("sgx_status_t", "quote3_error_t", "sgx_ql_qv_result_t"), "uint32_t"),
    **dict.fromkeys(("sgx_enclave_id_t", "sgx_thread_t", "uintptr_t"), "uint64_t"),
    **dict.fromkeys(("intptr_t", "ptrdiff_t", "ssize_t", "off_t", "time_t", "clock_t"), "int64_t"),
    **dict.fromkeys(("bool", "_Bool"), "uint8_t"),
    **dict.fromkeys(("sgx_ra_context_t", "sgx_misc_select_t", "socklen_t", "mode_t", "uid_t", "gid_t"), "uint32_t"),
    "pid_t": "int32_t",
    **dict.fromkeys(("sgx_isv_svn_t", "sgx_prod_id_t", "sgx_config_svn_t"), "uint16_t"),
    **dict.fromkeys(
        ("sgx_key_128bit_t", "sgx_ra_key_128_t", "sgx_aes_gcm_128bit_key_t", "sgx_aes_gcm_128bit_tag_t"), Opaque(16)
    ),
    **dict.fromkeys(
        ("sgx_cmac_128bit_key_t", "sgx_cmac_128bit_tag_t", "sgx_aes_ctr_128bit_key_t", "sgx_mac_t"), Opaque(16)
    ),
    **dict.fromkeys(("sgx_cpu_svn_t", "sgx_quote_nonce_t", "sgx_spid_t"), Opaque(16)),
    **dict.fromkeys(("sgx_measurement_t", "sgx_key_id_t", "sgx_sha256_hash_t", "sgx_ec256_private_t"), Opaque(32)),
    **dict.fromkeys(("sgx_report_data_t", "sgx_config_id_t", "sgx_ec256_public_t"), Opaque(64)),
    "sgx_ec256_signature_t": Opaque(64, 4),
    "sgx_attributes_t": Opaque(16, 8),
    "sgx_key_request_t": Opaque(512, 8),
    "sgx_target_info_t": Opaque(512, 8),
    "sgx_report_body_t": Opaque(384, 8),
    "sgx_report_t": Opaque(432, 8),
    "sgx_sealed_data_t": Opaque(560, 8),
    "sgx_ql_qe_report_info_t": Opaque(960, 8),
    "sgx_ra_msg2_t": Opaque(168, 4),
    "sgx_ra_msg3_t": Opaque(336, 4),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a struct: its offset and size in bytes, its type as C writes it."""

    name: str
    type: Resolved
    text: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StructLayout:
    """A struct's members with their offsets; all of a union's are 0."""

    fields: tuple[Field, ...]
    size: int
    alignment: int


class Types:
    """The types of an interface: those that it defines, Intel's, and those that the caller describes."""

    def __init__(self, interface: Interface, known: Mapping[str, KnownType] | None = None) -> None:
        self._composites: dict[tuple[str, str], Struct | Union | Enumeration] = {}
        for composite in interface.composites:
            tag = {Struct: "struct", Union: "union", Enumeration: "enum"}[type(composite)]
            self._composites[tag, composite.name] = composite
        self._known = {**SDK_TYPES, **(known or {})}
        self._layouts: dict[tuple[str, str], StructLayout] = {}
        self._passed_by: dict[str, StructLayout | None] = {}

    def resolve(self, kind: CType, dimensions: tuple[int, ...] = (), depth: int = 0) -> Resolved:
        """Look up a type; raises InputError for one that nobody has described."""
        if dimensions:
            return ArrayOf(self.resolve(kind, (), depth + 1), dimensions)
        if not isinstance(kind, Named):
            return kind
        tags = (kind.tag,) if kind.tag else ("struct", "union", "enum")
        for tag in tags:
            if (tag, kind.name) in self._composites:
                return self._composites[tag, kind.name]
        if kind.tag == "enum":
            return BASICS["unsigned int"]
        described = self._known.get(kind.name)
        if described is None or depth > _MAX_DEPTH:
            raise InputError(
                msg("the size of the type {name} is not known", name=str(kind)),
                hint=msg("a C header defines it: say what it is, such as {name}=uint8_t[16]", name=kind.name),
            )
        if isinstance(described, Opaque):
            return described
        return self.resolve(*parse_type(described), depth + 1)

    def declared(self, declaration: Declaration) -> Resolved:
        """The type of a member."""
        return self.resolve(declaration.type, declaration.dimensions)

    def size(self, kind: Resolved) -> int:
        """Bytes of a value."""
        return self._measure(kind)[0]

    def layout(self, composite: Struct | Union) -> StructLayout:
        """Where the members of a struct or union are."""
        key = (type(composite).__name__, composite.name)
        if key not in self._layouts:
            members = [(member.name, self.declared(member), _text(member)) for member in composite.members]
            self._layouts[key] = self._laid_out(members, union=isinstance(composite, Union))
        return self._layouts[key]

    def marshalling(self, function: Ecall | Ocall) -> StructLayout | None:
        """The struct in which edger8r passes what a function takes and returns; None where that is nothing."""
        if function.name not in self._passed_by:
            self._passed_by[function.name] = self._marshalling(function)
        return self._passed_by[function.name]

    def _marshalling(self, function: Ecall | Ocall) -> StructLayout | None:
        members: list[tuple[str, Resolved, str]] = []
        if function.returns != VOID:
            members.append(("ms_retval", self.resolve(function.returns), str(function.returns)))
        if isinstance(function, Ocall) and function.propagate_errno:
            members.append(("ocall_errno", BASICS["int"], "int"))
        for parameter in function.parameters:
            members += self._passed(parameter, trusted=isinstance(function, Ecall))
        return self._laid_out(members) if members else None

    def _passed(self, parameter: Declaration, *, trusted: bool) -> list[tuple[str, Resolved, str]]:
        attributes = parameter.attributes
        name = f"ms_{parameter.name}"
        if attributes is None:
            return [(name, self.resolve(parameter.type), str(parameter.type))]
        pointer = Pointer(parameter.type) if parameter.dimensions or attributes.isary else parameter.type
        constant = "const " if attributes.readonly and not isinstance(parameter.type, Named) else ""
        # A type of the header with isptr is a pointer, whatever it points at.
        kind = pointer if isinstance(pointer, Pointer) else Pointer(VOID)
        passed: list[tuple[str, Resolved, str]] = [(name, kind, f"{constant}{pointer}")]
        if attributes.text and trusted:
            passed.append((f"{name}_len", BASICS["size_t"], "size_t"))
        return passed

    def _laid_out(self, members: Iterable[tuple[str, Resolved, str]], *, union: bool = False) -> StructLayout:
        fields, offset, end, alignment = [], 0, 0, 1
        for name, kind, text in members:
            size, align = self._measure(kind)
            offset = 0 if union else -(-offset // align) * align
            fields.append(Field(name, kind, text, offset, size))
            offset += size
            end, alignment = max(end, offset), max(alignment, align)
        return StructLayout(tuple(fields), -(-end // alignment) * alignment, alignment)

    def _measure(self, kind: Resolved) -> tuple[int, int]:
        match kind:
            case Basic():
                return kind.size, kind.size or 1
            case Pointer():
                return POINTER_SIZE, POINTER_SIZE
            case Opaque():
                return kind.size, kind.alignment
            case ArrayOf():
                size, align = self._measure(kind.element)
                return size * prod(kind.dimensions), align
            case Enumeration():
                return BASICS["int"].size, BASICS["int"].size
            case _:
                layout = self.layout(kind)
                return layout.size, layout.alignment


def _text(declaration: Declaration) -> str:
    return f"{declaration.type}{''.join(f'[{count}]' for count in declaration.dimensions)}"
