"""/dev/sgx_enclave: what the in-tree driver does for one open file, with its checks in their order and its errno.

Linux arch/x86/kernel/cpu/sgx/ioctl.c, encl.c and driver.c; <asm/sgx.h>. Functions raise OSError.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from sgxkit.emulator.einit import einit
from sgxkit.emulator.encls import (
    CHUNK_SIZE,
    add_regular_pages,
    eadd,
    ecreate,
    eextend,
    eremove,
    etrack,
    remove_enclave,
)
from sgxkit.emulator.encls_sgx2 import eaug, emodpr, emodt
from sgxkit.emulator.faults import Fault, PageFault
from sgxkit.emulator.memory import SparseMemory
from sgxkit.emulator.processor import Processor
from sgxkit.emulator.tracer.free_pages import FreePages
from sgxkit.emulator.tracer.interval_map import IntervalMap
from sgxkit.emulator.tracer.shared_epc import SharedEpc
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.einittoken import EINITTOKEN_SIZE
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageInfo, PageType, SecInfo
from sgxkit.isa.secs import Secs
from sgxkit.isa.sigstruct import SIGSTRUCT_SIZE
from sgxkit.isa.status import Status

CREATE, ADD_PAGES, INIT, PROVISION = 0x4008_A400, 0xC030_A401, 0x4008_A402, 0x4008_A403
RESTRICT_PERMISSIONS, MODIFY_TYPES, REMOVE_PAGES = 0xC028_A405, 0xC028_A406, 0xC018_A407
NAMES = {
    CREATE: "SGX_IOC_ENCLAVE_CREATE",
    ADD_PAGES: "SGX_IOC_ENCLAVE_ADD_PAGES",
    INIT: "SGX_IOC_ENCLAVE_INIT",
    PROVISION: "SGX_IOC_ENCLAVE_PROVISION",
    RESTRICT_PERMISSIONS: "SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS",
    MODIFY_TYPES: "SGX_IOC_ENCLAVE_MODIFY_TYPES",
    REMOVE_PAGES: "SGX_IOC_ENCLAVE_REMOVE_PAGES",
}

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
_RWX = PROT_READ | PROT_WRITE | PROT_EXEC

_ADD = struct.Struct("<6Q")
_MODIFY = struct.Struct("<5Q")
_REMOVE = struct.Struct("<3Q")
_POINTER = struct.Struct("<Q")
_MEASURE = 1
_SECINFO_RESERVED = 0xFFFF_FFFF_FFFF_00C0 | 0x38  # PENDING, MODIFIED and PR are the processor's
_VA_SLOTS = 512
_ALLOWED_UNASKED = ~(AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKEN_KEY)
_VENDORS = (0, 0x8086)
_CHUNK = 256 * PAGE_SIZE
"""How much of ADD_PAGES is done between two looks at pending signals."""

_FIRST, _SECOND, _THIRD, _FOURTH = 0x1000, 0x2000, 0x3000, 0x4000


class UserMemory(Protocol):
    """Memory of the calling process; raises OSError EFAULT."""

    def read(self, address: int, size: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...


@dataclass(slots=True)
class Driver:
    """What all open files of the device have in common."""

    processor: Processor
    epc: SharedEpc
    free: FreePages

    def __init__(self, processor: Processor, epc: SharedEpc) -> None:
        self.processor = processor
        self.epc = epc
        self.free = FreePages(processor.epc.base, processor.epc.size)


@dataclass(slots=True, eq=False)
class EnclaveFile:
    """One open file of the device: at most one enclave.

    descriptor    the memfd that the program has in its place, opened by the tracer.
    pages         EPC page by linear address.
    may_map       protections that a mapping of a page may have; 0 where there is no page.
    accessible    protections that the EPCM gives the enclave's own code.
    exits         where EEXIT was executed.
    """

    driver: Driver
    descriptor: int
    base: int = 0
    size: int = 0
    created: bool = False
    initialized: bool = False
    attributes: int = 0
    allowed_attributes: int = _ALLOWED_UNASKED
    secs: int = 0
    memory: mmap.mmap | None = None
    pages: dict[int, int] = field(default_factory=dict)
    may_map: IntervalMap = field(default_factory=IntervalMap)
    accessible: IntervalMap = field(default_factory=IntervalMap)
    runs: list[tuple[int, int]] = field(default_factory=list)
    va_pages: list[tuple[int, int]] = field(default_factory=list)
    page_count: int = 0
    exits: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        return self.base + self.size

    def covers(self, address: int) -> bool:
        return self.created and self.base <= address < self.base + self.size

    def require_may_map(self, start: int, end: int, protection: int) -> None:
        """EACCES for a mapping outside an initialized enclave, or with more than a page's own permissions."""
        if self.initialized and (start < self.base or end > self.end):
            raise OSError(errno.EACCES, "outside the enclave")
        for first, last, most in self.may_map.runs(start, end):
            if most & _PRESENT and protection & ~most:
                raise OSError(errno.EACCES, f"{first:#x}-{last:#x}")

    def ioctl(
        self, command: int, argument: int, memory: UserMemory, *, interrupted: Callable[[], bool], provision: bool
    ) -> None:
        """Do one ioctl. `provision`: whether PROVISION's descriptor is one of /dev/sgx_provision."""
        if command == CREATE:
            self._create(argument, memory)
        elif command == ADD_PAGES:
            self._add_pages(argument, memory, interrupted)
        elif command == INIT:
            self._init(argument, memory)
        elif command == PROVISION:
            memory.read(argument, _POINTER.size)
            if not provision:
                raise OSError(errno.EINVAL, "not /dev/sgx_provision")
            self.allowed_attributes |= AttributeFlags.PROVISIONKEY
        elif command == RESTRICT_PERMISSIONS:
            self._modify(argument, memory, self._restrict)
        elif command == MODIFY_TYPES:
            self._modify(argument, memory, self._modify_type)
        elif command == REMOVE_PAGES:
            self._remove_pages(argument, memory)
        else:
            raise OSError(errno.ENOTTY, hex(command))

    def release(self) -> None:
        """Give back all EPC pages; no thread may be inside."""
        driver = self.driver
        if self.created:
            remove_enclave(driver.processor, self.secs, self.runs)
        if self.memory is not None:
            driver.epc.forget(self.memory)
            self.memory.close()
            self.memory = None
        for start, count in (*self.runs, *self.va_pages, *([(self.secs, 1)] if self.created else ())):
            driver.free.give_back(start, count)
        self.created = self.initialized = False
        self.runs, self.va_pages, self.pages = [], [], {}
        os.close(self.descriptor)

    def grow(self, count: int) -> None:
        """Take the pages of version arrays that `count` more pages need."""
        needed = -(-(self.page_count + count) // _VA_SLOTS) - -(-self.page_count // _VA_SLOTS)
        if needed:
            self.va_pages += self.driver.free.take(needed)
        self.page_count += count

    def augment(self, address: int) -> None:
        """EAUG the page of `address`, as a page fault there does; ENOMEM where there is no EPC left."""
        driver, linear = self.driver, address & -PAGE_SIZE
        ((page, _),) = driver.free.take(1)
        try:
            self.grow(1)
        except OSError:
            driver.free.give_back(page, 1)
            raise
        memory = SparseMemory()
        memory.write(_FIRST, PageInfo(linear, 0, 0, self.secs).to_bytes())
        assert self.memory is not None
        driver.epc.place(page, 1, self.memory, linear - self.base)
        eaug(driver.processor, memory, _FIRST, page)
        self.pages[linear] = page
        self.runs.append((page, 1))
        self.may_map.set(linear, linear + PAGE_SIZE, _RWX | _PRESENT)
        self.note(linear)

    def note(self, linear: int) -> None:
        """See what the EPCM says of a page now."""
        page = self.pages.get(linear)
        entry = None if page is None else self.driver.processor.epc.entry(page)
        usable = entry is not None and entry.page_type is PageType.REG and not (entry.pending or entry.modified)
        self.accessible.set(
            linear, linear + PAGE_SIZE, _protection(entry.permissions) if usable and entry is not None else 0
        )

    def _create(self, argument: int, memory: UserMemory) -> None:
        if self.created:
            raise OSError(errno.EINVAL, "there is an enclave already")
        (source,) = _POINTER.unpack(memory.read(argument, _POINTER.size))
        raw = memory.read(source, PAGE_SIZE)
        secs = Secs.from_bytes(raw, ignore_reserved=True)
        if secs.size.bit_count() != 1:
            raise OSError(errno.EINVAL, "SECS.SIZE")
        driver = self.driver
        self.grow(1)
        try:
            ((page, _),) = driver.free.take(1)
            operands = SparseMemory()
            operands.write(_SECOND, raw)
            operands.write(_THIRD, bytes(64))
            operands.write(_FIRST, PageInfo(0, _SECOND, _THIRD, 0).to_bytes())
            try:
                ecreate(driver.processor, operands, _FIRST, page)
            except Fault as fault:
                driver.free.give_back(page, 1)
                raise OSError(errno.EIO, str(fault)) from fault
        except OSError:
            self.page_count -= 1
            for start, count in self.va_pages:
                driver.free.give_back(start, count)
            self.va_pages = []
            raise
        os.ftruncate(self.descriptor, secs.size)
        self.memory = mmap.mmap(self.descriptor, secs.size)
        self.base, self.size, self.secs = secs.baseaddr, secs.size, page
        self.attributes = secs.attributes.flags
        self.created = True

    def _add_pages(self, argument: int, memory: UserMemory, interrupted: Callable[[], bool]) -> None:
        if not self.created or self.initialized:
            raise OSError(errno.EINVAL, "not between CREATE and INIT")
        source, offset, length, secinfo_at, flags, _ = _ADD.unpack(memory.read(argument, _ADD.size))
        if source % PAGE_SIZE:
            raise OSError(errno.EINVAL, "src")
        self._require_range(offset, length)
        raw = memory.read(secinfo_at, 64)
        secinfo = _secinfo(raw)
        done = 0
        try:
            while done < length:
                if done and interrupted():
                    return
                part = min(_CHUNK, length - done)
                part = self._add_run(
                    memory, source + done, offset + done, part, secinfo, measure=bool(flags & _MEASURE)
                )
                done += part
        finally:
            memory.write(argument + _ADD.size - 8, _POINTER.pack(done))

    def _add_run(
        self, memory: UserMemory, source: int, offset: int, length: int, secinfo: SecInfo, *, measure: bool
    ) -> int:
        """Add up to `length` bytes; returns how many were added. Raises only where none was."""
        try:
            contents = memory.read(source, length)
        except OSError:
            if length == PAGE_SIZE:
                self._require_absent(self.base + offset)
                raise
            return self._add_run(memory, source, offset, PAGE_SIZE, secinfo, measure=measure)
        linear, driver = self.base + offset, self.driver
        single = secinfo.page_type != PageType.REG or any(
            linear + at in self.pages for at in range(0, length, PAGE_SIZE)
        )
        count = (
            1 if single else min(length // PAGE_SIZE, max(1, driver.free.left - length // PAGE_SIZE // _VA_SLOTS - 2))
        )
        pages = driver.free.take(count)
        try:
            self.grow(count)
        except OSError:
            for start, part in pages:
                driver.free.give_back(start, part)
            raise
        assert self.memory is not None
        done = 0
        for start, part in pages:
            at = done * PAGE_SIZE
            try:
                self._require_absent(linear + at)
                driver.epc.place(start, part, self.memory, offset + at)
                data = contents[at : at + part * PAGE_SIZE]
                if secinfo.page_type == PageType.REG:
                    zero = not data.strip(b"\0")
                    add_regular_pages(
                        driver.processor,
                        self.secs,
                        start,
                        linear + at,
                        secinfo=secinfo,
                        contents=part if zero else data,
                        measure=measure,
                    )
                else:
                    self._add_tcs(start, linear + at, data, secinfo, measure=measure)
            except (OSError, Fault) as error:
                self.page_count -= part
                driver.free.give_back(start, part)
                if isinstance(error, OSError):
                    raise
                raise OSError(errno.EIO, str(error)) from error
            self.runs.append((start, part))
            first = linear + at
            self.pages.update(
                zip(
                    range(first, first + part * PAGE_SIZE, PAGE_SIZE),
                    range(start, start + part * PAGE_SIZE, PAGE_SIZE),
                    strict=True,
                )
            )
            regular = secinfo.page_type == PageType.REG
            protection = _protection(secinfo.permissions) if regular else PROT_READ | PROT_WRITE
            self.may_map.set(first, first + part * PAGE_SIZE, protection | _PRESENT)
            self.accessible.set(first, first + part * PAGE_SIZE, protection if regular else 0)
            done += part
        return done * PAGE_SIZE

    def _add_tcs(self, page: int, linear: int, contents: bytes, secinfo: SecInfo, *, measure: bool) -> None:
        operands = SparseMemory()
        operands.write(_SECOND, contents)
        operands.write(_THIRD, secinfo.to_bytes())
        operands.write(_FIRST, PageInfo(linear, _SECOND, _THIRD, self.secs).to_bytes())
        processor = self.driver.processor
        eadd(processor, operands, _FIRST, page)
        if measure:
            for chunk in range(0, PAGE_SIZE, CHUNK_SIZE):
                eextend(processor, self.secs, page + chunk)

    def _require_absent(self, linear: int) -> None:
        if linear in self.pages:
            raise OSError(errno.EBUSY, "there is a page already")

    def _init(self, argument: int, memory: UserMemory) -> None:
        if not self.created or self.initialized:
            raise OSError(errno.EINVAL, "not between CREATE and INIT")
        (source,) = _POINTER.unpack(memory.read(argument, _POINTER.size))
        raw = memory.read(source, SIGSTRUCT_SIZE)
        if int.from_bytes(raw[16:20], "little") not in _VENDORS:
            raise OSError(errno.EINVAL, "SIGSTRUCT.VENDOR")
        if self.attributes & ~self.allowed_attributes:
            raise OSError(errno.EACCES, "ATTRIBUTES that need a right")
        processor = self.driver.processor
        profile = processor.fuses.profile
        flags, xfrm, flags_mask, xfrm_mask = struct.unpack_from("<4Q", raw, 928)
        miscselect, misc_mask = struct.unpack_from("<2I", raw, 900)
        if (
            flags & flags_mask & ~(profile.attributes.flags | AttributeFlags.INIT)
            or miscselect & misc_mask & ~profile.miscselect
            or xfrm & xfrm_mask & ~profile.attributes.xfrm
        ):
            raise OSError(errno.EINVAL, "SIGSTRUCT asks for what the processor has not")
        if profile.flexible_launch_control:
            processor.write_launch_key_hash(sha256(raw[128:512]).digest())
        operands = SparseMemory()
        operands.write(_FIRST, raw)
        operands.write(_SECOND, bytes(EINITTOKEN_SIZE))
        try:
            status = einit(processor, operands, _FIRST, self.secs, _SECOND)
        except Fault as fault:
            raise OSError(errno.EIO, str(fault)) from fault
        if status is not Status.SGX_SUCCESS:
            raise OSError(errno.EPERM, status.name)
        self.initialized = True

    def _require_range(self, offset: int, length: int) -> None:
        if offset % PAGE_SIZE or not length or length % PAGE_SIZE:
            raise OSError(errno.EINVAL, "offset, length")
        if offset + length >= 1 << 64 or offset + length - PAGE_SIZE >= self.size:
            raise OSError(errno.EINVAL, "offset, length")

    def _require_sgx2(self) -> None:
        if not self.driver.processor.fuses.profile.sgx2:
            raise OSError(errno.ENODEV, "no SGX2")
        if not self.initialized:
            raise OSError(errno.EINVAL, "not initialized")

    def _modify(self, argument: int, memory: UserMemory, change: Callable[[int, int], Status]) -> None:
        """RESTRICT_PERMISSIONS and MODIFY_TYPES: the same structure, the same order of checks."""
        self._require_sgx2()
        offset, length, value, result, count = _MODIFY.unpack(memory.read(argument, _MODIFY.size))
        self._require_range(offset, length)
        if change == self._restrict:
            if value & ~_RWX or (value & PROT_WRITE and not value & PROT_READ):
                raise OSError(errno.EINVAL, "permissions")
        elif value & ~0xFF:
            raise OSError(errno.EINVAL, "page_type")
        if result or count:
            raise OSError(errno.EINVAL, "result, count")
        done = result = 0
        try:
            if change == self._modify_type and value not in (PageType.TCS, PageType.TRIM):
                raise OSError(errno.EINVAL, "page_type")
            for linear in range(self.base + offset, self.base + offset + length, PAGE_SIZE):
                try:
                    status = change(linear, value)
                except Fault as fault:
                    raise OSError(errno.EFAULT, str(fault)) from fault
                if status is not Status.SGX_SUCCESS:
                    result = int(status)
                    raise OSError(errno.EFAULT, status.name)
                self._track()
                self.note(linear)
                done += PAGE_SIZE
        finally:
            memory.write(argument + 24, struct.pack("<2Q", result, done))

    def _restrict(self, linear: int, permissions: int) -> Status:
        page, page_type = self._page(linear)
        if page_type is not PageType.REG:
            raise OSError(errno.EINVAL, "not a regular page")
        operands = SparseMemory()
        operands.write(_FIRST, SecInfo(PageFlags(permissions), 0).to_bytes())
        return emodpr(self.driver.processor, operands, _FIRST, page)

    def _modify_type(self, linear: int, page_type: int) -> Status:
        page, old = self._page(linear)
        if not (old is PageType.REG or (old is PageType.TCS and page_type == PageType.TRIM)):
            raise OSError(errno.EINVAL, "the page's type")
        before = self.may_map[linear]
        if old is PageType.REG and page_type == PageType.TCS:
            if ~before & (PROT_READ | PROT_WRITE):
                raise OSError(errno.EPERM, "the page's permissions")
            self.may_map.set(linear, linear + PAGE_SIZE, PROT_READ | PROT_WRITE | _PRESENT)
        operands = SparseMemory()
        operands.write(_FIRST, SecInfo(PageFlags(0), page_type).to_bytes())
        try:
            status = emodt(self.driver.processor, operands, _FIRST, page)
        except Fault:
            self.may_map.set(linear, linear + PAGE_SIZE, before)
            raise
        if status is not Status.SGX_SUCCESS:
            self.may_map.set(linear, linear + PAGE_SIZE, before)
        return status

    def _remove_pages(self, argument: int, memory: UserMemory) -> None:
        self._require_sgx2()
        offset, length, count = _REMOVE.unpack(memory.read(argument, _REMOVE.size))
        self._require_range(offset, length)
        if count:
            raise OSError(errno.EINVAL, "count")
        done = 0
        processor = self.driver.processor
        operands = SparseMemory()
        operands.write(_FIRST, SecInfo(PageFlags.RWX, 0).to_bytes())
        try:
            for linear in range(self.base + offset, self.base + offset + length, PAGE_SIZE):
                page, page_type = self._page(linear)
                if page_type is not PageType.TRIM:
                    raise OSError(errno.EPERM, "the page is not trimmed")
                # EMODPR of a trimmed page faults once the enclave has accepted that it is: the driver asks so.
                try:
                    emodpr(processor, operands, _FIRST, page)
                except PageFault:
                    pass
                else:
                    raise OSError(errno.EPERM, "the enclave has not accepted that the page is trimmed")
                eremove(processor, page)
                del self.pages[linear]
                self._forget_run(page)
                self.driver.free.give_back(page, 1)
                self.page_count -= 1
                self.may_map.set(linear, linear + PAGE_SIZE, 0)
                self.note(linear)
                done += PAGE_SIZE
        finally:
            memory.write(argument + 16, _POINTER.pack(done))

    def _page(self, linear: int) -> tuple[int, PageType]:
        page = self.pages.get(linear)
        if page is None:
            raise OSError(errno.EFAULT, "there is no page")
        return page, self.driver.processor.epc.entry(page).page_type

    def _forget_run(self, page: int) -> None:
        for index, (start, count) in enumerate(self.runs):
            if start <= page < start + count * PAGE_SIZE:
                before, after = (page - start) // PAGE_SIZE, count - (page - start) // PAGE_SIZE - 1
                parts = ((start, before), (page + PAGE_SIZE, after))
                self.runs[index : index + 1] = [part for part in parts if part[1]]
                return

    def _track(self) -> None:
        """ETRACK, and what an interrupt to all processors does: each thread inside goes on in the new epoch.

        A thread that is interrupted leaves and comes back; nothing of that can be seen but its epoch.
        """
        processor = self.driver.processor
        for _ in range(2):
            status = etrack(processor, self.secs)
            for thread in processor.inside:
                if thread.active_secs == self.secs:
                    thread.epoch = processor.enclaves[self.secs].epoch
            if status is Status.SGX_SUCCESS:
                return
        raise OSError(errno.EFAULT, "ETRACK")


_PRESENT = 8


def _protection(permissions: PageFlags) -> int:
    """PROT_ bits of EPCM permissions: R, W and X have the same bits in both."""
    return int(permissions & PageFlags.RWX)


def _secinfo(raw: bytes) -> SecInfo:
    (word,) = _POINTER.unpack_from(raw)
    permissions, page_type = word & _RWX, word >> 8 & 0xFF
    if page_type not in (PageType.REG, PageType.TCS):
        raise OSError(errno.EINVAL, "SECINFO.PT")
    if permissions & PROT_WRITE and not permissions & PROT_READ:
        raise OSError(errno.EINVAL, "SECINFO.FLAGS")
    if page_type == PageType.TCS and permissions:
        raise OSError(errno.EINVAL, "SECINFO.FLAGS")
    if word & _SECINFO_RESERVED or any(raw[8:]):
        raise OSError(errno.EINVAL, "SECINFO")
    return SecInfo(PageFlags(permissions), page_type)
