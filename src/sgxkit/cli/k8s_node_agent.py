"""`sgxkit k8s node-agent`: keep the node object true about SGX."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.kubernetes.node_agent import NodeAgent
    from sgxkit.kubernetes.node_state import NodeState


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "node-agent")(node_agent)


def node_agent(
    *,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NAME", envvar="NODE_NAME", help="This node's name in the cluster."),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", metavar="FILE", help="Credentials [default: the pod's service account]."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", metavar="DOMAIN", help="Domain of the resource for enclave memory.", show_default=False
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=1, max=3600, help="Between two looks.")
    ] = 75.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, do what is needed, and end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be patched, and change nothing.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take back what the agent wrote to the node, and end.")
    ] = False,
    nfd: Annotated[
        Path | None,
        typer.Option(
            "--nfd", metavar="DIR", help="Write a file for Node Feature Discovery there; ask no API server."
        ),
    ] = None,
    pod_resources: Annotated[
        Path | None,
        typer.Option(
            "--pod-resources", metavar="SOCKET", help="The kubelet's, to remove resources whose plugin is gone."
        ),
    ] = None,
    host_root: Annotated[
        str | None,
        typer.Option("--host-root", metavar="DIR", help="In a container: where the host's /dev is mounted below."),
    ] = None,
    emulated: Annotated[
        str | None,
        typer.Option(
            "--emulated", metavar="SIZE", help="Offer so much memory of a software platform, such as 128Mi."
        ),
    ] = None,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Serve /healthz and /readyz there.")
    ] = None,
) -> None:
    """List this node's enclave memory, labels and readiness for SGX in its node object, until SIGTERM or Ctrl-C.

    Exit code: 0 it was stopped, 2 the API server or the host could not be asked (with --once), 3 bad option.
    """
    from sgxkit.kubernetes.api_server import ApiServer
    from sgxkit.kubernetes.credentials import find_credentials
    from sgxkit.kubernetes.device_plugin_api import check_prefix
    from sgxkit.kubernetes.devices import EMULATED_PREFIX, INTEL_PREFIX
    from sgxkit.kubernetes.node_agent import NodeAgent

    domain = check_prefix(prefix or (INTEL_PREFIX if emulated is None else EMULATED_PREFIX))
    read_state = _reader(domain, emulated, host_root)
    if nfd is not None:
        _run_nfd(nfd, read_state, interval, once=once)
        return
    if node is None:
        raise InputError(
            msg("which node this is must be said"), hint=msg("give --node, or NODE_NAME in the environment")
        )
    registered: Callable[[], frozenset[str]] | None = None
    if pod_resources is not None:
        registered = _registered(pod_resources)
    with ApiServer(find_credentials(kubeconfig)) as server:
        agent = NodeAgent(server, node, read_state, registered_resources=registered)
        if remove:
            _show(removed=agent.remove(domain))
        elif dry_run:
            state, operations = agent.plan()
            _show(state=state, operations=operations)
        elif once:
            _show(state=agent.reconcile())
        else:
            _run(agent, interval, http)


def _reader(domain: str, emulated: str | None, host_root: str | None) -> Callable[[], NodeState]:
    from sgxkit.host.checks.kubernetes import quantity
    from sgxkit.kubernetes.node_agent import facts_of_node
    from sgxkit.kubernetes.node_state import emulated_node_state, read_node_state

    if emulated is None:
        return lambda: read_node_state(facts_of_node(host_root), domain)
    size = quantity(emulated)
    if not size:
        raise InputError(msg("{text} is not a size", text=emulated), hint=msg("such as 94M, 8G or a number of bytes"))
    return lambda: emulated_node_state(size, domain)


def _registered(socket: Path) -> Callable[[], frozenset[str]]:
    from sgxkit.cli.k8s import need_grpc

    need_grpc()
    from sgxkit.kubernetes.pod_devices import registered_resources

    return lambda: registered_resources(socket)


def _show(**document: object) -> None:
    from dataclasses import asdict, is_dataclass

    plain = {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in document.items()
    }
    if settings().json:
        output.print_json(plain)
        return
    console = output.console()
    for name, value in plain.items():
        entries = value if isinstance(value, list) else value.items() if isinstance(value, dict) else [value]
        for entry in entries:
            shown = f"{entry[0]}: {entry[1]}" if isinstance(entry, tuple) else f"{name}: {entry}"
            console.print(output.printable(shown), markup=False)


def _stop_event() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _run_nfd(folder: Path, read_state: Callable[[], NodeState], interval: float, *, once: bool) -> None:
    from sgxkit.cli.k8s import log_to_stderr
    from sgxkit.kubernetes.node_agent import run_nfd, write_features

    if once:
        state = read_state()
        _show(path=os.fspath(write_features(folder, state)), state=state)
        return
    log_to_stderr()
    run_nfd(folder, read_state, _stop_event(), interval)


def _run(agent: NodeAgent, interval: float, http: str | None) -> None:
    from sgxkit.cli.k8s import log_to_stderr
    from sgxkit.kubernetes.endpoint import Question, Reply, health_reply, parse_listen_address, serving

    def respond(question: Question) -> Reply:
        problem = agent.health.problem
        unready = "no round yet" if not agent.health.rounds else None if problem is None else str(problem)
        return health_reply(question.path, alive=agent.is_alive(interval), unready=unready) or Reply(404)

    log_to_stderr()
    sys.stdout.flush()
    with ExitStack() as stack:
        if http is not None:
            stack.enter_context(serving(parse_listen_address(http), respond))
        agent.run(_stop_event(), interval)
