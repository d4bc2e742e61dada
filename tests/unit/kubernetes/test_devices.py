"""Whether a node's devices can be used."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from doubles.sgx_devices import make_host
from sgxkit.kubernetes.devices import Limits, emulated_resources, epc_by_numa_node, sgx_resources, unhealthy_because

ENCLAVE, PROVISION = sgx_resources(Limits(1, 1))


def test_a_device_is_healthy_while_it_is_the_drivers(tmp_path: Path) -> None:
    view = make_host(tmp_path)
    assert unhealthy_because(ENCLAVE, view) is None
    assert unhealthy_because(PROVISION, view) is None


def test_each_resource_is_on_its_own(tmp_path: Path) -> None:
    view = make_host(tmp_path, "sgx_enclave")
    assert unhealthy_because(ENCLAVE, view) is None
    assert "No such file" in str(unhealthy_because(PROVISION, view))


@pytest.mark.parametrize("number", ["10:125\n", "1:5\n"])
def test_another_drivers_device_is_not_healthy(tmp_path: Path, number: str) -> None:
    view = make_host(tmp_path)
    (view.sys / "class/misc/sgx_enclave/dev").write_text(number)
    assert "another driver" in str(unhealthy_because(ENCLAVE, view))


@pytest.mark.parametrize("content", ["", "junk", "1:3:4"])
def test_without_sysfs_the_major_number_decides(tmp_path: Path, content: str) -> None:
    view = make_host(tmp_path)
    (view.sys / "class/misc/sgx_enclave/dev").write_text(content)
    assert "1:3" in str(unhealthy_because(ENCLAVE, view)), "misc devices have major number 10"


def test_a_file_is_no_device(tmp_path: Path) -> None:
    view = make_host(tmp_path)
    (view.dev / "sgx_enclave").unlink()
    (view.dev / "sgx_enclave").write_text("")
    assert "no character device" in str(unhealthy_because(ENCLAVE, view))


def test_the_emulated_platform_is_healthy_while_its_socket_is_there(tmp_path: Path) -> None:
    view = make_host(tmp_path / "host")
    (resource,) = emulated_resources(tmp_path, Limits(1, 0), lab="dev")
    assert "no socket" in str(unhealthy_because(resource, view))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "aesm.socket"))
        assert unhealthy_because(resource, view) is None


def test_epc_of_numa_nodes(tmp_path: Path) -> None:
    view = make_host(tmp_path)
    for node, content in ((0, "1024\n"), (1, "0\n"), (2, "none\n"), (10, "2048")):
        folder = view.sys / f"devices/system/node/node{node}/x86"
        folder.mkdir(parents=True)
        (folder / "sgx_total_bytes").write_text(content)
    assert epc_by_numa_node(view) == {0: 1024, 10: 2048}
    assert epc_by_numa_node(make_host(tmp_path / "other")) == {}
