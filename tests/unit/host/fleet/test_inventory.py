"""Inventories and targets are read strictly: what they hold goes to SSH, and to nothing else."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import FormatError, HostError, InputError, SgxkitError
from sgxkit.host.fleet.channel import Channel
from sgxkit.host.fleet.inventory import Machine, parse_target, read_hosts, read_inventory
from sgxkit.host.fleet.report import fleet_document, fleet_page
from sgxkit.host.fleet.run import FleetResult, HostResult
from sgxkit.host.setup import primitives


def test_an_inventory_has_defaults_and_hosts() -> None:
    machines = read_inventory(
        b'[defaults]\nuser = "admin"\nport = 2222\n[[host]]\nname = "a"\naddress = "10.0.0.1"\n'
        b'[[host]]\naddress = "b.example"\nport = 22\nsudo = false\njump = "me@bastion:2200,other"\n'
    )
    assert machines == (
        Machine("a", "10.0.0.1", 2222, "admin"),
        Machine("b.example", "b.example", 22, "admin", sudo=False, jump="me@bastion:2200,other"),
    )


def test_targets_are_those_of_ssh() -> None:
    assert parse_target("host") == Machine("host", "host")
    assert parse_target("root@host:2222") == Machine("root@host:2222", "host", 2222, "root", sudo=False)
    assert parse_target("a@[::1]:22").address == "::1"
    assert parse_target("fe80::1").address == "fe80::1"
    assert [machine.name for machine in read_hosts("a, b,c")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=id",
        "a b",
        "a;b",
        "$(id)",
        "x@-y",
        "u ser@h",
        "h:0",
        "h:99999",
        "@h",
        "",
        "a,a",
        "`id`@h",
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_hosts(text)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "[[host]]",
        '[[host]]\nname = "a"\nwhat = 1',
        '[[host]]\nname = "a"\nport = "22"',
        '[[host]]\nname = "a"\nport = true',
        '[[host]]\nname = "a"\naddress = "-x"',
        '[[host]]\nname = "a"\njump = "a;b"',
        '[[host]]\nname = "a"\njump = "me@a:22"',
        '[[host]]\nname = "a"\nhost_key = "no"',
        '[[host]]\nname = "a"\n[[host]]\nname = "a"',
        '[defaults]\nname = "x"\n[[host]]\nname = "a"',
        "host = 3",
        "\x00",
    ],
)
def test_what_is_no_inventory_is_refused(text: str) -> None:
    with pytest.raises(SgxkitError):
        read_inventory(text.encode())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_plain_target_or_refused(text: str) -> None:
    try:
        machine = parse_target(text)
    except InputError:
        return
    assert not machine.address.startswith("-")
    assert machine.address.isascii()
    assert not set(" ;$`'\"\\|&<>(){}\n\t") & set(machine.address + (machine.user or ""))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_inventory_or_refused(data: bytes) -> None:
    try:
        read_inventory(data)
    except (FormatError, InputError):
        return


def test_primitives_answer_through_a_channel_as_they_do_here(tmp_path: object) -> None:
    requests = io.BytesIO()
    Channel(requests, io.BytesIO(b'{"result": null}\n'))("write", f"{tmp_path}/x", b"\x00\xff", 0o600, [0, 0])
    Channel(requests, io.BytesIO(b'{"result": null}\n'))("read", f"{tmp_path}/x", 100)
    Channel(requests, io.BytesIO(b'{"result": null}\n'))("read", f"{tmp_path}", 100)
    Channel(requests, io.BytesIO(b'{"result": null}\n'))("write", f"{tmp_path}/x/y", b"", 0o600, [0, 0])
    requests.seek(0)
    answers = io.BytesIO()
    primitives.serve(requests, answers)
    answers.seek(0)
    channel = Channel(io.BytesIO(), answers)
    assert channel("write") is None
    assert channel("read") == b"\x00\xff"
    assert channel("read") is None
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        channel("write")
    assert channel.round_trips == 4


@pytest.mark.parametrize("line", [b"", b"x\n", b"[]\n", b"{}\n", b'{"result": {"base64": 1}}\n', b'{"errno": "a"}\n'])
def test_an_answer_that_is_none_ends_the_conversation(line: bytes) -> None:
    with pytest.raises(HostError):
        Channel(io.BytesIO(), io.BytesIO(line))("read", "/x", 1)


def test_a_report_shows_what_hosts_say_as_text() -> None:
    hosts = (
        HostResult("<b>a</b>", "failed", message="<script>1</script>"),
        HostResult("b", "ok", 0, document={"done": ["x"]}),
        HostResult("c", "not-run"),
    )
    result = FleetResult(hosts, 1.0, 0.5)
    page = fleet_page(result, task="apply", language="zh")
    assert "<script>" not in page
    assert "<b>a" not in page
    assert json.loads(json.dumps(fleet_document(result, task="apply", version="0")))["exit_code"] == 1
    assert FleetResult(hosts[1:2], 1.0, 0.5).exit_code == 0
    assert FleetResult((HostResult("d", "ok", 2),), 1.0, 0.5).exit_code == 2
