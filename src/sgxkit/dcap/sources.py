"""Where a verifier gets collateral from: a bundle, a service, or the cache before a service."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from sgxkit.dcap import cache, der, pcs
from sgxkit.dcap.certificate import Certificate, parse_certificate, split_pem
from sgxkit.dcap.chains import PckCa, pck_ca
from sgxkit.dcap.collateral import Collateral, CollateralError
from sgxkit.dcap.collateral_summary import summarize
from sgxkit.dcap.pck import parse_pck_platform
from sgxkit.dcap.quote import CertificationDataType, PckCertificationData, PpidCertificationData, Quote, TeeType
from sgxkit.dcap.transport import DEFAULT_PATIENCE, BadAnswerError, Note, Patience, log_note
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg


class NotCachedError(CollateralError):
    """The cache has nothing that is still in force, and nobody else may be asked."""

    code: ClassVar[str] = "collateral-not-cached"


class UnknownPlatformError(CollateralError):
    """It cannot be told which platform made the quote, and so which collateral it is judged by."""

    code: ClassVar[str] = "collateral-unknown-platform"


@dataclass(frozen=True, slots=True)
class CollateralRequest:
    """Which collateral is wanted: see `sgxkit.dcap.pcs.fetch_collateral`."""

    tee: TeeType
    fmspc: bytes
    ca: PckCa
    update: pcs.Update = "standard"
    tcb_evaluation_data_number: int | None = None


class CollateralSource(Protocol):
    """Gives what a quote is judged by, or raises `CollateralError`."""

    def collateral(self, request: CollateralRequest) -> Collateral:
        """Return the collateral for a family of platforms."""
        ...

    def pck_certificate_chain(self, platform: PpidCertificationData, qeid: bytes) -> str:
        """Return the PCK certificate of a platform and its chain (PEM), for quotes that only name the platform.

        `qeid` is the QE ID, 16 bytes: the first of the quote header's user data.
        """
        ...


@dataclass(frozen=True, slots=True)
class BundleSource:
    """A bundle that the caller has: it is the answer to every request; verification says if it is the wrong one."""

    bundle: Collateral

    def collateral(self, request: CollateralRequest) -> Collateral:
        """Return the bundle."""
        del request
        return self.bundle

    def pck_certificate_chain(self, platform: PpidCertificationData, qeid: bytes) -> str:
        """Return the chain in the bundle; raises `UnknownPlatformError` where it has none."""
        del platform, qeid
        if self.bundle.pck_certificate_chain is None:
            raise UnknownPlatformError(
                msg("neither the quote nor the bundle has the PCK certificate"),
                hint=msg("`sgxkit collateral fetch --quote` makes a bundle that has it"),
            )
        return self.bundle.pck_certificate_chain


@dataclass(frozen=True, slots=True)
class ServiceSource:
    """A PCS or PCCS, asked every time."""

    service: pcs.Service
    patience: Patience = DEFAULT_PATIENCE
    note: Note = log_note

    def collateral(self, request: CollateralRequest) -> Collateral:
        """Ask the service; raises `CollateralError`."""
        return pcs.fetch_collateral(
            request.tee,
            request.fmspc,
            request.ca,
            source=self.service,
            update=request.update,
            tcb_evaluation_data_number=request.tcb_evaluation_data_number,
            patience=self.patience,
            note=self.note,
        )

    def pck_certificate_chain(self, platform: PpidCertificationData, qeid: bytes) -> str:
        """Ask the service; raises `CollateralError`, also for a PPID in the clear, which no service takes."""
        if platform.pceid is None or platform.type is CertificationDataType.PPID_CLEARTEXT:
            raise UnknownPlatformError(
                msg("the quote names its platform by PPID in the clear; services want the encrypted PPID"),
                hint=msg("put the chain into a bundle as pck_certificate_chain"),
            )
        return pcs.fetch_pck_certificate(
            platform.ppid,
            platform.cpusvn,
            platform.pcesvn,
            platform.pceid,
            qeid,
            source=self.service,
            patience=self.patience,
            note=self.note,
        ).chain


def utc_now() -> datetime:
    """Return the time of this host's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CachedSource:
    """The cache, and behind it a service that is asked when the cache has nothing in force.

    With `offline` nobody is asked. Processes that want the same at once make one question of it. A folder that cannot
    be used is said to `note` and gone without.
    """

    folder: Path
    upstream: ServiceSource
    offline: bool = False
    clock: Callable[[], datetime] = utc_now
    note: Note = log_note

    def collateral(self, request: CollateralRequest) -> Collateral:
        """Return cached collateral that is in force, else what the service answers; raises `CollateralError`."""
        key = cache_key(self.upstream.service, request)
        try:
            cache.check_folder(self.folder)
        except FileNotFoundError:
            pass  # nothing was kept yet
        except OSError as error:
            self._cannot_use(error)
            if self.offline:
                raise _not_cached(None, request) from error
            return self.upstream.collateral(request)
        entry = cache.load(self.folder, key, self.note)
        if entry is not None and entry.is_fresh(self.clock()):
            return entry.collateral
        if self.offline:
            raise _not_cached(entry, request)
        # Whoever held the lock while we waited has just asked what we would ask: its answer is taken even if it is
        # already out of force, or a service with nothing newer would be asked once by each who waits.
        seen = None if entry is None else entry.stamp
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(cache.locked(self.folder, key, seconds=self.upstream.patience.total))
            except OSError as error:
                self._cannot_use(error)
                return self.upstream.collateral(request)
            entry = cache.load(self.folder, key, self.note)
            if entry is not None and (entry.stamp != seen or entry.is_fresh(self.clock())):
                return entry.collateral
            answer = self.upstream.collateral(request)
            try:
                cache.store(self.folder, key, answer)
            except FormatError as error:
                raise BadAnswerError(
                    msg("the service's answer is malformed: {problem}", problem=error.message)
                ) from error
            except OSError as error:
                self._cannot_use(error)
            return answer

    def pck_certificate_chain(self, platform: PpidCertificationData, qeid: bytes) -> str:
        """Ask the service: the certificate is of one platform, and not kept. Raises `CollateralError`."""
        if self.offline:
            raise NotCachedError(
                msg("the quote carries no PCK certificate, and no service may be asked for it"),
                hint=msg("`sgxkit collateral fetch --quote` makes a bundle that has it"),
            )
        return self.upstream.pck_certificate_chain(platform, qeid)

    def _cannot_use(self, error: OSError) -> None:
        self.note(msg("the cache {path} cannot be used: {reason}", path=self.folder, reason=error.strerror or error))


def _not_cached(entry: cache.CacheEntry | None, request: CollateralRequest) -> NotCachedError:
    fmspc = request.fmspc.hex()
    hint = msg("fetch it where the service can be reached, or import a bundle: `sgxkit collateral import FILE`")
    if entry is None:
        return NotCachedError(msg("no collateral for FMSPC {fmspc} in the cache", fmspc=fmspc), hint=hint)
    ended = entry.summary.first_to_end
    return NotCachedError(
        msg(
            "the cached collateral for FMSPC {fmspc} ended on {date} ({piece})",
            fmspc=fmspc,
            date=ended.end.date().isoformat(),
            piece=ended.name,
        ),
        hint=hint,
    )


def cache_key(service: pcs.Service, request: CollateralRequest) -> cache.CacheKey:
    """Return what the answer of `service` to `request` is kept under."""
    number = request.tcb_evaluation_data_number
    return cache.CacheKey(
        source=str(service),
        tee=request.tee.name.lower(),
        fmspc=request.fmspc.hex(),
        ca=str(request.ca),
        choice=request.update if number is None else str(number),
    )


def import_collateral(
    folder: Path, collateral: Collateral, service: pcs.Service, *, update: pcs.Update = "standard"
) -> cache.CacheEntry:
    """Keep collateral from elsewhere as if `service` had answered it to the request that it fits.

    Raises `FormatError` where it cannot be read, `InputError` where the folder cannot be used.
    """
    summary = summarize(collateral)
    if summary.ca is None:
        name = summary.pck_crl_issuer_chain[0].common_name
        raise FormatError(
            "pck_crl_issuer_chain", msg("it begins with {name}, not with a PCK CA", name=json.dumps(name))
        )
    info = summary.tcb_info
    key = cache_key(service, CollateralRequest(info.tee_type, info.fmspc, summary.ca, update))
    # The PCK certificate is of one platform; the rest is of all with this FMSPC.
    shared = replace(collateral, pck_certificate_chain=None)
    try:
        with cache.locked(folder, key, seconds=DEFAULT_PATIENCE.total):
            return cache.store(folder, key, shared)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(msg("the cache {path} cannot be used: {reason}", path=folder, reason=reason)) from error


def collateral_for_quote(
    quote: Quote,
    source: CollateralSource,
    *,
    update: pcs.Update = "standard",
    tcb_evaluation_data_number: int | None = None,
) -> Collateral:
    """Return the collateral that `quote` is judged by: for the TEE it says, FMSPC and CA by its PCK certificate.

    Where the quote carries no certificate, the source is asked for it first, and the result has it. A bundle is
    returned as it is. Nothing is verified. Raises `CollateralError`.
    """
    if isinstance(source, BundleSource):
        return source.bundle
    data = quote.certification_data
    chain = None
    if isinstance(data, PpidCertificationData):
        chain = source.pck_certificate_chain(data, quote.header.user_data[:16])
    try:
        certificates = _certificates(quote if chain is None else chain)
        request = CollateralRequest(
            tee=quote.tee_type,
            fmspc=parse_pck_platform(certificates[0]).fmspc,
            ca=_certifying_ca(certificates),
            update=update,
            tcb_evaluation_data_number=tcb_evaluation_data_number,
        )
    except FormatError as error:
        raise UnknownPlatformError(
            msg("the PCK certificate cannot be read: {problem}", problem=error.message), hint=error.hint
        ) from error
    collateral = source.collateral(request)
    return collateral if chain is None else replace(collateral, pck_certificate_chain=chain)


def _certificates(holder: Quote | str) -> tuple[Certificate, ...]:
    """Read the PCK certificate and what follows it, out of a quote or PEM; at least one."""
    field = "PCK certificate"
    if isinstance(holder, str):
        encoded = split_pem(holder, field)
    elif not isinstance(holder.certification_data, PckCertificationData):
        raise FormatError(field, msg("the quote carries none"))
    elif holder.certification_data.is_pem:
        encoded = split_pem(holder.certification_data.content.decode("ascii", "replace"), field)
    else:
        content = holder.certification_data.content
        encoded = tuple(content[element.start : element.end] for element in der.elements(content, field))
    return tuple(parse_certificate(one, field) for one in encoded)


def _certifying_ca(chain: tuple[Certificate, ...]) -> PckCa:
    if len(chain) > 1:
        ca, name = pck_ca(chain[1]), chain[1].common_name
    else:
        issuer = x509.load_der_x509_certificate(chain[0].encoded).issuer
        names = issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = str(names[0].value) if names else issuer.rfc4514_string()
        ca = next((ca for ca in PckCa if name == f"Intel SGX PCK {ca.value.title()} CA"), None)
    if ca is None:
        raise FormatError("PCK certificate", msg("its issuer {name} is not a PCK CA", name=json.dumps(name)))
    return ca
