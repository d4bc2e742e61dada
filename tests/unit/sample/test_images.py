"""The sample enclaves that ship: what their source says, and signed as they must be."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sgxkit.enclave.measure import mrenclave
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.isa.page import PAGE_SIZE
from sgxkit.sample.images import ATTRIBUTES, Sample

ROOT = Path(__file__).parents[3]


def maker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("maker", ROOT / "scripts" / "make_sample_enclaves.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("as") is None or shutil.which("objcopy") is None, reason="binutils is not here")
@pytest.mark.skipif(sys.platform != "linux", reason="another assembler")
@pytest.mark.parametrize("version", [1, 2])
def test_the_code_is_what_its_source_says(version: int) -> None:
    try:
        code = maker().assemble(version)
    except subprocess.CalledProcessError as error:
        if b"unrecognized option" in error.stderr:
            pytest.skip("this assembler is not for x86-64")
        raise
    assert code == (ROOT / f"src/sgxkit/sample/version-{version}.code").read_bytes()
    assert len(code) <= PAGE_SIZE


@pytest.mark.parametrize("sample", Sample)
def test_the_signature_is_for_the_image(sample: Sample) -> None:
    sigstruct = sample.sigstruct
    assert sigstruct.signature_holds
    assert sigstruct.quotients_hold
    assert sigstruct.enclavehash == mrenclave(sample.image)
    assert sigstruct.attributes == ATTRIBUTES
    assert not sigstruct.attributemask.flags & AttributeFlags.DEBUG, "a loader may choose debug mode"


def test_who_differs_from_whom() -> None:
    sample, following, other = (one.sigstruct for one in (Sample.SAMPLE, Sample.NEXT, Sample.OTHER_AUTHOR))
    assert sample.mrsigner == following.mrsigner != other.mrsigner
    assert sample.enclavehash == other.enclavehash != following.enclavehash
    assert sample.isvsvn < following.isvsvn
