"""`sgxkit k8s status` and `sgxkit k8s clean`: the cluster from outside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from rich.table import Table

    from sgxkit.kubernetes.cluster import Cluster, Node

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Credentials [default: the pod's service account, $KUBECONFIG, ~/.kube/config].",
        show_default=False,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="NAME", help="Of the kubeconfig [default: its current one].", show_default=False
    ),
]
PrefixOption = Annotated[str, typer.Option("--prefix", metavar="DOMAIN", help="Domain of the resources' names.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    command(app, "status")(status)
    command(app, "clean")(clean)


def status(
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    prefix: PrefixOption = "sgx.intel.com",
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=2, max=3600, help="With --watch.")
    ] = 30.0,
) -> None:
    """Show which nodes offer SGX, how much of it is asked for, and by whom.

    Exit code: 0 a pod could run an enclave somewhere, 1 nowhere, 2 the API server could not be asked, 3 bad option.
    """
    from sgxkit.kubernetes.api_server import ApiServer
    from sgxkit.kubernetes.cluster import read_cluster
    from sgxkit.kubernetes.credentials import find_credentials
    from sgxkit.kubernetes.device_plugin_api import check_prefix

    check_prefix(prefix)
    with ApiServer(find_credentials(kubeconfig, context=context)) as server:
        while True:
            with progress(msg("asking the API server")):
                cluster = read_cluster(server, prefix)
            _show(cluster)
            if not watch:
                break
            server.close()
            time.sleep(interval)
    if not cluster.works:
        raise typer.Exit(1)


def _show(cluster: Cluster) -> None:
    from sgxkit.kubernetes.cluster import cluster_document

    if settings().json:
        output.print_json(cluster_document(cluster))
        return
    console = output.console()
    if cluster.nodes:
        console.print(_nodes_table(cluster))
    if cluster.workloads:
        console.print()
        console.print(_workloads_table(cluster))
    for line in _remarks(cluster):
        console.print(output.say(line), markup=False)


def _table(*titles: Message | str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title if isinstance(title, str) else output.say(title), overflow="fold")
    return table


def _nodes_table(cluster: Cluster) -> Table:
    table = _table(
        msg("node"), msg("ready"), msg("EPC asked/has"), msg("enclaves"), msg("plugin"), "AESM", msg("last quote")
    )
    for node in sorted(cluster.nodes.values(), key=lambda one: one.name):
        table.add_row(
            output.printable(node.name + (" *" if node.emulated else "")),
            output.printable(_readiness(node)),
            f"{_size(node.requested_epc)}/{_size(node.epc_bytes)}",
            f"{node.requested_enclaves}/{node.enclaves}",
            _word(node.parts.get("device-plugin")),
            _word(node.parts.get("aesm")),
            output.printable(node.quote or "-"),
        )
    return table


def _workloads_table(cluster: Cluster) -> Table:
    table = _table(msg("pod"), msg("node"), msg("state"), msg("enclaves"), "EPC", msg("last quote"))
    for one in cluster.workloads:
        state = one.phase if one.ready or one.phase != "Running" else output.say(msg("not ready"))
        name = output.printable(f"{one.namespace}/{one.name}")
        node = output.printable(one.node or "-")
        table.add_row(
            name,
            node,
            output.printable(state),
            str(one.enclaves),
            _size(one.epc_bytes),
            output.printable(one.quote or "-"),
        )
    return table


def _remarks(cluster: Cluster) -> list[Message]:
    remarks = []
    if not cluster.nodes:
        remarks.append(msg("no node says anything of SGX: install charts/sgx-stack"))
    if any(node.emulated for node in cluster.nodes.values()):
        remarks.append(msg("* emulated: it protects nothing"))
    for node in cluster.nodes.values():
        if node.epc_bytes and node.requested_epc > node.epc_bytes:
            remarks.append(
                msg("{node}: more enclave memory is asked for than it has; it will be paged", node=node.name)
            )
    if cluster.pccs is False:
        remarks.append(msg("the PCCS is not ready"))
    if cluster.other_nodes:
        remarks.append(msg("{count} nodes without SGX", count=cluster.other_nodes))
    return remarks


def _readiness(node: Node) -> str:
    if node.ready is None:
        return output.say(msg("not told"))
    return output.say(msg("yes")) if node.ready else f"{output.say(msg('no'))}: {node.reason}"


def _word(value: bool | None) -> str:
    return "-" if value is None else output.say(msg("yes") if value else msg("no"))


def _size(count: int) -> str:
    from sgxkit.host.checks.readings import size

    return size(count) if count else "0"


def clean(
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    prefix: PrefixOption = "sgx.intel.com",
    after: Annotated[
        float, typer.Option("--after", metavar="SECONDS", min=0, max=3600, help="Wait first: kubelets forget late.")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise it is only shown.")] = False,
) -> None:
    """Take what is left after an uninstall out of node objects: labels, the condition, resources.

    Exit code: 0 done, or shown, 2 the API server could not be asked, 3 bad option.
    """
    from sgxkit.kubernetes import cluster
    from sgxkit.kubernetes.api_server import ApiServer
    from sgxkit.kubernetes.credentials import find_credentials
    from sgxkit.kubernetes.device_plugin_api import check_prefix

    check_prefix(prefix)
    time.sleep(after)
    cleaned = []
    with ApiServer(find_credentials(kubeconfig, context=context)) as server:
        plans = list(cluster.plan_cleaning(server.items("/api/v1/nodes"), prefix))
        for plan in plans:
            if yes:
                cluster.clean(server, plan)
            cleaned.append(
                {"node": plan.node, "removed": [one["path"] for one in plan.operations if one["op"] == "remove"]}
            )
    if settings().json:
        output.print_json({"changed": yes, "nodes": cleaned})
        return
    console = output.console()
    for entry in cleaned:
        for path in entry["removed"]:
            console.print(output.printable(f"{entry['node']}: {path}"), markup=False)
    if not cleaned:
        console.print(output.say(msg("nothing is left in any node object")), markup=False)
    elif not yes:
        console.print(output.say(msg("nothing was changed; --yes removes these")), markup=False)
