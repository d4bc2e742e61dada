"""Run the benchmarks: all of them, or those named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "tests"))  # the platforms made for tests are what is measured

INFRASTRUCTURE = {"__init__", "__main__", "timing"}


def main() -> None:
    known = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in INFRASTRUCTURE)
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"no benchmark {name}; there are: {', '.join(known)}")
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
        print()


if __name__ == "__main__":
    main()
