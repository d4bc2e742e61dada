"""An enclave image into the kernel's hands: address range, ECREATE, EADD with EEXTEND, EINIT, and the mapping."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sgxkit.driver import abi, problems
from sgxkit.driver.kernel import (
    MADV_DONTFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    Kernel,
    Protection,
)
from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage, PageRun
from sgxkit.errors import HostError, InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.leaf import Encls
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import SgxError, Status
from sgxkit.messages import msg

_PIECE = 256
"""Pages that one ADD_PAGES is given: enough to make the call cheap, and few to copy again."""

_AGAIN = frozenset((errno.EINTR, errno.EAGAIN))
_RETRIES = 1000
_PAUSE = 0.001


@dataclass(frozen=True, slots=True)
class Device:
    """An open device: one enclave's."""

    interface: abi.Interface
    descriptor: int


@dataclass(frozen=True, slots=True)
class Made:
    """An initialized enclave.

    pages   what was mapped: begin, end and protection, by linear address.
    tcs     linear addresses of its TCS pages, in the order of loading.
    """

    device: Device
    base: int
    size: int
    pages: tuple[tuple[int, int, Protection], ...]
    tcs: tuple[int, ...]


def open_device(kernel: Kernel) -> Device:
    """Open the first device that is there; raises HostError."""
    for interface in abi.INTERFACES:
        try:
            return Device(interface, kernel.open(interface.device))
        except OSError as error:
            # Only what is absent is passed over: any other answer is that of the device to be used.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise problems.device_problem(interface.device, error) from error
    raise problems.no_device()


def make(
    kernel: Kernel,
    device: Device,
    image: EnclaveImage,
    sigstruct: Sigstruct,
    *,
    debug: bool,
    token: bytes = bytes(304),
) -> Made:
    """Make the enclave of `image` and map it; the device stays the caller's to close.

    MISCSELECT and ATTRIBUTES are SIGSTRUCT's; `debug` adds DEBUG. `token` is for drivers that need one. Raises
    HostError where the kernel refuses, SgxError with EINIT's status where the driver tells it, InputError for an
    image that the driver cannot load. Then nothing stays mapped.
    """
    base = _reserve(kernel, image.size, device.interface.device)
    try:
        making = _Making(kernel, device, base)
        making.create(image, sigstruct, debug=debug)
        for run in image.runs:
            making.add(run)
        making.init(sigstruct, token)
        return making.mapped(image)
    except BaseException as error:
        kernel.munmap(base, image.size)
        if isinstance(error, OSError):  # what the process itself needs; the device's refusals have their own words
            raise problems.memory_problem(error) from error
        raise


def _reserve(kernel: Kernel, size: int, device: str) -> int:
    """Take `size` bytes of addresses at a multiple of `size`, without memory."""
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    try:
        whole = kernel.mmap(0, 2 * size, Protection.NONE, flags, -1)
    except OSError as error:
        raise problems.map_problem(error, device) from error
    base = -(-whole // size) * size
    if base > whole:
        kernel.munmap(whole, base - whole)
    if whole + 2 * size > base + size:
        kernel.munmap(base + size, whole + size - base)
    return base


@dataclass(slots=True)
class _Making:
    """An enclave that is being made at `base`: what was added so far, and what it is mapped with."""

    kernel: Kernel
    device: Device
    base: int
    ranges: list[tuple[int, int, Protection]] = field(default_factory=list)
    tcs: list[int] = field(default_factory=list)

    def create(self, image: EnclaveImage, sigstruct: Sigstruct, *, debug: bool) -> None:
        flags = sigstruct.attributes.flags | (AttributeFlags.DEBUG if debug else 0)
        secs = Secs(
            size=image.size,
            baseaddr=self.base,
            ssaframesize=image.ssaframesize,
            miscselect=sigstruct.miscselect,
            attributes=Attributes(flags & ~AttributeFlags.INIT, sigstruct.attributes.xfrm),
        )
        with _Staged(self.kernel, secs.to_bytes()) as source:
            try:
                self.ask(abi.CREATE, abi.CREATE_ARGUMENT.pack(source.address))
            except OSError as error:
                raise problems.create_problem(error) from error

    def add(self, run: PageRun) -> None:
        for first in range(0, run.count, _PIECE):
            count = min(_PIECE, run.count - first)
            data = b"".join(run.page(index) for index in range(first, first + count))
            with _Staged(self.kernel, data, run.secinfo.to_bytes()) as source:
                piece = _Piece(run.offset + first * PAGE_SIZE, len(data), source.address, run.measured)
                try:
                    if self.device.interface.token:
                        self.add_one_by_one(piece)
                    else:
                        self.add_pages(piece)
                except OSError as error:
                    raise problems.add_problem(error) from error
        self.ranges.append((self.base + run.offset, self.base + run.end, _protection(run.secinfo)))
        if run.secinfo.page_type == PageType.TCS:
            self.tcs += range(self.base + run.offset, self.base + run.end, PAGE_SIZE)

    def add_pages(self, piece: _Piece) -> None:
        if piece.measured not in ((), ALL_CHUNKS):
            at = hex(piece.offset)
            raise InputError(msg("the kernel measures pages whole or not at all; the one at {at} is not", at=at))
        flags = abi.MEASURE if piece.measured else 0
        done, idle = 0, 0
        while done < piece.size:
            length = piece.size - done
            fields = (piece.source + done, piece.offset + done, length, piece.secinfo, flags, 0)
            argument = bytearray(abi.ADD_PAGES_ARGUMENT.pack(*fields))
            failure = None
            try:
                self.kernel.ioctl(self.device.descriptor, abi.ADD_PAGES, argument)
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise
                failure = error
            added = abi.ADD_PAGES_ARGUMENT.unpack(argument)[-1]
            if added % PAGE_SIZE or added > length:
                raise HostError(
                    msg("the SGX driver says that it did {count} bytes of {length}", count=added, length=length)
                )
            done += added
            idle = 0 if added else idle + 1
            if idle > _RETRIES:
                raise failure or OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not added:
                time.sleep(_PAUSE)

    def add_one_by_one(self, piece: _Piece) -> None:
        mask = sum(1 << chunk for chunk in piece.measured)
        if piece.measured != tuple(chunk for chunk in ALL_CHUNKS if mask >> chunk & 1):
            raise InputError(msg("the driver measures the parts of a page in their order only"))
        for at in range(0, piece.size, PAGE_SIZE):
            address = self.base + piece.offset + at
            self.ask(abi.ISGX_ADD_PAGE, abi.ISGX_ADD_ARGUMENT.pack(address, piece.source + at, piece.secinfo, mask))

    def init(self, sigstruct: Sigstruct, token: bytes) -> None:
        if sigstruct.attributes.flags & AttributeFlags.PROVISIONKEY and self.device.interface.provision:
            self.allow_provisioning(self.device.interface.provision)
        data = sigstruct.to_bytes().ljust(PAGE_SIZE, b"\0")
        with _Staged(self.kernel, data, token) as source:
            if self.device.interface.token:
                request = abi.ISGX_INIT
                argument = abi.ISGX_INIT_ARGUMENT.pack(self.base, source.address, source.address + PAGE_SIZE)
            else:
                request, argument = abi.INIT, abi.INIT_ARGUMENT.pack(source.address)
            try:
                number = self.ask(request, argument)
            except OSError as error:
                raise problems.init_problem(error) from error
        if number:
            try:
                status = Status(number)
            except ValueError:
                raise HostError(msg("EINIT was refused with status {status}", status=number)) from None
            raise SgxError(Encls.EINIT, status)

    def allow_provisioning(self, path: str) -> None:
        try:
            descriptor = self.kernel.open(path)
        except OSError as error:
            raise problems.device_problem(path, error) from error
        try:
            self.ask(abi.PROVISION, abi.PROVISION_ARGUMENT.pack(descriptor))
        except OSError as error:
            raise problems.device_problem(path, error) from error
        finally:
            self.kernel.close(descriptor)

    def mapped(self, image: EnclaveImage) -> Made:
        pages = tuple(_merged(self.ranges))
        for begin, end, protection in pages:
            try:
                self.kernel.mmap(begin, end - begin, protection, MAP_SHARED | MAP_FIXED, self.device.descriptor)
            except OSError as error:
                raise problems.map_problem(error, self.device.interface.device) from error
        # A child of fork would share the enclave's threads with its parent.
        self.kernel.madvise(self.base, image.size, MADV_DONTFORK)
        return Made(self.device, self.base, image.size, pages, tuple(self.tcs))

    def ask(self, request: int, argument: bytes) -> int:
        """Ask the driver, and ask again where a signal came between."""
        return again(lambda: self.kernel.ioctl(self.device.descriptor, request, bytearray(argument)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Pages that lie in this process's memory at `source`, with their SECINFO behind them."""

    offset: int
    size: int
    source: int
    measured: tuple[int, ...]

    @property
    def secinfo(self) -> int:
        return self.source + self.size


def again(call: Callable[[], int]) -> int:
    """Call, and call again where a signal came between."""
    for _ in range(_RETRIES):
        try:
            return call()
        except OSError as error:
            if error.errno not in _AGAIN:
                raise
            time.sleep(_PAUSE)
    return call()


def _protection(secinfo: SecInfo) -> Protection:
    """What pages are mapped with; a TCS has no permissions in the EPCM, and is mapped for the processor to write."""
    if secinfo.page_type == PageType.TCS:
        return Protection.READ | Protection.WRITE
    flags = {PageFlags.R: Protection.READ, PageFlags.W: Protection.WRITE, PageFlags.X: Protection.EXEC}
    return sum((bit for flag, bit in flags.items() if flag in secinfo.flags), Protection.NONE)


def _merged(mapped: list[tuple[int, int, Protection]]) -> Iterator[tuple[int, int, Protection]]:
    """Ranges that touch and have the same protection, as one: each mapping takes of a limit of the process."""
    pages: list[tuple[int, int, Protection]] = []
    for begin, end, protection in sorted(mapped):
        if pages and pages[-1][1] == begin and pages[-1][2] == protection:
            pages[-1] = (pages[-1][0], end, protection)
        else:
            pages.append((begin, end, protection))
    yield from pages


class _Staged:
    """Bytes at a page's start in this process's memory, for the kernel to read, until the block ends."""

    def __init__(self, kernel: Kernel, *parts: bytes) -> None:
        self._kernel = kernel
        self._data = b"".join(parts)
        self._size = -(-len(self._data) // PAGE_SIZE) * PAGE_SIZE
        self.address = 0

    def __enter__(self) -> _Staged:
        writable = Protection.READ | Protection.WRITE
        self.address = self._kernel.mmap(0, self._size, writable, MAP_PRIVATE | MAP_ANONYMOUS, -1)
        self._kernel.write(self.address, self._data)
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.munmap(self.address, self._size)
