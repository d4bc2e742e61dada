"""Secrets of many shapes, planted where secrets stand, never survive; what is none stays readable."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.host.redaction import redact, redact_values

S = "hunter2-Zx9"  # a secret by its name alone, not by its shape
HEX = "0123456789abcdef0123456789abcdef"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLW9mLXRva2Vu"
RANDOM = "Kx8vQ2mN4pR7tW1yZ5aC9dF3gH6jL0sBqE8uT2wX"
BODY = base64.b64encode(bytes(range(256))).decode()
PEM = "\n".join(["-----BEGIN {0}PRIVATE KEY-----", BODY[:64], BODY[64:128], "-----END {0}PRIVATE KEY-----"])

BY_NAME = [
    f"password={S}",
    f"password = {S}",
    f"Password: {S}",
    f'"password": "{S}"',
    f"'passwd': '{S}'",
    f'\\"db_password\\":\\"{S}\\"',
    f"DB_PASSWORD={S}",
    f"export AWS_SECRET_ACCESS_KEY={S}",
    f"passphrase: {S} with blanks",
    f"pwd={S};Server=db",
    f"client_secret={S}&grant_type=x",
    f"spring.datasource.password={S}",
    f'"ApiKey" : "{S}",',
    f'"ApiKey":\n        "{S}",',
    f"api_key: {S}",
    f"api-key={S}",
    f"subscription key = {S}",
    f"Ocp-Apim-Subscription-Key: {S}",
    f'"UserTokenHash" : "{S}"',
    f'"AdminTokenHash":"{S}"',
    f"user-token: {S}",
    f"admin-token={S}",
    f"PCKIDRetrievalTool -url https://localhost:8081 -user_token {S} -use_secure_cert false",
    f"tool --password {S} --verbose",
    f"tool --token={S}",
    f"curl -u admin:{S} https://example.org",
    f"curl --proxy-user admin:{S} https://example.org",
    f"curl -H 'admin-token: {S}' https://localhost:8081/refresh",
    f"Authorization: Basic {S}",
    f"Authorization: Bearer {S}",
    f"proxy-authorization: {S}",
    f"Cookie: session={S}; theme=dark",
    f"Set-Cookie: id={S}",
    f"X-Auth-Token: {S}",
    f"https://user:{S}@proxy.example.org:3128/",
    f"http_proxy=http://user:{S}@proxy:3128",
    f"aesm proxy = http://user:{S}@proxy:3128",
    f"https://user:p@ss{S}@proxy.example.org/",
    f"https://{S}@github.com/x/y",
    f"postgres://app:{S}@db:5432/pccs",
    f"GET /v1?apikey={S}&x=1",
    f"GET /blob?sv=1&sig={S}",
    f"fs.insecure__keys.default = '{S}'",
    f'fs.insecure__keys.default = "{S}"',
    f"sealing_key={S}",
    f"encryptionKey: {S}",
    f"password: |\n  {S}\n  {S}2\nnext: 1",
    f"- api_token: >-\n    {S}\n- other: 1",
    f'password = """\n{S}\n"""',
    f'secrets = ["{S}", "x"]',
    f"- name: REGISTRY_TOKEN\n  value: {S}",
    f'{{"name": "API_KEY", "value": "{S}"}}',
    f"apiVersion: v1\nkind: Secret\ndata:\n  anything: {S}\n  other: |\n    {S}\ntype: Opaque",
    f'{{"kind": "Secret", "stringData": {{"anything": "{S}"}}}}',
    f"the password is '{S}'",
    f'using token "{S}"',
    f"# password: {S}",
    f'{{"auths": {{"registry.example.org": {{"auth": "{S}"}}}}}}',
    f"machine example.org login alice password {S}",
    f"machine example.org\n  login alice\n  password {S}",
    f"<password>{S}</password>",
    f'<app:api-key type="text">{S}</app:api-key>',
]
BY_SHAPE = [
    HEX,
    HEX.upper(),
    JWT,
    RANDOM,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghijkl",
    "glpat-abcdefghij1234567890",
    "xoxb-123456789012-abcdefABCDEF",
    "AIzaSyD-abcdefghijklmnopqrstuvwxyz12345",
    "hvs.CAESIJabcdefghijklmnop1234",
    "npm_abcdefghijklmnopqrstuvwxyz0123456789",
    "abcdef.0123456789abcdef",
]


@pytest.mark.parametrize("text", BY_NAME)
@pytest.mark.parametrize("around", ["{}", "Nov 21 10:00:01 host app[1]: x\n{}\nafter\n"])
def test_a_secret_with_a_name_is_taken_out(text: str, around: str) -> None:
    planted = around.format(text) if "{" not in text else around.replace("{}", text)
    result = redact(planted)
    assert S not in result.text
    assert "hunter" not in result.text
    assert result.count >= 1


@pytest.mark.parametrize("secret", BY_SHAPE)
@pytest.mark.parametrize("around", ["{}", "got {} from it", '{{"x": "{}"}}', "x={}", "({})", "a,{},b"])
def test_a_secret_with_a_shape_is_taken_out(secret: str, around: str) -> None:
    assert secret not in redact(around.format(secret)).text


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys_are_taken_out(kind: str) -> None:
    whole = f"before\n{PEM.format(kind)}\nafter\n"
    lines = whole.splitlines()
    for text in (
        whole,
        json.dumps({"tls": whole}),
        "\n".join(lines[:-2]),  # the end is cut off
        "\n".join(lines[2:]),  # the begin is cut off
        whole.replace("\n", "\r\n"),
        "    " + whole.replace("\n", "\n    "),
    ):
        result = redact(text).text
        assert BODY[:20] not in result
        assert BODY[70:90] not in result
    assert redact(whole).text.splitlines()[0] == "before"
    assert redact(whole).text.splitlines()[-1] == "after"


def test_other_private_keys_are_taken_out() -> None:
    pgp = PEM.format("PGP ").replace("KEY-----", "KEY BLOCK-----")
    putty = f"PuTTY-User-Key-File-3: ssh-rsa\nPublic-Lines: 1\nAAAA\nPrivate-Lines: 2\n{BODY[:64]}\n{BODY[64:128]}\n"
    putty += "Private-MAC: 1\n"
    for text in (pgp, putty):
        assert BODY[:30] not in redact(text).text
        assert BODY[70:100] not in redact(text).text


READABLE = [
    "[QCNL] Encountered CURL error: (7) Couldn't connect to server",
    '"pccs_url": "https://localhost:8081/sgx/certification/v4/"',
    "aesm_service[901]: Failed to load QE3: 0x4004",
    "failed to call selectAttKeyIDRequest (error code = 30)",
    "mrenclave 8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff",
    "fmspc 00606a000000, CPUSVN 0b0b0b0b",
    "deb [signed-by=/etc/apt/keyrings/intel-sgx-keyring.asc arch=amd64] https://download.01.org/intel-sgx x main",
    "ssl_key: /opt/intel/sgx-dcap-pccs/ssl_key/private.pem",
    "keyboard: us",
    "monkey = 5",
    "use_secure_cert = false",
    "require_password: true",
    "  value: 5",
    "Request-ID is : c0a79667083f4fc9a8ce7d3fa084c780",
    "https://api.trustedservices.intel.com/sgx/certification/v4/",
    "user@example.org wrote",
    "the author says: hello",
    "<title>keyboard</title>",
    "-rw-r--r-- 1 root root 12 /usr/lib/x86_64-linux-gnu/libsgx_dcap_quoteverify.so.1.13.103.0",
    "[load_qe ../qe_logic.cpp:697] Error, call sgx_create_enclave QE fail [load_qe], SGXError:4004.",
    "10.0.0.1:8081 12:30:01 2026-11-21T10:00:01.000000000Z",
]


@pytest.mark.parametrize("text", READABLE)
def test_what_a_support_engineer_needs_stays(text: str) -> None:
    result = redact(text)
    assert result.text == text
    assert result.count == 0


def test_a_certificate_is_public() -> None:
    pem = PEM.format("").replace("PRIVATE KEY", "CERTIFICATE")
    assert redact(pem).text == pem


def test_offsets_stay_true() -> None:
    text = '{\n  "ApiKey": "0123",\n  "pccs_url": "https://u:secret@h/"\n}\n'
    result = redact(text)
    assert result.text == '{\n  "ApiKey": "****",\n  "pccs_url": "https://********@h/"\n}\n'
    assert result.found == {"named": 1, "address": 1}


def test_values_of_a_document_are_redacted() -> None:
    document = {
        "a": [{"name": "PCCS_API_KEY", "value": S}, {"name": "CONFIG_X86_SGX", "value": "y"}],
        "text": f'"ApiKey": "{S}"',
        "hex": HEX,
        "number": 5,
    }
    assert redact_values(document) == {
        "a": [{"name": "PCCS_API_KEY", "value": "*" * len(S)}, {"name": "CONFIG_X86_SGX", "value": "y"}],
        "text": f'"ApiKey": "{"*" * len(S)}"',
        "hex": HEX,
        "number": 5,
    }


PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["password", "=", ": ", '"', "'", "\n", "  ", "token", "key", "://", "@", "-----BEGIN PRIVATE KEY-----",
         "-----END PRIVATE KEY-----", "kind: Secret", "data:", "|", "value", "name", "Bearer ", HEX, RANDOM, "\\"]
    ),
)  # fmt: skip


@given(st.lists(PIECES, max_size=20).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_keeps_its_length_and_lines_and_twice_is_once(text: str) -> None:
    once = redact(text)
    assert len(once.text) == len(text)
    assert [i for i, c in enumerate(once.text) if c in "\r\n"] == [i for i, c in enumerate(text) if c in "\r\n"]
    assert all(new in (old, "*") for old, new in zip(text, once.text, strict=True))
    again = redact(once.text)
    assert again.text == once.text or set(again.text) <= set(once.text) | {"*"}


@given(st.text(alphabet="abcXYZ019!%&()+,./:;<>?^_~-", min_size=6, max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_quoted_secret_with_a_name_is_taken_out(secret: str) -> None:
    if secret.lower() in {"true", "false"} or secret.startswith("$") or (secret[0] == "<" and secret[-1] == ">"):
        return
    for text in (f'"password": "{secret}"', f"token='{secret}'", f"ApiKey = {secret}", f"--secret {secret}"):
        assert secret not in redact(f"x\n{text}\ny").text


@pytest.mark.parametrize(
    "unit", ["a", "key", "key=", "token ", "password: |\n ", "://a:", "-----BEGIN PRIVATE KEY-----\n", "data:\n", '"',
             "\\", "kind: Secret\ndata: {", "name: key\n", "eyJ", "=[", "x" * 39 + " ", "-----END PRIVATE KEY-----"]
)  # fmt: skip
def test_no_text_makes_it_slow(unit: str) -> None:
    # Quadratic behaviour would take minutes on this; the run of the tests would show it.
    redact(unit * (200_000 // len(unit)))


def test_a_secret_is_found_below_lines_full_of_hints() -> None:
    for distance in range(12):
        text = "the key is turned\n" * 3 + "plain\n" * distance + f'"ApiKey":\n   "{S}"\n'
        assert S not in redact(text).text, distance
