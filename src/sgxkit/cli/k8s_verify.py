"""`sgxkit k8s verify`: is it the enclave that is expected, which runs in this pod?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli.k8s_status import ContextOption, KubeconfigOption
from sgxkit.cli.options import command
from sgxkit.cli.relying_party import Expected, with_expectations

if TYPE_CHECKING:
    from sgxkit.verifier.peer import Peer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "verify")(with_expectations(verify))


def verify(
    pod: Annotated[str, typer.Argument(metavar="[NAMESPACE/]POD", help="The pod.")],
    *,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where its enclave serves RA-TLS.")
    ] = 8443,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    record: Annotated[
        bool, typer.Option("--record", help="Leave the result in the pod's annotations, for `sgxkit k8s status`.")
    ] = False,
    expected: Expected,
) -> None:
    """Ask the enclave of a pod for its quote, by RA-TLS through kubectl, and verify it.

    Exit code: 0 verified and as expected, 1 refused, 2 cannot tell (no connection, no collateral), 3 bad input.
    """
    from sgxkit.cli.ratls import judge_server
    from sgxkit.kubernetes.port_forward import forwarded, parse_pod

    peers = expected.verifier()
    namespace, name = parse_pod(pod)
    with forwarded(namespace, name, port, kubeconfig=kubeconfig, context=context) as local:
        peer = judge_server(f"127.0.0.1:{local}", peers)
    if record:
        from sgxkit.kubernetes.api_server import ApiServer
        from sgxkit.kubernetes.cluster import record_quote
        from sgxkit.kubernetes.credentials import find_credentials

        with ApiServer(find_credentials(kubeconfig, context=context)) as server:
            record_quote(server, namespace, name, _tcb_status(peer), datetime.now(UTC))


def _tcb_status(peer: Peer) -> str:
    tcb = peer.verifications[0].tcb
    return "verified" if tcb is None else tcb.status.value
