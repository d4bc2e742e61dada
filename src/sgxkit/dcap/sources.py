"""Where a verifier gets collateral from: a bundle, a service, or the cache before a service."""

from __future__ import annotations

import contextlib
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
from sgxkit.dcap.quote import PckCertificationData, Quote, TeeType
from sgxkit.dcap.transport import DEFAULT_PATIENCE, BadAnswerError, Note, Patience, log_note
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg


class NotCachedError(CollateralError):
    """The cache has nothing that is still in force, and nobody else may be asked."""

    code: ClassVar[str] = "collateral-not-cached"


@dataclass(frozen=True, slots=True)
class CollateralRequest:
    """Which collateral is wanted: see `sgxkit.dcap.pcs.fetch_collateral`."""

    tee: TeeType
    fmspc: bytes
    ca: PckCa
    update: pcs.Update = "standard"
    tcb_evaluation_data_number: int | None = None


class CollateralSource(Protocol):
    """Gives the collateral for a platform, or raises `CollateralError`."""

    def collateral(self, request: CollateralRequest) -> Collateral: ...


@dataclass(frozen=True, slots=True)
class BundleSource:
    """A bundle that the caller has: it is the answer to every request; verification says if it is the wrong one."""

    bundle: Collateral

    def collateral(self, request: CollateralRequest) -> Collateral:
        """Return the bundle."""
        del request
        return self.bundle


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

    def _cannot_use(self, error: OSError) -> None:
        self.note(msg("the cache {path} cannot be used: {reason}", path=self.folder, reason=error))


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
        raise FormatError("pck_crl_issuer_chain", msg("it begins with {name}, not with a PCK CA", name=name))
    info = summary.tcb_info
    key = cache_key(service, CollateralRequest(info.tee_type, info.fmspc, summary.ca, update))
    # The PCK certificate is of one platform; the rest is of all with this FMSPC.
    shared = replace(collateral, pck_certificate_chain=None)
    try:
        with cache.locked(folder, key, seconds=DEFAULT_PATIENCE.total):
            return cache.store(folder, key, shared)
    except OSError as error:
        raise InputError(msg("the cache {path} cannot be used: {reason}", path=folder, reason=error)) from error


def request_for_quote(
    quote: Quote,
    *,
    update: pcs.Update = "standard",
    tcb_evaluation_data_number: int | None = None,
    pck_certificate_chain: str | None = None,
) -> CollateralRequest:
    """Return which collateral a quote is judged by: the TEE it says, FMSPC and CA by its PCK certificate.

    `pck_certificate_chain` (PEM) is used where the quote carries none. Nothing is verified. Raises `FormatError`;
    `InputError` where there is no PCK certificate.
    """
    data = quote.certification_data
    if isinstance(data, PckCertificationData):
        chain = pck_certificates(data)
    elif pck_certificate_chain is not None:
        field = "pck_certificate_chain"
        chain = tuple(parse_certificate(encoded, field) for encoded in split_pem(pck_certificate_chain, field))
    else:
        raise InputError(
            msg("the quote carries no PCK certificate (certification data type {type})", type=int(data.type)),
            hint=msg("a PCCS has it, and Intel's PCS with a subscription key"),
        )
    return CollateralRequest(
        tee=quote.header.tee_type,
        fmspc=parse_pck_platform(chain[0]).fmspc,
        ca=_certifying_ca(chain),
        update=update,
        tcb_evaluation_data_number=tcb_evaluation_data_number,
    )


def pck_certificates(data: PckCertificationData) -> tuple[Certificate, ...]:
    """Read the certificates that a quote carries, PEM or DER one after the other; raises `FormatError`."""
    field = "certification data"
    if data.is_pem:
        encoded = split_pem(data.content.decode("ascii", "replace"), field)
    else:
        found = der.elements(data.content, field)
        encoded = tuple(data.content[element.start : element.end] for element in found)
    if not encoded:
        raise FormatError(field, msg("no certificate in it"))
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
        raise FormatError("certification data", msg("{name} is not a PCK CA", name=name))
    return ca
