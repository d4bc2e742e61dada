"""An enclave of Intel's SDK, called from Python: what uRTS and edger8r's bridges do in a C program.

The protocol is that of tRTS and uRTS of SDK 2.26 (psw/urts/linux/enter_enclave.S, sdk/trts/linux/trts_pic.S): RDI
has the number of the ECALL, or a command below zero; RSI its ``ms_`` struct. The enclave is left by EEXIT with RDI
= -1 and a status in RSI, or with the number of an OCALL in RDI and its struct in RSI; then it is entered again with
ECMD_ORET and the status. An exception inside is first shown to the enclave itself (ECMD_EXCEPT); when it has dealt
with it, it is resumed.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sgxkit.enclave.elf import Elf, parse_elf
from sgxkit.enclave.platform import Enclave, ExitRegisters, OutsideMemory, Platform, Registers
from sgxkit.enclave.sdk_elf import MAX_FILE_SIZE, choose_metadata, read_sdk_elf
from sgxkit.enclave.sdk_metadata import Metadata, parse_metadata
from sgxkit.errors import InputError, SgxkitError
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.isa.ssa import GPRSGX_SIZE, GprSgx
from sgxkit.isa.tcs import TCS_LIMIT, TCS_SIZE, Tcs
from sgxkit.messages import Message, msg
from sgxkit.sdk import cpuid as answers
from sgxkit.sdk.backtrace import Frame, Unwinder
from sgxkit.sdk.ecall import missing, pass_arguments
from sgxkit.sdk.edl.interface import Interface, read_interface
from sgxkit.sdk.edl.syntax import Ecall
from sgxkit.sdk.initialization import Cpuid, system_features
from sgxkit.sdk.layout import KnownType, Types
from sgxkit.sdk.ocall import Handler, receive
from sgxkit.sdk.own_ocalls import own_ocalls
from sgxkit.sdk.status import Crash, EnclaveCrashed, SdkError, SdkStatus
from sgxkit.sdk.symbols import Symbols
from sgxkit.sdk.threads import ThreadPool, TrustedThread

# Commands (internal/rts_cmd.h).
ECMD_INIT_ENCLAVE, ECMD_ORET, ECMD_EXCEPT, ECMD_ECALL_PTHREAD = -1, -2, -3, -6
OCMD_ERET = -1
DEFAULT_STACK_SIZE = 1 << 20
_WORD_MASK, _STATUS_MASK = (1 << 64) - 1, (1 << 32) - 1

HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclass(slots=True)
class _Call:
    """One ECALL that is under way; `failure` is what a handler of its OCALLs raised."""

    thread: TrustedThread
    name: str
    failure: Exception | None = None


class EcallProxy:
    """One ECALL as a Python function."""

    def __init__(self, enclave: SdkEnclave, number: int, ecall: Ecall) -> None:
        self._enclave, self._number, self._ecall = enclave, number, ecall
        self.__name__ = ecall.name
        self.__doc__ = f"{ecall.returns} {ecall.name}({', '.join(str(one.type) for one in ecall.parameters)})"
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(one.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in ecall.parameters]
        )

    def __call__(self, *arguments: object, **named: object) -> Any:
        """Make the ECALL; returns what the function returns, None for void.

        Raises InputError for arguments that do not fit, SdkError for a status that is not success, EnclaveCrashed,
        and whatever the handler of an OCALL raised.
        """
        try:
            bound = self.__signature__.bind(*arguments, **named)
        except TypeError:
            raise missing(self._ecall) from None
        return self._enclave.call(self._number, tuple(bound.arguments.values()))

    def __repr__(self) -> str:
        return f"<ECALL {self._number}: {self.__doc__}>"


@dataclass(frozen=True, slots=True)
class CallEvent:
    """An ECALL or OCALL begins (`status` is None) or has ended with this sgx_status_t.

    One that ends by an exception of Python's or a crash has no second event.
    """

    kind: Literal["ECALL", "OCALL"]
    name: str
    tcs: int
    status: int | None


class SdkEnclave:
    """An initialised enclave of Intel's SDK. ECALLs are its attributes: ``enclave.ecall_name(arguments)``.

    OCALLs are served by the functions that `ocall` registers, or that were given; those of Intel's own libraries
    are served already. Several threads may call at once, each on a TCS of its own.
    """

    def __init__(
        self,
        enclave: Enclave,
        interface: Interface,
        *,
        elf: bytes | None = None,
        ocalls: Mapping[str, Handler] | None = None,
        types: Mapping[str, KnownType] | None = None,
        cpuid: Cpuid = answers.cpuid,
        stack_size: int = DEFAULT_STACK_SIZE,
        watch: Callable[[CallEvent], None] | None = None,
    ) -> None:
        """Initialise a loaded enclave.

        elf         its file, for names, backtraces and the policy of its threads.
        ocalls      handlers by the names of OCALLs.
        types       what types of C headers are.
        cpuid       the processor that the enclave is told of.
        stack_size  bytes of the stack outside, which buffers of OCALLs lie on.
        watch       is told when each ECALL and OCALL begins and ends, on the thread that makes it.

        Raises SdkError where the enclave refuses, InputError where `interface` is not the enclave's.
        """
        self.enclave = enclave
        self.interface = interface
        self.types = Types(interface, types)
        self._file = _File.of(elf, enclave) if elf is not None else None
        if self._file is not None:
            self._file.require(interface)
        bound = self._file is None or self._file.metadata.bound_threads
        self._pool = ThreadPool(enclave.tcs, bound=bound, memory=enclave.memory, stack_size=stack_size)
        self._handlers: dict[str, Handler] = {}
        self._own = own_ocalls(self._pool, cpuid, self._run_new_thread)
        self._ecalls = {ecall.name: EcallProxy(self, n, ecall) for n, ecall in enumerate(interface.ecalls)}
        self._calls: dict[int, list[_Call]] = {}
        self._watch = watch
        self._errno = threading.local()
        self._crash: Crash | None = None
        self._destroyed = False
        for name, handler in (ocalls or {}).items():
            self.ocall(name)(handler)
        self._initialise(system_features(cpuid))

    @classmethod
    def load(
        cls, platform: Platform, path: Path | str, edl: Interface | Path | str, *, debug: bool = True, **options: Any
    ) -> Self:
        """Load a signed enclave into a platform, and initialise it; `edl` is its interface, or the file with it.

        `options` are those of the constructor. Raises as `Platform.load` and the constructor do.
        """
        data = _content(Path(path))
        interface = edl if isinstance(edl, Interface) else read_interface(Path(edl))
        image = read_sdk_elf(data, edmm=False)
        assert image.sigstruct is not None, "an SDK enclave that can be read has its signature"
        enclave = platform.load(image, image.sigstruct, debug=debug)
        try:
            return cls(enclave, interface, elf=data, **options)
        except BaseException:
            with suppress(SgxkitError):
                enclave.remove()
            raise

    # ECALLs

    @property
    def ecalls(self) -> Mapping[str, EcallProxy]:
        """The ECALLs by name."""
        return self._ecalls

    @property
    def memory(self) -> OutsideMemory:
        """The memory that the enclave shares with its caller: where ``user_check`` pointers lead."""
        return self.enclave.memory

    def __getattr__(self, name: str) -> EcallProxy:
        try:
            return self.__dict__["_ecalls"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"the enclave has no ECALL {name}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._ecalls]

    def call(self, number: int, arguments: tuple[object, ...]) -> object:
        """Make the ECALL of this number, as its proxy does."""
        ecall = self.interface.ecalls[number]
        passed = pass_arguments(ecall, arguments, self.types, self.memory)
        try:
            self._require_success(ecall.name, self._ecall(ecall.name, number, passed.address))
            return passed.result()
        finally:
            passed.free()

    # OCALLs

    def ocall(self, name: str) -> Callable[[HandlerT], HandlerT]:
        """Decorate the function that serves the OCALL `name`; it replaces one that was registered before.

        It gets the OCALL's arguments (`ocall.receive` says in which form) and returns what the OCALL returns. It
        may make ECALLs. What it raises ends the OCALL with SGX_ERROR_UNEXPECTED inside, and comes out of the ECALL.
        """
        if all(ocall.name != name for ocall in self.interface.ocalls):
            raise InputError(msg("the enclave has no OCALL {name}", name=name))

        def register(handler: HandlerT) -> HandlerT:
            self._handlers[name] = handler
            return handler

        return register

    @property
    def errno(self) -> int:
        """This thread's errno, which OCALLs with ``propagate_errno`` take along; a handler sets it."""
        return int(getattr(self._errno, "value", 0))

    @errno.setter
    def errno(self, value: int) -> None:
        self._errno.value = value

    # What is inside

    def symbol(self, name: str) -> int:
        """The address of a function or variable in the enclave; InputError where its file does not name it."""
        found = self._file and self._file.symbols.named(name)
        if self._file is None or not found:
            raise InputError(msg("the enclave's file has no symbol {name}", name=name))
        return self._file.base + found.address

    def read(self, address: int, size: int) -> bytes:
        """Read the memory of a debug enclave; raises InputError for one in production mode."""
        return self.enclave.read_debug(address, size)

    # The end

    def destroy(self) -> None:
        """Remove the enclave; doing it again does nothing. Raises SgxError while a thread is inside."""
        if not self._destroyed:
            self.enclave.remove()
            self._pool.free_stacks()
            self._destroyed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.destroy()

    # The protocol

    def _initialise(self, features: bytes) -> None:
        block = self.memory.allocate(len(features))
        try:
            self.memory.write(block, features)
            status = self._ecall("initialisation", ECMD_INIT_ENCLAVE, block)
        finally:
            self.memory.free(block)
        self._pool.release()
        self._require_success("initialisation", status)

    def _require_success(self, name: str, status: int) -> None:
        if status == SdkStatus.SGX_ERROR_ENCLAVE_CRASHED:
            raise EnclaveCrashed(name, self._crash)
        if status != SdkStatus.SGX_SUCCESS:
            raise SdkError(name, status)

    def _ecall(self, name: str, command: int, address: int) -> int:
        """Enter on this thread's TCS, and serve OCALLs until the ECALL returns; returns its status."""
        if self._destroyed:
            raise SdkError(name, SdkStatus.SGX_ERROR_INVALID_ENCLAVE_ID)
        thread = self._pool.acquire()
        if thread is None:
            if self._crash is not None:
                raise EnclaveCrashed(name, self._crash)
            raise SdkError(name, SdkStatus.SGX_ERROR_OUT_OF_TCS)
        call = _Call(thread, name)
        self._tell("ECALL", name, thread.tcs, None)
        try:
            status = self._enter(call, command, address)
        except BaseException:
            # The enclave is stopped in the middle, and so its thread can never be used again.
            self._pool.retire(thread)
            raise
        finally:
            thread.pointers.pop()
        self._tell("ECALL", name, thread.tcs, status)
        if call.failure is not None:
            raise call.failure
        return status

    def _tell(self, kind: Literal["ECALL", "OCALL"], name: str, tcs: int, status: int | None) -> None:
        if self._watch is not None:
            self._watch(CallEvent(kind, name, tcs, status))

    def _enter(self, call: _Call, command: int, address: int) -> int:
        thread = call.thread
        pointer = thread.pointers[-1]
        left = self.enclave.enter(thread.tcs, _registers(command, address, pointer, pointer))
        while True:
            if left.exception is not None:
                status = self._handle(call, left)
                if status is not None:
                    return status
                pointer = thread.exception_pointer()
                left = self.enclave.resume(thread.tcs, Registers(rsp=pointer, rbp=pointer))
                continue
            number = _signed(left.registers.rdi)
            if number == OCMD_ERET:
                return left.registers.rsi & _STATUS_MASK
            outside = left.registers
            known = 0 <= number < len(self.interface.ocalls)
            name = self.interface.ocalls[number].name if known else hex(number)
            self._tell("OCALL", name, thread.tcs, None)
            status = self._serve(call, number, left)
            self._tell("OCALL", name, thread.tcs, status)
            left = self.enclave.enter(thread.tcs, _registers(ECMD_ORET, status, outside.rsp, outside.rbp))

    def _handle(self, call: _Call, left: ExitRegisters) -> int | None:
        """Show the enclave its exception. Returns None when it can be resumed, else the status of the ECALL."""
        crash = self._look(call.thread.tcs, left)
        pointer = call.thread.exception_pointer()
        again = self.enclave.enter(call.thread.tcs, _registers(ECMD_EXCEPT, 0, pointer, pointer))
        status = again.registers.rsi & _STATUS_MASK
        if again.exception is None and _signed(again.registers.rdi) == OCMD_ERET:
            if status == SdkStatus.SGX_SUCCESS:
                return None
            if status in (SdkStatus.SGX_ERROR_STACK_OVERRUN, SdkStatus.SGX_ERROR_ENCLAVE_LOST):
                self._crash = self._crash or crash
                self._pool.retire(call.thread)
                return status
        self._crash = self._crash or crash
        raise EnclaveCrashed(call.name, crash) from call.failure

    def _serve(self, call: _Call, number: int, left: ExitRegisters) -> int:
        """Serve an OCALL; returns the status that the enclave is told."""
        if not 0 <= number < len(self.interface.ocalls):
            return SdkStatus.SGX_ERROR_INVALID_FUNCTION
        ocall = self.interface.ocalls[number]
        handler = self._handlers.get(ocall.name) or self._own.get(ocall.name)
        address = left.registers.rsi
        if self.types.marshalling(ocall) is None and address:
            return SdkStatus.SGX_ERROR_INVALID_PARAMETER
        if call.failure is not None and ocall.name not in self._own:
            return SdkStatus.SGX_ERROR_UNEXPECTED
        outer = call.thread.pointers[-1]
        call.thread.pointers[-1] = left.registers.rsp
        try:
            if handler is None:
                raise InputError(
                    msg("nothing serves the OCALL {name}", name=ocall.name),
                    hint=msg("register a function for it: @enclave.ocall({name})", name=repr(ocall.name)),
                )
            served = receive(ocall, address, self.types, self.memory)
            served.finish(handler(*served.values), self.errno)
        except Exception as error:  # noqa: BLE001 - it comes out of the ECALL, when the enclave has left its functions
            call.failure = call.failure or error
            return SdkStatus.SGX_ERROR_UNEXPECTED
        finally:
            call.thread.pointers[-1] = outer
        return SdkStatus.SGX_SUCCESS

    def _run_new_thread(self, thread: TrustedThread) -> None:
        """What a thread does that the enclave asked for: one ECALL on the TCS that was reserved for it."""
        self._pool.own(thread)
        block = self.memory.allocate(8)
        try:
            self.memory.write(block, bytes(8))
            self._ecall("a new thread", ECMD_ECALL_PTHREAD, block)
            waiter = self._pool.threads.get(int.from_bytes(self.memory.read(block, 8), "little"))
            if waiter is not None:
                waiter.event.release()
        finally:
            self.memory.free(block)
            self._pool.release()

    # After an exception

    def _look(self, tcs: int, left: ExitRegisters) -> Crash:
        """What can be seen of a thread that an exception interrupted."""
        assert left.exception is not None
        registers: GprSgx | None = None
        frames: tuple[Frame, ...] = ()
        if self._file is not None and self.enclave.identity.attributes.flags & AttributeFlags.DEBUG:
            with suppress(SgxkitError):
                registers = self._file.saved_registers(self.enclave, tcs)
                frames = self._file.unwinder.frames(registers, self._read_word)
        return Crash(left.exception, registers, frames)

    def _read_word(self, address: int) -> int:
        return int.from_bytes(self.enclave.read_debug(address, 8), "little")


@dataclass(slots=True)
class _File:
    """What an enclave's file says that the loaded enclave does not; `base` is the address of its image."""

    elf: Elf
    metadata: Metadata
    base: int
    symbols: Symbols
    unwinder: Unwinder

    @classmethod
    def of(cls, data: bytes, enclave: Enclave) -> Self:
        elf = parse_elf(data)
        metadata = choose_metadata(parse_metadata(elf), edmm=False)
        base = enclave.base
        if metadata.elrange is not None:
            base += metadata.elrange.image_address - metadata.elrange.start
        symbols = Symbols(elf)
        return cls(elf, metadata, base, symbols, Unwinder(elf, base, symbols))

    def require(self, interface: Interface) -> None:
        """Raise InputError where the enclave's tables say that the interface is another's."""
        for name, functions in (("g_ecall_table", interface.ecalls), ("g_dyn_entry_table", interface.ocalls)):
            symbol = self.symbols.named(name)
            count = None if symbol is None else self.word(symbol.address)
            if count is not None and count != len(functions):
                what: Message = msg("ECALLs") if name == "g_ecall_table" else msg("OCALLs")
                raise InputError(
                    msg(
                        "the EDL file has {number} {what}, the enclave {count}",
                        number=len(functions),
                        what=what,
                        count=count,
                    ),
                    hint=msg("give the EDL file that the enclave was built with"),
                )

    def word(self, address: int) -> int | None:
        """The 8 bytes that the file has at an address of the image."""
        for one in self.elf.segments:
            if one.vaddr <= address and address + 8 <= one.vaddr + one.filesz:
                at = one.offset + address - one.vaddr
                return int.from_bytes(self.elf.data[at : at + 8], "little")
        return None

    def saved_registers(self, enclave: Enclave, tcs: int) -> GprSgx:
        """The registers in the SSA frame of the last exception."""
        page = Tcs.from_bytes(enclave.read_debug(tcs, TCS_LIMIT).ljust(TCS_SIZE, b"\0"))
        frames = enclave.base + page.ossa
        end = frames + max(1, page.cssa) * self.metadata.ssa_frame_size * PAGE_SIZE
        return GprSgx.from_bytes(enclave.read_debug(end - GPRSGX_SIZE, GPRSGX_SIZE))


def _registers(command: int, address: int, rsp: int, rbp: int) -> Registers:
    return Registers(rdi=command & _WORD_MASK, rsi=address, rsp=rsp, rbp=rbp)


def _signed(value: int) -> int:
    """RDI as the int that it is."""
    value &= _STATUS_MASK
    return value - (1 << 32) if value >> 31 else value


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
