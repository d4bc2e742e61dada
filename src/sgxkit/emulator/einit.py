"""EINIT: check the certificate of an enclave and let it run (Intel SDM Vol. 3D, chapter 38, EINIT)."""

from __future__ import annotations

import hmac
from dataclasses import replace

from sgxkit.emulator.encls import require_not_initialized
from sgxkit.emulator.keys import PKCS1_PADDING, einittoken_mac
from sgxkit.emulator.memory import Memory
from sgxkit.emulator.processor import Processor, SecsState, require_aligned, require_epc, require_secs
from sgxkit.errors import FormatError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EINITTOKEN_SIZE, EinitToken
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.isa.sigstruct import SIGSTRUCT_SIZE, Sigstruct
from sgxkit.isa.status import Status

CONTROLLED_ATTRIBUTES = AttributeFlags.EINITTOKEN_KEY
"""ATTRIBUTES that only an enclave signed with the launch key may have."""

_EINITTOKEN_ALIGNMENT = 512


def einit(processor: Processor, memory: Memory, rbx: int, rcx: int, rdx: int) -> Status:
    """Initialize the enclave with the SECS RCX; RBX is its SIGSTRUCT, RDX its EINITTOKEN.

    The signature is verified as SIGSTRUCT has it, by RSA; Q1 and Q2 must be right, too.
    """
    require_aligned("RBX", rbx, PAGE_SIZE)
    require_aligned("RCX", rcx, PAGE_SIZE)
    require_aligned("RDX", rdx, _EINITTOKEN_ALIGNMENT)
    require_epc(processor, rcx)
    raw_sigstruct = memory.read(rbx, SIGSTRUCT_SIZE)
    raw_token = memory.read(rdx, EINITTOKEN_SIZE)
    try:
        sigstruct = Sigstruct.from_bytes(raw_sigstruct)
    except FormatError:
        return Status.SGX_INVALID_SIG_STRUCT
    if not (sigstruct.signature_holds and sigstruct.quotients_hold):
        return Status.SGX_INVALID_SIGNATURE
    enclave = require_secs(processor, rcx)
    secs = enclave.secs
    if any(sigstruct.isvfamilyid) and not secs.attributes.flags & AttributeFlags.KSS:
        return Status.SGX_INVALID_SIG_STRUCT
    require_not_initialized(enclave)
    mrenclave = enclave.measurement.copy().digest()
    if sigstruct.enclavehash != mrenclave:
        return Status.SGX_INVALID_MEASUREMENT
    mrsigner = sigstruct.mrsigner
    if secs.attributes.flags & CONTROLLED_ATTRIBUTES and mrsigner != processor.launch_key_hash:
        return Status.SGX_INVALID_ATTRIBUTE
    if _under(secs.attributes, sigstruct.attributemask) != _under(sigstruct.attributes, sigstruct.attributemask):
        return Status.SGX_INVALID_ATTRIBUTE
    if (secs.miscselect ^ sigstruct.miscselect) & sigstruct.miscmask:
        return Status.SGX_INVALID_ATTRIBUTE
    if (secs.cet_attributes ^ sigstruct.cet_attributes) & sigstruct.cet_attributes_mask:
        return Status.SGX_INVALID_ATTRIBUTE
    if not EinitToken.from_bytes(raw_token, ignore_reserved=True).valid:
        if mrsigner != processor.launch_key_hash:
            return Status.SGX_INVALID_EINITTOKEN
    else:
        status = _check_token(processor, enclave, raw_token, mrenclave, mrsigner)
        if status is not Status.SGX_SUCCESS:
            return status
    enclave.secs = replace(
        secs,
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        isvprodid=sigstruct.isvprodid,
        isvsvn=sigstruct.isvsvn,
        attributes=Attributes(secs.attributes.flags | AttributeFlags.INIT, secs.attributes.xfrm),
    )
    enclave.isvfamilyid = sigstruct.isvfamilyid
    enclave.isvextprodid = sigstruct.isvextprodid
    enclave.padding = PKCS1_PADDING
    enclave.initialized = True
    return Status.SGX_SUCCESS


def _check_token(processor: Processor, enclave: SecsState, raw: bytes, mrenclave: bytes, mrsigner: bytes) -> Status:
    token = EinitToken.from_bytes(raw, ignore_reserved=True)
    if token.maskedattributesle.debug and not enclave.secs.attributes.debug:
        return Status.SGX_INVALID_EINITTOKEN
    if token.to_bytes() != raw:  # reserved bits are written as zeros
        return Status.SGX_INVALID_EINITTOKEN
    if not processor.fuses.supports_cpusvn(token.cpusvnle):
        return Status.SGX_INVALID_CPUSVN
    if not hmac.compare_digest(token.mac, einittoken_mac(processor.fuses, token, processor.launch_key_hash)):
        return Status.SGX_INVALID_EINITTOKEN
    if token.mrenclave != mrenclave or token.mrsigner != mrsigner:
        return Status.SGX_INVALID_MEASUREMENT
    if token.attributes != enclave.secs.attributes:
        return Status.SGX_INVALID_ATTRIBUTE
    return Status.SGX_SUCCESS


def _under(attributes: Attributes, mask: Attributes) -> Attributes:
    return Attributes(attributes.flags & mask.flags, attributes.xfrm & mask.xfrm)
