"""Container images for tests, made without a container tool: an OCI layout, and what `docker save` writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Change = Callable[[tarfile.TarFile], None]

CONFIG: dict[str, Any] = {
    "Entrypoint": ["program", "--serve"],
    "Cmd": ["80"],
    "Env": ["PATH=/usr/bin:/bin", "GREETING={{ 7 * 7 }} {% raw %} \"'"],
    "WorkingDir": "/srv",
    "User": "web:web",
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
}


def file(name: str, content: bytes = b"", mode: int = 0o644) -> Change:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), mode, 1_700_000_000
        tar.addfile(info, io.BytesIO(content))

    return change


def entry(name: str, kind: bytes, target: str = "", mode: int = 0o755) -> Change:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, mode
        tar.addfile(info)

    return change


def link(name: str, target: str) -> Change:
    return entry(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> Change:
    return entry(name, tarfile.LNKTYPE, target)


def folder(name: str) -> Change:
    return entry(name, tarfile.DIRTYPE)


def layer(*changes: Change) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for change in changes:
            change(tar)
    return out.getvalue()


BASE = layer(
    folder("usr/bin"),
    file("usr/bin/program", b"\x7fELF program", 0o755),
    file("usr/lib/libx.so.1", b"library"),
    link("lib", "usr/lib"),
    link("bin", "/usr/bin"),
    file("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"),
    file("etc/group", b"root:x:0:\nweb:x:35:\n"),
    file("srv/old/a", b"a"),
    file("srv/gone", b"gone"),
)
UPPER = layer(
    file("srv/old/.wh..wh..opq"),
    file("srv/old/new", b"new"),
    file("srv/.wh.gone"),
    link("usr/lib/libx.so", "libx.so.1"),
    hard_link("usr/bin/same", "usr/bin/program"),
    file('srv/{{ evil }} "\n', b"name"),
    file("lib/liby.so", b"through the link"),
)


def config_of(layers: Sequence[bytes], config: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": CONFIG if config is None else config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(each)}" for each in layers]},
            **more,
        }
    ).encode()


def oci_layout(
    path: Path,
    layers: Sequence[bytes] = (BASE, UPPER),
    config: bytes | None = None,
    pack: Callable[[bytes], bytes] = gzip.compress,
) -> Path:
    """Write an OCI image layout into a folder."""
    (path / "blobs/sha256").mkdir(parents=True)

    def blob(content: bytes) -> dict[str, Any]:
        (path / "blobs/sha256" / _sha256(content)).write_bytes(content)
        return {"digest": f"sha256:{_sha256(content)}", "size": len(content)}

    manifest = {
        "schemaVersion": 2,
        "config": blob(config or config_of(layers)),
        "layers": [blob(pack(each)) for each in layers],
    }
    described = blob(json.dumps(manifest).encode())
    described["annotations"] = {"org.opencontainers.image.ref.name": "example.org/team/web:1"}
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return path


def tar_of(path: Path, layout: Path) -> Path:
    """Pack a layout as one archive."""
    with tarfile.open(path, "w") as tar:
        for each in sorted(layout.rglob("*")):
            tar.add(each, each.relative_to(layout), recursive=False)
    return path


def docker_save(path: Path, layers: Sequence[bytes] = (BASE, UPPER), config: bytes | None = None) -> Path:
    """Write what older Dockers save: layers uncompressed, each in a folder of its own."""
    content = config or config_of(layers)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    document = [{"Config": f"{_sha256(content)}.json", "RepoTags": ["web:1"], "Layers": names}]
    with tarfile.open(path, "w") as tar:
        file(f"{_sha256(content)}.json", content)(tar)
        for name, each in zip(names, layers, strict=True):
            file(name, each)(tar)
        file("manifest.json", json.dumps(document).encode())(tar)
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
