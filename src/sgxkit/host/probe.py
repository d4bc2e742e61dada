"""Read the SGX facts of this host and print them as one JSON document.

One file, standard library only, any Python 3.6 or newer: it can be run on a host that has nothing else, for example
``ssh HOST python3 - < probe.py``. It reads and asks; it never changes anything: no module is loaded, no file is
written, no key is made. Every part has a time limit; what does not answer is reported as ``timeout`` and the document
is printed all the same. Works as root and as a user; what may not be read is reported as ``permission``.

The document is described in docs/schema/facts.schema.json. It holds no judgement.
"""

import argparse
import errno
import fnmatch
import json
import mmap
import os
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

SCHEMA = 1
VERSION = "0.1.0"

MAX_TEXT = 64 * 1024
MAX_ITEMS = 8192
MAX_LINES = 200
MAX_LINE = 500

Json = Dict[str, Any]


class UnreadError(Exception):
    """A fact has no value, for the reason that the exception carries."""

    def __init__(self, kind: str, text: str, number: Optional[int] = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.number = number


def value(content: Any) -> Json:
    return {"value": content}


def unread(kind: str, text: str, number: Optional[int] = None) -> Json:
    document: Json = {"error": kind, "text": text[:1000]}
    if number is not None:
        document["errno"] = number
    return document


KINDS = {
    errno.ENOENT: "absent",
    errno.ENOTDIR: "absent",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.ETIMEDOUT: "timeout",
    errno.ENXIO: "unsupported",
    errno.ENODEV: "unsupported",
    errno.ENOSYS: "unsupported",
    errno.ENOTTY: "unsupported",
    errno.EOPNOTSUPP: "unsupported",
}


def why(error: BaseException, path: Optional[str] = None) -> Json:
    """Return the reason that an exception is, as a reading without value."""
    if isinstance(error, UnreadError):
        return unread(error.kind, error.text, error.number)
    if isinstance(error, socket.timeout):
        return unread("timeout", "no answer within the time limit")
    if isinstance(error, OSError):
        text = error.strerror or str(error) or type(error).__name__
        where = path or error.filename
        if where is not None:
            text = f"{where}: {text}"
        return unread(KINDS.get(error.errno or 0, "error"), text, error.errno)
    return unread("error", f"{type(error).__name__}: {error}")


def reading(function: Callable[..., Any], *arguments: Any) -> Json:
    """Call `function`; its result is the reading's value, its exception the reason why there is none."""
    try:
        return value(function(*arguments))
    except Exception as error:
        return why(error)


# Options and the file system


class Host:
    """Where to read, for how long, and which child processes run."""

    def __init__(self, timeout: float, network: bool, root: str, aesm_socket: Optional[str]) -> None:
        self.timeout = timeout
        self.network = network
        self.root = root.rstrip("/")
        self.real = not self.root
        self.aesm_socket = aesm_socket
        self.started = time.time()
        self.deadline = time.monotonic() + timeout
        self.notes: List[str] = []
        self.children: Set["subprocess.Popen[bytes]"] = set()
        self.ending = False
        self.lock = threading.Lock()

    def path(self, path: str) -> str:
        return self.root + path

    def remaining(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def note(self, text: str) -> None:
        with self.lock:
            if len(self.notes) < MAX_LINES:
                self.notes.append(text[:MAX_LINE])

    def read(self, path: str, limit: int = MAX_TEXT, tail: bool = False) -> Tuple[bytes, bool]:
        """Return at most `limit` bytes of a file, from its beginning or its end, and whether there are more."""
        # Non-blocking, so that a FIFO in a file's place cannot hold us.
        try:
            descriptor = os.open(self.path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            error.filename = path
            raise
        try:
            if tail:
                size = os.fstat(descriptor).st_size
                os.lseek(descriptor, max(0, size - limit), os.SEEK_SET)
                return b"".join(_chunks(descriptor, limit)), size > limit
            data = b"".join(_chunks(descriptor, limit + 1))
            return data[:limit], len(data) > limit
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(descriptor)

    def text(self, path: str, limit: int = MAX_TEXT) -> str:
        """Return a file's text, cut at `limit` bytes."""
        return self.read(path, limit)[0].decode("utf-8", "replace")

    def line(self, path: str) -> str:
        """Return the first line of a file, without blanks around it."""
        return self.text(path, 4096).split("\n", 1)[0].strip().strip("\0")

    def file(self, path: str, tail: bool = False) -> Json:
        """Return a text file as the document holds it, with secrets blotted out."""
        data, truncated = self.read(path, MAX_TEXT, tail)
        return {"path": path, "text": redacted(data.decode("utf-8", "replace")), "truncated": truncated}

    def names(self, path: str) -> List[str]:
        """Return the sorted entries of a folder."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError as error:
            error.filename = path
            raise

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

    def program(self, name: str, folders: Iterable[str] = ()) -> Optional[str]:
        """Return the path of an executable on the search path or in a folder where it is usually installed."""
        searched = os.environ.get("PATH", "").split(":") if self.real else []
        for folder in searched + ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"] + list(folders):
            candidate = folder.rstrip("/") + "/" + name
            full = self.path(candidate)
            if folder.startswith("/") and os.path.isfile(full) and os.access(full, os.X_OK):
                return candidate
        return None

    def run(self, arguments: List[str], limit: int = 4 * 1024 * 1024) -> Tuple[int, str, str]:
        """Run a program that only reads; return its exit status and what it printed, at most `limit` bytes."""
        if not self.real:
            raise UnreadError("unsupported", f"{arguments[0]} is not run for another file system root")
        environment = dict(os.environ, LC_ALL="C", LANG="C", SYSTEMD_COLORS="0", SYSTEMD_PAGER="")
        # Started and noted in one step: an interrupt between the two would leave the child behind.
        with self.lock:
            if self.ending:
                raise UnreadError("timeout", f"{arguments[0]} was not started any more")
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
            self.children.add(child)
        try:
            outputs = self._read(child, limit, arguments[0])
            status = child.wait(max(0.05, self.remaining()))
            if self.remaining() <= 0:  # it may have been killed
                raise UnreadError("timeout", f"{arguments[0]} did not end within the time limit")
        except subprocess.TimeoutExpired:
            raise UnreadError("timeout", f"{arguments[0]} did not end within the time limit")
        finally:
            end(child)
            with self.lock:
                self.children.discard(child)
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        return status, outputs[0].decode("utf-8", "replace"), outputs[1].decode("utf-8", "replace")

    def _read(self, child: "subprocess.Popen[bytes]", limit: int, name: str) -> Tuple[bytes, bytes]:
        assert child.stdout is not None
        assert child.stderr is not None
        streams = {child.stdout.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
        results = tuple(streams.values())
        poll = select.poll()
        for descriptor in streams:
            poll.register(descriptor, select.POLLIN)
        while streams:
            remaining = self.remaining()
            if remaining <= 0:
                raise UnreadError("timeout", f"{name} did not end within the time limit")
            for descriptor, _ in poll.poll(remaining * 1000):
                data = os.read(descriptor, 65536)
                streams[descriptor] += data
                if not data:
                    poll.unregister(descriptor)
                    del streams[descriptor]
                elif len(streams[descriptor]) > limit:
                    raise UnreadError("error", f"{name} printed more than {limit} bytes")
        return bytes(results[0]), bytes(results[1])

    def end_children(self) -> None:
        with self.lock:
            self.ending = True
            children = list(self.children)
        for child in children:
            end(child)


def end(child: "subprocess.Popen[bytes]") -> None:
    """Kill a child and its process group, if it still runs."""
    if child.poll() is not None:
        return
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        child.kill()
    try:
        child.wait(0.2)
    except subprocess.TimeoutExpired:
        return  # in an uninterruptible system call; the kernel ends it later


def _chunks(descriptor: int, limit: int) -> Iterator[bytes]:
    while limit > 0:
        data = os.read(descriptor, min(limit, 1 << 20))
        if not data:
            return
        limit -= len(data)
        yield data


# Quantifiers are bounded: while a regular expression runs, no other thread does, nor any time limit.
SECRET = re.compile(
    r"((?:passw(?:or)?d|token|secret|authorization|key)[\w.-]{0,40}\"?[ \t]{0,20}[=:][ \t]{0,20}(?:(?=[^\"\s])|\"))"
    r"((?<=\")[^\"\n]*|\S+)",
    re.I,
)
USER_INFORMATION = re.compile(r"(://)([^/@\s\"']+)(?=@)")


def redacted(text: str) -> str:
    """Overwrite secrets with as many asterisks, so that offsets stay true."""
    for pattern in (SECRET, USER_INFORMATION):
        text = pattern.sub(lambda match: match.group(1) + "*" * len(match.group(2)), text)
    return text


# Processor

CPUID_CODE = bytes(
    bytearray.fromhex(
        "f30f1efa"  # endbr64
        "53"  # push rbx
        "4989d0"  # mov r8, rdx
        "89f8"  # mov eax, edi
        "89f1"  # mov ecx, esi
        "0fa2"  # cpuid
        "418900"  # mov [r8], eax
        "41895804"  # mov [r8+4], ebx
        "41894808"  # mov [r8+8], ecx
        "4189500c"  # mov [r8+12], edx
        "5b"  # pop rbx
        "c3"  # ret
    )
)

Registers = Tuple[int, int, int, int]
Cpuid = Callable[[int, int], Registers]

MSRS = (0x3A, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0xCE, 0x503)


def machine(host: Host) -> str:
    if not host.real and host.exists("/proc/sys/kernel/arch"):
        return host.line("/proc/sys/kernel/arch")
    return os.uname().machine


def online_cpus(host: Host) -> List[int]:
    """Return the numbers of the online logical CPUs."""
    try:
        ranges = host.line("/sys/devices/system/cpu/online")
        numbers: List[int] = []
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), min(int(last or first), MAX_ITEMS) + 1))
        return numbers[:MAX_ITEMS]
    except (OSError, ValueError):
        return list(range(os.cpu_count() or 1))


def cpuid_device(host: Host, cpu: int) -> Tuple[int, Cpuid]:
    """Open /dev/cpu/N/cpuid: 16 bytes at offset leaf | sub-leaf << 32 are EAX, EBX, ECX, EDX, little-endian."""
    descriptor = os.open(host.path(f"/dev/cpu/{cpu}/cpuid"), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def execute(leaf: int, subleaf: int) -> Registers:
        data = os.pread(descriptor, 16, leaf | subleaf << 32)
        if len(data) != 16:
            raise UnreadError("error", f"/dev/cpu/{cpu}/cpuid gave {len(data)} bytes")
        eax, ebx, ecx, edx = struct.unpack("<4I", data)
        return eax, ebx, ecx, edx

    return descriptor, execute


def cpuid_instruction() -> Cpuid:
    """Return a function that executes CPUID on the CPU that the calling thread runs on."""
    if os.uname().machine != "x86_64" or struct.calcsize("P") != 8:
        raise UnreadError("unsupported", "CPUID can be executed by a 64-bit x86 process only")
    import ctypes

    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(CPUID_CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    output = (ctypes.c_uint32 * 4)()
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)

    def execute(leaf: int, subleaf: int, keep: mmap.mmap = memory) -> Registers:
        assert not keep.closed
        function(leaf, subleaf, ctypes.addressof(output))
        return output[0], output[1], output[2], output[3]

    return execute


def cpuid_leaves(cpuid: Cpuid) -> List[Json]:
    leaves: List[Json] = []

    def take(leaf: int, subleaf: int) -> Registers:
        registers = cpuid(leaf, subleaf)
        entry = {"leaf": f"0x{leaf:08x}", "subleaf": f"0x{subleaf:08x}"}
        entry.update((name, f"0x{register:08x}") for name, register in zip(("eax", "ebx", "ecx", "edx"), registers))
        leaves.append(entry)
        return registers

    last = take(0, 0)[0]
    hypervisor = last >= 1 and take(1, 0)[2] >> 31 & 1
    if last >= 7:
        take(7, 0)
    if last >= 0x12:
        take(0x12, 0)
        take(0x12, 1)
        for subleaf in range(2, 66):
            if take(0x12, subleaf)[0] & 0xF == 0:
                break
    if hypervisor:
        take(0x40000000, 0)
    return leaves


def read_cpuid(host: Host) -> List[Json]:
    """Read CPUID on every online CPU: by moving this thread there and executing it, else through the CPU's device.

    The instruction says what programs here are told; where CPUID faults (arch_prctl(2)), the device does not.
    """
    if machine(host) not in ("x86_64", "i386", "i486", "i586", "i686"):
        raise UnreadError("unsupported", "CPUID exists on x86 processors only")
    return [cpuid_of(host, cpu) for cpu in online_cpus(host)]


def cpuid_of(host: Host, cpu: int) -> Json:
    why_not: Optional[Json] = None
    if host.real:
        leaves = reading(cpuid_on, cpu)
        if "value" in leaves:
            return {"cpu": cpu, "via": "instruction", "leaves": leaves}
        why_not = leaves
    try:
        descriptor, execute = cpuid_device(host, cpu)
    except OSError as error:
        if why_not is not None:
            return {"cpu": cpu, "via": "instruction", "leaves": why_not}
        return {"cpu": cpu, "via": "device", "leaves": why(error, f"/dev/cpu/{cpu}/cpuid")}
    try:
        return {"cpu": cpu, "via": "device", "leaves": reading(cpuid_leaves, execute)}
    finally:
        os.close(descriptor)


def cpuid_on(cpu: int) -> List[Json]:
    instruction = cpuid_instruction()
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise UnreadError("permission", f"this process may not run on CPU {cpu}", error.errno)
    return cpuid_leaves(instruction)


def read_msrs(host: Host) -> List[Json]:
    result: List[Json] = []
    for cpu in online_cpus(host):
        path = f"/dev/cpu/{cpu}/msr"
        try:
            descriptor = os.open(host.path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if not result and error.errno == errno.ENOENT:
                raise UnreadError("absent", f"there is no {path}: the kernel has no msr module loaded", error.errno)
            error.filename = path
            if not result:
                raise
            reason = why(error)
            result.append({"cpu": cpu, "values": [{"address": f"0x{msr:08x}", "value": reason} for msr in MSRS]})
            continue
        try:
            values = [{"address": f"0x{msr:08x}", "value": reading(read_msr, descriptor, msr)} for msr in MSRS]
        finally:
            os.close(descriptor)
        result.append({"cpu": cpu, "values": values})
    return result


def read_msr(descriptor: int, address: int) -> str:
    try:
        data = os.pread(descriptor, 8, address)
    except OSError as error:
        if error.errno == errno.EIO:
            raise UnreadError("unsupported", f"this processor has no MSR {address:#x}", error.errno)
        raise
    if len(data) != 8:
        raise UnreadError("error", f"MSR {address:#x} gave {len(data)} bytes")
    return "0x{:016x}".format(struct.unpack("<Q", data)[0])


def read_cpuinfo(host: Host) -> Json:
    text = host.text("/proc/cpuinfo", 64 * 1024 * 1024)
    first: Dict[str, str] = {}
    flag_lines: Dict[str, None] = {}
    microcode: Dict[str, None] = {}
    packages = set()
    cpus = 0
    for line in text.split("\n"):
        name, colon, content = line.partition(":")
        if not colon:
            continue
        name, content = name.strip(), content.strip()
        first.setdefault(name, content)
        if name == "processor":
            cpus += 1
        elif name == "flags":
            flag_lines[content] = None
        elif name == "microcode":
            microcode[content] = None
        elif name == "physical id":
            packages.add(content)
    sets = [set(line.split()) for line in flag_lines]
    common = set.intersection(*sets) if sets else set()
    return {
        "cpus": cpus,
        "packages": max(1, len(packages)),
        "vendor": first.get("vendor_id", ""),
        "family": number(first.get("cpu family")),
        "model": number(first.get("model")),
        "stepping": number(first.get("stepping")),
        "model_name": first.get("model name", ""),
        "microcode": list(microcode)[:64],
        "flags": sorted(common),
        "differing_flags": sorted(set().union(*sets) - common),
    }


def number(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None


def cpu_section(host: Host, facts: Json) -> None:
    facts["architecture"] = reading(machine, host)
    facts["online"] = reading(host.line, "/sys/devices/system/cpu/online")
    facts["smt"] = reading(host.line, "/sys/devices/system/cpu/smt/control")
    facts["cpuinfo"] = reading(read_cpuinfo, host)
    facts["msrs"] = reading(read_msrs, host)


def cpuid_section(host: Host, facts: Json) -> None:
    facts["cpuid"] = reading(read_cpuid, host)


# Firmware

EFI_VARIABLES = (
    # name, whether its data is recorded: registration blobs hold the platform's encrypted keys
    ("EPCBIOS", True),
    ("EPCSW", True),
    ("SOFTWAREGUARDSTATUS", True),
    ("SgxRegistrationStatus", True),
    ("SgxRegistrationConfiguration", True),
    ("SgxRegistrationServerRequest", False),
    ("SgxRegistrationServerResponse", False),
    ("SgxRegistrationPackageInfo", False),
    ("SecureBoot", True),
)
EFIVARS = "/sys/firmware/efi/efivars"


def boot_mode(host: Host) -> str:
    if host.exists("/sys/firmware/efi"):
        return "uefi"
    if not host.names("/sys/firmware"):
        raise UnreadError("unsupported", "/sys/firmware is empty here, as in a container")
    return "legacy"


def efi_variables(host: Host) -> List[Json]:
    if boot_mode(host) == "legacy":
        raise UnreadError("unsupported", "this system was not started by UEFI, so that there are no EFI variables")
    names = host.names(EFIVARS)
    if not names:
        raise UnreadError("absent", f"{EFIVARS} is empty: efivarfs is not mounted")
    result: List[Json] = []
    for name, recorded in EFI_VARIABLES:
        found = [entry for entry in names if entry.startswith(name + "-") and len(entry) == len(name) + 37]
        if found:
            content = reading(efi_variable, host, f"{EFIVARS}/{found[0]}", recorded)
            result.append({"name": name, "guid": found[0][len(name) + 1 :], "content": content})
        else:
            result.append({"name": name, "guid": None, "content": unread("absent", f"no EFI variable {name}")})
    return result


def efi_variable(host: Host, path: str, recorded: bool) -> Json:
    data, truncated = host.read(path, 1 << 20)
    if len(data) < 4 or truncated:
        raise UnreadError("error", f"{path} has {len(data)} bytes")
    content = data[4:]
    hexadecimal = "".join(f"{byte:02x}" for byte in bytearray(content[:4096])) if recorded else None
    return {"attributes": struct.unpack("<I", data[:4])[0], "size": len(content), "data": hexadecimal}


def firmware_section(host: Host, facts: Json) -> None:
    facts["boot_mode"] = reading(boot_mode, host)
    facts["variables"] = reading(efi_variables, host)
    facts["secure_boot"] = reading(secure_boot, facts["variables"])


def secure_boot(variables: Json) -> bool:
    if "value" not in variables:
        raise UnreadError(variables["error"], variables["text"], variables.get("errno"))
    content = next(entry["content"] for entry in variables["value"] if entry["name"] == "SecureBoot")
    if "value" not in content:
        raise UnreadError(content["error"], content["text"], content.get("errno"))
    return bool(content["value"]["data"] == "01")


# Kernel

CONFIG_OPTIONS = (
    "CONFIG_X86_SGX",
    "CONFIG_X86_SGX_KVM",
    "CONFIG_INTEL_SGX",
    "CONFIG_NUMA",
    "CONFIG_KVM_INTEL",
    "CONFIG_X86_MSR",
    "CONFIG_X86_CPUID",
    "CONFIG_CGROUP_MISC",
    "CONFIG_MODULE_SIG_FORCE",
)
MODULES = ("sgx", "isgx", "intel_sgx", "msr", "cpuid", "kvm", "kvm_intel", "tpm")
LOG_LINE = re.compile(r"sgx|EPC section|enclave|EREMOVE", re.I)


def kernel_config(host: Host) -> List[Json]:
    release = host.line("/proc/sys/kernel/osrelease")
    error = UnreadError("absent", "no kernel configuration file")
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config", "/proc/config.gz"):
        try:
            data = host.read(path, 4 * 1024 * 1024)[0]
            if path.endswith(".gz"):
                import zlib

                data = zlib.decompressobj(31).decompress(data, 4 * 1024 * 1024)
        except OSError as failure:
            # A file that may not be read says more than the next one that is not there.
            if KINDS.get(failure.errno or 0) != "absent":
                error = UnreadError("permission", f"{path}: {failure.strerror}", failure.errno)
            continue
        settings = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", data.decode("utf-8", "replace"), re.M))
        return [{"name": name, "value": settings.get(name, "n")} for name in CONFIG_OPTIONS]
    raise error


def lockdown(host: Host) -> str:
    match = re.search(r"\[(\w+)\]", host.line("/sys/kernel/security/lockdown"))
    if match is None:
        raise UnreadError("error", "/sys/kernel/security/lockdown marks no mode")
    return match.group(1)


def epc_nodes(host: Host) -> List[Json]:
    folder = "/sys/devices/system/node"
    result: List[Json] = []
    for name in host.names(folder):
        if re.match(r"node\d+$", name) and host.exists(f"{folder}/{name}/x86/sgx_total_bytes"):
            total = int(host.line(f"{folder}/{name}/x86/sgx_total_bytes"))
            result.append({"node": int(name[4:]), "total_bytes": total})
    if not result:
        raise UnreadError("absent", "no NUMA node has x86/sgx_total_bytes")
    return result


def misc_devices(host: Host) -> List[Json]:
    rows = [line.split(None, 1) for line in host.text("/proc/misc").splitlines()]
    return [{"minor": int(row[0]), "name": row[1].strip()} for row in rows if len(row) == 2 and row[0].isdigit()]


def kernel_modules(host: Host) -> List[Json]:
    try:
        loaded = {line.split(" ", 1)[0] for line in host.text("/proc/modules", 1 << 20).splitlines()}
    except FileNotFoundError:
        loaded = set()  # a kernel without loadable modules
    result: List[Json] = []
    for name in MODULES:
        if name in loaded or host.exists(f"/sys/module/{name}"):
            version = reading(host.line, f"/sys/module/{name}/version").get("value")
            result.append({"name": name, "loaded": name in loaded, "version": version})
    return result


def available_modules(host: Host) -> List[str]:
    release = host.line("/proc/sys/kernel/osrelease")
    folder = f"/lib/modules/{release}"
    text = host.text(f"{folder}/modules.dep", 16 * 1024 * 1024)
    if host.exists(f"{folder}/modules.builtin"):
        text += "\n" + host.text(f"{folder}/modules.builtin", 4 * 1024 * 1024)
    result = set()
    for line in text.splitlines():
        path = line.split(":", 1)[0][:MAX_LINE]
        name = path.rsplit("/", 1)[-1]
        if "sgx" in name or name.startswith(("msr.ko", "cpuid.ko")):
            result.add(path)
    return sorted(result)[:MAX_LINES]


def lines_about_sgx(host: Host, folders: Iterable[str], suffix: str) -> List[Json]:
    """Return lines that mention SGX in configuration folders; comments are left out."""
    result: List[Json] = []
    seen = set()
    for folder in folders:
        real = os.path.realpath(host.path(folder))
        if real in seen:
            continue
        seen.add(real)
        try:
            names = host.names(folder)
        except OSError as error:
            if error.errno != errno.ENOENT:
                host.note(f"{folder}: {error.strerror}")
            continue
        for name in names:
            if not name.endswith(suffix):
                continue
            path = f"{folder}/{name}"
            try:
                text = host.text(path, 1 << 20)
            except OSError as error:
                host.note(f"{path}: {error.strerror}")
                continue
            if "sgx" not in text.lower():
                continue
            for index, line in enumerate(text.splitlines(), 1):
                if "sgx" in line.lower() and not line.lstrip().startswith("#") and len(result) < MAX_LINES:
                    result.append({"path": path, "number": index, "text": line[:MAX_LINE]})
    return result


def kernel_log(host: Host) -> Json:
    failures = []
    for via, lines_of in (("/dev/kmsg", kmsg_lines), ("syslog(2)", klogctl_lines), ("journalctl", journal_lines)):
        try:
            lines = lines_of(host)
        except (OSError, UnreadError, ImportError) as error:
            failures.append((via, why(error)))
            continue
        selected = [line[:MAX_LINE] for line in lines if LOG_LINE.search(line)]
        complete = any("Linux version " in line for line in lines)
        return {"via": via, "lines": selected[:MAX_LINES], "complete": complete}
    reason = next((item for _, item in failures if item["error"] == "permission"), failures[0][1])
    raise UnreadError(
        reason["error"],
        "; ".join(item["text"] if via in item["text"] else f"{via}: {item['text']}" for via, item in failures),
        reason.get("errno"),
    )


def kmsg_lines(host: Host) -> List[str]:
    """Read the kernel's records: ``priority,sequence,microseconds,flags;text``, one a read, then EAGAIN."""
    descriptor = os.open(host.path("/dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    lines: List[str] = []
    try:
        while host.remaining() > 0:
            try:
                record = os.read(descriptor, 16384)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # the record was overwritten; the next read gives the following one
                    continue
                raise
            if not record:
                break
            for part in record.decode("utf-8", "replace").split("\n"):
                head, semicolon, text = part.partition(";")
                fields = head.split(",")
                if semicolon and len(fields) > 2 and fields[2].isdigit():
                    lines.append(f"[{int(fields[2]) / 1e6:12.6f}] {text}")
    finally:
        os.close(descriptor)
    return lines


def klogctl_lines(host: Host) -> List[str]:
    if not host.real:
        raise UnreadError("unsupported", "the kernel's log is not read for another file system root")
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    size = 4 * 1024 * 1024
    buffer = ctypes.create_string_buffer(size)
    length = libc.klogctl(3, buffer, size)  # SYSLOG_ACTION_READ_ALL
    if length < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    lines = buffer.raw[:length].decode("utf-8", "replace").splitlines()
    return [re.sub(r"^<\d+>", "", line) for line in lines]


def journal_lines(host: Host) -> List[str]:
    program = host.program("journalctl")
    if program is None:
        raise UnreadError("absent", "not installed")
    status, output, problem = host.run([program, "-k", "-b", "--no-pager", "-q", "-o", "short-monotonic"])
    if status != 0 or not output:
        text = (problem or "no entries").strip().splitlines()[0]
        raise UnreadError("permission" if os.geteuid() != 0 else "error", text)
    return output.splitlines()


def kernel_section(host: Host, facts: Json) -> None:
    facts["release"] = reading(host.line, "/proc/sys/kernel/osrelease")
    facts["version"] = reading(host.line, "/proc/sys/kernel/version")
    facts["command_line"] = reading(lambda: redacted(host.line("/proc/cmdline")))
    facts["lockdown"] = reading(lockdown, host)
    facts["dmesg_restrict"] = reading(lambda: int(host.line("/proc/sys/kernel/dmesg_restrict")))
    facts["mmap_min_addr"] = reading(lambda: int(host.line("/proc/sys/vm/mmap_min_addr")))
    facts["epc_nodes"] = reading(epc_nodes, host)
    facts["misc_devices"] = reading(misc_devices, host)
    facts["modules"] = reading(kernel_modules, host)
    facts["config"] = reading(kernel_config, host)
    facts["available_modules"] = reading(available_modules, host)


def kernel_rules_section(host: Host, facts: Json) -> None:
    folders = [f"{base}/modprobe.d" for base in ("/etc", "/run", "/usr/lib", "/lib")]
    facts["modprobe_lines"] = reading(lines_about_sgx, host, folders, ".conf")
    folders = [f"{base}/udev/rules.d" for base in ("/etc", "/run", "/usr/lib", "/lib")]
    facts["udev_rules"] = reading(lines_about_sgx, host, folders, ".rules")


def kernel_log_section(host: Host, facts: Json) -> None:
    facts["log"] = reading(kernel_log, host)


# Device nodes

NODES = (
    "/dev/sgx_enclave",
    "/dev/sgx_provision",
    "/dev/sgx_vepc",
    "/dev/sgx/enclave",
    "/dev/sgx/provision",
    "/dev/isgx",
    "/dev/sgx",
    "/dev/sgx_prv",
    "/dev/gsgx",
)
ENCLAVE_NODES = ("/dev/sgx_enclave", "/dev/sgx/enclave", "/dev/isgx", "/dev/sgx")
MODIFY_TYPES = 0xC028A406  # SGX_IOC_ENCLAVE_MODIFY_TYPES
TYPES = (
    (stat.S_ISCHR, "character"),
    (stat.S_ISBLK, "block"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
)


def accounts(host: Host, path: str) -> List[List[str]]:
    """Return the fields of each line of /etc/passwd or /etc/group."""
    try:
        return [line.split(":") for line in host.text(path, 4 * 1024 * 1024).splitlines()]
    except OSError:
        return []


def account_name(host: Host, path: str, identifier: int) -> Optional[str]:
    wanted = str(identifier)
    return next((row[0] for row in accounts(host, path) if len(row) > 2 and row[2] == wanted), None)


def node_status(host: Host, path: str) -> Json:
    full = host.path(path)
    try:
        own = os.lstat(full)
    except OSError as error:
        error.filename = path
        raise
    target = os.readlink(full) if stat.S_ISLNK(own.st_mode) else None
    try:
        status = os.stat(full)
    except OSError as error:
        if target is None or error.errno not in (errno.ENOENT, errno.ENOTDIR):
            error.filename = path
            raise
        status, kind = own, "dangling"
    else:
        kind = next((name for test, name in TYPES if test(status.st_mode)), "regular")
    device = kind in ("character", "block")
    return {
        "type": kind,
        "link_target": target,
        "major": os.major(status.st_rdev) if device else None,
        "minor": os.minor(status.st_rdev) if device else None,
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "owner": account_name(host, "/etc/passwd", status.st_uid),
        "group": account_name(host, "/etc/group", status.st_gid),
    }


def device_node(host: Host, path: str, enclave: bool) -> Json:
    status = reading(node_status, host, path)
    node = {"path": path, "status": status, "open_read_write": status, "edmm": status}
    if "value" not in status:
        return node
    kind = status["value"]["type"]
    if kind not in ("character", "block", "regular"):
        reason = unread("unsupported", f"{path} is a {kind}, not a device")
        node.update(open_read_write=reason, edmm=reason)
        return node
    node["edmm"] = unread("unsupported", f"{path} is not an enclave device of the in-tree driver")
    try:
        descriptor = os.open(host.path(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        node["open_read_write"] = why(error, path)
        if enclave:
            node["edmm"] = node["open_read_write"]
        return node
    try:
        node["open_read_write"] = value(True)
        if enclave:
            node["edmm"] = reading(knows_modify_types, descriptor)
    finally:
        os.close(descriptor)
    return node


def knows_modify_types(descriptor: int) -> bool:
    """Tell whether the driver knows the ioctl: on a fresh descriptor it can only refuse, but differently."""
    import fcntl

    try:
        fcntl.ioctl(descriptor, MODIFY_TYPES, bytes(40))
    except OSError as error:
        return error.errno not in (errno.ENOTTY, errno.ENODEV)
    return True


def mounts(host: Host) -> List[Json]:
    wanted = set(NODES)
    for path in NODES:
        parts = path.split("/")
        wanted.update("/".join(parts[:count]) or "/" for count in range(1, len(parts)))
    found: Dict[str, Json] = {}
    for line in host.text("/proc/self/mountinfo", 4 * 1024 * 1024).splitlines():
        fields, _, rest = line.partition(" - ")
        own, tail = fields.split(" "), rest.split(" ")
        if len(own) < 6 or len(tail) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), own[4])
        if point in wanted:
            options = own[5].split(",") + [option for option in tail[2].split(",") if option not in own[5].split(",")]
            found[point] = {"mount_point": point, "source": tail[1], "type": tail[0], "options": options[:64]}
    return [found[point] for point in sorted(found)]


def devices_section(host: Host, facts: Json) -> None:
    facts["nodes"] = reading(
        lambda: [device_node(host, path, path in ("/dev/sgx_enclave", "/dev/sgx/enclave")) for path in NODES]
    )
    facts["mounts"] = reading(mounts, host)


def launch_section(host: Host, facts: Json) -> None:
    found = [
        path
        for path in ENCLAVE_NODES
        if reading(node_status, host, path).get("value", {}).get("type") in ("character", "regular", "block")
    ]
    if found:
        result: Json = {"outcome": "not_attempted", "text": "the probe brings no enclave loader"}
    else:
        result = {"outcome": "no_device", "text": "there is no SGX enclave device"}
    result.update(step=None, errno=None, status=None)
    facts["debug"] = value(result)
    facts["production"] = value(result)


# Accounts


def current_user(host: Host) -> Json:
    return {
        "name": account_name(host, "/etc/passwd", os.geteuid()),
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "gids": sorted(set(os.getgroups()) | {os.getegid()})[:MAX_ITEMS],
        "capabilities": reading(capabilities, host),
    }


def capabilities(host: Host) -> str:
    match = re.search(r"^CapEff:\s*([0-9a-f]{16})$", host.text("/proc/self/status"), re.M)
    if match is None:
        raise UnreadError("unsupported", "/proc/self/status has no CapEff")
    return "0x" + match.group(1)


def groups(host: Host) -> List[Json]:
    owners = set()
    for path in NODES:
        try:
            owners.add(str(os.stat(host.path(path)).st_gid))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                host.note(f"{path}: {error.strerror}")
    owners.discard("0")
    rows = [line.split(":") for line in host.text("/etc/group", 4 * 1024 * 1024).splitlines()]
    users = accounts(host, "/etc/passwd")
    result: List[Json] = []
    for row in rows:
        if len(row) < 4 or not row[2].isdigit() or not (row[0] in ("sgx", "sgx_prv", "kvm") or row[2] in owners):
            continue
        members = {name for name in row[3].split(",") if name}
        members |= {user[0] for user in users if len(user) > 3 and user[3] == row[2]}
        result.append({"name": row[0], "gid": int(row[2]), "members": sorted(members)[:MAX_ITEMS]})
    return result


def service_users(host: Host) -> List[str]:
    names = {line.split(":", 1)[0] for line in host.text("/etc/passwd", 4 * 1024 * 1024).splitlines()}
    return [name for name in ("aesmd", "pccs", "qgsd", "libvirt-qemu", "qemu") if name in names]


def accounts_section(host: Host, facts: Json) -> None:
    facts["user"] = reading(current_user, host)
    facts["groups"] = reading(groups, host)
    facts["service_users"] = reading(service_users, host)


# System

DMI = (
    ("system_vendor", "sys_vendor"),
    ("product_name", "product_name"),
    ("board_vendor", "board_vendor"),
    ("board_name", "board_name"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("bios_date", "bios_date"),
    ("chassis_asset_tag", "chassis_asset_tag"),
)
AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"
CLOUDS = (
    ("alibaba", "alibaba cloud"),
    ("tencent", "tencent cloud"),
    ("google", "google compute engine"),
    ("amazon", "amazon ec2"),
    ("ibm", "ibm:cloud"),
    ("ovh", "ovh"),
)


def os_release(host: Host) -> Json:
    path = "/etc/os-release" if host.exists("/etc/os-release") else "/usr/lib/os-release"
    fields: Dict[str, str] = {}
    for line in host.text(path).splitlines():
        name, _, content = line.partition("=")
        fields[name.strip()] = content.strip().strip("\"'")
    return {
        "id": fields.get("ID", ""),
        "id_like": fields.get("ID_LIKE", "").split()[:MAX_LINES],
        "version_id": fields.get("VERSION_ID", ""),
        "version_codename": fields.get("VERSION_CODENAME", ""),
        "pretty_name": fields.get("PRETTY_NAME", ""),
    }


def hypervisor(host: Host) -> Json:
    if machine(host) != "x86_64":
        raise UnreadError("unsupported", "the hypervisor's signature is read on x86-64 only")
    execute: Optional[Cpuid] = None
    descriptor = None
    try:
        try:
            descriptor, execute = cpuid_device(host, online_cpus(host)[0])
        except OSError:
            if host.real:
                execute = cpuid_instruction()
        if execute is None:
            flags = re.search(r"^flags\s*:(.*)$", host.text("/proc/cpuinfo"), re.M)
            return {"present": flags is not None and "hypervisor" in flags.group(1).split(), "signature": None}
        if not execute(1, 0)[2] >> 31 & 1:
            return {"present": False, "signature": None}
        _, ebx, ecx, edx = execute(0x40000000, 0)
        signature = struct.pack("<3I", ebx, ecx, edx).decode("ascii", "replace").rstrip("\0")
        return {"present": True, "signature": signature}
    finally:
        if descriptor is not None:
            os.close(descriptor)


def dmi(host: Host) -> Json:
    host.names("/sys/class/dmi/id")
    result: Json = {}
    for field, name in DMI:
        try:
            result[field] = host.line(f"/sys/class/dmi/id/{name}")[:MAX_LINE] or None
        except OSError:
            result[field] = None  # firmware that does not fill a field has no such file
    return result


def cloud(found: Json) -> str:
    if "value" not in found:
        raise UnreadError(found["error"], found["text"], found.get("errno"))
    fields = found["value"]
    if fields["chassis_asset_tag"] == AZURE_CHASSIS:
        return "azure"
    text = " ".join(content for content in fields.values() if content).lower()
    return next((name for name, sign in CLOUDS if sign in text), "none")


# The initial namespaces have fixed inode numbers (include/linux/proc_ns.h).
INITIAL_NAMESPACES = (("ipc", 0xEFFFFFFF), ("uts", 0xEFFFFFFE), ("pid", 0xEFFFFFFC), ("cgroup", 0xEFFFFFFB))


def container(host: Host) -> Json:
    signs: List[Tuple[str, str]] = []
    if host.real and os.environ.get("KUBERNETES_SERVICE_HOST"):
        signs.append(("kubernetes", "KUBERNETES_SERVICE_HOST is set"))
    if host.exists("/var/run/secrets/kubernetes.io/serviceaccount"):
        signs.append(("kubernetes", "a Kubernetes service account is mounted"))
    if host.exists("/run/.containerenv"):
        signs.append(("podman", "/run/.containerenv exists"))
    if host.exists("/.dockerenv"):
        signs.append(("docker", "/.dockerenv exists"))
    for path in ("/proc/1/cgroup", "/proc/self/cgroup"):
        text = reading(host.text, path).get("value", "")
        for kind, word in (("kubernetes", "kubepods"), ("docker", "/docker"), ("podman", "libpod"), ("lxc", "/lxc")):
            if re.search(rf"^\d+:[^:]*:.*{word}", text, re.M) and "/system.slice/" not in text:
                signs.append((kind, f"{path} names {word.strip('/')}"))
    manager = reading(host.line, "/run/systemd/container").get("value")
    if not manager:
        environment = reading(host.text, "/proc/1/environ").get("value", "")
        manager = next((item[10:] for item in environment.split("\0") if item.startswith("container=")), None)
    if manager:
        kind = manager if manager in ("docker", "podman", "lxc") else "other"
        signs.append((kind, f"process 1 says container={manager[:40]}"))
    evidence = [text for _, text in signs]
    if not signs:
        return {"kind": "none", "evidence": []}
    if evidence == ["/.dockerenv exists"] and initial_namespaces(host):
        evidence.append(
            "all namespaces are the initial ones: the file came with a container image that was made a disk"
        )
        return {"kind": "none", "evidence": evidence}
    kinds = [kind for kind, _ in signs]
    order = ("kubernetes", "podman", "docker", "lxc", "other")
    return {"kind": next(kind for kind in order if kind in kinds), "evidence": evidence[:20]}


def initial_namespaces(host: Host) -> bool:
    if not host.real:
        return False
    try:
        return all(os.stat(f"/proc/self/ns/{name}").st_ino == inode for name, inode in INITIAL_NAMESPACES)
    except OSError:
        return False


def init(host: Host) -> Json:
    systemd = host.exists("/run/systemd/system")
    version = None
    if systemd:
        for folder in ("/usr/lib/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib64/systemd"):
            names = reading(host.names, folder).get("value", [])
            found = re.search(r"libsystemd-shared-(\d{1,5})", " ".join(names))
            if found:
                version = int(found.group(1))
                break
    return {"name": host.line("/proc/1/comm"), "systemd": systemd, "systemd_version": version}


def system_section(host: Host, facts: Json) -> None:
    facts["hostname"] = reading(host.line, "/proc/sys/kernel/hostname")
    facts["os_release"] = reading(os_release, host)
    facts["dmi"] = reading(dmi, host)
    facts["cloud"] = reading(cloud, facts["dmi"])
    facts["container"] = reading(container, host)
    facts["init"] = reading(init, host)
    facts["hypervisor"] = reading(hypervisor, host)


# Clock


def adjtimex() -> Json:
    """Ask the kernel how its clock is disciplined: adjtimex(2) with modes 0 only reads."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(512)
    state = libc.adjtimex(buffer)
    if state < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    # struct timex: modes, offset, freq, maxerror, esterror, status; offset in ns with STA_NANO, else in us
    _, offset, _, max_error, _, status = struct.unpack_from("@Illlli", buffer.raw)
    synchronised = state != 5 and not status & 0x0040
    disciplined = synchronised and status & 0x0001
    return {
        "synchronised": synchronised,
        # What is still to be added to the clock, so the host is behind by as much.
        "offset_seconds": -offset / (1e9 if status & 0x2000 else 1e6) if disciplined else None,
        "max_error_seconds": max_error / 1e6,
        "via": "adjtimex",
    }


def clock_section(host: Host, facts: Json) -> None:
    if not host.real:
        facts["state"] = unread("unsupported", "the clock is not read for another file system root")
        return
    state = reading(adjtimex)
    facts["state"] = state
    program = host.program("chronyc")
    if "value" not in state or program is None or not (host.exists("/run/chrony") or host.exists("/run/chronyd.pid")):
        return
    status, output, _ = host.run([program, "-n", "-c", "tracking"])
    fields = output.strip().split(",")
    if status == 0 and len(fields) >= 14:
        # reference, name, stratum, reference time, system time (positive: this host is behind), ..., leap status
        synchronised = fields[13] != "Not synchronised"
        offset = -float(fields[4]) if synchronised else None
        facts["state"] = value(dict(state["value"], synchronised=synchronised, offset_seconds=offset, via="chronyc"))


# Services

UNITS = (
    "aesmd.service",
    "container-aesmd.service",
    "remount-dev-exec.service",
    "qgsd.service",
    "pccs.service",
    "mpa_registration_tool.service",
    "chronyd.service",
    "chrony.service",
    "systemd-timesyncd.service",
    "ntpd.service",
    "ntp.service",
    "ntpsec.service",
    "openntpd.service",
    "libvirtd.service",
    "virtqemud.service",
    "kubelet.service",
    "docker.service",
    "containerd.service",
)
UNIT_PROPERTIES = (
    ("LoadState", "load_state"),
    ("ActiveState", "active_state"),
    ("SubState", "sub_state"),
    ("UnitFileState", "unit_file_state"),
    ("Result", "result"),
)
# As /proc/PID/comm has them: cut at 15 characters.
PROCESSES = (
    "aesm_service",
    "qgsd",
    "mpa_registratio",
    "chronyd",
    "ntpd",
    "systemd-timesyn",
    "libvirtd",
    "virtqemud",
    "qemu-system-x86",
    "qemu-kvm",
    "kubelet",
    "dockerd",
    "containerd",
)


def units(host: Host) -> List[Json]:
    if not host.exists("/run/systemd/system"):
        raise UnreadError("unsupported", "systemd does not manage this system")
    program = host.program("systemctl")
    if program is None:
        raise UnreadError("absent", "systemctl is not installed")
    properties = ",".join(name for name, _ in UNIT_PROPERTIES)
    status, output, problem = host.run([program, "show", "--no-pager", "-p", properties] + list(UNITS))
    blocks = output.strip("\n").split("\n\n")
    if status != 0 or len(blocks) != len(UNITS):
        text = (problem.strip() or "systemctl show printed something else").splitlines()[0]
        raise UnreadError("permission" if "denied" in text.lower() else "error", text)
    result: List[Json] = []
    for name, block in zip(UNITS, blocks):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        result.append(dict({key: fields.get(name_, "") for name_, key in UNIT_PROPERTIES}, name=name))
    return result


def processes(host: Host) -> List[Json]:
    result: List[Json] = []
    for entry in host.names("/proc"):
        if not entry.isdigit():
            continue
        try:
            name = host.line(f"/proc/{entry}/comm")
            if name in PROCESSES and len(result) < MAX_LINES:
                uid = os.stat(host.path(f"/proc/{entry}")).st_uid
                result.append({"pid": int(entry), "name": name, "uid": uid})
        except OSError:
            continue  # it ended meanwhile
    return result


def units_section(host: Host, facts: Json) -> None:
    facts["units"] = reading(units, host)


def processes_section(host: Host, facts: Json) -> None:
    facts["processes"] = reading(processes, host)


# AESM
#
# A frame is a 4-byte little-endian length and a protobuf message. A connection carries one request.

AESM_SOCKET = "/var/run/aesmd/aesm.socket"
AESM_ABSTRACT = b"\0sgx_aesm_socket_base".ljust(108, b"\0")
AESM_BUNDLES = "/opt/intel/sgx-aesm-service/aesm/bundles"
MAX_REPLY = 64 * 1024
ECDSA_SIGNER = "8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"
# sgx_att_key_id_ext_t of Intel's ECDSA-P256 quoting enclave: product 1, algorithm 2
ECDSA_KEY_ID = struct.pack("<HHH", 0, 0, 32) + bytearray.fromhex(ECDSA_SIGNER).ljust(48, b"\0")
ECDSA_KEY_ID = (ECDSA_KEY_ID + struct.pack("<I", 1) + bytes(96) + struct.pack("<I", 2)).ljust(256, b"\0")

# None of these makes or changes a key: initQuoteEx asks for the size of the key's identifier only. The EPID request
# initQuote (1) is left out because an old daemon would begin to provision; 12 has the same plug-in.
AESM_REQUESTS = (
    (19, "selectAttKeyID"),
    (21, "getSupportedAttKeyIDNum"),
    (15, "initQuoteEx"),
    (16, "getQuoteSizeEx"),
    (10, "getWhiteListSize"),
    (12, "sgxGetExtendedEpidGroupId"),
)


def varint(number_: int) -> bytes:
    result = bytearray()
    while number_ > 0x7F:
        result.append(number_ & 0x7F | 0x80)
        number_ >>= 7
    result.append(number_)
    return bytes(result)


def field(number_: int, content: Any) -> bytes:
    if isinstance(content, int):
        return varint(number_ << 3) + varint(content)
    return varint(number_ << 3 | 2) + varint(len(content)) + bytes(content)


def fields(data: bytes) -> Dict[int, Any]:
    """Decode a protobuf message of varints and length-delimited fields; ValueError for anything else."""
    result: Dict[int, Any] = {}
    offset = 0
    while offset < len(data):
        tag, offset = read_varint(data, offset)
        content, offset = read_varint(data, offset)
        if tag & 7 == 2:
            if content > len(data) - offset:
                raise ValueError("a field is longer than the message")
            result[tag >> 3] = data[offset : offset + content]
            offset += content
        elif tag & 7 == 0:
            result[tag >> 3] = content
        else:
            raise ValueError(f"a field has wire type {tag & 7}")
    return result


def read_varint(data: bytes, offset: int) -> Tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise ValueError("the message ends inside a number")
        byte = bytearray(data[offset : offset + 1])[0]
        offset += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                break
            return result, offset
    raise ValueError("a number has more than 64 bits")


def aesm_request(request: int, key_id: bytes, timeout: float) -> bytes:
    microseconds = max(1, min(int(timeout * 1e6), 0xFFFFFFFF))
    if request == 19:
        body = field(2, microseconds)
    elif request == 15:
        body = field(1, key_id) + field(3, 0) + field(9, microseconds)
    elif request == 16:
        body = field(1, key_id) + field(9, microseconds)
    else:
        body = field(9, microseconds)
    message = field(request, body)
    return struct.pack("<I", len(message)) + message


def aesm_connect(address: Any, deadline: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise UnreadError("timeout", "the daemon did not accept a connection within the time limit")
            connection.settimeout(remaining)
            try:
                connection.connect(address)
                return connection
            except BlockingIOError:  # its queue of connections is full
                time.sleep(min(0.02, remaining))
    except BaseException:
        connection.close()
        raise


def receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Receive up to `size` bytes; fewer when the peer closes the connection."""
    data = b""
    while len(data) < size:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise UnreadError("timeout", "no complete reply within the time limit")
        connection.settimeout(remaining)
        try:
            part = connection.recv(size - len(data))
        except ConnectionResetError:
            part = b""
        if not part:
            break
        data += part
    return data


def aesm_exchange(address: Any, request: int, key_id: bytes, limit: float) -> Json:
    deadline = time.monotonic() + limit
    connection = aesm_connect(address, deadline)
    try:
        try:
            connection.sendall(aesm_request(request, key_id, limit))
        except BrokenPipeError:
            return aesm_reply("closed")
        head = receive(connection, 4, deadline)
        if not head:
            return aesm_reply("closed")
        if len(head) < 4:
            raise UnreadError("error", f"the reply ends after {len(head)} bytes")
        size = struct.unpack("<I", head)[0]
        if size > MAX_REPLY:
            raise UnreadError("error", f"the reply announces {size} bytes, more than {MAX_REPLY}")
        data = receive(connection, size, deadline)
        if len(data) < size:
            raise UnreadError("error", f"the reply announces {size} bytes and ends after {len(data)}")
    finally:
        connection.close()
    return aesm_decoded(request, data)


def aesm_decoded(request: int, data: bytes) -> Json:
    try:
        outer = fields(data)
        message = request if request in outer else 20
        if not isinstance(outer.get(message), bytes):
            raise ValueError("it is no response to this request")
        body = fields(outer[message])
        code = body.get(1, 1)
        if not isinstance(code, int):
            raise ValueError("its error code is no number")
    except ValueError as error:
        raise UnreadError("error", f"malformed reply: {error}")
    reply = aesm_reply("response", message, code)
    second = body.get(2)
    if message == 19 and isinstance(second, bytes):
        reply["attestation_key_id"] = "".join(f"{byte:02x}" for byte in bytearray(second[:1024]))
        if len(second) >= 158:
            reply["algorithm"] = struct.unpack_from("<I", second, 154)[0]
    elif message == 21 and isinstance(second, int):
        reply["key_count"] = second
    elif message == 15:
        reply["target_info_size"] = len(second) if isinstance(second, bytes) else None
        reply["public_key_id_size"] = body[3] if isinstance(body.get(3), int) else None
    elif message == 16 and isinstance(second, int):
        reply["quote_size"] = second
    return reply


def aesm_reply(outcome: str, message: Optional[int] = None, code: Optional[int] = None) -> Json:
    return {
        "outcome": outcome,
        "message": message,
        "code": code,
        "attestation_key_id": None,
        "algorithm": None,
        "key_count": None,
        "target_info_size": None,
        "public_key_id_size": None,
        "quote_size": None,
    }


def aesm_section(host: Host, facts: Json) -> None:
    shown = host.aesm_socket or AESM_SOCKET
    full = host.aesm_socket or host.path(AESM_SOCKET)
    facts["configuration"] = reading(host.file, "/etc/aesmd.conf")
    facts["bundles"] = reading(
        lambda: [name for name in host.names(AESM_BUNDLES) if name.endswith(".so")][:MAX_LINES]
    )
    status_host = Host(host.timeout, host.network, "/", None) if host.aesm_socket else host
    facts["socket"] = reading(node_status, status_host, shown)
    facts["socket_path"] = value(shown)
    deadline = time.monotonic() + host.remaining() * 0.9
    address: Any = full
    connection = reading(aesm_opened, address, deadline)
    if host.real and not host.aesm_socket and facts["socket"].get("error") == "absent":
        # Daemons before PSW 2.0 listen in the abstract namespace.
        abstract = reading(aesm_opened, AESM_ABSTRACT, deadline)
        if "value" in abstract:
            address, connection = AESM_ABSTRACT, abstract
            facts["socket_path"] = value("@sgx_aesm_socket_base")
    facts["connect"] = connection
    if "value" not in connection:
        facts["conversation"] = unread("skipped", "there is no connection to the daemon")
        return
    conversation: List[Json] = []
    key_id = ECDSA_KEY_ID
    for position, (request, name) in enumerate(AESM_REQUESTS):
        started = time.monotonic()
        left = max(0.01, deadline - started)
        # The first loads the daemon's plug-ins and may take its time; a daemon that hangs must not hang us six times.
        limit = left / 2 if position == 0 else left / (len(AESM_REQUESTS) - position)
        if request == 16 and not host.network:
            # The size of a quote depends on the certificates in it, which the daemon fetches.
            reply = unread("skipped", "the daemon would use the network for it")
        else:
            reply = reading(aesm_exchange, address, request, key_id, limit)
        selected = reply.get("value", {}).get("attestation_key_id")
        if selected and len(selected) == 512:
            key_id = bytes(bytearray.fromhex(selected))
        seconds = round(time.monotonic() - started, 6)
        conversation.append({"request": request, "name": name, "seconds": seconds, "reply": reply})
        if request == 21 and reply.get("value", {}).get("code") == 30:
            # 21 does not start plug-ins by itself; 19 may just have begun to.
            time.sleep(min(0.05, left / 20))
            conversation[-1]["reply"] = reading(aesm_exchange, address, request, key_id, limit)
    facts["conversation"] = value(conversation)


def aesm_opened(address: Any, deadline: float) -> bool:
    aesm_connect(address, deadline).close()
    return True


# Software

PACKAGES = (
    "libsgx*",
    "sgx-*",
    "sgx_*",
    "libtdx*",
    "tdx-*",
    "libdcap*",
    "az-dcap-client*",
    "gramine*",
    "intel-sgx*",
    "intel-tee-*",
    "open-enclave*",
    "ego",
    "occlum*",
    "fortanix-*",
)
LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/lib64",
    "/lib/x86_64-linux-gnu",
)
LIBRARY = re.compile(r"^(?:libsgx_|libdcap|libtdx_attest).*\.so|quoteprov")
TOOLS = (
    ("aesm_service", ("/opt/intel/sgx-aesm-service/aesm",)),
    ("PCKIDRetrievalTool", ("/opt/intel/sgx-pck-id-retrieval-tool",)),
    ("mpa_manage", ("/opt/intel/sgx-ra-service",)),
    ("gramine-sgx", ()),
    ("is-sgx-available", ()),
    ("sgx-detect", ()),
    ("ego", ("/opt/ego/bin", "/snap/bin")),
    ("docker", ()),
    ("podman", ()),
    ("kubectl", ()),
    ("helm", ()),
    ("chronyc", ()),
    ("cpuid", ()),
    ("rdmsr", ()),
)
SOURCES = re.compile(
    r"intel-sgx|download\.01\.org|sgx_repo|sgx_debian_local_repo|fortanix|gramine|packages\.microsoft\.com", re.I
)

KEY_OWNERS = re.compile(r"\b(?:intel|fortanix|gramine|microsoft)\b", re.I)


def is_sgx_package(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PACKAGES)


def packages(host: Host) -> List[Json]:
    readers = (
        ("/var/lib/dpkg/status", dpkg_packages),
        ("/var/lib/rpm", rpm_packages),
        ("/usr/lib/sysimage/rpm", rpm_packages),
        ("/lib/apk/db/installed", apk_packages),
        ("/var/lib/pacman/local", pacman_packages),
    )
    for path, installed in readers:
        if host.exists(path):
            return sorted(installed(host, path), key=lambda item: str(item["name"]))[:MAX_ITEMS]
    raise UnreadError("unsupported", "no package database of dpkg, rpm, apk or pacman")


def dpkg_packages(host: Host, path: str) -> List[Json]:
    text = "\n" + host.text(path, 64 * 1024 * 1024)
    result: List[Json] = []
    for match in re.finditer(r"\nPackage: (\S+)\n", text):
        if not is_sgx_package(match.group(1)):
            continue
        stanza = text[match.end() : text.find("\n\n", match.end())]
        status = re.search(r"^Status: \S+ \S+ (\S+)", stanza, re.M)
        version = re.search(r"^Version: (\S+)", stanza, re.M)
        result.append(
            {
                "name": match.group(1),
                "version": version.group(1) if version else "",
                "manager": "dpkg",
                "status": status.group(1) if status else "unknown",
            }
        )
    return result


def rpm_packages(host: Host, path: str) -> List[Json]:
    program = host.program("rpm")
    if program is None:
        raise UnreadError("absent", f"{path} exists, but the program rpm does not")
    status, output, problem = host.run([program, "-qa", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\\n"])
    if status != 0:
        raise UnreadError("error", (problem.strip() or "rpm failed").splitlines()[0])
    rows = [line.split(" ", 1) for line in output.splitlines() if " " in line]
    return [
        {"name": name, "version": version, "manager": "rpm", "status": "installed"}
        for name, version in rows
        if is_sgx_package(name)
    ]


def apk_packages(host: Host, path: str) -> List[Json]:
    found = re.findall(r"^P:(\S+)\nV:(\S+)$", host.text(path, 64 * 1024 * 1024), re.M)
    return [
        {"name": name, "version": version, "manager": "apk", "status": "installed"}
        for name, version in found
        if is_sgx_package(name)
    ]


def pacman_packages(host: Host, path: str) -> List[Json]:
    parts = [entry.rsplit("-", 2) for entry in host.names(path)]
    return [
        {"name": part[0], "version": f"{part[1]}-{part[2]}", "manager": "pacman", "status": "installed"}
        for part in parts
        if len(part) == 3 and is_sgx_package(part[0])
    ]


def libraries(host: Host) -> List[Json]:
    result: List[Json] = []
    seen = set()
    for folder in LIBRARY_FOLDERS:
        real = os.path.realpath(host.path(folder))
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        for name in host.names(folder):
            if LIBRARY.search(name) and len(result) < MAX_LINES:
                path = f"{folder}/{name}"
                full = host.path(path)
                target = os.path.realpath(full)
                inside = target[len(host.root) :] if target.startswith(host.root + "/") else target
                found = inside if os.path.exists(target) else None
                result.append({"path": path, "link": os.path.islink(full), "target": found})
    return result


def tools(host: Host) -> List[Json]:
    found = [(name, host.program(name, folders)) for name, folders in TOOLS]
    return [{"name": name, "path": path, "version": None} for name, path in found if path is not None]


def apt_source_files(host: Host) -> Iterator[Tuple[str, str]]:
    paths = ["/etc/apt/sources.list"]
    paths += [
        f"/etc/apt/sources.list.d/{name}"
        for name in reading(host.names, "/etc/apt/sources.list.d").get("value", [])
        if name.endswith((".list", ".sources"))
    ]
    for path in paths:
        try:
            text = host.text(path)
        except OSError as error:
            if error.errno != errno.ENOENT:
                host.note(f"{path}: {error.strerror}")
            continue
        if SOURCES.search(text):
            yield path, text


def apt_sources(host: Host) -> List[Json]:
    host.names("/etc/apt")
    found = list(apt_source_files(host))[:50]
    return [{"path": path, "text": redacted(text), "truncated": len(text) >= MAX_TEXT} for path, text in found]


def apt_keys(host: Host) -> List[Json]:
    """Return keys of SGX repositories: of keyrings that a source names, and of owners that publish one."""
    host.names("/etc/apt")
    named: List[str] = []
    for _, text in apt_source_files(host):
        named += re.findall(r"signed-by\s*[=:]\s*(/[^\s\],]+)", text, re.I)
    others = ["/etc/apt/trusted.gpg"]
    for folder in ("/etc/apt/trusted.gpg.d", "/etc/apt/keyrings", "/usr/share/keyrings"):
        names = reading(host.names, folder).get("value", [])
        others += [f"{folder}/{name}" for name in names if name.endswith((".gpg", ".asc", ".key", ".pgp"))]
    result: List[Json] = []
    for path in list(dict.fromkeys(named + others))[:MAX_LINES]:
        wanted = path in named or re.search("sgx", path, re.I) is not None
        try:
            keys = openpgp_keys(host.read(path, 1 << 20)[0])
        except OSError as error:
            if wanted or error.errno != errno.ENOENT:
                host.note(f"{path}: {error.strerror}")
        except ValueError as error:
            if wanted:
                host.note(f"{path}: not read as OpenPGP keys: {error}")
        else:
            result += [dict(key, path=path) for key in keys if wanted or KEY_OWNERS.search(key["user_id"])]
    return result[:MAX_LINES]


# OpenPGP (RFC 4880; key versions 5 and 6 as in RFC 9580). Signatures are not verified: this says what the file says.


def openpgp_keys(data: bytes) -> List[Json]:
    """Return the primary keys in a keyring, binary or armoured; ValueError if it is neither.

    A key's lifetime is that of its direct-key signature where that states one, else that of the latest certification
    of a user ID by the key itself.
    """
    keys: List[Json] = []
    key_id = b""
    latest = {"direct": -1, "certification": -1}
    for block in openpgp_blocks(data):
        for tag, body in openpgp_packets(block):
            if tag == 6:
                fingerprint, key_id, created = openpgp_fingerprint(body)
                keys.append({"fingerprint": fingerprint, "user_id": "", "created": created, "expires": None})
                latest = {"direct": -1, "certification": -1}
            elif tag == 14:
                key_id = b""  # signatures from here on are of subkeys
            elif tag == 13 and keys and not keys[-1]["user_id"]:
                keys[-1]["user_id"] = body[:MAX_LINE].decode("utf-8", "replace")
            elif tag == 2 and keys and key_id:
                kind, when, lifetime = openpgp_self_signature(body, key_id)
                if kind not in latest or (kind == "direct" and not lifetime):
                    continue
                overruled = kind == "certification" and latest["direct"] >= 0
                if when > latest[kind] and not overruled:
                    keys[-1]["expires"] = keys[-1]["created"] + lifetime if lifetime else None
                latest[kind] = max(when, latest[kind])
    if not keys:
        raise ValueError("no public key in it")
    return keys


def openpgp_blocks(data: bytes) -> List[bytes]:
    begin, end_ = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"-----END PGP PUBLIC KEY BLOCK-----"
    if begin not in data:
        if data[:1] < b"\x80":
            raise ValueError("neither armoured nor binary")
        return [data]
    import base64

    blocks = []
    for part in data.split(begin)[1:]:
        content, found, _ = part.partition(end_)
        if not found:
            raise ValueError("an armoured block does not end")
        lines = [line.strip() for line in content.split(b"\n")]
        # Header lines end with the first empty line; the line that begins with "=" is a checksum.
        body = lines[lines.index(b"", 1) :] if b"" in lines[1:] else lines
        blocks.append(base64.b64decode(b"".join(line for line in body if not line.startswith(b"="))))
    return blocks


def openpgp_packets(data: bytes) -> Iterator[Tuple[int, bytes]]:
    view = bytearray(data)
    offset = 0
    while offset < len(view):
        first = view[offset]
        offset += 1
        if not first & 0x80:
            raise ValueError("a packet does not begin with its tag")
        if first & 0x40:
            tag = first & 0x3F
            size, offset = openpgp_length(view, offset)
        else:
            tag = first >> 2 & 0xF
            octets = (1, 2, 4, 0)[first & 3]
            if octets == 0 or offset + octets > len(view):
                raise ValueError("a packet has no length")
            size = int.from_bytes(view[offset : offset + octets], "big")
            offset += octets
        if size > len(view) - offset:
            raise ValueError("a packet is cut short")
        yield tag, bytes(view[offset : offset + size])
        offset += size


def openpgp_length(view: bytearray, offset: int) -> Tuple[int, int]:
    """Read a length of the new format, which subpackets use too."""
    if offset >= len(view):
        raise ValueError("a length is cut short")
    first = view[offset]
    octets = 1 if first < 192 else 2 if first < 224 else 5
    if offset + octets > len(view) or 224 <= first < 255:
        raise ValueError("a length is cut short or partial")
    if first < 192:
        size = first
    elif octets == 2:
        size = (first - 192 << 8) + view[offset + 1] + 192
    else:
        size = int.from_bytes(view[offset + 1 : offset + 5], "big")
    return size, offset + octets


def openpgp_fingerprint(body: bytes) -> Tuple[str, bytes, int]:
    """Return a key's fingerprint, its 8-byte key ID and its creation time."""
    import hashlib

    if len(body) < 6:
        raise ValueError("a key is cut short")
    version, created = struct.unpack(">BI", body[:5])
    if version == 4:
        digest = hashlib.sha1(b"\x99" + struct.pack(">H", len(body)) + body).digest()
        return digest.hex().upper(), digest[-8:], created
    if version in (5, 6):
        prefix = b"\x9a" if version == 5 else b"\x9b"
        digest = hashlib.sha256(prefix + struct.pack(">I", len(body)) + body).digest()
        return digest.hex().upper(), digest[:8], created
    raise ValueError(f"key version {version} is not known")


def openpgp_self_signature(body: bytes, key_id: bytes) -> Tuple[str, int, int]:
    """Return the kind of a signature by the key itself (else ``other``), when it was made, and the key's lifetime."""
    view = bytearray(body)
    if len(view) < 6 or view[0] not in (4, 5, 6) or view[1] not in (0x10, 0x11, 0x12, 0x13, 0x1F):
        return "other", -1, 0
    width = 4 if view[0] == 6 else 2
    offset = 4
    created, lifetime, issuer = -1, 0, b""
    for hashed in (True, False):
        size = int.from_bytes(view[offset : offset + width], "big")
        offset += width
        area = view[offset : offset + size]
        offset += size
        position = 0
        while position < len(area):
            length, position = openpgp_length(area, position)
            if length == 0 or length > len(area) - position:
                raise ValueError("a signature's subpacket is cut short")
            kind, content = area[position] & 0x7F, bytes(area[position + 1 : position + length])
            position += length
            if kind == 2 and hashed and len(content) == 4:
                created = int.from_bytes(content, "big")
            elif kind == 9 and hashed and len(content) == 4:
                lifetime = int.from_bytes(content, "big")
            elif kind == 16 and len(content) == 8:
                issuer = content
            elif kind == 33 and len(content) >= 21 and not issuer:
                issuer = content[1:9] if content[0] in (5, 6) else content[-8:]
    if issuer != key_id:
        return "other", -1, 0
    return "direct" if view[1] == 0x1F else "certification", created, lifetime


def packages_section(host: Host, facts: Json) -> None:
    facts["packages"] = reading(packages, host)


def software_section(host: Host, facts: Json) -> None:
    facts["libraries"] = reading(libraries, host)
    facts["tools"] = reading(tools, host)
    facts["apt_sources"] = reading(apt_sources, host)
    facts["apt_keys"] = reading(apt_keys, host)


# Quote provider and the services that it names

QCNL_CONF = "/etc/sgx_default_qcnl.conf"
ENVIRONMENT = re.compile(
    r"^(?:QCNL_CONF_PATH|SGX_AESM_ADDR|AZDCAP_\w+|SGX_\w+|(?:https?|all|no)_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY)$"
)
INTEL_PCS = "api.trustedservices.intel.com"


def environment_variables() -> List[Json]:
    found = [(name, os.environ[name]) for name in sorted(os.environ) if ENVIRONMENT.match(name)]
    return [{"name": name, "value": redacted(content)[:MAX_LINE]} for name, content in found[:MAX_LINES]]


def qcnl_path(host: Host) -> str:
    named = os.environ.get("QCNL_CONF_PATH", "") if host.real else ""
    return named if named.startswith("/") else QCNL_CONF


def qcnl_urls(host: Host) -> List[str]:
    """Return the URLs in the configuration: those for certificates first, in the order that the library asks them."""
    text = host.text(qcnl_path(host))
    # What is not closed reaches to the end, so that it is read once only.
    tokens = r'("(?:[^"\\\n]|\\.)*"?)|//[^\n]*|/\*.*?(?:\*/|\Z)'
    plain = re.sub(tokens, lambda match: match.group(1) or " ", text, flags=re.S)
    result: List[str] = []
    for key, legacy in (
        ("local_pck_url", "LOCAL_PCK_URL"),
        ("pccs_url", "PCCS_URL"),
        ("collateral_service", "COLLATERAL_SERVICE"),
    ):
        match = re.search(rf'"{key}"\s*:\s*"([^"\n]*)"', plain)
        match = match or re.search(rf"^[ \t]*{legacy}[ \t]*=[ \t]*(\S+)", text, re.M | re.I)
        if match and match.group(1) and match.group(1) not in result:
            result.append(match.group(1))
    return result


def quote_provider_section(host: Host, facts: Json) -> None:
    facts["environment"] = reading(environment_variables)
    facts["configuration"] = reading(lambda: host.file(qcnl_path(host)))
    facts["pccs_urls"] = reading(lambda: [redacted(url)[:2000] for url in qcnl_urls(host)])


def network_section(host: Host, facts: Json) -> None:
    if not host.network:
        facts["endpoints"] = unread("skipped", "network connections were not allowed")
        return
    try:
        urls = qcnl_urls(host)
    except OSError as error:
        reason = why(error)
        facts["endpoints"] = unread(
            "skipped" if reason["error"] == "absent" else reason["error"],
            f"no quote provider configuration names a service ({reason['text']})",
            error.errno,
        )
        return
    endpoints = [
        {"url": redacted(url)[:2000], "reply": unread("timeout", "no answer within the time limit")} for url in urls
    ]
    threads = []
    for url, endpoint in zip(urls, endpoints):
        thread = threading.Thread(target=ask_endpoint, args=(host, url, endpoint), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join(host.remaining() * 0.95)
    facts["endpoints"] = value([dict(endpoint) for endpoint in endpoints])


def ask_endpoint(host: Host, url: str, endpoint: Json) -> None:
    endpoint["reply"] = reading(ask_http, url, host.remaining() * 0.9)


def ask_http(url: str, timeout: float) -> Json:
    """Ask a provisioning service for its smallest public document; any HTTP status is an answer."""
    import ssl
    import urllib.parse

    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnreadError("error", "the URL does not begin with http:// or https:// and a host")
    wanted = "pckcrl?ca=platform" if parts.hostname == INTEL_PCS else "rootcacrl"
    target = url.rstrip("/") + "/" + wanted
    context = ssl.create_default_context()
    try:
        return http_get(target, context, timeout / 2, None)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http_get(target, context, timeout / 2, str(reason))


def http_get(url: str, context: Any, timeout: float, tls_error: Optional[str]) -> Json:
    import email.utils
    import ssl
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers={"User-Agent": f"sgxkit/{VERSION}", "Metadata": "true"})
    started = time.monotonic()
    try:
        response = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        response = error
    except urllib.error.URLError as error:
        # The cause is what tells: TLS, name resolution, refused, timed out.
        if isinstance(error.reason, ssl.SSLError) and tls_error is None:
            raise error.reason
        raise (error.reason if isinstance(error.reason, Exception) else UnreadError("error", str(error.reason)))
    with response:
        now = time.time()
        seconds = time.monotonic() - started
        status = response.getcode()
        date = response.headers.get("Date")
        response.read(1024)
    offset = None
    if date:
        try:
            offset = round(now - email.utils.parsedate_to_datetime(date).timestamp(), 3)
        except (TypeError, ValueError, OverflowError):
            offset = None
    return {
        "status": status,
        "tls_error": tls_error,
        "clock_offset_seconds": offset,
        "seconds": round(seconds, 6),
    }


def registration_section(host: Host, facts: Json) -> None:
    facts["log"] = reading(host.file, "/var/log/mpa_registration.log", True)
    facts["configuration"] = reading(host.file, "/etc/mpa_registration.conf")


# Kubernetes

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
KUBE_LABEL = re.compile(
    r"sgx|^intel\.|^feature\.node\.kubernetes\.io/(?:cpu|kernel|system)|^(?:beta\.)?kubernetes\.io/(?:arch|os|hostname)$"
    r"|node\.kubernetes\.io/instance-type",
    re.I,
)
KUBE_RESOURCE = re.compile(r"sgx|^cpu$|^memory$", re.I)


def kubernetes_section(host: Host, facts: Json) -> None:
    facts["cluster"] = reading(kubernetes_cluster, host)


def kubernetes_cluster(host: Host) -> Json:
    address = os.environ.get("KUBERNETES_SERVICE_HOST")
    inside = bool(address) and host.exists(SERVICE_ACCOUNT + "/token")
    config = None if inside else kubeconfig(host)
    if not inside and config is None:
        raise UnreadError("absent", "neither a service account nor a kubeconfig was found")
    if not host.network:
        raise UnreadError("skipped", "network connections were not allowed")
    name = os.environ.get("NODE_NAME") or os.environ.get("MY_NODE_NAME")
    if inside:
        assert address is not None
        bracketed = f"[{address}]" if ":" in address else address
        server = f"https://{bracketed}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        document = ask_api_server(host, server, name)
        via = "service-account"
    else:
        assert config is not None
        document = ask_kubectl(host, config)
        server, via = f"as in {config}", "kubectl"
    items = document.get("items", [document])
    if not isinstance(items, list):
        raise UnreadError("error", "the API server's answer has no list of nodes")
    nodes = [kubernetes_node(item) for item in items[:512]]
    if name is None:
        hostname = host.line("/proc/sys/kernel/hostname").lower()
        name = next(
            (node["name"] for node in nodes if node["name"].lower().split(".")[0] == hostname.split(".")[0]), None
        )
    return {"via": via, "server": server[:MAX_LINE], "node_name": name, "nodes": nodes}


def kubeconfig(host: Host) -> Optional[str]:
    named = os.environ.get("KUBECONFIG", "").split(":")[0] if host.real else ""
    home = os.environ.get("HOME", "") if host.real else "/root"
    paths = (named, home + "/.kube/config", "/etc/kubernetes/admin.conf", "/etc/rancher/k3s/k3s.yaml")
    return next((path for path in paths if path.startswith("/") and os.access(host.path(path), os.R_OK)), None)


def ask_api_server(host: Host, server: str, name: Optional[str]) -> Json:
    import ssl
    import urllib.error
    import urllib.parse
    import urllib.request

    token = host.line(SERVICE_ACCOUNT + "/token")
    context = ssl.create_default_context(cadata=host.text(SERVICE_ACCOUNT + "/ca.crt", 1 << 20))
    path = f"/api/v1/nodes/{urllib.parse.quote(name, safe='')}" if name else "/api/v1/nodes?limit=500"
    # The API server is never behind a proxy that the environment names for the world outside.
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(server + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with opener.open(request, timeout=max(0.1, host.remaining() * 0.9)) as response:
            return parsed_object(response.read(16 * 1024 * 1024))
    except urllib.error.HTTPError as error:
        kind = "permission" if error.code in (401, 403) else "error"
        raise UnreadError(kind, f"the API server answered {error.code} to GET {path}")
    except urllib.error.URLError as error:
        raise (error.reason if isinstance(error.reason, Exception) else UnreadError("error", str(error.reason)))


def ask_kubectl(host: Host, config: str) -> Json:
    program = host.program("kubectl")
    if program is None:
        raise UnreadError("unsupported", f"{config} exists, but kubectl is not installed")
    seconds = max(1, int(host.remaining()))
    # A raw request needs no discovery, which kubectl would cache below the home folder.
    arguments = ["get", "--raw", "/api/v1/nodes?limit=500", f"--kubeconfig={config}", f"--request-timeout={seconds}s"]
    status, output, problem = host.run([program] + arguments, 16 * 1024 * 1024)
    if status != 0:
        text = (problem.strip() or "kubectl failed").splitlines()[-1]
        raise UnreadError("permission" if "orbidden" in text or "nauthorized" in text else "error", text)
    return parsed_object(output.encode("utf-8", "replace"))


def parsed_object(data: bytes) -> Json:
    document = json.loads(data.decode("utf-8", "replace"))
    if not isinstance(document, dict):
        raise UnreadError("error", "the API server's answer is no JSON object")
    return document


def kubernetes_node(item: Json) -> Json:
    metadata, spec, status = item.get("metadata", {}), item.get("spec", {}), item.get("status", {})
    conditions = {entry.get("type"): entry.get("status") for entry in status.get("conditions", [])}
    ready = conditions.get("Ready")
    return {
        "name": str(metadata.get("name", "")),
        "ready": None if ready is None else ready == "True",
        "unschedulable": bool(spec.get("unschedulable", False)),
        "labels": selected(metadata.get("labels", {}), KUBE_LABEL),
        "capacity": selected(status.get("capacity", {}), KUBE_RESOURCE),
        "allocatable": selected(status.get("allocatable", {}), KUBE_RESOURCE),
    }


def selected(mapping: Json, pattern: Any) -> List[Json]:
    names = [name for name in sorted(mapping) if pattern.search(name)]
    return [{"name": name, "value": str(mapping[name])} for name in names[:MAX_LINES]]


# Virtual machine host

QEMU = (
    "/usr/bin/qemu-system-x86_64",
    "/usr/libexec/qemu-kvm",
    "/usr/bin/qemu-kvm",
    "/usr/local/bin/qemu-system-x86_64",
)


def qemu(host: Host) -> List[Json]:
    result: List[Json] = []
    for path in QEMU:
        if not host.exists(path):
            continue
        version = None
        if host.real and os.access(path, os.X_OK):
            version = host.run([path, "--version"])[1].split("\n", 1)[0][:MAX_LINE] or None
        result.append({"name": os.path.basename(path), "path": path, "version": version})
    return result


def kvm_intel_parameters(host: Host) -> List[Json]:
    folder = "/sys/module/kvm_intel/parameters"
    names = [name for name in host.names(folder) if name in ("sgx", "nested", "ept", "unrestricted_guest")]
    return [{"name": name, "value": host.line(f"{folder}/{name}")} for name in names]


def qemu_conf(host: Host) -> Json:
    path = "/etc/libvirt/qemu.conf"
    data, truncated = host.read(path, 1 << 20)
    lines = data.decode("utf-8", "replace").splitlines()
    text = "".join(line + "\n" for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {"path": path, "text": redacted(text[:MAX_TEXT]), "truncated": truncated or len(text) > MAX_TEXT}


def virtualization_section(host: Host, facts: Json) -> None:
    facts["kvm"] = reading(device_node, host, "/dev/kvm", False)
    facts["kvm_intel_parameters"] = reading(kvm_intel_parameters, host)
    facts["libvirt_qemu_conf"] = reading(qemu_conf, host)


def qemu_section(host: Host, facts: Json) -> None:
    facts["qemu"] = reading(qemu, host)


# All together

Section = Callable[[Host, Json], None]

# Slow ones first: each row is read by a thread of its own.
SECTIONS: Tuple[Tuple[str, Tuple[str, ...], Section], ...] = (
    ("services", ("units",), units_section),
    ("software", ("packages",), packages_section),
    ("network", ("endpoints",), network_section),
    ("kubernetes", ("cluster",), kubernetes_section),
    ("virtualization", ("qemu",), qemu_section),
    ("aesm", ("socket_path", "socket", "connect", "conversation", "bundles", "configuration"), aesm_section),
    ("clock", ("state",), clock_section),
    ("kernel", ("log",), kernel_log_section),
    ("cpu", ("cpuid",), cpuid_section),
    ("cpu", ("architecture", "online", "smt", "cpuinfo", "msrs"), cpu_section),
    ("firmware", ("boot_mode", "variables", "secure_boot"), firmware_section),
    (
        "kernel",
        (
            "release",
            "version",
            "command_line",
            "config",
            "lockdown",
            "dmesg_restrict",
            "mmap_min_addr",
            "epc_nodes",
            "misc_devices",
            "modules",
            "available_modules",
        ),
        kernel_section,
    ),
    ("kernel", ("modprobe_lines", "udev_rules"), kernel_rules_section),
    ("devices", ("nodes", "mounts"), devices_section),
    ("accounts", ("user", "groups", "service_users"), accounts_section),
    (
        "system",
        ("hostname", "os_release", "hypervisor", "dmi", "cloud", "container", "init"),
        system_section,
    ),
    ("services", ("processes",), processes_section),
    ("software", ("libraries", "tools", "apt_sources", "apt_keys"), software_section),
    ("quote_provider", ("environment", "configuration", "pccs_urls"), quote_provider_section),
    ("registration", ("log", "configuration"), registration_section),
    ("virtualization", ("kvm", "kvm_intel_parameters", "libvirt_qemu_conf"), virtualization_section),
    ("launch", ("debug", "production"), launch_section),
)


def read_section(host: Host, names: Tuple[str, ...], function: Section, facts: Json, timing: Json) -> None:
    started = time.monotonic()
    pending = {name: facts[name] for name in names}
    try:
        function(host, facts)
    except BaseException as error:
        reason = why(error)
        for name in names:
            if facts[name] is pending[name]:
                facts[name] = reason
    timing["seconds"] = round(time.monotonic() - started, 6)


def read_facts(
    timeout: float = 5.0, network: bool = True, root: str = "/", aesm_socket: Optional[str] = None
) -> Json:
    """Read everything, in parallel, and return the document after at most `timeout` seconds (and a little).

    Threads that have not finished by then are left behind: a caller that goes on living may prefer a child process.
    """
    host = Host(timeout, network, root, aesm_socket)
    begun = time.monotonic()
    document: Json = {}
    timings = []
    threads = []
    for section, names, function in SECTIONS:
        facts = document.setdefault(section, {})
        for name in names:
            facts[name] = unread("timeout", f"not read within {timeout:g} s")
        timing = {"section": f"{section}.{names[0]}" if len(names) == 1 else section, "seconds": timeout}
        timings.append(timing)
        arguments = (host, names, function, facts, timing)
        threads.append(threading.Thread(target=read_section, args=arguments, daemon=True))
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(host.remaining())
        # Copied before children are killed, so that what they then say is not taken for an answer.
        read = within_limits(document)
    finally:
        host.end_children()
    source = {
        "producer": "sgxkit-probe",
        "version": VERSION,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "time": host.started,
        "seconds": round(time.monotonic() - begun, 6),
        "root": root,
        "network": network,
        "timings": timings,
        "notes": list(host.notes),
    }
    result: Json = {"schema": SCHEMA, "source": within_limits(source)}
    result.update(read)
    return result


def within_limits(item: Any) -> Any:
    """Return JSON values with texts and lists cut to the document's limits, and only valid Unicode in texts."""
    if isinstance(item, dict):
        return {name: within_limits(content) for name, content in list(item.items())}
    if isinstance(item, (list, tuple)):
        return [within_limits(entry) for entry in item[:MAX_ITEMS]]
    if isinstance(item, str):
        return item[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return item


def main() -> None:
    parser = argparse.ArgumentParser(prog="probe.py", description="Read the SGX facts of this host as JSON.")
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="limit of each part (default 5)"
    )
    parser.add_argument("--no-network", action="store_true", help="make no network connection")
    parser.add_argument("--aesm-socket", metavar="PATH", help="AESM's socket, if not in the usual place")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 0 < options.timeout <= 3600:
        parser.error("the time limit must be between 0 and 3600 seconds")
    # Whoever ends us wants our children ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        document = read_facts(options.timeout, not options.no_network, options.root, options.aesm_socket)
        status = 0
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 1
    # Threads that are still waiting must not keep the process alive.
    os._exit(status)


if __name__ == "__main__":
    main()
