"""Registration of a server platform with Intel, by what the firmware keeps in EFI variables.

SgxRegistrationStatus after its attributes: version u16, size u16, status u16 (bit 0 registration complete, bit 1
package information complete), error u8. SgxRegistrationConfiguration: flags bit 0 set means that the agent shall not
register. Source: DCAP, tools/SGXPlatformRegistration (`MultiPackageDefs.h`, `UefiVar.h`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from sgxkit.host.checks.aesm import INIT_QUOTE_EX, answer, exchange_evidence
from sgxkit.host.checks.check import (
    Check,
    Verdict,
    Verdicts,
    fatal,
    not_applicable,
    supported,
    unknown,
    unsupported,
)
from sgxkit.host.checks.evidence import Evidence, known, register, shown
from sgxkit.host.checks.readings import in_virtual_machine
from sgxkit.host.facts import EfiContent, Facts, Reading, Unread
from sgxkit.host.remedies import firmware
from sgxkit.host.remedies import quoting as remedies
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.isa.msr import Msr, decode_bios_sign_id, is_preproduction
from sgxkit.messages import Message, msg

NO_PLATFORM_CERTIFICATE = 44

_ERRORS: Mapping[int, Message] = {
    0x80: msg("an unexpected error"),
    0x81: msg("too little memory"),
    0x82: msg("no network"),
    0x83: msg("a wrong parameter"),
    0x84: msg("an error in Intel's service"),
    0x85: msg("no answer from Intel's service in time"),
    0x86: msg("a protocol error with the BIOS"),
    0x87: msg("not authorised"),
    0xA0: msg("a malformed request"),
    0xA1: msg("the wrong registration service"),
    0xA2: msg("a package that is invalid or revoked"),
    0xA3: msg("a package that Intel does not know: pre-production parts or unlocked debugging"),
    0xA4: msg("packages that do not fit each other"),
    0xA5: msg("an invalid manifest"),
    0xA6: msg("a platform that Intel does not know"),
    0xA7: msg("an invalid request to add a package"),
}


def _variable_evidence(facts: Facts) -> tuple[Evidence, ...]:
    def one(name: str) -> Evidence:
        content: Reading[EfiContent] = facts.firmware.variable(name)
        fact = f"firmware.variables[{name}]"
        if isinstance(content, Unread):
            return shown(fact, content)
        return Evidence(fact, f"{content.size} bytes" if content.data is None else content.data)

    return tuple(
        one(name)
        for name in ("SgxRegistrationStatus", "SgxRegistrationConfiguration", "SgxRegistrationServerRequest")
    )


def _data(facts: Facts, name: str) -> bytes:
    content = known(facts.firmware.variable(name))
    try:
        return b"" if content is None or content.data is None else bytes.fromhex(content.data)
    except ValueError:
        return b""


def _judge(facts: Facts, _verdicts: Verdicts) -> Verdict:
    code = answer(facts, INIT_QUOTE_EX)
    if code == 0:
        return supported(exchange_evidence(facts, INIT_QUOTE_EX), code="shown-by-aesm")
    if in_virtual_machine(facts):
        return not_applicable(msg("A virtual machine is registered by its host."))
    evidence = (*_variable_evidence(facts), *exchange_evidence(facts, INIT_QUOTE_EX))
    status = _data(facts, "SgxRegistrationStatus")
    if len(status) >= 7:
        _version, _size, flags, error = struct.unpack_from("<HHHB", status)
        if error:
            return fatal(
                "registration-failed",
                msg(
                    "Registering this platform with Intel failed: {reason} (error {error}).",
                    reason=_ERRORS.get(error, msg("an error of the BIOS")),
                    error=f"{error:#04x}",
                ),
                evidence,
                _remedies_for(facts, error),
            )
        if not flags & 1:
            return _not_registered(facts, evidence)
        if code == NO_PLATFORM_CERTIFICATE:
            return fatal(
                "registered-elsewhere",
                msg("The firmware takes itself for registered, but Intel has no certificate for this platform."),
                evidence,
                (remedies.FACTORY_RESET, remedies.register_platform(facts)),
            )
        return supported(evidence)
    info = known(facts.cpu.cpuinfo)
    if code == NO_PLATFORM_CERTIFICATE:
        return _not_registered(facts, evidence)
    if info is not None and info.packages > 1:
        return unknown(
            "multi-package-unknown",
            msg(
                "This platform has {count} packages and must be registered; whether it is could not be read.",
                count=info.packages,
            ),
            evidence,
            (remedies.READ_REGISTRATION_LOG, firmware.READ_AS_ROOT, remedies.register_platform(facts)),
        )
    return unknown(
        "registration-unknown",
        msg("Whether the platform is registered could not be read; only server platforms must be."),
        evidence,
        (remedies.READ_REGISTRATION_LOG,),
    )


def _not_registered(facts: Facts, evidence: tuple[Evidence, ...]) -> Verdict:
    configuration = _data(facts, "SgxRegistrationConfiguration")
    automatic_off = len(configuration) >= 6 and bool(configuration[4] & 1)
    if automatic_off:
        return fatal(
            "not-registered-automatic-off",
            msg("The platform is not registered with Intel, and the BIOS has automatic registration turned off."),
            evidence,
            (remedies.AUTO_REGISTRATION_IN_BIOS, remedies.register_platform(facts), remedies.REGISTER_BY_HAND),
        )
    return fatal(
        "not-registered",
        msg("The platform is not registered with Intel, so there is no certificate for its quotes."),
        evidence,
        (remedies.register_platform(facts), remedies.REGISTER_BY_HAND, remedies.AUTO_REGISTRATION_IN_BIOS),
    )


def _remedies_for(facts: Facts, error: int) -> tuple[Remedy, ...]:
    if error in (0xA1, 0xA2, 0xA3):
        return (remedies.PRODUCTION_PARTS, remedies.READ_REGISTRATION_LOG)
    if error < 0x80:
        return (firmware.UPDATE_BIOS, remedies.FACTORY_RESET)
    if error in (0x82, 0x84, 0x85):
        return (remedies.register_platform(facts), remedies.REGISTER_BY_HAND)
    return (remedies.READ_REGISTRATION_LOG, remedies.FACTORY_RESET)


def _judge_production(facts: Facts, _verdicts: Verdicts) -> Verdict:
    msrs = known(facts.cpu.msrs)
    if not msrs:
        return unknown(
            "msr-unread", msg("The processor's registers could not be read."), (shown("cpu.msrs", facts.cpu.msrs),)
        )
    first = msrs[0]
    values = {
        address: known(first.value(address))
        for address in (Msr.MSR_PLATFORM_INFO, Msr.MSR_SGX_DEBUG_MODE, Msr.IA32_BIOS_SIGN_ID)
    }
    evidence = tuple(
        shown(f"cpu.msrs[{address:#x}]", first.value(address))
        if value is None
        else register(f"cpu.msrs[{address:#x}]", value, 16)
        for address, value in values.items()
    )
    info, debug, microcode = values.values()
    if (
        (info is not None and is_preproduction(info))
        or (debug is not None and debug != 0)
        or (microcode is not None and decode_bios_sign_id(microcode).debug_signed)
    ):
        return unsupported(
            "not-production",
            msg("The processor is a pre-production part or unlocked for debugging; Intel certifies none such."),
            evidence,
            (remedies.PRODUCTION_PARTS,),
        )
    if info is None and debug is None and microcode is None:
        return unknown("msr-unread", msg("The processor's registers could not be read."), evidence)
    return supported(evidence)


CHECKS: tuple[Check, ...] = (
    Check(
        "registration.production",
        msg("Production processor"),
        _judge_production,
        parent="attestation",
        needs=("cpu.sgx",),
        hidden_by=frozenset({"cpu.sgx"}),
    ),
    Check(
        "registration",
        msg("Platform registered with Intel"),
        _judge,
        parent="attestation",
        needs=("cpu.sgx", "cpu.configuration"),
        hidden_by=frozenset({"cpu.sgx", "cpu.configuration"}),
    ),
)
