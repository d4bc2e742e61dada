"""What the kernel's refusals mean, and what to do about them (docs/reference/host.md, 1.7)."""

from __future__ import annotations

import errno

from sgxkit.errors import HostError
from sgxkit.messages import Message, msg


class DriverError(HostError):
    """The kernel's refusal: which step it refused (open, ECREATE, EADD, EINIT, mmap, ...), and its error number."""

    code = "driver"
    exit_code = 1

    def __init__(self, step: str, error: OSError | None, message: Message, hint: Message) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = None if error is None else error.errno


_DOCTOR = msg("`sgxkit doctor` says what is missing")


def no_device() -> DriverError:
    """None of the devices is there."""
    return DriverError("open", None, msg("there is no SGX device on this computer"), _DOCTOR)


def device_problem(path: str, error: OSError) -> DriverError:
    """A device that cannot be opened."""
    hints = {
        errno.EACCES: msg("it belongs to a group, often sgx or sgx_prv: be a member of it, and log in again"),
        errno.EPERM: msg("a container must be given the device: --device {path}", path=path),
        errno.ENODEV: _DOCTOR,
        errno.ENXIO: _DOCTOR,
        errno.EBUSY: msg("another program has it to itself"),
    }
    message = msg("{path} cannot be opened: {reason}", path=path, reason=error.strerror)
    return DriverError("open", error, message, hints.get(error.errno or 0, _DOCTOR))


def create_problem(error: OSError) -> DriverError:
    """ECREATE."""
    hints = {
        errno.EIO: msg("the processor does not accept the enclave's size, ATTRIBUTES, XFRM or MISCSELECT"),
        errno.EINVAL: msg("the kernel does not accept the enclave's size, ATTRIBUTES or XFRM"),
        errno.ENOMEM: _EPC,
    }
    return _refused("ECREATE", error, hints)


def add_problem(error: OSError) -> DriverError:
    """EADD and EEXTEND."""
    hints = {
        errno.EACCES: msg("pages with code must come from memory that may be executed"),
        errno.EIO: msg("the machine slept, or lost its enclave memory otherwise: create the enclave again"),
        errno.ENOMEM: _EPC,
    }
    return _refused("EADD", error, hints)


def init_problem(error: OSError) -> DriverError:
    """EINIT."""
    hints = {
        errno.EPERM: msg(
            "SIGSTRUCT is for another image (`sgxkit enclave verify` tells), or its author may not launch here"
        ),
        errno.EACCES: msg("ATTRIBUTES.PROVISIONKEY needs /dev/sgx_provision, which belongs to the group sgx_prv"),
        errno.EIO: msg("the machine slept, or lost its enclave memory otherwise: create the enclave again"),
    }
    return _refused("EINIT", error, hints)


def map_problem(error: OSError, device: str) -> DriverError:
    """Mapping pages of the enclave."""
    hints = {
        errno.EPERM: msg("{folder} is mounted with noexec: mount -o remount,exec {folder}", folder="/dev"),
        errno.EACCES: msg("the pages have fewer permissions, or this process has READ_IMPLIES_EXEC"),
        errno.ENOMEM: msg("there is no room in the address space: see `ulimit -v` and vm.max_map_count"),
    }
    message = msg("pages of {path} cannot be mapped: {reason}", path=device, reason=error.strerror)
    return DriverError("mmap", error, message, hints.get(error.errno or 0, _DOCTOR))


def memory_problem(error: OSError) -> DriverError:
    """Memory of the process itself, outside enclaves."""
    hints = {
        errno.EACCES: msg("a policy forbids code in memory (SELinux: execmem)"),
        errno.EPERM: msg("a policy forbids code in memory (SELinux: execmem)"),
        errno.ENOMEM: msg("there is no room in the address space: see `ulimit -v` and vm.max_map_count"),
    }
    message = msg("this process gets no memory: {reason}", reason=error.strerror)
    return DriverError("memory", error, message, hints.get(error.errno or 0, _DOCTOR))


def change_problem(what: str, error: OSError, result: int) -> DriverError:
    """A change of pages of an enclave at work; `result` is the leaf function's status."""
    hints = {
        errno.ENOTTY: msg("this kernel has no such call: Linux 6.0 or newer has it"),
        errno.ENODEV: msg("the processor has no SGX2"),
        errno.EINVAL: msg("the pages are not of the kind or state for this, or the enclave is not initialized"),
        errno.EFAULT: msg("the processor refused with status {status}", status=result),
        errno.EPERM: msg("the enclave must accept the change first (EACCEPT)"),
    }
    return _refused(what, error, hints)


_EPC = msg("there is no free enclave memory (EPC): end other enclaves")


def _refused(what: str, error: OSError, hints: dict[int, Message]) -> DriverError:
    message = msg("{step} was refused: {reason}", step=what, reason=error.strerror)
    return DriverError(what, error, message, hints.get(error.errno or 0, _DOCTOR))
