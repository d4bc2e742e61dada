"""The software platform of a development cluster: a lab whose AESM daemon every container may ask.

Pods get the folder that holds the daemon's socket, the lab's root certificate and collateral, and a copy of the lab
itself, so that `sgxkit run` in any pod of the node is the same machine. Its secrets are no secrets then: it protects
nothing anyway, and is for development alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.aesm.address import parse_address
from sgxkit.dcap.collateral import export_bundle
from sgxkit.errors import HostError
from sgxkit.kubernetes.devices import AESM_SOCKET
from sgxkit.kubernetes.whole_file import write_public
from sgxkit.lab import publication
from sgxkit.lab.serve import serving
from sgxkit.lab.store import ROOT, SEED, WORLD, create_lab, lab_folder, lab_names, load_lab, root_certificate
from sgxkit.lab.world import new_world
from sgxkit.messages import msg

ROOT_CERTIFICATE, COLLATERAL, LABS = "root.pem", "collateral.json", "labs"
_FOLDER_MODE = 0o755


@contextmanager
def emulated_platform(lab: str, folder: Path) -> Iterator[None]:
    """Serve lab `lab`, made where there is none, in `folder` until the block ends; raises HostError, InputError."""
    if lab not in lab_names():
        create_lab(new_world(lab, datetime.now(UTC)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
        write_public(folder / ROOT_CERTIFICATE, root_certificate(lab).read_text())
        for name in (SEED, WORLD, ROOT):
            write_public(folder / LABS / lab / name, (lab_folder(lab) / name).read_text())
        write_public(folder / COLLATERAL, export_bundle(publication.collateral(load_lab(lab), datetime.now(UTC))))
    except OSError as error:
        raise HostError(
            msg("{path} cannot be written: {reason}", path=error.filename or folder, reason=error.strerror or error)
        ) from error
    with serving(lab, address=parse_address(os.fspath(folder / AESM_SOCKET))):
        yield
