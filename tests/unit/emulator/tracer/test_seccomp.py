"""The filters, run by a small interpreter of classic BPF."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.emulator.tracer.seccomp import FROM_ENCLAVE, FROM_PROGRAM, enclave_filter, program_filter
from sgxkit.emulator.tracer.syscalls import Syscall

X86_64, I386 = 0xC000_003E, 0x4000_0003
ALLOW, TRACE = 0x7FFF_0000, 0x7FF0_0000
QUIET = (0x5358_4700_0000, 0x5358_4701_0000)


def verdict(program: bytes, number: int, *arguments: int, ip: int = 0x40_0000, arch: int = X86_64) -> int:
    data = struct.pack("<iIQ6Q", number, arch, ip, *arguments, *[0] * (6 - len(arguments)))
    code, at, a = list(struct.iter_unpack("<HBBI", program)), 0, 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x06:
            return int(k)
        if operation == 0x20:
            (a,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:
            a &= k
        elif operation == 0x74:
            a >>= k
        else:
            holds = {0x15: a == k, 0x35: a >= k, 0x45: bool(a & k)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("number", [Syscall.OPENAT, Syscall.CONNECT, Syscall.STATX, Syscall.READLINK])
def test_system_calls_with_paths_are_traced(number: Syscall) -> None:
    assert verdict(program_filter(*QUIET), number) == TRACE | FROM_PROGRAM


def test_others_run_freely() -> None:
    program = program_filter(*QUIET)
    for number in (0, 1, 3, 12, 39, 202, 231):
        assert verdict(program, number) == ALLOW


def test_ioctl_is_traced_by_its_magic() -> None:
    program = program_filter(*QUIET)
    assert verdict(program, Syscall.IOCTL, 3, 0x4008_A400) == TRACE | FROM_PROGRAM
    assert verdict(program, Syscall.IOCTL, 3, 0x5401) == ALLOW


def test_mmap_of_files_is_traced_but_for_the_dynamic_linker() -> None:
    program = program_filter(*QUIET)
    assert verdict(program, Syscall.MMAP, 0, 4096, 1, 1, 3) == TRACE | FROM_PROGRAM
    assert verdict(program, Syscall.MMAP, 0, 4096, 1, 0x22, 3) == ALLOW
    assert verdict(program, Syscall.MMAP, 0, 4096, 1, 0x802, 3) == ALLOW


def test_actions_are_traced_for_the_signals_of_our_traps() -> None:
    program = program_filter(*QUIET)
    traced = {number for number in range(1, 65) if verdict(program, Syscall.RT_SIGACTION, number) != ALLOW}
    assert traced == {4, 11}


def test_the_tracer_and_other_architectures_are_let_alone() -> None:
    program = program_filter(*QUIET)
    assert verdict(program, Syscall.OPENAT, ip=QUIET[0]) == ALLOW
    assert verdict(program, Syscall.OPENAT, ip=QUIET[1]) == TRACE | FROM_PROGRAM
    assert verdict(program, Syscall.OPENAT, arch=I386) == ALLOW


@given(
    st.integers(1, 2**47 // 4096 - 1),
    st.integers(0, 20),
    st.integers(-(2**33), 2**33),
    st.sampled_from([Syscall.MMAP, Syscall.MUNMAP, Syscall.MPROTECT]),
)
@settings(max_examples=100, deadline=None)
def test_the_range_of_an_enclave(page: int, log2: int, distance: int, number: Syscall) -> None:
    start = page * 4096
    end = start + (4096 << log2)
    program = enclave_filter(start, end)
    for address in (start - 1, start, end - 1, end, max(0, start + distance)):
        inside = start <= address < end
        assert verdict(program, 39, ip=address) == (TRACE | FROM_ENCLAVE if inside else ALLOW)
        expected = TRACE | FROM_PROGRAM if inside else ALLOW
        assert verdict(program, number, address, ip=start - 1) == expected
