"""Our messages are those of the .proto files, byte for byte, as protobuf itself writes and reads them."""

from __future__ import annotations

import dataclasses
import sys
import typing
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import FormatError
from sgxkit.kubernetes import device_plugin_api, pod_resources_api
from sgxkit.kubernetes.protobuf import Message, decode, encode

PROTO = Path(str(resources.files("sgxkit.kubernetes"))) / "proto"
MODULES = {"device_plugin": device_plugin_api, "pod_resources": pod_resources_api}
CLASSES = [
    pytest.param(stem, cls, id=cls.__name__)
    for stem, module in MODULES.items()
    for cls in vars(module).values()
    if isinstance(cls, type) and hasattr(cls, "WIRE") and cls.__module__ == module.__name__
]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    """The .proto files, compiled by protoc."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    folder = tmp_path_factory.mktemp("generated")
    for stem in MODULES:
        arguments = ["protoc", f"--proto_path={PROTO}", f"--python_out={folder}", f"{stem}.proto"]
        assert protoc.main(arguments) == 0
    sys.path.insert(0, str(folder))
    try:
        return {stem: import_module(f"{stem}_pb2") for stem in MODULES}
    finally:
        sys.path.remove(str(folder))


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
_INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def values(hint: Any) -> st.SearchStrategy[Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=3).map(tuple)
    if origin is UnionType:
        return st.none() | values(typing.get_args(hint)[0])
    if origin is not None:
        return st.dictionaries(_TEXT, _TEXT, max_size=3)
    if hint in (str, int, bool):
        return {str: _TEXT, int: _INT32, bool: st.booleans()}[hint]
    return messages(hint)


def messages(cls: type[Message]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{name: values(hints[name]) for name in cls.WIRE})


def fill(target: Any, message: Any) -> None:
    """Copy our message into protobuf's."""
    for field in dataclasses.fields(message):
        content = getattr(message, field.name)
        if isinstance(content, tuple):
            for element in content:
                if dataclasses.is_dataclass(element):
                    fill(getattr(target, field.name).add(), element)
                else:
                    getattr(target, field.name).append(element)
        elif isinstance(content, dict):
            getattr(target, field.name).update(content)
        elif dataclasses.is_dataclass(content):
            getattr(target, field.name).SetInParent()
            fill(getattr(target, field.name), content)
        elif content is not None:
            setattr(target, field.name, content)


@pytest.mark.parametrize(("stem", "cls"), CLASSES)
def test_numbers_and_names_are_those_of_the_proto_file(
    stem: str, cls: type[Message], generated: dict[str, ModuleType]
) -> None:
    descriptor = getattr(generated[stem], cls.__name__).DESCRIPTOR
    assert {field.name: field.number for field in descriptor.fields} == dict(cls.WIRE)


def test_every_message_of_the_proto_files_has_its_class(generated: dict[str, ModuleType]) -> None:
    for stem, module in MODULES.items():
        for name in generated[stem].DESCRIPTOR.message_types_by_name:
            assert hasattr(module, name)


@pytest.mark.parametrize(("stem", "cls"), CLASSES)
def test_protobuf_reads_what_we_write_and_we_what_it_writes(
    stem: str, cls: type[Message], generated: dict[str, ModuleType]
) -> None:
    theirs = getattr(generated[stem], cls.__name__)

    @settings(max_examples=20, deadline=None)
    @given(messages(cls))
    def compare(message: Any) -> None:
        target = theirs()
        fill(target, message)
        assert theirs.FromString(encode(message)) == target
        assert decode(cls, target.SerializeToString(deterministic=True)) == message

    compare()


@pytest.mark.parametrize(("stem", "cls"), CLASSES)
def test_any_bytes_are_read_or_refused(stem: str, cls: type[Message]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.binary(max_size=64))
    def read(data: bytes) -> None:
        try:
            message = decode(cls, data)
        except FormatError:
            return
        assert decode(cls, encode(message)) == message

    read()


def test_fields_that_are_not_known_are_skipped() -> None:
    data = encode(device_plugin_api.Device("sgx-enclave-0", "Healthy")) + b"\x98\x06\x01" + b"\xa2\x06\x01x"
    assert decode(device_plugin_api.Device, data) == device_plugin_api.Device("sgx-enclave-0", "Healthy")


def test_a_field_that_comes_twice_is_refused() -> None:
    data = encode(device_plugin_api.Device("a"))
    with pytest.raises(FormatError, match="twice"):
        decode(device_plugin_api.Device, data + data)
