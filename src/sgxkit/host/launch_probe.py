"""The launch test itself: the sample enclave through this host's driver, in debug and in production mode.

`python -m sgxkit.host.launch_probe` tries both and prints one JSON document; `launch_test` runs that.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from sgxkit.driver.platform import KernelPlatform
from sgxkit.driver.problems import DriverError
from sgxkit.enclave.platform import Platform
from sgxkit.errors import SgxkitError
from sgxkit.host.facts import Launch
from sgxkit.isa.status import SgxError
from sgxkit.sample.calls import SampleEnclave
from sgxkit.sample.images import Sample

_NUMBERS = (20, 22)


def launch(platform: Platform, *, debug: bool) -> Launch:
    """Launch the sample enclave, and call it."""
    sample = Sample.SAMPLE
    try:
        with platform.load(sample.image, sample.sigstruct, debug=debug) as enclave:
            answer = SampleEnclave(enclave).add(_NUMBERS)
    except DriverError as error:
        if error.step == "open" and error.errno is None:
            return Launch("no_device", str(error))
        return Launch("failed", str(error), error.step, error.errno)
    except SgxError as error:
        return Launch("failed", str(error), error.leaf.name, None, int(error.status))
    except SgxkitError as error:
        return Launch("failed", str(error), "ECALL")
    if answer != sum(_NUMBERS):
        return Launch("failed", f"the enclave added wrongly: {answer}", "ECALL")
    return Launch("launched", "the sample enclave was launched and called")


def main() -> None:
    """Try both modes, and print what came of it."""
    platform = KernelPlatform()
    found = {mode: asdict(launch(platform, debug=debug)) for mode, debug in (("debug", True), ("production", False))}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
