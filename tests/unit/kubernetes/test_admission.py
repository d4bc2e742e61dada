"""The webhook: what pods are completed with, what is refused, and that a second look changes nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.api_server import apply_patch
from sgxkit.kubernetes.admission import AdmissionSettings, RefusedError, admit
from sgxkit.kubernetes.endpoint import Question
from sgxkit.kubernetes.webhook import PATH, review_answer, webhook_responder

EPC, ENCLAVE, PROVISION = (f"sgx.intel.com/{kind}" for kind in ("epc", "enclave", "provision"))
PROVIDER = "sgx.intel.com/quote-provider"
SETTINGS = AdmissionSettings(provision_namespaces=frozenset({"sgx-system"}))


def container(name: str, epc: str | None = "64Mi", **more: Any) -> dict[str, Any]:
    resources = {} if epc is None else {"limits": {EPC: epc}, "requests": {EPC: epc}}
    return {"name": name, "image": "example.com/app:1", "resources": resources, **more}


def pod(*containers: dict[str, Any], provider: str | None = None, **spec: Any) -> dict[str, Any]:
    annotations = {} if provider is None else {PROVIDER: provider}
    return {"metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": list(containers), **spec}}


def admitted(one: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    return apply_patch(one, list(admit(one, namespace, SETTINGS).operations))


def test_a_pod_without_enclave_memory_is_not_touched() -> None:
    assert admit(pod(container("a", None)), "default", SETTINGS).operations == ()
    assert admit({}, "default", SETTINGS).operations == ()


def test_enclave_memory_brings_the_device() -> None:
    done = admitted(pod(container("a"), container("b", None)))
    for part in ("limits", "requests"):
        assert done["spec"]["containers"][0]["resources"][part] == {EPC: "64Mi", ENCLAVE: "1"}
    assert done["spec"]["containers"][1]["resources"] == {}
    assert done["metadata"]["annotations"][EPC] == "64Mi"
    assert "volumes" not in done["spec"]


def test_limits_alone_become_requests_too() -> None:
    one = container("a")
    del one["resources"]["requests"]
    assert admitted(pod(one))["spec"]["containers"][0]["resources"]["requests"] == {EPC: str(64 << 20), ENCLAVE: "1"}


def test_init_containers_and_sidecars_count() -> None:
    done = admitted(
        pod(
            container("a", "64Mi"),
            initContainers=[container("i", "256Mi"), container("s", "32Mi", restartPolicy="Always")],
        )
    )
    assert done["spec"]["initContainers"][0]["resources"]["limits"][ENCLAVE] == "1"
    assert done["spec"]["initContainers"][1]["resources"]["limits"][ENCLAVE] == "1"
    assert done["metadata"]["annotations"][EPC] == "256Mi"


def test_quotes_by_the_daemon_bring_its_socket_read_only() -> None:
    done = admitted(pod(container("a"), provider="aesmd"))
    (one,) = done["spec"]["containers"]
    assert one["volumeMounts"] == [{"name": "aesmd-socket", "mountPath": "/var/run/aesmd", "readOnly": True}]
    assert one["env"] == [{"name": "SGX_AESM_ADDR", "value": "1"}]
    assert PROVISION not in one["resources"]["limits"]
    assert done["spec"]["volumes"] == [
        {"name": "aesmd-socket", "hostPath": {"path": "/var/run/aesmd", "type": "Directory"}}
    ]


def test_a_daemon_in_the_pod_shares_a_folder_with_it() -> None:
    done = admitted(pod(container("a"), container("aesmd"), provider="aesmd"), "sgx-system")
    assert done["spec"]["volumes"] == [{"name": "aesmd-socket", "emptyDir": {"medium": "Memory"}}]
    assert [one["volumeMounts"][0]["readOnly"] for one in done["spec"]["containers"]] == [True, False]
    assert done["spec"]["containers"][1]["resources"]["limits"][PROVISION] == "1"
    assert PROVISION not in done["spec"]["containers"][0]["resources"]["limits"]


def test_the_provisioning_key_is_for_namespaces_that_are_named() -> None:
    with pytest.raises(RefusedError, match="default"):
        admit(pod(container("a"), provider="a"), "default", SETTINGS)
    assert admitted(pod(container("a"), provider="a"), "sgx-system")


def test_a_provider_that_is_no_container_is_warned_of() -> None:
    (warning,) = admit(pod(container("a"), provider="b"), "default", SETTINGS).warnings
    assert "b" in str(warning)


@pytest.mark.parametrize(
    "resources",
    [
        {"limits": {EPC: "1.5"}},
        {"limits": {EPC: "64Mi"}, "requests": {EPC: "32Mi"}},
        {"limits": {EPC: "-1"}},
        {"limits": {EPC: "many"}},
    ],
)
def test_what_contradicts_itself_is_refused(resources: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="whole number"):
        admit(pod({"name": "a", "resources": resources}), "default", SETTINGS)


def test_a_volume_of_another_kind_is_refused() -> None:
    volume = {"name": "aesmd-socket", "secret": {"secretName": "x"}}
    with pytest.raises(RefusedError, match="hostPath"):
        admit(pod(container("a"), provider="aesmd", volumes=[volume]), "default", SETTINGS)


_PART = st.fixed_dictionaries(
    {},
    optional={
        "limits": st.dictionaries(st.sampled_from([EPC, ENCLAVE, "cpu"]), st.sampled_from(["1", "64Mi"]), max_size=3),
        "requests": st.dictionaries(st.sampled_from([EPC, "cpu"]), st.sampled_from(["1", "64Mi"]), max_size=2),
    },
)
_CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "aesmd"]), "resources": _PART},
    optional={
        "env": st.lists(st.just({"name": "SGX_AESM_ADDR", "value": "1"}), max_size=1),
        "volumeMounts": st.lists(st.just({"name": "own", "mountPath": "/var/run/aesmd"}), max_size=1),
        "restartPolicy": st.just("Always"),
    },
)
_POD = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {}, optional={"annotations": st.dictionaries(st.just(PROVIDER), st.sampled_from(["a", "aesmd", "z"]))}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(_CONTAINER, min_size=1, max_size=3)},
            optional={"initContainers": st.lists(_CONTAINER, max_size=2), "volumes": st.just([])},
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(_POD)
def test_a_second_look_changes_nothing(one: dict[str, Any]) -> None:
    try:
        done = admitted(one, "sgx-system")
    except RefusedError:
        return
    assert admit(done, "sgx-system", SETTINGS).operations == ()


def review(one: object, **more: Any) -> bytes:
    request = {"uid": "u", "namespace": "default", "operation": "CREATE", "object": one, **more}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def test_a_review_is_answered_with_a_patch() -> None:
    reply = webhook_responder(SETTINGS)(Question("POST", f"{PATH}?timeout=10s", review(pod(container("a")))))
    response = json.loads(reply.body)["response"]
    assert (reply.status, response["uid"], response["allowed"]) == (200, "u", True)
    assert {one["op"] for one in json.loads(base64.b64decode(response["patch"]))} == {"add"}


def test_a_refusal_says_why() -> None:
    response = json.loads(review_answer(review(pod(container("a"), provider="a")), SETTINGS).body)["response"]
    assert response["allowed"] is False
    assert "provision" in response["status"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"null", b"[" * 5000, review(None), review([]), b'{"request": {"uid": 1, "object": {}}}',
     review({"spec": {"containers": [{"resources": {"limits": {EPC: "1"}}, "name": "a", "env": [1]}]},
             "metadata": {"annotations": {PROVIDER: "aesmd"}}})],
)  # fmt: skip
def test_what_is_no_review_is_no_bug(body: bytes) -> None:
    assert review_answer(body, SETTINGS).status == 400


_NAMES = st.sampled_from(["spec", "containers", "resources", "limits", EPC, "metadata"])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([EPC, "1", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner),
)


@settings(max_examples=50, deadline=None)
@given(_ANYTHING)
def test_any_object_is_answered(one: object) -> None:
    assert review_answer(review(one), SETTINGS).status in (200, 400)


def test_probes_are_answered_and_nothing_else() -> None:
    respond = webhook_responder(SETTINGS)
    assert respond(Question("GET", "/healthz")).status == 200
    assert respond(Question("GET", "/")).status == 404
    assert respond(Question("POST", "/other", review(pod()))).status == 404
