"""The probe's own readers of formats: OpenPGP, AESM's messages, secrets, configuration files."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sgxkit
from sgxkit.host import probe
from sgxkit.host.document import MAX_ITEMS, MAX_TEXT
from sgxkit.host.facts import SCHEMA

CREATED = 1679300000
DAY = 86400


def packet(tag: int, body: bytes) -> bytes:
    """Frame a body in the new format (RFC 4880, 4.2.2)."""
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def old_packet(tag: int, body: bytes) -> bytes:
    """Frame a body in the old format with two length octets (RFC 4880, 4.2.1)."""
    return bytes([0x80 | tag << 2 | 1]) + struct.pack(">H", len(body)) + body


def public_key(created: int = CREATED, version: int = 4) -> bytes:
    modulus = struct.pack(">H", 16) + b"\xc0\x01"
    exponent = struct.pack(">H", 17) + b"\x01\x00\x01"
    return bytes([version]) + struct.pack(">I", created) + b"\x01" + modulus + exponent


def fingerprint(body: bytes) -> bytes:
    return hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).digest()


def subpacket(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def self_signature(issuer: bytes, *, when: int, lifetime: int | None, kind: int = 0x13) -> bytes:
    hashed = subpacket(2, struct.pack(">I", when))
    if lifetime is not None:
        hashed += subpacket(9, struct.pack(">I", lifetime))
    unhashed = subpacket(16, issuer)
    head = bytes([4, kind, 1, 8])
    return (
        head + struct.pack(">H", len(hashed)) + hashed + struct.pack(">H", len(unhashed)) + unhashed + b"\0\0\0\1\1"
    )


KEY = public_key()
KEY_ID = fingerprint(KEY)[-8:]
USER_ID = b"CN=Someone <sgx@example.com>"


def keyring(*signatures: bytes, frame: object = packet) -> bytes:
    assert callable(frame)
    result: bytes = frame(6, KEY) + frame(13, USER_ID)
    for signature in signatures:
        result += frame(2, signature)
    return result


def expected(expires: int | None) -> list[dict[str, object]]:
    return [
        {
            "fingerprint": fingerprint(KEY).hex().upper(),
            "user_id": USER_ID.decode(),
            "created": CREATED,
            "expires": expires,
        }
    ]


@pytest.mark.parametrize("frame", [packet, old_packet])
def test_a_key_expires_when_its_self_signature_says(frame: object) -> None:
    data = keyring(self_signature(KEY_ID, when=CREATED, lifetime=4 * 365 * DAY), frame=frame)
    assert probe.openpgp_keys(data) == expected(CREATED + 4 * 365 * DAY)


def test_the_latest_self_signature_counts() -> None:
    old = self_signature(KEY_ID, when=CREATED, lifetime=DAY)
    new = self_signature(KEY_ID, when=CREATED + 5, lifetime=9 * DAY)
    forever = self_signature(KEY_ID, when=CREATED + 6, lifetime=None)
    assert probe.openpgp_keys(keyring(new, old)) == expected(CREATED + 9 * DAY)
    assert probe.openpgp_keys(keyring(old, new)) == expected(CREATED + 9 * DAY)
    assert probe.openpgp_keys(keyring(new, forever)) == expected(None)


def test_a_direct_key_signature_counts_when_it_states_a_lifetime() -> None:
    certification = self_signature(KEY_ID, when=CREATED + 5, lifetime=9 * DAY)
    silent = self_signature(KEY_ID, when=CREATED + 6, lifetime=None, kind=0x1F)
    direct = self_signature(KEY_ID, when=CREATED, lifetime=2 * DAY, kind=0x1F)
    assert probe.openpgp_keys(keyring(silent, certification)) == expected(CREATED + 9 * DAY)
    assert probe.openpgp_keys(keyring(certification, silent)) == expected(CREATED + 9 * DAY)
    assert probe.openpgp_keys(keyring(certification, direct)) == expected(CREATED + 2 * DAY)
    assert probe.openpgp_keys(keyring(direct, certification)) == expected(CREATED + 2 * DAY)


def test_signatures_of_others_and_of_subkeys_do_not_count() -> None:
    own = self_signature(KEY_ID, when=CREATED, lifetime=DAY)
    other = self_signature(b"12345678", when=CREATED + 9, lifetime=2 * DAY)
    binding = self_signature(KEY_ID, when=CREATED + 9, lifetime=3 * DAY, kind=0x18)
    data = keyring(own, other, binding) + packet(14, public_key(CREATED + 1))
    data += packet(2, self_signature(KEY_ID, when=CREATED + 10, lifetime=4 * DAY))
    assert probe.openpgp_keys(data) == expected(CREATED + DAY)


def test_armour() -> None:
    data = keyring(self_signature(KEY_ID, when=CREATED, lifetime=DAY))
    text = base64.encodebytes(data).decode()
    begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
    for headers in ("\n", "Version: GnuPG v2\nComment: none\n\n"):
        armoured = f"Intel's key:\n{begin}\n{headers}{text}=abcd\n{end}\n"
        assert probe.openpgp_keys(armoured.encode()) == expected(CREATED + DAY)
    twice = f"{begin}\n\n{text}{end}\n{begin}\r\n\r\n{text}{end}\n"
    assert probe.openpgp_keys(twice.encode()) == expected(CREATED + DAY) * 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>404</html>",
        keyring()[:20],
        packet(13, b"no key"),
        packet(6, b"\x04\0"),
        packet(6, public_key(version=3)),
        b"\xc6\xe1\0\0",
        b"\x9b\0",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----",
        keyring(bytes([4, 0x13, 1, 8, 0, 9, 200, 2])),
    ],
)
def test_what_is_no_keyring_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        probe.openpgp_keys(data)


@given(st.binary(max_size=80).map(lambda noise: keyring() + noise) | st.binary(max_size=80))
def test_arbitrary_keyrings_raise_only_value_errors(data: bytes) -> None:
    try:
        keys = probe.openpgp_keys(data)
    except ValueError:
        return
    assert keys


def test_aesm_requests_are_intels_encoding() -> None:
    """Bytes made with protoc from Intel's messages.proto."""
    assert probe.aesm_request(19, b"", 1.0) == bytes.fromhex("07000000" + "9a0104" + "10c0843d")
    key = bytes(range(256))
    body = b"\x0a\x80\x02" + key + b"\x18\x00" + b"\x48\xc0\x84\x3d"
    assert probe.aesm_request(15, key, 1.0) == struct.pack("<I", 3 + len(body)) + b"\x7a\x89\x02" + body
    assert probe.aesm_request(21, key, 1.0) == bytes.fromhex("07000000" + "aa0104" + "48c0843d")


def test_the_default_key_id_is_intels() -> None:
    key_id = probe.ECDSA_KEY_ID
    assert len(key_id) == 256
    assert key_id[:6] == bytes.fromhex("000000002000")
    assert key_id[6:38].hex() == "8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"
    assert struct.unpack_from("<I", key_id, 54) == (1,)
    assert struct.unpack_from("<I", key_id, 154) == (2,)


@given(st.dictionaries(st.integers(1, 500), st.integers(0, 2**64 - 1) | st.binary(max_size=300)))
def test_messages_come_back(content: dict[int, int | bytes]) -> None:
    assert probe.fields(b"".join(probe.field(*item) for item in content.items())) == content


@given(st.sampled_from([19, 21, 15, 16, 10, 12]), st.binary(max_size=60))
def test_arbitrary_replies_are_decoded_or_unread(request_number: int, data: bytes) -> None:
    result = probe.reading(probe.aesm_decoded, request_number, data)
    assert "value" in result or (result["error"] == "error" and result["text"].startswith("malformed reply"))


SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"custom_request_options": {{"get_cert": {{"headers": {{"Ocp-Apim-Subscription-Key": "{SECRET}"}}}}}}}}',
        f'{{"user_token" : "{SECRET}", "retry_times": 6}}',
        f"subscription key = {SECRET}\n",
        f"aesm proxy = http://me:{SECRET}@proxy:3128\n",
        f"URIs: https://me:{SECRET}@mirror/sgx\n",
        f"quiet kickstart.password={SECRET} nosgx",
    ],
)
def test_secrets_are_blotted_out_in_place(text: str) -> None:
    result = probe.redacted(text)
    assert SECRET not in result
    assert len(result) == len(text)
    assert [place for place, (old, new) in enumerate(zip(text, result, strict=True)) if new not in (old, "*")] == []


def test_a_configuration_without_secrets_stays_as_it_is() -> None:
    text = '{"pccs_url": "https://localhost:8081/sgx/certification/v4/", // comment\n "use_secure_cert": false}'
    assert probe.redacted(text) == text


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ('{"pccs_url": "https://a/v4/"}', ["https://a/v4/"]),
        (
            '{ // "pccs_url": "https://no/"\n "pccs_url": "https://a//b/" /* "local_pck_url": "x" */ }',
            ["https://a//b/"],
        ),
        (
            '{"collateral_service": "https://c/", "pccs_url": "https://p/", "local_pck_url": "http://l/"}',
            ["http://l/", "https://p/", "https://c/"],
        ),
        ('{"pccs_url": "https://p/", "collateral_service": "https://p/"}', ["https://p/"]),
        ("# old\nPCCS_URL=https://legacy/v3/\nUSE_SECURE_CERT=FALSE\n", ["https://legacy/v3/"]),
        ('{"pccs_url": 5}', []),
        ("", []),
    ],
)
def test_service_urls_of_a_configuration(tmp_path: Path, text: str, urls: list[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "sgx_default_qcnl.conf").write_text(text)
    host = probe.Host(5, True, str(tmp_path), None)
    assert probe.qcnl_urls(host) == urls


class Scripted(probe.Host):
    """This host, but programs and their output are made up."""

    def __init__(self, present: set[str], output: str, status: int = 0, problem: str = "") -> None:
        super().__init__(5, True, "/", None)
        self.present, self.result, self.commands = present, (status, output, problem), list[list[str]]()

    def exists(self, path: str) -> bool:
        return path in self.present

    def program(self, name: str, folders: Iterable[str] = ()) -> str | None:
        return f"/usr/bin/{name}" if f"/usr/bin/{name}" in self.present else None

    def run(self, arguments: list[str], limit: int = 0) -> tuple[int, str, str]:
        self.commands.append(arguments)
        return self.result


def unit_block(load: str, active: str) -> str:
    # systemctl prints properties in an order of its own.
    return f"Result=success\nLoadState={load}\nActiveState={active}\nSubState=dead\nUnitFileState="


def test_units_are_those_asked_for_in_order() -> None:
    blocks = [unit_block("not-found", "inactive") for _ in probe.UNITS]
    blocks[probe.UNITS.index("aesmd.service")] = unit_block("loaded", "active")
    host = Scripted({"/run/systemd/system", "/usr/bin/systemctl"}, "\n\n".join(blocks) + "\n")
    found = {unit["name"]: unit for unit in probe.units(host)}
    assert tuple(found) == probe.UNITS
    assert (found["aesmd.service"]["load_state"], found["aesmd.service"]["active_state"]) == ("loaded", "active")
    assert (found["qgsd.service"]["load_state"], found["qgsd.service"]["unit_file_state"]) == ("not-found", "")
    assert len(host.commands) == 1


@pytest.mark.parametrize(
    ("present", "output", "problem", "kind"),
    [
        (set(), "", "", "unsupported"),
        ({"/run/systemd/system"}, "", "", "absent"),
        ({"/run/systemd/system", "/usr/bin/systemctl"}, "LoadState=loaded\n", "", "error"),
        ({"/run/systemd/system", "/usr/bin/systemctl"}, "", "Failed to connect to bus: Access denied", "permission"),
    ],
)
def test_units_that_cannot_be_read_say_why(present: set[str], output: str, problem: str, kind: str) -> None:
    result = probe.reading(probe.units, Scripted(present, output, problem=problem))
    assert result["error"] == kind


@pytest.mark.parametrize(
    ("leap", "correction", "expected"),
    [
        ("Normal", "-0.25", (True, 0.25)),
        ("Normal", "0.000012", (True, -0.000012)),
        ("Not synchronised", "0.0", (False, None)),
    ],
)
def test_chrony_tells_the_offset(leap: str, correction: str, expected: tuple[bool, float | None]) -> None:
    line = f"A29FC87B,162.159.200.123,4,1700000000.1,{correction},0.1,0.2,-12.3,0.001,0.02,0.015,0.0005,64.5,{leap}\n"
    facts: dict[str, object] = {"state": None}
    probe.clock_section(Scripted({"/run/chrony", "/usr/bin/chronyc"}, line), facts)
    state = facts["state"]
    assert isinstance(state, dict)
    assert (state["value"]["synchronised"], state["value"]["offset_seconds"]) == expected
    assert state["value"]["via"] == "chronyc"


def test_rpm_packages() -> None:
    output = "libsgx-urts 2.29.100.1-1.el9\nbash 5.1-1\ngpg-pubkey\nsgx-dcap-pccs 1.23-1\n"
    found = probe.packages(Scripted({"/var/lib/rpm", "/usr/bin/rpm"}, output))
    assert [(package["name"], package["version"], package["manager"]) for package in found] == [
        ("libsgx-urts", "2.29.100.1-1.el9", "rpm"),
        ("sgx-dcap-pccs", "1.23-1", "rpm"),
    ]


def test_the_probe_carries_the_packages_version() -> None:
    assert sgxkit.__version__ == probe.VERSION
    assert probe.SCHEMA == SCHEMA
    assert (probe.MAX_TEXT, probe.MAX_ITEMS) == (MAX_TEXT, MAX_ITEMS)
