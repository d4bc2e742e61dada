"""What the kernel's SGX driver is asked and how: ``asm/sgx.h`` of Linux 6.1, and two drivers from before it.

The kernel's own driver (since 5.11) and Intel's DCAP driver from 1.32 on speak the same; isgx is older and needs a
launch token with every enclave. Fields that the kernel writes are the last ones: `result`, `count`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = 0xA4
_NONE, _WRITE, _READ = 0, 1, 2


def _request(direction: int, number: int, size: int) -> int:
    """The number of an ioctl (asm-generic/ioctl.h)."""
    return direction << 30 | size << 16 | MAGIC << 8 | number


# Field: src.
CREATE_ARGUMENT = struct.Struct("<Q")
CREATE = _request(_WRITE, 0, CREATE_ARGUMENT.size)
# Fields: src, offset, length, secinfo, flags, count.
ADD_PAGES_ARGUMENT = struct.Struct("<QQQQQQ")
ADD_PAGES = _request(_READ | _WRITE, 1, ADD_PAGES_ARGUMENT.size)
MEASURE = 1
"""Flag of ADD_PAGES: EEXTEND all of every page."""
# Field: sigstruct.
INIT_ARGUMENT = struct.Struct("<Q")
INIT = _request(_WRITE, 2, INIT_ARGUMENT.size)
# Field: descriptor of the provision device.
PROVISION_ARGUMENT = struct.Struct("<Q")
PROVISION = _request(_WRITE, 3, PROVISION_ARGUMENT.size)
# Fields: offset, length, permissions, result, count.
RESTRICT_ARGUMENT = struct.Struct("<QQQQQ")
RESTRICT_PERMISSIONS = _request(_READ | _WRITE, 5, RESTRICT_ARGUMENT.size)
# Fields: offset, length, page type, result, count.
MODIFY_ARGUMENT = struct.Struct("<QQQQQ")
MODIFY_TYPES = _request(_READ | _WRITE, 6, MODIFY_ARGUMENT.size)
# Fields: offset, length, count.
REMOVE_ARGUMENT = struct.Struct("<QQQ")
REMOVE_PAGES = _request(_READ | _WRITE, 7, REMOVE_ARGUMENT.size)

# isgx. Fields: addr, src, secinfo, mrmask.
ISGX_ADD_ARGUMENT = struct.Struct("<QQQH")
ISGX_ADD_PAGE = _request(_WRITE, 1, ISGX_ADD_ARGUMENT.size)
# Fields: addr, sigstruct, einittoken.
ISGX_INIT_ARGUMENT = struct.Struct("<QQQ")
ISGX_INIT = _request(_WRITE, 2, ISGX_INIT_ARGUMENT.size)


@dataclass(frozen=True, slots=True)
class Interface:
    """One driver's device and manners.

    provision   the device whose descriptor allows PROVISIONKEY; empty where the driver has none.
    token       whether EINIT needs a launch token.
    """

    device: str
    provision: str
    token: bool


INTERFACES = (
    Interface("/dev/sgx_enclave", "/dev/sgx_provision", token=False),
    Interface("/dev/sgx/enclave", "/dev/sgx/provision", token=False),
    Interface("/dev/isgx", "", token=True),
)
"""In the order in which they are looked for."""
