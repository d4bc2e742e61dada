"""A lab's machine for programs that run under the tracer: its processor, its AESM daemon and its PCS.

The two servers start in this process when a program first asks for them, and end with it: the daemon listens at an
abstract address, the PCS at a port of the loopback interface.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.emulator.tracer.machine import Injected, Machine
from sgxkit.errors import InputError
from sgxkit.lab.store import create_lab, load_lab
from sgxkit.lab.world import new_world

DEFAULT_LAB = "default"

_NO_FAULTS = Injected()


@contextmanager
def machine(
    name: str,
    *,
    epc_size: int | None = None,
    device_names: tuple[str, ...] = (),
    injected: Injected = _NO_FAULTS,
    folder: Path | None = None,
) -> Iterator[Machine]:
    """The machine of a lab; `epc_size` replaces the lab's. Raises InputError where there is no such lab.

    The lab `default` is made when there is none.
    """
    try:
        lab = load_lab(name, folder=folder)
    except InputError:
        if name != DEFAULT_LAB:
            raise
        lab = create_lab(new_world(name, datetime.now(UTC)), folder=folder)
    with ExitStack() as stack:
        services = _Services(name, folder, stack, injected)
        yield Machine(
            fuses=lab.fuses,
            epc_size=lab.world.epc_size if epc_size is None else epc_size,
            aesm=services.aesm,
            qcnl=services.qcnl,
            device_names=device_names,
            injected=injected,
        )


@dataclass(slots=True)
class _Services:
    name: str
    folder: Path | None
    stack: ExitStack
    injected: Injected
    aesm_path: bytes = b""
    pcs: str = ""

    def aesm(self) -> bytes:
        """Where the daemon listens, as in struct sockaddr_un."""
        if not self.aesm_path:
            from sgxkit.aesm import server  # noqa: PLC0415 - many programs never ask
            from sgxkit.aesm.address import AbstractAddress  # noqa: PLC0415
            from sgxkit.lab.serve import LiveLab, LiveQuoting  # noqa: PLC0415

            address = AbstractAddress(f"sgxkit-run-{os.getpid()}-{secrets.token_hex(8)}")

            class Refusing(LiveQuoting):
                def quote(self, *_: object) -> tuple[bytes, bytes | None]:
                    raise AesmError(AesmCode.UNEXPECTED_ERROR)

            quoting = Refusing if self.injected.quote else LiveQuoting
            service = quoting(LiveLab(self.name, self.folder))
            self.stack.enter_context(server.serving(service, address))
            self.aesm_path = os.fsencode(str(address))
        return self.aesm_path

    def qcnl(self) -> bytes:
        """/etc/sgx_default_qcnl.conf that leads to the lab's PCS."""
        if not self.pcs:
            from sgxkit.lab import web  # noqa: PLC0415 - many programs never ask
            from sgxkit.lab.pcs_api import Reply, answer  # noqa: PLC0415
            from sgxkit.lab.serve import LiveLab  # noqa: PLC0415

            live = LiveLab(self.name, self.folder)

            def respond(target: str) -> Reply:
                return answer(live.now(), target, datetime.now(UTC))

            self.pcs = self.stack.enter_context(web.serving(respond, 0, self.name))
        settings = {
            "pccs_url": f"{self.pcs}/sgx/certification/v4/",
            "use_secure_cert": False,
            "collateral_service": f"{self.pcs}/sgx/certification/v4/",
            "retry_times": 1,
            "retry_delay": 1,
            "pck_cache_expire_hours": 1,
        }
        return (json.dumps(settings, indent=2) + "\n").encode()
