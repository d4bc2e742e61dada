"""A client of AESM: one connection a request, and a deadline over all of it (docs/reference/host.md 2.1, 2.4)."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sgxkit.aesm.address import AESMD_SOCKET, Address, TcpAddress, UnixAddress
from sgxkit.aesm.codes import AesmCode, AesmConnectionError, AesmError
from sgxkit.aesm.key_id import INTEL_ECDSA_P256, KEY_ID_SIZE
from sgxkit.aesm.messages import (
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
    ResponseT,
    SelectAttKeyIdRequest,
    SelectAttKeyIdResponse,
    decode_response,
    encode_request,
)
from sgxkit.aesm.wire import FRAME_HEADER, MAX_RESPONSE, frame, frame_length
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import msg

REPORT_SIZE = 432
TARGET_INFO_SIZE = 512
QE_REPORT_INFO_SIZE = 16 + TARGET_INFO_SIZE + REPORT_SIZE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AesmClient:
    """Asks the daemon at `address`; each request may take `timeout` seconds in all.

    Every method raises AesmError for an answer that is not success, and AesmConnectionError for none.
    """

    address: Address = field(default_factory=lambda: UnixAddress(AESMD_SOCKET))
    timeout: float = 30.0

    def select_key(self) -> bytes:
        """The 256-byte identifier of the attestation key that the daemon prefers."""
        answer = self._ask(SelectAttKeyIdRequest(timeout=self._microseconds), SelectAttKeyIdResponse)
        return _sized(answer.selected_att_key_id, KEY_ID_SIZE, "selected_att_key_id")

    def count_keys(self) -> int:
        """How many attestation keys the daemon supports."""
        answer = self._ask(
            GetSupportedAttKeyIdNumRequest(timeout=self._microseconds), GetSupportedAttKeyIdNumResponse
        )
        return _present(answer.att_key_id_num, "att_key_id_num")

    def keys(self) -> tuple[bytes, ...]:
        """The identifiers of all attestation keys that the daemon supports."""
        size = self.count_keys() * KEY_ID_SIZE
        if not 0 < size <= MAX_RESPONSE // 2:
            raise _malformed(FormatError("att_key_id_num", msg("not a number of keys")))
        answer = self._ask(
            GetSupportedAttKeyIdsRequest(size, timeout=self._microseconds), GetSupportedAttKeyIdsResponse
        )
        ids = _sized(answer.att_key_ids, size, "att_key_ids")
        return tuple(ids[start : start + KEY_ID_SIZE] for start in range(0, size, KEY_ID_SIZE))

    def target_info(self, key_id: bytes) -> tuple[bytes, int]:
        """For whom reports must be made (TARGETINFO, 512 bytes), and the size of the public key's identifier.

        Makes no key: this is request 15 without b_pub_key_id.
        """
        answer = self._ask(
            InitQuoteExRequest(b_pub_key_id=False, att_key_id=key_id, timeout=self._microseconds), InitQuoteExResponse
        )
        return (
            _sized(answer.target_info, TARGET_INFO_SIZE, "target_info"),
            _present(answer.pub_key_id_size, "pub_key_id_size"),
        )

    def initialise(self, key_id: bytes) -> tuple[bytes, bytes]:
        """Have the attestation key made or loaded: TARGETINFO, and the public key's identifier."""
        _, size = self.target_info(key_id)
        answer = self._ask(
            InitQuoteExRequest(b_pub_key_id=True, att_key_id=key_id, buf_size=size, timeout=self._microseconds),
            InitQuoteExResponse,
        )
        return (
            _sized(answer.target_info, TARGET_INFO_SIZE, "target_info"),
            _sized(answer.pub_key_id, size, "pub_key_id"),
        )

    def quote_size(self, key_id: bytes) -> int:
        """How long a quote with this key is."""
        answer = self._ask(GetQuoteSizeExRequest(key_id, timeout=self._microseconds), GetQuoteSizeExResponse)
        return _present(answer.quote_size, "quote_size")

    def quote(self, report: bytes, key_id: bytes = INTEL_ECDSA_P256.to_bytes()) -> bytes:
        """Quote a REPORT (432 bytes) that was made for `target_info`; the key is initialised where it has to be."""
        return self._quote(report, key_id, None)[0]

    def quote_with_qe_report(
        self, report: bytes, nonce: bytes, target_info: bytes, key_id: bytes = INTEL_ECDSA_P256.to_bytes()
    ) -> tuple[bytes, bytes]:
        """The same, and the QE's REPORT for `target_info`: its report data is SHA-256 of nonce and quote."""
        if len(nonce) != 16 or len(target_info) != TARGET_INFO_SIZE:
            raise InputError(msg("a nonce has 16 bytes and a target info 512"))
        quote, info = self._quote(report, key_id, nonce + target_info + bytes(REPORT_SIZE))
        return quote, _sized(info, QE_REPORT_INFO_SIZE, "qe_report_info")[-REPORT_SIZE:]

    def _quote(self, report: bytes, key_id: bytes, info: bytes | None) -> tuple[bytes, bytes | None]:
        if len(report) != REPORT_SIZE:
            raise InputError(msg("a report has {expected} bytes, not {size}", expected=REPORT_SIZE, size=len(report)))

        def ask() -> tuple[bytes, bytes | None]:
            size = self.quote_size(key_id)
            request = GetQuoteExRequest(report, size, key_id, info, self._microseconds)
            answer = self._ask(request, GetQuoteExResponse)
            return _present(answer.quote, "quote"), answer.qe_report_info

        try:
            return ask()
        except AesmError as error:
            if error.status != AesmCode.ATT_KEY_NOT_INITIALIZED:
                raise
        self.initialise(key_id)
        return ask()

    @property
    def _microseconds(self) -> int:
        return max(1, min(int(self.timeout * 1e6), 0xFFFFFFFF))

    def _ask(self, request: Request, wanted: type[ResponseT]) -> ResponseT:
        deadline = time.monotonic() + self.timeout
        try:
            response = decode_response(exchange(self.address, encode_request(request), deadline))
        except FormatError as error:
            raise _malformed(error) from error
        if isinstance(response, int):
            raise AesmError(response)
        if not isinstance(response, wanted):
            raise _malformed(FormatError("AESM response", msg("not the response to this request")))
        if response.error_code != AesmCode.SUCCESS:
            raise AesmError(response.error_code)
        return response


def exchange(address: Address, message: bytes, deadline: float) -> bytes:
    """Send one message in a connection of its own, and return the answer before `deadline` (time.monotonic)."""
    try:
        with _connect(address, deadline) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(frame(message))
            header = _receive(connection, FRAME_HEADER.size, deadline, at_all=False)
            return _receive(connection, frame_length(header, MAX_RESPONSE), deadline)
    except TimeoutError as error:
        raise AesmConnectionError(
            msg("the AESM daemon at {address} did not answer in time", address=address),
            hint=msg("it may be fetching the platform's certificate; its log says what it does"),
        ) from error
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _closed() from error
    except OSError as error:
        raise AesmConnectionError(
            msg("there is no AESM daemon at {address}: {reason}", address=address, reason=error.strerror or error),
            hint=msg("`sgxkit doctor` says what is missing; `sgxkit lab serve` runs one that is emulated"),
        ) from error


def _connect(address: Address, deadline: float) -> socket.socket:
    if isinstance(address, TcpAddress):
        return socket.create_connection(("127.0.0.1", address.port), timeout=_left(deadline))
    if not hasattr(socket, "AF_UNIX"):
        raise InputError(msg("this system has no UNIX sockets"), hint=msg("give the address as tcp://127.0.0.1:PORT"))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        while True:
            connection.settimeout(_left(deadline))
            try:
                connection.connect(str(address))
            except BlockingIOError:  # its queue of connections is full
                time.sleep(min(0.01, _left(deadline)))
            else:
                return connection
    except BaseException:
        connection.close()
        raise


def _receive(connection: socket.socket, size: int, deadline: float, *, at_all: bool = True) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(_left(deadline))
        part = connection.recv(size - len(data))
        if not part:
            if not data and not at_all:
                raise _closed()
            raise FormatError("AESM response", msg("cut short"))
        data += part
    return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _closed() -> AesmConnectionError:
    return AesmConnectionError(
        msg("the AESM daemon closed the connection without an answer"),
        hint=msg("that is how daemons refuse a request that they do not know"),
    )


def _malformed(error: FormatError) -> AesmConnectionError:
    return AesmConnectionError(msg("the AESM daemon's answer is malformed: {problem}", problem=error.message))


def _present(value: T | None, name: str) -> T:
    if value is None:
        raise _malformed(FormatError(name, msg("it is missing")))
    return value


def _sized(value: bytes | None, size: int, name: str) -> bytes:
    found: Any = _present(value, name)
    if len(found) != size:
        raise _malformed(FormatError(name, msg("{size} bytes, must be {expected}", size=len(found), expected=size)))
    return bytes(found)
