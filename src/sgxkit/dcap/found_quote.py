"""A quote found inside something else, and what that something says the quote binds.

An enclave binds other data (a public key, a nonce, claims) to its quote by putting their hash into REPORTDATA. What
carries the quote carries that data too, so whoever opens the envelope can compare. The comparison is only worth what
the quote is worth: it proves nothing until the quote is verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sgxkit.errors import FormatError


class Envelope(StrEnum):
    """What carried a quote, encodings such as hex, base64 and PEM aside."""

    NONE = "none"
    JSON = "json"
    JWT = "jwt"
    RA_TLS = "ra-tls"
    TAGGED_EVIDENCE = "tagged-evidence"
    OPEN_ENCLAVE_CERTIFICATE = "open-enclave-certificate"
    OPEN_ENCLAVE_REPORT = "open-enclave-report"
    OPEN_ENCLAVE_EVIDENCE = "open-enclave-evidence"
    AZURE_REQUEST = "azure-request"
    IAS_REPORT = "ias-report"
    IAS_CERTIFICATE = "ias-certificate"
    QGS_RESPONSE = "qgs-response"
    TDX_QUOTE_BUFFER = "tdx-quote-buffer"


class Bound(StrEnum):
    """What an envelope says is bound to the quote."""

    PUBLIC_KEY = "public-key"
    CLAIMS = "claims"
    RUNTIME_DATA = "runtime-data"
    ENCLAVE_HELD_DATA = "enclave-held-data"


@dataclass(frozen=True, slots=True)
class Binding:
    """One comparison: `expected` was computed over `content`, `present` stands at `place`.

    `algorithm` is how `expected` was computed: ``sha256``, ``sha384``, ``sha512``, or ``none`` for the content
    itself. `expected` is None where the envelope does not have what should be bound (tagged evidence without its
    certificate), `present` where the place that should carry the hash is absent.
    """

    bound: Bound
    content: str
    place: str
    algorithm: str
    expected: bytes | None
    present: bytes | None

    @property
    def holds(self) -> bool:
        """Whether the two agree; an absent one never does."""
        return self.expected is not None and self.expected == self.present


Bind = Callable[[bytes], Binding]
"""Makes a binding of REPORTDATA: 64 bytes, or none where the quote ends before them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing taken out of another: its name in the path, its bytes, and what the outer one says about it."""

    name: str
    content: bytes
    envelope: Envelope | None = None
    bind: tuple[Bind, ...] = ()
    details: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class FoundQuote:
    """A quote's bytes, with padding if there was any, and where they were: `path` from the outermost layer inwards.

    `envelope` is the outermost one that says something about the quote, or else the JSON or JWT it was in; `bindings`
    and `details` (fields by name) are those of all layers.
    """

    data: bytes
    path: tuple[str, ...]
    envelope: Envelope
    bindings: tuple[Binding, ...]
    details: tuple[tuple[str, str | int], ...]

    @property
    def where(self) -> str:
        """The path in one line."""
        return " > ".join(self.path) or "the input itself"


@dataclass(frozen=True, slots=True)
class Search:
    """All that a search found, and what it recognised but could not read (which never is nothing to worry about)."""

    quotes: tuple[FoundQuote, ...]
    problems: tuple[FormatError, ...]


def binds_hash(bound: Bound, content: str, data: bytes, algorithm: str) -> Bind:
    """REPORTDATA must begin with the hash of `data`; what it leaves of the 64 bytes is the enclave's to use."""

    def bind(reportdata: bytes) -> Binding:
        digest = hashlib.new(algorithm, data).digest()
        place = f"REPORTDATA[0:{len(digest)}]"
        return Binding(bound, content, place, algorithm, digest, reportdata[: len(digest)] or None)

    return bind


def binds_sha256(bound: Bound, content: str, data: bytes) -> Bind:
    """REPORTDATA must begin with the SHA-256 of `data`."""
    return binds_hash(bound, content, data, "sha256")


def binds_either(*binds: Bind) -> Bind:
    """Where programs differ in what they hash: the one that agrees, else the first."""

    def bind(reportdata: bytes) -> Binding:
        made = [one(reportdata) for one in binds]
        return next((binding for binding in made if binding.holds), made[0])

    return bind
