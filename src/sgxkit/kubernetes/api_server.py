"""Questions to a Kubernetes API server, with nothing but the standard library.

One connection is kept and opened again when the server closed it. Every question has a time limit, every answer a
largest size, and no redirect is followed.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from sgxkit.errors import SgxkitError
from sgxkit.kubernetes.credentials import Credentials
from sgxkit.messages import Message, msg

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
PAGE = 500
_MAX_ANSWER = 64 << 20

Document = dict[str, Any]


class ApiServerError(SgxkitError):
    """The API server did not answer, or refused; `status` is its HTTP status, None where there was no answer."""

    code = "api-server"
    exit_code = 2

    def __init__(self, message: Message, *, status: int | None = None, hint: Message | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ApiServer:
    """One API server, asked by one thread at a time."""

    def __init__(self, credentials: Credentials, timeout: float = 15.0) -> None:
        self._credentials = credentials
        self._timeout = timeout
        self._address = urlsplit(credentials.server)
        self._tls: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        return self._credentials.server

    def get(self, path: str, **parameters: str) -> Document:
        """Read one object, or one list as it is; raises ApiServerError."""
        return self._ask("GET", path + (f"?{urlencode(parameters)}" if parameters else ""))

    def items(self, path: str, **parameters: str) -> Iterator[Document]:
        """Read a list page by page, so that no more than `PAGE` objects are held; raises ApiServerError."""
        query = {"limit": str(PAGE), **parameters}
        while True:
            page = self._ask("GET", f"{path}?{urlencode(query)}")
            entries = page.get("items")
            if not isinstance(entries, list):
                raise ApiServerError(msg("the API server's answer to {path} is no list", path=path))
            yield from (entry for entry in entries if isinstance(entry, dict))
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            query["continue"] = str(following)

    def patch(self, path: str, operations: list[Document]) -> Document:
        """Apply a JSON patch (RFC 6902); raises ApiServerError."""
        return self._ask("PATCH", path, json.dumps(operations).encode(), JSON_PATCH)

    def create(self, path: str, document: Document) -> Document:
        """Create an object; raises ApiServerError."""
        return self._ask("POST", path, json.dumps(document).encode(), JSON)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON) -> Document:
        headers = {"Accept": JSON, "User-Agent": "sgxkit"}
        token = self._credentials.bearer()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = content_type
        status, data = self._exchange(method, self._address.path + path, body, headers)
        try:
            document = json.loads(data) if data else {}
        except ValueError:
            document = None
        if not 200 <= status < 300:
            reason = document.get("message") if isinstance(document, dict) else None
            raise _refusal(method, path, status, str(reason or http.client.responses.get(status, "")))
        if not isinstance(document, dict):
            raise ApiServerError(msg("the API server's answer to {path} is no JSON object", path=path), status=status)
        return document

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        kept = self._connection is not None
        try:
            connection = self._connected()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(_MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and isinstance(error, (ConnectionError, http.client.RemoteDisconnected)) and method == "GET":
                return self._exchange(method, path, body, headers)  # the server had closed what was kept
            raise ApiServerError(
                msg("the API server at {server} cannot be asked: {reason}", server=self.server, reason=error),
            ) from error
        if len(data) > _MAX_ANSWER:
            self.close()
            raise ApiServerError(
                msg("the API server's answer to {path} is larger than {limit} bytes", path=path, limit=_MAX_ANSWER)
            )
        return answer.status, data

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._address.hostname or "", self._address.port
            if self._address.scheme == "https":
                self._tls = self._tls or self._credentials.tls_context()
                self._connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        return self._connection


def _refusal(method: str, path: str, status: int, reason: str) -> ApiServerError:
    hints = {
        401: msg("the credentials are not valid, or no more"),
        403: msg("the role of these credentials does not allow it"),
        404: msg("is the name right?"),
    }
    return ApiServerError(
        msg(
            "the API server refuses {method} {path}: {status} {reason}",
            method=method,
            path=path.partition("?")[0],
            status=status,
            reason=reason[:500],
        ),
        status=status,
        hint=hints.get(status),
    )


def node_path(name: str) -> str:
    """The path of a node."""
    return f"/api/v1/nodes/{quote(name, safe='')}"


def namespaced_path(namespace: str, kind: str, name: str | None = None) -> str:
    """The path of objects of the core group in a namespace, or of one of them."""
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/{kind}"
    return path if name is None else f"{path}/{quote(name, safe='')}"
