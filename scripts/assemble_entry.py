"""Assemble the driver's way into enclaves: needs GNU as and objcopy for x86-64."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

DRIVER = Path(__file__).resolve().parent.parent / "src/sgxkit/driver"


def assemble(source: Path = DRIVER / "entry.s") -> bytes:
    """Return the code of an assembly source."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "code.o"
        subprocess.run(["as", "--64", "-o", target, source], check=True, capture_output=True)
        code = target.with_suffix(".code")
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", target, code], check=True, capture_output=True)
        return code.read_bytes()


if __name__ == "__main__":
    (DRIVER / "entry.code").write_bytes(assemble())
