"""Values of C in Python and back."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.emulator.memory import SparseMemory
from sgxkit.errors import InputError, SgxkitError
from sgxkit.sdk.cpuid import cpuid
from sgxkit.sdk.edl.interface import parse_interface
from sgxkit.sdk.edl.syntax import BASICS
from sgxkit.sdk.initialization import cpu_features, system_features
from sgxkit.sdk.layout import ArrayOf, Opaque, Types
from sgxkit.sdk.ocall import receive
from sgxkit.sdk.values import pack, unpack

INTERFACE = parse_interface(
    """
    enclave {
        enum color { RED, GREEN };
        union word { uint32_t whole; uint8_t bytes[4]; };
        struct node { char tag; enum color c; union word w; struct node* next; short grid[2][2]; char name[4]; };
        struct blob { size_t size; [size=size] uint8_t* data; [count=size] uint32_t* numbers; };
        trusted { public void f(); };
        untrusted {
            int o([in, size=n, count=m] void* p, size_t n, int m, [in, string] const char* s,
                  [in, out, wstring] wchar_t* w, [in, out, count=n] struct node* nodes, [in, out] struct blob* b,
                  [out] int a[2][3], [user_check] void* u, struct node by_value);
        };
    };
    """
)
TYPES = Types(INTERFACE)
NODE = next(one for one in INTERFACE.composites if one.name == "node")
INTEGERS = [kind for kind in BASICS.values() if kind.kind in ("signed", "unsigned")]


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_integers_have_the_range_of_their_type(kind: object) -> None:
    assert kind in INTEGERS
    bits, signed = kind.size * 8, kind.kind == "signed"  # type: ignore[attr-defined]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    for value in (low, high, 1):
        assert unpack(TYPES, kind, pack(TYPES, kind, value, "v")) == value  # type: ignore[arg-type]
    for value in (low - 1, high + 1, 1.5, "1", None):
        with pytest.raises(InputError, match="v must be"):
            pack(TYPES, kind, value, "v")  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.floats(allow_nan=False))
def test_floats_are_the_same_afterwards(value: float) -> None:
    for name in ("double", "long double"):
        found = unpack(TYPES, BASICS[name], pack(TYPES, BASICS[name], value, "v"))
        assert found == value
        assert math.copysign(1, found) == math.copysign(1, value)  # type: ignore[arg-type]


def test_long_double_is_the_format_of_x87() -> None:
    assert pack(TYPES, BASICS["long double"], -1.0, "v").hex() == "0000000000000080ffbf" + "00" * 6
    assert math.isnan(unpack(TYPES, BASICS["long double"], pack(TYPES, BASICS["long double"], math.nan, "v")))  # type: ignore[arg-type]
    assert (
        unpack(TYPES, BASICS["long double"], b"\xff" * 8 + b"\xfe\x7f" + bytes(6)) == math.inf
    )  # too large for Python
    with pytest.raises(InputError):
        pack(TYPES, BASICS["float"], 1e300, "v")


def test_composites() -> None:
    value = {"tag": 65, "c": 1, "w": b"\1\2\3\4", "next": 0x1000, "grid": [[1, -2], [3, 4]], "name": b"abcd"}
    data = pack(TYPES, NODE, value, "v")  # type: ignore[arg-type]
    assert len(data) == 40
    assert unpack(TYPES, NODE, data) == value  # type: ignore[arg-type]
    assert pack(TYPES, NODE, data, "v") == data  # type: ignore[arg-type]
    whole = pack(TYPES, NODE, {**value, "w": {"whole": 0x0403_0201}, "tag": b"A", "next": None}, "v")  # type: ignore[arg-type]
    assert whole[:12] == data[:12]
    for wrong in ({"w": {"none": 1}}, {"w": {}}, {"grid": [1, 2]}, {"name": b"abc"}, {"c": "RED"}, b"short", 5):
        with pytest.raises(InputError, match=r"v[\w.\[\]]* must be"):
            pack(TYPES, NODE, wrong, "v")  # type: ignore[arg-type]
    assert pack(TYPES, Opaque(3), bytearray(b"abc"), "v") == b"abc"
    assert unpack(TYPES, ArrayOf(BASICS["int8_t"], (3,)), b"abc") == b"abc"


@settings(max_examples=80, deadline=None)
@given(st.binary(min_size=160, max_size=160), st.lists(st.integers(0, 12), min_size=7, max_size=7))
def test_whatever_an_enclave_says_it_passes(data: bytes, near: list[int]) -> None:
    """Lengths and addresses come from the enclave: they are refused, or lead into the memory outside."""
    memory = SparseMemory()
    block = memory.allocate(4096)
    layout = TYPES.marshalling(INTERFACE.ocalls[0])
    assert layout is not None
    content = bytearray(data[: layout.size].ljust(layout.size, b"\0"))
    pointers = [field for field in layout.fields if field.text.endswith("*")]
    for field, number in zip(pointers, near, strict=True):
        # Most of them lead into the block, so that not all end at once.
        if number:
            content[field.offset : field.offset + 8] = (block + number * 256).to_bytes(8, "little")
    small = next(field for field in layout.fields if field.name == "ms_n")
    content[small.offset : small.offset + 8] = near[0].to_bytes(8, "little")
    memory.write(block, bytes(content))
    with contextlib.suppress(SgxkitError):
        served = receive(INTERFACE.ocalls[0], block, TYPES, memory)
        served.finish(1, 0)


def test_the_processor_that_an_enclave_is_told_of() -> None:
    features = system_features(cpuid)
    assert len(features) == 176
    assert int.from_bytes(features[12:20], "little") == 3 << 62
    assert int.from_bytes(features[156:164], "little") == len(features)
    # Intel's runtime refuses a mask in which something of the SSE family is missing below the highest.
    assert cpu_features(cpuid) & 0x7FF == 0x7FF
    assert not cpuid(1, 0).ecx >> 28 & 1  # AVX
    assert cpuid(0x1234, 0) == cpuid(0x4321, 7)
