"""The machine code that enters enclaves, run by this processor: around a stand-in for the vDSO, and without SGX."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from sgxkit.driver.entry import MachineDoor, machine_code
from sgxkit.driver.kernel import MAP_ANONYMOUS, MAP_PRIVATE, Linux, Protection
from sgxkit.driver.memory import ProcessMemory
from sgxkit.driver.vdso import find_enter_function, symbol
from sgxkit.enclave.platform import Registers
from sgxkit.errors import HostError, InputError
from sgxkit.isa.leaf import Enclu

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="machine code for x86-64 Linux"
)
needs_assembler = pytest.mark.skipif(
    shutil.which("as") is None or shutil.which("objcopy") is None, reason="binutils is not here"
)

# As the kernel's function: arguments in RDI, RSI, RDX, ECX, R8, R9 and on the stack. It plays the enclave's part too.
VDSO = """
    .intel_syntax noprefix
    push    rbp
    mov     rbp, rsp
    push    rbx
    cmp     ecx, 2
    jb      invalid
    cmp     ecx, 3
    ja      invalid
    mov     rbx, [rbp + 16]
    cmp     rdi, 99
    je      exception
    add     rsi, [rbx]              # the TCS
    mov     rdx, rcx
    not     r8
    xor     r9d, r9d
    mov     r15, rsp
    mov     dword ptr [rbx + 8], 4
    jmp     handle
exception:
    mov     dword ptr [rbx + 8], ecx
    mov     word ptr [rbx + 12], 14
    mov     word ptr [rbx + 14], 0x8007
    mov     qword ptr [rbx + 16], rsi
handle:
    mov     rcx, rsp
    mov     rax, rbx
    mov     rbx, rsp
    and     rbx, 0xf
    and     rsp, -16
    push    rax
    push    rax
    call    [rax + 24]
    lea     rsp, [rsp + rbx + 16]
    test    eax, eax
    jle     leave
    ud2
invalid:
    mov     eax, -22
leave:
    pop     rbx
    leave
    ret
"""


def assembler() -> ModuleType:
    specification = importlib.util.spec_from_file_location("assembler", ROOT / "scripts" / "assemble_entry.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@needs_assembler
def test_the_code_is_what_its_source_says() -> None:
    assert assembler().assemble() == machine_code()


@pytest.fixture
def vdso(tmp_path: Path) -> int:
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        pytest.skip("binutils is not here")
    (tmp_path / "vdso.s").write_text(VDSO)
    kernel = Linux()
    address = kernel.mmap(0, 4096, Protection.READ | Protection.WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    kernel.write(address, assembler().assemble(tmp_path / "vdso.s"))
    kernel.mprotect(address, 4096, Protection.READ | Protection.EXEC)
    return address


def test_registers_go_in_and_come_out(vdso: int) -> None:
    door = MachineDoor(Linux(), vdso)
    values = {name: 0x1111 * number for number, name in enumerate(("rdi", "r10", "r11", "r12", "r13", "r14"), 1)}
    for leaf in (Enclu.EENTER, Enclu.ERESUME):
        left = door.go(leaf, 0x5000, Registers(**values, rsi=0x70, rdx=1, r8=5, r9=7, r15=8))
        assert left.exception is None
        assert {name: getattr(left.registers, name) for name in values} == values
        assert (left.registers.rsi, left.registers.rdx) == (0x5070, leaf)
        assert (left.registers.r8, left.registers.r9) == (2**64 - 6, 0)
        assert left.registers.rsp == left.registers.r15
    door.close()


def test_the_enclave_is_given_the_stack_that_the_caller_has_for_it(vdso: int) -> None:
    kernel = Linux()
    stack = kernel.mmap(0, 0x4000, Protection.READ | Protection.WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    door = MachineDoor(kernel, vdso)
    for top in (stack + 0x4000, stack + 0x3FF8):
        left = door.go(Enclu.EENTER, 0, Registers(rsp=top))
        assert stack < left.registers.rsp < top
    door.close()


def test_exceptions_come_out(vdso: int) -> None:
    door = MachineDoor(Linux(), vdso)
    left = door.go(Enclu.EENTER, 0, Registers(rdi=99, rsi=0x7000_1000))
    assert left.exception is not None
    assert (left.exception.vector, left.exception.error_code) == (14, 0x8007)
    assert left.exception.address == 0x7000_1000
    assert left.registers == replace(Registers(), rax=Enclu.ERESUME)
    with pytest.raises(HostError):
        door.go(Enclu.EEXIT, 0, Registers())
    door.close()


BY_SIGNAL = """
import ctypes, sys
from sgxkit.driver.entry import MachineDoor
from sgxkit.driver.kernel import Linux
from sgxkit.enclave.platform import Registers
from sgxkit.isa.leaf import Enclu
if sys.argv[1] == "handled":
    import faulthandler; faulthandler.enable()
door = MachineDoor(Linux(), 0)
page = Linux().mmap(0, 4096, 3, 0x22, -1)
for _ in range(2):
    left = door.go(Enclu.EENTER, page, Registers())
    print(left.exception.vector in (6, 13, 14), left.registers.rax, flush=True)
ctypes.string_at(0)
"""


@pytest.mark.parametrize("before", ["default", "handled"])
def test_without_the_vdsos_function_exceptions_are_caught_and_no_other_signal(before: str) -> None:
    """A page that is no TCS cannot be entered: #UD without SGX, #GP or #PF with it."""
    outcome = subprocess.run(
        [sys.executable, "-c", BY_SIGNAL, before], check=False, capture_output=True, text=True, timeout=60
    )
    assert outcome.stdout == "True 3\nTrue 3\n"
    assert outcome.returncode == -signal.SIGSEGV
    assert ("Fatal Python error" in outcome.stderr) == (before == "handled")


def test_memory_that_is_not_there_is_an_error_and_not_the_end() -> None:
    kernel = Linux()
    memory = ProcessMemory(kernel)
    address = memory.allocate(5000)
    memory.write(address + 10, b"shared")
    assert memory.read(address + 8, 10) == b"\0\0shared\0\0"
    assert memory.read(address, 0) == b""
    kernel.mprotect(address + 4096, 4096, Protection.READ)
    for nowhere in (0, 8, 1 << 47, 2**64 - 16):
        with pytest.raises(InputError):
            memory.read(nowhere, 8)
    with pytest.raises(InputError):
        memory.write(address + 4096, b"read-only")
    memory.free(address)
    with pytest.raises(InputError):
        memory.read(address, 8)


def test_functions_of_the_vdso_are_found() -> None:
    assert find_enter_function() >= 0
    image = vdso_of_this_process()
    assert symbol(image, b"__vdso_getcpu") > 0
    assert symbol(image, b"__vdso_getcp") == symbol(image, b"nothing") == 0
    header = bytearray(image[:64])
    struct.pack_into("<H", header, 56, 0)  # no program headers
    assert symbol(bytes(header) + image[64:], b"__vdso_getcpu") == 0


def vdso_of_this_process() -> bytes:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            return Linux().read(begin, end - begin)
    pytest.skip("this kernel has no vDSO")
