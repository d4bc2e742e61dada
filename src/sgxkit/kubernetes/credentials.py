"""Where the API server is, and who asks: a pod's service account, or the part of a kubeconfig that needs no program.

A service account's token is read again for every connection: the kubelet renews it.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sgxkit.errors import InputError
from sgxkit.messages import msg

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API server and what it knows us by.

    server       ``https://HOST:PORT``, with a path where it has one.
    ca           PEM of who signed its certificate; None for the system's.
    token        a bearer token, or `token_file` that holds one.
    certificate  PEM of a client certificate and of its key.
    """

    server: str
    ca: str | None = None
    token: str | None = None
    token_file: Path | None = None
    certificate: tuple[str, str] | None = None

    def bearer(self) -> str | None:
        """The token of now; raises InputError where its file cannot be read."""
        if self.token_file is not None:
            return read_text(self.token_file).strip()
        return self.token

    def tls_context(self) -> ssl.SSLContext:
        """TLS as these credentials want it; raises InputError for certificates that are none."""
        try:
            context = ssl.create_default_context(cadata=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                # OpenSSL reads keys from files only; this one is its owner's alone, and gone after.
                with tempfile.NamedTemporaryFile("w") as file:
                    file.write("\n".join(self.certificate))
                    file.flush()
                    context.load_cert_chain(file.name)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                msg("the certificates for the API server cannot be used: {reason}", reason=error)
            ) from error
        return context


def find_credentials(
    kubeconfig: Path | None = None, *, context: str | None = None, environment: Mapping[str, str] = os.environ
) -> Credentials:
    """Read a kubeconfig that is named, else the pod's service account, else the usual kubeconfig.

    Raises InputError where there is none.
    """
    if kubeconfig is None and environment.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _service_account(environment)
    named = environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = kubeconfig or (Path(named) if named else Path(environment.get("HOME", "/")) / ".kube" / "config")
    if kubeconfig is None and not named and not path.exists():
        raise InputError(
            msg("no credentials for a Kubernetes cluster were found"),
            hint=msg("give --kubeconfig, or run in a pod with a service account"),
        )
    return read_kubeconfig(path, context)


def _service_account(environment: Mapping[str, str]) -> Credentials:
    host = environment["KUBERNETES_SERVICE_HOST"]
    bracketed = f"[{host}]" if ":" in host else host
    return Credentials(
        f"https://{bracketed}:{environment.get('KUBERNETES_SERVICE_PORT', '443')}",
        ca=read_text(SERVICE_ACCOUNT / "ca.crt"),
        token_file=SERVICE_ACCOUNT / "token",
    )


def read_kubeconfig(path: Path, context: str | None = None) -> Credentials:
    """Read the current context of a kubeconfig, or the one named.

    Raises InputError for a file that is none, and for users whose credentials a program would have to make.
    """
    import yaml  # noqa: PLC0415 - a pod's service account needs none

    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(msg("{path} is no kubeconfig: {reason}", path=path, reason=msg("it is not YAML"))) from error
    if not isinstance(document, dict):
        raise _malformed(path)
    chosen = context or document.get("current-context")
    entry = _named(document, "contexts", "context", chosen, path)
    cluster = _named(document, "clusters", "cluster", entry.get("cluster"), path)
    user = _named(document, "users", "user", entry.get("user"), path)
    server = cluster.get("server")
    if not isinstance(server, str) or urlsplit(server).scheme not in ("http", "https"):
        raise _malformed(path)
    if cluster.get("insecure-skip-tls-verify"):
        raise InputError(
            msg("{path} asks not to verify the API server's certificate", path=path),
            hint=msg("give the cluster its certificate-authority"),
        )
    if "exec" in user or "auth-provider" in user:
        raise InputError(
            msg("{path} has credentials that a program makes, which is not done here", path=path),
            hint=msg("make a kubeconfig with a token: kubectl create token ..."),
        )
    certificate, key = _data(user, "client-certificate", path), _data(user, "client-key", path)
    token, token_file = user.get("token"), user.get("tokenFile")
    return Credentials(
        server.rstrip("/"),
        ca=_data(cluster, "certificate-authority", path),
        token=None if token is None else str(token),
        token_file=None if token_file is None else path.parent / str(token_file),
        certificate=None if certificate is None or key is None else (certificate, key),
    )


def _named(document: dict[str, Any], members: str, member: str, name: object, path: Path) -> dict[str, Any]:
    entries = document.get(members)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(member), dict):
            return dict(entry[member])
    raise InputError(msg("{path} has no {member} called {name}", path=path, member=member, name=name))


def _data(entry: dict[str, Any], name: str, path: Path) -> str | None:
    """A PEM that is in the file, or in another one that it names."""
    inline = entry.get(f"{name}-data")
    if inline is not None:
        try:
            return base64.b64decode(str(inline), validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise _malformed(path) from error
    other = entry.get(name)
    return None if other is None else read_text(path.parent / str(other))


def _malformed(path: Path) -> InputError:
    return InputError(msg("{path} is no kubeconfig: {reason}", path=path, reason=msg("it lacks what one has")))


def read_text(path: Path) -> str:
    """Read a short text file; raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error)) from error
    try:
        if len(data) > _MAX_FILE:
            raise InputError(msg("{path} is larger than {limit} bytes", path=path, limit=_MAX_FILE))
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(msg("{path} is not UTF-8 text", path=path)) from error
