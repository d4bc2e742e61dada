"""CPUID of the processor that this runs on."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from sgxkit.isa.page import PAGE_SIZE

_cpuid_cache: dict[tuple[int, int], tuple[int, int, int, int]] = {}
_code_page: list[object] = []


def host_cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """CPUID of the processor that this runs on."""
    key = (leaf, subleaf)
    if key not in _cpuid_cache or leaf in (1, 0xB, 0x1F, 0xD):
        _cpuid_cache[key] = _execute_cpuid(leaf, subleaf)
    return _cpuid_cache[key]


def _execute_cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    result = (ctypes.c_uint32 * 4)()
    _cpuid_function()(leaf, subleaf, result)
    return (result[0], result[1], result[2], result[3])


def _cpuid_function() -> Callable[[int, int, object], None]:
    if not _code_page:
        import mmap  # noqa: PLC0415 - only where it is asked for

        # push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; mov [r8], eax; ... ; pop rbx; ret
        code = bytes.fromhex("5389f889f14989d00fa24189004189580441894808418950 0c5bc3".replace(" ", ""))
        page = mmap.mmap(-1, PAGE_SIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)
        _code_page.extend((function, page))
    return _code_page[0]  # type: ignore[return-value]
