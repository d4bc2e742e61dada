"""What can be said of a lab at a moment: its identity, and how a relying party would judge a quote made now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sgxkit.dcap.trust import anchor_from_pem
from sgxkit.dcap.verification import Verification
from sgxkit.dcap.verify import Verifier
from sgxkit.lab.authority import Lab
from sgxkit.lab.profiles import features
from sgxkit.lab.publication import collateral
from sgxkit.lab.quoting import QuotingEnclave, quote_user_data


def appraise(lab: Lab, clock: datetime) -> Verification:
    """Judge a quote made now by collateral published now, under the lab's root and the default policy."""
    anchor = anchor_from_pem(lab.hierarchy.root.pem, "root")
    return Verifier(trust_anchor=anchor).examine(
        quote_user_data(lab, b""), collateral(lab, clock), at=lab.world.now(clock)
    )


def lab_document(lab: Lab, clock: datetime) -> dict[str, Any]:
    """All that may be known of a lab, as JSON; no secret is in it."""
    world, profile = lab.world, lab.profile
    appraisal = appraise(lab, clock)
    cpu = features(profile, flc=world.flc, sgx2=world.sgx2)
    return {
        "lab": world.name,
        "emulated": True,
        "created": _time(world.created),
        "cpu": world.cpu,
        "epc_size": world.epc_size,
        "flc": world.flc,
        "sgx2": world.sgx2,
        "fmspc": profile.fmspc.hex(),
        "ca": str(profile.ca),
        "ppid": lab.ppid.hex(),
        "qe_id": lab.qe_id.hex(),
        "encrypted_ppid": lab.encrypted_ppid.hex(),
        "cpusvn": lab.fuses.cpusvn.hex(),
        "pck_serial_number": f"{lab.pck(world.generation).certificate.serial_number:x}",
        "qe_isvsvn": QuotingEnclave(lab).identity.isvsvn,
        "tcb_evaluation_data_number": world.number(),
        "tcb_evaluation_data_number_early": world.number(early=True),
        "tcb_status": None if appraisal.tcb is None else str(appraisal.tcb.status),
        "verified": appraisal.verified,
        "reason": None if appraisal.error is None else appraisal.error.code,
        "revocations": [_time(one.at) for one in world.revocations],
        "expired_at": None if world.expired_at is None else _time(world.expired_at),
        "clock_offset": world.clock_offset,
        "cpuid": [
            {"leaf": leaf, "subleaf": subleaf, "eax": one.eax, "ebx": one.ebx, "ecx": one.ecx, "edx": one.edx}
            for (leaf, subleaf), one in profile.cpuid(cpu, world.epc_size).items()
        ],
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
