"""Ordinary memory of this process, which enclaves in it share; implements `enclave.platform.OutsideMemory`."""

from __future__ import annotations

from sgxkit.driver.kernel import MAP_ANONYMOUS, MAP_PRIVATE, Kernel, Protection
from sgxkit.isa.page import PAGE_SIZE


class ProcessMemory:
    """Allocates whole pages, so that nothing else of the process lies beside what an enclave is given."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sizes: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of zeros, the first of a page."""
        whole = max(PAGE_SIZE, -(-size // PAGE_SIZE) * PAGE_SIZE)
        protection = Protection.READ | Protection.WRITE
        address = self._kernel.mmap(0, whole, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1)
        self._sizes[address] = whole
        return address

    def free(self, address: int) -> None:
        """Unmap what `allocate` returned."""
        self._kernel.munmap(address, self._sizes.pop(address))

    def read(self, address: int, size: int) -> bytes:
        """Read this process's memory; an address where nothing is mapped ends the process."""
        return self._kernel.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write this process's memory; an address where nothing is mapped ends the process."""
        self._kernel.write(address, data)
