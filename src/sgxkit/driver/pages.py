"""Changes of an enclave at work (EDMM): what the kernel does for it before or after the enclave accepts (EACCEPT)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from sgxkit.driver import abi, problems
from sgxkit.driver.kernel import Kernel
from sgxkit.driver.loading import Device, again
from sgxkit.errors import HostError
from sgxkit.isa.page import PageFlags, PageType
from sgxkit.messages import msg


@dataclass(frozen=True, slots=True)
class PageChanges:
    """Changes the enclave of one device; offsets and lengths are in bytes, whole pages. All raise HostError."""

    kernel: Kernel
    device: Device

    def restrict_permissions(self, offset: int, length: int, permissions: PageFlags) -> None:
        """EMODPR: leave these permissions, none that was not there; the enclave then has to accept."""
        change = _Change("EMODPR", abi.RESTRICT_PERMISSIONS, abi.RESTRICT_ARGUMENT, (permissions,))
        self._change(change, offset, length)

    def modify_types(self, offset: int, length: int, page_type: PageType) -> None:
        """EMODT: make them TCS, or give them up (TRIM); the enclave then has to accept."""
        self._change(_Change("EMODT", abi.MODIFY_TYPES, abi.MODIFY_ARGUMENT, (page_type,)), offset, length)

    def remove_pages(self, offset: int, length: int) -> None:
        """EREMOVE pages that were given up and accepted so."""
        self._change(_Change("EREMOVE", abi.REMOVE_PAGES, abi.REMOVE_ARGUMENT, ()), offset, length)

    def _change(self, change: _Change, offset: int, length: int) -> None:
        """Go on after what was done until all is: the kernel stops where a signal came."""
        done = 0
        while done < length:
            argument = bytearray()

            def ask(done: int = done, argument: bytearray = argument) -> int:
                argument[:] = change.argument(offset + done, length - done)
                return self.kernel.ioctl(self.device.descriptor, change.request, argument)

            failure = None
            try:
                again(ask)
            except OSError as error:
                failure = error
            fields = change.layout.unpack(argument)
            count, result = fields[-1], fields[-2] if change.values else 0
            if failure is not None:
                raise problems.change_problem(change.leaf, failure, result) from failure
            if not 0 < count <= length - done:
                left = length - done
                raise HostError(
                    msg("the SGX driver says that it did {count} bytes of {length}", count=count, length=left)
                )
            done += count


@dataclass(frozen=True, slots=True)
class _Change:
    """One ioctl: offset, length and values in; status of the leaf function (with values only) and bytes done out."""

    leaf: str
    request: int
    layout: Struct
    values: tuple[int, ...]

    def argument(self, offset: int, length: int) -> bytes:
        return self.layout.pack(offset, length, *self.values, *((0, 0) if self.values else (0,)))
