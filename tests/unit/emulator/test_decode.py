"""Instruction lengths and memory operands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sgxkit.emulator.decode import decode

_LISTED = re.compile(r"\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t?(.*)")
REGISTERS = {
    "rax": 0x10,
    "rbx": 0x1000,
    "r12": 0x200000,
    "rsp": 0x7000,
    "rbp": 0x8000,
    "r13": 0x30,
    "fsbase": 1 << 40,
}


@pytest.mark.parametrize(
    ("code", "length", "address"),
    [
        ("90", 1, None),
        ("c3", 1, None),
        ("e800000000", 5, None),
        ("66e900000000", 6, None),
        ("b801000000", 5, None),
        ("66b80100", 4, None),
        ("48b80100000000000000", 10, None),
        ("48a10100000000000000", 10, None),
        ("f6c001", 3, None),
        ("f7c001000000", 6, None),
        ("66f7c00100", 5, None),
        ("f7d0", 2, None),
        ("c8100000", 4, None),
        ("0fbae000", 4, None),
        ("660f3a0fc108", 6, None),
        ("0f84ffffffff", 6, None),
        ("c5f877", 3, None),
        ("c4e3fbf0c007", 6, None),
        ("62f17c4828c0", 6, None),
        ("8b03", 2, 0x1000),
        ("8b4308", 3, 0x1008),
        ("8b83f8ffffff", 6, 0xFF8),
        ("8b0424", 3, 0x7000),
        ("8b44c308", 4, 0x1000 + 8 * 0x10 + 8),
        ("418b0424", 4, 0x200000),
        ("418b4500", 4, 0x30),
        ("8b0500010000", 6, 0x40_0000 + 6 + 0x100),
        ("8b042500020000", 7, 0x200),
        ("8b04c500020000", 7, 0x280),
        ("64488b042508000000", 9, (1 << 40) + 8),
        ("678b43ff", 4, 0xFFF),
        ("c744240401000000", 8, 0x7004),
    ],
)
def test_lengths_and_addresses(code: str, length: int, address: int | None) -> None:
    instruction = decode(bytes.fromhex(code) + b"\x90" * 15)
    assert instruction is not None
    assert instruction.length == length
    assert instruction.in_memory == (address is not None)
    if address is not None:
        assert instruction.effective_address(0x40_0000, REGISTERS.__getitem__) == address


def test_an_instruction_that_ends_too_soon() -> None:
    assert decode(b"\x48") is None
    assert decode(b"\x8b\x83\x00\x00") is None
    assert decode(b"") is None


def test_a_disassembler_agrees() -> None:
    objdump, program = shutil.which("objdump"), shutil.which("ls")
    if objdump is None or program is None:
        pytest.skip("objdump is not here")
    command = [objdump, "-d", "-w", str(Path(program).resolve())]
    listed = subprocess.run(command, check=False, capture_output=True, text=True)
    if "x86-64" not in listed.stdout:
        pytest.skip("programs here are not for x86-64")
    for line in listed.stdout.splitlines():
        match = _LISTED.match(line)
        if match is None or "(bad)" in line:
            continue
        code = bytes.fromhex(match[1])
        instruction = decode(code + b"\x90" * 15)
        assert instruction is not None
        assert instruction.length == len(code), line
