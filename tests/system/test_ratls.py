"""RA-TLS and secrets with real sockets: the right enclave is accepted and given a secret, wrong ones are not."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from doubles.ratls import (
    OURS,
    POLICY,
    WRONG,
    get,
    https,
    identity,
    judge,
    secrets_server,
    server_certificate,
    wrong_peer,
)
from sgxkit.enclave_side import EnclaveSideError, fetch_gramine_secret, fetch_secret
from sgxkit.enclave_side.certificate import KeyAndCertificate
from sgxkit.enclave_side.provisioning import REQUEST
from sgxkit.errors import InputError
from sgxkit.lab.authority import Lab
from sgxkit.lab.store import create_lab, seed_from_text
from sgxkit.lab.world import new_world
from sgxkit.verifier import client_context, peer_of
from sgxkit.verifier.secret_release import Secrets


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("labs")
    return create_lab(new_world("ratls", datetime.now(UTC)), seed=seed_from_text("ratls"), folder=folder)


def test_the_right_enclave_is_accepted_by_every_kind_of_client(lab: Lab, tmp_path: Path) -> None:
    shown, peers = identity(lab), judge(lab)
    with https(shown, tmp_path) as port:
        url = f"https://127.0.0.1:{port}/"
        context = client_context(peers)
        with httpx.Client(verify=context, trust_env=False) as client, client.stream("GET", url) as response:
            assert peer_of(response).certificate == shown.certificate
            assert peer_of(response).body.mrenclave == OURS.mrenclave

        async def asynchronously() -> int:
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                async with client.stream("GET", url) as response:
                    assert peer_of(response).certificate == shown.certificate
                return (await client.get(url)).status_code

        assert asyncio.run(asynchronously()) == 200
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_connection_of_another_context_has_no_peer() -> None:
    with socket.socket() as plain, pytest.raises(InputError):
        peer_of(plain)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_peers_are_refused_and_told_nothing(lab: Lab, tmp_path: Path, wrong: str) -> None:
    shown, peers, refusal = wrong_peer(wrong, lab, POLICY, OURS)
    with https(shown, tmp_path) as port, pytest.raises(refusal):
        get(port, peers)


def test_a_secret_is_given_once_and_to_the_right_enclave_only(lab: Lab, tmp_path: Path) -> None:
    record = tmp_path / "releases"
    secrets = Secrets({"disk": b"sixteen bytes..!"}, once=True, record=record)
    with secrets_server(judge(lab), tmp_path, secrets) as served:
        wrong = identity(lab, replace(OURS, mrenclave=bytes(32)))
        with pytest.raises(EnclaveSideError):
            fetch_gramine_secret(served.address, served.ca_file, wrong)
        assert not record.exists()
        mine = identity(lab)
        assert fetch_gramine_secret(f"127.0.0.1:1;{served.address}", served.ca_file, mine) == b"sixteen bytes..!"
        with pytest.raises(EnclaveSideError):
            fetch_gramine_secret(served.address, served.ca_file, mine)
        with pytest.raises(EnclaveSideError, match="410"):
            fetch_secret("disk", served.address, served.ca_file, mine)
    (release,) = [json.loads(line) for line in record.read_text().splitlines()]
    assert release["secret"] == "disk"
    assert release["mrenclave"] == OURS.mrenclave.hex()
    assert release["certificate_sha256"] == sha256(mine.certificate).hexdigest()
    assert record.stat().st_mode & 0o777 == 0o600
    # The record outlives the server.
    again = Secrets({"disk": b"sixteen bytes..!"}, once=True, record=record)
    with secrets_server(judge(lab), tmp_path, again) as served, pytest.raises(EnclaveSideError, match="410"):
        fetch_secret("disk", served.address, served.ca_file, identity(lab))


def test_secrets_by_name_over_http(lab: Lab, tmp_path: Path) -> None:
    large = os.urandom(1 << 20)
    with secrets_server(judge(lab), tmp_path, Secrets({"a": b"first", "b": large, "empty": b""})) as served:
        mine = identity(lab)
        assert fetch_secret("a", served.address, served.ca_file, mine) == b"first"
        assert fetch_secret("b", served.address, served.ca_file, mine) == large
        assert fetch_secret("empty", served.address, served.ca_file, mine) == b""
        for name, status in (("c", "404"), ("../a", "400")):
            with pytest.raises(EnclaveSideError, match=status):
                fetch_secret(name, served.address, served.ca_file, mine)
        # Gramine's protocol has the first one.
        assert fetch_gramine_secret(served.address, served.ca_file, mine) == b"first"


def test_the_server_outlives_clients_that_misbehave(lab: Lab, tmp_path: Path) -> None:
    with secrets_server(judge(lab), tmp_path, Secrets({"a": b"first"})) as served:
        host, _, port = served.address.rpartition(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(20)]
        for garbage in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), os.urandom(5000)):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(garbage)
        without = ssl.create_default_context(cafile=str(served.ca_file))
        with (
            socket.create_connection((host, int(port))) as plain,
            without.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(REQUEST)
            try:
                answer = client.recv(100)
            except OSError:
                answer = b""
            assert answer == b""
        assert fetch_secret("a", served.address, served.ca_file, identity(lab)) == b"first"
        for connection in idle:
            connection.close()
    assert any("no certificate" in sentence for sentence in served.said)


def sgxkit(*arguments: str, env: dict[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sgxkit", *arguments],
        env=env,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(*arguments: str, env: dict[str, str]) -> Iterator[str]:
    """A serving command; yields where it listens. It ends by SIGTERM, with 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sgxkit", *arguments, "--json"], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, "it did not start"
            text += line
        yield json.loads(text)["listening"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()


def test_the_commands_from_a_lab_to_a_secret(tmp_path: Path) -> None:
    env = {**os.environ, "SGXKIT_STATE_DIR": str(tmp_path / "state"), "SGXKIT_CACHE_DIR": str(tmp_path / "cache")}
    assert sgxkit("lab", "create", "office", env=env).returncode == 0
    root = json.loads(sgxkit("lab", "quote", "office", "-o", str(tmp_path / "q"), "--json", env=env).stdout)[
        "trusted_root"
    ]
    bundle = tmp_path / "collateral.json"
    assert (
        sgxkit("lab", "quote", "office", "-o", str(tmp_path / "q"), "--collateral", str(bundle), env=env).returncode
        == 0
    )
    judged = ["--trusted-root", root, "--collateral", str(bundle)]
    with running("ratls", "serve", "--lab", "office", "--listen", "127.0.0.1:0", env=env) as address:
        said = sgxkit("ratls", "connect", address, *judged, "--mrsigner", OURS.mrsigner.hex(), env=env)
        assert said.returncode == 0, said.stderr
        assert b"emulated platform of lab office" in said.stdout
        refused = sgxkit("ratls", "connect", address, *judged, "--mrsigner", "00" * 32, "--json", env=env)
        assert (refused.returncode, json.loads(refused.stdout)["verdict"]) == (1, "refused")
        assert sgxkit("ratls", "connect", address, "--trusted-root", root, "--offline", env=env).returncode == 2
        shown = json.loads(sgxkit("ratls", "inspect", address, "--json", env=env).stdout)
        assert [quote["mrenclave"] for quote in shown["quotes"]] == [OURS.mrenclave.hex()] * 2
        answer = sgxkit("ratls", "connect", address, *judged, "--pipe", env=env, stdin=b"GET / HTTP/1.0\r\n\r\n")
        assert shown["certificate_sha256"].encode() in answer.stdout

    certificate, key = server_certificate(tmp_path)
    secret = tmp_path / "wrap.key"
    assert sgxkit("secrets", "new-key", str(secret), env=env).returncode == 0
    assert (secret.stat().st_size, secret.stat().st_mode & 0o777) == (16, 0o600)
    assert sgxkit("secrets", "new-key", str(secret), env=env).returncode == 3
    serve = [
        "secrets",
        "serve",
        "--secret",
        f"disk=@{secret}",
        "--cert",
        str(certificate),
        "--key",
        str(key),
        *judged,
    ]
    careless = sgxkit(*serve, env=env)
    assert careless.returncode == 3
    assert b"whose code" in careless.stderr
    made = ["ratls", "certificate", "--lab", "office", "--hostname", "a.example"]
    assert sgxkit(*made, "-o", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem"), env=env).returncode == 0
    assert sgxkit("ratls", "verify", str(tmp_path / "c.pem"), *judged, env=env).returncode == 0
    mine = KeyAndCertificate(
        ssl.PEM_cert_to_DER_cert((tmp_path / "k.pem").read_text().replace("EC PRIVATE KEY", "CERTIFICATE")),
        ssl.PEM_cert_to_DER_cert((tmp_path / "c.pem").read_text()),
    )
    options = ["--listen", "127.0.0.1:0", "--mrenclave", OURS.mrenclave.hex(), "--once"]
    with running(*serve, *options, env=env) as address:
        assert fetch_gramine_secret(address, certificate, mine) == secret.read_bytes()
        with pytest.raises(EnclaveSideError):
            fetch_gramine_secret(address, certificate, mine)


def test_outside_an_enclave_there_is_no_certificate(tmp_path: Path) -> None:
    said = sgxkit(
        *(
            "ratls",
            "certificate",
            "--attestation",
            str(tmp_path),
            "-o",
            str(tmp_path / "c"),
            "--key",
            str(tmp_path / "k"),
        ),
        env=dict(os.environ),
    )
    assert said.returncode == 1
    assert b"Gramine" in said.stderr
    assert list(tmp_path.iterdir()) == []
