"""Hosts of a fleet on this machine: roots of their own over one system, each with its own sshd.

They share the kernel and the network (each sshd has a port of its own), and nothing else: each is a root of its own
in a mount and a PID namespace. What a reboot is, a `systemctl` in the tree plays: sshd goes away and comes back, and
boot_id is another.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sgxkit.host.fleet.inventory import Machine

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYSTEMCTL = """#!/bin/sh
case "$1" in
reboot) touch /reboot-wanted ;;
esac
exit 0
"""


@dataclass
class Node:
    """One system with its sshd."""

    root: Path
    port: int
    key: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.root / "boot_id").write_text(f"{os.urandom(16).hex()}\n")
        (self.root / "reboot-wanted").unlink(missing_ok=True)
        script = f"mount --bind /boot_id {BOOT_ID}; mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -p {self.port}"
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={self.root}",
                   "--mount-proc=/proc", "--", "/bin/sh", "-c", script]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "sshd does not start"
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def machine(self, name: str, **fields: Any) -> Machine:
        settings = {
            "user": "root",
            "sudo": False,
            "key": str(self.key),
            "known_hosts": str(self.key.parent / "known"),
        }
        return Machine(name, "127.0.0.1", self.port, **{**settings, **fields})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def nodes_over(base: Path, tmp_path: Path) -> Iterator[Callable[[int], list[Node]]]:
    """Makes nodes; they end with the test."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    nodes: list[Node] = []

    def make(count: int) -> list[Node]:
        for _ in range(count):
            folder = tmp_path / f"node{len(nodes)}"
            for name in ("upper", "work", "root"):
                (folder / name).mkdir(parents=True)
            options = f"lowerdir={base},upperdir={folder / 'upper'},workdir={folder / 'work'}"
            mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root")]
            if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
                pytest.skip("no overlay file system here")
            node = Node(folder / "root", free_port(), key)
            nodes.append(node)
            ssh = node.root / "root/.ssh"
            ssh.mkdir(mode=0o700, exist_ok=True)
            shutil.copy(f"{key}.pub", ssh / "authorized_keys")
            systemctl = node.root / "usr/local/sbin/systemctl"
            systemctl.write_text(SYSTEMCTL)
            systemctl.chmod(0o755)
            node.start()
        return nodes

    try:
        yield make
    finally:
        for node in nodes:
            node.stop()
            subprocess.run(["umount", "--lazy", str(node.root)], check=False)
