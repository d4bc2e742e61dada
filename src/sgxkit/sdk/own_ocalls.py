"""The OCALLs of Intel's trusted libraries, answered as uRTS does: CPUID, events of threads, new threads."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping

from sgxkit.sdk.initialization import Cpuid
from sgxkit.sdk.ocall import Handler
from sgxkit.sdk.status import SdkStatus
from sgxkit.sdk.threads import ThreadPool, TrustedThread

_NO_EVENT = 0xC000_3001
"""SE_ERROR_MUTEX_GET_EVENT: there is no such thread (se_error_internal.h)."""


def own_ocalls(pool: ThreadPool, cpuid: Cpuid, run: Callable[[TrustedThread], None]) -> Mapping[str, Handler]:
    """Handlers by name; `run` makes the ECALL of a new thread on its TCS."""

    def sgx_oc_cpuidex(cpuinfo: list[int], leaf: int, subleaf: int) -> None:
        answer = cpuid(leaf, subleaf)
        cpuinfo[:] = [_signed(value) for value in (answer.eax, answer.ebx, answer.ecx, answer.edx)]

    def wait(tcs: int) -> int:
        if not tcs:
            return SdkStatus.SGX_ERROR_INVALID_PARAMETER
        thread = pool.threads.get(tcs)
        if thread is None:
            return _signed(_NO_EVENT)
        thread.event.acquire()
        return SdkStatus.SGX_SUCCESS

    def wake(tcs: int) -> int:
        if not tcs:
            return SdkStatus.SGX_ERROR_INVALID_PARAMETER
        thread = pool.threads.get(tcs)
        if thread is None:
            return _signed(_NO_EVENT)
        thread.event.release()
        return SdkStatus.SGX_SUCCESS

    def wake_and_wait(waiter: int, own: int) -> int:
        return wake(waiter) or wait(own)

    def wake_all(waiters: list[int] | None, _total: int) -> int:
        if not waiters:
            return SdkStatus.SGX_ERROR_INVALID_PARAMETER
        for waiter in waiters:
            if status := wake(waiter):
                return status
        return SdkStatus.SGX_SUCCESS

    def create(tcs: int) -> int:
        if tcs not in pool.threads:
            return SdkStatus.SGX_ERROR_INVALID_PARAMETER
        thread = pool.reserve()
        if thread is None:
            return SdkStatus.SGX_ERROR_OUT_OF_TCS
        threading.Thread(target=run, args=(thread,), name=f"enclave thread {thread.tcs:#x}", daemon=True).start()
        return SdkStatus.SGX_SUCCESS

    def wait_for(tcs: int, timeout: int) -> int:
        thread = pool.threads.get(tcs)
        if thread is None:
            return SdkStatus.SGX_ERROR_DEVICE_BUSY
        # In seconds, 0 is for ever; and uRTS does not say whether the time was over.
        thread.event.acquire(timeout=timeout or None)
        return SdkStatus.SGX_SUCCESS

    def wake_waiter(tcs: int) -> int:
        if tcs in pool.threads:
            pool.threads[tcs].event.release()
        return SdkStatus.SGX_SUCCESS

    def u_sgxssl_ftime(timeb: bytearray, _size: int) -> None:
        # struct timeb: seconds, milliseconds, and two numbers about zones of time that nobody uses.
        now = time.time()
        found = struct.pack("<qHhh2x", int(now), int(now % 1 * 1000), 0, 0)
        timeb[:] = found[: len(timeb)].ljust(len(timeb), b"\0")

    def u_sgxssl_usleep(microseconds: int) -> None:
        time.sleep(max(0, microseconds) / 1e6)

    return {
        "sgx_oc_cpuidex": sgx_oc_cpuidex,
        "sgx_thread_wait_untrusted_event_ocall": wait,
        "sgx_thread_set_untrusted_event_ocall": wake,
        "sgx_thread_setwait_untrusted_events_ocall": wake_and_wait,
        "sgx_thread_set_multiple_untrusted_events_ocall": wake_all,
        "pthread_create_ocall": create,
        "pthread_wait_timeout_ocall": wait_for,
        "pthread_wakeup_ocall": wake_waiter,
        "u_sgxssl_ftime": u_sgxssl_ftime,
        "u_sgxssl_usleep": u_sgxssl_usleep,
    }


def _signed(value: int) -> int:
    """The int that has these 32 bits."""
    return value - (1 << 32) if value >> 31 else value
