"""An OCALL, from the ``ms_`` struct that the enclave left outside to a Python function and back.

What the enclave writes there is not trusted: lengths have a limit, and every address is read through the memory
that the enclave shares with its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sgxkit.enclave.platform import OutsideMemory
from sgxkit.errors import InputError
from sgxkit.messages import msg
from sgxkit.sdk.buffers import Content, Lookup, content, decoded, encoded, read_text, text_value
from sgxkit.sdk.edl.syntax import VOID, Attributes, Declaration, Ocall, Pointer, Struct
from sgxkit.sdk.layout import Types
from sgxkit.sdk.values import misfit, pack, unpack

Handler = Callable[..., object]


@dataclass(slots=True)
class ServedOcall:
    """One OCALL while its handler runs; `values` are the handler's arguments."""

    ocall: Ocall
    types: Types
    memory: OutsideMemory
    address: int
    values: list[object] = field(default_factory=list)
    copies: list[Callable[[], None]] = field(default_factory=list)

    def finish(self, result: object, errno: int) -> None:
        """Give the enclave what the handler returned and wrote."""
        for copy in self.copies:
            copy()
        layout = self.types.marshalling(self.ocall)
        if layout is None:
            return
        members: dict[str, object] = {"ocall_errno": errno}
        if self.ocall.returns != VOID:
            if result is None and not isinstance(self.ocall.returns, Pointer):
                raise InputError(msg("the handler of {function} returned nothing", function=self.ocall.name))
            members["ms_retval"] = result
        for one in layout.fields:
            if one.name in members:
                packed = pack(self.types, one.type, members[one.name], self.ocall.name)
                self.memory.write(self.address + one.offset, packed)


def receive(ocall: Ocall, address: int, types: Types, memory: OutsideMemory) -> ServedOcall:
    """Read the arguments of an OCALL whose struct is at `address`.

    A handler gets: numbers for what is passed by value, str for strings that only come in, bytearray for other
    strings, an address for user_check, None for NULL, and buffers as `buffers` describes them for everything else.
    """
    served = ServedOcall(ocall, types, memory, address)
    layout = types.marshalling(ocall)
    if layout is None:
        return served
    data = memory.read(address, layout.size)
    raw = {one.name: unpack(types, one.type, data[one.offset : one.offset + one.size]) for one in layout.fields}
    lookup = _lookup({name.removeprefix("ms_"): value for name, value in raw.items()})
    for parameter in ocall.parameters:
        value = raw[f"ms_{parameter.name}"]
        attributes = parameter.attributes
        if attributes is not None and isinstance(value, int) and not attributes.user_check:
            value = _by_address(served, parameter, attributes, value, lookup) if value else None
        served.values.append(value)
    return served


def _lookup(values: Mapping[str, object]) -> Lookup:
    def lookup(name: str) -> int:
        value = values.get(name, 0)
        if not isinstance(value, int):
            raise misfit(name, msg("an integer"))
        return value

    return lookup


def _by_address(
    served: ServedOcall, parameter: Declaration, attributes: Attributes, address: int, lookup: Lookup
) -> object:
    out = attributes.direction.copies_out
    if attributes.text:
        text = read_text(served.memory, address, attributes)
        if not out:
            return text_value(attributes, text)
        changed = bytearray(text)
        served.copies.append(lambda: served.memory.write(address, _same_size(changed, len(text), parameter.name)))
        return changed
    what = content(served.types, parameter, lookup)
    data = served.memory.read(address, what.size)
    value = decoded(served.types, what, data, writable=out)
    if isinstance(what.element, Struct) and what.element.deep_copy and isinstance(value, list):
        size = served.types.size(what.element)
        for number, one in enumerate(value):
            deep = _DeepStruct(served, what.element, address + number * size, one)
            deep.deepen(writable=out)
            if out:
                served.copies.append(deep.write)
    elif out:
        served.copies.append(lambda: _write(served, what, address, value, parameter.name))
    return value


def _same_size(data: bytearray, size: int, name: str) -> bytes:
    if len(data) != size:
        raise misfit(name, msg("{size} bytes, as it was", size=size))
    return bytes(data)


def _write(served: ServedOcall, what: Content, address: int, value: object, name: str) -> None:
    data = encoded(served.types, what, value, name)
    if len(data) != what.size:
        raise misfit(name, msg("{size} bytes, as it was", size=what.size))
    served.memory.write(address, data)


@dataclass(slots=True)
class _DeepStruct:
    """A struct with what its members point at; in `values`, which the handler has, buffers replace addresses."""

    served: ServedOcall
    struct: Struct
    address: int
    values: dict[str, object]
    before: dict[str, object] = field(init=False)

    def __post_init__(self) -> None:
        self.before = dict(self.values)

    def _members(self) -> list[tuple[Declaration, int]]:
        """The members that are copied, with the addresses in them."""
        return [
            (one, address)
            for one in self.struct.members
            if one.attributes is not None
            and one.attributes.sized
            and isinstance(address := self.before[one.name], int)
        ]

    def deepen(self, *, writable: bool) -> None:
        """Put buffers in the place of the addresses."""
        for member, address in self._members():
            if not address:
                self.values[member.name] = None
                continue
            what = content(self.served.types, member, _lookup(self.before))
            data = self.served.memory.read(address, what.size)
            self.values[member.name] = decoded(self.served.types, what, data, writable=writable)

    def write(self) -> None:
        """Write back what a handler may change: members and what they point at, up to its length, but not where."""
        types, memory = self.served.types, self.served.memory
        addresses = {member.name: address for member, address in self._members()}
        for member, address in self._members():
            if not address:
                continue
            name = f"{self.struct.name}.{member.name}"
            allowed = content(types, member, _lookup(self.before))
            what = content(types, member, _lookup(self.values))
            if what.size > allowed.size:
                raise misfit(name, msg("at most {size} bytes", size=allowed.size))
            memory.write(address, encoded(types, what, self.values[member.name], name)[: allowed.size])
        memory.write(self.address, pack(types, self.struct, {**self.values, **addresses}, self.struct.name))
