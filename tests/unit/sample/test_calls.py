"""The sample enclave's code against other implementations of what it does, and against callers that mean ill."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.keys import derive_key
from sgxkit.emulator.platform import EmulatedEnclave, EmulatedPlatform
from sgxkit.enclave.platform import Registers
from sgxkit.isa.attributes import Attributes
from sgxkit.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.status import SgxError, Status
from sgxkit.sample.calls import LONGEST_SEALED, Function, NotAuthenticError, SampleEnclave, SampleError
from sgxkit.sample.images import Sample

PLATFORM = EmulatedPlatform.of(Fuses.from_seed(b"sample"))
REFUSED = 0x10001


def launch(sample: Sample = Sample.SAMPLE, *, debug: bool = False) -> SampleEnclave:
    return SampleEnclave(PLATFORM.load(sample.image, sample.sigstruct, debug=debug))


def emulated(sample: SampleEnclave) -> EmulatedEnclave:
    assert isinstance(sample.enclave, EmulatedEnclave)
    return sample.enclave


@pytest.fixture
def sample() -> Iterator[SampleEnclave]:
    with launch().enclave as enclave:
        yield SampleEnclave(enclave)


def siv_keys(sample: SampleEnclave, header: bytes) -> bytes:
    """The keys that EGETKEY gives for a header: of the MAC, then of the encryption."""
    keys = []
    for name in (0, 1):
        request = KeyRequest(
            keyname=KeyName.SEAL_KEY,
            keypolicy=KeyPolicy(int.from_bytes(header[8:10], "little")),
            isvsvn=int.from_bytes(header[10:12], "little"),
            cpusvn=header[16:32],
            attributemask=Attributes(3, 0),
            keyid=bytes([name]) + header[33:64],
        )
        keys.append(derive_key(PLATFORM.processor.fuses, emulated(sample).loaded.identity, request))
    return b"".join(keys)


def test_it_adds(sample: SampleEnclave) -> None:
    assert sample.add([]) == 0
    assert sample.add([20, 22]) == 42
    assert sample.add([2**64 - 1, 3, *range(254)]) == 2 + sum(range(254))
    with pytest.raises(SampleError):
        sample.add(range(257))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 31, 32, 33, 100, LONGEST_SEALED])
@pytest.mark.parametrize("policy", [KeyPolicy.MRENCLAVE, KeyPolicy.MRSIGNER])
def test_what_is_sealed_is_aes_siv(sample: SampleEnclave, size: int, policy: KeyPolicy) -> None:
    data = bytes(range(256)) * 4
    sealed = sample.seal(policy, data[:size])
    header, body = sealed[:64], sealed[64:]
    assert header[:12] == b"sgxkit\0\1" + bytes([policy, 0, 1, 0])
    assert AESSIV(siv_keys(sample, header)).decrypt(body, [header]) == data[:size]
    assert sample.unseal(sealed) == data[:size]


def test_nothing_and_too_much_is_sealed(sample: SampleEnclave) -> None:
    assert sample.unseal(sample.seal(KeyPolicy.MRENCLAVE, b"")) == b""
    for policy in (KeyPolicy(0), KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER, KeyPolicy.CONFIGID):
        with pytest.raises(SampleError, match="refuses"):
            sample.seal(policy, b"x")
    with pytest.raises(SampleError, match="refuses"):
        sample.seal(KeyPolicy.MRENCLAVE, bytes(LONGEST_SEALED + 1))


def test_the_same_is_never_sealed_alike(sample: SampleEnclave) -> None:
    assert sample.seal(KeyPolicy.MRENCLAVE, b"x") != sample.seal(KeyPolicy.MRENCLAVE, b"x")


def test_who_can_unseal(sample: SampleEnclave) -> None:
    debug, following, other = launch(debug=True), launch(Sample.NEXT), launch(Sample.OTHER_AUTHOR)
    to_enclave = sample.seal(KeyPolicy.MRENCLAVE, b"secret")
    to_author = sample.seal(KeyPolicy.MRSIGNER, b"secret")
    assert following.unseal(to_author) == b"secret"
    for enclave, sealed in ((debug, to_enclave), (following, to_enclave), (debug, to_author), (other, to_author)):
        with pytest.raises(NotAuthenticError):
            enclave.unseal(sealed)
    with pytest.raises(SgxError) as refused:
        sample.unseal(following.seal(KeyPolicy.MRSIGNER, b"secret"))
    assert refused.value.status is Status.SGX_INVALID_ISVSVN


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 99), bit=st.integers(0, 7))
def test_every_bit_of_what_is_sealed_counts(sample: SampleEnclave, at: int, bit: int) -> None:
    sealed = bytearray(sample.seal(KeyPolicy.MRENCLAVE, bytes(20)))
    sealed[at] ^= 1 << bit
    with pytest.raises((SampleError, SgxError)):
        sample.unseal(bytes(sealed))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(function=st.sampled_from(Function), data=st.binary(max_size=2048))
def test_any_input_is_answered(sample: SampleEnclave, function: Function, data: bytes) -> None:
    if function is Function.FAULT:
        return
    left_by: object = None
    try:
        sample._call(function, data)
    except SgxError:
        return
    except SampleError as error:
        left_by = error.exception
    assert left_by is None


def test_reports_are_for_whom_they_are_made(sample: SampleEnclave) -> None:
    verifier = launch(Sample.NEXT)
    report = sample.report(verifier.enclave.identity.target_info, b"a challenge".ljust(64))
    assert report.body.mrenclave == sample.enclave.identity.mrenclave
    assert report.body.reportdata == b"a challenge".ljust(64)
    verifier.verify(report)
    for wrong in (
        replace(report, keyid=bytes(32)),
        replace(report, mac=bytes(16)),
        replace(report, body=replace(report.body, reportdata=bytes(64))),
    ):
        with pytest.raises(NotAuthenticError):
            verifier.verify(wrong)
    with pytest.raises(NotAuthenticError):
        sample.verify(report)


def test_a_buffer_inside_the_enclave_is_refused(sample: SampleEnclave) -> None:
    enclave = emulated(sample)
    inside = (
        *(enclave.base + offset for offset in (0, 1, 0x2000, 0x4000, 0x7FFF)),
        enclave.base - 1,
        enclave.base - 2047,
        2**64 - 1,
    )
    for address in inside:
        left = enclave.enter(enclave.tcs[0], Registers(rdi=Function.ADD, rsi=address, rdx=0))
        assert (left.exception, left.registers.rdi, left.registers.rsi) == (None, REFUSED, 0)
    buffer = enclave.memory.allocate(2048)
    for function, size in ((Function.ADD, 2049), (6, 0), (2**32 - 1, 0), (Function.ADD, 2**64 - 1)):
        left = enclave.enter(enclave.tcs[0], Registers(rdi=function, rsi=buffer, rdx=size))
        assert (left.exception, left.registers.rdi, left.registers.rsi) == (None, REFUSED, 0)


def test_it_leaves_no_secret_behind() -> None:
    """In no register, and not in the memory that the next caller might find a way to."""
    sample = launch(debug=True)
    enclave = emulated(sample)
    secret = bytes(range(200, 232))
    buffer = enclave.memory.allocate(2048)
    enclave.memory.write(buffer, (1).to_bytes(8, "little") + secret)
    caller = Registers(rdi=Function.SEAL, rsi=buffer, rdx=40, rsp=0x1230, rbp=0x4560, rip=0x9999_0000, r15=7)
    left = enclave.enter(enclave.tcs[0], caller)
    assert left.exception is None
    assert (left.registers.rsp, left.registers.rbp) == (caller.rsp, caller.rbp)
    registers = replace(left.registers, rax=0, rbx=0, rcx=0, rdi=0, rsi=0, rsp=0, rbp=0, rip=0, rflags=0)
    assert registers == Registers(rflags=0)
    assert enclave.read_debug(enclave.base + 0x2000, 0x1C00) == bytes(0x1C00)


def test_a_fault_is_an_exception_with_its_place(sample: SampleEnclave) -> None:
    with pytest.raises(SampleError) as raised:
        sample.fault()
    assert raised.value.exception is not None
    assert raised.value.exception.vector == 6
