"""Whatever a captured document says, it is judged: no facts break a check, the document or the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doubles.hosts import changed, kubernetes_node, packages
from sgxkit.host.facts import Facts, KubernetesCluster, NamedValue, Tool
from sgxkit.host.html import page
from sgxkit.host.profiles import PROFILES, Profile
from sgxkit.host.report import Kind, diagnose, document
from sgxkit.host.tree import lines
from unit.host.test_facts import instances

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schema/doctor.schema.json").read_text(encoding="utf-8"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(instances(Facts), st.sampled_from(list(PROFILES.values())))
def test_any_facts_are_judged(facts: Facts, profile: Profile) -> None:
    diagnosis = diagnose(facts, profile)
    assert (diagnosis.readiness.value == 1) == bool(diagnosis.of_kind(Kind.MISSING))
    assert list(lines(diagnosis, verbose=True))
    jsonschema.validate(document(diagnosis, version="0"), SCHEMA, jsonschema.Draft202012Validator)
    assert page(diagnosis, version="0", language="zh").endswith("</html>")


def test_numbers_of_any_length_are_judged() -> None:
    long = "9" * 5000
    facts = changed(kubernetes_node(), "kernel", release=f"{long}.{long}")
    facts = changed(facts, "software", packages=packages(f"{long}.{long}", "libsgx-urts"))
    facts = changed(facts, "virtualization", qemu=(Tool("qemu", "/q", f"{long}.{long}"),))
    cluster = facts.kubernetes.cluster
    assert isinstance(cluster, KubernetesCluster)
    entry = replace(cluster.nodes[0], allocatable=(NamedValue("sgx.intel.com/epc", long),))
    facts = changed(facts, "kubernetes", cluster=replace(cluster, nodes=(entry,)))
    assert diagnose(facts, PROFILES["kubernetes-node"]).verdicts["kubernetes.epc"].code == "no-epc-resource"
    assert diagnose(facts, PROFILES["run"]).verdicts["kernel.version"].code == "release-unread"
