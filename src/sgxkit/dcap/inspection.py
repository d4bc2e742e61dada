"""What a found quote says, taken apart for looking at; nothing is verified here, and nothing broken stops it."""

from __future__ import annotations

from dataclasses import dataclass

from sgxkit.dcap import der
from sgxkit.dcap.certificate import MAX_CHAIN_LENGTH, Certificate, parse_certificate, split_pem
from sgxkit.dcap.chains import PCK_CERTIFICATE_NAME, PckCa, pck_ca
from sgxkit.dcap.epid import EpidQuote, parse_epid_quote
from sgxkit.dcap.found_quote import FoundQuote
from sgxkit.dcap.pck import PckPlatform, parse_pck_platform
from sgxkit.dcap.quote import PckCertificationData, Quote, parse_quote
from sgxkit.dcap.quote_layout import Layout, layout
from sgxkit.dcap.quote_shape import is_epid_quote
from sgxkit.dcap.td_report import TdReport
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
from sgxkit.errors import FormatError
from sgxkit.isa.attributes import Attributes
from sgxkit.messages import Message, msg

_FIELD = "certification data"


@dataclass(frozen=True, slots=True)
class CertificationChain:
    """The certificates in a quote, in the order in which they stand, and what the PCK certificate says.

    `pck_ca` is which CA the PCK certificate names as its issuer. `intel_root` says whether the last certificate has
    the key of Intel's root, None where the last one is no root. `problems` are what could not be read.
    """

    certificates: tuple[Certificate, ...]
    platform: PckPlatform | None
    pck_ca: PckCa | None
    intel_root: bool | None
    problems: tuple[FormatError, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A found quote and all that can be read of it.

    `quote` is None where it cannot be parsed; `error` then says why, and `layout` has what could be read. For an EPID
    quote `unsupported` says why it is only shown.
    """

    found: FoundQuote
    layout: Layout
    quote: Quote | EpidQuote | None
    error: FormatError | None
    unsupported: Message | None
    chain: CertificationChain | None


def inspect_quote(found: FoundQuote) -> Inspection:
    """Take a found quote apart; never raises."""
    fields = layout(found.data)
    quote: Quote | EpidQuote | None = None
    error = fields.error
    unsupported: Message | None = None
    if is_epid_quote(found.data):
        unsupported = msg(
            "an EPID quote: only Intel's attestation service could verify it, and it ended on 2025-04-02"
        )
    if error is None:
        quote = parse_epid_quote(found.data) if unsupported is not None else parse_quote(found.data)
    chain: CertificationChain | None = None
    if isinstance(quote, Quote) and isinstance(quote.certification_data, PckCertificationData):
        chain = _read_chain(quote.certification_data)
    return Inspection(found, fields, quote, error, unsupported, chain)


def is_debug(inspection: Inspection) -> bool | None:
    """Whether the quote is of a debug enclave or TD; None where that could not be read."""
    if inspection.quote is not None:
        body = inspection.quote.body
        return body.debug if isinstance(body, TdReport) else body.attributes.debug
    for field in inspection.layout.fields:
        if isinstance(field.value, int) and field.path == "body.attributes.flags":
            return Attributes(field.value, 0).debug
        if isinstance(field.value, int) and field.path == "body.tdattributes":
            return bool(field.value & 0xFF)
    return None


def _read_chain(data: PckCertificationData) -> CertificationChain:
    problems: list[FormatError] = []
    certificates: list[Certificate] = []
    try:
        encoded = _split(data)
    except FormatError as error:
        problems.append(error)
        encoded = ()
    for one in encoded:
        try:
            certificates.append(parse_certificate(one, _FIELD))
        except FormatError as error:
            problems.append(error)
    platform: PckPlatform | None = None
    issuer: PckCa | None = None
    leaf = next((one for one in certificates if one.common_name == PCK_CERTIFICATE_NAME), None)
    if leaf is not None:
        issuer = _issuer(leaf, certificates)
        try:
            platform = parse_pck_platform(leaf)
        except FormatError as error:
            problems.append(error)
    intel_root: bool | None = None
    if certificates and certificates[-1].subject == certificates[-1].issuer:
        intel_root = certificates[-1].public_point == INTEL_SGX_ROOT_CA.point
    return CertificationChain(tuple(certificates), platform, issuer, intel_root, tuple(problems))


def _split(data: PckCertificationData) -> tuple[bytes, ...]:
    if not data.is_pem:
        found = list(der.elements(data.content, _FIELD))
        if len(found) > MAX_CHAIN_LENGTH:
            raise FormatError(_FIELD, msg("more than {limit} certificates", limit=MAX_CHAIN_LENGTH))
        return tuple(data.content[one.start : one.end] for one in found)
    try:
        text = data.content.decode("ascii")
    except UnicodeDecodeError as error:
        raise FormatError(_FIELD, msg("not ASCII text"), offset=error.start) from error
    return split_pem(text, _FIELD)


def _issuer(leaf: Certificate, certificates: list[Certificate]) -> PckCa | None:
    for one in certificates:
        if one.subject == leaf.issuer:
            return pck_ca(one)
    # Alone, the leaf still names its issuer; its DER holds the common name as it is spelled.
    return next((ca for ca in PckCa if f"Intel SGX PCK {ca.value.title()} CA".encode() in leaf.issuer), None)
