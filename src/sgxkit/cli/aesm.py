"""`sgxkit aesm`: ask the daemon that quotes for enclaves, Intel's or a lab's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.cli.tree import Node, lines
from sgxkit.errors import InputError
from sgxkit.messages import msg

if TYPE_CHECKING:
    from sgxkit.aesm.client import AesmClient
    from sgxkit.aesm.info import AesmInfo

aesm_app = typer.Typer(
    name="aesm",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Ask the daemon that quotes for enclaves.",
)

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--aesm",
        envvar="SGXKIT_AESM",
        metavar="ADDRESS",
        help="The daemon's socket, or tcp://127.0.0.1:PORT [default: /var/run/aesmd/aesm.socket].",
        show_default=False,
    ),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, max=3600, help="For each request.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(aesm_app)


@command(aesm_app, "info")
def info(*, aesm: AddressOption = None, timeout: TimeoutOption = 30.0) -> None:
    """Show the keys that the daemon quotes with, and whom reports must be made for. No key is made.

    Exit code: 0 it answered, 1 it says that it cannot quote, 2 there is no daemon, 3 bad option.
    """
    from sgxkit.aesm.info import read_info

    client = _client(aesm, timeout)
    with progress(msg("asking the AESM daemon")):
        found = read_info(client)
    if settings().json:
        output.print_json(_document(client, found))
        return
    console = output.console()
    for line in lines(_tree(client, found), console.encoding):
        console.print(line)


@command(aesm_app, "quote")
def quote(
    report: Annotated[
        Path,
        typer.Argument(help="432 bytes: a REPORT made for the daemon's quoting enclave; - reads standard input."),
    ],
    *,
    output_file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write the quote; - is standard output.")
    ],
    aesm: AddressOption = None,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Have a report quoted.

    Exit code: 0 quoted, 1 the daemon refused, 2 there is no daemon, 3 bad input.
    """
    from sgxkit.aesm.client import REPORT_SIZE
    from sgxkit.cli.input import read_input

    client = _client(aesm, timeout)
    data = read_input(report, REPORT_SIZE)
    with progress(msg("asking the AESM daemon")):
        made = client.quote(data, client.select_key())
    write_output(output_file, made)
    if settings().json and str(output_file) != "-":
        output.print_json({"quote": made.hex(), "size": len(made)})


def write_output(path: Path, data: bytes) -> None:
    """Write bytes to a file, or to standard output for ``-``; raises InputError."""
    if str(path) == "-":
        typer.get_binary_stream("stdout").write(data)
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InputError(
            msg("{path} cannot be written: {reason}", path=path, reason=error.strerror or error)
        ) from error


def _client(address: str | None, timeout: float) -> AesmClient:
    from sgxkit.aesm.address import AESMD_SOCKET, parse_address
    from sgxkit.aesm.client import AesmClient

    return AesmClient(parse_address(address or str(AESMD_SOCKET)), timeout)


def _document(client: AesmClient, found: AesmInfo) -> dict[str, object]:
    return {
        "address": str(client.address),
        "keys": [{"mrsigner": key.mrsigner.hex(), "algorithm": key.algorithm} for key in found.keys],
        "selected": found.selected.to_bytes().hex(),
        "target_info": found.target_info.hex(),
        "qe_mrenclave": found.qe_mrenclave.hex(),
        "quote_size": found.quote_size,
    }


def _tree(client: AesmClient, found: AesmInfo) -> Node:
    from sgxkit.aesm.key_id import Algorithm

    tree = Node("AESM", str(client.address))
    keys = tree.add(msg("attestation keys"))
    for key in found.keys:
        name = Algorithm(key.algorithm).name if key.algorithm in set(Algorithm) else str(key.algorithm)
        keys.add(name, f"MRSIGNER {key.mrsigner.hex()}")
    tree.add(msg("quoting enclave"), f"MRENCLAVE {found.qe_mrenclave.hex()}")
    size = msg("not known: the key is not initialised yet") if found.quote_size is None else str(found.quote_size)
    tree.add(msg("size of a quote"), size)
    return tree
