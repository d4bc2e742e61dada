"""AESM's requests and responses (proto2 package ``aesm.message``), as far as PSW 2.28 and later serve them.

Numbers and types are those of messages.proto (docs/reference/host.md 2.2). A request that this daemon generation
does not serve (EPID, launch tokens, white lists) is a FormatError like any other bytes that are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast, get_type_hints

from sgxkit.aesm.wire import MAX_REQUEST, MAX_RESPONSE, Value, decode_fields, encode_fields
from sgxkit.errors import FormatError
from sgxkit.messages import msg

_U32 = 0xFFFFFFFF
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class SelectAttKeyIdRequest:
    """19: which attestation key should I use? A list says what the caller's verifier accepts."""

    NUMBER: ClassVar[int] = 19
    WIRE: ClassVar[Mapping[str, int]] = {"att_key_id_list": 1, "timeout": 2}
    att_key_id_list: bytes | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class InitQuoteExRequest:
    """15: make or load the attestation key, and say for whom reports must be made."""

    NUMBER: ClassVar[int] = 15
    WIRE: ClassVar[Mapping[str, int]] = {"att_key_id": 1, "b_pub_key_id": 3, "buf_size": 4, "timeout": 9}
    b_pub_key_id: bool
    att_key_id: bytes | None = None
    buf_size: int | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteSizeExRequest:
    """16: how long will a quote be?"""

    NUMBER: ClassVar[int] = 16
    WIRE: ClassVar[Mapping[str, int]] = {"att_key_id": 1, "timeout": 9}
    att_key_id: bytes | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteExRequest:
    """17: quote this report. `qe_report_info` is nonce 16, target info 512, room for a report 432."""

    NUMBER: ClassVar[int] = 17
    WIRE: ClassVar[Mapping[str, int]] = {
        "report": 1,
        "att_key_id": 2,
        "qe_report_info": 3,
        "buf_size": 4,
        "timeout": 9,
    }
    report: bytes
    buf_size: int
    att_key_id: bytes | None = None
    qe_report_info: bytes | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdNumRequest:
    """21: how many attestation keys are there?"""

    NUMBER: ClassVar[int] = 21
    WIRE: ClassVar[Mapping[str, int]] = {"timeout": 9}
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdsRequest:
    """22: which?"""

    NUMBER: ClassVar[int] = 22
    WIRE: ClassVar[Mapping[str, int]] = {"buf_size": 1, "timeout": 9}
    buf_size: int
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class SelectAttKeyIdResponse:
    """19: a 256-byte sgx_att_key_id_ext_t."""

    NUMBER: ClassVar[int] = 19
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "selected_att_key_id": 2}
    error_code: int
    selected_att_key_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class InitQuoteExResponse:
    """15: a TARGETINFO of 512 bytes, and the public key's identifier or how long that is."""

    NUMBER: ClassVar[int] = 15
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "target_info": 2, "pub_key_id_size": 3, "pub_key_id": 4}
    error_code: int
    target_info: bytes | None = None
    pub_key_id_size: int | None = None
    pub_key_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteSizeExResponse:
    """16: the size of a quote."""

    NUMBER: ClassVar[int] = 16
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "quote_size": 2}
    error_code: int
    quote_size: int | None = None


@dataclass(frozen=True, slots=True)
class GetQuoteExResponse:
    """17: the quote, and the QE's own report where it was asked for."""

    NUMBER: ClassVar[int] = 17
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "quote": 2, "qe_report_info": 3}
    error_code: int
    quote: bytes | None = None
    qe_report_info: bytes | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdNumResponse:
    """21: the number of attestation keys."""

    NUMBER: ClassVar[int] = 21
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "att_key_id_num": 2}
    error_code: int
    att_key_id_num: int | None = None


@dataclass(frozen=True, slots=True)
class GetSupportedAttKeyIdsResponse:
    """22: that many sgx_att_key_id_ext_t, one after the other."""

    NUMBER: ClassVar[int] = 22
    WIRE: ClassVar[Mapping[str, int]] = {"error_code": 1, "att_key_ids": 2}
    error_code: int
    att_key_ids: bytes | None = None


Request = (
    SelectAttKeyIdRequest
    | InitQuoteExRequest
    | GetQuoteSizeExRequest
    | GetQuoteExRequest
    | GetSupportedAttKeyIdNumRequest
    | GetSupportedAttKeyIdsRequest
)
Response = (
    SelectAttKeyIdResponse
    | InitQuoteExResponse
    | GetQuoteSizeExResponse
    | GetQuoteExResponse
    | GetSupportedAttKeyIdNumResponse
    | GetSupportedAttKeyIdsResponse
)
RequestT = TypeVar("RequestT", bound=Request)
ResponseT = TypeVar("ResponseT", bound=Response)

REQUESTS: Mapping[int, type[Request]] = {kind.NUMBER: kind for kind in Request.__args__}
RESPONSES: Mapping[int, type[Response]] = {kind.NUMBER: kind for kind in Response.__args__}
UNSUPPORTED = 20
"""The response of daemons that know a request's number and do not serve it: { 1 errorCode }."""

# What is 64 bits wide; every other number has 32.
_WIDE = frozenset({"pub_key_id_size"})
_WIDE_IN_REQUEST = frozenset({(15, "buf_size")})


def encode_request(request: Request) -> bytes:
    """Write a request as a ``Request`` message, without frame."""
    return encode_fields({request.NUMBER: _encode(request)})


def encode_response(response: Response) -> bytes:
    """Write a response as a ``Response`` message, without frame."""
    return encode_fields({response.NUMBER: _encode(response)})


def decode_request(data: bytes) -> Request:
    """Read a ``Request`` message; raises FormatError, also for a request that is not served any more."""
    if len(data) > MAX_REQUEST:
        raise FormatError("AESM request", msg("it is longer than {limit} bytes", limit=MAX_REQUEST))
    number, body = _only_field(data, "AESM request")
    if number not in REQUESTS:
        raise FormatError("AESM request", msg("request {number} is not one that is served", number=number))
    return cast("Request", _decode(REQUESTS[number], body))


def decode_response(data: bytes) -> Response | int:
    """Read a ``Response`` message; the error code alone where it says that the request is not supported."""
    if len(data) > MAX_RESPONSE:
        raise FormatError("AESM response", msg("it is longer than {limit} bytes", limit=MAX_RESPONSE))
    number, body = _only_field(data, "AESM response")
    if number == UNSUPPORTED:
        code = decode_fields(body, "AESM response").get(1, 1)
        if not isinstance(code, int) or code > _U32:
            raise FormatError("AESM response", msg("its error code is no number"))
        return code
    if number not in RESPONSES:
        raise FormatError("AESM response", msg("response {number} is not one that is known", number=number))
    return cast("Response", _decode(RESPONSES[number], body))


def _only_field(data: bytes, name: str) -> tuple[int, bytes]:
    found = decode_fields(data, name)
    if len(found) != 1:
        raise FormatError(name, msg("{count} messages in it, must be one", count=len(found)))
    ((number, body),) = found.items()
    if not isinstance(body, bytes):
        raise FormatError(name, msg("field {number} is not a message", number=number))
    return number, body


def _encode(message: Request | Response) -> bytes:
    values: dict[int, Value] = {}
    for name, number in message.WIRE.items():
        value = getattr(message, name)
        if value is not None:
            values[number] = value
    return encode_fields(values)


def _types(kind: type[Any]) -> dict[str, tuple[type, bool]]:
    """The type of each field of a message, and whether it must be there."""
    hints = get_type_hints(kind)
    found: dict[str, tuple[type, bool]] = {}
    for member in fields(kind):
        options = getattr(hints[member.name], "__args__", (hints[member.name],))
        found[member.name] = (options[0], len(options) == 1)
    return found


_TYPES = {kind: _types(kind) for kind in (*Request.__args__, *Response.__args__)}


def _decode(kind: type[Any], body: bytes) -> Any:
    name = kind.__name__
    received = decode_fields(body, name)
    values: dict[str, Value | None] = {}
    for field, (wanted, required) in _TYPES[kind].items():
        value = received.get(kind.WIRE[field])
        if value is None:
            # proto2 gives a response's errorCode the default 1, AESM_UNEXPECTED_ERROR.
            if required and field != "error_code":
                raise FormatError(f"{name}.{field}", msg("it is missing"))
            values[field] = 1 if required else None
        elif wanted is bytes:
            if not isinstance(value, bytes):
                raise FormatError(f"{name}.{field}", msg("not a byte string"))
            values[field] = value
        else:
            values[field] = _number(value, wanted, kind.NUMBER, f"{name}.{field}", field)
    return kind(**values)


def _number(value: Value, wanted: type, number: int, name: str, field: str) -> int:
    wide = field in _WIDE or (number, field) in _WIDE_IN_REQUEST
    limit = 1 if wanted is bool else _U64 if wide else _U32
    if not isinstance(value, int) or value > limit:
        raise FormatError(name, msg("not a number between 0 and {limit}", limit=limit))
    return bool(value) if wanted is bool else value
