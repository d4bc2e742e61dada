"""Credentials: kubeconfigs as they are written, and the pod's service account."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sgxkit.errors import InputError
from sgxkit.kubernetes import credentials
from sgxkit.kubernetes.credentials import find_credentials, read_kubeconfig


def write(path: Path, user: object, cluster: object = None, **more: object) -> Path:
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster or {"server": "https://example.com:6443/"}}],
        "users": [{"name": "u", "user": user}],
        **more,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_token_and_a_server(tmp_path: Path) -> None:
    found = read_kubeconfig(write(tmp_path / "config", {"token": "t"}))
    assert (found.server, found.bearer()) == ("https://example.com:6443", "t")


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    found = read_kubeconfig(write(tmp_path / "config", {"tokenFile": "token"}))
    assert found.bearer() == "one"
    (tmp_path / "token").write_text("two\n")
    assert found.bearer() == "two"


@pytest.mark.parametrize(
    ("user", "cluster", "problem"),
    [
        ({"exec": {"command": "x"}}, None, "a program makes"),
        ({}, {"server": "https://x", "insecure-skip-tls-verify": True}, "not to verify"),
        ({}, {"server": "ftp://x"}, "no kubeconfig"),
        ({"client-certificate-data": "%%"}, None, "no kubeconfig"),
        ({"client-certificate": "absent.pem"}, None, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, user: object, cluster: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_kubeconfig(write(tmp_path / "config", user, cluster))


@pytest.mark.parametrize("text", ["", "[]", "{", "a: [", "contexts: 5", "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(InputError):
        read_kubeconfig(tmp_path / "config")


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    found = read_kubeconfig(
        write(tmp_path / "config", {}, {"server": "https://x", "certificate-authority-data": "anVuaw=="})
    )
    with pytest.raises(InputError, match="certificates"):
        found.tls_context()


def test_the_service_account_comes_before_the_usual_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "ca.crt").write_text("pem")
    found = find_credentials(environment={"KUBERNETES_SERVICE_HOST": "fd00::1", "HOME": str(tmp_path)})
    assert (found.server, found.bearer(), found.ca) == ("https://[fd00::1]:443", "t", "pem")
    with pytest.raises(InputError, match="no credentials"):
        find_credentials(environment={"HOME": str(tmp_path)})
