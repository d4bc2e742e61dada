"""What `sgxkit up` did, as a JSON document (docs/schema/up.schema.json)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA, TrustAnchor
from sgxkit.enclave.platform import EnclaveIdentity, PlatformInfo
from sgxkit.errors import SgxkitError
from sgxkit.up.walk import Findings, StepResult

SCHEMA = 1


def document(
    results: Sequence[StepResult],
    findings: Findings,
    *,
    seconds: float,
    platform: PlatformInfo,
    trust_anchor: TrustAnchor,
    lab: str | None,
    environment: Mapping[str, str],
    stop: Sequence[str],
) -> dict[str, Any]:
    """Return everything that is known; the texts are English whatever the language."""
    verification = findings.verification
    return {
        "schema": SCHEMA,
        "ok": all(result.error is None for result in results),
        "emulated": platform.kind == "emulated",
        "lab": lab,
        "platform": _platform(platform),
        "trust_anchor": {"name": trust_anchor.name, "intel": trust_anchor.point == INTEL_SGX_ROOT_CA.point},
        "seconds": round(seconds, 3),
        "steps": [
            {
                "step": result.step.value,
                "ok": result.error is None,
                "seconds": round(result.seconds, 4),
                "found": [str(sentence) for sentence in result.sentences],
                "error": None if result.error is None else error_document(result.error),
            }
            for result in results
        ],
        "identity": None if findings.identity is None else _identity(findings.identity),
        "quote": None if findings.quote is None else findings.quote.hex(),
        "tcb_status": None if verification is None or verification.tcb is None else verification.tcb.status.value,
        "environment": dict(environment),
        "stop": list(stop),
    }


def error_document(error: SgxkitError) -> dict[str, Any]:
    """An error as every command prints it."""
    return {
        "code": error.code,
        "message": str(error),
        "hint": None if error.hint is None else str(error.hint),
    }


def _platform(info: PlatformInfo) -> dict[str, Any]:
    return {
        "kind": info.kind,
        "name": info.name,
        "epc_size": info.epc_size,
        "sgx2": info.sgx2,
        "flexible_launch_control": info.flexible_launch_control,
    }


def _identity(identity: EnclaveIdentity) -> dict[str, Any]:
    return {
        "mrenclave": identity.mrenclave.hex(),
        "mrsigner": identity.mrsigner.hex(),
        "isvprodid": identity.isvprodid,
        "isvsvn": identity.isvsvn,
        "attributes": f"{identity.attributes.flags:#x}",
        "xfrm": f"{identity.attributes.xfrm:#x}",
        "debug": identity.attributes.debug,
    }
