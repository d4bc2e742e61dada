"""Assemble and sign the sample enclaves: needs GNU as and objcopy for x86-64, and the development environment.

Every run makes new authors: the signing keys are used here and never written. So run it only when sample.s changed.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.enclave.measure import mrenclave
from sgxkit.enclave.signing import generate_key, sign, unsigned_sigstruct
from sgxkit.isa.attributes import AttributeFlags
from sgxkit.sample.images import ATTRIBUTES, ISVPRODID, image_of

SAMPLE = Path(__file__).resolve().parent.parent / "src/sgxkit/sample"


def assemble(version: int) -> bytes:
    """Return the code of one version."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sample.o"
        command = ["as", "--64", "--defsym", f"VERSION={version}", "-o", target, SAMPLE / "sample.s"]
        subprocess.run(command, check=True, capture_output=True)
        code = target.with_suffix(".code")
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", target, code], check=True, capture_output=True)
        return code.read_bytes()


def main() -> None:
    author, other = generate_key(), generate_key()
    for version in (1, 2):
        code = assemble(version)
        (SAMPLE / f"version-{version}.code").write_bytes(code)
        blank = unsigned_sigstruct(mrenclave(image_of(code)), on=datetime.now(UTC).date())
        mask = replace(blank.attributemask, flags=blank.attributemask.flags & ~AttributeFlags.DEBUG)
        sigstruct = replace(blank, attributes=ATTRIBUTES, attributemask=mask, isvprodid=ISVPRODID, isvsvn=version)
        (SAMPLE / f"version-{version}.sigstruct").write_bytes(sign(sigstruct, author).to_bytes())
        if version == 1:
            (SAMPLE / "version-1-other-author.sigstruct").write_bytes(sign(sigstruct, other).to_bytes())


if __name__ == "__main__":
    main()
