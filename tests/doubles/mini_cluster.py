"""A Kubernetes cluster of one node on this machine: etcd, control plane, containerd and kubelet, all of them real.

It has mount and network namespaces of its own, so nothing of the machine is changed, and no port of it is taken. The
API server listens at the service address itself, which spares kube-proxy; /dev is a copy with device nodes added that
stand for SGX's: they open, and belong to another driver. Needs root; tools from scripts/cluster_tools.sh.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sgxkit

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("SGXKIT_CLUSTER_TOOLS", ROOT / ".tools" / "kubernetes"))
PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "containerd",
    "containerd-shim-runc-v2", "ctr", "runc", "pause", "helm", "cni/bridge", "cni/host-local", "cni/loopback",
)  # fmt: skip
IMAGE, TAG = "registry.example.com/sgxkit", "test"
NODE = "node-a"
_PAUSE = "registry.example.com/pause:1"
_FOLDERS = (
    "/var/lib/kubelet", "/var/lib/containerd", "/run/containerd", "/var/run/aesmd", "/var/run/sgxkit-lab",
    "/var/lib/sgxkit-lab", "/var/lib/cni", "/etc/cni", "/var/log/pods", "/var/log/containers", "/run/netns",
)  # fmt: skip
# Major 10 is that of misc devices, as SGX's are; loop-control opens without doing anything.
_DEVICE_NUMBER = (10, 237)


def why_not() -> str | None:
    """Why there can be no cluster here; None where there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a cluster needs root on Linux"
    missing = [name for name in PROGRAMS if not (TOOLS / name).exists()]
    if missing:
        return f"{TOOLS} lacks {', '.join(missing)}: run scripts/cluster_tools.sh"
    if shutil.which("kubectl", path=_path()) is None:
        return "kubectl is not installed"
    return None


def _path() -> str:
    return f"{TOOLS}:{os.environ['PATH']}"


@dataclass(slots=True)
class MiniCluster:
    """A cluster at work; `run` runs a program inside it."""

    folder: Path
    keeper: int
    kubelet: subprocess.Popen[bytes] | None = None

    def inside(self, *command: str) -> list[str]:
        environment = [f"KUBECONFIG={self.folder / 'kubeconfig'}", f"PATH={_path()}"]
        return ["nsenter", "-t", str(self.keeper), "-m", "-n", "env", *environment, *command]

    def run(self, *command: str, check: bool = True, timeout: float = 180) -> str:
        done = subprocess.run(
            self.inside(*command), capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def node(self) -> dict[str, Any]:
        return dict(json.loads(self.run("kubectl", "get", "node", NODE, "-o", "json")))

    def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return list(json.loads(self.run("kubectl", "get", kind, "-n", namespace, "-o", "json"))["items"])

    def start_kubelet(self) -> None:
        with (self.folder / "log-kubelet").open("ab") as log:
            command = self.inside(
                "kubelet", "--config", str(self.folder / "kubelet.yaml"), "--kubeconfig",
                str(self.folder / "kubeconfig"), "--hostname-override", NODE, "--node-ip", "192.168.77.1",
            )  # fmt: skip
            self.kubelet = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop_kubelet(self) -> None:
        assert self.kubelet is not None
        _end(self.kubelet)

    def device(self, name: str) -> Path:
        """A device node of the cluster's host, as its namespace sees it."""
        return self.folder / "dev" / name


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def mini_cluster(folder: Path) -> Iterator[MiniCluster]:
    """Start a cluster in `folder`, and end every process of it and every mount with the block."""
    with contextlib.ExitStack() as stack:
        keeper = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "sleep", "infinity"], start_new_session=True
        )
        stack.callback(_end, keeper)
        cluster = MiniCluster(folder, keeper.pid)
        wait(lambda: _namespace(keeper.pid, "net") != _namespace(os.getpid(), "net"), 10, "namespaces")
        stack.callback(_end_containers, cluster)
        _make_host(cluster)
        environment = {**os.environ, "PATH": _path()}

        def start(name: str, *arguments: str) -> None:
            with (folder / f"log-{name}").open("wb") as log:
                command = cluster.inside(name, *arguments)
                process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            stack.callback(_end, process)

        _start_control_plane(cluster, start)
        _start_runtime(cluster, start)
        cluster.start_kubelet()
        stack.callback(cluster.stop_kubelet)
        wait(lambda: _is_ready(cluster), 120, "the node is ready")
        yield cluster


def _namespace(process: int, kind: str) -> str:
    return os.fspath(Path(f"/proc/{process}/ns/{kind}").readlink())


def _is_ready(cluster: MiniCluster) -> bool:
    return '"Ready":"True"' in cluster.run(
        "kubectl", "get", "nodes", "-o",
        'jsonpath={range .items[*].status.conditions[*]}"{.type}":"{.status}"{end}', check=False,
    )  # fmt: skip


def _end_containers(cluster: MiniCluster) -> None:
    """Shims outlive containerd; each was started in a namespace that is ours alone."""
    ours = _namespace(cluster.keeper, "mnt")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            name = (entry / "comm").read_text().strip()
            if pid != cluster.keeper and name.startswith("containerd-shim") and _namespace(pid, "mnt") == ours:
                children = (entry / "task" / entry.name / "children").read_text().split()
                for child in [*map(int, children), pid]:
                    os.kill(child, signal.SIGKILL)


def _make_host(cluster: MiniCluster) -> None:
    """Folders and devices of the node, seen inside only."""
    devices = cluster.folder / "dev"
    devices.mkdir()
    for name in ("null", "zero", "full", "random", "urandom", "tty", "kmsg", "ptmx"):
        if (source := Path("/dev") / name).exists():
            os.mknod(devices / name, source.stat().st_mode, source.stat().st_rdev)
            (devices / name).chmod(0o666)
    for name in ("sgx_enclave", "sgx_provision"):
        os.mknod(devices / name, 0o020666, os.makedev(*_DEVICE_NUMBER))
        (devices / name).chmod(0o666)
    for name in ("shm", "pts", "mqueue"):
        (devices / name).mkdir()
    (devices / "fd").symlink_to("/proc/self/fd")
    lines = ["set -e", "mount --make-rshared /"]
    for folder in _FOLDERS:
        inner = cluster.folder / "host" / folder.lstrip("/")
        inner.mkdir(parents=True)
        lines += [f"mkdir -p {folder}", f"mount --bind {inner} {folder}", f"mount --make-rshared {folder}"]
    lines += [
        f"mount --bind {devices} /dev", "mount -t tmpfs tmpfs /dev/shm", "ip link set lo up",
        "ip addr add 10.0.0.1/32 dev lo", "ip addr add 192.168.77.1/24 dev lo",
    ]  # fmt: skip
    cluster.run("sh", "-c", "\n".join(lines))


def _start_control_plane(cluster: MiniCluster, start: Callable[..., None]) -> None:
    folder = cluster.folder
    cluster.run("openssl", "genrsa", "-out", str(folder / "sa.key"), "2048")
    (folder / "tokens.csv").write_text('admin-token,admin,admin,"system:masters"\n')
    start(
        "etcd", "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync",
        *(f"--{one}=http://127.0.0.1:2379" for one in ("listen-client-urls", "advertise-client-urls")),
    )  # fmt: skip
    start(
        "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--secure-port=443", "--bind-address=0.0.0.0",
        "--advertise-address=192.168.77.1", f"--cert-dir={folder}/certs", "--service-cluster-ip-range=10.0.0.0/24",
        f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=Node,RBAC", "--enable-aggregator-routing=true",
        "--kubelet-preferred-address-types=InternalIP",
    )  # fmt: skip
    authority = folder / "certs" / "apiserver.crt"
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [
            {"name": "k", "cluster": {"server": "https://10.0.0.1:443", "certificate-authority": str(authority)}}
        ],
        "users": [{"name": "u", "user": {"token": "admin-token"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    wait(
        lambda: cluster.run("kubectl", "get", "--raw", "/readyz", check=False) == "ok", 120, "the API server is ready"
    )
    path = str(folder / "kubeconfig")
    start(
        "kube-controller-manager", "--kubeconfig", path, "--root-ca-file", str(authority), "--leader-elect=false",
        f"--service-account-private-key-file={folder}/sa.key", "--use-service-account-credentials",
    )  # fmt: skip
    start("kube-scheduler", "--kubeconfig", path, "--leader-elect=false")


def _start_runtime(cluster: MiniCluster, start: Callable[..., None]) -> None:
    folder = cluster.folder
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipam": {"type": "host-local", "subnet": "10.88.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "loopback"},
        ],
    }
    configuration = folder / "host" / "etc" / "cni" / "net.d"
    configuration.mkdir(parents=True)
    (configuration / "10-pods.conflist").write_text(json.dumps(network))
    (folder / "containerd.toml").write_text(
        f"""
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{TOOLS / "cni"}"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""
    )
    start("containerd", "--config", str(folder / "containerd.toml"))
    wait((folder / "host" / "run" / "containerd" / "containerd.sock").exists, 60, "containerd is ready")
    for name, reference, files, entry in (
        ("pause", _PAUSE, [(TOOLS / "pause", "/pause")], "/pause"),
        ("sgxkit", f"{IMAGE}:{TAG}", list(_own_files(folder)), "/usr/bin/sgxkit"),
    ):
        write_image(folder / f"{name}.tar", reference, files, entry)
        cluster.run("ctr", "-n", "k8s.io", "images", "import", str(folder / f"{name}.tar"))
        (folder / f"{name}.tar").unlink()
    (folder / "kubelet.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                "authorization": {"mode": "AlwaysAllow"},
                "cgroupDriver": "cgroupfs",
                "failCgroupV1": False,
                "failSwapOn": False,
                "cgroupsPerQOS": False,
                "enforceNodeAllocatable": [],
                "localStorageCapacityIsolation": False,
                "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
                "oomScoreAdj": 0,
                "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
                "nodeStatusUpdateFrequency": "5s",
            }
        )
    )


_SITE = (
    "grpc", "cryptography", "cffi", "_cffi_backend", "yaml", "_yaml", "rich", "typer", "click", "cbor2", "_cbor2",
    "httpx", "httpcore", "h11", "anyio", "sniffio", "idna", "certifi", "pygments", "markdown_it", "mdurl",
    "shellingham", "typing_extensions", "annotated_doc", "annotated_types", "pydantic", "pydantic_core",
    "typing_inspection", "pycparser", "sgxkit",
)  # fmt: skip
_LEFT_OUT = {
    "__pycache__",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "turtledemo",
    "site-packages",
}


def _own_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """This Python, what sgxkit needs of its packages, sgxkit itself, and the libraries that these are linked with."""
    program = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    yield program, "/py/bin/python3"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pairs = list(_tree(library, f"/py/lib/{version}"))
    site = Path(sysconfig.get_path("purelib"))
    for path in site.iterdir():
        if path.name.split(".")[0].split("-")[0] in _SITE and not path.name.endswith(".pth"):
            pairs += list(_tree(path, f"/site/{path.name}")) if path.is_dir() else [(path, f"/site/{path.name}")]
    pairs += _tree(Path(sgxkit.__file__).parent, "/src/sgxkit")
    yield from pairs
    binaries = [str(program), *(str(path) for path, _ in pairs if ".so" in path.name)]
    linked = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    for line in linked.splitlines():
        for word in line.split():
            if word.startswith("/") and not word.endswith(":") and ".so" in word:
                target = word if word.startswith("/lib64/") else f"/lib/linked/{Path(word).name}"
                yield Path(word), target
                break
    start = folder / "start.py"
    start.write_text(
        "#!/py/bin/python3\nimport sys\nsys.path[:0] = ['/src', '/site']\n"
        "from sgxkit.__main__ import main\nsys.argv[0] = 'sgxkit'\nmain()\n"
    )
    start.chmod(0o755)
    yield start, "/usr/bin/sgxkit"


def _tree(folder: Path, target: str) -> Iterator[tuple[Path, str]]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in files:
            if not name.endswith((".a", ".pyc")):
                path = Path(root) / name
                yield path, f"{target}/{path.relative_to(folder)}"


def write_image(path: Path, reference: str, files: Iterable[tuple[Path, str]], entry: str) -> None:
    """An image of one layer, as `docker save` writes it."""
    layer = path.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for name in ("tmp", "etc", "proc", "sys", "dev", "var", "var/run", "host", "host/dev"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(member)
        written = set()
        for source, target in files:
            if target not in written and source.exists():
                written.add(target)
                tar.add(source.resolve(), target.lstrip("/"), recursive=False)
    with layer.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": [entry],
                "User": "65532:65532",
                "Env": ["PATH=/usr/bin:/py/bin", "PYTHONHOME=/py", "LD_LIBRARY_PATH=/lib/linked"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()  # fmt: skip
    name = hashlib.sha256(configuration).hexdigest()
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}])
    with tarfile.open(path, "w") as tar:
        tar.add(layer, f"{digest}/layer.tar")
        for member_name, content in ((f"{name}.json", configuration), ("manifest.json", manifest.encode())):
            member = tarfile.TarInfo(member_name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    layer.unlink()
