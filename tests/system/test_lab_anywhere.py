"""Labs, AESM, the emulated platform and `up` work where there is no fcntl, no UNIX socket and no user number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ELSEWHERE = """
import functools, importlib, os, pkgutil, socket, sys

# A system without these. What the standard library itself needs of them was imported before.
import asyncio, http.server, ssl, subprocess
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
# Python makes pairs of connected sockets by other means there.
socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)
del socket.AF_UNIX
for name in ("geteuid", "getuid", "fork", "chown"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("start_unix_server", "open_unix_connection"):
    delattr(asyncio, name)

import sgxkit.aesm, sgxkit.driver, sgxkit.emulator, sgxkit.lab, sgxkit.sample, sgxkit.sdk.edl, sgxkit.up
platforms = sgxkit.driver, sgxkit.emulator, sgxkit.sample, sgxkit.sdk, sgxkit.sdk.edl
for package in (*platforms, sgxkit.aesm, sgxkit.lab, sgxkit.up):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import sgxkit.cli.lab, sgxkit.cli.aesm, sgxkit.cli.up

from datetime import UTC, datetime
from pathlib import Path
from sgxkit.aesm.address import TcpAddress, UnixAddress, parse_address
from sgxkit.aesm.client import AesmClient
from sgxkit.errors import InputError
from sgxkit.lab import serve, store
from sgxkit.lab.world import new_world

folder = store.labs_folder({"XDG_STATE_HOME": sys.argv[1]})
store.create_lab(new_world("one", datetime.now(UTC)), folder=folder)
assert serve.default_address(folder / "one") == TcpAddress(0)
try:
    parse_address("/a/socket")
except InputError as error:
    print(error)
with serve.serving("one", folder=folder) as served:
    assert isinstance(served.aesm, TcpAddress)
    client = AesmClient(served.aesm, timeout=10)
    client.initialise(client.select_key())
    print(client.quote_size(client.select_key()) > 4000)

from sgxkit.dcap import Policy
from types import SimpleNamespace
from sgxkit.up import choice
from sgxkit.up.surroundings import temporary_lab
from sgxkit.up.walk import Findings, walk
choice.sys = SimpleNamespace(platform="darwin")
assert not choice.choose("either").hardware
with temporary_lab() as around:
    assert isinstance(around.aesm, TcpAddress)
    print([result.error for result in walk(around, Policy(), Findings())])
"""


def test_without_what_only_linux_has(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert outcome.stderr == ""
    assert outcome.stdout == "this system has no UNIX sockets\nTrue\n" + str([None] * 8) + "\n"
