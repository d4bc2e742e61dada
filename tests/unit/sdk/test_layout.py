"""What is passed lies where the C compiler puts it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sgxkit.errors import InputError
from sgxkit.sdk.edl.interface import parse_interface
from sgxkit.sdk.layout import Opaque, StructLayout, Types

EDL = """
enclave {
    enum color { RED, GREEN };
    union word { uint16_t half; char bytes[5]; };
    struct inner { char c; double d; };
    struct outer { uint8_t a; struct inner b[2]; union word w; enum color e; long double l; int* p; wchar_t t[3]; };
    trusted {
        public uint8_t first(char c, struct outer o, [in, string] const char* s, unsigned short h,
                             [in, out, wstring] wchar_t* w, enum color e);
        public void second([in] int a[2][3], float f, [user_check] array_t ignored[2], [in, isary] array_t y,
                           [in, isptr, size=4] pointer_t z);
    };
    untrusted {
        struct inner third(long long x, [in, string] char* s, key_t k) propagate_errno;
    };
};
"""
C = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
enum color { RED, GREEN };
union word { uint16_t half; char bytes[5]; };
struct inner { char c; double d; };
struct outer { uint8_t a; struct inner b[2]; union word w; enum color e; long double l; int* p; wchar_t t[3]; };
typedef struct { char c; uint64_t n; } key_t;
typedef int array_t[10];
typedef void* pointer_t;
struct ms_first_t { uint8_t ms_retval; char ms_c; struct outer ms_o; const char* ms_s; size_t ms_s_len;
    unsigned short ms_h; wchar_t* ms_w; size_t ms_w_len; enum color ms_e; };
struct ms_second_t { int* ms_a; float ms_f; array_t* ms_ignored; array_t* ms_y; pointer_t ms_z; };
struct ms_third_t { struct inner ms_retval; int ocall_errno; long long ms_x; char* ms_s; key_t ms_k; };
#define FIELD(s, f) printf("%zu %zu\\n", offsetof(struct s, f), sizeof(((struct s*)0)->f))
int main(void) { PRINT return 0; }
"""


def compiled(tmp_path: Path, layouts: dict[str, StructLayout]) -> list[str]:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    statements = []
    for name, layout in layouts.items():
        statements += [f"FIELD({name}, {field.name});" for field in layout.fields]
        statements.append(f'printf("%zu %zu\\n", sizeof(struct {name}), _Alignof(struct {name}));')
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(C.replace("PRINT", " ".join(statements)))
    subprocess.run([gcc, "-o", program, source], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def test_layouts_are_those_of_the_compiler(tmp_path: Path) -> None:
    interface = parse_interface(EDL)
    types = Types(interface, {"array_t": "int[10]", "key_t": Opaque(16, 8)})
    layouts = {f"ms_{function.name}_t": types.marshalling(function) for function in interface.ecalls}
    layouts["ms_third_t"] = types.marshalling(interface.ocalls[0])
    layouts |= {one.name: types.layout(one) for one in interface.composites if one.name in ("inner", "outer")}  # type: ignore[arg-type]
    expected = []
    known = {name: layout for name, layout in layouts.items() if layout is not None}
    assert known.keys() == layouts.keys()
    for layout in known.values():
        expected += [f"{field.offset} {field.size}" for field in layout.fields]
        expected.append(f"{layout.size} {layout.alignment}")
    assert compiled(tmp_path, known) == expected


def test_a_type_that_nobody_described() -> None:
    interface = parse_interface("enclave { trusted { public key_t f([in] key_t* k); public void g(); }; };")
    with pytest.raises(InputError) as unknown:
        Types(interface).marshalling(interface.ecalls[0])
    assert "key_t=" in str(unknown.value.hint)
    layout = Types(interface, {"key_t": "uint8_t[16]"}).marshalling(interface.ecalls[0])
    assert layout is not None
    assert (layout.size, layout.fields[0].size) == (24, 16)
    assert Types(interface).marshalling(interface.ecalls[1]) is None


def test_types_that_name_each_other() -> None:
    interface = parse_interface("enclave { trusted { public a f(); }; };")
    with pytest.raises(InputError):
        Types(interface, {"a": "b", "b": "a"}).marshalling(interface.ecalls[0])
