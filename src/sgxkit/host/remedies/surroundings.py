"""Remedies: clock, containers, Kubernetes nodes, hosts of virtual machines."""

from __future__ import annotations

from collections.abc import Sequence

from sgxkit.host.facts import Facts
from sgxkit.host.remedies.distribution import distribution
from sgxkit.host.remedies.remedy import Remedy
from sgxkit.messages import msg

_PLUGIN = "https://intel.github.io/intel-device-plugins-for-kubernetes/cmd/sgx_plugin/README.html"


def synchronise_clock(facts: Facts) -> Remedy:
    """Let something keep the clock."""
    install = {
        "apt": ("apt-get install chrony", "systemctl enable --now chrony"),
        "dnf": ("dnf install chrony", "systemctl enable --now chronyd"),
        "zypper": ("zypper install chrony", "systemctl enable --now chronyd"),
        "none": (),
    }[distribution(facts).packager]
    return Remedy(
        "synchronise-clock",
        msg("Install and start a time service, and step the clock once."),
        (*install, "chronyc makestep", "chronyc tracking"),
        root=True,
    )


def pass_devices(kind: str, nodes: Sequence[str]) -> Remedy:
    """Start the container again with the devices."""
    if kind == "kubernetes":
        return Remedy(
            "request-sgx-resources",
            msg("Let the pod ask for SGX; the device plug-in of the cluster then gives it the device."),
            ("# under spec.containers[].resources.limits:", 'sgx.intel.com/epc: "10Mi"', "sgx.intel.com/enclave: 1"),
            link=_PLUGIN,
        )
    program = "podman" if kind == "podman" else "docker"
    options = " ".join(f"--device {node}" for node in nodes)
    return Remedy(
        "pass-devices",
        msg("Start the container again with the host's devices."),
        (f"{program} run {options} -v /var/run/aesmd:/var/run/aesmd ...",),
    )


def add_container_group(kind: str, gid: int | None) -> Remedy:
    """Give a container's user the host's group number."""
    number = "GID" if gid is None else str(gid)
    if kind == "kubernetes":
        lines: tuple[str, ...] = ("# under spec.securityContext:", f"supplementalGroups: [{number}]")
    else:
        lines = (f"{'podman' if kind == 'podman' else 'docker'} run --group-add {number} ...",)
    return Remedy(
        "add-container-group",
        msg("Give the container's user the group number that owns the device on the host."),
        lines,
    )


def pass_aesm_socket(kind: str) -> Remedy:
    """Give a container the socket's folder."""
    if kind == "kubernetes":
        lines: tuple[str, ...] = (
            "# annotation of the pod; the webhook of the device plug-in mounts the socket:",
            'sgx.intel.com/quote-provider: "aesmd"',
        )
    else:
        lines = (f"{'podman' if kind == 'podman' else 'docker'} run -v /var/run/aesmd:/var/run/aesmd ...",)
    return Remedy(
        "pass-aesm-socket",
        msg("Give the container the folder of AESM's socket (the folder, so that it survives a restart of AESM)."),
        lines,
    )


CONTAINER_DEV_EXEC = Remedy(
    "container-dev-exec",
    msg(
        "The container runtime mounts /dev with noexec (some releases of CRI-O from 1.25 on do); update it or use "
        "another runtime."
    ),
    link="https://github.com/opencontainers/runtime-tools/issues/759",
)
INSTALL_DEVICE_PLUGIN = Remedy(
    "install-device-plugin",
    msg("Install the SGX device plug-in with node feature discovery, which offers SGX to pods."),
    (
        "kubectl apply -k 'https://github.com/intel/intel-device-plugins-for-kubernetes/deployments/nfd?ref=main'",
        "kubectl apply -k 'https://github.com/intel/intel-device-plugins-for-kubernetes/deployments/sgx_plugin/overlays/"
        "epc-nfd/?ref=main'",
    ),
    link=_PLUGIN,
)
LABEL_NODE = Remedy(
    "label-node",
    msg("Let node feature discovery label the node, or label it yourself, so that the plug-in's pods come to it."),
    ("kubectl label node NODE intel.feature.node.kubernetes.io/sgx=true",),
    link=_PLUGIN,
)
REGISTER_EPC = Remedy(
    "register-epc",
    msg("Let a rule of node feature discovery publish the EPC as the resource sgx.intel.com/epc."),
    ("kubectl get nodefeaturerule intel-dp-devices -o yaml | grep -n sgx",),
    link=_PLUGIN,
)
CLUSTER_CREDENTIALS = Remedy(
    "give-cluster-credentials",
    msg("Run the doctor where it finds credentials for the cluster."),
    ("KUBECONFIG=/path/to/kubeconfig sgxkit doctor --for kubernetes-node",),
)
NODE_READY = Remedy(
    "make-node-ready",
    msg("Make the node ready and schedulable first."),
    ("kubectl describe node NODE", "kubectl uncordon NODE"),
)


def install_qemu(facts: Facts) -> Remedy:
    """Install a QEMU that knows SGX."""
    command = {
        "apt": "apt-get install qemu-system-x86",
        "dnf": "dnf install qemu-kvm",
        "zypper": "zypper install qemu-x86",
        "none": "",
    }[distribution(facts).packager]
    return Remedy(
        "install-qemu",
        msg("Install QEMU 6.2 or later, the first with SGX."),
        (command,) if command else (),
        root=True,
        link="https://www.qemu.org/docs/master/system/i386/sgx.html",
    )


LOAD_KVM = Remedy(
    "load-kvm",
    msg("Load KVM; if that fails, VT-x is off in the BIOS set-up, or this host is itself a guest without it."),
    ("modprobe kvm_intel", "ls -l /dev/kvm"),
    root=True,
)
LIBVIRT_DEVICES = Remedy(
    "allow-vepc-in-libvirt",
    msg("Let libvirt's guests open the EPC device: add it to cgroup_device_acl."),
    (
        "# /etc/libvirt/qemu.conf, the whole list with these two added:",
        'cgroup_device_acl = ["/dev/null", "/dev/full", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/ptmx", '
        '"/dev/kvm", "/dev/sgx_vepc", "/dev/sgx_provision"]',
        "systemctl restart libvirtd",
    ),
    root=True,
)
