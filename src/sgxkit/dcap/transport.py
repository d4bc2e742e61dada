"""One HTTP question to a collateral service, which may be slow, busy, gone or not what it says it is.

Nothing here knows what is asked. Every wait has a limit, every answer has a size limit while it is read, redirects
are not followed, compressed answers are not opened, and a failure worth another try is tried again with growing,
scattered delays. What goes wrong comes out as one of the `CollateralError` types below, all of which mean that
verification cannot tell, not that a quote is refused.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sgxkit import __version__
from sgxkit.dcap.collateral import CollateralError
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Note = Callable[[Message], None]
"""Told what a waiting reader would want to know: that a question is asked again, and why."""


class NotFoundError(CollateralError):
    """The service knows no such FMSPC, evaluation number or platform (404, PCCS 461 and 462)."""

    code: ClassVar[str] = "collateral-not-found"


class RetiredError(CollateralError):
    """The service no longer offers this evaluation number or API version (410)."""

    code: ClassVar[str] = "collateral-retired"


class UnauthorizedError(CollateralError):
    """The service wants a key or token that it was not given (401, 403)."""

    code: ClassVar[str] = "collateral-unauthorized"


class ThrottledError(CollateralError):
    """The service asks to be left alone for longer than we wait (429)."""

    code: ClassVar[str] = "collateral-throttled"


class UnreachableError(CollateralError):
    """No answer, however often asked: no connection, no time left, or only 5xx."""

    code: ClassVar[str] = "collateral-unreachable"


class UntrustedServiceError(CollateralError):
    """The service's TLS certificate is not issued by an authority that is trusted here."""

    code: ClassVar[str] = "collateral-untrusted-service"


class BadAnswerError(CollateralError):
    """The service answered something other than what was asked for: malformed, too long, a redirect."""

    code: ClassVar[str] = "collateral-bad-answer"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to ask; all times in seconds.

    `total` bounds everything that one call asks, retries and delays included. Between attempts the delay grows from
    `first_delay`, doubling up to `longest_delay`, of which a random part between half and all is waited. A service's
    Retry-After is followed up to `longest_retry_after`.
    """

    connect: float = 10.0
    read: float = 20.0
    total: float = 60.0
    attempts: int = 4
    first_delay: float = 0.5
    longest_delay: float = 8.0
    longest_retry_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Trust:
    """Which TLS certificates of a service are believed: by default those of the public authorities.

    `ca_file` names a PEM file of authorities (or the service's own self-signed certificate) to be believed instead;
    `insecure` believes any. Collateral is signed by Intel either way; what an impostor can do is withhold, or hand
    out older collateral that is still in force, or read which platforms are asked about.
    """

    ca_file: Path | None = None
    insecure: bool = False


DEFAULT_PATIENCE = Patience()
PUBLIC_AUTHORITIES = Trust()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered: header values by lower-case name, and the body."""

    headers: Mapping[str, str]
    body: bytes


def log_note(message: Message) -> None:
    """Write to the log ``sgxkit.dcap``; the `Note` where a caller gives none."""
    logging.getLogger("sgxkit.dcap").info("%s", message)


def run(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end from synchronous code, whether or not this thread already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only inside asynchronous programs

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: asyncio.run(coroutine())).result()


def _tls_context(trust: Trust) -> ssl.SSLContext:
    import httpx  # noqa: PLC0415 - not needed where a bundle is given

    if trust.ca_file is not None and trust.insecure:
        raise InputError(msg("a CA file and `insecure` exclude each other"))
    if trust.ca_file is not None:
        try:
            return ssl.create_default_context(cafile=trust.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(
                msg("{path} cannot be used as CA file: {reason}", path=trust.ca_file, reason=error),
                hint=msg("it must be a readable file of PEM certificates"),
            ) from error
    context = httpx.create_ssl_context()
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def open_client(trust: Trust, patience: Patience) -> AsyncIterator[httpx.AsyncClient]:
    """Open connections for one call; HTTP(S)_PROXY, NO_PROXY and SSL_CERT_FILE are honoured.

    Raises `UnreachableError` when the block does not end within `patience.total`.
    """
    import httpx  # noqa: PLC0415 - not needed where a bundle is given

    timeout = httpx.Timeout(patience.read, connect=patience.connect, pool=patience.total)
    headers = {"User-Agent": f"sgxkit/{__version__}", "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(patience.total),
            httpx.AsyncClient(verify=_tls_context(trust), timeout=timeout, headers=headers) as client,
        ):
            yield client
    except TimeoutError as error:
        raise UnreachableError(
            msg("no complete answer within {seconds} seconds", seconds=f"{patience.total:g}"),
            hint=msg("try again later, or judge by a bundle (`sgxkit quote verify --collateral FILE`)"),
        ) from error


async def get(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    limit: int,
    patience: Patience,
    note: Note,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """GET `url` and return the answer, of at most `limit` bytes; asks again where that may help."""
    attempt = 1
    while True:
        outcome = await _attempt(client, url, headers or {}, limit)
        if isinstance(outcome, Answer):
            return outcome
        wanted = outcome.retry_after
        if wanted is None or wanted > patience.longest_retry_after or attempt == patience.attempts:
            raise outcome.error
        attempt += 1
        delay = min(patience.first_delay * 2 ** (attempt - 2), patience.longest_delay)
        delay = max(wanted, delay * random.uniform(0.5, 1.0))  # noqa: S311 - scatters clients, keeps no secret
        note(
            msg(
                "{problem}; asking again in {seconds} s ({attempt} of {attempts})",
                problem=outcome.error.message,
                seconds=f"{delay:.1f}",
                attempt=attempt,
                attempts=patience.attempts,
            )
        )
        await asyncio.sleep(delay)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed attempt; `retry_after` is the least delay in seconds before the next, None where none is of use."""

    error: CollateralError
    retry_after: float | None = None


async def _attempt(
    client: httpx.AsyncClient, url: httpx.URL, headers: Mapping[str, str], limit: int
) -> Answer | _Failure:
    """Ask once."""
    import httpx  # noqa: PLC0415 - not needed where a bundle is given

    where = _where(url)
    try:
        async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
            if response.status_code != httpx.codes.OK:
                return _problem(response, where)
            encoding = response.headers.get("content-encoding", "identity")
            if encoding != "identity":
                return _Failure(
                    BadAnswerError(
                        msg("{where} answered in the encoding {encoding}", where=where, encoding=_quote(encoding))
                    )
                )
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    return _Failure(
                        BadAnswerError(msg("{where} answered more than {limit} bytes", where=where, limit=limit))
                    )
            return Answer(dict(response.headers), bytes(body))
    except httpx.TimeoutException as error:
        return _Failure(
            UnreachableError(
                msg("{where} does not answer ({reason})", where=where, reason=type(error).__name__),
                hint=_UNREACHABLE_HINT,
            ),
            0.0,
        )
    except httpx.TransportError as error:
        if _is_untrusted(error):
            return _Failure(
                UntrustedServiceError(
                    msg("{where} is not trusted: {reason}", where=where, reason=_quote(str(error))),
                    hint=msg("a PCCS with its own certificate needs `--ca-file FILE`; `--insecure` believes any"),
                )
            )
        return _Failure(
            UnreachableError(
                msg(
                    "{where} cannot be reached: {reason}",
                    where=where,
                    reason=_quote(str(error) or type(error).__name__),
                ),
                hint=_UNREACHABLE_HINT,
            ),
            0.0,
        )


_UNREACHABLE_HINT = msg("see that the address and the proxy settings (HTTPS_PROXY, NO_PROXY) are right")


def _where(url: httpx.URL) -> str:
    # Without the query: an encrypted PPID tells machines apart and is of no help to the reader.
    return str(url.copy_with(query=None))


def _quote(text: str) -> str:
    """Return text from outside as printable ASCII of bounded length."""
    return json.dumps(text[:200])


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that the service asks to wait, 0 where it does not say (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _problem(response: httpx.Response, where: str) -> _Failure:
    status = response.status_code
    said = " ".join(response.headers[name] for name in ("error-code", "error-message") if name in response.headers)
    problem = (
        msg("{where} answered {status} ({said})", where=where, status=status, said=_quote(said))
        if said
        else msg("{where} answered {status}", where=where, status=status)
    )
    match status:
        case 404:
            return _Failure(
                NotFoundError(problem, hint=msg("it has no collateral for this: see FMSPC, CA and evaluation number"))
            )
        case 410:
            return _Failure(
                RetiredError(
                    problem, hint=msg("this evaluation number or API version has ended: ask without it, or for v4")
                )
            )
        case 401 | 403:
            return _Failure(
                UnauthorizedError(
                    problem, hint=msg("it wants a key: Intel's PCS a subscription key for PCK certificates")
                )
            )
        case 429:
            seconds = _retry_after(response)
            return _Failure(
                ThrottledError(
                    problem,
                    hint=msg("it asks to wait {seconds} s; a PCCS spares Intel's limit", seconds=f"{seconds:.0f}"),
                ),
                seconds,
            )
        case 460:
            return _Failure(
                BadAnswerError(
                    problem, hint=msg("PCCS: its cached data failed an integrity check; have it refreshed")
                )
            )
        case 461:
            return _Failure(
                NotFoundError(
                    problem, hint=msg("PCCS: the platform is not registered with it; see PCKIDRetrievalTool")
                )
            )
        case 462:
            return _Failure(
                NotFoundError(
                    problem, hint=msg("PCCS: Intel has no PCK certificates for some TCB levels of the platform")
                )
            )
        case 500 | 502 | 503 | 504:
            return _Failure(
                UnreachableError(problem, hint=msg("the service has trouble of its own; try later")),
                _retry_after(response),
            )
        case _ if 300 <= status < 400:
            to = _quote(response.headers.get("location", ""))
            return _Failure(
                BadAnswerError(
                    msg("{where} redirects to {to}; redirects are not followed", where=where, to=to),
                    hint=msg("name the service by its final address"),
                )
            )
        case _:
            return _Failure(BadAnswerError(problem, hint=msg("see that the address is that of a PCS or PCCS")))
