"""A verification as a JSON document (docs/schema/verification.schema.json)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sgxkit.dcap.errors import CollateralMissingError, PolicyError, VerificationError
from sgxkit.dcap.pck import PckPlatform
from sgxkit.dcap.quote import Quote
from sgxkit.dcap.td_report import TdReport, TdReport15
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
from sgxkit.dcap.verification import CollateralFacts, StepResult, TcbVerdict, Verification
from sgxkit.isa.report import ReportBody

SCHEMA_VERSION = 1


def verdict_word(verification: Verification) -> str:
    """``verified``, ``refused``, or ``cannot tell`` where only collateral is missing."""
    if verification.verified:
        return "verified"
    return "cannot tell" if isinstance(verification.error, CollateralMissingError) else "refused"


def verification_document(verification: Verification) -> dict[str, Any]:
    """Return everything that the record says, in JSON's types; the texts are English whatever the language."""
    anchor = verification.trust_anchor
    return {
        "schema": SCHEMA_VERSION,
        "verdict": verdict_word(verification),
        "at": _time(verification.at),
        "trust_anchor": {
            "name": anchor.name,
            "public_key": anchor.point.hex(),
            "intel": anchor.point == INTEL_SGX_ROOT_CA.point,
        },
        "steps": [_step(result) for result in verification.steps],
        "policy": [_error(error) for error in verification.policy_errors],
        "tcb": None if verification.tcb is None else _tcb(verification.tcb),
        "collateral": None if verification.collateral is None else _collateral(verification.collateral),
        "platform": None if verification.platform is None else _platform(verification.platform),
        "quote": _quote(verification.quote),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _step(result: StepResult) -> dict[str, Any]:
    return {
        "step": result.step.value,
        "verdict": result.verdict.value,
        "error": None if result.error is None else _error(result.error),
    }


def _error(error: VerificationError) -> dict[str, Any]:
    document: dict[str, Any] = {
        "code": error.code,
        "message": str(error),
        "hint": None if error.hint is None else str(error.hint),
    }
    if isinstance(error, PolicyError):
        document["claim"] = error.claim
    return document


def _tcb(tcb: TcbVerdict) -> dict[str, Any]:
    return {
        "status": tcb.status.value,
        "platform_status": tcb.platform_status.value,
        "qe_status": tcb.qe_status.value,
        "tdx_module_status": None if tcb.tdx_module_status is None else tcb.tdx_module_status.value,
        "launch_status": tcb.launch_status.value,
        "current_status": None if tcb.current_status is None else tcb.current_status.value,
        "tcb_date": _time(tcb.tcb_date),
        "advisory_ids": list(tcb.advisory_ids),
    }


def _collateral(collateral: CollateralFacts) -> dict[str, Any]:
    return {
        "tcb_info_evaluation_data_number": collateral.tcb_info_evaluation_data_number,
        "qe_identity_evaluation_data_number": collateral.qe_identity_evaluation_data_number,
        "latest_issue": _time(collateral.latest_issue),
        "earliest_expiration": _time(collateral.earliest_expiration),
    }


def _platform(platform: PckPlatform) -> dict[str, Any]:
    instance = platform.platform_instance_id
    return {
        "fmspc": platform.fmspc.hex(),
        "pceid": platform.pceid.hex(),
        "tcb_components": list(platform.tcb_components),
        "pcesvn": platform.pcesvn,
        "cpusvn": platform.cpusvn.hex(),
        "sgx_type": platform.sgx_type.name.lower(),
        "platform_instance_id": None if instance is None else instance.hex(),
        "dynamic_platform": platform.dynamic_platform,
        "cached_keys": platform.cached_keys,
        "smt_enabled": platform.smt_enabled,
    }


def _quote(quote: Quote) -> dict[str, Any]:
    return {
        "version": quote.version,
        "tee": quote.tee_type.name,
        "body_type": quote.body_type.name.lower(),
        "certification_data_type": int(quote.certification_data.type),
        "body": _enclave(quote.body) if isinstance(quote.body, ReportBody) else _td(quote.body),
    }


def _enclave(body: ReportBody) -> dict[str, Any]:
    return {
        "mrenclave": body.mrenclave.hex(),
        "mrsigner": body.mrsigner.hex(),
        "isvprodid": body.isvprodid,
        "isvsvn": body.isvsvn,
        "debug": body.attributes.debug,
        "attributes": body.attributes.to_bytes().hex(),
        "miscselect": f"{body.miscselect:08x}",
        "cet_attributes": f"{body.cet_attributes:02x}",
        "cpusvn": body.cpusvn.hex(),
        "configid": body.configid.hex(),
        "configsvn": body.configsvn,
        "isvextprodid": body.isvextprodid.hex(),
        "isvfamilyid": body.isvfamilyid.hex(),
        "reportdata": body.reportdata.hex(),
    }


def _td(body: TdReport) -> dict[str, Any]:
    document = {
        "mrtd": body.mrtd.hex(),
        "rtmr0": body.rtmr0.hex(),
        "rtmr1": body.rtmr1.hex(),
        "rtmr2": body.rtmr2.hex(),
        "rtmr3": body.rtmr3.hex(),
        "debug": body.debug,
        "tdattributes": f"{body.tdattributes:016x}",
        "xfam": f"{body.xfam:016x}",
        "mrseam": body.mrseam.hex(),
        "mrsignerseam": body.mrsignerseam.hex(),
        "seamattributes": body.seamattributes.hex(),
        "tee_tcb_svn": body.tee_tcb_svn.hex(),
        "mrconfigid": body.mrconfigid.hex(),
        "mrowner": body.mrowner.hex(),
        "mrownerconfig": body.mrownerconfig.hex(),
        "reportdata": body.reportdata.hex(),
    }
    if isinstance(body, TdReport15):
        document |= {"tee_tcb_svn2": body.tee_tcb_svn2.hex(), "mrservicetd": body.mrservicetd.hex()}
    return document
