"""Quotes in JSON and in JSON Web Tokens: any string that is long enough may be one.

Azure Attestation REST API ("Attest Sgx Enclave", "Attest Open Enclave", "Attest Tdx Vm"): the request carries the
data that the enclave bound, as ``runtimeData`` or, in the API of 2018, ``EnclaveHeldData``. IAS API 6, "Attestation
Verification Report": ``isvEnclaveQuoteBody`` is an EPID quote without its signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sgxkit.dcap.encodings import decode_base64, trim
from sgxkit.dcap.found_quote import Bind, Bound, Envelope, Layer, binds_either, binds_hash, binds_sha256
from sgxkit.errors import FormatError
from sgxkit.messages import msg

MAX_DEPTH = 32
MIN_STRING = 576
"""Characters; the shortest form of a quote, 432 bytes of EPID, has as many in base64."""

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_OPENS = re.compile(r"[\[{]|[\]}]")
_JWT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
_AVR_DETAILS = ("isvEnclaveQuoteStatus", "timestamp", "version")


class _DuplicateKeyError(ValueError):
    """Two members of one name; which of them counts, readers do not agree."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _DuplicateKeyError
    return result


def _small_integer(literal: str) -> int | None:
    return int(literal) if len(literal) < 20 else None  # larger ones are of no interest here and slow to read


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_small_integer,
    parse_float=lambda _: None,
    parse_constant=lambda _: None,
)


def open_json(content: bytes) -> tuple[Layer, ...]:
    """The strings of a JSON object, array or string that are long enough for a quote; () for what is not JSON.

    Raises FormatError for JSON that has one key twice in one object or is nested deeper than 32.
    """
    bare = trim(content)
    if bare[:1] not in (b"{", b"[", b'"'):
        return ()
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        return ()
    if _too_deep(text):
        raise FormatError("JSON", msg("it is nested deeper than {limit}", limit=MAX_DEPTH))
    try:
        value = _decoder.decode(text)
    except _DuplicateKeyError as error:
        raise FormatError("JSON", msg("a key occurs twice in one object")) from error
    except ValueError:
        return ()
    return tuple(_layers(value, ""))


def _too_deep(text: str) -> bool:
    depth = 0
    for bracket in _OPENS.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _layers(value: object, path: str) -> Iterator[Layer]:
    if isinstance(value, dict):
        yield from _members(value, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _layers(item, f"{path}[{index}]")
    elif isinstance(value, str) and len(value) >= MIN_STRING:
        yield Layer(_named(path), _encoded(value), Envelope.JSON)


def _members(value: dict[str, Any], path: str) -> Iterator[Layer]:
    bind, bound_names = _azure_bindings(value)
    for name, item in value.items():
        below = f"{path}.{name[:80]}" if path else name[:80]
        if not isinstance(item, str):
            yield from _layers(item, below)
        elif name == "isvEnclaveQuoteBody":
            details = tuple((key, value[key]) for key in _AVR_DETAILS if isinstance(value.get(key), str | int))
            yield Layer(_named(below), _encoded(item), Envelope.IAS_REPORT, (), details)
        elif len(item) >= MIN_STRING and name not in bound_names:
            envelope = Envelope.AZURE_REQUEST if bind else Envelope.JSON
            yield Layer(_named(below), _encoded(item), envelope, bind)


def _azure_bindings(value: dict[str, Any]) -> tuple[tuple[Bind, ...], set[str]]:
    """What an attestation request says was bound, and under which names; Azure writes them in either case."""
    bind: list[Bind] = []
    names: set[str] = set()
    for name, item in value.items():
        match name.lower():
            case "enclavehelddata" if isinstance(item, str):
                bind.append(binds_sha256(Bound.ENCLAVE_HELD_DATA, name, _base64(item, name)))
            case "enclavehelddatahex" if isinstance(item, str):
                bind.append(binds_sha256(Bound.ENCLAVE_HELD_DATA, name, _hex(item, name)))
            case "runtimedata" if isinstance(item, str):
                bind.append(_binds_runtime_data(name, _base64(item, name)))
            case "runtimedata" if isinstance(item, dict) and isinstance(item.get("data"), str):
                bind.append(_binds_runtime_data(f"{name}.data", _base64(item["data"], f"{name}.data")))
            case _:
                continue
        names.add(name)
    return tuple(bind), names


def _binds_runtime_data(name: str, data: bytes) -> Bind:
    return binds_either(
        binds_sha256(Bound.RUNTIME_DATA, name, data), binds_hash(Bound.RUNTIME_DATA, name, data, "sha512")
    )


def _base64(text: str, name: str) -> bytes:
    decoded = decode_base64(_encoded(text))
    if decoded is None and text:
        raise FormatError(f"JSON {name}", msg("it is not base64"))
    return b"" if decoded is None else decoded[1]


def _hex(text: str, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FormatError(f"JSON {name}", msg("it is not hexadecimal")) from error


def _named(path: str) -> str:
    return f"JSON {path[-160:]}".rstrip()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def open_jwt(content: bytes) -> tuple[Layer, ...]:
    """The payload and the header of a JSON Web Token in compact form (RFC 7519); () for what is none."""
    found = _JWT.fullmatch(trim(content))
    if found is None:
        return ()
    header, payload = decode_base64(found[1]), decode_base64(found[2])
    if header is None or payload is None or header[1][:1] != b"{" or b'"alg"' not in header[1]:
        return ()
    return Layer("JWT payload", payload[1], Envelope.JWT), Layer("JWT header", header[1], Envelope.JWT)
