"""`sgxkit lab`: an emulated platform with its own "Intel", and events that no cloud offers."""

from __future__ import annotations

import re
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgxkit.cli import output
from sgxkit.cli.aesm import write_output
from sgxkit.cli.options import command, settings
from sgxkit.cli.progress import progress
from sgxkit.cli.tree import Node, lines
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from sgxkit.emulator.keys import SecsIdentity
    from sgxkit.lab.authority import Lab
    from sgxkit.lab.daemon import Announcement
    from sgxkit.lab.serve import Serving
    from sgxkit.lab.world import World

lab_app = typer.Typer(
    name="lab",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="An emulated platform with its own CAs, PCS and AESM daemon. It protects nothing: it is for tests.",
)

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The lab.")]


class Cpu(StrEnum):
    SKYLAKE_CLIENT = "skylake-client"
    ICELAKE_SP = "icelake-sp"
    SAPPHIRE_RAPIDS = "sapphire-rapids"


class Tcb(StrEnum):
    UP_TO_DATE = "up-to-date"
    SW_HARDENING_NEEDED = "sw-hardening-needed"
    CONFIGURATION_NEEDED = "configuration-needed"
    OUT_OF_DATE = "out-of-date"
    REVOKED = "revoked"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(lab_app)


@command(lab_app, "create")
def create(
    name: NameArgument,
    *,
    cpu: Annotated[Cpu, typer.Option("--cpu", help="The processor.")] = Cpu.ICELAKE_SP,
    epc: Annotated[
        str | None,
        typer.Option("--epc", metavar="SIZE", help="EPC in bytes, or with K, M, G [default: the processor's]."),
    ] = None,
    flc: Annotated[
        bool | None, typer.Option("--flc/--no-flc", help="Flexible launch control [default: the processor's].")
    ] = None,
    sgx2: Annotated[bool | None, typer.Option("--sgx2/--no-sgx2", help="SGX2 [default: the processor's].")] = None,
    tcb: Annotated[Tcb, typer.Option("--tcb", help="How the platform is rated at first.")] = Tcb.UP_TO_DATE,
    seed: Annotated[
        str | None,
        typer.Option(
            "--seed", metavar="TEXT", help="The same text and name give the same lab; anyone may know its keys."
        ),
    ] = None,
) -> None:
    """Make a lab.

    Exit code: 0 made, 3 there is one of that name, or a bad option.
    """
    from sgxkit.lab.store import create_lab, seed_from_text
    from sgxkit.lab.world import InitialTcb, new_world

    world = new_world(
        name,
        datetime.now(UTC),
        cpu=cpu.value,
        epc_size=None if epc is None else _size(epc),
        flc=flc,
        sgx2=sgx2,
        tcb=InitialTcb(tcb.value),
    )
    _print_lab(create_lab(world, seed=None if seed is None else seed_from_text(seed)))


@command(lab_app, "list")
def list_labs() -> None:
    """List your labs."""
    from sgxkit.lab.store import lab_names

    names = lab_names()
    if settings().json:
        output.print_json({"labs": list(names)})
        return
    console = output.console()
    for name in names:
        console.print(name, markup=False)


@command(lab_app, "show")
def show(name: NameArgument) -> None:
    """Show what a lab is, and how a quote that it made now would be judged.

    Exit code: 0 shown, 3 there is no such lab.
    """
    from sgxkit.lab.store import load_lab

    _print_lab(load_lab(name))


@command(lab_app, "rm")
def rm(name: NameArgument) -> None:
    """Remove a lab and its keys. A lab that is served is stopped first."""
    from sgxkit.lab.daemon import stop_server
    from sgxkit.lab.store import lab_names, remove_lab

    if name in lab_names():
        stop_server(name)
    remove_lab(name)
    if settings().json:
        output.print_json({"lab": name, "removed": True})


@command(lab_app, "serve")
def serve(
    name: NameArgument,
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the PCS; 0 takes any free one.")] = 0,
    aesm: Annotated[
        str | None,
        typer.Option(
            "--aesm",
            metavar="ADDRESS",
            help="A socket's path, or tcp://127.0.0.1:PORT [default: in the lab's folder].",
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS, with a certificate of the lab's.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
) -> None:
    """Run a lab's PCS and AESM daemon, on this computer only, until Ctrl-C or `sgxkit lab stop`.

    Exit code: 0 stopped (with --detach: running), 2 it did not start, 3 there is no such lab, or a bad option.
    """
    from sgxkit.aesm.address import parse_address
    from sgxkit.lab.daemon import announced, announcement_document, only_server, start_server
    from sgxkit.lab.serve import serving

    address = None if aesm is None else parse_address(aesm)
    if detach:
        options = ["--port", str(port), *(["--tls"] if tls else []), *([] if aesm is None else ["--aesm", aesm])]
        with progress(msg("starting lab {name}", name=name)):
            _print_announcement(start_server(name, options))
        return
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        with (
            only_server(name),
            serving(name, port=port, address=address, tls=tls) as served,
            announced(served) as announcement,
        ):
            if settings().json:
                output.print_json(announcement_document(announcement))
            else:
                _print_served(served)
            sys.stdout.flush()  # whoever started this in a pipe waits for it
            # In steps: a wait without end would not let signals through on every system.
            while not stopped.wait(0.5):
                continue
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


@command(lab_app, "status")
def status(name: NameArgument) -> None:
    """Say where a lab is served.

    Exit code: 0 it is served, 1 it is not, 3 there is no such lab.
    """
    from sgxkit.lab.daemon import find_server

    found = find_server(name)
    if found is not None:
        _print_announcement(found)
        return
    if settings().json:
        output.print_json({"lab": name, "emulated": True, "pid": None})
    else:
        output.console().print(output.say(msg("lab {name} is not served", name=name)), markup=False)
    raise typer.Exit(1)


@command(lab_app, "stop")
def stop(name: NameArgument) -> None:
    """Stop serving a lab.

    Exit code: 0 stopped, 1 it was not served, 2 it does not stop, 3 there is no such lab.
    """
    from sgxkit.lab.daemon import stop_server

    stopped = stop_server(name)
    if settings().json:
        output.print_json({"lab": name, "stopped": stopped})
    elif not stopped:
        output.console().print(output.say(msg("lab {name} is not served", name=name)), markup=False)
    if not stopped:
        raise typer.Exit(1)


@command(lab_app, "tcb-recovery")
def recover(
    name: NameArgument,
    *,
    early: Annotated[bool, typer.Option("--early", help="Not due yet: seen by who asks for early updates.")] = False,
    patched: Annotated[bool, typer.Option("--patched", help="The platform has the new microcode.")] = False,
) -> None:
    """Intel publishes a TCB recovery: the platform is out of date, unless it is patched."""
    from sgxkit.lab.world import tcb_recovery

    _event(name, lambda world, now: tcb_recovery(world, now, early=early, patched=patched))


@command(lab_app, "revoke-pck")
def revoke(name: NameArgument) -> None:
    """Intel revokes the platform's PCK certificate."""
    from sgxkit.lab.world import revoke_pck

    _event(name, revoke_pck)


@command(lab_app, "expire")
def expire_all(
    name: NameArgument, *, renew: Annotated[bool, typer.Option("--renew", help="Publish again.")] = False
) -> None:
    """Intel publishes nothing any more, and what it did publish has just expired."""
    from sgxkit.lab.world import expire

    _event(name, lambda world, now: expire(world, now, renew=renew))


@command(lab_app, "rotate-qe")
def rotate(
    name: NameArgument,
    *,
    identity_only: Annotated[
        bool,
        typer.Option("--identity-only", help="The platform keeps its quoting enclave, which is out of date then."),
    ] = False,
) -> None:
    """Intel releases a new quoting enclave; the platform has it, with a new attestation key."""
    from sgxkit.lab.world import rotate_qe

    _event(name, lambda world, now: rotate_qe(world, now, identity_only=identity_only))


@command(lab_app, "time")
def time(
    name: NameArgument,
    *,
    days: Annotated[float, typer.Option("--ahead", metavar="DAYS", help="So much more; less than 0 is back.")],
) -> None:
    """Set the clock of a lab's "Intel" ahead: what it publishes is dated by that."""
    from sgxkit.lab.world import shift_time

    if abs(days) > 100_000:
        raise InputError(msg("a lab's clock may be at most a hundred years off"))
    _event(name, lambda world, _: shift_time(world, timedelta(days=days)))


@command(lab_app, "quote")
def quote(
    name: NameArgument,
    *,
    output_file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write the quote; - is standard output.")
    ],
    user_data: Annotated[
        str, typer.Option("--user-data", metavar="TEXT", help="Report data: text of up to 64 bytes, or hex:DIGITS.")
    ] = "",
    mrenclave: Annotated[str | None, typer.Option("--mrenclave", metavar="HEX", help="32 bytes.")] = None,
    mrsigner: Annotated[str | None, typer.Option("--mrsigner", metavar="HEX", help="32 bytes.")] = None,
    isvprodid: Annotated[int, typer.Option("--isvprodid", min=0, max=65535)] = 1,
    isvsvn: Annotated[int, typer.Option("--isvsvn", min=0, max=65535)] = 1,
    debug_enclave: Annotated[bool, typer.Option("--debug-enclave", help="The enclave is in debug mode.")] = False,
    collateral: Annotated[
        Path | None, typer.Option("--collateral", metavar="FILE", help="Write the collateral of now, too.")
    ] = None,
) -> None:
    """Make a quote as an enclave on the lab's platform would get it, for tests of who verifies quotes.

    Exit code: 0 made, 3 there is no such lab, or a bad option.
    """
    from sgxkit.dcap.collateral import write_bundle
    from sgxkit.lab import publication
    from sgxkit.lab.quoting import quote_user_data
    from sgxkit.lab.store import load_lab, root_certificate

    lab = load_lab(name)
    enclave = described_enclave(mrenclave, mrsigner, isvprodid, isvsvn)
    made = quote_user_data(lab, _user_data(user_data), enclave=enclave, debug=debug_enclave)
    write_output(output_file, made)
    if collateral is not None:
        write_bundle(collateral, publication.collateral(lab, datetime.now(UTC)))
    if str(output_file) == "-":
        return
    if settings().json:
        root = str(root_certificate(name))
        output.print_json({"lab": name, "emulated": True, "quote": made.hex(), "trusted_root": root})
        return
    _say(msg("an emulated quote of lab {name}: genuine under its own root only", name=name))
    _say(msg("sgxkit quote verify {quote} --trusted-root {root} ...", quote=output_file, root=root_certificate(name)))


def _event(name: str, happen: Callable[[World, datetime], World]) -> None:
    from sgxkit.lab.store import change_lab

    now = datetime.now(UTC)
    _print_lab(change_lab(name, lambda world: happen(world, now)))


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", text)
    if found is None:
        raise InputError(msg("{text} is not a size", text=text), hint=msg("such as 94M, 8G or a number of bytes"))
    return int(found[1]) * _SIZE_UNITS[found[2]]


def _user_data(text: str) -> bytes:
    if not text.startswith("hex:"):
        data = text.encode()
    elif re.fullmatch(r"hex:(?:[0-9A-Fa-f]{2})*", text):
        data = bytes.fromhex(text.removeprefix("hex:"))
    else:
        raise InputError(msg("--user-data: after hex: come hexadecimal digits, two a byte"))
    if len(data) > 64:
        raise InputError(msg("--user-data: {size} bytes, at most 64 fit", size=len(data)))
    return data


def described_enclave(mrenclave: str | None, mrsigner: str | None, isvprodid: int, isvsvn: int) -> SecsIdentity:
    """Return the lab's sample enclave with what the options say of it; raises InputError."""
    from dataclasses import replace

    from sgxkit.lab.quoting import SAMPLE_ENCLAVE

    enclave = replace(SAMPLE_ENCLAVE, isvprodid=isvprodid, isvsvn=isvsvn)
    for option, text in (("mrenclave", mrenclave), ("mrsigner", mrsigner)):
        if text is None:
            continue
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            raise InputError(msg("--{option} is 64 hexadecimal digits", option=option))
        value = bytes.fromhex(text)
        enclave = replace(enclave, mrenclave=value) if option == "mrenclave" else replace(enclave, mrsigner=value)
    return enclave


def _say(message: Message) -> None:
    output.console().print(output.say(message), markup=False)


def _print_tree(tree: Node) -> None:
    console = output.console()
    for line in lines(tree, console.encoding):
        console.print(line)


def _print_lab(lab: Lab) -> None:
    from sgxkit.lab.store import root_certificate
    from sgxkit.lab.summary import appraise, lab_document

    now = datetime.now(UTC)
    root = str(root_certificate(lab.world.name))
    document = lab_document(lab, now) | {"trusted_root": root}
    if settings().json:
        output.print_json(document)
        return
    tree = Node(msg("lab {name}", name=lab.world.name), msg("emulated: it protects nothing"))
    _add_platform(tree, document)
    error = appraise(lab, now).error
    verdict: str | Message = msg("accepted by default") if error is None else error.message
    tree.add(msg("a quote made now"), verdict)
    tree.add(msg("root certificate"), root)
    _print_tree(tree)


def _add_platform(tree: Node, document: dict[str, Any]) -> None:
    features = [name for name, has in (("FLC", document["flc"]), ("SGX2", document["sgx2"])) if has]
    tree.add(msg("processor"), " ".join([document["cpu"], *features]))
    tree.add("EPC", f"{document['epc_size'] >> 20} MiB")
    tree.add("FMSPC", f"{document['fmspc']} ({document['ca']})")
    tree.add("QE ID", document["qe_id"])
    if document["tcb_status"] is not None:
        tree.add(msg("TCB status"), document["tcb_status"])
    number = f"{document['tcb_evaluation_data_number']}"
    if document["tcb_evaluation_data_number_early"] != document["tcb_evaluation_data_number"]:
        number += f" (early: {document['tcb_evaluation_data_number_early']})"
    tree.add(msg("TCB evaluation data number"), number)
    if document["revocations"]:
        tree.add(msg("PCK certificate revoked"), document["revocations"][-1])
    if document["expired_at"] is not None:
        tree.add(msg("nothing published since"), document["expired_at"])
    if document["clock_offset"]:
        tree.add(msg("clock ahead by"), str(timedelta(seconds=document["clock_offset"])))


def _print_announcement(found: Announcement) -> None:
    from sgxkit.lab.daemon import announcement_document

    if settings().json:
        output.print_json(announcement_document(found))
        return
    tree = Node(msg("lab {name}", name=found.name), msg("emulated: it protects nothing"))
    tree.add("PCS", found.pcs)
    tree.add(msg("root CRL"), found.root_crl)
    tree.add("AESM", found.aesm)
    tree.add(msg("process"), str(found.pid))
    _print_tree(tree)


def _print_served(served: Serving) -> None:
    tree = Node(msg("lab {name}", name=served.name), msg("emulated: it protects nothing"))
    tree.add("PCS", served.pcs)
    tree.add(msg("root CRL"), served.root_crl)
    tree.add("AESM", str(served.aesm))
    tree.add(msg("root certificate"), str(served.root_certificate))
    if served.tls_certificate is not None:
        tree.add(msg("TLS certificate"), str(served.tls_certificate))
    _print_tree(tree)
    _say(msg("Ctrl-C stops it"))
