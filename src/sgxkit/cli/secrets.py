"""`sgxkit secrets`: give secrets to enclaves that prove who they are."""

from __future__ import annotations

import contextvars
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgxkit.cli import output
from sgxkit.cli.input import read_input
from sgxkit.cli.options import command, settings
from sgxkit.cli.relying_party import Expected, with_expectations
from sgxkit.errors import InputError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    import socket

    from sgxkit.verifier.attested_server import ServerAddress

secrets_app = typer.Typer(
    name="secrets",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Give secrets to enclaves that prove who they are.",
)

_GRAMINE_KEY_SIZE = 16


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(secrets_app)


@command(secrets_app, "serve")
@with_expectations
def serve(
    *,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="NAME=@FILE", help="A secret: the bytes of a file; may be repeated."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="NAME=@FILE",
            help="As Gramine's SECRET_PROVISION_SECRET_STRING wants it: without the last newline, with a zero byte.",
        ),
    ] = None,
    gramine_secret: Annotated[
        str | None,
        typer.Option(
            "--gramine", metavar="NAME", help="Which one Gramine's clients get [default: if there is one, it]."
        ),
    ] = None,
    certificate: Annotated[
        Path, typer.Option("--cert", metavar="FILE", help="The server's certificate chain (PEM).")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Its private key (PEM).")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes any free one.")
    ] = "127.0.0.1:4433",
    once: Annotated[bool, typer.Option("--once", help="Give each secret away once only.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record", metavar="FILE", help="Append each release; with --once, what is in it is given away."
        ),
    ] = None,
    expected: Expected,
) -> None:
    """Give secrets to enclaves that meet the policy: to Gramine's own clients, and by HTTP over RA-TLS.

    An enclave shows its RA-TLS certificate as a TLS client. It gets nothing unless its quote is genuine, in force and
    what the policy asks for, and the policy must ask whose code it is.

    Exit code: 0 stopped, 3 bad option, bad policy, an address that cannot be had.
    """
    from sgxkit.verifier.attested_server import parse_server_address
    from sgxkit.verifier.mutual_tls import server_context
    from sgxkit.verifier.secret_release import Secrets
    from sgxkit.verifier.secret_server import SecretServer

    values = dict(map(_secret, secret or ()))
    values |= {
        name: content.removesuffix(b"\n").removesuffix(b"\r") + b"\0" for name, content in map(_secret, text or ())
    }
    if len(values) != len(secret or ()) + len(text or ()):
        raise InputError(msg("two secrets have the same name"))
    secrets = Secrets(values, once=once, record=record)
    if gramine_secret is not None and gramine_secret not in values:
        raise InputError(msg("there is no secret {name}", name=gramine_secret))
    peers = expected.verifier()
    if not peers.verifier.policy.asks_whose_code:
        raise InputError(
            msg("the policy does not ask whose code it is: any genuine enclave would get the secrets"),
            hint=msg("add --mrenclave or --mrsigner, or a policy that has them"),
        )
    chosen = contextvars.copy_context()

    def note(message: Message) -> None:
        # Connections have threads of their own, which do not know what the command line chose.
        chosen.copy().run(_note, message)

    listener = _listener(parse_server_address(listen))
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        with SecretServer(
            listener,
            server_context(certificate, key),
            peers,
            secrets,
            gramine_secret or (next(iter(values)) if len(values) == 1 else ""),
            note,
        ):
            _started(listener, sorted(values))
            # In steps: a wait without end would not let signals through on every system.
            while not stopped.wait(0.5):
                continue
    except KeyboardInterrupt:
        return
    finally:
        listener.close()
        signal.signal(signal.SIGTERM, before)


@command(secrets_app, "new-key")
def new_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, 0600.")],
) -> None:
    """Make a key for Gramine's encrypted files: 16 random bytes.

    Serve it with --secret, and let the enclave set it: SECRET_PROVISION_SET_KEY, or enclave_side.set_key.

    Exit code: 0 made, 3 the file exists already or cannot be written.
    """
    import os

    from sgxkit.enclave.signing import write_key_file

    write_key_file(path, os.urandom(_GRAMINE_KEY_SIZE))
    if settings().json:
        output.print_json({"written": str(path), "size": _GRAMINE_KEY_SIZE})


def _secret(text: str) -> tuple[str, bytes]:
    from sgxkit.verifier.secret_release import MAX_SECRET_SIZE

    name, equals, file = text.partition("=")
    if not equals or not file.startswith("@"):
        raise InputError(
            msg("a secret is given as NAME=@FILE"),
            hint=msg("from a file, so that it is not seen among the arguments of processes"),
        )
    return name, read_input(Path(file[1:]), MAX_SECRET_SIZE)


def _listener(address: ServerAddress) -> socket.socket:
    import socket

    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][
            0
        ]
        return socket.create_server((address.host, address.port), family=family, backlog=128)
    except OSError as error:
        raise InputError(
            msg("{address} cannot be listened at: {reason}", address=str(address), reason=error.strerror or error)
        ) from error


def _started(listener: socket.socket, names: list[str]) -> None:
    from sgxkit.verifier.attested_server import ServerAddress

    address = str(ServerAddress(*listener.getsockname()[:2]))
    if settings().json:
        output.print_json({"listening": address, "secrets": names})
    else:
        sentence = msg("listening at {address}, with {count} secrets", address=address, count=len(names))
        output.console().print(output.say(sentence), markup=False)
    sys.stdout.flush()  # whoever started this in a pipe waits for it


def _note(message: Message) -> None:
    output.console(stderr=True).print(output.say(message), markup=False)
