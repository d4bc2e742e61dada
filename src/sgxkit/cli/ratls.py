"""`sgxkit ratls`: TLS with a peer that proves which enclave it is."""

from __future__ import annotations

import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgxkit.cli import output
from sgxkit.cli.input import read_input
from sgxkit.cli.options import command, settings
from sgxkit.cli.relying_party import Expected, option, with_expectations
from sgxkit.errors import InputError, SgxkitError
from sgxkit.messages import Message, msg

if TYPE_CHECKING:
    import ssl

    from sgxkit.dcap.found_quote import FoundQuote
    from sgxkit.enclave_side.certificate import KeyAndCertificate
    from sgxkit.verifier.attested_server import ServerAddress
    from sgxkit.verifier.peer import Peer, PeerVerifier

ratls_app = typer.Typer(
    name="ratls",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="TLS with a peer that proves which enclave it is (RA-TLS).",
)

_MAX_FILE_SIZE = 1 << 20
_SECONDS = 15.0


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(ratls_app)


AddressArgument = Annotated[str, typer.Argument(metavar="HOST:PORT", help="The server.")]
LabOption = Annotated[str | None, option("--lab", "Quotes are made by this lab: emulated.", metavar="NAME")]
DeviceOption = Annotated[
    Path | None, option("--attestation", "Quotes are read here [default: /dev/attestation].", metavar="FOLDER")
]
LabMrenclaveOption = Annotated[str | None, option("--mrenclave", "With --lab: who the enclave is.", metavar="HEX")]
LabMrsignerOption = Annotated[str | None, option("--mrsigner", "With --lab: who signed it.", metavar="HEX")]
HostnameOption = Annotated[
    list[str] | None, option("--hostname", "A name or address for the certificate; may be repeated.")
]


@command(ratls_app, "connect")
@with_expectations
def connect(
    address: AddressArgument,
    *,
    pipe: Annotated[
        bool, option("--pipe", "Once the peer is verified, pass standard input to it and its answers back.")
    ] = False,
    expected: Expected,
) -> None:
    """Connect, verify the peer's quote, and say who it is. Nothing is sent to a peer that is refused.

    Exit code: 0 verified and as expected, 1 refused, 2 cannot tell (no connection, no collateral), 3 bad input.
    """
    if pipe and settings().json:
        raise InputError(msg("{first} and {second} exclude each other", first="--pipe", second="--json"))
    judge_server(address, expected.verifier(), pipe=pipe)


def judge_server(address: str, peers: PeerVerifier, *, pipe: bool = False) -> Peer:
    """Connect, and show who the peer is or why it is refused, which ends the command with its exit code."""
    from sgxkit.verifier.attested_server import parse_server_address
    from sgxkit.verifier.tls import peer_of

    server = parse_server_address(address)
    try:
        connection = _connect(server, peers)
    except SgxkitError as error:
        raise typer.Exit(_show_refusal(error)) from error
    with connection:
        peer = peer_of(connection)
        _show_peer(peer, peers, stderr=pipe)
        if pipe:
            _pipe(connection)
        return peer


@command(ratls_app, "verify")
@with_expectations
def verify(
    certificate: Annotated[Path, typer.Argument(help="A certificate, PEM or DER; - reads standard input.")],
    *,
    at: Annotated[
        str | None, option("--at", "Judge as of this time, as 2026-01-31T12:00:00Z [default: now].")
    ] = None,
    expected: Expected,
) -> None:
    """Verify the quotes in a certificate, and that they bind its key. Who has the key, only a connection proves.

    Exit code: 0 verified and as expected, 1 refused, 2 cannot tell (collateral is missing), 3 bad input.
    """
    from sgxkit.cli.quote_verify import parse_moment

    peers = expected.verifier()
    moment = None if at is None else parse_moment(at)
    content = _der(read_input(certificate, _MAX_FILE_SIZE))
    try:
        peer = peers.verify(content, at=moment)
    except SgxkitError as error:
        raise typer.Exit(_show_refusal(error)) from error
    _show_peer(peer, peers)


@command(ratls_app, "inspect")
def inspect(
    target: Annotated[
        str, typer.Argument(metavar="FILE|HOST:PORT", help="A certificate, PEM or DER, or a server that shows one.")
    ],
) -> None:
    """Show a certificate, the quotes in it and what they bind. Nothing is verified.

    Exit code: 0 shown, 1 there is no quote in it, 2 no connection, 3 bad input.
    """
    from sgxkit.verifier.peer import quotes_in

    if target == "-" or Path(target).exists():
        content: bytes | None = _der(read_input(Path(target), _MAX_FILE_SIZE))
    else:
        content = _shown_certificate(target)
    found = quotes_in(content)
    if settings().json:
        output.print_json(_certificate_document(content) | {"quotes": [_quote_document(one) for one in found]})
        return
    console = output.console()
    for line in _certificate_lines(content):
        console.print(line, markup=False)
    for one in found:
        console.print()
        for line in _quote_lines(one):
            console.print(line, markup=False)
    console.print()
    console.print(output.say(msg("nothing here is verified")), markup=False)


@command(ratls_app, "certificate")
def certificate(
    *,
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The certificate (PEM).")],
    key_file: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key (PEM), 0600.")],
    lab: LabOption = None,
    attestation: DeviceOption = None,
    mrenclave: LabMrenclaveOption = None,
    mrsigner: LabMrsignerOption = None,
    hostname: HostnameOption = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long it is valid.")] = 90,
) -> None:
    """Make a key, and a certificate for it with this enclave's quotes (or, with --lab, an emulated enclave's).

    Exit code: 0 made, 1 there is no quote to be had, 3 bad option.
    """
    from sgxkit.enclave.signing import write_key_file
    from sgxkit.host.output_file import write_whole

    made = _maker(lab, attestation, mrenclave=mrenclave, mrsigner=mrsigner, hostnames=hostname, days=days)()
    write_key_file(key_file, made.private_key_pem.encode())
    write_whole(output_file, made.certificate_pem)
    if settings().json:
        output.print_json(_certificate_document(made.certificate) | {"emulated": lab is not None})
    elif lab is not None:
        _note(msg("an emulated enclave of lab {name}: it protects nothing", name=lab))


@command(ratls_app, "serve")
def serve(
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes any free one.")
    ] = "127.0.0.1:4433",
    forward: Annotated[
        str | None, option("--forward", "Pass what comes on to this service, without TLS.", metavar="HOST:PORT")
    ] = None,
    lab: LabOption = None,
    attestation: DeviceOption = None,
    mrenclave: LabMrenclaveOption = None,
    mrsigner: LabMrsignerOption = None,
    hostname: HostnameOption = None,
) -> None:
    """Serve TLS with an RA-TLS certificate: inside an enclave, or with --lab as an emulated one.

    With --forward it stands before a service of the same enclave; without, it answers each request with the
    fingerprint of its certificate. It has a new key and new quotes each day.

    Exit code: 0 stopped, 1 there is no quote to be had, 3 bad option, an address that cannot be had.
    """
    import asyncio

    from sgxkit.verifier.attested_server import parse_server_address, serve_attested

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await serve_attested(
            parse_server_address(listen),
            _maker(lab, attestation, mrenclave=mrenclave, mrsigner=mrsigner, hostnames=hostname, days=2),
            forward=None if forward is None else parse_server_address(forward),
            started=_started(lab),
            note=_note,
        )

    try:
        asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return


def _started(lab: str | None) -> Any:
    def started(address: ServerAddress, identity: KeyAndCertificate) -> None:
        if settings().json:
            document = {"listening": str(address), "emulated": lab is not None}
            output.print_json(document | _certificate_document(identity.certificate))
        else:
            if lab is not None:
                _note(msg("an emulated enclave of lab {name}: it protects nothing", name=lab))
            output.console().print(output.say(msg("listening at {address}", address=str(address))), markup=False)
        sys.stdout.flush()  # whoever started this in a pipe waits for it

    return started


def _maker(
    lab: str | None,
    attestation: Path | None,
    *,
    mrenclave: str | None,
    mrsigner: str | None,
    hostnames: list[str] | None,
    days: int,
) -> Any:
    """Return who makes a key and certificate with quotes from the chosen place."""
    from sgxkit.enclave_side import attestation as device
    from sgxkit.enclave_side.attestation import EnclaveSideError
    from sgxkit.enclave_side.certificate import make_certificate

    if lab is not None:
        if attestation is not None:
            raise InputError(msg("{first} and {second} exclude each other", first="--lab", second="--attestation"))
        from sgxkit.cli.lab import described_enclave
        from sgxkit.lab.quoting import quote_user_data
        from sgxkit.lab.store import load_lab

        enclave = described_enclave(mrenclave, mrsigner, 1, 1)
        load_lab(lab)  # says now if there is none
        return lambda: make_certificate(
            hostnames=hostnames or (),
            days=days,
            quote=lambda data: quote_user_data(load_lab(lab), data, enclave=enclave),
        )
    if mrenclave is not None or mrsigner is not None:
        raise InputError(msg("--mrenclave and --mrsigner go with --lab: an enclave's own are what they are"))
    folder = attestation or device.DEVICE

    def make() -> KeyAndCertificate:
        try:
            return make_certificate(
                hostnames=hostnames or (), days=days, quote=lambda data: device.quote(data, folder)
            )
        except EnclaveSideError as error:
            raise NoEnclaveError(
                msg("no quote: {reason}", reason=str(error)),
                hint=msg("run it inside a Gramine enclave, or name a lab with --lab"),
            ) from error

    return make


class NoEnclaveError(SgxkitError):
    """This is not an enclave that could be quoted."""

    code = "no-enclave"


def _connect(server: ServerAddress, peers: PeerVerifier) -> ssl.SSLSocket:
    from sgxkit.verifier.tls import client_context

    return _tls(server, client_context(peers))


def _tls(server: ServerAddress, context: ssl.SSLContext) -> ssl.SSLSocket:
    import socket
    import ssl

    from sgxkit.cli.progress import progress

    try:
        with progress(msg("connecting to {address} ...", address=str(server))):
            connection = socket.create_connection((server.host, server.port), timeout=_SECONDS)
            try:
                return context.wrap_socket(connection, server_hostname=server.host)
            except BaseException:
                connection.close()
                raise
    except (ssl.SSLError, OSError) as error:
        raise NoConnectionError(
            msg("no connection with {address}: {reason}", address=str(server), reason=error.strerror or str(error))
        ) from error


class NoConnectionError(SgxkitError):
    """The server cannot be reached, or speaks no TLS."""

    code = "connection"
    exit_code = 2


def _shown_certificate(target: str) -> bytes | None:
    import ssl

    from sgxkit.verifier.attested_server import parse_server_address

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only shown
    with _tls(parse_server_address(target), context) as connection:
        return connection.getpeercert(binary_form=True)


_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----(.*?)-----END", re.S)


def _der(content: bytes) -> bytes:
    """The first certificate of a PEM file (Gramine calls it a trusted one), or the file itself."""
    import base64
    import binascii

    found = _PEM.search(content)
    if found is None:
        return content
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error as error:
        raise InputError(msg("not PEM: {error}", error=str(error))) from error


def _pipe(connection: ssl.SSLSocket) -> None:
    """Both ways, until the peer has closed; the end of standard input is not the end of its answers."""
    connection.settimeout(None)

    def send() -> None:
        while data := sys.stdin.buffer.read1(1 << 16):  # type: ignore[union-attr]
            connection.sendall(data)

    threading.Thread(target=send, daemon=True).start()
    try:
        while data := connection.recv(1 << 16):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except OSError as error:
        raise NoConnectionError(
            msg("the connection is lost: {reason}", reason=error.strerror or str(error))
        ) from error


def _show_peer(peer: Peer, peers: PeerVerifier, *, stderr: bool = False) -> None:
    from rich.text import Text

    from sgxkit.cli.quote_verify import identity_lines, lab_of, other_root
    from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA
    from sgxkit.dcap.verification_document import verification_document

    anchor = peers.verifier.trust_anchor
    if settings().json:
        documents = [verification_document(verification) for verification in peer.verifications]
        document = {"verdict": "verified", "lab": lab_of(anchor), **_certificate_document(peer.certificate)}
        output.print_json(document | {"quotes": documents})
        return
    console = output.console(stderr=stderr)
    for line in identity_lines(peer.verifications[0].quote):
        console.print(line, markup=False)
    if anchor.point != INTEL_SGX_ROOT_CA.point:
        console.print(Text(output.say(other_root(anchor)), "bold yellow"))
    sentence = msg(
        "VERIFIED: {count} quotes bind the key of certificate {fingerprint}",
        count=len(peer.verifications),
        fingerprint=peer.fingerprint,
    )
    console.print(Text(output.say(sentence), "bold green"))
    if not peers.verifier.policy.asks_whose_code:
        from sgxkit.cli.quote_verify import ANY_CODE

        console.print(Text(output.say(ANY_CODE), "yellow"))


def _show_refusal(error: SgxkitError) -> int:
    from rich.text import Text

    from sgxkit.dcap.errors import VerificationError

    refused = isinstance(error, VerificationError) and error.exit_code == 1
    if not isinstance(error, VerificationError) and error.exit_code != 2:
        raise error
    if settings().json:
        output.print_json(
            {
                "verdict": "refused" if refused else "cannot tell",
                "error": {
                    "code": error.code,
                    "message": str(error),
                    "hint": None if error.hint is None else str(error.hint),
                },
            }
        )
        return error.exit_code
    console = output.console(stderr=True)
    if refused:
        console.print(Text(output.say(msg("REFUSED: {reason}", reason=error.message)), "bold red"))
    else:
        console.print(Text(output.say(msg("CANNOT TELL: {reason}", reason=error.message)), "bold magenta"))
    if error.hint is not None:
        console.print(output.say(msg("hint: {hint}", hint=error.hint)), markup=False)
    return error.exit_code


def _note(message: Message) -> None:
    output.console(stderr=True).print(output.say(message), markup=False)


def _certificate_document(content: bytes | None) -> dict[str, Any]:
    from hashlib import sha256

    from cryptography import x509

    assert content is not None
    parsed = x509.load_der_x509_certificate(content)
    return {
        "certificate_sha256": sha256(content).hexdigest(),
        "subject": parsed.subject.rfc4514_string(),
        "not_before": parsed.not_valid_before_utc.isoformat(),
        "not_after": parsed.not_valid_after_utc.isoformat(),
    }


def _certificate_lines(content: bytes | None) -> list[str]:
    document = _certificate_document(content)
    return [
        output.printable(output.say(sentence))
        for sentence in (
            msg("certificate {fingerprint}", fingerprint=document["certificate_sha256"]),
            msg("of {subject}, who proves nothing by that name", subject=document["subject"]),
            msg("valid from {start} to {end}", start=document["not_before"], end=document["not_after"]),
        )
    ]


def _quote_document(found: FoundQuote) -> dict[str, Any]:
    from sgxkit.dcap import parse_quote
    from sgxkit.dcap.inspection_document import binding_document
    from sgxkit.isa.report import ReportBody

    body = parse_quote(found.data).body
    identity = (
        {"mrenclave": body.mrenclave.hex(), "mrsigner": body.mrsigner.hex()}
        if isinstance(body, ReportBody)
        else {"mrtd": body.mrtd.hex()}
    )
    return {
        "where": found.where,
        **identity,
        "reportdata": body.reportdata.hex(),
        "bindings": [binding_document(binding) for binding in found.bindings],
    }


def _quote_lines(found: FoundQuote) -> list[str]:
    from sgxkit.cli.quote_verify import identity_lines
    from sgxkit.dcap import parse_quote

    lines = [output.printable(found.where), *identity_lines(parse_quote(found.data))]
    for binding in found.bindings:
        sentence = (
            msg("{place} binds the {content}", place=binding.place, content=binding.content)
            if binding.holds
            else msg("{place} does not bind the {content}", place=binding.place, content=binding.content)
        )
        lines.append(output.say(sentence))
    return lines
