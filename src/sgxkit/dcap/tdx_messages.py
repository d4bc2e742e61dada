"""The buffers in which a TDX guest receives its quote: the GetQuote buffer and the quote service's answer.

Intel TDX Guest-Hypervisor Communication Interface, TDG.VP.VMCALL<GetQuote>; `qgs_msg_lib.h` and `tdx_attest.c` of
Intel DCAP. What configfs-tsm gives as ``outblob`` is the quote itself. Integers are little-endian but for the length
that frames a message of the quote service.
"""

from __future__ import annotations

import struct

from sgxkit.dcap.found_quote import Envelope, Layer
from sgxkit.dcap.quote_shape import is_quote
from sgxkit.errors import FormatError
from sgxkit.messages import msg

# version u64 | status u64 | in_len u32 | out_len u32, then out_len bytes
_BUFFER_HEADER = struct.Struct("<QQII")
# major u16 | minor u16 | type u32 | size u32 | error u32 | selected id size u32 | quote size u32, then both
_RESPONSE_HEADER = struct.Struct("<HHIIIII")
_FRAME = struct.Struct(">I")
_GET_QUOTE_RESPONSE = 1


def open_quote_buffer(content: bytes) -> tuple[Layer, ...]:
    """The buffer of TDG.VP.VMCALL<GetQuote>, version 1: the quote, or the quote service's answer with it.

    Returns () for what is none; raises FormatError where the status says that there is no quote.
    """
    if len(content) < _BUFFER_HEADER.size:
        return ()
    version, status, _, out_size = _BUFFER_HEADER.unpack_from(content)
    inner = content[_BUFFER_HEADER.size :]
    if version != 1 or not 0 < out_size <= len(inner):
        return ()
    inner = inner[:out_size]
    if not (is_quote(inner) or _is_response(inner) or _is_response(inner[_FRAME.size :])):
        return ()
    if status != 0:
        raise FormatError(
            "TDX quote buffer", msg("status {status}: there is no quote in it", status=hex(status)), offset=8
        )
    return (Layer("TDX quote buffer", inner, Envelope.TDX_QUOTE_BUFFER),)


def open_qgs_response(content: bytes) -> tuple[Layer, ...]:
    """A GET_QUOTE_RESP of the quote generation service, with or without its big-endian length in front.

    Returns () for what is none; raises FormatError for an error answer and for sizes that do not fit.
    """
    message, start = content, 0
    if len(content) > _FRAME.size and _is_response(content[_FRAME.size :]):
        (size,) = _FRAME.unpack_from(content)
        message, start = content[_FRAME.size :], _FRAME.size
        if size > len(message):
            raise FormatError(
                "QGS message", msg("{size} bytes announced, {left} left", size=size, left=len(message)), offset=0
            )
        message = message[:size]
    if not _is_response(message):
        return ()
    major, minor, _, _, error, id_size, quote_size = _RESPONSE_HEADER.unpack_from(message)
    if error != 0:
        raise FormatError(
            "QGS message", msg("error {error}: there is no quote in it", error=hex(error)), offset=start
        )
    begin = _RESPONSE_HEADER.size + id_size
    if begin + quote_size > len(message):
        raise FormatError(
            "QGS message",
            msg("{size} bytes announced, {left} left", size=quote_size, left=max(0, len(message) - begin)),
            offset=start + 20,
        )
    details = (("message version", f"{major}.{minor}"),)
    quote = message[begin : begin + quote_size]
    return (Layer("QGS message", quote, Envelope.QGS_RESPONSE, (), details),)


def _is_response(message: bytes) -> bool:
    """Whether this begins as a GET_QUOTE_RESP of version 1 does whose own size agrees with its parts."""
    if len(message) < _RESPONSE_HEADER.size:
        return False
    major, minor, kind, size, _, id_size, quote_size = _RESPONSE_HEADER.unpack_from(message)
    return bool(
        major == 1
        and minor <= 1
        and kind == _GET_QUOTE_RESPONSE
        and size == _RESPONSE_HEADER.size + id_size + quote_size
    )
