"""An API server that holds objects in memory, applies JSON patches, and records who asked what.

HTTP without TLS: what is tested is what is asked. `failures` are answered first, one a request.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sgxkit.kubernetes.credentials import Credentials

Document = dict[str, Any]
_VERBS = {"GET": "get", "PATCH": "patch", "POST": "create"}
_PATH = re.compile(
    r"(/api/v1|/apis/(?P<group>[^/]+)/[^/]+)(/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[a-z]+)(/(?P<name>[^/]+)(/(?P<sub>[a-z]+))?)?"
)


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One request, as RBAC sees it."""

    verb: str
    resource: str
    namespace: str = ""
    group: str = ""


@dataclass(slots=True)
class FakeApiServer:
    """Nodes by name, and pods; `calls` in order."""

    nodes: dict[str, Document] = field(default_factory=dict)
    pods: list[Document] = field(default_factory=list)
    created: list[tuple[str, Document]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    failures: deque[tuple[int, str]] = field(default_factory=deque)
    bodies: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""
    token: str = "secret"

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.url, token=self.token)

    def answer(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, Document]:
        url = urlsplit(target)
        found = _PATH.fullmatch(url.path)
        if found is None:
            return _failure(404, f"no such path {url.path}")
        verb = "list" if method == "GET" and found["name"] is None else _VERBS[method]
        resource = found["resource"] + (f"/{found['sub']}" if found["sub"] else "")
        self.calls.append(Call(verb, resource, found["namespace"] or "", found["group"] or ""))
        if self.failures:
            return _failure(*self.failures.popleft())
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if method == "POST":
            document = json.loads(body)
            self.created.append((url.path, document))
            return 201, document
        if verb == "list":
            return self._list(found["resource"], found["namespace"], query)
        if found["resource"] == "pods":
            for index, pod in enumerate(self.pods):
                if pod["metadata"]["name"] == found["name"]:
                    if method == "PATCH":
                        self.pods[index] = apply_patch(pod, json.loads(body))
                    return 200, self.pods[index]
            return _failure(404, f'pods "{found["name"]}" not found')
        node = self.nodes.get(found["name"] or "")
        if found["resource"] != "nodes" or node is None:
            return _failure(404, f'{found["resource"]} "{found["name"]}" not found')
        if method == "GET":
            return 200, node
        if content_type != "application/json-patch+json":
            return _failure(415, content_type)
        operations = json.loads(body)
        self.bodies.append((url.path, operations))
        try:
            self.nodes[found["name"]] = apply_patch(node, operations)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            return _failure(422, f"the patch does not apply: {error}")
        return 200, self.nodes[found["name"]]

    def _list(self, resource: str, namespace: str | None, query: dict[str, str]) -> tuple[int, Document]:
        objects = {"nodes": list(self.nodes.values()), "pods": self.pods}.get(resource)
        if objects is None:
            return 200, {"items": [], "metadata": {}}
        if namespace:
            objects = [one for one in objects if one["metadata"]["namespace"] == namespace]
        selector = query.get("fieldSelector", "")
        if selector.startswith("spec.nodeName="):
            objects = [one for one in objects if one["spec"].get("nodeName") == selector.partition("=")[2]]
        start, size = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(objects)
        following = str(start + size) if start + size < len(objects) else ""
        return 200, {"items": objects[start : start + size], "metadata": {"continue": following}}


def _failure(status: int, message: str) -> tuple[int, Document]:
    return status, {"kind": "Status", "status": "Failure", "message": message, "code": status}


def apply_patch(document: Document, operations: list[Document]) -> Document:
    """Apply add, remove, replace and test of RFC 6902; all or nothing."""
    result = copy.deepcopy(document)
    for operation in operations:
        *parents, last = [one.replace("~1", "/").replace("~0", "~") for one in operation["path"].split("/")[1:]]
        target: Any = result
        for name in parents:
            target = target[int(name)] if isinstance(target, list) else target[name]
        key: Any = last
        if isinstance(target, list) and last != "-":
            key = int(last)
        match operation["op"]:
            case "test":
                if target[key] != operation["value"]:
                    raise ValueError(f"test of {operation['path']} fails")
            case "remove":
                del target[key]
            case "replace":
                target[key]
                target[key] = operation["value"]
            case "add" if isinstance(target, list):
                target.insert(len(target) if last == "-" else key, operation["value"])
            case "add":
                target[key] = operation["value"]
            case other:
                raise ValueError(other)
    return result


@contextmanager
def serving(server: FakeApiServer) -> Iterator[FakeApiServer]:
    """Answer at a free port until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Authorization") != f"Bearer {server.token}":
                status, document = _failure(401, "Unauthorized")
            else:
                with lock:
                    status, document = server.answer(
                        self.command, self.path, body, self.headers.get("Content-Type", "")
                    )
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_POST = _any  # noqa: N815

        def log_message(self, *args: object) -> None:
            del args

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def make_node(name: str, **capacity: str) -> Document:
    """A node as a kubelet registers it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/arch": "amd64"}},
        "spec": {},
        "status": {
            "capacity": {
                "cpu": "8",
                "memory": "16Gi",
                **{key.replace("__", "/"): value for key, value in capacity.items()},
            },
            "allocatable": {"cpu": "8", "memory": "16Gi"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok"}],
        },
    }
