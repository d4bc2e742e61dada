"""EDL: what is read, in which order it counts, and what is refused where edger8r refuses it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import FormatError, InputError
from sgxkit.sdk.edl.builtin import BUILTIN
from sgxkit.sdk.edl.interface import Interface, parse_interface, read_interface
from sgxkit.sdk.edl.parser import parse_edl, parse_type
from sgxkit.sdk.edl.syntax import BASICS, Direction, Named, Pointer


def interface(trusted: str = "public void f();", untrusted: str = "", before: str = "") -> Interface:
    return parse_interface(f"enclave {{ {before} trusted {{ {trusted} }}; untrusted {{ {untrusted} }}; }};")


def parameter(text: str, before: str = "") -> object:
    """The first parameter of an ECALL with these parameters."""
    return interface(f"public void f({text});", before=before).ecalls[0].parameters[0]


def test_a_whole_interface() -> None:
    found = parse_interface(
        """
        enclave {                                  // the name is the file's
            include "user_types.h"
            enum color { RED, GREEN = 5, BLUE = RED };
            union word { uint32_t whole; uint8_t bytes[4]; };
            struct point { int x; [count=x] int* history; };
            trusted {
                include "trusted.h"
                public int add(int a, unsigned long long b);
                void inner([in, string] const char* name, [out] struct other* o) transition_using_threads;
            };
            untrusted {
                [cdecl, dllimport] size_t log([in, size=n, count=2] void* p, size_t n)
                    allow(inner) propagate_errno transition_using_threads;
                void tick() transition_using_threads propagate_errno;
            };
            /* a comment
               of two lines */
        };
        """
    )
    assert [(ecall.name, ecall.private, ecall.switchless) for ecall in found.ecalls] == [
        ("add", False, False),
        ("inner", True, True),
    ]
    log, tick = found.ocalls
    assert (log.convention, log.dllimport, log.allow) == ("cdecl", True, ("inner",))
    assert (log.propagate_errno, log.switchless, tick.propagate_errno, tick.switchless) == (True,) * 4
    assert found.includes == ("user_types.h", "trusted.h")
    assert [composite.name for composite in found.composites] == ["color", "word", "point"]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unsigned", "unsigned int"),
        ("unsigned int", "unsigned int"),
        ("short int", "short"),
        ("unsigned short", "unsigned short"),
        ("long", "long"),
        ("unsigned long int", "unsigned long"),
        ("long long", "long long"),
        ("unsigned long long", "unsigned long long"),
        ("long double", "long double"),
        ("unsigned char", "unsigned char"),
        *((name, name) for name in BASICS if name.endswith("_t") or name in ("char", "int", "float", "double")),
    ],
)
def test_every_type_of_c(text: str, expected: str) -> None:
    assert parse_type(text) == (BASICS[expected], ())


def test_types_with_pointers_and_dimensions() -> None:
    assert parse_type("struct point**") == (Pointer(Pointer(Named("struct", "point"))), ())
    assert parse_type("uint8_t[2][3]") == (BASICS["uint8_t"], (2, 3))


def test_attributes_of_pointers_and_arrays() -> None:
    size = parameter("[in, out, size=n, count=3] sgx_report_t* p, size_t n")
    assert size.attributes.direction is Direction.INOUT  # type: ignore[attr-defined]
    assert (size.attributes.size, size.attributes.count) == ("n", 3)  # type: ignore[attr-defined]


# Each of these is refused by edger8r, or by the C compiler after it.
REFUSED = [
    "int* p",
    "[] int* p",
    "[in] int p",
    "[in, user_check] int* p",
    "[in, in] int* p",
    "[inn] int* p",
    "[sizefunc=f] int* p",
    "[in, size] int* p",
    "[size=4] int* p",
    "[in, size=4, size=4] int* p",
    "[in, size=n] int* p",
    "[in, size=n] int* p, [in] int* n",
    "[in] void* p",
    "[in, count=4] void* p",
    "[in, string] int* p",
    "[in, wstring] char* p",
    "[in, string, wstring] char* p",
    "[in, string, size=4] char* p",
    "[out, string] char* p",
    "[string] char* p",
    "[in] int p[]",
    "[in] int p[0]",
    "[in, size=4] int p[4]",
    "[in, count=4] int p[4]",
    "[in] int* p[4]",
    "[in, isary] int* p",
    "[in, isptr] int p",
    "[in, isary, isptr] foo_t p",
    "[in, isary, size=3] foo_t p",
    "[in, isary] foo_t* p",
    "[in] foo_t p",
    "[in, readonly] foo_t* p",
    "[out, isptr, readonly, size=2] foo_t p",
    "[out] const int* p",
    "const int p",
    "void p",
    "[in] void p[4]",
    "int a, int a",
    "[in] int p[4294967297]",
    "[in] int p[99999999999999999999]",
    "int int",
    "long long int p",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_parameters(text: str) -> None:
    with pytest.raises(FormatError, match=r"^enclave\.edl:1:\d+: "):
        parameter(text)


@pytest.mark.parametrize(
    ("before", "trusted", "untrusted"),
    [
        ("", "void f();", ""),
        ("", "", ""),
        ("", "public void f(); public int f();", ""),
        ("", "public void f();", "void f();"),
        ("", "public void f();", "void o() allow(g);"),
        ("", "public int[4] f();", ""),
        ("", "[cdecl] public void f();", ""),
        ("", "public void f();", "[cdecl, stdcall] void o();"),
        ("", "public void f();", "[dllimport, dllimport] void o();"),
        ("", "public void f();", "[public] void o();"),
        ("struct s { int a; }; struct s { int a; };", "public void f();", ""),
        ("enum e { A }; enum e { B };", "public void f();", ""),
        ("struct s { };", "public void f();", ""),
        ("struct s { int a; int a; };", "public void f();", ""),
        ("struct s { [in] int* a; };", "public void f();", ""),
        ("struct s { [user_check] int* a; };", "public void f();", ""),
        ("struct s { [in, size=4] int* a; };", "public void f();", ""),
        ("struct s { [count=n] int* a; };", "public void f();", ""),
        ("struct s { [count=4] int a; };", "public void f();", ""),
        ("struct s { struct s a; };", "public void f();", ""),
        ("struct s { s a; };", "public void f();", ""),
        ("".join(f"struct s{n} {{ struct s{n + 1} a; }};" for n in range(70)), "public void f();", ""),
        ("struct s { union u a; }; union u { struct s b; };", "public void f();", ""),
        ("struct s { int n; [count=n] int* a; };", "public void f(struct s v);", ""),
        ("struct s { int n; [count=n] int* a; };", "public void f([out] struct s* v);", ""),
        ("struct s { int n; [count=n] int* a; };", "public void f([in] s* v);", ""),
        ("union u { [count=4] int* a; };", "public void f();", ""),
        ('from "nowhere.edl" import *;', "public void f();", ""),
        ('from "sgx_tstdc.edl" import nothing;', "public void f();", ""),
        ('from "sgx_tstdc.edl" import *', "public void f();", ""),
        ("#define X", "public void f();", ""),
        ("/* no end", "public void f();", ""),
        ('include "no end', "public void f();", ""),
        ("$", "public void f();", ""),
    ],
)
def test_refused_interfaces(before: str, trusted: str, untrusted: str) -> None:
    with pytest.raises(FormatError):
        interface(trusted, untrusted, before)


def test_an_error_names_file_line_and_column() -> None:
    with pytest.raises(FormatError, match=r"^wallet\.edl:3:10: unexpected ';'$"):
        parse_interface("enclave {\n  trusted {\n  public ; \n }; };", name="wallet")
    with pytest.raises(FormatError, match=r"sgx_tstdc\.edl|enclave\.edl:1:"):
        parse_interface('enclave { from "sgx_tstdc.edl" import nothing; trusted { public void f(); }; };')


def test_warnings() -> None:
    found = interface(
        "public void f(struct s v, [in] t* w); void never();", before="struct s { int* a; }; struct t { int a; };"
    )
    assert [str(warning) for warning in found.warnings] == [
        "f: what struct s points at is not copied",
        "f: t is a struct: write struct t",
        "no OCALL allows the private ECALL never",
    ]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.edl").write_text(text)


def names(found: Interface) -> tuple[list[str], list[str]]:
    return [ecall.name for ecall in found.ecalls], [ocall.name for ocall in found.ocalls]


def test_a_file_counts_before_what_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='enclave { from "b.edl" import *; from "a.edl" import *; trusted { public void m(); }; };',
        a="enclave { trusted { public void a1(); public void a2(); }; untrusted { void ao(); }; };",
        b='enclave { from "a.edl" import a2; trusted { public void b1(); }; untrusted { void bo(); }; };',
    )
    # b asks a for a2 first; what else a has comes when the main file asks for all of it.
    assert names(read_interface(tmp_path / "main.edl")) == (["m", "b1", "a2", "a1"], ["bo", "ao"])


def test_what_a_file_lacks_is_asked_of_its_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        main='enclave { from "b.edl" import b1, a1; trusted { public void m(); }; };',
        a="enclave { trusted { public void a1(); public void a2(); }; };",
        b='enclave { from "a.edl" import *; trusted { public void b2(); public void b1(); }; };',
    )
    assert names(read_interface(tmp_path / "main.edl")) == (["m", "b1", "a1"], [])


def test_a_search_path_goes_before_everything(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, sgx_tstdc="enclave { untrusted { void mine(); }; };")
    write(tmp_path, main='enclave { from "sgx_tstdc.edl" import *; trusted { public void m(); }; };')
    assert names(read_interface(tmp_path / "main.edl"))[1][0] == "sgx_oc_cpuidex"
    assert names(read_interface(tmp_path / "main.edl", search=[other]))[1] == ["mine"]


def test_cycles_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a='enclave { from "b.edl" import *; };', b='enclave { from "./a.edl" import *; };')
    with pytest.raises(FormatError, match=r"b\.edl:1:11: .*a\.edl imports itself"):
        read_interface(tmp_path / "a.edl", library=True)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_interface(tmp_path / "none.edl")


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_the_sdks_own_files_are_edl(name: str) -> None:
    parse_edl(BUILTIN[name].encode(), name)
    assert names(parse_interface(f'enclave {{ from "{name}" import *; trusted {{ public void f(); }}; }};'))


WORDS = [
    "enclave",
    "{",
    "}",
    ";",
    "trusted",
    "untrusted",
    "public",
    "void",
    "int",
    "f",
    "(",
    ")",
    "[",
    "in",
    "]",
    "*",
]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(WORDS)).map(lambda words: " ".join(words).encode()))
)
def test_whatever_is_read_is_an_interface_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_edl(data, "any.edl")
