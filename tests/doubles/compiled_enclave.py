"""The enclave of tests/enclaves, compiled by gcc, laid out and signed as Intel's sgx_sign does it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from doubles.enclaves import signing_key
from doubles.sdk_enclave import TEMPLATE, blank_sigstruct, entry, group, metadata, note, tcs_template
from sgxkit.emulator.fuses import Fuses
from sgxkit.emulator.platform import EmulatedPlatform
from sgxkit.enclave.elf import parse_elf
from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.sdk_elf import read_sdk_elf
from sgxkit.enclave.sdk_metadata import SECTION
from sgxkit.enclave.signing import sign, unsigned_sigstruct

SOURCES = Path(__file__).parents[1] / "enclaves"
EDL = SOURCES / "calls.edl"
THREADS = 3
_FLAGS = [
    *("-O1", "-fPIC", "-shared", "-nostdlib", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"),
    *(
        "-fvisibility=hidden",
        "-fcf-protection=none",
        "-mno-avx",
        "-mfsgsbase",
        "-fno-optimize-sibling-calls",
        "-fasynchronous-unwind-tables",
    ),
    *("-Wall", "-Wextra", "-Werror", "-Wl,-z,noexecstack,-z,norelro,-z,max-page-size=4096,--build-id=none"),
    "-Wl,-e,enclave_entry,--no-undefined",
]
_STACK, _TCS, _SSA, _DATA = 0x1_0000, 0x2_1000, 0x2_2000, 0x2_4000
_STEP = 0x2_0000


def platform(**options: object) -> EmulatedPlatform:
    """A processor that launches whatever is signed."""
    return EmulatedPlatform.of(Fuses.from_seed(b"calls"), **options)  # type: ignore[arg-type]


def compiled_enclave(folder: Path, *, bound: bool = False, stripped: bool = False) -> Path:
    """The path of the signed enclave, which is written into `folder`; skips the test where there is no gcc."""
    path = folder / "calls.signed.so"
    path.write_bytes(_signed(bound=bound, stripped=stripped))
    return path


@cache
def _signed(*, bound: bool, stripped: bool) -> bytes:
    image = _compiled(stripped=stripped)
    unsigned = _with_metadata(image, bound=bound)
    measured = mrenclave(read_sdk_elf(unsigned, edmm=False))
    sigstruct = sign(unsigned_sigstruct(measured, like=blank_sigstruct()), signing_key())
    return _with_metadata(image, bound=bound, sigstruct=sigstruct)


@cache
def _compiled(*, stripped: bool) -> bytes:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    sources = [SOURCES / name for name in ("entry.S", "runtime.c", "calls.c")]
    options = [*_FLAGS, "-s"] if stripped else _FLAGS
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "calls.so"
        subprocess.run([gcc, *options, "-o", output, *sources], check=True)
        return output.read_bytes()


def _with_metadata(image: bytes, **changes: object) -> bytes:
    elf = parse_elf(image)
    (oentry,) = struct.unpack_from("<Q", image, 24)
    layout = b"".join(
        (
            entry(8, 3, 16, _STACK, (0xCCCCCCCC, 0)),
            entry(10, 0, 1, _STACK + 0x1_0000, flags=0),
            entry(4, 3, 1, _TCS, TEMPLATE, flags=0x100),
            entry(6, 3, 2, _SSA),
            entry(5, 3, 1, _DATA),
            group(5, THREADS - 1, _STEP),
        )
    )
    policy = 0 if changes.pop("bound") else 1
    template = tcs_template(oentry=oentry, ofsbase=0x3000, ogsbase=0x3000)
    content = note(metadata(layout=layout, tcs=template, policy=policy, **changes))  # type: ignore[arg-type]
    section = next(one for one in elf.sections if one.name == SECTION)
    assert len(content) <= section.size
    whole = bytearray(image)
    whole[section.offset : section.offset + len(content)] = content
    return bytes(whole)
