"""Which hosts, and how they are reached: an inventory in TOML, or targets on the command line.

    [defaults]
    user = "admin"
    sudo = true

    [[host]]
    name = "rack1-n1"
    address = "10.0.0.11"
    port = 2222
    jump = "bastion.example"

Names and addresses go to an SSH library and to nothing else; they are held to what such names can be all the same.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

MAX_HOSTS = 10_000
MAX_INVENTORY = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._\-]{0,252})|[0-9a-fA-F:.]{2,45}(?:%[A-Za-z0-9]{1,15})?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_JUMP = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.\-]{0,63}@)?[A-Za-z0-9][A-Za-z0-9.\-]{0,252}(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Machine:
    """A host by its name in reports, and how SSH reaches it; None: what OpenSSH's configuration says.

    sudo        whether root's rights are got by sudo; without, `user` is root.
    jump        a host to go through, ``[user@]name[:port]``, several with commas.
    host_key    how an unknown host key is met: ``accept-new`` takes and remembers it, ``yes`` refuses.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    sudo: bool = True
    host_key: str = "accept-new"
    known_hosts: str | None = None


_KINDS: dict[str, type] = {
    "name": str,
    "address": str,
    "port": int,
    "user": str,
    "key": str,
    "jump": str,
    "sudo": bool,
    "host_key": str,
    "known_hosts": str,
}


def read_hosts(text: str) -> tuple[Machine, ...]:
    """Read `--hosts`: the path of an inventory, or ssh targets with commas between them."""
    if text.endswith(".toml") or "/" in text:
        path = Path(text)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_INVENTORY + 1)
        except OSError as error:
            raise InputError(
                msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)
            ) from error
        return read_inventory(data)
    return _distinct(tuple(parse_target(part.strip()) for part in text.split(",") if part.strip()))


def parse_target(text: str) -> Machine:
    """Read ``[user@]host[:port]``, an IPv6 address in brackets where a port follows."""
    found = re.fullmatch(
        r"(?:(?P<user>[^@]*)@)?(?:\[(?P<six>[^]]*)\]|(?P<host>[^:@]*|[^@\]\[]*:[^@]*:[^@]*))(?::(?P<port>\d{1,5}))?",
        text,
    )
    if found is None:
        raise InputError(msg("{option}: {text} cannot be used", option="--hosts", text=text[:80]))
    address = found["six"] or found["host"]
    port = None if found["port"] is None else int(found["port"])
    user = found["user"]
    return _checked(Machine(text, address, port, user, sudo=user != "root"), "--hosts")


def read_inventory(data: bytes) -> tuple[Machine, ...]:
    """Read an inventory; FormatError names the place that is wrong."""
    if len(data) > MAX_INVENTORY:
        raise FormatError("$", msg("is larger than {limit} bytes", limit=MAX_INVENTORY))
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError("$", msg("is not TOML: {reason}", reason=str(error)[:200])) from error
    unknown = set(document) - {"defaults", "host"}
    if unknown:
        raise FormatError(f"$.{min(unknown)}", msg("is not known"))
    defaults = document.get("defaults", {})
    hosts = document.get("host", [])
    if not isinstance(defaults, dict) or not isinstance(hosts, list):
        raise FormatError("$", msg("needs tables [[host]], and perhaps [defaults]"))
    if not 1 <= len(hosts) <= MAX_HOSTS:
        raise FormatError("$.host", msg("must have between 1 and {limit} entries", limit=MAX_HOSTS))
    common = _fields(defaults, "$.defaults", without=("name", "address"))
    machines = []
    for at, host in enumerate(hosts):
        place = f"$.host[{at}]"
        if not isinstance(host, dict):
            raise FormatError(place, msg("is not a table"))
        fields = {**common, **_fields(host, place)}
        name = fields.pop("name", fields.get("address"))
        if name is None:
            raise FormatError(f"{place}.name", msg("is missing"))
        address = fields.pop("address", name)
        machines.append(_checked(Machine(name, address, **fields), place))
    return _distinct(tuple(machines))


def _fields(table: dict[str, Any], place: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    for name, value in table.items():
        kind = _KINDS.get(name)
        if kind is None or name in without:
            raise FormatError(f"{place}.{name}", msg("is not known"))
        if type(value) is not kind:
            raise FormatError(f"{place}.{name}", msg("is of the wrong type"))
    return dict(table)


def _checked(machine: Machine, place: str) -> Machine:
    def require(field: str, *, good: bool) -> None:
        if not good:
            value = str(getattr(machine, field))[:80]
            raise InputError(msg("{option}: {text} cannot be used", option=f"{place} {field}", text=repr(value)))

    require("name", good=bool(machine.name) and machine.name.isprintable() and len(machine.name) <= 255)
    require("address", good=_NAME.fullmatch(machine.address) is not None)
    require("port", good=machine.port is None or 0 < machine.port < 65536)
    require("user", good=machine.user is None or _USER.fullmatch(machine.user) is not None)
    hops = [] if machine.jump is None else machine.jump.split(",")
    # A way through the host's own address would lead round in a circle.
    through = {hop.rpartition("@")[2].partition(":")[0] for hop in hops}
    require("jump", good=all(_JUMP.fullmatch(hop) for hop in hops) and machine.address not in through)
    require("host_key", good=machine.host_key in ("accept-new", "yes"))
    for field in ("key", "known_hosts"):
        path = getattr(machine, field)
        require(field, good=path is None or (path.isprintable() and "\0" not in path))
    return machine


def _distinct(machines: tuple[Machine, ...]) -> tuple[Machine, ...]:
    names = [machine.name for machine in machines]
    if not names:
        raise InputError(msg("{option} names no host", option="--hosts"))
    twice = next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
    if twice is not None:
        raise InputError(msg("host {name} is listed twice", name=twice))
    return machines


def machine_to_json(machine: Machine) -> dict[str, object]:
    """A machine for the child process that connects."""
    return dataclasses.asdict(machine)
