"""An image's pages as regions: what is alike and adjacent together, for a table or a picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from xml.sax.saxutils import escape

from sgxkit.enclave.image import ALL_CHUNKS, EnclaveImage
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo

Measured = Literal["all", "part", "none"]

MAX_ROWS = 400
"""A picture with more rows is no longer looked at."""

_ROW, _WIDTH, _LEFT = 22, 760, 150
_COLOURS = {
    PageFlags.R | PageFlags.X: "#9ecae1",
    PageFlags.RWX: "#fc9272",
    PageFlags.RW: "#c7e9c0",
    PageFlags.R: "#fee391",
    PageFlags(0): "#dadaeb",
}


@dataclass(frozen=True, slots=True)
class Region:
    """Adjacent pages with the same SECINFO and name that are measured alike."""

    offset: int
    pages: int
    secinfo: SecInfo
    measured: Measured
    name: str

    @property
    def end(self) -> int:
        return self.offset + self.pages * PAGE_SIZE

    @property
    def kind(self) -> str:
        """Type and permissions: ``REG rw-``."""
        flags = self.secinfo.flags
        permissions = "".join(
            letter if flags & flag else "-"
            for letter, flag in (("r", PageFlags.R), ("w", PageFlags.W), ("x", PageFlags.X))
        )
        return f"{PageType(self.secinfo.page_type).name} {permissions}"


def regions(image: EnclaveImage) -> list[Region]:
    """List an image's regions in the order of their EADD."""
    found: list[Region] = []
    for run in image.runs:
        measured: Measured = "all" if run.measured == ALL_CHUNKS else "part" if run.measured else "none"
        new = Region(run.offset, run.count, run.secinfo, measured, run.name)
        last = found[-1] if found else None
        if last is not None and last.end == new.offset and replace(new, offset=last.offset, pages=last.pages) == last:
            found[-1] = replace(last, pages=last.pages + new.pages)
        else:
            found.append(new)
    return found


def memory_map(size: int, found: list[Region], title: str) -> str:
    """Draw regions, lowest first, and the holes between them, as an SVG picture: a row each, whatever its size."""
    rows: list[str] = []
    at = 0
    ordered = sorted(found, key=lambda region: region.offset)
    for region in ordered[:MAX_ROWS]:
        if region.offset > at:
            rows.append(_row(len(rows), at, region.offset))
        colour = _COLOURS.get(region.secinfo.permissions, "#dddddd")
        note = {"all": "measured", "part": "measured in part", "none": "not measured"}[region.measured]
        rows.append(
            _row(len(rows), region.offset, region.end, colour=colour, label=f"{region.kind} {region.name}", note=note)
        )
        at = region.end
    left = len(ordered) - MAX_ROWS
    if left > 0:
        rows.append(_row(len(rows), at, size, label=f"{left} more regions"))
    elif at < size:
        rows.append(_row(len(rows), at, size))
    height = (len(rows) + 2) * _ROW
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="12">',
            f'<text x="4" y="15">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        )
    )


def _row(number: int, begin: int, end: int, *, colour: str = "#ffffff", label: str = "", note: str = "") -> str:
    y = (number + 1) * _ROW
    text = y + 15
    return (
        f'<text x="4" y="{text}">{begin:#x}</text>'
        f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - 4}" height="{_ROW}" fill="{colour}" stroke="#555555"/>'
        f'<text x="{_LEFT + 8}" y="{text}">{escape(label)}</text>'
        f'<text x="{_WIDTH - 150}" y="{text}" text-anchor="end">{escape(note)}</text>'
        f'<text x="{_WIDTH - 12}" y="{text}" text-anchor="end">{_size(end - begin)}</text>'
    )


def _size(size: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20)):
        if size >= 1 << shift and not size % (1 << shift):
            return f"{size >> shift} {unit}"
    return f"{size >> 10} KiB"
