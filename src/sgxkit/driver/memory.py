"""Ordinary memory of this process, which enclaves in it share; implements `enclave.platform.OutsideMemory`."""

from __future__ import annotations

from sgxkit.driver.kernel import MAP_ANONYMOUS, MAP_PRIVATE, Kernel, Protection
from sgxkit.driver.problems import memory_problem
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.messages import msg


class ProcessMemory:
    """Allocates whole pages, so that nothing else of the process lies beside what an enclave is given."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sizes: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes of zeros, the first of a page; raises HostError where there are none."""
        whole = max(PAGE_SIZE, -(-size // PAGE_SIZE) * PAGE_SIZE)
        protection = Protection.READ | Protection.WRITE
        try:
            address = self._kernel.mmap(0, whole, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1)
        except OSError as error:
            raise memory_problem(error) from error
        self._sizes[address] = whole
        return address

    def free(self, address: int) -> None:
        """Unmap what `allocate` returned."""
        self._kernel.munmap(address, self._sizes.pop(address))

    def read(self, address: int, size: int) -> bytes:
        """Read this process's memory; raises InputError where nothing is mapped that can be read."""
        try:
            return self._kernel.read(address, size)
        except OSError as error:
            raise _nowhere(address) from error

    def write(self, address: int, data: bytes) -> None:
        """Write this process's memory; raises InputError where nothing is mapped that can be written."""
        try:
            self._kernel.write(address, data)
        except OSError as error:
            raise _nowhere(address) from error


def _nowhere(address: int) -> InputError:
    return InputError(msg("there is no such memory at {address}", address=hex(address)))
