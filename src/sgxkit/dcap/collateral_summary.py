"""What collateral says of itself: for whom it is, from when until when it is in force, which levels it rates.

Nothing is verified here: a summary of forged collateral is as good to read as one of Intel's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from sgxkit.dcap.certificate import Certificate, Crl, Window, parse_certificate, parse_crl, split_pem
from sgxkit.dcap.chains import PckCa, crl_window, pck_ca
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.identity import EnclaveIdentity, parse_enclave_identity
from sgxkit.dcap.tcb import SvnLevel, TcbInfo, TcbLevel, parse_tcb_info


@dataclass(frozen=True, slots=True)
class CollateralSummary:
    """The pieces of collateral, read; chains are leaf first.

    `ca` is None where the CRL's issuer has the name of neither PCK CA, `pck_certificate_chain` where there is none.
    """

    ca: PckCa | None
    tcb_info: TcbInfo
    qe_identity: EnclaveIdentity
    root_ca_crl: Crl
    pck_crl: Crl
    pck_crl_issuer_chain: tuple[Certificate, ...]
    tcb_info_issuer_chain: tuple[Certificate, ...]
    qe_identity_issuer_chain: tuple[Certificate, ...]
    pck_certificate_chain: tuple[Certificate, ...] | None

    @property
    def chains(self) -> dict[str, tuple[Certificate, ...]]:
        """The certificate chains by the names of the collateral's fields."""
        chains = {
            "pck_crl_issuer_chain": self.pck_crl_issuer_chain,
            "tcb_info_issuer_chain": self.tcb_info_issuer_chain,
            "qe_identity_issuer_chain": self.qe_identity_issuer_chain,
        }
        if self.pck_certificate_chain is not None:
            chains["pck_certificate_chain"] = self.pck_certificate_chain
        return chains

    @property
    def windows(self) -> tuple[Window, ...]:
        """When each piece is in force, by field and, for certificates, by name."""
        return (
            Window("tcb_info", self.tcb_info.issue_date, self.tcb_info.next_update, published=True),
            Window("qe_identity", self.qe_identity.issue_date, self.qe_identity.next_update, published=True),
            crl_window("root_ca_crl", self.root_ca_crl),
            crl_window("pck_crl", self.pck_crl),
            *(
                certificate.window._replace(name=f"{name}: {certificate.common_name}")
                for name, chain in self.chains.items()
                for certificate in chain
            ),
        )

    @property
    def newest(self) -> Window:
        """The piece that came into force last: before it, the collateral as a whole was not in force."""
        return max(self.windows, key=lambda window: window.begin)

    @property
    def first_to_end(self) -> Window:
        """The piece that ends first: from then on the collateral as a whole is no longer in force."""
        return min(self.windows, key=lambda window: window.end)


def summarize(collateral: Collateral) -> CollateralSummary:
    """Read every piece of collateral; raises `FormatError` naming the piece. Verifies nothing."""
    pck_chain = collateral.pck_certificate_chain
    issuers = _chain(collateral.pck_crl_issuer_chain, "pck_crl_issuer_chain")
    return CollateralSummary(
        ca=pck_ca(issuers[0]),
        tcb_info=parse_tcb_info(collateral.tcb_info),
        qe_identity=parse_enclave_identity(collateral.qe_identity),
        root_ca_crl=parse_crl(collateral.root_ca_crl, "root_ca_crl"),
        pck_crl=parse_crl(collateral.pck_crl, "pck_crl"),
        pck_crl_issuer_chain=issuers,
        tcb_info_issuer_chain=_chain(collateral.tcb_info_issuer_chain, "tcb_info_issuer_chain"),
        qe_identity_issuer_chain=_chain(collateral.qe_identity_issuer_chain, "qe_identity_issuer_chain"),
        pck_certificate_chain=None if pck_chain is None else _chain(pck_chain, "pck_certificate_chain"),
    )


def _chain(text: str, field: str) -> tuple[Certificate, ...]:
    return tuple(parse_certificate(encoded, field) for encoded in split_pem(text, field))


def runs(components: Sequence[int]) -> str:
    """Write SVNs in a row the short way: ``20 20 2 4 1 128 0×10``."""
    bounds = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(components)) if a != b), len(components)]
    parts = []
    for start, end in pairwise(bounds):
        parts.append(
            f"{components[start]}×{end - start}" if end - start > 2 else " ".join(map(str, components[start:end]))
        )
    return " ".join(parts)


def level_text(level: TcbLevel) -> str:
    """Write what a platform must reach for a level in one line."""
    tdx = "" if level.tdx_components is None else f"  TDX {runs(level.tdx_components)}"
    return f"SGX {runs(level.sgx_components)}  PCE {level.pcesvn}{tdx}"


def summary_json(summary: CollateralSummary) -> dict[str, object]:
    """Return the summary as JSON values (docs/collateral.md): times ISO 8601 in UTC, octet strings hexadecimal."""
    info, identity = summary.tcb_info, summary.qe_identity
    last = summary.first_to_end
    return {
        "verified": False,
        "tee": info.tee_type.name.lower(),
        "fmspc": info.fmspc.hex(),
        "pceid": info.pceid.hex(),
        "ca": None if summary.ca is None else str(summary.ca),
        "tcb_info": {
            "version": info.version,
            "tcb_evaluation_data_number": info.tcb_evaluation_data_number,
            "issue_date": _time(info.issue_date),
            "next_update": _time(info.next_update),
            "levels": [
                {
                    "sgx_components": list(level.sgx_components),
                    "tdx_components": None if level.tdx_components is None else list(level.tdx_components),
                    "pcesvn": level.pcesvn,
                    "tcb_date": _time(level.tcb_date),
                    "status": str(level.status),
                    "advisory_ids": list(level.advisory_ids),
                }
                for level in info.levels
            ],
            "tdx_modules": [
                {"id": module.id, "levels": _svn_levels(module.levels)} for module in info.tdx_module_identities
            ],
        },
        "qe_identity": {
            "id": str(identity.id),
            "tcb_evaluation_data_number": identity.tcb_evaluation_data_number,
            "issue_date": _time(identity.issue_date),
            "next_update": _time(identity.next_update),
            "mrsigner": identity.mrsigner.hex(),
            "isvprodid": identity.isvprodid,
            "levels": _svn_levels(identity.levels),
        },
        "crls": {name: _crl_json(crl) for name, crl in _crls(summary).items()},
        "chains": {
            name: [
                {
                    "common_name": certificate.common_name,
                    "serial_number": f"{certificate.serial_number:x}",
                    "not_before": _time(certificate.not_before),
                    "not_after": _time(certificate.not_after),
                }
                for certificate in chain
            ]
            for name, chain in summary.chains.items()
        },
        "latest_issue": _time(summary.newest.begin),
        "earliest_expiration": _time(last.end),
        "first_to_expire": last.name,
    }


def _crls(summary: CollateralSummary) -> dict[str, Crl]:
    return {"root_ca_crl": summary.root_ca_crl, "pck_crl": summary.pck_crl}


def _crl_json(crl: Crl) -> dict[str, object]:
    return {
        "revoked": len(crl.entries),
        "this_update": _time(crl.this_update),
        "next_update": _time(crl.next_update),
    }


def _svn_levels(levels: tuple[SvnLevel, ...]) -> list[dict[str, object]]:
    return [
        {
            "isvsvn": level.isvsvn,
            "tcb_date": _time(level.tcb_date),
            "status": str(level.status),
            "advisory_ids": list(level.advisory_ids),
        }
        for level in levels
    ]


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
