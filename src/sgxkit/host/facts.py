"""What was read off a host, as typed data that goes to JSON and back exactly.

Nothing here judges. A fact is either its value or an `Unread` that says why there is none: a file that may not be
opened is not a file that is missing. `sgxkit.host.probe` writes the document, `parse_facts` reads it, and the checks
conclude from `Facts` alone, so that every verdict can be repeated from a captured file on another machine.

In JSON a `Reading` is ``{"value": ...}`` or ``{"error": KIND, "text": ...}`` (with ``"errno"`` where known).
Registers and MSRs are hexadecimal text, times are seconds since 1970-01-01 UTC, sizes are bytes, file modes are the
12 permission bits as a number. The schema is published as docs/schema/facts.schema.json.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from sgxkit.errors import FormatError
from sgxkit.host.document import Hex, Unread, UnreadKind, decode, encode, field_hints, is_reading, is_section
from sgxkit.messages import msg

__all__ = [
    "MAX_DOCUMENT",
    "SCHEMA",
    "AccountFacts",
    "AesmExchange",
    "AesmFacts",
    "AesmReply",
    "AptKey",
    "ClockFacts",
    "ClockState",
    "Container",
    "CpuFacts",
    "CpuidLeaf",
    "CpuidOfCpu",
    "Cpuinfo",
    "DeviceFacts",
    "DeviceNode",
    "Dmi",
    "EfiContent",
    "EfiVariable",
    "Endpoint",
    "EpcNode",
    "Facts",
    "FileLine",
    "FirmwareFacts",
    "Group",
    "HttpReply",
    "Hypervisor",
    "Init",
    "KernelFacts",
    "KernelLog",
    "KernelModule",
    "KubernetesCluster",
    "KubernetesFacts",
    "KubernetesNode",
    "Launch",
    "LaunchFacts",
    "Library",
    "MiscDevice",
    "Mount",
    "Msr",
    "MsrsOfCpu",
    "NamedValue",
    "NetworkFacts",
    "NodeStatus",
    "OsRelease",
    "Package",
    "Process",
    "QuoteProviderFacts",
    "Reading",
    "RegistrationFacts",
    "ServiceFacts",
    "SoftwareFacts",
    "Source",
    "SystemFacts",
    "TextFile",
    "Timing",
    "Tool",
    "Unit",
    "Unread",
    "UnreadKind",
    "User",
    "VirtualizationFacts",
    "facts_to_json",
    "load_facts_json",
    "parse_facts",
    "unread_facts",
]

SCHEMA = 1
"""Version of the document; it rises when a reader of the old one would misread the new one."""

MAX_DOCUMENT = 16 * 1024 * 1024
"""Largest document in bytes; a probe of 512 logical CPUs writes less than 1 MiB."""

T = TypeVar("T")
Reading: TypeAlias = T | Unread
"""A fact's value, or why it has none; ``isinstance(fact, Unread)`` tells them apart."""

Register: TypeAlias = Annotated[int, Hex(8)]
Quadword: TypeAlias = Annotated[int, Hex(16)]


# What several sections are made of


@dataclass(frozen=True, slots=True)
class NamedValue:
    """One named setting: a kernel option, an environment variable, a label, a resource."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file; `truncated` when only a part of it is here (the beginning, or of a log the end).

    The values of keys, tokens and passwords are overwritten with as many asterisks.
    """

    path: str
    text: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class FileLine:
    """One line of a text file; `number` counts from 1."""

    path: str
    number: int
    text: str


# Who read it


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one section of the probe took."""

    section: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Source:
    """Where the document comes from.

    producer   ``sgxkit-probe``, or ``sgx-detect`` for a converted export.
    time       when reading began, by the host's own clock.
    root       folder that was probed as the file system's root: ``/`` on a real run.
    network    whether network connections were allowed.
    notes      what the producer reported and no fact holds (errors in an sgx-detect export).
    """

    producer: str
    version: str
    python: str | None
    time: float | None
    seconds: float | None
    root: str
    network: bool
    timings: tuple[Timing, ...]
    notes: tuple[str, ...]


# Processor


@dataclass(frozen=True, slots=True)
class CpuidLeaf:
    """The four registers that CPUID gave for one leaf and sub-leaf (decoded by `sgxkit.isa.cpuid`)."""

    leaf: Register
    subleaf: Register
    eax: Register
    ebx: Register
    ecx: Register
    edx: Register


@dataclass(frozen=True, slots=True)
class CpuidOfCpu:
    """CPUID of one logical CPU: leaves 0, 1, 7, 0x12 with its sub-leaves, 0x40000000, as far as they exist.

    via   ``device``: /dev/cpu/N/cpuid. ``instruction``: executed on that CPU. ``export``: rebuilt from the decoded
          fields of an sgx-detect export, other bits are 0.
    """

    cpu: int
    via: Literal["device", "instruction", "export"]
    leaves: Reading[tuple[CpuidLeaf, ...]]

    def leaf(self, leaf: int, subleaf: int = 0) -> CpuidLeaf | None:
        """Return the registers of one leaf, or None when they were not read."""
        if isinstance(self.leaves, Unread):
            return None
        return next((entry for entry in self.leaves if (entry.leaf, entry.subleaf) == (leaf, subleaf)), None)


@dataclass(frozen=True, slots=True)
class Cpuinfo:
    """What /proc/cpuinfo says.

    cpus              logical CPUs listed.
    packages          distinct physical ids (sockets); 1 where the kernel lists none.
    microcode         distinct revisions, as printed; more than one is a fault.
    flags             flags that every CPU has.
    differing_flags   flags that some CPUs have and others lack.
    """

    cpus: int
    packages: int
    vendor: str
    family: int | None
    model: int | None
    stepping: int | None
    model_name: str
    microcode: tuple[str, ...]
    flags: tuple[str, ...]
    differing_flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Msr:
    """One model-specific register: its number and its 64 bits."""

    address: Register
    value: Reading[Quadword]


@dataclass(frozen=True, slots=True)
class MsrsOfCpu:
    """Registers 0x3A, 0x8B, 0x8C-0x8F, 0xCE and 0x503 of one logical CPU."""

    cpu: int
    values: tuple[Msr, ...]

    def value(self, address: int) -> Reading[int]:
        """Return the 64 bits of one register."""
        for entry in self.values:
            if entry.address == address:
                return entry.value
        return Unread("unrecorded", f"MSR {address:#x} is not in this document")


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """The processor, on every logical CPU.

    architecture   as uname prints it, e.g. ``x86_64``.
    online         list of online CPUs in the kernel's notation, e.g. ``0-3,8``.
    smt            /sys/devices/system/cpu/smt/control: on, off, forceoff, notsupported, notimplemented.
    """

    architecture: Reading[str]
    online: Reading[str]
    smt: Reading[str]
    cpuinfo: Reading[Cpuinfo]
    cpuid: Reading[tuple[CpuidOfCpu, ...]]
    msrs: Reading[tuple[MsrsOfCpu, ...]]


# Firmware


@dataclass(frozen=True, slots=True)
class EfiContent:
    """An EFI variable's attributes, its size without them, and its data as hexadecimal text.

    `data` is null where only presence and size are recorded (registration blobs).
    """

    attributes: int
    size: int
    data: str | None


@dataclass(frozen=True, slots=True)
class EfiVariable:
    """One EFI variable by name; `guid` is None when it was not found."""

    name: str
    guid: str | None
    content: Reading[EfiContent]


@dataclass(frozen=True, slots=True)
class FirmwareFacts:
    """What the firmware says.

    boot_mode     ``uefi`` or ``legacy``.
    variables     EPCBIOS, EPCSW, SOFTWAREGUARDSTATUS, SgxRegistrationStatus, SgxRegistrationConfiguration,
                  SgxRegistrationServerRequest, SgxRegistrationServerResponse, SgxRegistrationPackageInfo, SecureBoot.
    secure_boot   whether Secure Boot is enforced.
    """

    boot_mode: Reading[Literal["uefi", "legacy"]]
    variables: Reading[tuple[EfiVariable, ...]]
    secure_boot: Reading[bool]

    def variable(self, name: str) -> Reading[EfiContent]:
        """Return the content of the EFI variable called `name`."""
        if isinstance(self.variables, Unread):
            return self.variables
        for entry in self.variables:
            if entry.name == name:
                return entry.content
        return Unread("unrecorded", f"EFI variable {name} is not in this document")


# Kernel


@dataclass(frozen=True, slots=True)
class EpcNode:
    """EPC bytes that the kernel uses on one NUMA node (sgx_total_bytes)."""

    node: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MiscDevice:
    """One line of /proc/misc."""

    minor: int
    name: str


@dataclass(frozen=True, slots=True)
class KernelModule:
    """A module that the kernel has: loaded (in /proc/modules) or built in (in /sys/module only)."""

    name: str
    loaded: bool
    version: str | None


@dataclass(frozen=True, slots=True)
class KernelLog:
    """Lines of the kernel's log that concern SGX, oldest first.

    complete   False when the log no longer holds the boot messages, so that a missing line proves nothing.
    """

    via: str
    lines: tuple[str, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """The kernel and what it says about SGX.

    config              options of interest, ``y``, ``m``, ``n`` or a value; ``n`` when the configuration lacks it.
    lockdown            none, integrity or confidentiality.
    modules             those of sgx, isgx, intel_sgx, msr, cpuid, kvm, kvm_intel, tpm that the kernel has.
    available_modules   paths below /lib/modules/RELEASE of SGX, msr and cpuid modules.
    modprobe_lines      lines of modprobe.d that mention SGX (blacklists).
    """

    release: Reading[str]
    version: Reading[str]
    command_line: Reading[str]
    config: Reading[tuple[NamedValue, ...]]
    lockdown: Reading[str]
    dmesg_restrict: Reading[int]
    mmap_min_addr: Reading[int]
    epc_nodes: Reading[tuple[EpcNode, ...]]
    misc_devices: Reading[tuple[MiscDevice, ...]]
    modules: Reading[tuple[KernelModule, ...]]
    available_modules: Reading[tuple[str, ...]]
    modprobe_lines: Reading[tuple[FileLine, ...]]
    udev_rules: Reading[tuple[FileLine, ...]]
    log: Reading[KernelLog]


# Device nodes


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What stat(2) says of a path, its final target if it is a symbolic link.

    type          of the final target; ``dangling`` for a link to nothing.
    link_target   text of the symbolic link, None for anything else.
    owner, group  names, None when the number has no name here.
    """

    type: Literal["character", "block", "directory", "regular", "fifo", "socket", "dangling"]
    link_target: str | None
    major: int | None
    minor: int | None
    mode: int
    uid: int
    gid: int
    owner: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """One device path.

    open_read_write   True when open(O_RDWR) succeeded; otherwise why not, with its errno.
    edmm              whether the driver offers SGX_IOC_ENCLAVE_MODIFY_TYPES (ENOTTY: it does not know it; ENODEV: the
                      processor lacks SGX2).
    """

    path: str
    status: Reading[NodeStatus]
    open_read_write: Reading[bool]
    edmm: Reading[bool]


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system; of several on one mount point the last, which is the one seen."""

    mount_point: str
    source: str
    type: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Device nodes of every SGX driver generation, and the mounts that they lie on.

    nodes    /dev/sgx_enclave, /dev/sgx_provision, /dev/sgx_vepc, /dev/sgx/enclave, /dev/sgx/provision, /dev/isgx,
             /dev/sgx, /dev/sgx_prv, /dev/gsgx: each is listed, also those that are absent.
    mounts   those whose mount point is one of these paths or a parent folder of one.
    """

    nodes: Reading[tuple[DeviceNode, ...]]
    mounts: Reading[tuple[Mount, ...]]

    def node(self, path: str) -> DeviceNode:
        """Return the node at `path`; one that the document does not list has only unread facts."""
        if isinstance(self.nodes, Unread):
            return DeviceNode(path, self.nodes, self.nodes, self.nodes)
        for entry in self.nodes:
            if entry.path == path:
                return entry
        unrecorded = Unread("unrecorded", f"{path} is not in this document")
        return DeviceNode(path, unrecorded, unrecorded, unrecorded)


# Accounts


@dataclass(frozen=True, slots=True)
class Group:
    """A group and who is in it: listed members and those whose primary group it is."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """The account that the probe ran as, with the groups that this process really has.

    capabilities   the effective set, as in /proc/self/status.
    """

    name: str | None
    uid: int
    gid: int
    gids: tuple[int, ...]
    capabilities: Reading[Quadword]


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """Who runs this, and the groups that matter.

    groups           sgx, sgx_prv, kvm and the groups that own SGX nodes, those that exist.
    service_users    names of aesmd, pccs, qgsd, libvirt-qemu and qemu, those that exist.
    """

    user: Reading[User]
    groups: Reading[tuple[Group, ...]]
    service_users: Reading[tuple[str, ...]]


# System


@dataclass(frozen=True, slots=True)
class OsRelease:
    """Fields of /etc/os-release; empty text where a field is not given."""

    id: str
    id_like: tuple[str, ...]
    version_id: str
    version_codename: str
    pretty_name: str


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """Whether a hypervisor says that it is there; `signature` is CPUID 0x40000000's, e.g. ``KVMKVMKVM``."""

    present: bool
    signature: str | None


@dataclass(frozen=True, slots=True)
class Dmi:
    """SMBIOS identification without serial numbers; None where the firmware gives none."""

    system_vendor: str | None
    product_name: str | None
    board_vendor: str | None
    board_name: str | None
    bios_vendor: str | None
    bios_version: str | None
    bios_date: str | None
    chassis_asset_tag: str | None


@dataclass(frozen=True, slots=True)
class Container:
    """The container that this ran in, and the signs it was told by."""

    kind: Literal["none", "docker", "podman", "kubernetes", "lxc", "other"]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Init:
    """Process 1; `systemd` when systemd manages this system, and its version where known."""

    name: str
    systemd: bool
    systemd_version: int | None


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """The operating system and what it runs on.

    cloud   azure, alibaba, tencent, google, amazon, ibm, ovh, or ``none`` as far as SMBIOS tells.
    """

    hostname: Reading[str]
    os_release: Reading[OsRelease]
    hypervisor: Reading[Hypervisor]
    dmi: Reading[Dmi]
    cloud: Reading[str]
    container: Reading[Container]
    init: Reading[Init]


@dataclass(frozen=True, slots=True)
class ClockState:
    """Whether the kernel's clock is disciplined.

    synchronised        state is not TIME_ERROR and STA_UNSYNC is clear (adjtimex(2)).
    offset_seconds      this host's clock minus true time as last known, None where nothing tells it.
    max_error_seconds   the kernel's bound on the error.
    via                 what told the offset: ``adjtimex`` or ``chronyc``.
    """

    synchronised: bool
    offset_seconds: float | None
    max_error_seconds: float | None
    via: str


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The clock. The services that set it are among `ServiceFacts.units` and `processes`."""

    state: Reading[ClockState]


# Services


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit's state, in systemd's words; `load_state` is ``not-found`` for one that does not exist."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    unit_file_state: str
    result: str


@dataclass(frozen=True, slots=True)
class Process:
    """A running process of interest; `uid` None when it could not be read."""

    pid: int
    name: str
    uid: int | None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """Units and processes of AESM, registration, PCCS, TDX quoting, time keeping, virtualization and containers.

    Processes are those in this PID namespace: inside a container, those of the container.
    """

    units: Reading[tuple[Unit, ...]]
    processes: Reading[tuple[Process, ...]]

    def unit(self, name: str) -> Reading[Unit]:
        """Return the state of unit `name`."""
        if isinstance(self.units, Unread):
            return self.units
        for entry in self.units:
            if entry.name == name:
                return entry
        return Unread("unrecorded", f"unit {name} is not in this document")


# AESM


@dataclass(frozen=True, slots=True)
class AesmReply:
    """How the daemon answered one request.

    outcome               ``response``, or ``closed`` when it closed the connection without one (a request that it
                          does not know).
    message               number of the response in ``Response``: the request's, or 20 for unsupportedRequest.
    code                  aesm_error_t; None when closed.
    attestation_key_id    19: selected sgx_att_key_id_ext_t as hexadecimal text.
    algorithm             19: its algorithm_id (2 is ECDSA P-256).
    key_count             21: how many attestation keys are supported.
    target_info_size      15: bytes of target info.
    public_key_id_size    15: bytes of the public key identifier.
    quote_size            16: bytes of a quote.
    """

    outcome: Literal["response", "closed"]
    message: int | None
    code: int | None
    attestation_key_id: str | None
    algorithm: int | None
    key_count: int | None
    target_info_size: int | None
    public_key_id_size: int | None
    quote_size: int | None


@dataclass(frozen=True, slots=True)
class AesmExchange:
    """One request, by its number in ``Request`` and its name, and what came back."""

    request: int
    name: str
    seconds: float
    reply: Reading[AesmReply]


@dataclass(frozen=True, slots=True)
class AesmFacts:
    """The architectural enclave service manager, as a client meets it.

    socket_path    the path tried: the standard one, or the one given.
    connect        True when connect(2) succeeded.
    conversation   19 selectAttKeyID, 21 getSupportedAttKeyIDNum, 15 initQuoteEx, 16 getQuoteSizeEx,
                   10 getWhiteListSize, 12 sgxGetExtendedEpidGroupId; none of them changes the daemon's state.
    bundles        file names of the plug-ins in the daemon's folder.
    """

    socket_path: Reading[str]
    socket: Reading[NodeStatus]
    connect: Reading[bool]
    conversation: Reading[tuple[AesmExchange, ...]]
    bundles: Reading[tuple[str, ...]]
    configuration: Reading[TextFile]

    def reply(self, request: int) -> Reading[AesmReply]:
        """Return the answer to request number `request`."""
        if isinstance(self.conversation, Unread):
            return self.conversation
        for entry in self.conversation:
            if entry.request == request:
                return entry.reply
        return Unread("unrecorded", f"AESM request {request} is not in this document")


# Software


@dataclass(frozen=True, slots=True)
class Package:
    """An SGX-related package; `status` is ``installed`` or dpkg's word for what it is instead."""

    name: str
    version: str
    manager: Literal["dpkg", "rpm", "pacman", "apk"]
    status: str


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library; `target` is the resolved path when `path` is a link, None when it dangles."""

    path: str
    link: bool
    target: str | None


@dataclass(frozen=True, slots=True)
class Tool:
    """A program found on the search path; `version` is the first line it prints where it was asked."""

    name: str
    path: str
    version: str | None


@dataclass(frozen=True, slots=True)
class AptKey:
    """A primary key in one of apt's keyrings (OpenPGP, RFC 4880).

    fingerprint   hexadecimal, upper case.
    created       key creation time.
    expires       None when it does not expire.
    """

    path: str
    fingerprint: str
    user_id: str
    created: int
    expires: int | None


@dataclass(frozen=True, slots=True)
class SoftwareFacts:
    """What is installed for SGX.

    libraries     libsgx_*, *quoteprov*, in the library folders.
    apt_sources   files of apt's sources that name a repository with SGX packages.
    apt_keys      keys in apt's keyrings that such a source names, or whose owner publishes SGX packages.
    """

    packages: Reading[tuple[Package, ...]]
    libraries: Reading[tuple[Library, ...]]
    tools: Reading[tuple[Tool, ...]]
    apt_sources: Reading[tuple[TextFile, ...]]
    apt_keys: Reading[tuple[AptKey, ...]]


@dataclass(frozen=True, slots=True)
class QuoteProviderFacts:
    """The quote provider's configuration, unjudged.

    environment     QCNL_CONF_PATH, SGX_AESM_ADDR, AZDCAP_*, proxies: those that are set.
    configuration   /etc/sgx_default_qcnl.conf, or the file that QCNL_CONF_PATH names.
    pccs_urls       URLs that the configuration names, in the order of use, as far as they can be told.
    """

    environment: Reading[tuple[NamedValue, ...]]
    configuration: Reading[TextFile]
    pccs_urls: Reading[tuple[str, ...]]


# Network


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer.

    tls_error              why the certificate was not trusted, when the answer came only without verification.
    clock_offset_seconds   this host's clock minus the server's Date header (whole seconds, so within 1 s).
    """

    status: int
    tls_error: str | None
    clock_offset_seconds: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attestation service and how a small read-only request to it ended."""

    url: str
    reply: Reading[HttpReply]


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """Whether the services named in the quote provider's configuration answer."""

    endpoints: Reading[tuple[Endpoint, ...]]


@dataclass(frozen=True, slots=True)
class RegistrationFacts:
    """Registration agent's files; its unit is in `ServiceFacts`, its EFI variables are in `FirmwareFacts`."""

    log: Reading[TextFile]
    configuration: Reading[TextFile]


# Kubernetes


@dataclass(frozen=True, slots=True)
class KubernetesNode:
    """A node: labels and resources that concern SGX, and its architecture and operating system labels."""

    name: str
    ready: bool | None
    unschedulable: bool
    labels: tuple[NamedValue, ...]
    capacity: tuple[NamedValue, ...]
    allocatable: tuple[NamedValue, ...]


@dataclass(frozen=True, slots=True)
class KubernetesCluster:
    """What the API server says.

    via         ``service-account``, ``kubeconfig`` or ``kubectl``.
    node_name   the node this ran on, where known.
    """

    via: str
    server: str
    node_name: str | None
    nodes: tuple[KubernetesNode, ...]


@dataclass(frozen=True, slots=True)
class KubernetesFacts:
    """The cluster, where credentials for one were found."""

    cluster: Reading[KubernetesCluster]


# Virtual machine host


@dataclass(frozen=True, slots=True)
class VirtualizationFacts:
    """What a host needs that gives SGX to its guests.

    kvm                   /dev/kvm.
    kvm_intel_parameters  of /sys/module/kvm_intel/parameters.
    qemu                  QEMU programs with their version lines.
    libvirt_qemu_conf     /etc/libvirt/qemu.conf without comments.
    """

    kvm: Reading[DeviceNode]
    kvm_intel_parameters: Reading[tuple[NamedValue, ...]]
    qemu: Reading[tuple[Tool, ...]]
    libvirt_qemu_conf: Reading[TextFile]


# Launch test


@dataclass(frozen=True, slots=True)
class Launch:
    """How launching a tiny enclave ended.

    outcome   ``launched``, ``failed``, ``no_device``, or ``not_attempted`` (`text` says why).
    step      what failed, e.g. ``ECREATE``.
    errno     Linux error number, or None.
    status    EINIT's own status, or None.
    """

    outcome: Literal["launched", "failed", "no_device", "not_attempted"]
    text: str
    step: str | None = None
    errno: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class LaunchFacts:
    """The launch test through the kernel driver, in both modes."""

    debug: Reading[Launch]
    production: Reading[Launch]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was read off one host."""

    schema: int
    source: Source
    cpu: CpuFacts
    firmware: FirmwareFacts
    kernel: KernelFacts
    devices: DeviceFacts
    accounts: AccountFacts
    system: SystemFacts
    clock: ClockFacts
    services: ServiceFacts
    aesm: AesmFacts
    software: SoftwareFacts
    quote_provider: QuoteProviderFacts
    network: NetworkFacts
    registration: RegistrationFacts
    kubernetes: KubernetesFacts
    virtualization: VirtualizationFacts
    launch: LaunchFacts

    def to_json(self) -> dict[str, object]:
        """Return the document as JSON values; `parse_facts` of it equals these facts."""
        return facts_to_json(self)


def parse_facts(document: object) -> Facts:
    """Read a facts document that is already JSON values.

    Raises FormatError, whose field is the JSON path, for a value of the wrong type, beyond the limits, or of another
    schema version. Keys that this version does not know are ignored; readings that are missing become `Unread` of
    kind ``unrecorded``.
    """
    if not isinstance(document, dict):
        raise FormatError("$", msg("is not an object"))
    schema = document.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise FormatError("$.schema", msg("is not an integer"))
    if schema != SCHEMA:
        raise FormatError(
            "$.schema",
            msg("is another version than {expected}, which this sgxkit reads", expected=SCHEMA),
            hint=msg("Read the facts again with this version's `sgxkit doctor --export`."),
        )
    facts: Facts = decode(Facts, document)
    return facts


def load_facts_json(text: bytes | str) -> Facts:
    """Read a facts document from JSON text (UTF-8); FormatError as in `parse_facts`, and for duplicate keys."""
    size = len(text)
    if size > MAX_DOCUMENT:
        raise FormatError("$", msg("is larger than {limit} bytes", limit=MAX_DOCUMENT))
    try:
        document = json.loads(text, object_pairs_hook=_object_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise FormatError("$", msg("is not JSON: {reason}", reason=str(error)[:200])) from error
    return parse_facts(document)


def facts_to_json(facts: Facts) -> dict[str, object]:
    """Return `facts` as JSON values; `parse_facts` of it equals `facts`."""
    document = encode(Facts, facts)
    assert isinstance(document, dict)
    return document


def unread_facts(source: Source, reason: Unread) -> Facts:
    """Return facts of which nothing is known, each for the same reason; `dataclasses.replace` fills in the rest."""
    sections = {name: _unread_section(hint, reason) for name, hint in field_hints(Facts).items() if is_section(hint)}
    return Facts(schema=SCHEMA, source=source, **sections)


def _unread_section(kind: Any, reason: Unread) -> Any:
    assert all(is_reading(hint) for hint in field_hints(kind).values())
    return kind(**{field.name: reason for field in dataclasses.fields(kind)})


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, value in pairs:
        if name in result:
            raise FormatError("$", msg('has the key "{name}" twice', name=name[:100]))
        result[name] = value
    return result
