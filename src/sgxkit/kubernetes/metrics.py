"""Metrics in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, with the labels that tell it from its like."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `unit_help` says what a sample counts."""

    name: str
    kind: Literal["counter", "gauge"]
    unit_help: str
    samples: tuple[Sample, ...]


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Write metrics as a scraper reads them."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.unit_help}", f"# TYPE {metric.name} {metric.kind}"]
        for sample in metric.samples:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
            value = int(sample.value) if float(sample.value).is_integer() else sample.value
            lines.append(f"{metric.name}{{{labels}}} {value}" if labels else f"{metric.name} {value}")
    return "".join(f"{line}\n" for line in lines).encode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
