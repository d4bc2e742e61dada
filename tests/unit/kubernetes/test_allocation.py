"""What containers get, and which devices are preferred."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.errors import InputError
from sgxkit.kubernetes.allocation import AllocationError, allocate, prefer
from sgxkit.kubernetes.cdi import cdi_document
from sgxkit.kubernetes.device_plugin_api import (
    ContainerPreferredAllocationRequest,
    DeviceSpec,
    Mount,
    check_prefix,
    is_resource_name,
)
from sgxkit.kubernetes.devices import Limits, emulated_resources, numa_node_of_devices, sgx_resources
from sgxkit.messages import msg

RESOURCES = {one.kind: one for one in sgx_resources(Limits(3, 3, 1, 1))}
NODES = {"enclave": ["/dev/sgx_enclave"], "provision": ["/dev/sgx_provision"]}


@pytest.mark.parametrize("kind", ["enclave", "provision"])
def test_a_container_gets_the_one_device_node_of_its_resource(kind: str) -> None:
    ids = RESOURCES[kind].device_ids
    for count in (1, 3):
        granted = allocate(RESOURCES[kind], ids[:count], None)
        assert [device.host_path for device in granted.devices] == NODES[kind]
        assert granted.devices[0] == DeviceSpec(NODES[kind][0], NODES[kind][0], "rw")
        assert not granted.mounts
        assert not granted.envs


def test_the_quoting_daemon_gets_both_and_registration_the_firmware_variables() -> None:
    assert len(allocate(RESOURCES["qe"], ["sgx-qe-0"], None).devices) == 2
    granted = allocate(RESOURCES["registration"], ["sgx-registration-0"], None)
    assert granted.mounts == (Mount("/run/efivars", "/sys/firmware/efi/efivars", read_only=False),)


def test_legacy_paths_are_other_names_of_the_same_nodes() -> None:
    (enclave,) = sgx_resources(Limits(1, 0), legacy_paths=True)
    granted = allocate(enclave, enclave.device_ids, None)
    assert [(one.container_path, one.host_path) for one in granted.devices] == [
        ("/dev/sgx_enclave", "/dev/sgx_enclave"),
        ("/dev/sgx/enclave", "/dev/sgx_enclave"),
    ]


@pytest.mark.parametrize(
    "ids",
    [[], ["sgx-enclave-3"], ["sgx-enclave-0", "other"], ["sgx-enclave-0", "sgx-enclave-0"], ["sgx-provision-0"]],
)
def test_what_was_never_listed_is_refused(ids: list[str]) -> None:
    with pytest.raises(AllocationError):
        allocate(RESOURCES["enclave"], ids, None)


def test_what_is_unhealthy_is_refused_and_says_why() -> None:
    with pytest.raises(AllocationError, match="gone away"):
        allocate(RESOURCES["enclave"], ["sgx-enclave-0"], msg("{text}", text="gone away"))


def test_with_cdi_the_devices_are_named_and_the_name_is_specified() -> None:
    granted = allocate(RESOURCES["enclave"], ["sgx-enclave-0"], None, cdi=True)
    assert not granted.devices
    document = cdi_document(RESOURCES.values())
    names = {f"{document['kind']}={one['name']}" for one in document["devices"]}  # type: ignore[attr-defined]
    assert {one.name for one in granted.cdi_devices} <= names
    assert document["cdiVersion"] == "0.5.0"
    assert cdi_document(RESOURCES.values(), (1234,))["cdiVersion"] == "0.7.0"


def test_the_emulated_platform_is_never_under_intels_names_unless_asked() -> None:
    resources = emulated_resources(Path("/run/lab"), Limits(2, 1), lab="dev")
    assert [one.name for one in resources] == ["sgx.sgxkit.dev/enclave", "sgx.sgxkit.dev/provision"]
    granted = allocate(resources[0], ["sgx-enclave-0"], None)
    assert granted.mounts == (Mount("/var/run/aesmd", "/run/lab", read_only=True),)
    assert granted.envs["SGXKIT_EMULATED"] == "1"
    assert not granted.devices
    asked = emulated_resources(Path("/run/lab"), Limits(2, 1), lab="dev", prefix="sgx.intel.com")
    assert asked[0].name == "sgx.intel.com/enclave"


def test_enclave_is_offered_without_provision() -> None:
    assert [one.name for one in sgx_resources(Limits(5, 0), prefix="sgx.example.com")] == ["sgx.example.com/enclave"]
    with pytest.raises(InputError):
        sgx_resources(Limits(0, 0))
    with pytest.raises(InputError):
        Limits(10_001)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("sgx.intel.com/enclave", True),
        ("sgx.intel.com/" + "e" * 63, True),
        ("sgx.intel.com/" + "e" * 64, False),
        ("kubernetes.io/enclave", False),
        ("node.kubernetes.io/enclave", False),
        ("enclave", False),
        ("SGX.intel.com/enclave", False),
        ("sgx.intel.com/enclave/1", False),
        ("a" * 250 + "/enclave", False),
    ],
)
def test_names_of_extended_resources(name: str, valid: bool) -> None:
    assert is_resource_name(name) is valid


def test_a_domain_that_is_none_is_refused() -> None:
    with pytest.raises(InputError):
        check_prefix("not a domain")


IDS = tuple(f"d{number}" for number in range(12))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_preference_is_available_complete_and_includes_what_it_must(data: st.DataObject) -> None:
    numa = {one: data.draw(st.sampled_from([0, 1, None])) for one in IDS}
    available = data.draw(st.lists(st.sampled_from(IDS), unique=True, min_size=1))
    must = data.draw(st.lists(st.sampled_from(available), unique=True))
    size = data.draw(st.integers(len(must), len(available)))
    chosen = prefer(ContainerPreferredAllocationRequest(tuple(available), tuple(must), size), numa)
    assert len(chosen) == len(set(chosen)) == size
    assert set(must) <= set(chosen) <= set(available)


def test_a_preference_stays_on_as_few_numa_nodes_as_it_can() -> None:
    numa = {f"a{number}": 0 for number in range(4)} | {f"b{number}": 1 for number in range(3)}
    ids = tuple(numa)

    def nodes(must: tuple[str, ...], size: int, available: tuple[str, ...] = ids) -> set[int]:
        return {numa[one] for one in prefer(ContainerPreferredAllocationRequest(available, must, size), numa)}

    assert nodes((), 4) == {0}
    assert nodes((), 3) == {1}, "the smaller group that is enough leaves the larger one whole"
    assert nodes(("b1",), 3) == {1}
    assert nodes(("a0",), 4) == {0}
    assert nodes((), 7) == {0, 1}


@pytest.mark.parametrize(
    ("available", "must", "size"), [(("d0",), (), 2), (("d0",), ("d1",), 1), (("d0", "d1"), ("d0", "d1"), 1)]
)
def test_a_preference_that_cannot_be_met_is_refused(
    available: tuple[str, ...], must: tuple[str, ...], size: int
) -> None:
    with pytest.raises(AllocationError):
        prefer(ContainerPreferredAllocationRequest(available, must, size), dict.fromkeys(IDS))


def test_devices_count_for_numa_nodes_in_proportion_to_their_epc() -> None:
    assert numa_node_of_devices(4, {0: 3 << 30, 1: 1 << 30}) == (0, 0, 0, 1)
    assert numa_node_of_devices(2, {0: 1 << 30}) == (None, None)
    assert numa_node_of_devices(2, {}) == (None, None)
