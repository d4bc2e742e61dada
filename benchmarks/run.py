"""What a transition costs under `sgxkit run`, beside a fault that a program handles by itself.

No emulation that waits for the processor's #UD can be cheaper than two such faults, one for the exit and one for the
entry; by the vDSO there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONFORMANCE = Path(__file__).parent.parent / "tests" / "conformance"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make = ["make", "-s", "-C", str(CONFORMANCE), f"BUILD={folder}", f"PYTHON={sys.executable}", "CC=gcc"]
        try:
            subprocess.run([*make, f"{folder}/speed", f"{folder}/enclave.sigstruct"], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"not measured: gcc, make and objcopy are needed ({error})")
            return
        environment = {
            **os.environ,
            "CONFORMANCE_SIGSTRUCT": str(folder / "enclave.sigstruct"),
            "SGXKIT_STATE_DIR": str(folder / "state"),
        }
        limit = _measure([str(folder / "speed"), "signal"], environment)
        traced = [sys.executable, "-m", "sgxkit", "run", "--", str(folder / "speed")]
        print(f"a fault that the program handles, untraced   {limit:9.3f} us")
        for way in ("vdso", "enclu"):
            taken = _measure([*traced, way], environment)
            print(
                f"EENTER and EEXIT, {way:<5}                      {taken:9.3f} us   {taken / limit:8.2f} times that"
            )


def _measure(command: list[str], environment: dict[str, str]) -> float:
    """Microseconds a round, as the program says: the best of three."""
    return min(
        float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout) for _ in range(3)
    )
