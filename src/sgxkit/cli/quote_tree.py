"""An inspected quote as a tree for people."""

from __future__ import annotations

from dataclasses import fields

from sgxkit.cli.tree import Node
from sgxkit.dcap.certificate import Certificate
from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.epid import EpidQuote
from sgxkit.dcap.found_quote import Binding, Bound
from sgxkit.dcap.inspection import CertificationChain, Inspection, is_debug
from sgxkit.dcap.pck import PckPlatform, SgxType
from sgxkit.dcap.quote import CertificationDataType, PpidCertificationData, Quote
from sgxkit.dcap.quote_layout import Field
from sgxkit.dcap.td_report import TdReport, TdReport15
from sgxkit.isa.report import ReportBody
from sgxkit.messages import Message, msg

_GOOD, _BAD, _LOUD = "green", "red", "bold white on red"

_BOUND = {
    Bound.PUBLIC_KEY: msg("public key"),
    Bound.CLAIMS: msg("claims"),
    Bound.RUNTIME_DATA: msg("runtime data"),
    Bound.ENCLAVE_HELD_DATA: msg("enclave-held data"),
}
_CERTIFICATION = {
    CertificationDataType.PPID_CLEARTEXT: msg("PPID in the clear; no certificate in the quote"),
    CertificationDataType.PPID_RSA2048_OAEP: msg("PPID encrypted with RSA-2048; no certificate in the quote"),
    CertificationDataType.PPID_RSA3072_OAEP: msg("PPID encrypted with RSA-3072; no certificate in the quote"),
    CertificationDataType.PCK_LEAF: msg("PCK certificate alone"),
    CertificationDataType.PCK_CHAIN: msg("PCK certificate chain"),
    CertificationDataType.QE_REPORT: msg("QE report"),
}
_SGX_TYPES = {
    SgxType.STANDARD: msg("Standard (EPC with integrity and replay protection)"),
    SgxType.SCALABLE: msg("Scalable (EPC encrypted, without integrity protection)"),
    SgxType.SCALABLE_WITH_INTEGRITY: msg("Scalable with integrity"),
}
_PCK_CAS = {PckCa.PROCESSOR: "Processor CA", PckCa.PLATFORM: "Platform CA"}


class _Places:
    """Where each field stands in the quote, shown as a note where that was asked for."""

    def __init__(self, layout: tuple[Field, ...], shown: bool) -> None:
        self._fields = {field.path: field for field in layout} if shown else {}

    def __call__(self, path: str) -> str:
        field = self._fields.get(path)
        return "" if field is None else f"@{field.offset} +{field.size}"


def quote_tree(inspection: Inspection, index: int | None, *, offsets: bool) -> Node:
    """Make the tree of one quote; `index` is its place among several in the input, None where it is the only one."""
    quote = inspection.quote
    title = _title(inspection)
    root = Node(title if index is None else msg("[{index}] {title}", index=index, title=title))
    root.add(msg("nothing here is verified"), style="yellow")
    if is_debug(inspection):
        root.add(msg("DEBUG: whoever runs it can read and change its memory; it keeps no secret"), style=_LOUD)
    if inspection.unsupported is not None:
        root.add(inspection.unsupported, style=_BAD)
    _add_found(root, inspection)
    if quote is None:
        _add_fields(root, inspection)
        return root
    place = _Places(inspection.layout.fields, offsets)
    if isinstance(quote, EpidQuote):
        _add_epid(root, quote, place)
    else:
        _add_header(root, quote, place)
        body = root.add(msg("body"))
        if isinstance(quote.body, TdReport):
            _add_td_report(body, quote.body, place)
        else:
            _add_report(body, quote.body, "body", place)
        _add_signature_data(root, quote, inspection.chain, place)
    if quote.padding:
        root.add(msg("padding"), msg("{count} zero bytes", count=quote.padding), note=place("padding"))
    return root


def _title(inspection: Inspection) -> Message:
    quote = inspection.quote
    size = len(inspection.found.data)
    if quote is None:
        return msg("a quote that cannot be read, {size} bytes", size=size)
    if isinstance(quote, EpidQuote):
        return msg("EPID quote, version {version}, {size} bytes", version=quote.version, size=size)
    if isinstance(quote.body, TdReport):
        return msg("quote of a TDX trust domain, version {version}, {size} bytes", version=quote.version, size=size)
    return msg("quote of an SGX enclave, version {version}, {size} bytes", version=quote.version, size=size)


def _add_found(root: Node, inspection: Inspection) -> None:
    found = inspection.found
    where = found.where if found.path else msg("the input itself")
    node = root.add(msg("found in"), where)
    for name, value in found.details:
        node.add(name, str(value))
    for binding in found.bindings:
        _add_binding(node, binding)


def _add_binding(parent: Node, binding: Binding) -> None:
    if binding.holds:
        verdict, style = msg("bound: {place} carries it", place=binding.place), _GOOD
    elif binding.expected is None:
        verdict, style = msg("cannot tell: what should be bound is not here"), "yellow"
    elif binding.present is None:
        verdict, style = msg("NOT bound: {place} is absent", place=binding.place), _BAD
    else:
        verdict, style = msg("NOT bound: {place} carries something else", place=binding.place), _BAD
    node = parent.add(_BOUND[binding.bound], verdict, style)
    if binding.expected is not None:
        label = binding.content if binding.algorithm == "none" else f"{binding.algorithm.upper()}({binding.content})"
        node.add(label, binding.expected.hex())
    if binding.present is not None and not binding.holds:
        node.add(binding.place, binding.present.hex())


def _add_fields(root: Node, inspection: Inspection) -> None:
    """What could be read of a broken quote, then what is wrong with it."""
    node = root.add(msg("fields as far as they can be read"))
    for field in inspection.layout.fields:
        value = field.value.hex() if isinstance(field.value, bytes) else f"{field.value} ({hex(field.value)})"
        note = f"@{field.offset} +{field.size}"
        line = node.add(field.path, value, note=note)
        if field.missing:
            line.add(msg("cut short: {count} bytes are missing", count=field.missing), style=_BAD)
    if inspection.error is not None:
        root.add(inspection.error.message, style=_BAD)


def _add_header(root: Node, quote: Quote, place: _Places) -> None:
    header = quote.header
    node = root.add(msg("header"))
    node.add(msg("version"), str(header.version), note=place("header.version"))
    node.add(
        msg("attestation key type"),
        f"{header.attestation_key_type.value} (ECDSA P-256)",
        note=place("header.attestation_key_type"),
    )
    node.add(msg("TEE type"), f"{hex(header.tee_type)} ({header.tee_type.name})", note=place("header.tee_type"))
    node.add("QE SVN", str(header.qe_svn), note=place("header.qe_svn"))
    node.add("PCE SVN", str(header.pce_svn), note=place("header.pce_svn"))
    node.add("QE vendor id", f"{header.qe_vendor_id.hex()} (Intel)", note=place("header.qe_vendor_id"))
    node.add(msg("user data"), header.user_data.hex(), note=place("header.user_data"))
    if quote.version == 5:
        node.add(msg("body type"), f"{quote.body_type.value} ({quote.body_type.name})", note=place("body_type"))


def _add_report(node: Node, body: ReportBody, prefix: str, place: _Places) -> None:
    attributes = body.attributes
    names = " ".join(attributes.names) or "-"
    for label, name, value in (
        ("MRENCLAVE", "mrenclave", body.mrenclave.hex()),
        ("MRSIGNER", "mrsigner", body.mrsigner.hex()),
        ("ISVPRODID", "isvprodid", str(body.isvprodid)),
        ("ISVSVN", "isvsvn", str(body.isvsvn)),
        ("ATTRIBUTES.FLAGS", "attributes.flags", f"{attributes.flags:#018x} ({names})"),
        ("ATTRIBUTES.XFRM", "attributes.xfrm", f"{attributes.xfrm:#018x}"),
        ("MISCSELECT", "miscselect", f"{body.miscselect:#010x}"),
        ("CET_ATTRIBUTES", "cet_attributes", f"{body.cet_attributes:#04x}"),
        ("CPUSVN", "cpusvn", body.cpusvn.hex()),
        ("CONFIGID", "configid", body.configid.hex()),
        ("CONFIGSVN", "configsvn", str(body.configsvn)),
        ("ISVEXTPRODID", "isvextprodid", body.isvextprodid.hex()),
        ("ISVFAMILYID", "isvfamilyid", body.isvfamilyid.hex()),
        ("REPORTDATA", "reportdata", body.reportdata.hex()),
    ):
        loud = _LOUD if name == "attributes.flags" and attributes.debug else ""
        node.add(label, value, loud, place(f"{prefix}.{name}"))


_TD_LABELS = {"devinfo": "DEVINFO", "td_id": "TD_ID", "vmid": "VMID"}


def _add_td_report(node: Node, body: TdReport, place: _Places) -> None:
    names = " ".join(body.attribute_names) or "-"
    special = {
        "tdattributes": f"{body.tdattributes:#018x} ({names})",
        "xfam": f"{body.xfam:#018x}",
        "tee_tcb_svn": _tcb_svn(body.tee_tcb_svn),
    }
    if isinstance(body, TdReport15):
        special["tee_tcb_svn2"] = _tcb_svn(body.tee_tcb_svn2)
    for field in fields(body):
        value = getattr(body, field.name)
        shown = special.get(field.name) or (value.hex() if isinstance(value, bytes) else str(value))
        loud = _LOUD if field.name == "tdattributes" and body.debug else ""
        node.add(_TD_LABELS.get(field.name, field.name.upper()), shown, loud, place(f"body.{field.name}"))


def _tcb_svn(svn: bytes) -> str:
    return f"{svn.hex()} (TDX module {svn[1]}, SVN {svn[0]}; SEAM loader SVN {svn[2]})"


def _add_epid(root: Node, quote: EpidQuote, place: _Places) -> None:
    node = root.add(msg("header"))
    node.add(msg("version"), str(quote.version), note=place("header.version"))
    signature_type = f"{quote.signature_type.value} ({quote.signature_type.name.lower()})"
    node.add(msg("signature type"), signature_type, note=place("header.signature_type"))
    node.add(msg("EPID group id"), f"{quote.group_id:#010x}", note=place("header.group_id"))
    node.add("QE SVN", str(quote.qe_svn), note=place("header.qe_svn"))
    node.add("PCE SVN", str(quote.pce_svn), note=place("header.pce_svn"))
    node.add(msg("basename"), quote.basename.hex(), note=place("header.basename"))
    _add_report(root.add(msg("body")), quote.body, "body", place)
    if quote.signature is None:
        root.add(msg("signature"), msg("none: the form that IAS reports carry"))
    else:
        root.add(msg("signature"), msg("{count} bytes", count=len(quote.signature)), note=place("signature.data"))


def _add_signature_data(root: Node, quote: Quote, chain: CertificationChain | None, place: _Places) -> None:
    prefix = "signature_data"
    node = root.add(msg("signature data"))
    node.add(msg("signature"), quote.signature.hex(), note=place(f"{prefix}.signature"))
    node.add(msg("attestation key"), quote.attestation_key.hex(), note=place(f"{prefix}.attestation_key"))
    if quote.version > 3:
        prefix += ".certification_data"
    _add_report(node.add(msg("QE report")), quote.qe_report, f"{prefix}.qe_report", place)
    node.add(msg("QE report signature"), quote.qe_report_signature.hex(), note=place(f"{prefix}.qe_report_signature"))
    node.add(msg("QE authentication data"), quote.qe_auth_data.hex(), note=place(f"{prefix}.qe_auth_data.data"))
    data = quote.certification_data
    prefix += ".certification_data"
    below = node.add(msg("certification data"), _CERTIFICATION[data.type], note=place(f"{prefix}.data"))
    below.add(msg("type"), str(data.type.value), note=place(f"{prefix}.type"))
    if isinstance(data, PpidCertificationData):
        below.add("PPID", data.ppid.hex(), note=place(f"{prefix}.data.ppid"))
        below.add("CPUSVN", data.cpusvn.hex(), note=place(f"{prefix}.data.cpusvn"))
        below.add("PCESVN", str(data.pcesvn), note=place(f"{prefix}.data.pcesvn"))
        below.add("PCE-ID", "-" if data.pceid is None else data.pceid.hex(), note=place(f"{prefix}.data.pceid"))
    elif chain is not None:
        _add_chain(below, chain)


def _add_chain(node: Node, chain: CertificationChain) -> None:
    for certificate in chain.certificates:
        _add_certificate(node, certificate)
    if chain.intel_root is not None:
        said = msg("Intel's") if chain.intel_root else msg("not Intel's: of a lab, or of test tooling")
        node.add(msg("root key"), said, "" if chain.intel_root else "yellow")
    for problem in chain.problems:
        node.add(problem.message, style=_BAD)
    if chain.platform is not None:
        _add_platform(node, chain.platform, chain.pck_ca)


def _add_certificate(node: Node, certificate: Certificate) -> None:
    below = node.add(certificate.common_name)
    below.add(msg("serial number"), f"{certificate.serial_number:x}")
    begin, end = (f"{time:%Y-%m-%d %H:%M:%S}Z" for time in (certificate.not_before, certificate.not_after))
    below.add(msg("valid"), msg("{begin} to {end}", begin=begin, end=end))


def _add_platform(node: Node, platform: PckPlatform, pck_ca: PckCa | None) -> None:
    below = node.add(msg("platform"))
    below.add("FMSPC", platform.fmspc.hex())
    below.add("PCE-ID", platform.pceid.hex())
    if pck_ca is not None:
        below.add("PCK CA", _PCK_CAS[pck_ca])
    below.add(msg("TCB components"), " ".join(map(str, platform.tcb_components)))
    below.add("PCESVN", str(platform.pcesvn))
    below.add("CPUSVN", platform.cpusvn.hex())
    below.add("PPID", platform.ppid.hex())
    below.add(msg("SGX type"), _SGX_TYPES[platform.sgx_type])
    if platform.platform_instance_id is not None:
        below.add(msg("platform instance id"), platform.platform_instance_id.hex())
    for label, flag in (
        (msg("dynamic platform"), platform.dynamic_platform),
        (msg("cached keys"), platform.cached_keys),
        (msg("SMT enabled"), platform.smt_enabled),
    ):
        if flag is not None:
            below.add(label, msg("yes") if flag else msg("no"))
