"""Finds the catalogue's signatures in logs of any size, in memory that does not grow with them.

A log is read in chunks of about 1 MiB that end at a line's end. One regular expression, a trie of one short literal
piece (*anchor*) of each signature, goes over the chunk; only where an anchor stands is the signature itself tried, on
the text around it. Anchors are chosen to begin with bytes that are rare in logs, which is what makes the search fast.

What logs come wrapped in is coped with: terminal escapes are taken out, bytes that are no UTF-8 are text like any
other, JSON strings (``journalctl -o json``, container logs) are read with their escapes, and a message that
journalctl wrote as an array of numbers as the bytes that it is. Prefixes (times, hosts, pods) need nothing, because
a signature is found anywhere in a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sgxkit.host.catalogue.entry import Entry
from sgxkit.host.catalogue.pattern import MAX_MATCH, MIN_ANCHOR, Pattern

CHUNK = 1 << 20
"""Bytes read at once."""

EXCERPT = 300
"""Characters of a line that are kept as evidence."""

KEPT = 3
"""Lines that are kept of one entry in one log: the first ones; the last is kept beside them."""

ENOUGH = 1000
"""Lines of one log that are counted of one entry: who has so many of them needs no exact number."""

_ANCHOR_LENGTH = 12
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\)|[()][A-Za-z0-9])"
)
_MESSAGE_OF_NUMBERS = re.compile(rb'("MESSAGE"\s?:\s?)\[([0-9, ]{1,200000})\]')
_JSON_ESCAPE = re.compile(rb'\\(?:u([0-9A-Fa-f]{4})|(["\\/bfnrt]))')
_PLAIN_ESCAPES = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b" ", b"f": b" ", b"n": b" ", b"r": b" ", b"t": b"\t"}

_LEARNING = 4 << 20
"""Bytes of a log after which the search is fitted to it: by then it is known which bytes are rare in it."""

_SAMPLE = 128 << 10
"""Bytes of a log by which it is fitted."""

# How common a byte is in logs, in parts per thousand, roughly; what is not listed is rare.
_COMMON = Counter(
    {
        **dict.fromkeys(b" eotnairs", 50),
        **dict.fromkeys(b"0123456789dlcup.:", 25),
        **dict.fromkeys(b"mh-/fgb[]=,", 15),
        **dict.fromkeys(b"vykw_()\"'STMDN", 6),
    }
)

# A piece with one of these hardly stands in a log that is not about SGX.
_TELLING = (b"sgx", b"GX", b"aesm", b"AESM", b"nclave", b"EPC", b"EPID", b"QCNL", b"QPL]", b"_QL_", b"BIOS", b"pccs")


class Stream(Protocol):
    """What a log is read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log: its number from 1, and its text, cut to `EXCERPT` around what was found."""

    source: str
    number: int
    text: str


@dataclass(slots=True)
class Finding:
    """Where an entry was recognised.

    count      lines of all logs; at least so many where it is not `complete`.
    complete   whether all lines were counted; of a log that repeats an entry `ENOUGH` times no more are.
    lines      those that are kept as evidence.
    """

    entry: Entry
    count: int = 0
    complete: bool = True
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class LogRead:
    """A log that was read: bytes and lines, and how many lines were recognised (at least, as in `Finding`)."""

    source: str
    size: int = 0
    lines: int = 0
    recognised: int = 0


class Recogniser:
    """Recognises the entries of a catalogue; `findings` grows with every log that is read."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.findings: dict[str, Finding] = {}
        self.logs: list[LogRead] = []
        self._search = _Search([(pattern, entry) for entry in entries for pattern in entry.patterns])

    def read(self, source: str, stream: Stream, progress: Callable[[int], object] = lambda _size: None) -> LogRead:
        """Read a log to its end; `progress` is told the bytes read since it was told last."""
        reading = _LogReading(source, self._search)
        held = b""
        while data := stream.read(CHUNK):
            progress(len(data))
            reading.log.size += len(data)
            data = held + data
            end = data.rfind(b"\n") + 1
            if not end:  # a line longer than a chunk goes on in pieces that overlap
                end = max(len(data) - MAX_MATCH, 0) if len(data) > CHUNK else 0
            reading.chunk(data[:end])
            held = data[end:]
        reading.chunk(held)
        reading.log.lines += bool(held)
        self.logs.append(reading.log)
        for name, hits in reading.hits.items():
            finding = self.findings.setdefault(name, Finding(hits.entry))
            finding.count += hits.count
            finding.complete = finding.complete and hits.count < ENOUGH
            finding.lines += hits.evidence(source)
        return reading.log


class _Search:
    """The search for the anchors of signatures, and the signatures of each anchor.

    `avoid` holds lines that stand in the log again and again: anchors are chosen that are not in them, if there are.
    `common` says how common each byte is, in parts per thousand.
    """

    def __init__(
        self,
        signatures: Sequence[tuple[Pattern, Entry]],
        avoid: Sequence[bytes] = (),
        common: Counter[int] = _COMMON,
    ) -> None:
        self.signatures = signatures
        self.avoid = avoid
        self.common = common
        self.of_anchor: dict[bytes, list[tuple[Pattern, Entry]]] = {}
        anchors = choose_anchors([pattern for pattern, _ in signatures], avoid, common)
        for anchor, signature in zip(anchors, signatures, strict=True):
            self.of_anchor.setdefault(anchor, []).append(signature)
        # Where one anchor begins with another, the shorter one is searched and stands for both.
        shortest = [anchor for anchor in self.of_anchor if not _has_prefix(anchor, self.of_anchor)]
        for anchor in list(self.of_anchor):
            for prefix in shortest:
                if anchor != prefix and anchor.startswith(prefix):
                    self.of_anchor[prefix] += self.of_anchor.pop(anchor)
                    break
        self.find = re.compile(_trie(shortest) if shortest else rb"(?!)").search


@dataclass(slots=True)
class _Hits:
    """Lines of one log in which one entry was recognised, the first and the last ones, as (number, window, span)."""

    entry: Entry
    count: int = 0
    number: int = 0
    first: list[tuple[int, bytes, tuple[int, int]]] = field(default_factory=list)
    last: tuple[int, bytes, tuple[int, int]] = (0, b"", (0, 0))

    def evidence(self, source: str) -> list[Line]:
        kept = self.first if self.count <= KEPT else [*self.first, self.last]
        return [Line(source, number, excerpt(window, *span)) for number, window, span in kept]


class _LogReading:
    """Goes through the chunks of one log."""

    def __init__(self, source: str, search: _Search) -> None:
        self.log = LogRead(source)
        self.hits: dict[str, _Hits] = {}
        self._search = search
        self._fitted = False
        self._visits: Counter[bytes] = Counter()
        self._recognised = 0  # number of the last line in which something was

    def chunk(self, chunk: bytes) -> None:
        """Search whole lines, or a piece of a line that is longer than a chunk."""
        chunk = unwrapped(chunk)
        if not self._fitted and self.log.size > _LEARNING:
            self._fitted = True
            self._search = self._fitting(chunk)
        counted = position = 0
        number = self.log.lines + 1
        while (hit := self._search.find(chunk, position)) is not None:
            anchor = hit[0]
            position = hit.start() + 1
            number += chunk.count(b"\n", counted, position)
            counted = position
            begin = max(chunk.rfind(b"\n", 0, position) + 1, position - MAX_MATCH)
            end = chunk.find(b"\n", position, position + MAX_MATCH)
            window = chunk[begin : end if end >= 0 else position + MAX_MATCH]
            self._visit(anchor, number, window)
            self._visits[anchor] += 1
            if self._visits[anchor] == ENOUGH:
                self._search = self._fitting(chunk, window)
        self.log.lines += chunk.count(b"\n")

    def _visit(self, anchor: bytes, number: int, window: bytes) -> None:
        for pattern, entry in self._search.of_anchor[anchor]:
            hits = self.hits.get(entry.id)
            if hits is not None and (hits.number == number or hits.count >= ENOUGH):
                continue
            match = pattern.regex.search(window)
            if match is None and b"\\" in window:
                window = without_json_escapes(window)
                match = pattern.regex.search(window)
            if match is not None:
                self._found(entry, number, window, match.span())

    def _found(self, entry: Entry, number: int, window: bytes, span: tuple[int, int]) -> None:
        hits = self.hits.get(entry.id)
        if hits is None:
            hits = self.hits[entry.id] = _Hits(entry)
        hits.count += 1
        hits.number = number
        hits.last = (number, window, span)
        if hits.count <= KEPT:
            hits.first.append(hits.last)
        if number != self._recognised:
            self.log.recognised += 1
            self._recognised = number

    def _fitting(self, chunk: bytes, *repeated: bytes) -> _Search:
        """A search that stops seldom in logs such as this, and no longer at a line which this log repeats."""
        wanted = [
            (pattern, entry)
            for pattern, entry in self._search.signatures
            if (hits := self.hits.get(entry.id)) is None or hits.count < ENOUGH
        ]
        middle = max(0, (len(chunk) - _SAMPLE) // 2)
        sample = chunk[middle : middle + _SAMPLE]
        common = Counter({byte: 1000 * count // len(sample) for byte, count in Counter(sample).items()})
        return _Search(wanted, (*self._search.avoid, *repeated), common)


def choose_anchors(
    patterns: Sequence[Pattern], avoid: Sequence[bytes] = (), common: Counter[int] = _COMMON
) -> list[bytes]:
    """For each signature the piece of its literal text that is searched for.

    The search stops at every byte that some anchor begins with, so few and rare first bytes are chosen for all of
    them together: always the one that serves most of the signatures still without one, for how common it is.
    """
    pieces = [_pieces_by_first_byte(pattern, avoid) for pattern in patterns]
    chosen: set[int] = set()
    missing = pieces
    while missing:
        serves = Counter(first for piece in missing for first in piece)
        best = max(serves, key=lambda first: (serves[first] / (1 + common[first]), first))
        chosen.add(best)
        missing = [piece for piece in missing if best not in piece]

    def cost(piece: bytes) -> tuple[float, bytes]:
        """How much time is lost at places in vain, roughly: at the piece's first bytes, and at the whole of it."""
        whole = 1 if any(word in piece for word in _TELLING) else 20
        return (common[piece[0]] * (1 + common[piece[1]] / 10) + whole) / len(piece), piece

    return [min((text for first in chosen & piece.keys() for text in piece[first]), key=cost) for piece in pieces]


def _pieces_by_first_byte(pattern: Pattern, avoid: Sequence[bytes]) -> dict[int, list[bytes]]:
    pieces = [
        literal[start : start + _ANCHOR_LENGTH]
        for literal in pattern.anchors
        for start in range(len(literal) - MIN_ANCHOR + 1)
    ]
    found: dict[int, list[bytes]] = {}
    for piece in [piece for piece in pieces if not any(piece in line for line in avoid)] or pieces:
        found.setdefault(piece[0], []).append(piece)
    return found


def unwrapped(chunk: bytes) -> bytes:
    """The chunk without terminal escapes, and with journalctl's arrays of numbers as the text that they are."""
    if b'"MESSAGE"' in chunk:
        chunk = _MESSAGE_OF_NUMBERS.sub(_as_text, chunk)
    if b"\x1b" in chunk:
        chunk = _ESCAPES.sub(b"", chunk)
    return chunk


def without_json_escapes(text: bytes) -> bytes:
    """The text with the escapes of JSON strings replaced by what they stand for; a line's end becomes a blank."""

    def plain(found: re.Match[bytes]) -> bytes:
        if found[2]:
            return _PLAIN_ESCAPES[found[2]]
        character = chr(int(found[1], 16))
        return b" " if character < " " else character.encode("utf-8", "replace")

    return _ESCAPES.sub(b"", _JSON_ESCAPE.sub(plain, text))


def excerpt(window: bytes, start: int, end: int) -> str:
    """The part of a line that is shown: from its begin where it fits, else around what was found."""
    begin = 0 if end <= EXCERPT else max(0, start - EXCERPT // 4)
    text = window[begin : begin + 4 * EXCERPT].decode("utf-8", "replace").rstrip()
    cut = "…" if len(text) > EXCERPT else ""
    return ("…" if begin else "") + text[:EXCERPT] + cut


def _as_text(found: re.Match[bytes]) -> bytes:
    numbers = [int(number) for number in found[2].replace(b" ", b"").split(b",") if number]
    text = bytes(number for number in numbers if number < 256).replace(b"\n", b" ")
    return found[1] + b'"' + text + b'"'


def _has_prefix(anchor: bytes, anchors: Iterable[bytes]) -> bool:
    return any(anchor != other and anchor.startswith(other) for other in anchors)


def _trie(words: Sequence[bytes]) -> bytes:
    """A regular expression for any of `words`, none of which begins with another, branching on single bytes."""
    groups: dict[bytes, list[bytes]] = {}
    for word in words:
        groups.setdefault(word[:1], []).append(word[1:])
    branches = list(_branches(groups))
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


def _branches(groups: dict[bytes, list[bytes]]) -> Iterator[bytes]:
    for first, rests in sorted(groups.items()):
        if len(rests) == 1:
            yield re.escape(first + rests[0])
        else:
            yield re.escape(first) + _trie(rests)
