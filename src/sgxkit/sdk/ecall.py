"""Arguments of an ECALL, put into the memory outside as edger8r's untrusted proxies do, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from sgxkit.enclave.platform import OutsideMemory
from sgxkit.errors import InputError
from sgxkit.messages import msg
from sgxkit.sdk.buffers import (
    Content,
    Lookup,
    can_be_written,
    content,
    encoded,
    read_text,
    require_writable,
    returned,
    shared,
    text_bytes,
)
from sgxkit.sdk.edl.syntax import VOID, Attributes, Declaration, Direction, Ecall, Struct
from sgxkit.sdk.layout import ArrayOf, StructLayout, Types
from sgxkit.sdk.values import misfit, pack, unpack


@dataclass(slots=True)
class PassedArguments:
    """The arguments of one ECALL in the memory outside; `address` is that of its ``ms_`` struct, 0 without one."""

    ecall: Ecall
    types: Types
    memory: OutsideMemory
    address: int = 0
    layout: StructLayout | None = None
    blocks: list[int] = field(default_factory=list)
    copies: list[Callable[[], None]] = field(default_factory=list)

    def result(self) -> object:
        """Copy back what comes out, and return what the function returned."""
        for copy in self.copies:
            copy()
        if self.ecall.returns == VOID or self.layout is None:
            return None
        first = self.layout.fields[0]
        return unpack(self.types, first.type, self.memory.read(self.address + first.offset, first.size))

    def free(self) -> None:
        """Give the memory back."""
        for block in self.blocks:
            self.memory.free(block)
        self.blocks.clear()

    def place(self, data: bytes) -> int:
        """Put bytes into memory of their own; returns their address."""
        address = self.memory.allocate(max(1, len(data)))
        self.blocks.append(address)
        self.memory.write(address, data)
        return address

    def write_back(self, what: Content, value: object, address: int, size: int) -> None:
        """When the call is over, copy `size` bytes from `address` into an argument."""
        self.copies.append(lambda: returned(self.types, what, value, self.memory.read(address, size)))


def pass_arguments(ecall: Ecall, arguments: Sequence[object], types: Types, memory: OutsideMemory) -> PassedArguments:
    """Put the arguments of an ECALL into memory; raises InputError for those that do not fit its declaration."""
    passed = PassedArguments(ecall, types, memory, layout=types.marshalling(ecall))
    if passed.layout is None:
        return passed
    values = dict(zip((parameter.name for parameter in ecall.parameters), arguments, strict=True))
    lookup = _lookup(values)
    try:
        members: dict[str, object] = {}
        for parameter in ecall.parameters:
            value, name = values[parameter.name], f"ms_{parameter.name}"
            if parameter.attributes is None:
                members[name] = value
                continue
            address, length = _by_address(passed, parameter, parameter.attributes, value, lookup)
            members[name] = address
            members[f"{name}_len"] = length
        data = bytearray(passed.layout.size)
        for one in passed.layout.fields:
            if one.name in members:
                packed = pack(types, one.type, members[one.name], one.name.removeprefix("ms_"))
                data[one.offset : one.offset + one.size] = packed
        passed.address = passed.place(bytes(data))
    except BaseException:
        passed.free()
        raise
    return passed


def _lookup(values: Mapping[str, object]) -> Lookup:
    def lookup(name: str) -> int:
        value = values.get(name, 0)
        if not isinstance(value, int):
            raise misfit(name, msg("an integer"))
        return value

    return lookup


def _by_address(
    passed: PassedArguments, parameter: Declaration, attributes: Attributes, value: object, lookup: Lookup
) -> tuple[int, int]:
    """The address at which the enclave finds an argument, and the length of a string."""
    if value is None:
        return 0, 0
    if isinstance(value, int):
        return value, _text_length(passed, attributes, value)
    if attributes.text:
        data = text_bytes(attributes, value, parameter.name)
        address = passed.place(data)
        if attributes.direction.copies_out and not isinstance(value, (str, bytes)):
            require_writable(value, parameter.name)
            what = content(passed.types, _sized(parameter, len(data)), lookup)
            passed.write_back(what, value, address, len(data))
        return address, len(data)
    if attributes.user_check:
        return _unchecked(passed, parameter, value), 0
    what = content(passed.types, parameter, lookup)
    if attributes.direction.copies_out:
        require_writable(value, parameter.name)
    if isinstance(what.element, Struct) and what.element.deep_copy and attributes.direction.copies_in:
        return _deep(passed, parameter, what, value, what.element), 0
    data = encoded(passed.types, what, value, parameter.name)
    address = passed.place(data[: what.size])
    if attributes.direction.copies_out:
        passed.write_back(what, value, address, what.size)
    return address, 0


def _text_length(passed: PassedArguments, attributes: Attributes, address: int) -> int:
    return len(read_text(passed.memory, address, attributes)) if attributes.text else 0


def _sized(parameter: Declaration, size: int) -> Declaration:
    return Declaration(parameter.name, parameter.type, attributes=Attributes(Direction.INOUT, size=size))


def _unchecked(passed: PassedArguments, parameter: Declaration, value: object) -> int:
    """What is passed with user_check is shared memory: all that is given, copied back where it can be written."""
    given = value.encode("utf-8", "surrogateescape") + b"\0" if isinstance(value, str) else value
    what = shared(passed.types, parameter)
    data = encoded(passed.types, what, given, parameter.name)
    address = passed.place(data)
    if can_be_written(given):
        element = passed.types.size(what.element)
        whole = Content(ArrayOf(what.element, (len(data) // element,)), what.element, len(data))
        passed.write_back(what if what.size else whole, given, address, what.size or len(data))
    return address


def _deep(passed: PassedArguments, parameter: Declaration, what: Content, value: object, struct: Struct) -> int:
    """Structs with what their members point at; both are copied back for [in, out]."""
    structs = [value] if isinstance(value, Mapping) else value
    size = passed.types.size(struct)
    if not isinstance(structs, Sequence) or isinstance(structs, str) or len(structs) * size < what.size:
        raise misfit(parameter.name, msg("a sequence of {count}", count=what.size // size))
    out = parameter.attributes is not None and parameter.attributes.direction.copies_out
    packed = b""
    members: list[tuple[Mapping[str, object], list[str]]] = []
    for number, one in enumerate(structs[: what.size // size]):
        name = f"{parameter.name}[{number}]"
        if not isinstance(one, Mapping) or (out and not isinstance(one, MutableMapping)):
            raise misfit(name, msg("a mapping of the struct's members"))
        addresses = _members(passed, struct, one, name, out=out)
        packed += pack(passed.types, struct, {**one, **addresses}, name)
        members.append((one, list(addresses)))
    address = passed.place(packed)
    if out:

        def copy_back() -> None:
            for number, (one, kept) in enumerate(members):
                found = unpack(passed.types, struct, passed.memory.read(address + number * size, size))
                assert isinstance(found, dict)
                assert isinstance(one, MutableMapping)
                one.update({key: new for key, new in found.items() if key not in kept})

        passed.copies.append(copy_back)
    return address


def _members(
    passed: PassedArguments, struct: Struct, values: Mapping[str, object], name: str, *, out: bool
) -> dict[str, int]:
    """Place what the members of a struct point at; returns their addresses."""
    addresses: dict[str, int] = {}
    for member in struct.members:
        value = values.get(member.name)
        if member.attributes is None or not member.attributes.sized or isinstance(value, int):
            continue
        addresses[member.name] = 0
        if value is None:
            continue
        where = f"{name}.{member.name}"
        if isinstance(value, str):
            raise misfit(where, msg("a buffer, a list, an address or None"))
        what = content(passed.types, member, _lookup(values))
        if out:
            require_writable(value, where)
        data = encoded(passed.types, what, value, where)
        addresses[member.name] = passed.place(data[: what.size])
        if out:
            passed.write_back(what, value, addresses[member.name], what.size)
    return addresses


def missing(ecall: Ecall) -> InputError:
    """The error about a call with too many or too few arguments."""
    names = ", ".join(parameter.name for parameter in ecall.parameters)
    return InputError(msg("{function} takes {names}", function=ecall.name, names=names or "()"))
