"""An inspection as JSON: the document of `sgxkit quote inspect --json` (docs/schema/quote.schema.json).

Bytes are lower-case hexadecimal in the order in which they stand in the quote; sentences are English.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from sgxkit.dcap.certificate import Certificate
from sgxkit.dcap.epid import EpidQuote
from sgxkit.dcap.found_quote import Binding, FoundQuote, Search
from sgxkit.dcap.inspection import CertificationChain, Inspection, inspect_quote, is_debug
from sgxkit.dcap.pck import PckPlatform
from sgxkit.dcap.quote import AttestationKeyType, CertificationData, PpidCertificationData, Quote
from sgxkit.dcap.quote_layout import Field
from sgxkit.dcap.td_report import TdReport
from sgxkit.errors import FormatError
from sgxkit.isa.report import ReportBody

Document = dict[str, Any]


def inspection_document(search: Search) -> Document:
    """The document of a whole search: every quote in it, and what was wrong with the input."""
    return {
        "format": "sgxkit-quotes",
        "version": "1",
        "verified": False,
        "quotes": [_quote(inspect_quote(found)) for found in search.quotes],
        "problems": [_error(problem) for problem in search.problems],
    }


def _quote(inspection: Inspection) -> Document:
    quote, found = inspection.quote, inspection.found
    return {
        "found": _found(found),
        "kind": _kind(quote),
        "debug": is_debug(inspection),
        "unsupported": None if inspection.unsupported is None else str(inspection.unsupported),
        "error": None if inspection.error is None else _error(inspection.error),
        "header": None if quote is None else _header(quote),
        "body": None if quote is None else _body(quote.body),
        "signature_data": _signature_data(quote, inspection.chain) if isinstance(quote, Quote) else None,
        "padding": None if quote is None else quote.padding,
        "fields": [_field(field) for field in inspection.layout.fields],
    }


def _found(found: FoundQuote) -> Document:
    return {
        "path": list(found.path),
        "envelope": found.envelope.value,
        "size": len(found.data),
        "sha256": sha256(found.data).hexdigest(),
        "bindings": [binding_document(binding) for binding in found.bindings],
        "details": [{"name": name, "value": value} for name, value in found.details],
    }


def binding_document(binding: Binding) -> Document:
    """Return one comparison of what an envelope claims with what the quote binds."""
    return {
        "bound": binding.bound.value,
        "content": binding.content,
        "place": binding.place,
        "algorithm": binding.algorithm,
        "expected": None if binding.expected is None else binding.expected.hex(),
        "present": None if binding.present is None else binding.present.hex(),
        "holds": binding.holds,
    }


def _error(error: FormatError) -> Document:
    return {
        "code": error.code,
        "field": error.field,
        "offset": error.offset,
        "message": str(error),
        "hint": None if error.hint is None else str(error.hint),
    }


def _kind(quote: Quote | EpidQuote | None) -> str | None:
    if quote is None:
        return None
    return "epid" if isinstance(quote, EpidQuote) else quote.tee_type.name.lower()


def _header(quote: Quote | EpidQuote) -> Document:
    if isinstance(quote, EpidQuote):
        return {
            "version": quote.version,
            "signature_type": quote.signature_type.name.lower(),
            "group_id": quote.group_id,
            "qe_svn": quote.qe_svn,
            "pce_svn": quote.pce_svn,
            "xeid": quote.xeid,
            "basename": quote.basename.hex(),
        }
    header = quote.header
    return {
        "version": header.version,
        "attestation_key_type": AttestationKeyType(header.attestation_key_type).name,
        "tee_type": header.tee_type.name,
        "qe_svn": header.qe_svn,
        "pce_svn": header.pce_svn,
        "qe_vendor_id": header.qe_vendor_id.hex(),
        "user_data": header.user_data.hex(),
        "body_type": quote.body_type.name,
    }


def _body(body: ReportBody | TdReport) -> Document:
    return _td_report(body) if isinstance(body, TdReport) else _report(body)


def _report(body: ReportBody) -> Document:
    return {
        "cpusvn": body.cpusvn.hex(),
        "miscselect": body.miscselect,
        "cet_attributes": body.cet_attributes,
        "attributes": {
            "flags": f"{body.attributes.flags:016x}",
            "xfrm": f"{body.attributes.xfrm:016x}",
            "names": list(body.attributes.names),
            "debug": body.attributes.debug,
        },
        "mrenclave": body.mrenclave.hex(),
        "mrsigner": body.mrsigner.hex(),
        "isvprodid": body.isvprodid,
        "isvsvn": body.isvsvn,
        "isvextprodid": body.isvextprodid.hex(),
        "isvfamilyid": body.isvfamilyid.hex(),
        "configid": body.configid.hex(),
        "configsvn": body.configsvn,
        "reportdata": body.reportdata.hex(),
    }


def _td_report(body: TdReport) -> Document:
    document: Document = {}
    for field in fields(body):
        value = getattr(body, field.name)
        document[field.name] = value.hex() if isinstance(value, bytes) else value
    document["tdattributes"] = {
        "flags": f"{body.tdattributes:016x}",
        "names": list(body.attribute_names),
        "debug": body.debug,
    }
    document["xfam"] = f"{body.xfam:016x}"
    document["tdx_module"] = {
        "svn": body.tee_tcb_svn[0],
        "major_version": body.tee_tcb_svn[1],
        "seam_loader_svn": body.tee_tcb_svn[2],
    }
    return document


def _signature_data(quote: Quote, chain: CertificationChain | None) -> Document:
    return {
        "signature": quote.signature.hex(),
        "attestation_key": quote.attestation_key.hex(),
        "qe_report": _report(quote.qe_report),
        "qe_report_signature": quote.qe_report_signature.hex(),
        "qe_auth_data": quote.qe_auth_data.hex(),
        "certification_data": _certification_data(quote.certification_data, chain),
    }


def _certification_data(data: CertificationData, chain: CertificationChain | None) -> Document:
    document: Document = {"type": data.type.value, "name": data.type.name}
    if isinstance(data, PpidCertificationData):
        document["ppid"] = {
            "ppid": data.ppid.hex(),
            "cpusvn": data.cpusvn.hex(),
            "pcesvn": data.pcesvn,
            "pceid": None if data.pceid is None else data.pceid.hex(),
        }
        return document
    if chain is not None:
        document["certificates"] = [_certificate(certificate) for certificate in chain.certificates]
        document["pck_ca"] = None if chain.pck_ca is None else chain.pck_ca.value
        document["intel_root"] = chain.intel_root
        document["platform"] = None if chain.platform is None else _platform(chain.platform)
        document["problems"] = [_error(problem) for problem in chain.problems]
    return document


def _certificate(certificate: Certificate) -> Document:
    return {
        "subject": certificate.common_name,
        "serial_number": f"{certificate.serial_number:x}",
        "not_before": _time(certificate.not_before),
        "not_after": _time(certificate.not_after),
        "sha256": sha256(certificate.encoded).hexdigest(),
    }


def _platform(platform: PckPlatform) -> Document:
    instance = platform.platform_instance_id
    return {
        "fmspc": platform.fmspc.hex(),
        "pceid": platform.pceid.hex(),
        "ppid": platform.ppid.hex(),
        "cpusvn": platform.cpusvn.hex(),
        "tcb_components": list(platform.tcb_components),
        "pcesvn": platform.pcesvn,
        "sgx_type": platform.sgx_type.name,
        "platform_instance_id": None if instance is None else instance.hex(),
        "dynamic_platform": platform.dynamic_platform,
        "cached_keys": platform.cached_keys,
        "smt_enabled": platform.smt_enabled,
    }


def _field(field: Field) -> Document:
    value = field.value
    return {
        "path": field.path,
        "offset": field.offset,
        "size": field.size,
        "hex": value.hex() if isinstance(value, bytes) else value.to_bytes(field.size, "little").hex(),
        "integer": value if isinstance(value, int) and field.size <= 4 else None,
        "missing": field.missing,
    }


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
