"""`sgxkit k8s webhook`: complete pods that ask for enclave memory."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from sgxkit.cli.options import command


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "webhook")(webhook)


def webhook(
    *,
    tls_cert: Annotated[Path, typer.Option("--tls-cert", metavar="FILE", help="PEM; read again when it changes.")],
    tls_key: Annotated[Path, typer.Option("--tls-key", metavar="FILE", help="PEM.")],
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to serve.")] = ":9443",
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="DOMAIN", help="Domain of the resources' names.")
    ] = "sgx.intel.com",
    provision_namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--provision-namespace",
            metavar="NAME",
            help="Where pods may be their own quote provider; may be repeated.",
        ),
    ] = None,
    aesm_dir: Annotated[
        str, typer.Option("--aesm-dir", metavar="DIR", help="Where hosts have AESM's socket.")
    ] = "/var/run/aesmd",
) -> None:
    """Answer the API server's questions about new pods, until SIGTERM or Ctrl-C.

    A pod that asks for PREFIX/epc gets the device, and AESM's socket where its annotation wants that.
    Exit code: 0 it was stopped, 3 bad option, a certificate that cannot be used, an address that is taken.
    """
    from sgxkit.cli.k8s import log_to_stderr
    from sgxkit.kubernetes.admission import AdmissionSettings
    from sgxkit.kubernetes.device_plugin_api import check_prefix
    from sgxkit.kubernetes.endpoint import parse_listen_address
    from sgxkit.kubernetes.webhook import webhook as serve

    chosen = AdmissionSettings(check_prefix(prefix), frozenset(provision_namespace or ()), aesm_dir)
    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serve(parse_listen_address(listen), tls_cert, tls_key, chosen):
        while not stop.wait(0.5):
            continue
