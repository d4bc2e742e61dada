"""The charts: what they render, for which Kubernetes, with which rights; and what they refuse."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from doubles.api_server import Call, FakeApiServer, make_node, serving
from doubles.helm import STACK, WORKLOAD, containers_of, helm, needs_helm, pod_of, render
from sgxkit.kubernetes.api_server import ApiServer
from sgxkit.kubernetes.cluster import clean, plan_cleaning, read_cluster
from sgxkit.kubernetes.node_agent import NodeAgent
from sgxkit.kubernetes.node_state import CAPABLE_LABEL, NodeState

pytestmark = needs_helm

EVERYTHING = (
    "--set", "aesm.enabled=true,pccs.enabled=true,pccs.existingSecret=pccs,webhook.enabled=true",
    "--set", "device-plugin.crossCheck=true,device-plugin.cdi.enabled=true,device-plugin.qe=true",
    "--set", "node-agent.staleResources=true",
)  # fmt: skip
STACKS: dict[str, tuple[str, ...]] = {
    "default": (),
    "everything": EVERYTHING,
    "emulated": ("-f", str(STACK / "values-emulated.yaml")),
    "tke": ("-f", str(STACK / "values-tke.yaml")),
    "aks": ("-f", str(STACK / "values-aks.yaml")),
    "nfd": ("--set", "node-agent.mode=nfd"),
    "least": ("--set", "global.networkPolicy=false,cleanup.enabled=false,node-agent.enabled=false"),
}
EXAMPLES = sorted((WORKLOAD / "examples").glob("*.yaml"))
SHAPES: dict[str, tuple[str, ...]] = {
    "plain": ("--set", "image.repository=example.com/app,image.tag=v1"),
    "scaled": (
        "--set",
        "image.repository=example.com/app,image.tag=v1,autoscaling.enabled=true,service.enabled=true",
    ),
    "stateful": ("--set", "image.repository=example.com/app,image.tag=v1,kind=StatefulSet"),
    "job": ("--set", "image.repository=example.com/app,image.tag=v1,kind=Job"),
    "inproc": ("--set", "image.repository=a/b,image.tag=v1,sgx.quoteProvider=inproc,sgx.provision=true"),
    "emulated": ("--set", "image.repository=a/b,image.tag=v1,sgx.emulated=true,sgx.prefix=sgx.sgxkit.dev"),
    **{path.stem: ("-f", str(path)) for path in EXAMPLES},
}
VERSIONS = ["1.25.0", "1.28.0", "1.31.0", "1.34.0", "newest"]
# What kinds of objects have no schema in Kubernetes itself.
OTHERS = {"NodeFeatureRule", "Issuer", "Certificate"}


@cache
def rendered(name: str, kubernetes: str = "1.34.0") -> list[dict[str, Any]]:
    return render(STACK, *STACKS[name], kubernetes=kubernetes)


@cache
def workload(name: str, kubernetes: str = "1.34.0") -> list[dict[str, Any]]:
    return render(WORKLOAD, *SHAPES[name], release="app", namespace="apps", kubernetes=kubernetes)


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("chart", [STACK, WORKLOAD], ids=lambda path: path.name)
def test_helm_lints_them(chart: Path) -> None:
    options = SHAPES["plain"] if chart == WORKLOAD else ()
    code, text = helm("lint", "--strict", "--kube-version", "1.34.0", str(chart), *options)
    assert code == 0, text


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_takes(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    if version == "newest":
        version = f"{validate.latest_version().rpartition('.')[0]}.0"
    everything = chain(*(rendered(name, version) for name in STACKS), *(workload(name, version) for name in SHAPES))
    checked = 0
    for document in everything:
        if document["kind"] not in OTHERS:
            validate.validate(document, version.rpartition(".")[0], strict=True)
            checked += 1
    assert checked > 150


def test_an_older_kubernetes_is_refused() -> None:
    code, text = helm("template", "sgx", str(STACK), "--kube-version", "1.24.9")
    assert code != 0
    assert "kubeVersion" in text


HOST_PATHS = {
    "/dev", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources", "/var/run/aesmd", "/var/run/cdi",
    "/var/run/sgxkit-lab", "/var/lib/sgxkit-lab", "/etc/kubernetes/node-feature-discovery/features.d",
}  # fmt: skip
ROOT_BECAUSE_OF_HOST_FOLDERS = {"device-plugin", "aesm", "node-agent"}


@pytest.mark.parametrize("name", [*STACKS, *SHAPES])
def test_pods_have_no_more_rights_than_they_need(name: str) -> None:
    objects = rendered(name) if name in STACKS else workload(name)
    pods = [(one, pod) for one in objects if (pod := pod_of(one)) is not None]
    assert pods
    for document, pod in pods:
        part = document["metadata"]["labels"]["app.kubernetes.io/name"]
        assert "hostNetwork" not in pod
        assert "hostPID" not in pod
        assert isinstance(pod["automountServiceAccountToken"], bool)
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                assert volume["hostPath"]["path"] in HOST_PATHS
                assert volume["hostPath"]["type"] in {"Directory", "DirectoryOrCreate"}
        for container in containers_of(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert not security.get("privileged")
            assert security["readOnlyRootFilesystem"] is True or name == "sgx-dev"
            assert re.search(r"@sha256:|:(?!latest)[^/:]+$", container["image"]), container["image"]
            assert {"requests", "limits"} <= set(container["resources"])
            assert "memory" in container["resources"]["limits"]
            root = security.get("runAsUser", pod["securityContext"].get("runAsUser")) == 0
            assert not root or part in ROOT_BECAUSE_OF_HOST_FOLDERS, part
            assert root or pod["securityContext"].get("runAsNonRoot") is True
            for amount in chain(*(part.items() for part in container["resources"].values())):
                assert isinstance(amount[1], str), f"{amount[0]} is not quoted"
            for resource, amount in container["resources"]["limits"].items():
                if "/" in resource:
                    assert container["resources"]["requests"][resource] == amount


@pytest.mark.parametrize("name", list(STACKS))
def test_every_pod_of_the_stack_is_denied_what_it_does_not_need(name: str) -> None:
    objects = rendered(name)
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    if name == "least":
        assert not policies
        return
    (deny,) = [one for one in policies if one["metadata"]["name"] == "sgx-deny"]
    wanted = deny["spec"]["podSelector"]["matchLabels"]
    assert "ingress" not in deny["spec"]
    for document in objects:
        if (document["kind"] in {"DaemonSet", "Deployment", "StatefulSet", "Job"}) and pod_of(document):
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert wanted.items() <= labels.items(), document["metadata"]["name"]


def rules_of(objects: list[dict[str, Any]], account: str) -> set[tuple[str, str, str]]:
    """Verb, resource and namespace ("" everywhere) that a service account may."""
    found = set()
    for binding in objects:
        if binding["kind"] not in {"ClusterRoleBinding", "RoleBinding"}:
            continue
        if account not in [subject["name"] for subject in binding["subjects"]]:
            continue
        role = named(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for rule in role["rules"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    found.add((verb, resource, binding["metadata"].get("namespace", "")))
    return found


def asked(calls: list[Call]) -> set[tuple[str, str, str]]:
    return {(call.verb, call.resource, call.namespace) for call in calls}


def state(status: str) -> NodeState:
    ready = status == "True"
    labels = {CAPABLE_LABEL: "true"} if ready else {}
    return NodeState("sgx.intel.com", 1 << 30 if ready else 0, labels, status, "Any", "any")  # type: ignore[arg-type]


def test_roles_allow_exactly_what_the_programs_ask() -> None:
    objects = rendered("everything")
    with serving(FakeApiServer(nodes={"a": make_node("a")})) as server, ApiServer(server.credentials) as client:
        for status in ("True", "False"):
            NodeAgent(client, "a", lambda status=status: state(status)).reconcile()
        assert asked(server.calls) == rules_of(objects, "sgx-node-agent")
        server.calls.clear()
        list(client.items("/api/v1/pods", fieldSelector="spec.nodeName=a"))
        assert asked(server.calls) == rules_of(objects, "sgx-device-plugin")
        server.calls.clear()
        read_cluster(client, "sgx.intel.com")
        assert asked(server.calls) == rules_of(objects, "sgx-test-nodes")
        server.calls.clear()
        for plan in plan_cleaning(list(client.items("/api/v1/nodes")), "sgx.intel.com"):
            clean(client, plan)
        assert asked(server.calls) == rules_of(objects, "sgx-cleanup")
    assert rules_of(objects, "sgx-aesm") == rules_of(objects, "sgx-pccs") == rules_of(objects, "sgx-webhook") == set()


def test_without_the_cross_check_the_plugin_knows_no_api_server() -> None:
    objects = rendered("default")
    assert rules_of(objects, "sgx-device-plugin") == set()
    assert (
        named(objects, "DaemonSet", "sgx-device-plugin")["spec"]["template"]["spec"]["automountServiceAccountToken"]
        is False
    )


def test_the_emulated_stack_never_uses_intels_names() -> None:
    text = yaml.safe_dump_all(rendered("emulated"))
    assert "sgx.sgxkit.dev" in text
    assert "--prefix=sgx.intel.com" not in text
    plugin = named(rendered("emulated"), "DaemonSet", "sgx-device-plugin")["spec"]["template"]["spec"]
    terms = plugin["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {one["key"] for term in terms for one in term["matchExpressions"]} == {
        "kubernetes.io/os",
        "kubernetes.io/arch",
    }


def test_the_plugin_runs_where_any_of_the_labels_says_sgx() -> None:
    plugin = named(rendered("default"), "DaemonSet", "sgx-device-plugin")["spec"]["template"]["spec"]
    terms = plugin["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert len(terms) == 3
    assert CAPABLE_LABEL in [term["matchExpressions"][0]["key"] for term in terms]


def test_the_webhook_fails_closed_only_where_conditions_narrow_it() -> None:
    (new,) = [one for one in rendered("everything") if one["kind"] == "MutatingWebhookConfiguration"]
    assert new["webhooks"][0]["failurePolicy"] == "Fail"
    assert "sgx.intel.com/epc" in new["webhooks"][0]["matchConditions"][0]["expression"]
    (old,) = [one for one in rendered("everything", "1.27.0") if one["kind"] == "MutatingWebhookConfiguration"]
    assert old["webhooks"][0]["failurePolicy"] == "Ignore"
    assert "matchConditions" not in old["webhooks"][0]
    excluded = new["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    assert excluded == ["kube-system", "sgx-system"]


def test_resources_that_are_overridden_keep_their_devices() -> None:
    objects = render(
        WORKLOAD, *SHAPES["plain"], "--set-json", 'resources={"requests":{"cpu":"1"},"limits":{"memory":"2Gi"}}',
        "--set", "resources.requests.memory=null", release="app",
    )  # fmt: skip
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "2Gi", "sgx.intel.com/enclave": "1", "sgx.intel.com/epc": "64Mi"}


def test_the_provisioning_key_is_for_in_process_quotes_alone() -> None:
    for name in SHAPES:
        text = yaml.safe_dump_all(workload(name))
        assert ("sgx.intel.com/provision" in text) == (name == "inproc"), name


@pytest.mark.parametrize(
    ("chart", "value"),
    [
        (STACK, "device-plugin.enclavLimit=1"),
        (STACK, "device-plugin.enclaveLimit=many"),
        (STACK, "device-plugin.enclaveLimit=0,device-plugin.provisionLimit=0"),
        (STACK, "global.prefix=Not A Domain"),
        (STACK, "global.image.digest=sha256:short"),
        (STACK, "pccs.enabled=true"),
        (STACK, "node-agent.mode=both"),
        (STACK, "node-agent.mode=nfd,node-agent.staleResources=true"),
        (STACK, "aesm.enabled=true,aesm.pccsUrl=http://plain.example.com"),
        (STACK, "device-plugin.resources.limits.nvidia\\.com/gpu=1"),
        (WORKLOAD, "image.tag=latest"),
        (WORKLOAD, "image.repository="),
        (WORKLOAD, "kind=CronJob"),
        (WORKLOAD, "sgx.epc=64MiB"),
        (WORKLOAD, "sgx.quoteProvider=inproc"),
        (WORKLOAD, "containerSecurityContext.privileged=true"),
        (WORKLOAD, "preflight.needs={luck}"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(chart: Path, value: str) -> None:
    options = SHAPES["plain"] if chart == WORKLOAD else ()
    code, text = helm("template", "sgx", str(chart), "--kube-version", "1.34.0", *options, "--set", value)
    assert code != 0
    assert "schema" in text, text


def test_an_upgrade_changes_no_field_that_cannot_be_changed() -> None:
    """Selectors, service names and claims must not depend on values that people change."""
    changes = ("--set", "global.image.tag=9.9.9,device-plugin.enclaveLimit=5,webhook.replicas=3")

    def fixed(objects: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
        return {
            (one["kind"], one["metadata"]["name"]): (
                one["spec"].get("selector"), one["spec"].get("serviceName"), one["spec"].get("volumeClaimTemplates")
            )
            for one in objects
            if one["kind"] in {"DaemonSet", "Deployment", "StatefulSet"}
        }  # fmt: skip

    assert fixed(rendered("everything")) == fixed(render(STACK, *EVERYTHING, *changes))


def test_two_releases_do_not_meet() -> None:
    def names(release: str, namespace: str) -> set[tuple[str, str, str]]:
        return {
            (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for one in render(STACK, *EVERYTHING, release=release, namespace=namespace)
        }

    assert not names("one", "a") & names("two", "a")
