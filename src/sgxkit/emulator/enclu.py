"""EREPORT and EGETKEY (Intel SDM Vol. 3D, chapter 38). Their operands are linear addresses in the enclave."""

from __future__ import annotations

from sgxkit.emulator.access import leaf_operand
from sgxkit.emulator.keys import derive_key, make_report
from sgxkit.emulator.processor import LogicalProcessor, parse
from sgxkit.isa.keyrequest import KEYREQUEST_SIZE, KeyRequest
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.local_report import REPORTDATA_SIZE
from sgxkit.isa.page import PageFlags
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.targetinfo import TARGETINFO_SIZE, TargetInfo


def ereport(thread: LogicalProcessor, rbx: int, rcx: int, rdx: int) -> None:
    """Write to RDX a REPORT of this enclave with the REPORTDATA at RCX, for the TARGETINFO at RBX."""
    enclave = thread.current(Enclu.EREPORT)
    target_at = leaf_operand(thread, Enclu.EREPORT, "RBX", rbx, alignment=512, permissions=PageFlags.R)
    reportdata_at = leaf_operand(thread, Enclu.EREPORT, "RCX", rcx, alignment=128, permissions=PageFlags.R)
    output_at = leaf_operand(thread, Enclu.EREPORT, "RDX", rdx, alignment=512, permissions=PageFlags.W)
    processor = thread.processor
    # The pseudo-code does not look at TARGETINFO's reserved bytes.
    target = TargetInfo.from_bytes(processor.epc.read(target_at, TARGETINFO_SIZE), ignore_reserved=True)
    reportdata = processor.epc.read(reportdata_at, REPORTDATA_SIZE)
    body = enclave.identity.report_body(processor.fuses.cpusvn, reportdata)
    report = make_report(processor.fuses, body, target, processor.report_keyid)
    processor.epc.write(output_at, report.to_bytes())


def egetkey(thread: LogicalProcessor, rbx: int, rcx: int) -> Status:
    """Write to RCX the key that the KEYREQUEST at RBX asks for; on a status but success nothing is written."""
    enclave = thread.current(Enclu.EGETKEY)
    request_at = leaf_operand(thread, Enclu.EGETKEY, "RBX", rbx, alignment=512, permissions=PageFlags.R)
    output_at = leaf_operand(thread, Enclu.EGETKEY, "RCX", rcx, alignment=16, permissions=PageFlags.W)
    processor = thread.processor
    request = parse(KeyRequest.from_bytes, processor.epc.read(request_at, KEYREQUEST_SIZE))
    try:
        key = derive_key(processor.fuses, enclave.identity, request)
    except SgxError as refused:
        return refused.status
    processor.epc.write(output_at, key)
    return Status.SGX_SUCCESS
