"""An enclave is called as a C program with uRTS and edger8r's bridges calls it."""

from __future__ import annotations

import array
import ctypes
import inspect
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from doubles.compiled_enclave import EDL, THREADS, compiled_enclave, platform
from sgxkit.enclave.files import read_signature
from sgxkit.enclave.platform import Enclave, ExitRegisters, Registers
from sgxkit.enclave.sdk_elf import read_sdk_elf
from sgxkit.errors import InputError, SgxkitError
from sgxkit.sdk.edl.interface import parse_interface
from sgxkit.sdk.ocall import receive
from sgxkit.sdk.sdk_enclave import CallEvent, SdkEnclave
from sgxkit.sdk.status import EnclaveCrashed, SdkError, SdkStatus


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_enclave(tmp_path_factory.mktemp("enclave"))


@pytest.fixture(scope="module")
def loaded(image: Path) -> Iterator[SdkEnclave]:
    with SdkEnclave.load(platform(), image, EDL) as enclave:
        yield enclave


@pytest.fixture
def enclave(loaded: SdkEnclave) -> SdkEnclave:
    """An enclave that all tests share, without handlers."""
    loaded._handlers.clear()
    return loaded


@pytest.fixture
def fresh(image: Path) -> Iterator[SdkEnclave]:
    """An enclave that a test may crash."""
    with SdkEnclave.load(platform(), image, EDL) as enclave:
        yield enclave


# Arguments


def test_numbers_and_results(enclave: SdkEnclave) -> None:
    assert enclave.add(40, 2) == 42
    assert enclave.add(b=-1, a=-(2**31) + 1) == -(2**31)
    assert enclave.sum([1, -2, 3], 3) == 2
    assert enclave.sum(None, 0) == -1
    assert enclave.sum(array.array("i", [5, 6, 7]), 2) == 11


def test_out_buffers(enclave: SdkEnclave) -> None:
    buffer = bytearray(b"12345")
    assert enclave.fill(buffer, 4, 0x41) is None
    assert buffer == b"AAAA5"
    number = ctypes.c_uint32()
    enclave.fill(number, 4, 0xFF)
    assert number.value == 0xFFFF_FFFF
    values = [0] * 3
    enclave.fill(values, 2, 7)
    assert values == [7, 7, 0]


def test_strings(enclave: SdkEnclave) -> None:
    text = bytearray(b"shout\0rest")
    enclave.upper(text)
    assert text == b"SHOUT\0rest"
    enclave.upper("a constant is only copied in")
    assert enclave.characters("四个字符") == 4


def test_shared_memory(enclave: SdkEnclave) -> None:
    address = enclave.memory.allocate(8)
    assert [enclave.increment(address) for _ in range(3)] == [1, 2, 3]
    assert enclave.memory.read(address, 8) == (3).to_bytes(8, "little")
    counter = ctypes.c_uint64(41)
    assert enclave.increment(counter) == 42
    assert counter.value == 42
    values = [7]
    assert enclave.increment(values) == 8
    assert values == [8]


def test_structs_and_arrays(enclave: SdkEnclave) -> None:
    twice = {"width": 3, "height": 0.5}
    assert enclave.area({"width": -2, "height": 1.5}, twice) == -3.0
    assert twice == {"width": 6, "height": 1.0}
    assert enclave.area({"width": 1}, None) == 0
    two = [{"width": 1, "height": 1.0}]
    enclave.area({}, two)
    assert two == [{"width": 2, "height": 2.0}]
    turned = [[0, 0], [0, 0], [0, 0]]
    enclave.transpose([[1, 2, 3], [4, 5, 6]], turned)
    assert turned == [[1, 4], [2, 5], [3, 6]]


def test_structs_with_what_they_point_at(enclave: SdkEnclave) -> None:
    blob = {"size": 6, "data": bytearray(b"abcdef")}
    assert enclave.shorten(blob) == 3
    assert blob == {"size": 3, "data": bytearray(b"cbadef")}


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("add", (1,), "add takes a, b"),
        ("add", (1, 2, 3), "add takes a, b"),
        ("add", (2**31, 0), "a must be a signed integer of 32 bits"),
        ("add", ("1", 2), "a must be an integer"),
        ("sum", ([1, 2], 3), "values needs 12 bytes, it has 8"),
        ("sum", ([1, "2"], 2), r"values\[1\] must be an integer"),
        ("sum", ([], -1), "at most"),
        ("fill", (b"1234", 4, 0), "buffer must be a bytearray"),
        ("fill", (bytearray(3), 4, 0), "buffer needs 4 bytes, it has 3"),
        ("upper", (bytearray(b"no end"),), "text must be a buffer with a string that ends in NUL"),
        ("upper", ("a\0b",), "text must be a string without NUL"),
        ("upper", (3.5,), "text must be a string"),
        ("area", ({"depth": 1}, None), "struct rectangle has no 'depth'"),
        ("area", ({"height": "high"}, None), "r.height must be a number"),
        ("shorten", ({"size": 9, "data": bytearray(3)},), r"b\[0\].data needs 9 bytes, it has 3"),
        ("shorten", ({"size": 2, "data": b"ab"},), r"b\[0\].data must be a bytearray"),
        ("transpose", ([[1, 2], [3, 4]], [[0] * 2] * 3), r"rows\[0\] must be a sequence of 3"),
    ],
)
def test_arguments_that_do_not_fit(
    enclave: SdkEnclave, name: str, arguments: tuple[object, ...], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        enclave.ecalls[name](*arguments)


def test_no_memory_is_kept(enclave: SdkEnclave) -> None:
    before = set(enclave.memory._allocated)  # type: ignore[attr-defined]
    for _ in range(3):
        enclave.upper(bytearray(b"x\0"))
        with pytest.raises(InputError):
            enclave.shorten({"size": 2, "data": b"ab"})
    assert set(enclave.memory._allocated) == before  # type: ignore[attr-defined]


def test_proxies_describe_themselves(enclave: SdkEnclave) -> None:
    assert str(inspect.signature(enclave.fill)) == "(buffer, n, value)"
    assert enclave.fill.__doc__ == "void fill(uint8_t*, size_t, uint8_t)"
    assert "greet" in dir(enclave)
    with pytest.raises(AttributeError, match="no ECALL nothing"):
        _ = enclave.nothing


# OCALLs


def test_an_ocall_is_served_by_a_function(enclave: SdkEnclave) -> None:
    said: list[str] = []

    @enclave.ocall("say")
    def say(text: str) -> int:
        said.append(text)
        return len(text)

    assert enclave.greet("Zoë \udcff") == len("Hello, Zoë ?") + 3
    assert said == ["Hello, Zoë \udcff", "Bye"]


def test_what_a_handler_raises_comes_out_of_the_ecall(enclave: SdkEnclave) -> None:
    calls = []

    @enclave.ocall("say")
    def say(text: str) -> int:
        calls.append(text)
        raise LookupError(text)

    with pytest.raises(LookupError, match="Hello"):
        enclave.greet("you")
    assert calls == ["Hello, you"]
    enclave.ocall("say")(len)
    assert enclave.greet("you") == 13  # the thread inside is as before


def test_nobody_serves(enclave: SdkEnclave) -> None:
    with pytest.raises(InputError, match="nothing serves the OCALL say"):
        enclave.greet("you")
    enclave.ocall("say")(lambda _text: None)
    with pytest.raises(InputError, match="the handler of say returned nothing"):
        enclave.greet("you")
    with pytest.raises(InputError, match="no OCALL nothing"):
        enclave.ocall("nothing")


def test_ecalls_while_an_ocall_is_served(enclave: SdkEnclave) -> None:
    @enclave.ocall("outside")
    def outside(depth: int) -> int:
        return int(enclave.recurse(depth - 1)) if depth else int(enclave.inner(7))

    assert enclave.recurse(5) == 76
    assert enclave.recurse(0) == 71


def test_who_watches_is_told_of_each_call(image: Path) -> None:
    seen: list[CallEvent] = []
    handlers = {"say": len}
    with SdkEnclave.load(platform(), image, EDL, watch=seen.append, ocalls=handlers) as enclave:
        first = len(seen)
        enclave.greet("you")
        tcs = seen[first].tcs
        say = [CallEvent("OCALL", "say", tcs, None), CallEvent("OCALL", "say", tcs, SdkStatus.SGX_SUCCESS)]
        greet = [CallEvent("ECALL", "greet", tcs, status) for status in (None, SdkStatus.SGX_SUCCESS)]
        assert seen[first:] == [greet[0], *say, *say, greet[1]]


def test_allow_lists_and_private_ecalls(enclave: SdkEnclave) -> None:
    with pytest.raises(SdkError) as refused:
        enclave.inner(1)
    assert refused.value.status is SdkStatus.SGX_ERROR_ECALL_NOT_ALLOWED
    assert "inner failed with SGX_ERROR_ECALL_NOT_ALLOWED" in str(refused.value)
    enclave.ocall("outside")(lambda _depth: enclave.add(1, 2))
    with pytest.raises(SdkError, match="add failed with SGX_ERROR_ECALL_NOT_ALLOWED"):
        enclave.recurse(1)

    @enclave.ocall("outside")
    def catches(_depth: int) -> int:
        with pytest.raises(SdkError):
            enclave.add(1, 2)
        return 20

    assert enclave.recurse(1) == 21


def test_out_parameters_errno_and_deep_copies_of_ocalls(enclave: SdkEnclave) -> None:
    @enclave.ocall("provide")
    def provide(buffer: bytearray, n: int) -> int:
        buffer[:] = bytes(range(n))
        if n > 10:
            enclave.errno = 12
            return -1
        return n

    @enclave.ocall("rearrange")
    def rearrange(blobs: list[dict[str, object]]) -> None:
        (blob,) = blobs
        assert blob == {"size": 4, "data": bytearray(b"abcd")}
        blob["data"] = bytearray(b"xy")
        blob["size"] = 2

    buffer = bytearray(6)
    assert enclave.fetch(buffer, 6) == 6
    assert buffer == b"xy\x02\x03\x04\x05"
    assert enclave.fetch(bytearray(11), 11) == -12

    @enclave.ocall("provide")
    def grows(buffer: bytearray, n: int) -> int:
        buffer += b"more"
        return 0

    with pytest.raises(InputError, match="buffer must be 6 bytes, as it was"):
        enclave.fetch(buffer, 6)

    enclave.ocall("provide")(lambda buffer, n: 0)

    @enclave.ocall("rearrange")
    def grows_deep(blobs: list[dict[str, object]]) -> None:
        blobs[0].update(size=5, data=b"12345")

    with pytest.raises(InputError, match=r"blob\.data must be at most 4 bytes"):
        enclave.fetch(buffer, 6)


def test_the_sdks_own_ocalls(enclave: SdkEnclave) -> None:
    assert enclave.leaf(0) == int.from_bytes(b"Genu", "little")
    assert enclave.leaf(7) & 1 << 5 == 0  # no AVX2
    enclave.ocall("sgx_oc_cpuidex")(lambda info, leaf, subleaf: info.__setitem__(1, leaf + 1))
    assert enclave.leaf(7) == 8


# Threads


def test_each_thread_has_a_tcs_and_keeps_it(image: Path) -> None:
    with SdkEnclave.load(platform(), image, EDL) as enclave:
        own = enclave.identity()
        assert enclave.identity() == own
        assert own in enclave.enclave.tcs
        found: list[int] = []
        worker = threading.Thread(target=lambda: found.append(enclave.identity()))
        worker.start()
        worker.join()
        assert found[0] != own


def test_threads_do_not_disturb_each_other(enclave: SdkEnclave) -> None:
    enclave.ocall("say")(len)
    wrong: list[object] = []

    def calls(number: int) -> None:
        for turn in range(25):
            found = (enclave.sum([number] * turn, turn), enclave.greet("x" * number))
            if found != (number * turn, 7 + number + 3):
                wrong.append(found)

    workers = [threading.Thread(target=calls, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_threads_wait_for_events_and_tcs_run_out(image: Path) -> None:
    with SdkEnclave.load(platform(), image, EDL) as enclave:
        names: list[int] = []
        named = threading.Semaphore(0)

        def sleeps() -> None:
            names.append(enclave.identity())
            named.release()
            enclave.sleep()

        workers = [threading.Thread(target=sleeps) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
            named.acquire()
        # Who sleeps was in the enclave before he waits: until then there is a TCS that is not in an ECALL.
        while not all(thread.pointers for thread in enclave._pool.threads.values()):
            threading.Event().wait(0.001)
        with pytest.raises(SdkError) as refused:
            enclave.add(1, 2)
        assert refused.value.status is SdkStatus.SGX_ERROR_OUT_OF_TCS
        # As another thread's OCALL would: that is what the OCALL for it does.
        assert enclave._own["sgx_thread_set_untrusted_event_ocall"](names[0]) == 0
        workers[0].join()
        enclave.wake(names[1])
        workers[1].join()
        with pytest.raises(SdkError, match="SGX_ERROR_INVALID_PARAMETER"):
            enclave.wake(0x1234)
        enclave.wake(names[2])
        workers[2].join()


def test_a_bound_enclave_keeps_the_tcs_of_a_thread_that_lives(tmp_path: Path) -> None:
    with SdkEnclave.load(platform(), compiled_enclave(tmp_path, bound=True), EDL) as enclave:
        end = threading.Event()
        ready = threading.Semaphore(0)

        def stays() -> None:
            enclave.identity()
            ready.release()
            end.wait()

        workers = [threading.Thread(target=stays) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
            ready.acquire()
        with pytest.raises(SdkError, match="SGX_ERROR_OUT_OF_TCS"):
            enclave.identity()
        end.set()
        for worker in workers:
            worker.join()
        assert enclave.identity() in enclave.enclave.tcs


# Exceptions inside


def test_an_enclave_deals_with_its_exception(enclave: SdkEnclave) -> None:
    assert [enclave.undefined() for _ in range(3)] == [42] * 3
    assert [enclave.divide(12, by) for by in (4, 0, 0, 0, 3)] == [3, 12, 12, 12, 4]


def test_a_crash_is_shown_with_registers_and_functions(fresh: SdkEnclave) -> None:
    address = 0x1234_5000
    with pytest.raises(EnclaveCrashed) as crashed:
        fresh.peek(address)
    error = crashed.value
    assert error.status is SdkStatus.SGX_ERROR_ENCLAVE_CRASHED
    assert error.crash is not None
    assert error.crash.exception.vector == 14
    assert error.crash.registers is not None
    assert error.crash.registers.rdi == address
    assert [frame.function for frame in error.crash.frames] == [
        "look",
        *["look_deeper"] * 3,
        "sgx_peek",
        "call",
        "enter",
        "enclave_entry",
    ]
    assert "#0 " in str(error)
    assert "look_deeper+0x" in str(error)
    with pytest.raises(EnclaveCrashed) as later:
        fresh.add(1, 2)
    assert later.value.crash is error.crash


def test_without_pyelftools_the_place_of_a_crash_is_known(fresh: SdkEnclave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    with pytest.raises(EnclaveCrashed) as crashed:
        fresh.peek(0x1000)
    assert crashed.value.crash is not None
    assert crashed.value.crash.frames[0].function == "look"


def test_a_production_enclave_shows_nothing(image: Path) -> None:
    with SdkEnclave.load(platform(), image, EDL, debug=False) as enclave:
        assert enclave.add(1, 2) == 3
        with pytest.raises(EnclaveCrashed) as crashed:
            enclave.peek(0x1000)
        assert crashed.value.crash is not None
        assert (crashed.value.crash.registers, crashed.value.crash.frames) == (None, ())
        with pytest.raises(InputError):
            enclave.read(enclave.enclave.base, 4)


def test_a_stripped_enclave_runs(tmp_path: Path) -> None:
    with SdkEnclave.load(platform(), compiled_enclave(tmp_path, stripped=True), EDL) as enclave:
        assert enclave.add(1, 2) == 3
        with pytest.raises(InputError, match="no symbol g_ecall_table"):
            enclave.symbol("g_ecall_table")
        with pytest.raises(EnclaveCrashed) as crashed:
            enclave.peek(0x1000)
        assert crashed.value.crash is not None
        assert crashed.value.crash.frames[0].function is None


def test_symbols_and_memory(enclave: SdkEnclave) -> None:
    table = enclave.symbol("g_ecall_table")
    assert int.from_bytes(enclave.read(table, 8), "little") == len(enclave.interface.ecalls)


class Reticent:
    """An enclave of a platform that tells nothing of an exception but that it happened, as the kernel's is."""

    def __init__(self, enclave: Enclave) -> None:
        self.inner = enclave

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def enter(self, tcs: int, registers: Registers) -> ExitRegisters:
        return self.told(self.inner.enter(tcs, registers))

    def resume(self, tcs: int, registers: Registers) -> ExitRegisters:
        return self.told(self.inner.resume(tcs, registers))

    def told(self, left: ExitRegisters) -> ExitRegisters:
        if left.exception is None:
            return left
        return ExitRegisters(Registers(rax=3), replace(left.exception, rip=None, address=None))


def test_a_platform_that_tells_little_of_an_exception(fresh: SdkEnclave, image: Path) -> None:
    loaded = platform().load(read_sdk_elf(image.read_bytes(), edmm=False), read_signature(image), debug=True)
    with SdkEnclave(Reticent(loaded), fresh.interface, elf=image.read_bytes()) as enclave:  # type: ignore[arg-type]
        assert enclave.undefined() == 42
        with pytest.raises(EnclaveCrashed) as crashed:
            enclave.peek(0x1000)
        assert crashed.value.crash is not None
        assert crashed.value.crash.frames[0].function == "look"


def test_an_interrupt_ends_an_ecall_at_once(fresh: SdkEnclave) -> None:
    calls = []

    @fresh.ocall("say")
    def say(text: str) -> int:
        calls.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh.greet("you")
    assert len(calls) == 1
    assert fresh.add(1, 2) == 3  # on another TCS: this one is in the middle of an ECALL


def test_what_an_enclave_points_at_may_be_nowhere(fresh: SdkEnclave) -> None:
    ocall = next(one for one in fresh.interface.ocalls if one.name == "say")
    for address in (0, 8, 0x7FFF_0000_0000, (1 << 64) - 1):
        with pytest.raises(SgxkitError):
            receive(ocall, address, fresh.types, fresh.memory)
    block = fresh.memory.allocate(16)
    fresh.memory.write(block + 8, (0x1234).to_bytes(8, "little"))
    with pytest.raises(SgxkitError):
        receive(ocall, block, fresh.types, fresh.memory)


# Loading


def test_the_wrong_edl_file_is_refused(image: Path) -> None:
    other = parse_interface("enclave { trusted { public void f(); }; };")
    machine = platform()
    with pytest.raises(InputError, match="the EDL file has 1 ECALLs, the enclave 20"):
        SdkEnclave.load(machine, image, other)
    assert not machine.processor.enclaves


def test_after_destruction(image: Path) -> None:
    enclave = SdkEnclave.load(platform(), image, EDL)
    enclave.destroy()
    enclave.destroy()
    with pytest.raises(SdkError, match="SGX_ERROR_INVALID_ENCLAVE_ID"):
        enclave.add(1, 2)


def test_two_enclaves_on_one_platform(image: Path) -> None:
    machine = platform()
    with SdkEnclave.load(machine, image, EDL) as one, SdkEnclave.load(machine, image, EDL) as two:
        one.ocall("say")(lambda text: two.add(len(text), 0))
        assert one.greet("two") == 13
