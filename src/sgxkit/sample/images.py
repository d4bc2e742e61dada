"""The sample enclave's images and signatures, which ship with the package.

`sample.s` is the source. Two versions differ by a byte, so that there are two enclaves by one author; the first is
also signed by another author. The signing keys were thrown away: nobody can sign something else as their owner.
`scripts/make_sample_enclaves.py` made these files.
"""

from __future__ import annotations

from enum import Enum
from importlib.resources import files

from sgxkit.enclave.image import EnclaveImage, PageRun
from sgxkit.isa.attributes import AttributeFlags, Attributes
from sgxkit.isa.page import PAGE_SIZE, PageFlags, PageType, SecInfo
from sgxkit.isa.sigstruct import Sigstruct
from sgxkit.isa.tcs import Tcs

ATTRIBUTES = Attributes(AttributeFlags.MODE64BIT, 3)
"""64-bit code that uses x87 and SSE state only; DEBUG is the loader's choice."""

ISVPRODID = 1
_SIZE = 0x8000
_SSA, _DATA, _CODE = 0x1000, 0x2000, 0x4000


class Sample(Enum):
    """One of the signed enclaves; the value is code and signature, by the names of their files.

    SAMPLE           version 1.
    NEXT             version 2, by the same author, with a higher ISVSVN.
    OTHER_AUTHOR     version 1 again, signed by somebody else.
    """

    SAMPLE = ("version-1", "version-1")
    NEXT = ("version-2", "version-2")
    OTHER_AUTHOR = ("version-1", "version-1-other-author")

    @property
    def image(self) -> EnclaveImage:
        return image_of(_file(f"{self.value[0]}.code"))

    @property
    def sigstruct(self) -> Sigstruct:
        return Sigstruct.from_bytes(_file(f"{self.value[1]}.sigstruct"))


def image_of(code: bytes) -> EnclaveImage:
    """Lay out the enclave around its code, one page: a TCS, one SSA frame, two pages of data and stack."""
    tcs = Tcs(ossa=_SSA, nssa=1, oentry=_CODE).to_bytes()
    writable = SecInfo(PageFlags.RW, PageType.REG)
    return EnclaveImage(
        size=_SIZE,
        ssaframesize=1,
        attributes=ATTRIBUTES,
        runs=(
            PageRun(0, 1, SecInfo(PageFlags(0), PageType.TCS), data=tcs, name="TCS"),
            PageRun(_SSA, 1, writable, name="SSA"),
            PageRun(_DATA, 2, writable, name="data"),
            PageRun(_CODE, 1, SecInfo(PageFlags.RX, PageType.REG), data=code.ljust(PAGE_SIZE, b"\0"), name="code"),
        ),
    )


def _file(name: str) -> bytes:
    return files("sgxkit.sample").joinpath(name).read_bytes()
