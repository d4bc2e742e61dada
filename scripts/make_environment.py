"""Make .venv: the locked development tools and sgxkit itself, from nothing but this Python and PyPI.

Debian's Python comes without ensurepip unless python3-venv is installed, so pip is not taken for granted: where the
venv module cannot supply it, the wheel named below is fetched from the package index and its hash compared.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path
from urllib.parse import urljoin

PIP_WHEEL = "pip-26.3-py3-none-any.whl"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def fetch(url: str, accept: str = "*/*") -> bytes:
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60, context=context) as response:
        return bytes(response.read())


def pip_wheel(folder: Path) -> Path:
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    listing = json.loads(fetch(index, "application/vnd.pypi.simple.v1+json"))
    url = next(urljoin(index, file["url"]) for file in listing["files"] if file["filename"] == PIP_WHEEL)
    content = fetch(url)
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        sys.exit(f"{PIP_WHEEL} from the package index is not the one that this project trusts")
    wheel = folder / PIP_WHEEL
    wheel.write_bytes(content)
    return wheel


def main() -> None:
    print("Setting up .venv (only when pyproject.toml or the lock file changed) ...", flush=True)
    python = VENV / "bin" / "python"
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    if not python.exists():
        venv.create(VENV, with_pip=False, symlinks=True)
    with tempfile.TemporaryDirectory() as folder:
        pip: list[str] = [str(python), "-m", "pip"]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
            if has_ensurepip:
                subprocess.run([python, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
            else:
                pip = [str(python), str(pip_wheel(Path(folder)) / "pip")]
        install = [*pip, "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [
                *install,
                "--require-hashes",
                "--only-binary",
                ":all:",
                "-r",
                str(ROOT / "requirements-dev.lock"),
            ],
            check=True,
        )
        subprocess.run([*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True)
    (VENV / ".ready").touch()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"setting up .venv failed: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
    except OSError as error:
        sys.exit(f"setting up .venv failed: {error}")
