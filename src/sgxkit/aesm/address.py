"""Where a daemon listens: a UNIX socket, or a TCP port of this computer where there are none."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from sgxkit.errors import InputError
from sgxkit.messages import msg

AESMD_SOCKET = Path("/var/run/aesmd/aesm.socket")
"""Where Intel's daemon listens; a constant of its source."""

# sun_path of struct sockaddr_un, with its terminating zero, on Linux; other systems have less.
MAX_SOCKET_PATH = 107

_TCP = re.compile(r"tcp://(?P<host>127\.0\.0\.1|localhost):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of 127.0.0.1; 0 lets the system choose one to listen at."""

    port: int

    def __str__(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class AbstractAddress:
    """A name in Linux' abstract socket namespace: it ends with the process that listens, however that ends."""

    name: str

    def __str__(self) -> str:
        return f"\0{self.name}"


Address = UnixAddress | TcpAddress | AbstractAddress


def has_unix_sockets() -> bool:
    """Whether this system's Python has UNIX sockets."""
    return hasattr(socket, "AF_UNIX")


def parse_address(text: str) -> Address:
    """Read a path, or ``tcp://127.0.0.1:PORT``; raises InputError.

    No other host: the protocol has no authentication, and a quote is evidence about the computer that made it.
    """
    if "://" not in text:
        if not text or len(text.encode()) > MAX_SOCKET_PATH:
            raise InputError(
                msg("the path of a socket has 1 to {limit} bytes: {path}", limit=MAX_SOCKET_PATH, path=text),
                hint=msg("choose a shorter one"),
            )
        if not has_unix_sockets():
            raise InputError(
                msg("this system has no UNIX sockets"), hint=msg("give the address as tcp://127.0.0.1:PORT")
            )
        return UnixAddress(Path(text))
    found = _TCP.fullmatch(text)
    if found is None or int(found["port"]) > 0xFFFF:
        raise InputError(
            msg("{text} is not the address of an AESM daemon", text=text),
            hint=msg("it is the path of a socket, or tcp://127.0.0.1:PORT"),
        )
    return TcpAddress(int(found["port"]))
