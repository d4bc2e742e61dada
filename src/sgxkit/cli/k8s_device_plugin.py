"""`sgxkit k8s device-plugin`: offer a node's SGX devices to pods."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.kubernetes.cross_check import CrossCheck
    from sgxkit.kubernetes.device_plugin import PluginSettings
    from sgxkit.kubernetes.devices import Resource


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, "device-plugin")(device_plugin)


def device_plugin(
    *,
    plugin_dir: Annotated[
        Path, typer.Option("--plugin-dir", metavar="DIR", help="The kubelet's folder for device plugins.")
    ] = Path("/var/lib/kubelet/device-plugins"),
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="DOMAIN",
            help="Domain of the resources' names [default: sgx.intel.com; sgx.sgxkit.dev with --emulated].",
            show_default=False,
        ),
    ] = None,
    enclave_limit: Annotated[
        int, typer.Option("--enclave-limit", metavar="N", min=0, help="Containers that may run enclaves at a time.")
    ] = 110,
    provision_limit: Annotated[
        int,
        typer.Option(
            "--provision-limit", metavar="N", min=0, help="Containers that may use the provisioning key; 0: none."
        ),
    ] = 110,
    qe: Annotated[
        bool, typer.Option("--qe", help="Also offer qe: both devices, for the node's one quoting daemon.")
    ] = False,
    registration: Annotated[
        bool,
        typer.Option("--registration", help="Also offer registration: both devices and the firmware's variables."),
    ] = False,
    legacy_paths: Annotated[
        bool, typer.Option("--legacy-paths", help="Give containers the devices under /dev/sgx/ as well.")
    ] = False,
    cdi_dir: Annotated[
        Path | None,
        typer.Option("--cdi-dir", metavar="DIR", help="Write a CDI specification there, and name devices by it."),
    ] = None,
    cdi_gid: Annotated[
        list[int] | None,
        typer.Option(
            "--cdi-gid", metavar="GID", min=1, help="A group that containers get with CDI; may be repeated."
        ),
    ] = None,
    emulated: Annotated[
        Path | None,
        typer.Option(
            "--emulated",
            metavar="DIR",
            help="Offer a software platform instead: a lab, served in this folder of the host. It protects nothing.",
        ),
    ] = None,
    lab: Annotated[
        str, typer.Option("--lab", metavar="NAME", help="The lab of --emulated; made where there is none.")
    ] = "default",
    dev: Annotated[Path, typer.Option("--dev", metavar="DIR", help="Where the host's /dev is seen.")] = Path("/dev"),
    sys_folder: Annotated[Path, typer.Option("--sys", metavar="DIR", help="Where the host's /sys is seen.")] = Path(
        "/sys"
    ),
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.02, max=60, help="Between two looks.")
    ] = 0.5,
    cross_check: Annotated[
        Path | None,
        typer.Option(
            "--cross-check",
            metavar="SOCKET",
            help="The kubelet's pod-resources socket: find pods that run without the device they asked for.",
        ),
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", envvar="NODE_NAME", help="This node, for --cross-check.")
    ] = None,
    http: Annotated[
        str | None, typer.Option("--http", metavar="HOST:PORT", help="Serve /healthz, /readyz and /metrics there.")
    ] = None,
) -> None:
    """Offer this node's SGX devices to pods, until SIGTERM or Ctrl-C. With --json: print what is offered first.

    Exit code: 0 it was stopped, 2 a file cannot be written, 3 bad option.
    """
    import asyncio

    from sgxkit.cli.k8s import log_to_stderr, need_grpc

    need_grpc()
    from sgxkit.kubernetes.device_plugin import PluginSettings
    from sgxkit.kubernetes.devices import (
        EMULATED_PREFIX,
        INTEL_PREFIX,
        HostView,
        Limits,
        emulated_resources,
        sgx_resources,
    )

    limits = Limits(enclave_limit, provision_limit, int(qe), int(registration))
    if emulated is None:
        resources = sgx_resources(limits, prefix=prefix or INTEL_PREFIX, legacy_paths=legacy_paths)
    else:
        if qe or registration or legacy_paths or cdi_dir is not None:
            raise InputError(
                msg("--emulated has no devices: --qe, --registration, --legacy-paths and --cdi-dir do not go with it")
            )
        resources = emulated_resources(emulated.absolute(), limits, lab=lab, prefix=prefix or EMULATED_PREFIX)
    if cdi_gid and cdi_dir is None:
        raise InputError(msg("--cdi-gid needs --cdi-dir"))
    chosen = PluginSettings(plugin_dir, HostView(dev, sys_folder), interval, cdi_dir, tuple(cdi_gid or ()))
    with ExitStack() as stack:
        if emulated is not None:
            from sgxkit.kubernetes.emulated import emulated_platform

            stack.enter_context(emulated_platform(lab, emulated.absolute()))
        log_to_stderr()
        checking = None if cross_check is None else _cross_check(cross_check, node, resources)
        asyncio.run(_serve(resources, chosen, http, checking))


def _cross_check(socket: Path, node: str | None, resources: tuple[Resource, ...]) -> CrossCheck:
    from sgxkit.kubernetes.api_server import ApiServer
    from sgxkit.kubernetes.credentials import find_credentials
    from sgxkit.kubernetes.cross_check import CrossCheck

    if node is None:
        raise InputError(
            msg("which node this is must be said"), hint=msg("give --node, or NODE_NAME in the environment")
        )
    server = ApiServer(find_credentials())
    return CrossCheck(
        socket,
        lambda: server.items("/api/v1/pods", fieldSelector=f"spec.nodeName={node}"),
        tuple(one.name for one in resources),
    )


async def _serve(
    resources: tuple[Resource, ...], chosen: PluginSettings, http: str | None, checking: CrossCheck | None
) -> None:
    import asyncio

    from sgxkit.cli.k8s import stopped_by_signals
    from sgxkit.kubernetes.device_plugin import DevicePlugin
    from sgxkit.kubernetes.endpoint import parse_listen_address, serving
    from sgxkit.kubernetes.plugin_metrics import plugin_responder

    plugin = DevicePlugin(resources, chosen, checking)
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signals(asyncio.get_running_loop(), plugin.stop))
        if http is not None:
            stack.enter_context(serving(parse_listen_address(http), plugin_responder(plugin)))
        if settings().json:
            _print_offered(resources)
        await plugin.run()


def _print_offered(resources: tuple[Resource, ...]) -> None:
    output.print_json(
        {
            "emulated": all(not one.nodes for one in resources),
            "resources": [{"name": one.name, "devices": one.count} for one in resources],
        }
    )
    sys.stdout.flush()  # whoever started this in a pipe waits for it
