"""How Intel rates the platform that made a quote: the TDX module, the TCB level, and the whole.

Intel PCS API v4, "Get TCB Info", the TCB status algorithms for SGX and TDX; the second rating of TDs with a report of
version 1.5 follows Intel's verification library of 2026.
"""

from __future__ import annotations

from sgxkit.dcap.errors import TcbNotSupportedError, TdxModuleMismatchError
from sgxkit.dcap.identity import masked
from sgxkit.dcap.pck import PckPlatform
from sgxkit.dcap.quote import Quote
from sgxkit.dcap.tcb import (
    SvnLevel,
    TcbInfo,
    TcbLevel,
    TdxModule,
    TdxModuleIdentity,
    converge,
    relaunch_advised,
    select_level,
    select_svn_level,
)
from sgxkit.dcap.td_report import TdReport, TdReport15
from sgxkit.dcap.verification import TcbVerdict
from sgxkit.messages import msg


def check_tdx_module(report: TdReport, tcb_info: TcbInfo) -> SvnLevel | None:
    """Check that Intel vouches for the TDX module that the TD was started on; return the module's level.

    Modules from 1.5 on (TEE_TCB_SVN[1] not 0) have an identity and levels of their own; for those before it, None.
    Raises TdxModuleMismatchError for another signer or other attributes, TcbNotSupportedError below every level.
    """
    identity = _module_identity(report.tee_tcb_svn, tcb_info)
    module = identity.module if identity is not None else tcb_info.tdx_module
    if module is None:
        raise TdxModuleMismatchError(msg("the TCB info says nothing of TDX modules"))
    _check_module(report, module)
    return None if identity is None else _module_level(identity, report.tee_tcb_svn)


def module_key(report: TdReport) -> bytes:
    """The bytes of a TD report that the rating of its TDX module depends on."""
    current = report.tee_tcb_svn2 if isinstance(report, TdReport15) else b""
    return report.tee_tcb_svn + report.mrsignerseam + report.seamattributes + current


def _module_identity(tee_tcb_svn: bytes, tcb_info: TcbInfo) -> TdxModuleIdentity | None:
    major = tee_tcb_svn[1]
    if major == 0:
        return None
    wanted = f"TDX_{major:02X}"
    for identity in tcb_info.tdx_module_identities:
        if identity.id == wanted:
            return identity
    raise TdxModuleMismatchError(msg("the TCB info does not know the TDX module {id}", id=wanted))


def _check_module(report: TdReport, module: TdxModule) -> None:
    if report.mrsignerseam != module.mrsigner:
        raise TdxModuleMismatchError(msg("MRSIGNERSEAM is not that of a module which Intel vouches for"))
    if masked(report.seamattributes, module.attributes_mask) != module.attributes:
        raise TdxModuleMismatchError(msg("SEAMATTRIBUTES are not those of a module which Intel vouches for"))


def _module_level(identity: TdxModuleIdentity, tee_tcb_svn: bytes) -> SvnLevel:
    level = select_svn_level(identity.levels, tee_tcb_svn[0])
    if level is None:
        raise TcbNotSupportedError(
            msg(
                "the {name} has SVN {svn}, below every level that Intel rates",
                name=f"TDX module {identity.id}",
                svn=tee_tcb_svn[0],
            )
        )
    return level


def rate(
    quote: Quote, platform: PckPlatform, tcb_info: TcbInfo, qe_level: SvnLevel, module_level: SvnLevel | None
) -> TcbVerdict:
    """Return how platform, quoting enclave and TDX module are rated together.

    Raises TcbNotSupportedError where the platform is below every level, and for a TD with a report of version 1.5
    also where the module that is loaded now is, and TdxModuleMismatchError where that module is not known.
    """
    body = quote.body
    launch_svn = body.tee_tcb_svn if isinstance(body, TdReport) else None
    level = _platform_level(platform, tcb_info, launch_svn)
    parts: tuple[TcbLevel | SvnLevel, ...] = (level, qe_level, *(() if module_level is None else (module_level,)))
    launch = converge(level.status, tuple(part.status for part in parts[1:]))
    current = None
    if isinstance(body, TdReport15):
        current_level = _platform_level(platform, tcb_info, body.tee_tcb_svn2)
        identity = _module_identity(body.tee_tcb_svn2, tcb_info)
        current_parts = [qe_level.status]
        if identity is not None:
            current_parts.append(_module_level(identity, body.tee_tcb_svn2).status)
        current = converge(current_level.status, tuple(current_parts))
    return TcbVerdict(
        status=launch if current is None else relaunch_advised(launch, current),
        platform_status=level.status,
        qe_status=qe_level.status,
        tdx_module_status=None if module_level is None else module_level.status,
        launch_status=launch,
        current_status=current,
        tcb_date=min(part.tcb_date for part in parts),
        advisory_ids=tuple(sorted({name for part in parts for name in part.advisory_ids})),
    )


def _platform_level(platform: PckPlatform, tcb_info: TcbInfo, tee_tcb_svn: bytes | None) -> TcbLevel:
    level = select_level(tcb_info.levels, platform.tcb_components, platform.pcesvn, tee_tcb_svn)
    if level is None:
        raise TcbNotSupportedError(
            msg("the platform's TCB is below every level that Intel rates"),
            hint=msg(
                "its microcode or firmware is older than anything Intel still rates, or the TCB info is too new"
            ),
        )
    return level
