"""`sgxkit k8s preflight` as an entrypoint, `sgxkit k8s webhook` over TLS."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from doubles.sgx_devices import make_host, needs_exec_dev

SGXKIT = [sys.executable, "-m", "sgxkit", "k8s"]
PORT = 19443


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SGXKIT, *arguments], capture_output=True, text=True, timeout=60, check=False)


@needs_exec_dev
def test_the_program_runs_where_nothing_is_lacking(tmp_path: Path) -> None:
    view = make_host(tmp_path)
    done = run(
        "preflight", "--dev", str(view.dev), "--need", "enclave", "--", sys.executable, "-c", "raise SystemExit(7)"
    )
    assert done.returncode == 7, done.stderr


def test_the_program_does_not_run_where_something_is(tmp_path: Path) -> None:
    done = run(
        "preflight", "--json", "--dev", str(tmp_path), "--need", "enclave", "--", "touch", str(tmp_path / "ran")
    )
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["ready"] is False
    assert "sgx.intel.com/enclave" in document["findings"][0]["cause"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("options", [["--need", "luck"], ["--aesm", "tcp://example.com:1"]])
def test_wrong_options_are_refused(options: list[str]) -> None:
    assert run("preflight", *options).returncode == 3


def certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "tls.crt", folder / "tls.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert, secret


def test_the_webhook_answers_over_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    command = [
        *SGXKIT, "webhook", "--tls-cert", str(cert), "--tls-key", str(key), "--listen", f"127.0.0.1:{PORT}"
    ]  # fmt: skip
    pod = {"spec": {"containers": [{"name": "a", "resources": {"limits": {"sgx.intel.com/epc": "1Mi"}}}]}}
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u", "operation": "CREATE", "namespace": "default", "object": pod},
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            context = ssl.create_default_context(cafile=str(cert))
            deadline = time.monotonic() + 30
            while True:
                connection = http.client.HTTPSConnection("localhost", PORT, timeout=5, context=context)
                try:
                    connection.request("POST", "/mutate-v1-pod?timeout=10s", json.dumps(review))
                    answer = connection.getresponse()
                    document = json.loads(answer.read())
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                finally:
                    connection.close()
            assert document["response"]["patchType"] == "JSONPatch"
            large = http.client.HTTPSConnection("localhost", PORT, timeout=5, context=context)
            large.putrequest("POST", "/mutate-v1-pod")
            large.putheader("Content-Length", str(9 << 20))
            large.endheaders()
            assert large.getresponse().status == 413
            large.close()
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("junk")
    done = run("webhook", "--tls-cert", str(tmp_path / "junk"), "--tls-key", str(tmp_path / "junk"))
    assert done.returncode == 3, done.stderr
