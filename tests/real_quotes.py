"""Real quotes with collateral and the verdict expected of them, from ../shared beside the checkout if it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sgxkit.dcap.collateral import Collateral, parse_bundle
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA, TrustAnchor, anchor_from_pem

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_vectors = pytest.mark.skipif(
    not (SHARED / "vectors").is_dir(), reason="the real quotes (../shared/vectors) are not here"
)


@dataclass(frozen=True)
class Vector:
    """One folder: a quote, mostly with collateral, and what is expected."""

    folder: Path
    expected: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def quote(self) -> bytes:
        return (self.folder / "quote.bin").read_bytes()

    @property
    def collateral_path(self) -> Path:
        return self.folder / "collateral.json"

    @property
    def collateral(self) -> Collateral:
        return parse_bundle(self.collateral_path.read_bytes())

    @property
    def trusted_root(self) -> str | None:
        root: str | None = json.loads(self.collateral_path.read_bytes()).get("trusted_root")
        return root

    @property
    def anchor(self) -> TrustAnchor:
        return INTEL_SGX_ROOT_CA if self.trusted_root is None else anchor_from_pem(self.trusted_root, "trusted_root")

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.expected["verification_time"])


@cache
def vectors(kind: str, *, with_collateral: bool = True) -> tuple[Vector, ...]:
    """The vectors of ../shared/`kind`; with collateral, or without."""
    folders = sorted(path.parent for path in (SHARED / kind).glob("*/quote.bin"))
    return tuple(
        Vector(folder, json.loads((folder / "expected.json").read_bytes()))
        for folder in folders
        if (folder / "collateral.json").exists() == with_collateral
    )


def named(kind: str, *, only: str | None = None, with_collateral: bool = True) -> pytest.MarkDecorator:
    """Parametrize a test over vectors by name; without the folder, the one case says why it is skipped."""
    found = vectors(kind, with_collateral=with_collateral)
    if only is not None:
        found = tuple(vector for vector in found if vector.name == only)
    if not found:
        missing = pytest.mark.skip(reason=f"the real quotes (../shared/{kind}) are not here")
        return pytest.mark.parametrize("vector", [pytest.param(None, marks=missing, id="absent")])
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector.name)
