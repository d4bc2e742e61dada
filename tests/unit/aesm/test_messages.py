"""AESM's messages: round trips, Intel's field numbers, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgxkit.aesm import messages
from sgxkit.aesm.messages import (
    GetQuoteExRequest,
    GetQuoteExResponse,
    InitQuoteExRequest,
    Request,
    Response,
    SelectAttKeyIdRequest,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from sgxkit.aesm.wire import encode_fields
from sgxkit.errors import FormatError

U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, (1 << 64) - 1)
BYTES = st.binary(max_size=600)


def values(kind: type, name: str) -> st.SearchStrategy[object]:
    wanted, required = messages._TYPES[kind][name]
    wide = name == "pub_key_id_size" or (kind is InitQuoteExRequest and name == "buf_size")
    some: st.SearchStrategy[object]
    some = st.booleans() if wanted is bool else BYTES if wanted is bytes else U64 if wide else U32
    return some if required else st.none() | some


def any_of(kinds: tuple[type, ...]) -> st.SearchStrategy[object]:
    return st.one_of(
        [st.builds(kind, **{name: values(kind, name) for name in messages._TYPES[kind]}) for kind in kinds]
    )


@given(any_of(Request.__args__))
def test_requests_come_back(request_made: Request) -> None:
    assert decode_request(encode_request(request_made)) == request_made


@given(any_of(Response.__args__))
def test_responses_come_back(response: Response) -> None:
    assert decode_response(encode_response(response)) == response


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_format_error(data: bytes) -> None:
    for decode in (decode_request, decode_response):
        try:
            message = decode(data)
        except FormatError:
            continue
        assert message is not None


@given(any_of(Request.__args__), st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_request_is_a_request_or_a_format_error(made: Request, where: int, change: int) -> None:
    data = bytearray(encode_request(made))
    data[where % len(data)] ^= change
    try:
        changed = decode_request(bytes(data))
    except FormatError:
        return
    assert decode_request(encode_request(changed)) == changed


def test_the_numbers_are_those_of_messages_proto() -> None:
    assert encode_request(SelectAttKeyIdRequest(timeout=1)) == bytes.fromhex("9a01 02 1001")
    assert encode_request(InitQuoteExRequest(b_pub_key_id=True, att_key_id=b"k", buf_size=32, timeout=2)) == (
        bytes.fromhex("7a 09 0a016b 1801 2020 4802")
    )
    assert encode_request(GetQuoteExRequest(b"r", 9, b"k", b"i", 3)) == bytes.fromhex(
        "8a01 0d 0a0172 12016b 1a0169 2009 4803"
    )
    assert encode_response(GetQuoteExResponse(0, b"q", b"i")) == bytes.fromhex("8a01 08 0800 120171 1a0169")


@pytest.mark.parametrize("number", [1, 2, 3, 4, 10, 11, 12, 13, 14, 18, 20, 23])
def test_requests_of_older_daemons_are_not_served(number: int) -> None:
    with pytest.raises(FormatError, match=f"request {number} is not one"):
        decode_request(encode_fields({number: b""}))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 messages"),
        (encode_fields({19: b"", 21: b""}), "2 messages"),
        (encode_fields({19: 1}), "not a message"),
        (encode_fields({15: b""}), "b_pub_key_id: it is missing"),
        (encode_fields({15: encode_fields({3: 2})}), "between 0 and 1"),
        (encode_fields({17: encode_fields({1: 1, 4: 1})}), "not a byte string"),
        (encode_fields({17: encode_fields({1: b"", 4: 1 << 32})}), "between 0 and 4294967295"),
        (encode_fields({17: encode_fields({1: b"", 4: b""})}), "between 0 and"),
        (bytes(20_000), "longer than"),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        decode_request(data)


def test_fields_of_newer_clients_are_skipped() -> None:
    body = encode_fields({9: 5, 77: b"new"})
    assert decode_request(encode_fields({21: body})) == messages.GetSupportedAttKeyIdNumRequest(5)


def test_a_response_without_a_code_means_an_unexpected_error() -> None:
    answer = decode_response(encode_fields({17: b""}))
    assert isinstance(answer, GetQuoteExResponse)
    assert answer.error_code == 1


def test_an_unsupported_request_has_its_own_response() -> None:
    assert decode_response(encode_fields({20: encode_fields({1: 3})})) == 3
    assert decode_response(encode_fields({20: b""})) == 1
    with pytest.raises(FormatError, match="no number"):
        decode_response(encode_fields({20: encode_fields({1: b""})}))
