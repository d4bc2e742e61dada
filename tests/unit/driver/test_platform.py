"""The driver over a kernel that behaves as the documented one does: well, slowly, and badly."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from doubles.sgx_kernel import FakeDoor, FakeKernel, failure
from sgxkit.driver import abi
from sgxkit.driver.pages import PageChanges
from sgxkit.driver.platform import KernelPlatform, epc_size, processor_name
from sgxkit.emulator.epc import Epc
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.processor import Processor
from sgxkit.emulator.profile import SKYLAKE_CLIENT
from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.platform import Enclave, Platform, Registers
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.errors import HostError, InputError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.tcs import Tcs
from sgxkit.sample.calls import SampleEnclave
from sgxkit.sample.images import Sample

KEY = generate_key()


def platform_of(kernel: FakeKernel) -> Platform:
    return KernelPlatform(kernel, kernel.door)


def load(kernel: FakeKernel, sample: Sample = Sample.SAMPLE, *, debug: bool = False) -> Enclave:
    return platform_of(kernel).load(sample.image, sample.sigstruct, debug=debug)


def nothing_left(kernel: FakeKernel) -> bool:
    return not kernel.open_files and not kernel.mappings


def many_pages(number: int) -> EnclaveImage:
    """A TCS, its SSA, and pages that differ."""
    data = b"".join(page.to_bytes(4, "little") * 1024 for page in range(number))
    return EnclaveImage(
        size=1 << 22,
        ssaframesize=1,
        runs=(
            PageRun(
                0, 1, SecInfo(PageFlags(0), PageType.TCS), data=Tcs(ossa=0x1000, nssa=1, oentry=0x2000).to_bytes()
            ),
            PageRun(0x1000, 1, SecInfo(PageFlags.RW, PageType.REG)),
            PageRun(0x2000, number, SecInfo(PageFlags.RW, PageType.REG), data=data),
            PageRun(0x2000 + number * PAGE_SIZE, 7, SecInfo(PageFlags.R, PageType.REG), measured=()),
        ),
    )


def signed(image: EnclaveImage, **fields: object) -> Sigstruct:
    return sign(replace(unsigned_sigstruct(mrenclave(image)), **fields), KEY)  # type: ignore[arg-type]


def test_the_sample_enclave_runs_and_leaves_nothing() -> None:
    kernel = FakeKernel()
    with load(kernel) as enclave, load(kernel, Sample.NEXT) as other:
        sample, following = SampleEnclave(enclave), SampleEnclave(other)
        assert sample.add([20, 22]) == 42
        following.verify(sample.report(other.identity.target_info, bytes(64)))
        assert enclave.base % enclave.size == 0
        assert enclave.identity.mrenclave == Sample.SAMPLE.sigstruct.enclavehash
        assert enclave.identity.attributes.flags & AttributeFlags.INIT
    assert nothing_left(kernel)
    enclave.remove()
    with pytest.raises(InputError):
        sample.add([1])


def test_many_pages_come_in_many_calls_between_signals() -> None:
    turn = count()

    def interrupt(_request: int) -> None:
        number = next(turn) % 4
        if number < 2:
            raise failure((errno.EINTR, errno.EAGAIN)[number])

    kernel = FakeKernel(interrupt=interrupt, at_once=5)
    image = many_pages(600)
    with platform_of(kernel).load(image, signed(image), debug=False) as enclave:
        assert enclave.identity.mrenclave == mrenclave(image)
        assert kernel.requests.count(abi.ADD_PAGES) > 600 / 5
        assert kernel.requests[-1] == abi.INIT
    assert nothing_left(kernel)


def test_a_driver_that_does_nothing_is_given_up() -> None:
    kernel = FakeKernel(at_once=0)
    with pytest.raises(HostError, match="EADD"):
        load(kernel)
    assert nothing_left(kernel)


@pytest.mark.parametrize(
    ("request_", "number", "step", "hint"),
    [
        (abi.CREATE, errno.EIO, "ECREATE", "does not accept"),
        (abi.ADD_PAGES, errno.ENOMEM, "EADD", "EPC"),
        (abi.ADD_PAGES, errno.EACCES, "EADD", "executed"),
        (abi.INIT, errno.EPERM, "EINIT", "SIGSTRUCT"),
        (abi.INIT, errno.EINVAL, "EINIT", "doctor"),
    ],
)
def test_refusals_say_what_to_do_and_leave_nothing(request_: int, number: int, step: str, hint: str) -> None:
    def refuse(request: int) -> None:
        if request == request_:
            raise failure(number)

    kernel = FakeKernel(interrupt=refuse)
    with pytest.raises(HostError, match=step) as raised:
        load(kernel)
    assert hint in str(raised.value.hint)
    assert nothing_left(kernel)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EACCES])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_process_without_memory_is_told_so(number: int, after: int) -> None:
    class Poor(FakeKernel):
        calls = 0

        def mmap(self, *arguments: object) -> int:  # type: ignore[override]
            self.calls += 1
            if self.calls > after:
                raise failure(number)
            return super().mmap(*arguments)  # type: ignore[arg-type]

    kernel = Poor()
    with pytest.raises(HostError):
        load(kernel)
    assert nothing_left(kernel)


def test_a_signature_for_another_image_is_refused_by_the_processor() -> None:
    kernel = FakeKernel()
    with pytest.raises(HostError, match="EINIT"):
        platform_of(kernel).load(Sample.SAMPLE.image, Sample.NEXT.sigstruct, debug=False)
    assert nothing_left(kernel)


def test_a_mount_without_execution_is_named() -> None:
    kernel = FakeKernel(noexec=True)
    with pytest.raises(HostError) as raised:
        load(kernel)
    assert "noexec" in str(raised.value.hint)
    assert nothing_left(kernel)


@pytest.mark.parametrize(
    ("devices", "refusals", "problem", "hint"),
    [
        ((), {}, "no SGX device", "doctor"),
        (("/dev/sgx/enclave",), {"/dev/sgx_enclave": errno.EACCES}, "/dev/sgx_enclave cannot", "group"),
        ((), {"/dev/sgx_enclave": errno.EPERM}, "/dev/sgx_enclave cannot", "--device"),
    ],
)
def test_devices_that_cannot_be_opened(
    devices: tuple[str, ...], refusals: dict[str, int], problem: str, hint: str
) -> None:
    kernel = FakeKernel(devices=devices, refusals=refusals)
    for call in (lambda: load(kernel), lambda: platform_of(kernel).info):
        with pytest.raises(HostError, match=problem) as raised:
            call()
        assert hint in str(raised.value.hint)


def test_the_older_name_of_the_device_is_found() -> None:
    kernel = FakeKernel(devices=("/dev/sgx/enclave",))
    with load(kernel) as enclave:
        assert SampleEnclave(enclave).add([1, 2]) == 3


def test_an_enclave_with_the_provision_key_needs_the_provision_device() -> None:
    image = many_pages(1)
    sigstruct = signed(image, attributes=Attributes(AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY, 3))
    kernel = FakeKernel()
    with platform_of(kernel).load(image, sigstruct, debug=False):
        assert abi.PROVISION in kernel.requests
    for refused in (
        FakeKernel(refusals={"/dev/sgx_provision": errno.EACCES}),
        FakeKernel(devices=("/dev/sgx_enclave",)),
    ):
        with pytest.raises(HostError, match="/dev/sgx_provision"):
            platform_of(refused).load(image, sigstruct, debug=False)
        assert nothing_left(refused)


def test_the_driver_that_needs_tokens_gets_one_or_is_not_used() -> None:
    fuses = Fuses.from_seed(b"old", profile=SKYLAKE_CLIENT)
    kernel = FakeKernel(devices=("/dev/isgx",), processor=Processor(fuses, Epc(0x8000_0000, 1 << 20)))
    with pytest.raises(InputError, match="launch token"):
        load(kernel)
    assert nothing_left(kernel)

    def no_token(sigstruct: Sigstruct, attributes: Attributes) -> bytes:
        return bytes(304)

    with pytest.raises(SgxError) as raised:
        KernelPlatform(kernel, kernel.door, no_token).load(Sample.SAMPLE.image, Sample.SAMPLE.sigstruct, debug=False)
    assert raised.value.status is Status.SGX_INVALID_EINITTOKEN
    assert nothing_left(kernel)
    assert not platform_of(kernel).info.flexible_launch_control


def test_pages_that_are_measured_in_part_are_for_no_kernel() -> None:
    image = replace(many_pages(1), runs=(PageRun(0, 1, SecInfo(PageFlags.R, PageType.REG), measured=(0, 1)),))
    kernel = FakeKernel()
    with pytest.raises(InputError, match="whole"):
        platform_of(kernel).load(image, signed(image), debug=False)
    assert nothing_left(kernel)


def test_a_tcs_is_for_one_thread() -> None:
    kernel = FakeKernel()
    entered, leave = threading.Event(), threading.Event()

    class SlowDoor(FakeDoor):
        def go(self, *arguments: object) -> object:  # type: ignore[override]
            entered.set()
            leave.wait(10)
            return super().go(*arguments)  # type: ignore[arg-type]

    enclave = KernelPlatform(kernel, lambda: SlowDoor(kernel)).load(  # type: ignore[arg-type, return-value]
        Sample.SAMPLE.image, Sample.SAMPLE.sigstruct, debug=False
    )
    thread = threading.Thread(target=lambda: SampleEnclave(enclave).add([1]))
    thread.start()
    entered.wait(10)
    for call in (lambda: enclave.enter(enclave.tcs[0], Registers()), enclave.remove):
        with pytest.raises(InputError, match="inside"):
            call()
    with pytest.raises(InputError, match="no TCS"):
        enclave.enter(enclave.base + PAGE_SIZE, Registers())
    leave.set()
    thread.join()
    enclave.remove()
    assert nothing_left(kernel)


def test_a_child_of_fork_has_no_enclave(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel()
    enclave = load(kernel)
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(InputError, match="process"):
        enclave.enter(enclave.tcs[0], Registers())
    enclave.remove()
    assert kernel.open_files, "it is the parent's"
    monkeypatch.undo()
    enclave.remove()
    assert nothing_left(kernel)


def test_the_memory_of_a_debug_enclave_can_be_read() -> None:
    kernel = FakeKernel()
    with load(kernel, debug=True) as debug, load(kernel) as production:
        assert debug.read_debug(debug.base + 0x4000, 4) == Sample.SAMPLE.image.runs[-1].data[:4]  # type: ignore[index]
        for address, size in ((debug.base - 8, 8), (debug.base + debug.size, 1), (debug.base + 0x5000, 1)):
            with pytest.raises(InputError):
                debug.read_debug(address, size)
        with pytest.raises(InputError, match="production"):
            production.read_debug(production.base, 1)


@pytest.mark.parametrize(
    ("change", "request_", "value"),
    [
        (lambda c: c.restrict_permissions(0x1000, 0x8000, PageFlags.R), abi.RESTRICT_PERMISSIONS, (1,)),
        (lambda c: c.modify_types(0x1000, 0x8000, PageType.TRIM), abi.MODIFY_TYPES, (4,)),
        (lambda c: c.remove_pages(0x1000, 0x8000), abi.REMOVE_PAGES, ()),
    ],
)
def test_pages_of_an_enclave_at_work_change_in_as_many_calls_as_it_takes(
    change: Callable[[PageChanges], None], request_: int, value: tuple[int, ...]
) -> None:
    kernel = FakeKernel()
    platform = KernelPlatform(kernel, kernel.door)
    with platform.load(Sample.SAMPLE.image, Sample.SAMPLE.sigstruct, debug=False) as enclave:
        change(PageChanges(kernel, enclave.made.device))
        assert kernel.changed == [
            (request_, 0x1000, 0x3000, *value),
            (request_, 0x4000, 0x3000, *value),
            (request_, 0x7000, 0x2000, *value),
        ]
        kernel.interrupt = lambda _: (_ for _ in ()).throw(failure(errno.ENOTTY))
        with pytest.raises(HostError) as raised:
            change(PageChanges(kernel, enclave.made.device))
        assert "6.0" in str(raised.value.hint)


def test_what_the_computer_says_of_itself(tmp_path: Path) -> None:
    assert platform_of(FakeKernel()).info.sgx2
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Intel(R)  Xeon(R)\n")
    assert processor_name(tmp_path / "cpuinfo") == "Intel(R) Xeon(R)"
    assert processor_name(tmp_path / "none") == "?"
    assert epc_size(tmp_path) is None
    for node in (0, 1):
        folder = tmp_path / f"node{node}" / "x86"
        folder.mkdir(parents=True)
        (folder / "sgx_total_bytes").write_text("4096\n")
    assert epc_size(tmp_path) == 8192
