"""The images: pinned, from signed repositories, not root; and the list of what is in them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

IMAGES = Path(__file__).resolve().parents[2] / "images"
FILES = sorted(IMAGES.glob("*/Containerfile"))


def instructions(path: Path) -> list[str]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    return [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_bases_and_packages_are_pinned(path: Path) -> None:
    lines = instructions(path)
    bases = [line for line in lines if re.match(r"ARG (BASE|SGXKIT)=", line)]
    assert bases
    assert all(re.search(r":[^:]*\d[^:]*$|@sha256:", line) and ":latest" not in line for line in bases)
    for name in re.findall(r'"?((?:lib)?sgx-[a-z-]+|gramine)=', " ".join(lines)):
        assert re.search(rf"{name}=\$\{{[A-Z]+\}}", " ".join(lines)), name
    assert not any(
        re.search(r"--insecure|--no-check|-k |apt-key|trusted=yes|--allow-unauthenticated", line) for line in lines
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_repositories_are_signed_and_the_user_is_not_root(path: Path) -> None:
    lines = instructions(path)
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")
    for source in re.findall(r"'deb [^']*'", " ".join(lines)):
        assert "signed-by=" in source
    assert any("sbom.py" in line for line in lines)


def test_intels_key_is_compared_with_its_fingerprint() -> None:
    text = (IMAGES / "intel-key.sh").read_text()
    assert "150434D1488BF80308B69398E5C7F0FA1C6C6C3C" in text
    assert "signed-by=" in text


@pytest.fixture
def sbom() -> ModuleType:
    specification = importlib.util.spec_from_file_location("sbom", IMAGES / "sbom.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_list_of_contents_names_every_package(sbom: ModuleType) -> None:
    document = sbom.document("sgxkit", "0.1.0")
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    purls = [one["purl"] for one in document["components"]]
    assert purls == sorted(purls)
    assert any(purl.startswith("pkg:pypi/cryptography@") for purl in purls)
