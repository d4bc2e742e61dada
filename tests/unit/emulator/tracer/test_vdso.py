"""The vDSO that programs are given, read back as ELF."""

import io

import pytest

from sgxkit.emulator.tracer import agent, vdso

elffile = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed")

AT = agent.VDSO
FUNCTIONS = {b"__vdso_time": 0x7FFF_1234_5678, b"time": 0x7FFF_1234_5678, vdso.ENTER_ENCLAVE: agent.ENTER}
IMAGE = vdso.image(AT, FUNCTIONS, size=agent.VDSO_SIZE)


def test_its_symbols_are_where_the_functions_are() -> None:
    symbols = elffile.ELFFile(io.BytesIO(IMAGE)).get_section_by_name(".dynsym").iter_symbols()
    assert {symbol.name.encode(): symbol["st_value"] + AT for symbol in symbols if symbol.name} == FUNCTIONS


def test_the_hash_table_finds_every_symbol() -> None:
    segments = elffile.ELFFile(io.BytesIO(IMAGE)).iter_segments()
    dynamic = next(segment for segment in segments if segment["p_type"] == "PT_DYNAMIC")
    assert {name.decode() for name in FUNCTIONS} <= {symbol.name for symbol in dynamic.iter_symbols()}


def test_functions_are_read_from_an_image() -> None:
    assert vdso.functions_of(IMAGE, AT) == FUNCTIONS


def test_it_fits_in_its_pages() -> None:
    many = {f"__vdso_function_{number}".encode(): AT for number in range(60)}
    assert len(vdso.image(AT, many, size=agent.VDSO_SIZE)) <= agent.SYSCALL - agent.VDSO
