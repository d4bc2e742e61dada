"""An AESM daemon for a quoting service that it is given.

One event loop in one thread serves every client: a connection carries one request, has a deadline for all of it, and
is closed without a word where its bytes are no request, as Intel's daemon does from PSW 2.28 on (docs/reference/
host.md 2.1). The service is asked in that thread too: it computes, it does not wait.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from sgxkit.aesm.address import AbstractAddress, Address, TcpAddress, UnixAddress, has_unix_sockets
from sgxkit.aesm.client import QE_REPORT_INFO_SIZE, REPORT_SIZE
from sgxkit.aesm.codes import AesmCode, AesmError
from sgxkit.aesm.key_id import KEY_ID_SIZE, listed_key_ids, same_key
from sgxkit.aesm.messages import (
    RESPONSES,
    GetQuoteExRequest,
    GetQuoteExResponse,
    GetQuoteSizeExRequest,
    GetQuoteSizeExResponse,
    GetSupportedAttKeyIdNumRequest,
    GetSupportedAttKeyIdNumResponse,
    GetSupportedAttKeyIdsRequest,
    GetSupportedAttKeyIdsResponse,
    InitQuoteExRequest,
    InitQuoteExResponse,
    Request,
    Response,
    SelectAttKeyIdRequest,
    SelectAttKeyIdResponse,
    decode_request,
    encode_response,
)
from sgxkit.aesm.wire import FRAME_HEADER, MAX_REQUEST, frame, frame_length
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

_LOG = logging.getLogger("sgxkit.aesm")
_BACKLOG = 128


class QuotingService(Protocol):
    """Who quotes. Methods raise AesmError for what they refuse."""

    def key_ids(self) -> tuple[bytes, ...]:
        """The attestation keys that it has, 256 bytes each, preferred first."""

    def target_info(self, key_id: bytes) -> bytes:
        """For whom reports must be made: TARGETINFO, 512 bytes."""

    def public_key_id(self, key_id: bytes, *, make: bool) -> bytes:
        """The identifier of the public key; `make` has the key made or loaded, so that it can quote."""

    def quote_size(self, key_id: bytes) -> int:
        """How long its quotes are."""

    def quote(self, report: bytes, key_id: bytes, qe_report_info: bytes | None) -> tuple[bytes, bytes | None]:
        """Quote a REPORT; with `qe_report_info` (nonce, target info, room) filled in where it is given."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client may take for its request, and again for taking the answer, and how many there may be."""

    seconds: float = 5.0
    connections: int = 512


DEFAULT_LIMITS = Limits()


def answer(service: QuotingService, request: Request) -> Response:
    """Answer one request; what the service refuses, or fails at, becomes the response's error code."""
    try:
        return _answer(service, request)
    except AesmError as error:
        return RESPONSES[request.NUMBER](error_code=error.status)
    except FormatError:
        return RESPONSES[request.NUMBER](error_code=AesmCode.PARAMETER_ERROR)
    except Exception:  # noqa: BLE001 - a daemon outlives its service's bugs, says so and logs them
        _LOG.exception("request %d failed", request.NUMBER)
        return RESPONSES[request.NUMBER](error_code=AesmCode.UNEXPECTED_ERROR)


def _answer(service: QuotingService, request: Request) -> Response:
    match request:
        case SelectAttKeyIdRequest(att_key_id_list=wanted):
            return SelectAttKeyIdResponse(AesmCode.SUCCESS, _select(service, wanted))
        case GetSupportedAttKeyIdNumRequest():
            return GetSupportedAttKeyIdNumResponse(AesmCode.SUCCESS, len(_key_ids(service)))
        case GetSupportedAttKeyIdsRequest(buf_size=size):
            ids = b"".join(_key_ids(service))
            if size < len(ids):
                raise AesmError(AesmCode.PARAMETER_ERROR)
            return GetSupportedAttKeyIdsResponse(AesmCode.SUCCESS, ids)
        case InitQuoteExRequest():
            return _initialise(service, request)
        case GetQuoteSizeExRequest(att_key_id=key_id):
            return GetQuoteSizeExResponse(AesmCode.SUCCESS, service.quote_size(_known(service, key_id)))
        case GetQuoteExRequest():
            return _quote(service, request)


def _key_ids(service: QuotingService) -> tuple[bytes, ...]:
    ids = service.key_ids()
    if not ids:
        raise AesmError(AesmCode.SERVICE_UNAVAILABLE)
    return ids


def _select(service: QuotingService, wanted: bytes | None) -> bytes:
    ids = _key_ids(service)
    if wanted is None:
        return ids[0]
    listed = listed_key_ids(wanted)
    for one in ids:
        if any(same_key(one, other) for other in listed):
            return one
    raise AesmError(AesmCode.UNSUPPORTED_ATT_KEY_ID)


def _known(service: QuotingService, key_id: bytes | None) -> bytes:
    ids = _key_ids(service)
    if key_id is None:
        return ids[0]
    if len(key_id) != KEY_ID_SIZE:
        raise AesmError(AesmCode.PARAMETER_ERROR)
    for one in ids:
        if same_key(one, key_id):
            return one
    raise AesmError(AesmCode.UNSUPPORTED_ATT_KEY_ID)


def _initialise(service: QuotingService, request: InitQuoteExRequest) -> Response:
    key_id = _known(service, request.att_key_id)
    public = service.public_key_id(key_id, make=request.b_pub_key_id)
    if not request.b_pub_key_id:
        return InitQuoteExResponse(AesmCode.SUCCESS, service.target_info(key_id), len(public))
    if request.buf_size is None or request.buf_size < len(public):
        raise AesmError(AesmCode.PARAMETER_ERROR)
    return InitQuoteExResponse(AesmCode.SUCCESS, service.target_info(key_id), len(public), public)


def _quote(service: QuotingService, request: GetQuoteExRequest) -> Response:
    key_id = _known(service, request.att_key_id)
    info = request.qe_report_info
    if len(request.report) != REPORT_SIZE or (info is not None and len(info) != QE_REPORT_INFO_SIZE):
        raise AesmError(AesmCode.PARAMETER_ERROR)
    if request.buf_size < service.quote_size(key_id):
        raise AesmError(AesmCode.PARAMETER_ERROR)
    quote, filled = service.quote(request.report, key_id, info)
    return GetQuoteExResponse(AesmCode.SUCCESS, quote, filled)


@contextmanager
def serving(
    service: QuotingService, address: Address, *, limits: Limits = DEFAULT_LIMITS, mode: int = 0o777
) -> Iterator[Address]:
    """Serve until the block ends; yields the address, with the port where the system chose one.

    `mode` is that of the socket's file: Intel's daemon lets everyone connect. Raises InputError where it cannot
    listen there, or another daemon does.
    """
    with _listen(address, mode) as listener:
        daemon = _Daemon(service, limits, listener)
        thread = threading.Thread(target=daemon.run, name="aesm", daemon=True)
        thread.start()
        try:
            yield TcpAddress(listener.getsockname()[1]) if isinstance(address, TcpAddress) else address
        finally:
            daemon.stop()
            thread.join()
            if isinstance(address, UnixAddress):
                address.path.unlink(missing_ok=True)


class _Daemon:
    """The loop of one daemon; only `stop` is called from another thread."""

    def __init__(self, service: QuotingService, limits: Limits, listener: socket.socket) -> None:
        self._service = service
        self._limits = limits
        self._listener = listener
        self._connections: set[asyncio.Task[None]] = set()
        self._waker, self._woken = socket.socketpair()

    def run(self) -> None:
        asyncio.run(self._serve())

    def stop(self) -> None:
        self._waker.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for one in (self._listener, self._woken):
            one.setblocking(False)
        stopped = asyncio.ensure_future(loop.sock_recv(self._woken, 1))
        while not stopped.done():
            accepted = asyncio.ensure_future(loop.sock_accept(self._listener))
            await asyncio.wait({accepted, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not accepted.done():
                accepted.cancel()
                await asyncio.wait({accepted})
            if accepted.cancelled():
                break
            error = accepted.exception()
            if error is None:
                self._begin(accepted.result()[0])
            elif isinstance(error, OSError):  # no file descriptor left: some client will return one
                _LOG.warning("cannot accept a connection: %s", error)
                await asyncio.wait({stopped}, timeout=0.05)
            else:
                raise error
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._woken.close()

    def _begin(self, connection: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections:
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._converse(connection))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Not in the task: one that is cancelled before it began would not close it.
        task.add_done_callback(lambda _: connection.close())

    async def _converse(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._limits.seconds):
                length = frame_length(await _receive(connection, FRAME_HEADER.size), MAX_REQUEST)
                request = decode_request(await _receive(connection, length))
            response = frame(encode_response(answer(self._service, request)))
            async with asyncio.timeout(self._limits.seconds):
                await loop.sock_sendall(connection, response)
        except (FormatError, TimeoutError, OSError) as error:
            # What Intel's daemon does with bytes that are no request, and what any does with one who is too slow.
            _LOG.info("a connection was cut: %s", error)


async def _receive(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        part = await loop.sock_recv(connection, size - len(data))
        if not part:
            raise FormatError("AESM request", msg("cut short"))
        data += part
    return bytes(data)


def _listen(address: Address, mode: int) -> socket.socket:
    if isinstance(address, UnixAddress) and not has_unix_sockets():
        raise InputError(msg("this system has no UNIX sockets"), hint=msg("give the address as tcp://127.0.0.1:PORT"))
    if isinstance(address, UnixAddress):
        _remove_stale(address)
    listener = socket.socket(socket.AF_INET if isinstance(address, TcpAddress) else socket.AF_UNIX)
    try:
        if isinstance(address, TcpAddress):
            listener.bind(("127.0.0.1", address.port))
        elif isinstance(address, AbstractAddress):
            listener.bind(str(address))
        else:
            listener.bind(str(address.path))
            address.path.chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            msg("cannot listen at {address}: {reason}", address=address, reason=error.strerror or error)
        ) from error
    return listener


def _remove_stale(address: UnixAddress) -> None:
    """Remove the socket of a killed daemon; raises InputError where someone listens, or where it is no socket."""
    try:
        status = address.path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            msg("cannot listen at {address}: {reason}", address=address, reason=error.strerror or error)
        ) from error
    if not stat.S_ISSOCK(status.st_mode):
        raise InputError(msg("{path} exists and is not a socket", path=address.path))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full queue is a living daemon, too
        try:
            probe.connect(str(address.path))
        except ConnectionRefusedError:
            address.path.unlink(missing_ok=True)
            return
        except OSError as error:
            _LOG.info("%s: %s", address, error)
    raise InputError(
        msg("another AESM daemon listens at {address}", address=address), hint=msg("choose another path, or stop it")
    )
