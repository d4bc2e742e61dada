"""Client of Intel's Provisioning Certification Service (PCS) and of the caching service for it (PCCS).

Both serve collateral under the same paths; where they differ (root CRL, encodings, header names, statuses) is noted
at the place. What comes back is checked to be an answer to the question (right TEE, FMSPC and number), not to be
true: signatures and dates are for `sgxkit.dcap.verify`.

Sources: Intel SGX and TDX PCS API v4 (api.portal.trustedservices.intel.com); the PCCS of Intel's DCAP
(confidential-computing.tee.dcap.pccs, design guide and routes).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_to_bytes

from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.collateral import MAX_CHAIN, MAX_CRL, MAX_JSON, Collateral, decode_crl
from sgxkit.dcap.identity import parse_enclave_identity
from sgxkit.dcap.json_fields import array, as_object, date, hexadecimal, integer, string
from sgxkit.dcap.quote import TeeType
from sgxkit.dcap.signed_json import parse_strict_json, split_signed_json
from sgxkit.dcap.tcb import parse_tcb_info
from sgxkit.dcap.transport import (
    DEFAULT_PATIENCE,
    PUBLIC_AUTHORITIES,
    Answer,
    BadAnswerError,
    Note,
    Patience,
    Trust,
    get,
    log_note,
    open_client,
    run,
)
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    import httpx

INTEL_PCS = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_ROOT_CRL_NAME = "IntelSGXRootCA.der"
LOCAL_PCCS = "https://localhost:8081"

Update = Literal["standard", "early"]

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_CRL_CHAIN = ("sgx-pck-crl-issuer-chain",)
_IDENTITY_CHAIN = ("sgx-enclave-identity-issuer-chain",)
_PCK_CHAIN = ("sgx-pck-certificate-issuer-chain",)
_NUMBERS_CHAIN = ("tcb-evaluation-data-numbers-issuer-chain",)
# The first is the name of API v4, the second that of v3.
_TCB_CHAIN = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")


@dataclass(frozen=True, slots=True)
class Service:
    """A PCS or a PCCS: where it is, which API it speaks, and whether to believe that it is it.

    `url` is the address before ``/sgx/certification/...``. Only a PCS has a `root_crl_url` beside it: a PCCS serves
    the root CRL itself. `subscription_key` is what Intel's PCS wants for PCK certificates, nothing else.
    """

    kind: Literal["pcs", "pccs"]
    url: str = INTEL_PCS
    api_version: Literal[3, 4] = 4
    root_crl_url: str = INTEL_ROOT_CRL
    trust: Trust = PUBLIC_AUTHORITIES
    subscription_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} v{self.api_version} {self.url}"


def pcs(
    url: str = INTEL_PCS,
    *,
    root_crl_url: str | None = None,
    trust: Trust = PUBLIC_AUTHORITIES,
    subscription_key: str | None = None,
) -> Service:
    """Name a PCS, Intel's unless said otherwise; raises `InputError` for an address that cannot be one.

    Version 3 of Intel's API has ended, so it is always version 4. Intel serves the root CRL at another address than
    its PCS; that of another PCS (a lab's, a mirror) is looked for beside it unless `root_crl_url` says where it is.
    """
    base, version = _service_address(url)
    if version == 3:
        raise InputError(msg("version 3 of the PCS API has ended; a PCS is asked by version 4"))
    if root_crl_url is None:
        root_crl_url = INTEL_ROOT_CRL if base == INTEL_PCS else f"{base}/{_ROOT_CRL_NAME}"
    return Service("pcs", base, 4, _address(root_crl_url), trust, subscription_key)


def pccs(url: str = LOCAL_PCCS, *, trust: Trust = PUBLIC_AUTHORITIES) -> Service:
    """Name a PCCS; raises `InputError` for an address that cannot be one.

    The address may be that of ``pccs_url`` in Intel's /etc/sgx_default_qcnl.conf, which ends in
    ``/sgx/certification/v3/`` or ``v4/``: that decides the version of the API, else it is 4.
    """
    base, version = _service_address(url)
    return Service("pccs", base, version or 4, "", trust)


@dataclass(frozen=True, slots=True)
class PckCertificate:
    """A PCK certificate for a platform that does not carry one in its quotes.

    `chain` is PEM: leaf, PCK CA, root. `tcbm` (CPUSVN 16 bytes, PCESVN 2 bytes little-endian) is the TCB that the
    certificate was issued for; it, `fmspc` (6 bytes) and `ca` are None where the service does not say.
    """

    chain: str
    tcbm: bytes | None
    fmspc: bytes | None
    ca: PckCa | None


@dataclass(frozen=True, slots=True)
class FmspcEntry:
    """A family of platforms that Intel publishes TCB info for: its FMSPC (6 bytes) and kind (client, E3, E5...)."""

    fmspc: bytes
    platform: str


@dataclass(frozen=True, slots=True)
class TcbEvaluationDataNumber:
    """One TCB recovery that collateral can be asked for by number: when it was announced, and its TCB date."""

    number: int
    recovery_event_date: datetime
    tcb_date: datetime


@dataclass(frozen=True, slots=True)
class TcbEvaluationDataNumbers:
    """The evaluation numbers on offer, and the signed document that says so (raw text, r and s, PEM chain)."""

    tee: TeeType
    issue_date: datetime
    next_update: datetime
    numbers: tuple[TcbEvaluationDataNumber, ...]
    document: str
    signature: bytes
    issuer_chain: str


def parse_fmspc(text: str) -> bytes:
    """Read an FMSPC: 12 hexadecimal digits of either case, as 6 bytes; raises `InputError`."""
    if not re.fullmatch(r"[0-9A-Fa-f]{12}", text):
        raise InputError(msg("{text} is not an FMSPC: those have 12 hexadecimal digits", text=json.dumps(text[:40])))
    return bytes.fromhex(text)


def fetch_collateral(
    tee: TeeType,
    fmspc: bytes,
    ca: PckCa,
    *,
    source: Service,
    update: Update = "standard",
    tcb_evaluation_data_number: int | None = None,
    patience: Patience = DEFAULT_PATIENCE,
    note: Note = log_note,
) -> Collateral:
    """Ask for all collateral that a quote is judged by.

    `fmspc` is 6 bytes; `ca` is who issued the PCK certificate. `update` chooses between TCB info with or without the
    newest TCB recovery before it takes effect; a number chooses one recovery and excludes "early". The result is what
    was served, unverified. Raises `CollateralError` (one of `sgxkit.dcap.transport`) and `InputError`.
    """
    _need(fmspc, "FMSPC", 6)
    if source.api_version == 3 and tee is TeeType.TDX:
        raise InputError(msg("version 3 of the API knows no TDX; the PCCS must be asked by version 4"))
    choice = _choice(update, tcb_evaluation_data_number)

    async def ask() -> Collateral:
        async with open_client(source.trust, patience) as client:
            asker = _Asker(client, source, patience, note)
            # One question first: most trouble (address, trust, unknown FMSPC) then costs one question, not four.
            tcb = await asker.ask(_path(tee), "tcb", {"fmspc": fmspc.hex().upper(), **choice}, MAX_JSON)
            crl, identity, root_crl = await _together(
                asker.ask("sgx", "pckcrl", {"ca": str(ca), "encoding": "der"}, _MAX_CRL_BODY),
                asker.ask(_path(tee), "qe/identity", choice, MAX_JSON),
                asker.root_crl(),
            )
        with _answer():
            tcb_info, tcb_info_signature = _signed(tcb, "tcbInfo")
            qe_identity, qe_identity_signature = _signed(identity, "enclaveIdentity")
            collateral = Collateral(
                pck_crl_issuer_chain=_chain(crl, _CRL_CHAIN),
                root_ca_crl=_crl(root_crl, "root_ca_crl"),
                pck_crl=_crl(crl, "pck_crl"),
                tcb_info_issuer_chain=_chain(tcb, _TCB_CHAIN),
                tcb_info=tcb_info,
                tcb_info_signature=tcb_info_signature,
                qe_identity_issuer_chain=_chain(identity, _IDENTITY_CHAIN),
                qe_identity=qe_identity,
                qe_identity_signature=qe_identity_signature,
            )
        _check_tcb_info(tcb_info, tee, fmspc, tcb_evaluation_data_number)
        _check_identity(qe_identity, tee, tcb_evaluation_data_number)
        return collateral

    return run(ask)


def fetch_pck_certificate(
    encrypted_ppid: bytes,
    cpusvn: bytes,
    pcesvn: int,
    pceid: bytes,
    qeid: bytes | None = None,
    *,
    source: Service,
    patience: Patience = DEFAULT_PATIENCE,
    note: Note = log_note,
) -> PckCertificate:
    """Ask for the PCK certificate of a platform, for quotes of certification data types 2 and 3.

    `encrypted_ppid` is RSA-3072 (384 bytes) or RSA-2048 (256), `cpusvn` 16 bytes, `pceid` 2 bytes as they stand in
    the quote. A PCCS also wants `qeid`, 16 bytes: the first of the header's user data. Intel's PCS wants a
    subscription key. Raises `CollateralError` and `InputError`.
    """
    if len(encrypted_ppid) not in (256, 384):
        raise InputError(
            msg("an encrypted PPID has 256 or 384 bytes, not {length}", length=len(encrypted_ppid)),
            hint=msg("a PPID in the clear (certification data type 1) cannot be used to ask for a PCK certificate"),
        )
    _need(cpusvn, "CPUSVN", 16)
    _need(pceid, "PCEID", 2)
    query = {
        "encrypted_ppid": encrypted_ppid.hex(),
        "cpusvn": cpusvn.hex(),
        "pcesvn": pcesvn.to_bytes(2, "little").hex(),
        "pceid": pceid.hex(),
    }
    headers = {}
    if source.kind == "pccs":
        if qeid is None:
            raise InputError(msg("a PCCS finds PCK certificates by QE ID, which is missing"))
        _need(qeid, "QE ID", 16)
        query["qeid"] = qeid.hex()
    else:
        headers["PPID-Encryption-Key"] = "RSA-3072" if len(encrypted_ppid) == 384 else "RSA-2048"
        if source.subscription_key is not None:
            headers["Ocp-Apim-Subscription-Key"] = _subscription_key(source)

    async def ask() -> PckCertificate:
        async with open_client(source.trust, patience) as client:
            answer = await _Asker(client, source, patience, note).ask("sgx", "pckcert", query, MAX_CHAIN, headers)
        with _answer():
            leaf = _text(answer, "pckcert")
            if not leaf.startswith("-----BEGIN CERTIFICATE-----"):
                raise FormatError("pckcert", msg("it is not a PEM certificate"))
            issuer = answer.headers.get("sgx-pck-certificate-ca-type", "").lower()
            return PckCertificate(
                chain=leaf.rstrip("\0\r\n") + "\n" + _chain(answer, _PCK_CHAIN),
                tcbm=_hex_header(answer, "sgx-tcbm", 18),
                fmspc=_hex_header(answer, "sgx-fmspc", 6),
                ca=PckCa(issuer) if issuer in set(PckCa) else None,
            )

    return run(ask)


def fmspcs(
    platform: Literal["all", "client", "E3", "E5"] = "all",
    *,
    source: Service,
    patience: Patience = DEFAULT_PATIENCE,
    note: Note = log_note,
) -> tuple[FmspcEntry, ...]:
    """Ask which FMSPCs there are; a PCS says, a PCCS has no such list. Raises `CollateralError`."""

    async def ask() -> tuple[FmspcEntry, ...]:
        async with open_client(source.trust, patience) as client:
            answer = await _Asker(client, source, patience, note).ask(
                "sgx", "fmspcs", {"platform": platform}, MAX_JSON
            )
        with _answer():
            listed = {"fmspcs": parse_strict_json(_text(answer, "fmspcs"), "fmspcs")}
            return tuple(_fmspc_entry(item) for item in array(listed, "fmspcs", "answer", limit=_MAX_LISTED))

    return run(ask)


def tcb_evaluation_data_numbers(
    tee: TeeType,
    *,
    source: Service,
    patience: Patience = DEFAULT_PATIENCE,
    note: Note = log_note,
) -> TcbEvaluationDataNumbers:
    """Ask which TCB evaluation data numbers are on offer, newest first as served, unverified.

    A PCS says, a PCCS has no such list. Raises `CollateralError`.
    """

    async def ask() -> TcbEvaluationDataNumbers:
        async with open_client(source.trust, patience) as client:
            asker = _Asker(client, source, patience, note)
            answer = await asker.ask(_path(tee), "tcbevaluationdatanumbers", {}, MAX_JSON)
        name = "tcbEvaluationDataNumbers"
        with _answer():
            text, signature = _signed(answer, name)
            document = as_object(parse_strict_json(text, name), name)
            _check(name, "id", string(document, "id", name), tee.name)
            return TcbEvaluationDataNumbers(
                tee=tee,
                issue_date=date(document, "issueDate", name),
                next_update=date(document, "nextUpdate", name),
                numbers=tuple(
                    _evaluation_number(item) for item in array(document, "tcbEvalNumbers", name, limit=_MAX_LISTED)
                ),
                document=text,
                signature=signature,
                issuer_chain=_chain(answer, _NUMBERS_CHAIN),
            )

    return run(ask)


# A CRL in hexadecimal digits (PCCS) or PEM is longer than in DER.
_MAX_CRL_BODY = 2 * MAX_CRL + 1024
_MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class _Asker:
    client: httpx.AsyncClient
    source: Service
    patience: Patience
    note: Note

    async def ask(
        self,
        tee: str,
        resource: str,
        query: Mapping[str, str],
        limit: int,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        import httpx  # noqa: PLC0415 - not needed where a bundle is given

        base = httpx.URL(self.source.url)
        path = f"{base.path.rstrip('/')}/{tee}/certification/v{self.source.api_version}/{resource}"
        # The query is given whole, never joined to the text of an address.
        url = base.copy_with(path=path, params=dict(query)) if query else base.copy_with(path=path)
        return await self.get(url, limit, headers)

    async def root_crl(self) -> Answer:
        import httpx  # noqa: PLC0415 - not needed where a bundle is given

        if self.source.kind == "pccs":
            return await self.ask("sgx", "rootcacrl", {}, _MAX_CRL_BODY)
        return await self.get(httpx.URL(self.source.root_crl_url), _MAX_CRL_BODY, None)

    async def get(self, url: httpx.URL, limit: int, headers: Mapping[str, str] | None) -> Answer:
        return await get(self.client, url, limit=limit, patience=self.patience, note=self.note, headers=headers)


async def _together(*questions: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """Ask all at once; raises the first error when all have an answer or an error.

    Cancelling the others at the first error would be quicker, but a TLS handshake that is cancelled leaves its socket
    open (asyncio, through httpcore).
    """
    answers: list[Answer] = []
    for outcome in await asyncio.gather(*questions, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        answers.append(outcome)
    return answers


def _address(url: str) -> str:
    """Check that `url` is a plain HTTP address: no user, query or fragment."""
    import httpx  # noqa: PLC0415 - not needed where a bundle is given

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError(msg("{url} is not an address: {reason}", url=json.dumps(url), reason=error)) from error
    if parsed.scheme not in ("http", "https") or not _HOST.fullmatch(parsed.raw_host.decode("ascii")):
        raise InputError(
            msg("{url} is not the address of a service", url=json.dumps(url)),
            hint=msg("it begins with https:// and a host, such as {example}", example=LOCAL_PCCS),
        )
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InputError(msg("the address of a service has no user, query or fragment: {url}", url=json.dumps(url)))
    return str(parsed)


def _service_address(url: str) -> tuple[str, Literal[3, 4] | None]:
    """Split a service's address into what comes before /sgx/certification/vN and N (None where it is not said)."""
    address = _address(url).rstrip("/")
    for version in (3, 4):
        ending = f"/sgx/certification/v{version}"
        if address.endswith(ending):
            return address.removesuffix(ending), 3 if version == 3 else 4
    return address, None


def _need(value: bytes, name: str, size: int) -> None:
    if len(value) != size:
        raise InputError(
            msg("{name} has {expected} bytes, not {length}", name=name, expected=size, length=len(value))
        )


def _choice(update: Update, number: int | None) -> dict[str, str]:
    if number is None:
        return {"update": "early"} if update == "early" else {}
    if update == "early":
        raise InputError(msg("an evaluation number and the early update exclude each other"))
    return {"tcbEvaluationDataNumber": str(number)}


def _path(tee: TeeType) -> str:
    return tee.name.lower()


def _subscription_key(source: Service) -> str:
    key = source.subscription_key or ""
    if not source.url.startswith("https://"):
        raise InputError(msg("a subscription key is sent over https only, not to {url}", url=source.url))
    if not key.isascii() or not key.isalnum():
        raise InputError(msg("the subscription key is not letters and digits"))
    return key


@contextmanager
def _answer() -> Iterator[None]:
    """Turn what is wrong with the format of an answer into an error of the service."""
    try:
        yield
    except FormatError as error:
        raise BadAnswerError(msg("the service's answer is malformed: {problem}", problem=error.message)) from error


def _text(answer: Answer, name: str) -> str:
    try:
        return answer.body.decode()
    except UnicodeDecodeError as error:
        raise FormatError(name, msg("it is not UTF-8"), offset=error.start) from error


def _signed(answer: Answer, member: str) -> tuple[str, bytes]:
    return split_signed_json(_text(answer, member), member)


def _crl(answer: Answer, name: str) -> bytes:
    crl = decode_crl(answer.body, name)
    if not crl:
        raise FormatError(name, msg("it is empty"))
    return crl


def _chain(answer: Answer, names: tuple[str, ...]) -> str:
    """Return the PEM chain of a header; PEM has line ends, so it is percent-encoded there."""
    encoded = next((answer.headers[name] for name in names if name in answer.headers), None)
    if encoded is None:
        raise FormatError(names[0], msg("the header is missing"))
    try:
        chain = unquote_to_bytes(encoded).decode("ascii")
    except UnicodeError as error:
        raise FormatError(names[0], msg("the header is not PEM certificates")) from error
    if len(chain) > MAX_CHAIN or not chain.startswith("-----BEGIN CERTIFICATE-----"):
        raise FormatError(names[0], msg("the header is not PEM certificates"))
    return chain


def _hex_header(answer: Answer, name: str, size: int) -> bytes | None:
    return hexadecimal(dict(answer.headers), name, "headers", size=size) if name in answer.headers else None


def _check(document: str, key: str, found: object, expected: object) -> None:
    if found != expected:
        raise BadAnswerError(
            msg(
                "the service's {document} is not the one asked for: its {key} is {found}, not {expected}",
                document=document,
                key=key,
                found=found,
                expected=expected,
            )
        )


def _check_tcb_info(text: str, tee: TeeType, fmspc: bytes, number: int | None) -> None:
    with _answer():
        info = parse_tcb_info(text)
    _check("tcbInfo", "id", info.tee_type.name, tee.name)
    _check("tcbInfo", "fmspc", info.fmspc.hex(), fmspc.hex())
    if number is not None:
        _check("tcbInfo", "tcbEvaluationDataNumber", info.tcb_evaluation_data_number, number)


def _check_identity(text: str, tee: TeeType, number: int | None) -> None:
    with _answer():
        identity = parse_enclave_identity(text)
    _check("enclaveIdentity", "id", str(identity.id), "TD_QE" if tee is TeeType.TDX else "QE")
    if number is not None:
        _check("enclaveIdentity", "tcbEvaluationDataNumber", identity.tcb_evaluation_data_number, number)


def _fmspc_entry(item: object) -> FmspcEntry:
    entry = as_object(item, "fmspcs")
    return FmspcEntry(hexadecimal(entry, "fmspc", "fmspcs", size=6), string(entry, "platform", "fmspcs"))


def _evaluation_number(item: object) -> TcbEvaluationDataNumber:
    name = "tcbEvalNumbers"
    entry = as_object(item, name)
    return TcbEvaluationDataNumber(
        integer(entry, "tcbEvaluationDataNumber", name, limit=0xFFFFFFFF),
        date(entry, "tcbRecoveryEventDate", name),
        date(entry, "tcbDate", name),
    )
