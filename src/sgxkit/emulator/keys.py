"""Keys of the emulated processor: EGETKEY's derivation, the report key, and REPORTs.

Intel SDM Vol. 3D, chapter 38: the pseudo-code of EGETKEY and EREPORT, table "Key Derivation". A key is the AES-CMAC,
under the root provisioning key, of everything that it depends on. Which bytes hardware feeds into its derivation is
not published, so no key here equals one of hardware: what it depends on does.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from sgxkit.emulator.faults import GeneralProtectionFault
from sgxkit.emulator.fuses import Fuses
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.einittoken import EINITTOKEN_MAC_COVERS, EinitToken
from sgxkit.isa.keyrequest import KSS_POLICY, KeyName, KeyPolicy, KeyRequest
from sgxkit.isa.layout import Layout
from sgxkit.isa.leaf import Enclu
from sgxkit.isa.local_report import Report
from sgxkit.isa.report import ReportBody
from sgxkit.isa.status import SgxError, Status
from sgxkit.isa.targetinfo import TargetInfo
from sgxkit.messages import msg

# EMSA-PKCS1-v1_5 before the digest (RFC 8017, 9.2): what an RSA-3072 signature with SHA-256 must begin with.
PKCS1_PADDING = b"\x00\x01" + b"\xff" * 330 + bytes.fromhex("003031300d060960864801650304020105000420")

REQUIRED_SEALING_MASK = AttributeFlags.INIT | AttributeFlags.DEBUG
"""ATTRIBUTES that every key with an attribute mask depends on: a debug enclave never has a production key."""

_NO_ATTRIBUTES = Attributes(0, 0)


@dataclass(frozen=True, slots=True)
class SecsIdentity:
    """What an initialized enclave's SECS says of who it is: the fields that keys and reports are made from."""

    mrenclave: bytes
    mrsigner: bytes
    attributes: Attributes
    miscselect: int = 0
    isvprodid: int = 0
    isvsvn: int = 0
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)
    configid: bytes = bytes(64)
    configsvn: int = 0
    cet_attributes: int = 0
    padding: bytes = PKCS1_PADDING

    @property
    def target_info(self) -> TargetInfo:
        """The TARGETINFO that names this enclave as the one to verify a report."""
        return TargetInfo(
            measurement=self.mrenclave,
            attributes=self.attributes,
            miscselect=self.miscselect,
            configid=self.configid,
            configsvn=self.configsvn,
            cet_attributes=self.cet_attributes,
        )

    def report_body(self, cpusvn: bytes, reportdata: bytes) -> ReportBody:
        """What a REPORT says of this enclave on a platform with `cpusvn`."""
        return ReportBody(
            cpusvn=cpusvn,
            miscselect=self.miscselect,
            isvextprodid=self.isvextprodid,
            attributes=self.attributes,
            mrenclave=self.mrenclave,
            mrsigner=self.mrsigner,
            configid=self.configid,
            isvprodid=self.isvprodid,
            isvsvn=self.isvsvn,
            configsvn=self.configsvn,
            isvfamilyid=self.isvfamilyid,
            reportdata=reportdata,
        )


# KEYNAME 2 | ISVPRODID 2 | ISVSVN 2 | CONFIGSVN 2 | KEYPOLICY 2 | CET_ATTRIBUTES 1 | CET_ATTRIBUTES_MASK 1
# | MISCSELECT 4 | MISCMASK 4 | ATTRIBUTES 16 | ATTRIBUTESMASK 16 | ISVFAMILYID 16 | ISVEXTPRODID 16 | OWNEREPOCH 16
# | SEAL_KEY_FUSES 16 | CPUSVN 16 | MRENCLAVE 32 | MRSIGNER 32 | KEYID 32 | CONFIGID 64 | PADDING 352
_DEPENDENCIES = Layout("key dependencies", "HHHHHBBIIQQQQ16s16s16s16s16s32s32s32s64s352s")


@dataclass(frozen=True, slots=True)
class _Dependencies:
    """TMP_KEYDEPENDENCIES; what a key does not depend on is zero."""

    keyname: KeyName
    cpusvn: bytes
    attributes: Attributes
    miscselect: int
    keyid: bytes = bytes(32)
    padding: bytes = PKCS1_PADDING
    owner_epoch: bytes = bytes(16)
    seal_key_fuses: bytes = bytes(16)
    attributesmask: Attributes = _NO_ATTRIBUTES
    miscmask: int = 0
    isvprodid: int = 0
    isvsvn: int = 0
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)
    mrenclave: bytes = bytes(32)
    mrsigner: bytes = bytes(32)
    keypolicy: int = 0
    configid: bytes = bytes(64)
    configsvn: int = 0
    cet_attributes: int = 0
    cet_attributes_mask: int = 0


def _derive(fuses: Fuses, on: _Dependencies) -> bytes:
    dependencies = _DEPENDENCIES.pack(
        on.keyname,
        on.isvprodid,
        on.isvsvn,
        on.configsvn,
        on.keypolicy,
        on.cet_attributes,
        on.cet_attributes_mask,
        on.miscselect,
        on.miscmask,
        on.attributes.flags,
        on.attributes.xfrm,
        on.attributesmask.flags,
        on.attributesmask.xfrm,
        on.isvfamilyid,
        on.isvextprodid,
        on.owner_epoch,
        on.seal_key_fuses,
        on.cpusvn,
        on.mrenclave,
        on.mrsigner,
        on.keyid,
        on.configid,
        on.padding,
    )
    return cmac(fuses.root_provisioning_key, dependencies)


def cmac(key: bytes, data: bytes) -> bytes:
    """AES-128-CMAC (RFC 4493): what EREPORT, launch tokens and key derivation use."""
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()


def derive_key(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> bytes:
    """The 16 bytes that EGETKEY gives the enclave `identity` on the platform `fuses` for `request`.

    Raises SgxError with EGETKEY's status (SGX_INVALID_ATTRIBUTE, SGX_INVALID_CPUSVN, SGX_INVALID_ISVSVN,
    SGX_INVALID_KEYNAME), and GeneralProtectionFault where an enclave without KSS asks for what needs it. The checks
    are in the manual's order.
    """
    if not identity.attributes.flags & AttributeFlags.KSS and (request.keypolicy & KSS_POLICY or request.configsvn):
        raise GeneralProtectionFault(msg("KEYREQUEST uses what only enclaves with KSS have"))
    match request.keyname:
        case KeyName.SEAL_KEY:
            return _seal_key(fuses, identity, request)
        case KeyName.REPORT_KEY:
            return report_key(fuses, identity.target_info, request.keyid)
        case KeyName.EINITTOKEN_KEY:
            return _einittoken_key(fuses, identity, request)
        case KeyName.PROVISION_KEY:
            return _provision_key(fuses, identity, request)
        case KeyName.PROVISION_SEAL_KEY:
            return _provision_seal_key(fuses, identity, request)
        case _:
            raise SgxError(Enclu.EGETKEY, Status.SGX_INVALID_KEYNAME)


def report_key(fuses: Fuses, target: TargetInfo, keyid: bytes) -> bytes:
    """The key of the MAC of reports for the enclave `target`, for one KEYID.

    The target itself has it from EGETKEY (REPORT_KEY); EREPORT derives it for whichever target it is given.
    """
    return _derive(
        fuses,
        _Dependencies(
            keyname=KeyName.REPORT_KEY,
            cpusvn=fuses.cpusvn,
            attributes=target.attributes,
            miscselect=target.miscselect,
            keyid=keyid,
            owner_epoch=fuses.owner_epoch,
            seal_key_fuses=fuses.root_seal_key,
            mrenclave=target.measurement,
            configid=target.configid,
            configsvn=target.configsvn,
            cet_attributes=target.cet_attributes,
        ),
    )


def make_report(fuses: Fuses, body: ReportBody, target: TargetInfo, keyid: bytes) -> Report:
    """The REPORT that EREPORT writes: `body` with the platform's own CPUSVN, under the MAC for `target`.

    `keyid` is the platform's CR_REPORT_KEYID: 32 bytes, random at each boot.
    """
    body = replace(body, cpusvn=fuses.cpusvn)
    return Report(body, keyid, cmac(report_key(fuses, target, keyid), body.to_bytes()))


def verify_report(fuses: Fuses, report: Report, target: TargetInfo) -> bool:
    """Whether `report` was made on this platform for `target`: what that enclave finds with its report key."""
    expected = cmac(report_key(fuses, target, report.keyid), report.body.to_bytes())
    return hmac.compare_digest(expected, report.mac)


def einittoken_mac(fuses: Fuses, token: EinitToken, launch_key_hash: bytes) -> bytes:
    """What `token`'s MAC must be for EINIT; `launch_key_hash` is IA32_SGXLEPUBKEYHASH.

    Its key is the one that EGETKEY gives the launch enclave that the token describes.
    """
    key = _derive(
        fuses,
        _Dependencies(
            keyname=KeyName.EINITTOKEN_KEY,
            cpusvn=token.cpusvnle,
            attributes=token.maskedattributesle,
            miscselect=token.maskedmiscselectle,
            keyid=token.keyid,
            owner_epoch=fuses.owner_epoch,
            seal_key_fuses=fuses.root_seal_key,
            isvprodid=token.isvprodidle,
            isvsvn=token.isvsvnle,
            mrsigner=launch_key_hash,
            cet_attributes=token.cet_masked_attributes_le,
        ),
    )
    return cmac(key, token.to_bytes()[:EINITTOKEN_MAC_COVERS])


def _seal_key(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> bytes:
    _check_versions(fuses, identity, request)
    _check_configsvn(identity, request)
    policy = request.keypolicy
    return _derive(
        fuses,
        replace(
            _by_policy(identity, request, KeyName.SEAL_KEY),
            owner_epoch=fuses.owner_epoch,
            seal_key_fuses=fuses.root_seal_key,
            keyid=request.keyid,
            mrenclave=identity.mrenclave if KeyPolicy.MRENCLAVE in policy else bytes(32),
            mrsigner=identity.mrsigner if KeyPolicy.MRSIGNER in policy else bytes(32),
        ),
    )


def _einittoken_key(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> bytes:
    _check_attribute(identity, AttributeFlags.EINITTOKEN_KEY)
    _check_versions(fuses, identity, request)
    return _derive(
        fuses,
        replace(
            _masked(identity, request, KeyName.EINITTOKEN_KEY),
            owner_epoch=fuses.owner_epoch,
            seal_key_fuses=fuses.root_seal_key,
            keyid=request.keyid,
            isvprodid=identity.isvprodid,
            mrsigner=identity.mrsigner,
        ),
    )


def _provision_key(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> bytes:
    _check_attribute(identity, AttributeFlags.PROVISIONKEY)
    _check_versions(fuses, identity, request)
    return _derive(
        fuses,
        replace(
            _with_masks(_masked(identity, request, KeyName.PROVISION_KEY), request),
            isvprodid=identity.isvprodid,
            mrsigner=identity.mrsigner,
        ),
    )


def _provision_seal_key(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> bytes:
    _check_attribute(identity, AttributeFlags.PROVISIONKEY)
    _check_versions(fuses, identity, request)
    # The pseudo-code checks this for SEAL_KEY only; the text, which we follow, for every key that depends on it.
    _check_configsvn(identity, request)
    return _derive(
        fuses,
        replace(
            _by_policy(identity, request, KeyName.PROVISION_SEAL_KEY),
            seal_key_fuses=fuses.root_seal_key,
            mrsigner=identity.mrsigner,
        ),
    )


def _check_attribute(identity: SecsIdentity, flag: AttributeFlags) -> None:
    if not identity.attributes.flags & flag:
        raise SgxError(Enclu.EGETKEY, Status.SGX_INVALID_ATTRIBUTE)


def _check_versions(fuses: Fuses, identity: SecsIdentity, request: KeyRequest) -> None:
    if not fuses.supports_cpusvn(request.cpusvn):
        raise SgxError(Enclu.EGETKEY, Status.SGX_INVALID_CPUSVN)
    if request.isvsvn > identity.isvsvn:
        raise SgxError(Enclu.EGETKEY, Status.SGX_INVALID_ISVSVN)


def _check_configsvn(identity: SecsIdentity, request: KeyRequest) -> None:
    if request.configsvn > identity.configsvn:
        raise SgxError(Enclu.EGETKEY, Status.SGX_INVALID_ISVSVN)


def _masked(identity: SecsIdentity, request: KeyRequest, keyname: KeyName) -> _Dependencies:
    """What every key but the report key takes from a request: versions, and attributes under its masks."""
    mask, attributes = request.attributemask, identity.attributes
    return _Dependencies(
        keyname=keyname,
        cpusvn=request.cpusvn,
        isvsvn=request.isvsvn,
        attributes=Attributes((mask.flags | REQUIRED_SEALING_MASK) & attributes.flags, mask.xfrm & attributes.xfrm),
        miscselect=request.miscmask & identity.miscselect,
        cet_attributes=request.cet_attributes_mask & identity.cet_attributes,
        padding=identity.padding,
    )


def _with_masks(on: _Dependencies, request: KeyRequest) -> _Dependencies:
    """Add the masks themselves, so that two masks that happen to select the same bits give two keys."""
    return replace(
        on,
        attributesmask=request.attributemask,
        miscmask=~request.miscmask & 0xFFFF_FFFF,
        cet_attributes_mask=request.cet_attributes_mask,
    )


def _by_policy(identity: SecsIdentity, request: KeyRequest, keyname: KeyName) -> _Dependencies:
    """What both seal keys share: masks, and the KSS fields that KEYPOLICY asks for."""
    policy = request.keypolicy
    config = KeyPolicy.CONFIGID in policy
    return replace(
        _with_masks(_masked(identity, request, keyname), request),
        keypolicy=policy.value,
        isvprodid=0 if KeyPolicy.NOISVPRODID in policy else identity.isvprodid,
        isvfamilyid=identity.isvfamilyid if KeyPolicy.ISVFAMILYID in policy else bytes(16),
        isvextprodid=identity.isvextprodid if KeyPolicy.ISVEXTPRODID in policy else bytes(16),
        configid=identity.configid if config else bytes(64),
        configsvn=request.configsvn if config else 0,
    )
