"""The emulated platform behind the interface that real platforms have, too."""

from __future__ import annotations

import pytest

from sgxkit.emulator.epc import FREE
from sgxkit.emulator.events import Entered, Interrupted, Left
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.platform import EPC_BASE, EmulatedPlatform
from sgxkit.emulator.profile import SKYLAKE_CLIENT
from sgxkit.emulator.stay import InstructionLimitError
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.platform import Enclave, Platform, Registers
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.errors import InputError
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.tcs import Tcs

COPY = bytes.fromhex("488b06488907 4889cb b804000000 0f01d7".replace(" ", ""))
"""mov rax, [rsi]; mov [rdi], rax; mov rbx, rcx; mov eax, EEXIT; enclu"""

IMAGE = EnclaveImage(
    size=0x4000,
    ssaframesize=1,
    runs=(
        PageRun(
            0x0000, 1, SecInfo(PageFlags(0), PageType.TCS), data=Tcs(ossa=0x1000, nssa=1, oentry=0x2000).to_bytes()
        ),
        PageRun(0x1000, 1, SecInfo(PageFlags.RW, PageType.REG)),
        PageRun(0x2000, 1, SecInfo(PageFlags.RX, PageType.REG), data=COPY.ljust(PAGE_SIZE, b"\0")),
    ),
)


@pytest.fixture(scope="module")
def sigstruct() -> Sigstruct:
    return sign(unsigned_sigstruct(mrenclave(IMAGE)), generate_key())


def load(sigstruct: Sigstruct, *, debug: bool = False) -> tuple[Platform, Enclave]:
    platform: Platform = EmulatedPlatform.of(Fuses.from_seed(b"platform"))
    return platform, platform.load(IMAGE, sigstruct, debug=debug)


def test_two_enclaves_share_memory_with_their_caller(sigstruct: Sigstruct) -> None:
    platform, one = load(sigstruct)
    with one, platform.load(IMAGE, sigstruct, debug=False) as two:
        assert one.base + one.size <= two.base
        buffer = one.memory.allocate(16)
        one.memory.write(buffer, b"12345678")
        left = two.enter(two.tcs[0], Registers(rsi=buffer, rdi=buffer + 8))
        assert left.exception is None
        assert one.memory.read(buffer, 16) == b"1234567812345678"
        assert one.identity.mrenclave == mrenclave(IMAGE)
        one.memory.free(buffer)
        left = two.enter(two.tcs[0], Registers(rsi=buffer, rdi=buffer + 8))
        assert left.exception is not None
        assert left.exception.address == buffer


def test_a_removed_enclave_leaves_no_page(sigstruct: Sigstruct) -> None:
    platform = EmulatedPlatform.of(Fuses.from_seed(b"platform"))
    with platform.load(IMAGE, sigstruct, debug=False) as enclave:
        pass
    enclave.remove()
    assert all(platform.processor.epc.entry(EPC_BASE + page * PAGE_SIZE) == FREE for page in range(5))


def test_the_memory_of_a_debug_enclave_can_be_read_and_of_no_other(sigstruct: Sigstruct) -> None:
    _, enclave = load(sign(unsigned_sigstruct(mrenclave(IMAGE), debug=True), generate_key()), debug=True)
    assert enclave.read_debug(enclave.base + 0x1FFE, 2 + len(COPY)) == b"\0\0" + COPY
    with pytest.raises(InputError):
        enclave.read_debug(enclave.base + 0x3000, 1)
    _, production = load(sigstruct)
    with pytest.raises(InputError):
        production.read_debug(production.base + 0x2000, 1)


def test_without_flexible_launch_control_a_signer_of_ones_own_is_refused(sigstruct: Sigstruct) -> None:
    platform = EmulatedPlatform.of(Fuses.from_seed(b"old", profile=SKYLAKE_CLIENT))
    assert (platform.info.kind, platform.info.flexible_launch_control) == ("emulated", False)
    with pytest.raises(SgxError) as refused:
        platform.load(IMAGE, sigstruct, debug=False)
    assert refused.value.status is Status.SGX_INVALID_EINITTOKEN


def test_a_machine_has_observers_and_a_budget(sigstruct: Sigstruct) -> None:
    told: list[object] = []
    platform = EmulatedPlatform.of(Fuses.from_seed(b"platform"))
    platform.observers, platform.instructions = (told.append,), 3
    with platform.load(IMAGE, sigstruct, debug=False) as enclave:
        buffer = enclave.memory.allocate(16)
        with pytest.raises(InstructionLimitError):
            enclave.enter(enclave.tcs[0], Registers(rsi=buffer, rdi=buffer))
        enclave.resume(enclave.tcs[0], Registers())
    assert [type(event) for event in told] == [Entered, Interrupted, Entered, Left]
