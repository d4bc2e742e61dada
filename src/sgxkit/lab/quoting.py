"""The quoting enclave and the PCE, in Python: REPORTs in, ECDSA quotes of version 3 out.

Intel SGX ECDSA QuoteLibReference and DCAP API, A.4 (quote format); the QE's binding of its attestation key is
SHA-256(key || authentication data) in the report data of its own report, which the PCE signs with the PCK key.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec

from sgxkit.aesm.client import REPORT_SIZE, TARGET_INFO_SIZE
from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.aesm.key_id import INTEL_ECDSA_P256, INTEL_QE_SIGNER
from sgxkit.dcap.quote import INTEL_QE_VENDOR_ID
from sgxkit.emulator.keys import SecsIdentity, make_report, verify_report
from sgxkit.errors import FormatError
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.local_report import Report
from sgxkit.isa.report import REPORT_BODY_SIZE
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.lab.authority import PCESVN, Lab
from sgxkit.lab.certificates import derive, derive_key, raw_point, raw_signature
from sgxkit.lab.publication import FIRST_QE_SVN

QUOTE_VERSION = 3
ECDSA_P256 = 2
PCK_CHAIN = 5
QE_PROD_ID = 1
# What Intel's quoting enclave writes there.
AUTHENTICATION_DATA = bytes(range(32))

# version 2 | attestation key type 2 | reserved 4 | QE SVN 2 | PCE SVN 2 | QE vendor 16 | user data 20
_HEADER = struct.Struct("<HHIHH16s20s")
_SIGNATURE_SIZE = _KEY_SIZE = 64
_SGX_STATE = 3
"""XFRM of enclaves that use x87 and SSE only."""


@dataclass(eq=False)
class QuotingEnclave:
    """A lab's quoting enclave, as AESM has it (`sgxkit.aesm.server.QuotingService`).

    `initialised` says whether the attestation key was made in this run of the daemon: without it nothing is quoted.
    """

    lab: Lab
    initialised: bool = False

    @cached_property
    def identity(self) -> SecsIdentity:
        """What its SECS says. The signer is Intel's: programs look for that quoting enclave by name."""
        svn = FIRST_QE_SVN + self.lab.world.qe_generation
        return SecsIdentity(
            mrenclave=sha256(f"sgxkit lab quoting enclave {svn}".encode()).digest(),
            mrsigner=INTEL_QE_SIGNER,
            attributes=Attributes(
                AttributeFlags.INIT | AttributeFlags.MODE64BIT | AttributeFlags.PROVISIONKEY, _SGX_STATE
            ),
            isvprodid=QE_PROD_ID,
            isvsvn=svn,
        )

    @cached_property
    def attestation_key(self) -> ec.EllipticCurvePrivateKey:
        return derive_key(self.lab.seed, f"attestation {self.lab.world.key_generation} key")

    @cached_property
    def certification(self) -> bytes:
        """All of a quote after its signature: attestation key, the QE's certified report, and the PCK chain."""
        lab = self.lab
        key = raw_point(self.attestation_key)
        binding = sha256(key + AUTHENTICATION_DATA).digest() + bytes(32)
        report = self.identity.report_body(lab.fuses.cpusvn, binding).to_bytes()
        chain = lab.pck_chain(lab.world.generation).encode() + b"\0"
        return (
            key
            + report
            + raw_signature(lab.pck(lab.world.generation).key, report)
            + struct.pack("<H", len(AUTHENTICATION_DATA))
            + AUTHENTICATION_DATA
            + struct.pack("<HI", PCK_CHAIN, len(chain))
            + chain
        )

    @property
    def header(self) -> bytes:
        """A quote's first 48 bytes."""
        return _HEADER.pack(
            QUOTE_VERSION,
            ECDSA_P256,
            0,
            self.identity.isvsvn,
            PCESVN,
            INTEL_QE_VENDOR_ID,
            self.lab.qe_id + bytes(4),
        )

    def key_ids(self) -> tuple[bytes, ...]:
        return (INTEL_ECDSA_P256.to_bytes(),)

    def target_info(self, key_id: bytes) -> bytes:
        del key_id  # there is but one
        return self.identity.target_info.to_bytes()

    def public_key_id(self, key_id: bytes, *, make: bool) -> bytes:
        """SHA-256 of the public key."""
        del key_id
        if make:
            self.initialised = True
        return sha256(raw_point(self.attestation_key)).digest()

    def quote_size(self, key_id: bytes) -> int:
        del key_id
        if not self.initialised:
            raise AesmError(AesmCode.ATT_KEY_NOT_INITIALIZED)
        return _HEADER.size + REPORT_BODY_SIZE + 4 + _SIGNATURE_SIZE + len(self.certification)

    def quote(self, report: bytes, key_id: bytes, qe_report_info: bytes | None) -> tuple[bytes, bytes | None]:
        """Quote a REPORT of 432 bytes that was made on this platform for this enclave.

        Raises AesmError: INVALID_REPORT for any other, ATT_KEY_NOT_INITIALIZED.
        """
        del key_id
        if not self.initialised:
            raise AesmError(AesmCode.ATT_KEY_NOT_INITIALIZED)
        made = self._sign(report)
        if qe_report_info is None:
            return made, None
        return made, self._with_qe_report(qe_report_info, made)

    def _sign(self, report: bytes) -> bytes:
        try:
            parsed = Report.from_bytes(report)
        except FormatError as error:
            raise AesmError(AesmCode.INVALID_REPORT) from error
        if not verify_report(self.lab.fuses, parsed, self.identity.target_info):
            raise AesmError(AesmCode.INVALID_REPORT)
        signed = self.header + report[:REPORT_BODY_SIZE]
        data = raw_signature(self.attestation_key, signed) + self.certification
        return signed + struct.pack("<I", len(data)) + data

    def _with_qe_report(self, info: bytes, quote: bytes) -> bytes:
        """Fill in the QE's REPORT for whoever asked: its report data is SHA-256 of nonce and quote."""
        nonce, target = info[:16], TargetInfo.from_bytes(info[16 : 16 + TARGET_INFO_SIZE])
        body = self.identity.report_body(self.lab.fuses.cpusvn, sha256(nonce + quote).digest() + bytes(32))
        report = make_report(self.lab.fuses, body, target, report_key_id(self.lab))
        return info[:-REPORT_SIZE] + report.to_bytes()


def report_key_id(lab: Lab) -> bytes:
    """CR_REPORT_KEYID of the emulated processor, 32 bytes."""
    return derive(lab.seed, "report key ID", 32)


SAMPLE_ENCLAVE = SecsIdentity(
    mrenclave=sha256(b"sgxkit lab sample enclave").digest(),
    mrsigner=sha256(b"sgxkit lab sample signer").digest(),
    attributes=Attributes(AttributeFlags.INIT | AttributeFlags.MODE64BIT, _SGX_STATE),
    isvprodid=1,
    isvsvn=1,
)
"""Who quotes for relying parties' tests are about, unless told otherwise: no code at all."""


def quote_user_data(lab: Lab, data: bytes, *, enclave: SecsIdentity = SAMPLE_ENCLAVE, debug: bool = False) -> bytes:
    """Make a quote over up to 64 bytes of report data, as an enclave on the lab's platform would get it."""
    if debug:
        flags = enclave.attributes.flags | AttributeFlags.DEBUG
        enclave = replace(enclave, attributes=Attributes(flags, enclave.attributes.xfrm))
    quoting = QuotingEnclave(lab, initialised=True)
    body = enclave.report_body(lab.fuses.cpusvn, data.ljust(64, b"\0"))
    report = make_report(lab.fuses, body, quoting.identity.target_info, report_key_id(lab))
    return quoting.quote(report.to_bytes(), INTEL_ECDSA_P256.to_bytes(), None)[0]
