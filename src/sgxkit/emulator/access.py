"""Access by an enclave to its own pages: what the EPCM allows (Intel SDM Vol. 3D, 36.3, "Enclave Access Control")."""

from __future__ import annotations

from sgxkit.emulator.faults import EPCM_FAULT, GeneralProtectionFault, PageFault, PageFaultCode
from sgxkit.emulator.processor import LogicalProcessor, SecsState, require_aligned
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType
from sgxkit.messages import msg


def require_in_elrange(enclave: SecsState, operand: str, address: int) -> None:
    """#GP unless `address` is in the enclave's range."""
    if not enclave.covers(address):
        raise GeneralProtectionFault(
            msg("{operand} is {address}, outside the enclave", operand=operand, address=hex(address))
        )


def require_accessible(thread: LogicalProcessor, secs: int, address: int, permissions: PageFlags) -> int:
    """#PF unless `address` is in a regular page of the enclave `secs`, at its place, with these permissions.

    Returns the EPC address.
    """
    physical = thread.translate(address)
    entry = thread.processor.epc.entry(physical)
    code = EPCM_FAULT | (PageFaultCode.W if PageFlags.W in permissions else PageFaultCode(0))
    checks = (
        ("VALID", entry.valid, True),
        ("BLOCKED", entry.blocked, False),
        ("PT", entry.page_type, PageType.REG),
        ("ENCLAVESECS", entry.secs, secs),
        ("PENDING", entry.pending, False),
        ("MODIFIED", entry.modified, False),
        ("ENCLAVEADDRESS", entry.address, address & -PAGE_SIZE),
        ("R, W, X", entry.permissions & permissions, permissions),
    )
    for name, value, expected in checks:
        if value != expected:
            problem = msg("EPCM.{field} is {value}", field=name, value=_shown(value))
            raise PageFault(address, problem, code)
    return physical


def leaf_operand(
    thread: LogicalProcessor, leaf: Enclu, operand: str, address: int, *, alignment: int, permissions: PageFlags
) -> int:
    """Check a memory operand of EREPORT or EGETKEY as their pseudo-code does; returns its EPC address."""
    enclave = thread.current(leaf)
    require_aligned(operand, address, alignment)
    require_in_elrange(enclave, operand, address)
    assert thread.active_secs is not None
    return require_accessible(thread, thread.active_secs, address, permissions)


def read_enclave(thread: LogicalProcessor, address: int, size: int) -> bytes:
    """Read enclave memory as the enclave's own code does."""
    parts = []
    for start, length in _within_pages(address, size):
        physical = _access(thread, start, PageFlags.R)
        parts.append(thread.processor.epc.read(physical, length))
    return b"".join(parts)


def write_enclave(thread: LogicalProcessor, address: int, data: bytes) -> None:
    """Write enclave memory as the enclave's own code does; pages before one that faults are written."""
    for start, length in _within_pages(address, len(data)):
        physical = _access(thread, start, PageFlags.W)
        thread.processor.epc.write(physical, data[start - address : start - address + length])


def _access(thread: LogicalProcessor, address: int, permissions: PageFlags) -> int:
    if thread.active_secs is None:
        raise PageFault(address, msg("no enclave is being executed"))
    return require_accessible(thread, thread.active_secs, address, permissions)


def _within_pages(address: int, size: int) -> list[tuple[int, int]]:
    pieces = []
    while size:
        length = min(size, PAGE_SIZE - address % PAGE_SIZE)
        pieces.append((address, length))
        address, size = address + length, size - length
    return pieces


def _shown(value: object) -> str:
    if isinstance(value, PageType):
        return value.name
    if isinstance(value, PageFlags):
        return value.name or "none"
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
