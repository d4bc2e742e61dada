"""Whether a pod has what its enclaves need, asked inside the pod before its program starts.

A pod that lacks its device fails long after, and with an error of the enclave loader's that names no cause. Here each
way to lack it has its own sentence: no resource asked for, a hostPath in its place, a group, noexec, a dead daemon.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgxkit.aesm.address import Address, UnixAddress
from sgxkit.aesm.client import AesmClient
from sgxkit.aesm.codes import AesmConnectionError, AesmError
from sgxkit.errors import HostError
from sgxkit.kubernetes.devices import ENCLAVE_NODE, PROVISION_NODE
from sgxkit.messages import Message, msg

Need = Literal["enclave", "provision", "aesm", "quote"]
NEEDS: tuple[Need, ...] = ("enclave", "provision", "aesm", "quote")
TERMINATION_LOG = Path("/dev/termination-log")
"""What a container writes there is its termination message (core/v1 Container, terminationMessagePath)."""
_MAX_TERMINATION_LOG = 4096
_NODES = {"enclave": ENCLAVE_NODE, "provision": PROVISION_NODE}


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a need is not met, and what to do."""

    cause: Message
    remedy: Message


@dataclass(frozen=True, slots=True)
class Finding:
    """One need, and what it lacks; None where it is met."""

    need: Need
    lack: Lack | None


def preflight(
    needs: Iterable[Need], aesm: Address, *, dev: Path = Path("/dev"), prefix: str, timeout: float = 30.0
) -> tuple[Finding, ...]:
    """Try each need in turn; a quote is not tried where AESM does not answer."""
    findings: list[Finding] = []
    for need in (one for one in NEEDS if one in set(needs)):
        if need in _NODES:
            lack = device_lack(dev / _NODES[need], f"{prefix}/{need}")
        elif need == "aesm":
            lack = aesm_lack(AesmClient(aesm, timeout))
        else:
            lack = aesm_lack(AesmClient(aesm, timeout)) or quote_lack(AesmClient(aesm, timeout))
        findings.append(Finding(need, lack))
    return tuple(findings)


def device_lack(path: Path, resource: str) -> Lack | None:
    """Why a device node cannot be used for enclaves: it is opened, and its mount looked at."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Lack(
            msg("{path} is not there: this container did not get {resource}", path=path, resource=resource),
            msg(
                'give it resources.limits {resource}: "1"; if it has that, delete it: the kubelet forgot the plugin',
                resource=resource,
            ),
        )
    except OSError as error:
        return Lack(msg("{path}: {reason}", path=path, reason=error.strerror or error), _ask_admin())
    if stat.S_ISDIR(status.st_mode):
        return Lack(
            msg("{path} is a folder: a hostPath volume made it on a node without the device", path=path),
            msg(
                'remove the hostPath volume, and give the container resources.limits {resource}: "1"',
                resource=resource,
            ),
        )
    if not stat.S_ISCHR(status.st_mode):
        return Lack(msg("{path} is no character device", path=path), _ask_admin())
    return _open_lack(path, status, resource) or _noexec_lack(path)


def _open_lack(path: Path, status: os.stat_result, resource: str) -> Lack | None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EACCES:
            return Lack(
                msg(
                    "{path} has mode {mode} and group {gid}; this process has user {uid} and groups {groups}",
                    path=path,
                    mode=f"{stat.S_IMODE(status.st_mode):04o}",
                    gid=status.st_gid,
                    uid=os.geteuid(),
                    groups=" ".join(str(one) for one in sorted({os.getegid(), *os.getgroups()})),
                ),
                msg("give the pod securityContext.supplementalGroups: [{gid}]", gid=status.st_gid),
            )
        if error.errno == errno.EPERM:
            return Lack(
                msg("{path} is there, but the container may not open it: it came by a hostPath volume", path=path),
                msg(
                    'remove the hostPath volume, and give the container resources.limits {resource}: "1"',
                    resource=resource,
                ),
            )
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return Lack(
                msg("{path} has no driver: this node's kernel or processor has no SGX", path=path),
                msg("place the pod on nodes with the label sgx.intel.com/capable=true"),
            )
        return Lack(msg("{path}: {reason}", path=path, reason=error.strerror or error), _ask_admin())
    return None


def _noexec_lack(path: Path) -> Lack | None:
    """Enclave pages are mapped executable from the device's file, which noexec on its file system forbids."""
    if os.fstatvfs(descriptor := os.open(path, os.O_PATH | os.O_CLOEXEC)).f_flag & os.ST_NOEXEC:
        os.close(descriptor)
        return Lack(
            msg("{path} lies on a file system that is mounted noexec, so enclaves cannot be loaded", path=path),
            msg("have the node's /dev remounted with exec, and restart its container runtime"),
        )
    os.close(descriptor)
    return None


def aesm_lack(client: AesmClient) -> Lack | None:
    """Why the AESM daemon does not answer."""
    address = client.address
    if isinstance(address, UnixAddress):
        lack = _socket_lack(address.path)
        if lack is not None:
            return lack
    try:
        client.select_key()
    except AesmConnectionError as error:
        return Lack(
            error.message,
            msg("look at the node's AESM pod: kubectl -n sgx-system logs -l app.kubernetes.io/name=aesm"),
        )
    except AesmError as error:
        return Lack(error.message, msg("it answers, and cannot quote: look at its configuration and its PCCS"))
    return None


def _socket_lack(path: Path) -> Lack | None:
    mount = msg("mount the folder /var/run/aesmd of the host (not the socket) at /var/run/aesmd, read-only")
    if not path.parent.is_dir():
        return Lack(msg("{path} is not there: the folder of the AESM socket is not mounted", path=path.parent), mount)
    try:
        status = path.stat()
    except OSError as error:
        return Lack(
            msg("{path}: {reason}", path=path, reason=error.strerror or error),
            msg("no AESM daemon runs on this node, or the folder was mounted before it existed: restart the pod"),
        )
    if not stat.S_ISSOCK(status.st_mode):
        return Lack(msg("{path} is no socket: the AESM daemon does not run", path=path), mount)
    if not os.access(path, os.W_OK):
        return Lack(
            msg("{path} cannot be connected to by user {uid}", path=path, uid=os.geteuid()),
            msg("the socket has mode 0777 where the daemon made it; look at what mounts it"),
        )
    return None


def quote_lack(client: AesmClient) -> Lack | None:
    """Why the daemon cannot quote: it is had to make or load the attestation key that every quote is signed with."""
    try:
        key = client.select_key()
        client.initialise(key)
        client.quote_size(key)
    except (AesmConnectionError, AesmError) as error:
        return Lack(error.message, msg("it answers, and cannot quote: look at its configuration and its PCCS"))
    return None


def _ask_admin() -> Message:
    return msg("run `sgxkit doctor` on the node")


def write_termination_log(findings: Iterable[Finding], path: Path = TERMINATION_LOG) -> None:
    """Leave what is lacking where `kubectl describe pod` shows it; nothing where there is no such file."""
    text = "\n".join(f"{one.need}: {one.lack.cause}. {one.lack.remedy}" for one in findings if one.lack is not None)
    if text and path.exists():
        try:
            path.write_bytes(text.encode()[:_MAX_TERMINATION_LOG])
        except OSError as error:
            raise HostError(
                msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
            ) from error
