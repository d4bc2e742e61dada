"""What an enclave needs around it: a platform, who quotes for it, and whose collateral judges the quotes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.aesm.address import Address, UnixAddress, parse_address
from sgxkit.dcap import pcs
from sgxkit.dcap.sources import CollateralSource, ServiceSource
from sgxkit.dcap.trust import TrustAnchor, anchor_from_pem
from sgxkit.driver.platform import KernelPlatform
from sgxkit.enclave.platform import Platform
from sgxkit.errors import InputError
from sgxkit.lab.daemon import Announcement, find_server, only_server, start_server, stop_server
from sgxkit.lab.platform import platform_of
from sgxkit.lab.serve import Serving, serving
from sgxkit.lab.store import create_lab, lab_folder, lab_names, labs_locked, load_lab, remove_lab, write_private
from sgxkit.lab.world import new_world
from sgxkit.messages import Message, msg

DEFAULT_LAB = "up"
"""The lab that is made where none is named."""

QCNL_CONFIGURATION = "sgx_default_qcnl.conf"

_KEEPING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that `walk` needs.

    lab          name of the lab that it all belongs to; None on hardware.
    described    sentences that say where things are.
    environment  variables for other programs that are to use what stays running; empty where nothing does.
    """

    platform: Platform
    aesm: Address
    collateral: CollateralSource
    trust_anchor: TrustAnchor
    lab: str | None
    described: tuple[Message, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def hardware(aesm: Address, collateral: CollateralSource, trust_anchor: TrustAnchor) -> Surroundings:
    """The SGX of this computer, with this AESM daemon, this collateral and this root; raises HostError."""
    platform = KernelPlatform()
    info = platform.info
    epc = msg("unknown EPC") if info.epc_size is None else msg("{size} MiB of EPC", size=info.epc_size >> 20)
    return Surroundings(
        platform=platform,
        aesm=aesm,
        collateral=collateral,
        trust_anchor=trust_anchor,
        lab=None,
        described=(
            msg("{name}: {epc}{sgx2}", name=info.name, epc=epc, sgx2=", SGX2" if info.sgx2 else ""),
            msg("AESM {aesm}", aesm=aesm),
        ),
    )


@contextmanager
def temporary_lab() -> Iterator[Surroundings]:
    """A lab that is made, served by this process, and removed with all its files when the block ends."""
    with temporary_folder("sgxkit-up-") as folder, lab_in(folder) as surroundings:
        yield surroundings


@contextmanager
def lab_in(folder: Path) -> Iterator[Surroundings]:
    """A lab that is made in this folder, and served by this process until the block ends."""
    create_lab(new_world(DEFAULT_LAB, datetime.now(UTC)), folder=folder)
    with serving(DEFAULT_LAB, folder=folder) as served:
        yield _of_serving(served, folder)


@contextmanager
def named_lab(name: str) -> Iterator[Surroundings]:
    """The user's lab of that name, served by whoever serves it already or by this process until the block ends."""
    found = find_server(name)
    if found is not None:
        yield _of_announcement(found)
        return
    with only_server(name), serving(name) as served:
        yield _of_serving(served, None)


@contextmanager
def kept_lab(name: str) -> Iterator[Surroundings]:
    """The user's lab of that name, made where there is none, served in the background from now on.

    A block that is interrupted, or raises, takes back what was made and started for it. Therefore a second process
    that keeps a lab waits for the end of the first one's block.
    """
    busy = InputError(msg("another process has been keeping a lab for too long"), hint=msg("try again"))
    with labs_locked(_KEEPING_SECONDS, busy), ExitStack() as undone_if_interrupted:
        if name not in lab_names():
            create_lab(new_world(name, datetime.now(UTC)))
            undone_if_interrupted.callback(remove_lab, name)
        found = find_server(name)
        if found is None:
            found = start_server(name, [])
            undone_if_interrupted.callback(stop_server, name)
        yield _of_announcement(found)
        undone_if_interrupted.pop_all()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that is removed with all that is in it when the block ends; raises InputError."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise InputError(
            msg("no temporary folder can be made: {reason}", reason=error.strerror or error),
            hint=msg("set {variable} to a folder that can be written", variable="TMPDIR"),
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_serving(served: Serving, folder: Path | None) -> Surroundings:
    return _of(served.name, folder, served.pcs, served.aesm, {})


def _of_announcement(found: Announcement) -> Surroundings:
    aesm = parse_address(found.aesm)
    return _of(found.name, None, found.pcs, aesm, _environment(found, aesm))


def _of(name: str, folder: Path | None, url: str, aesm: Address, environment: Mapping[str, str]) -> Surroundings:
    lab = load_lab(name, folder=folder)
    world = lab.world
    machine = " ".join([world.cpu, *(word for word, has in (("FLC", world.flc), ("SGX2", world.sgx2)) if has)])
    return Surroundings(
        platform=platform_of(lab),
        aesm=aesm,
        collateral=ServiceSource(pcs.pcs(url)),
        trust_anchor=anchor_from_pem(lab.hierarchy.root.pem, f"lab {name}"),
        lab=name,
        described=(
            msg("lab {name}: {machine}, with CAs, AESM and PCS of its own", name=name, machine=machine),
            msg("AESM {aesm}", aesm=aesm),
            msg("PCS  {url}", url=url),
        ),
        environment=environment,
    )


def _environment(found: Announcement, aesm: Address) -> dict[str, str]:
    """Variables for programs that use Intel's libraries, and for sgxkit itself."""
    home = lab_folder(found.name)
    configuration = home / QCNL_CONFIGURATION
    document = {"pccs_url": f"{found.pcs}/sgx/certification/v4/", "use_secure_cert": False}
    temporary = home / f".{QCNL_CONFIGURATION}"
    temporary.unlink(missing_ok=True)
    try:
        write_private(temporary, json.dumps(document, indent=2) + "\n")
        temporary.replace(configuration)
    finally:
        temporary.unlink(missing_ok=True)
    variables = {
        "SGXKIT_AESM": str(aesm),
        "QCNL_CONF_PATH": str(configuration),
    }
    if isinstance(aesm, UnixAddress):
        variables["SGX_AESM_ADDR"] = "1"
    return variables
