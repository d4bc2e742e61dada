"""SGX of this computer behind the interface that it shares with the emulated one (`enclave.platform`)."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from sgxkit.driver import abi, problems
from sgxkit.driver.entry import Door, open_door
from sgxkit.driver.kernel import Kernel, Linux
from sgxkit.driver.loading import Made, make, open_device
from sgxkit.driver.memory import ProcessMemory
from sgxkit.enclave.image import EnclaveImage
from sgxkit.enclave.platform import EnclaveIdentity, ExitRegisters, PlatformInfo, Registers
from sgxkit.errors import InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.messages import msg

LaunchToken = Callable[[Sigstruct, Attributes], bytes]
"""Gets the EINITTOKEN, 304 bytes, for an enclave with these ATTRIBUTES."""


@dataclass(slots=True, eq=False)
class KernelEnclave:
    """An enclave in this process; implements `enclave.platform.Enclave`. Several threads may be in it, one a TCS."""

    kernel: Kernel
    made: Made
    identity: EnclaveIdentity
    memory: ProcessMemory
    doors: Callable[[], Door]
    process: int = field(default_factory=os.getpid)
    removed: bool = False
    _inside: dict[int, threading.Lock] = field(default_factory=dict)
    _open: dict[int, Door] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inside = {tcs: threading.Lock() for tcs in self.made.tcs}

    @property
    def base(self) -> int:
        return self.made.base

    @property
    def size(self) -> int:
        return self.made.size

    @property
    def tcs(self) -> tuple[int, ...]:
        return self.made.tcs

    def enter(self, tcs: int, registers: Registers) -> ExitRegisters:
        """EENTER by the TCS at `tcs`; a zero RSP means the C stack of the calling thread.

        What runs inside cannot be interrupted: Ctrl-C counts when it has left. Raises InputError for an address that
        is no TCS, one that is in use, and in a child of fork.
        """
        return self._go(Enclu.EENTER, tcs, registers)

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        """ERESUME by the TCS at `tcs`; raises as `enter` does."""
        return self._go(Enclu.ERESUME, tcs, registers)

    def _go(self, leaf: Enclu, tcs: int, registers: Registers) -> ExitRegisters:
        if self.removed or self.process != os.getpid():
            raise InputError(msg("the enclave is not in this process"))
        if tcs not in self._inside:
            raise InputError(msg("there is no TCS at {address}", address=hex(tcs)))
        if not self._inside[tcs].acquire(blocking=False):
            raise InputError(msg("a thread is inside by the TCS at {address}", address=hex(tcs)))
        try:
            if tcs not in self._open:
                self._open[tcs] = self.doors()
            return self._open[tcs].go(leaf, tcs, registers)
        finally:
            self._inside[tcs].release()

    def read_debug(self, address: int, size: int) -> bytes:
        """Read the enclave's pages by the kernel (EDBGRD); raises InputError for one in production mode."""
        if not self.identity.attributes.flags & AttributeFlags.DEBUG:
            raise InputError(msg("the enclave is in production mode: its memory cannot be read"))
        if not (self.base <= address and address + size <= self.base + self.size):
            raise InputError(msg("the enclave has no page at {address}", address=hex(address)))
        try:
            found = self.kernel.read_debug(address, size)
        except OSError as error:
            raise InputError(msg("the enclave has no page at {address}", address=hex(address))) from error
        if len(found) != size:
            raise InputError(msg("the enclave has no page at {address}", address=hex(address + len(found))))
        return found

    def remove(self) -> None:
        """Unmap it and close its device: the kernel removes its pages. Raises InputError while a thread is inside."""
        if self.removed or self.process != os.getpid():
            return
        for tcs, lock in self._inside.items():
            if not lock.acquire(blocking=False):
                raise InputError(msg("a thread is inside by the TCS at {address}", address=hex(tcs)))
        self.removed = True
        for door in self._open.values():
            door.close()
        self.kernel.munmap(self.base, self.size)
        self.kernel.close(self.made.device.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.remove()


@dataclass(slots=True, eq=False)
class KernelPlatform:
    """The SGX of this computer; implements `enclave.platform.Platform`.

    launch_token   for drivers that need one (isgx): without it they launch nothing.
    """

    kernel: Kernel = field(default_factory=Linux)
    doors: Callable[[], Door] = open_door
    launch_token: LaunchToken | None = None

    @property
    def info(self) -> PlatformInfo:
        """Raises HostError where there is no device, or it cannot be opened."""
        device = open_device(self.kernel)
        try:
            sgx2 = _has_sgx2(self.kernel, device.descriptor)
        finally:
            self.kernel.close(device.descriptor)
        return PlatformInfo(
            kind="kernel",
            name=processor_name(),
            epc_size=epc_size(),
            sgx2=sgx2,
            flexible_launch_control=not device.interface.token,
        )

    def load(self, image: EnclaveImage, sigstruct: Sigstruct, *, debug: bool) -> KernelEnclave:
        """Load through the kernel's driver; raises HostError and SgxError as `loading.make`."""
        device = open_device(self.kernel)
        flags = sigstruct.attributes.flags | (AttributeFlags.DEBUG if debug else 0)
        attributes = Attributes(flags, sigstruct.attributes.xfrm)
        try:
            token = bytes(304)
            if device.interface.token:
                if self.launch_token is None:
                    raise InputError(
                        msg("the driver of {device} needs a launch token, and nobody gives one", device="/dev/isgx"),
                        hint=msg("use a kernel with its own SGX driver (5.11 or newer)"),
                    )
                token = self.launch_token(sigstruct, attributes)
            made = make(self.kernel, device, image, sigstruct, debug=debug, token=token)
        except BaseException:
            self.kernel.close(device.descriptor)
            raise
        identity = EnclaveIdentity(
            mrenclave=sigstruct.enclavehash,
            mrsigner=sigstruct.mrsigner,
            attributes=Attributes(flags | AttributeFlags.INIT, sigstruct.attributes.xfrm),
            miscselect=sigstruct.miscselect,
            isvprodid=sigstruct.isvprodid,
            isvsvn=sigstruct.isvsvn,
            isvfamilyid=sigstruct.isvfamilyid,
            isvextprodid=sigstruct.isvextprodid,
        )
        return KernelEnclave(self.kernel, made, identity, ProcessMemory(self.kernel), self.doors)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return " ".join(value.split())
    except OSError:
        return "?"  # a name is for people, and missed by nobody else
    return "?"


def epc_size(nodes: Path = Path("/sys/devices/system/node")) -> int | None:
    """Bytes of EPC of all memory nodes (Linux 5.17 and newer); None where the kernel does not say."""
    try:
        return sum(int(file.read_text()) for file in nodes.glob("node*/x86/sgx_total_bytes")) or None
    except (OSError, ValueError):
        return None


def _has_sgx2(kernel: Kernel, descriptor: int) -> bool:
    """Ask for a change of nothing on a device without an enclave: only who knows the call minds the enclave."""
    try:
        kernel.ioctl(descriptor, abi.MODIFY_TYPES, bytearray(abi.MODIFY_ARGUMENT.size))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.ENODEV, errno.EOPNOTSUPP):
            return False
        if error.errno == errno.EINVAL:
            return True
        raise problems.change_problem("EMODT", error, 0) from error
    return True
