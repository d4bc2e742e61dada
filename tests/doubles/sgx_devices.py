"""A host's /dev and /sys with SGX devices that are links to /dev/null: no root, no SGX."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgxkit.kubernetes.devices import HostView

needs_exec_dev = pytest.mark.skipif(
    bool(os.statvfs("/dev").f_flag & os.ST_NOEXEC), reason="this machine's /dev is mounted noexec"
)
NULL_NUMBER = "1:3\n"


def make_host(folder: Path, *names: str) -> HostView:
    """Make `names` (both devices by default) under `folder`, and what sysfs says of them."""
    view = HostView(folder / "dev", folder / "sys")
    view.dev.mkdir(parents=True)
    for name in names or ("sgx_enclave", "sgx_provision"):
        (view.dev / name).symlink_to("/dev/null")
        entry = view.sys / "class" / "misc" / name
        entry.mkdir(parents=True)
        (entry / "dev").write_text(NULL_NUMBER)
    return view
