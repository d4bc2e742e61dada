from __future__ import annotations

import dataclasses
import json
import types
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgxkit.errors import FormatError
from sgxkit.host.document import MAX_ITEMS, MAX_TEXT, field_hints
from sgxkit.host.facts import (
    MAX_DOCUMENT,
    CpuidLeaf,
    CpuidOfCpu,
    DeviceFacts,
    Facts,
    Source,
    Unread,
    UnreadKind,
    load_facts_json,
    parse_facts,
    unread_facts,
)
from sgxkit.host.schema import facts_schema

SCHEMA_FILE = Path(__file__).parents[3] / "docs" / "schema" / "facts.schema.json"
SOURCE = Source("sgxkit-probe", "0.1.0", "3.11.7", 1.5, 0.25, "/", True, (), ("a note",))
NOTHING = unread_facts(SOURCE, Unread("skipped", "for a test"))

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
UNREAD = st.builds(Unread, st.sampled_from(get_args(UnreadKind)), TEXT, st.none() | st.integers(0, 200))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@cache
def instances(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of an annotation of the facts document."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Unread:
        return UNREAD
    if origin is Annotated:
        return st.integers(0, 16 ** arguments[1].digits - 1)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(instances(arguments[0]), max_size=2).map(tuple)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(instances, arguments))
    if dataclasses.is_dataclass(hint):
        return st.builds(hint, **{name: instances(inner) for name, inner in field_hints(hint).items()})
    return {
        types.NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: TEXT,
    }[hint]


FACTS = instances(Facts).map(lambda facts: dataclasses.replace(facts, schema=1))
SLOW = settings(
    max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)


@SLOW
@given(FACTS)
def test_facts_go_to_json_and_back(facts: Facts) -> None:
    document = json.loads(json.dumps(facts.to_json()))
    assert parse_facts(document) == facts


@SLOW
@given(FACTS)
def test_every_document_follows_the_published_schema(facts: Facts) -> None:
    jsonschema.Draft202012Validator(facts_schema()).validate(facts.to_json())


def test_the_published_schema_is_current() -> None:
    published = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    assert published == facts_schema(), "run: python -m sgxkit.host.schema > docs/schema/facts.schema.json"


@given(JSON)
def test_arbitrary_json_raises_only_format_errors(document: object) -> None:
    with pytest.raises(FormatError):
        parse_facts(document)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value inside a JSON value."""
    result = [path]
    if isinstance(value, dict):
        result += [found for key, inner in value.items() for found in paths(inner, (*path, key))]
    elif isinstance(value, list):
        result += [found for index, inner in enumerate(value) for found in paths(inner, (*path, index))]
    return result


def replaced(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: replaced(value[str(path[0])], path[1:], new)}
    return [replaced(item, path[1:], new) if index == path[0] else item for index, item in enumerate(value)]


@SLOW
@given(facts=FACTS, junk=JSON, data=st.data())
def test_a_document_with_one_value_replaced_is_read_or_refused_with_its_path(
    facts: Facts, junk: object, data: st.DataObject
) -> None:
    document = facts.to_json()
    path = data.draw(st.sampled_from(paths(document)[1:]))
    field = "$"
    try:
        read = parse_facts(replaced(document, path, junk))
    except FormatError as error:
        field = error.field
    else:
        assert parse_facts(read.to_json()) == read
    assert field.startswith("$")


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_arbitrary_text_raises_only_format_errors(text: bytes | str) -> None:
    with pytest.raises(FormatError):
        load_facts_json(text)


def leaf(**changes: object) -> dict[str, object]:
    document: dict[str, object] = dict.fromkeys(("leaf", "subleaf", "eax", "ebx", "ecx", "edx"), "0x00000000")
    return document | changes


def cpuid_document(*leaves: object) -> dict[str, object]:
    document = NOTHING.to_json()
    cpuid = [{"cpu": 0, "via": "device", "leaves": {"value": list(leaves)}}]
    return document | {"cpu": {"cpuid": {"value": cpuid}}}


def test_registers_are_read() -> None:
    facts = parse_facts(cpuid_document(leaf(leaf="0x00000012", eax="0xfedcba98")))
    assert facts.cpu.cpuid == (CpuidOfCpu(0, "device", (CpuidLeaf(0x12, 0, 0xFEDCBA98, 0, 0, 0),)),)
    assert not isinstance(facts.cpu.cpuid, Unread)
    found = facts.cpu.cpuid[0].leaf(0x12)
    assert found is not None
    assert found.eax == 0xFEDCBA98
    assert facts.cpu.cpuid[0].leaf(0x12, 1) is None


@pytest.mark.parametrize("bad", ["0x1", "00000000", "0xFEDCBA98", "0x0000000g", "0x000000000", 0, None, "0x-0000001"])
def test_registers_are_eight_lower_case_digits(bad: object) -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts(cpuid_document(leaf(), leaf(ecx=bad)))
    assert caught.value.field == "$.cpu.cpuid.value[0].leaves.value[1].ecx"


@pytest.mark.parametrize(
    ("reading", "field"),
    [
        ({}, "$.kernel.release"),
        ([], "$.kernel.release"),
        ("6.1", "$.kernel.release"),
        ({"value": "6.1", "error": "absent", "text": ""}, "$.kernel.release"),
        ({"value": 6}, "$.kernel.release.value"),
        ({"value": None}, "$.kernel.release.value"),
        ({"value": "\ud800"}, "$.kernel.release.value"),
        ({"value": "x" * (MAX_TEXT + 1)}, "$.kernel.release.value"),
        ({"error": "gone", "text": ""}, "$.kernel.release.error"),
        ({"error": "absent"}, "$.kernel.release.text"),
        ({"error": "absent", "text": "", "errno": "2"}, "$.kernel.release.errno"),
        ({"error": "absent", "text": "", "errno": True}, "$.kernel.release.errno"),
    ],
)
def test_a_reading_is_a_value_or_a_reason(reading: object, field: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts(NOTHING.to_json() | {"kernel": {"release": reading}})
    assert caught.value.field == field


@pytest.mark.parametrize("number", [True, 1.0, "1", 2**64, -(2**63) - 1])
def test_integers_are_integers_of_64_bits(number: object) -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts(NOTHING.to_json() | {"kernel": {"dmesg_restrict": {"value": number}}})
    assert caught.value.field == "$.kernel.dmesg_restrict.value"


@pytest.mark.parametrize("number", [float("inf"), float("nan"), pytest.param(10**400, id="huge"), False, "0"])
def test_numbers_are_finite(number: object) -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts(NOTHING.to_json() | {"source": {**NOTHING.to_json()["source"], "seconds": number}})  # type: ignore[dict-item]
    assert caught.value.field == "$.source.seconds"


def test_lists_have_a_limit() -> None:
    kernel = {"available_modules": {"value": ["x"] * (MAX_ITEMS + 1)}}
    with pytest.raises(FormatError) as caught:
        parse_facts(NOTHING.to_json() | {"kernel": kernel})
    assert caught.value.field == "$.kernel.available_modules.value"
    kernel["available_modules"]["value"].pop()
    assert parse_facts(NOTHING.to_json() | {"kernel": kernel}).kernel.available_modules == ("x",) * MAX_ITEMS


def test_a_newer_probe_may_say_more() -> None:
    document = NOTHING.to_json() | {"weather": "fine", "kernel": {"release": {"value": "6.1"}, "mood": 3}}
    assert parse_facts(document).kernel.release == "6.1"


def test_what_a_document_lacks_is_unrecorded_not_absent() -> None:
    document = NOTHING.to_json()
    facts = parse_facts({"schema": 1, "source": document["source"], "kernel": {}})
    assert facts == unread_facts(SOURCE, Unread("unrecorded", "not in this document"))


def test_its_source_must_be_there() -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts({"schema": 1})
    assert caught.value.field == "$.source"


@pytest.mark.parametrize("schema", [None, "1", True, 0, 2, pytest.param(10**5000, id="huge")])
def test_another_schema_version_is_refused(schema: object) -> None:
    with pytest.raises(FormatError) as caught:
        parse_facts(NOTHING.to_json() | {"schema": schema})
    assert caught.value.field == "$.schema"


def test_duplicate_keys_are_refused() -> None:
    text = json.dumps(NOTHING.to_json())
    assert load_facts_json(text) == NOTHING
    with pytest.raises(FormatError, match="twice"):
        load_facts_json(text.replace('"schema": 1', '"schema": 1, "schema": 1', 1))


HOSTILE = {
    "lists": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "digits": "9" * 5000,
    "bytes": b"\xff\xfe{}",
    "nothing": "",
    "blanks": " " * (MAX_DOCUMENT + 1),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(FormatError):
        load_facts_json(text)


def test_lookups_never_confuse_unrecorded_with_absent() -> None:
    devices = DeviceFacts(nodes=(), mounts=())
    node = devices.node("/dev/sgx_enclave")
    assert isinstance(node.status, Unread)
    assert node.status.kind == "unrecorded"
    denied = Unread("permission", "no")
    assert DeviceFacts(nodes=denied, mounts=()).node("/dev/isgx").open_read_write == denied
    assert NOTHING.aesm.reply(19) == Unread("skipped", "for a test")
    assert NOTHING.firmware.variable("EPCSW") == Unread("skipped", "for a test")
    assert NOTHING.services.unit("aesmd.service") == Unread("skipped", "for a test")
