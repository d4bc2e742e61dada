"""A kernel with an SGX driver for tests: the documented ioctls over the emulated processor, with a driver's manners.

It adds few pages at a call, is interrupted by signals, and refuses what the kernel refuses, with its numbers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from sgxkit.driver import abi
from sgxkit.driver.kernel import MAP_FIXED, MAP_SHARED, Protection
from sgxkit.emulator.einit import einit
from sgxkit.emulator.encls import eadd, ecreate, eextend, eremove
from sgxkit.emulator.engine import Engine
from sgxkit.emulator.epc import Epc
from sgxkit.emulator.faults import Fault
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.loading import LoadedEnclave
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import Processor
from sgxkit.enclave.platform import ExitRegisters, Registers
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.sigstruct import SIGSTRUCT_SIZE, Sigstruct
from sgxkit.isa.status import Status

EPC_BASE = 0x8000_0000
_INFO, _SECINFO, _SOURCE, _TOKEN = 0x1000, 0x2000, 0x3000, 0x5000


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class FakeEnclave:
    """What the driver knows of an open device."""

    secs: int | None = None
    base: int = 0
    size: int = 0
    provision: bool = False
    initialized: bool = False
    pages: dict[int, int] = field(default_factory=dict)
    permissions: dict[int, Protection] = field(default_factory=dict)
    tcs: list[int] = field(default_factory=list)


@dataclass
class FakeKernel:
    """Implements `sgxkit.driver.kernel.Kernel`.

    devices     what can be opened; the others are absent.
    refusals    by device: the error that opening it gives.
    interrupt   called before each ioctl with its request: raises OSError, as signals and refusals do.
    at_once     pages that one ADD_PAGES adds.
    """

    devices: tuple[str, ...] = ("/dev/sgx_enclave", "/dev/sgx_provision")
    refusals: dict[str, int] = field(default_factory=dict)
    interrupt: Callable[[int], None] = lambda _: None
    at_once: int = 3
    noexec: bool = False
    memory: SparseMemory = field(default_factory=SparseMemory)
    processor: Processor = field(
        default_factory=lambda: Processor(Fuses.from_seed(b"kernel"), Epc(EPC_BASE, 1024 * PAGE_SIZE))
    )
    open_files: dict[int, tuple[str, FakeEnclave]] = field(default_factory=dict)
    mappings: dict[int, int] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    changed: list[tuple[int, ...]] = field(default_factory=list)
    _next: int = 0x6000_0000_1000
    _taken: int = 0

    def open(self, path: str) -> int:
        if path in self.refusals:
            raise failure(self.refusals[path])
        if path not in self.devices:
            raise failure(errno.ENOENT)
        descriptor = max(self.open_files, default=10) + 1
        self.open_files[descriptor] = (path, FakeEnclave())
        return descriptor

    def close(self, descriptor: int) -> None:
        _, enclave = self.open_files.pop(descriptor)
        for page in [*enclave.pages.values(), *([] if enclave.secs is None else [enclave.secs])]:
            assert eremove(self.processor, page) is Status.SGX_SUCCESS

    def mmap(self, address: int, size: int, protection: Protection, flags: int, descriptor: int) -> int:
        assert size % PAGE_SIZE == 0
        if flags & MAP_SHARED:
            assert flags & MAP_FIXED
            self._map_enclave(address, size, protection, self.open_files[descriptor][1])
            return address
        address, self._next = self._next, self._next + size + PAGE_SIZE
        self.mappings.update(dict.fromkeys(range(address, address + size, PAGE_SIZE), 0))
        return address

    def _map_enclave(self, address: int, size: int, protection: Protection, enclave: FakeEnclave) -> None:
        if self.noexec and protection & Protection.EXEC:
            raise failure(errno.EPERM)
        for page in range(address, address + size, PAGE_SIZE):
            assert page in self.mappings, "only what was reserved may be mapped over"
            if protection & ~enclave.permissions.get(page, protection):
                raise failure(errno.EACCES)

    def munmap(self, address: int, size: int) -> None:
        assert size > 0
        for page in range(address, address + size, PAGE_SIZE):
            del self.mappings[page]

    def mprotect(self, address: int, size: int, protection: Protection) -> None: ...

    def madvise(self, address: int, size: int, advice: int) -> None: ...

    def read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(address, data)

    def read_debug(self, address: int, size: int) -> bytes:
        for _, enclave in self.open_files.values():
            page = enclave.pages.get(address & -PAGE_SIZE)
            if page is not None:
                length = min(size, PAGE_SIZE - address % PAGE_SIZE)
                return self.processor.epc.read(page + address % PAGE_SIZE, length)
        raise failure(errno.EIO)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> int:
        path, enclave = self.open_files[descriptor]
        self.requests.append(request)
        if request == abi.MODIFY_TYPES and enclave.secs is None:
            raise failure(errno.EINVAL)
        self.interrupt(request)
        if path == "/dev/isgx":
            return self._isgx(enclave, request, argument)
        assert path != "/dev/sgx_provision"
        match request:
            case abi.CREATE:
                return self._create(enclave, argument)
            case abi.ADD_PAGES:
                return self._add_pages(enclave, argument)
            case abi.INIT:
                (source,) = abi.INIT_ARGUMENT.unpack(argument)
                status = self._init(enclave, self.memory.read(source, SIGSTRUCT_SIZE), bytes(304))
                if status:
                    raise failure(errno.EPERM)
                return 0
            case abi.PROVISION:
                (descriptor,) = abi.PROVISION_ARGUMENT.unpack(argument)
                if self.open_files[descriptor][0] != "/dev/sgx_provision":
                    raise failure(errno.EINVAL)
                enclave.provision = True
                return 0
            case abi.RESTRICT_PERMISSIONS | abi.MODIFY_TYPES | abi.REMOVE_PAGES:
                return self._change(request, argument)
        raise failure(errno.ENOTTY)

    def _create(self, enclave: FakeEnclave, argument: bytearray) -> int:
        (source,) = abi.CREATE_ARGUMENT.unpack(argument)
        secs = Secs.from_bytes(self.memory.read(source, PAGE_SIZE))
        self.memory.write(_SECINFO, SecInfo(PageFlags(0), PageType.SECS).to_bytes())
        self.memory.write(_INFO, PageInfo(0, source, _SECINFO, 0).to_bytes())
        page = self._take()
        try:
            ecreate(self.processor, self.memory, _INFO, page)
        except Fault as fault:
            raise failure(errno.EIO) from fault
        enclave.secs, enclave.base, enclave.size = page, secs.baseaddr, secs.size
        return 0

    def _add_pages(self, enclave: FakeEnclave, argument: bytearray) -> int:
        source, offset, length, secinfo, flags, _ = abi.ADD_PAGES_ARGUMENT.unpack(argument)
        if not length or (source | offset | length) % PAGE_SIZE or offset + length > enclave.size:
            raise failure(errno.EINVAL)
        done = min(length, self.at_once * PAGE_SIZE)
        for at in range(0, done, PAGE_SIZE):
            chunks = range(16) if flags & abi.MEASURE else range(0)
            self._add(enclave, enclave.base + offset + at, source + at, secinfo, chunks)
        argument[:] = abi.ADD_PAGES_ARGUMENT.pack(source, offset, length, secinfo, flags, done)
        return 0

    def _add(self, enclave: FakeEnclave, linear: int, source: int, secinfo: int, chunks: range | list[int]) -> None:
        assert enclave.secs is not None
        page = self._take()
        kind = SecInfo.from_bytes(self.memory.read(secinfo, 64))
        self.memory.write(_SECINFO, kind.to_bytes())
        self.memory.write(_SOURCE, self.memory.read(source, PAGE_SIZE))
        self.memory.write(_INFO, PageInfo(linear, _SOURCE, _SECINFO, enclave.secs).to_bytes())
        eadd(self.processor, self.memory, _INFO, page)
        for chunk in chunks:
            eextend(self.processor, enclave.secs, page + chunk * 256)
        enclave.pages[linear] = page
        is_tcs = kind.page_type == PageType.TCS
        if is_tcs:
            enclave.tcs.append(linear)
        flags = PageFlags.RW if is_tcs else kind.flags
        enclave.permissions[linear] = Protection(int(flags) & 7)

    def _init(self, enclave: FakeEnclave, sigstruct: bytes, token: bytes) -> int:
        assert enclave.secs is not None
        parsed = Sigstruct.from_bytes(sigstruct)
        if parsed.attributes.flags & AttributeFlags.PROVISIONKEY and not enclave.provision:
            raise failure(errno.EACCES)
        if self.processor.fuses.profile.flexible_launch_control:
            self.processor.write_launch_key_hash(parsed.mrsigner)
        self.memory.write(_SOURCE, sigstruct)
        self.memory.write(_TOKEN, token)
        status = einit(self.processor, self.memory, _SOURCE, enclave.secs, _TOKEN)
        enclave.initialized = status is Status.SGX_SUCCESS
        return int(status)

    def _isgx(self, enclave: FakeEnclave, request: int, argument: bytearray) -> int:
        match request:
            case abi.CREATE:
                return self._create(enclave, argument)
            case abi.ISGX_ADD_PAGE:
                address, source, secinfo, mask = abi.ISGX_ADD_ARGUMENT.unpack(argument)
                self._add(enclave, address, source, secinfo, [chunk for chunk in range(16) if mask >> chunk & 1])
                return 0
            case abi.ISGX_INIT:
                address, sigstruct, token = abi.ISGX_INIT_ARGUMENT.unpack(argument)
                assert address == enclave.base
                return self._init(enclave, self.memory.read(sigstruct, SIGSTRUCT_SIZE), self.memory.read(token, 304))
        raise failure(errno.ENOTTY)

    def _change(self, request: int, argument: bytearray) -> int:
        layout = abi.REMOVE_ARGUMENT if request == abi.REMOVE_PAGES else abi.MODIFY_ARGUMENT
        fields = layout.unpack(argument)
        done = min(fields[1], self.at_once * PAGE_SIZE)
        self.changed.append((request, fields[0], done, *fields[2:-2]))
        argument[:] = layout.pack(*fields[:-1], done)
        return 0

    def _take(self) -> int:
        self._taken += 1
        return EPC_BASE + (self._taken - 1) * PAGE_SIZE

    def door(self) -> FakeDoor:
        return FakeDoor(self)


@dataclass
class FakeDoor:
    """Implements `sgxkit.driver.entry.Door`: into whichever enclave has the TCS."""

    kernel: FakeKernel

    def go(self, leaf: Enclu, tcs: int, registers: Registers) -> ExitRegisters:
        for _, enclave in self.kernel.open_files.values():
            if tcs in enclave.tcs and enclave.secs is not None:
                loaded = LoadedEnclave(self.kernel.processor, enclave.secs, enclave.pages, tuple(enclave.tcs))
                engine = Engine(loaded, self.kernel.memory)
                return (engine.enter if leaf is Enclu.EENTER else engine.resume)(tcs, registers)
        raise AssertionError("no enclave has that TCS")

    def close(self) -> None: ...
