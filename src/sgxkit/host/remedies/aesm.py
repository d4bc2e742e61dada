"""Remedies: a running, healthy AESM."""

from __future__ import annotations

from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

START = Remedy(
    "start-aesm",
    msg("Start AESM, now and at every boot, and read its log if it does not stay up."),
    ("systemctl enable --now aesmd", "systemctl restart aesmd", "journalctl -u aesmd -b --no-pager | tail -n 50"),
    root=True,
)
RESTART_CONTAINER = Remedy(
    "restart-aesm-container",
    msg("If AESM runs in a container, restart that one; only one AESM may own the socket."),
    ("docker ps --filter name=aesm; docker restart aesmd",),
    root=True,
)
READ_LOG = Remedy(
    "read-aesm-log",
    msg("Read AESM's log: its error code does not tell more."),
    ("journalctl -u aesmd -b --no-pager | tail -n 50",),
    root=True,
)
ONLY_ONE = Remedy(
    "only-one-aesm",
    msg("Run only one AESM: the one that starts later takes the socket away from the other."),
    ("systemctl disable --now aesmd   # if the one in the container is meant to serve",),
    root=True,
)
FREE_EPC = Remedy(
    "free-epc",
    msg("Free enclave memory: stop other enclaves or guests, or enlarge the EPC in the BIOS set-up."),
)
