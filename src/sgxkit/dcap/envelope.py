"""Find quotes in what people have: files of all kinds in which programs put them.

Everything is recognised by its content, never by a file's name. An opener takes one kind of envelope apart; what
comes out is opened again, to a bounded depth and number. The forms are listed in docs/quotes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sgxkit.dcap.encodings import open_base64, open_hex, open_pem
from sgxkit.dcap.found_quote import Envelope, FoundQuote, Layer, Search
from sgxkit.dcap.json_envelope import open_json, open_jwt
from sgxkit.dcap.open_enclave import open_evidence, open_report
from sgxkit.dcap.quote_shape import is_quote, reportdata_of
from sgxkit.dcap.ratls import open_certificate
from sgxkit.dcap.tagged_evidence import open_tagged_evidence
from sgxkit.dcap.tdx_messages import open_qgs_response, open_quote_buffer
from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAX_INPUT_SIZE = 1 << 20
"""Bytes."""
MAX_NESTING = 4
"""Envelopes and encodings around a quote: base64 of PEM of a certificate with an extension has three."""
MAX_OPENED = 256
"""Pieces looked into, in one input."""
MAX_QUOTES = 8

Opener = Callable[[bytes], Iterable[Layer]]

# Binary forms first: each has a beginning of its own. Hex before base64, because all hex is base64 as well.
_OPENERS: tuple[Opener, ...] = (
    open_report,
    open_evidence,
    open_quote_buffer,
    open_qgs_response,
    open_certificate,
    open_tagged_evidence,
    open_pem,
    open_json,
    open_jwt,
    open_hex,
    open_base64,
)
_FORMS = (
    "quote, Open Enclave report and evidence, TDX quote buffer, QGS message, X.509 certificate, tagged evidence, "
    "PEM, JSON, JWT, hex, base64"
)
_WEAK = (Envelope.JSON, Envelope.JWT)


@dataclass(slots=True)
class _Progress:
    """What one search has found and done so far."""

    quotes: list[FoundQuote] = field(default_factory=list)
    problems: list[FormatError] = field(default_factory=list)
    opened: int = 0
    too_deep: bool = False
    full: bool = False

    def stop(self, problem: FormatError) -> None:
        self.full = True
        self.problems.append(problem)


def find_quotes(data: bytes) -> tuple[FoundQuote, ...]:
    """Find every quote in `data` (at most 1 MiB), at least one, in the order in which they stand.

    Quotes are recognised by how they begin: a found quote may still be one that `parse_quote` refuses, with a reason,
    and EPID quotes are found too. Raises FormatError where there is none (saying what was looked for), where an
    envelope that should carry one is not well formed, and beyond the limits above.
    """
    found = search_quotes(data)
    if found.problems:
        raise found.problems[0]
    return found.quotes


def search_quotes(data: bytes) -> Search:
    """Like `find_quotes`, but gives what could be found together with what is wrong, for looking at; never raises."""
    if len(data) > MAX_INPUT_SIZE:
        problem = FormatError(
            "input", msg("{size} bytes, at most {limit} are read", size=len(data), limit=MAX_INPUT_SIZE)
        )
        return Search((), (problem,))
    progress = _Progress()
    _look(data, (), progress)
    if not progress.quotes and not progress.problems:
        if progress.too_deep:
            problem = FormatError("input", msg("no quote found within {limit} envelopes", limit=MAX_NESTING))
        else:
            problem = FormatError(
                "input",
                msg("no quote found in its {size} bytes; looked for: {forms}", size=len(data), forms=_FORMS),
                hint=msg("what is understood is listed in docs/quotes.md"),
            )
        progress.problems.append(problem)
    return Search(tuple(progress.quotes), tuple(progress.problems))


def _look(content: bytes, layers: tuple[Layer, ...], progress: _Progress) -> None:
    """Add the quotes in `content`, which was found inside `layers`, to `progress`."""
    if progress.opened == MAX_OPENED:
        progress.stop(FormatError("input", msg("more than {limit} pieces to look into", limit=MAX_OPENED)))
        return
    progress.opened += 1
    if is_quote(content):
        if len(progress.quotes) == MAX_QUOTES:
            progress.stop(FormatError("input", msg("more than {limit} quotes", limit=MAX_QUOTES)))
            return
        progress.quotes.append(_found(content, layers))
        return
    before = len(progress.quotes)
    for opener in _OPENERS:
        try:
            for layer in opener(content):
                if len(layers) == MAX_NESTING:
                    progress.too_deep = True
                    return
                _look(layer.content, (*layers, layer), progress)
                if progress.full:
                    return
        except FormatError as problem:
            progress.problems.append(_placed(problem, layers))
            return
        if len(progress.quotes) > before:
            return


def _placed(problem: FormatError, layers: tuple[Layer, ...]) -> FormatError:
    """The same problem under a name that says where it was met; its offset counts within that."""
    if not layers:
        return problem
    path = " > ".join(layer.name for layer in layers)
    return FormatError(f"{path} > {problem.field}", problem.problem, offset=problem.offset, hint=problem.hint)


def _found(data: bytes, layers: tuple[Layer, ...]) -> FoundQuote:
    envelopes = [layer.envelope for layer in layers if layer.envelope is not None]
    telling = [envelope for envelope in envelopes if envelope not in _WEAK]
    reportdata = reportdata_of(data) or b""
    return FoundQuote(
        data=data,
        path=tuple(layer.name for layer in layers),
        envelope=next(iter(telling or envelopes), Envelope.NONE),
        bindings=tuple(bind(reportdata) for layer in layers for bind in layer.bind),
        details=tuple(detail for layer in layers for detail in layer.details),
    )
