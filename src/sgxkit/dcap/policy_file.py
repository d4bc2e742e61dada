"""Policies as TOML files and as single settings.

The keys of a file are the fields of `Policy`, plus ``trust_anchor`` and ``reportdata_file``; docs/verification.md
lists them. A key that is not known is an error: a rule that is misspelt must not be a rule that is not asked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from sgxkit.dcap.pck import SgxType
from sgxkit.dcap.policy import Policy
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.dcap.trust import INTEL_SGX_ROOT_CA, TrustAnchor, anchor_from_pem
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import Message, msg

MAX_POLICY_SIZE = 64 << 10
MAX_TRUSTED_ROOT_SIZE = 64 << 10
_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})*)")
_DURATION = re.compile(r"(\d{1,6})([dh])")
_U64 = 2**64 - 1


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What a policy file says: the rules, and the root they are judged under."""

    policy: Policy
    trust_anchor: TrustAnchor


def read_policy_file(path: Path) -> PolicyFile:
    """Read a TOML policy; paths in it are relative to its folder.

    Raises InputError where a file cannot be read, FormatError naming the key that is wrong.
    """
    data = _read(path, MAX_POLICY_SIZE)
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError and UnicodeDecodeError are ValueErrors, and so is what int() says of thousands of digits.
        raise FormatError(str(path), msg("not TOML: {error}", error=error)) from error
    if not document:
        # Cut short or never written: who names a policy means to ask for something.
        raise FormatError(str(path), msg("no rule in it"))
    return policy_from_settings(document, folder=path.parent)


def policy_from_settings(
    settings: Mapping[str, Any], *, folder: Path = Path(), base: PolicyFile | None = None
) -> PolicyFile:
    """Make a policy of settings by name, each replacing what `base` (the strict default if None) says of it.

    Raises InputError and FormatError as `read_policy_file`.
    """
    base = base or PolicyFile(Policy(), INTEL_SGX_ROOT_CA)
    anchor = base.trust_anchor
    if {"reportdata", "reportdata_file"} <= settings.keys():
        raise InputError(msg("{first} and {second} exclude each other", first="reportdata", second="reportdata_file"))
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "trust_anchor":
            anchor = INTEL_SGX_ROOT_CA if value == "intel" else read_trust_anchor(folder / _text(name, value))
        elif name == "reportdata_file":
            changes["reportdata"] = reportdata_of_file(folder / _text(name, value))
        elif name in _READERS:
            changes[name] = _READERS[name](name, value)
        else:
            raise FormatError(name, msg("not a key of a policy"), hint=_did_you_mean(name))
    return PolicyFile(replace(base.policy, **changes), anchor)


def read_trust_anchor(path: Path) -> TrustAnchor:
    """Read the PEM certificate of a root CA to trust; raises InputError or FormatError."""
    return anchor_from_pem(_read(path, MAX_TRUSTED_ROOT_SIZE).decode("utf-8", "replace"), str(path))


def reportdata_of_file(path: Path) -> bytes:
    """Return the REPORTDATA that stands for a file: its SHA-256, then 32 zero bytes; raises InputError."""
    hasher = sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
    except OSError as error:
        raise _unreadable(path, error) from error
    return hasher.digest() + bytes(32)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > limit:
        raise FormatError(str(path), msg("{size} bytes, at most {limit} are read", size=f"> {limit}", limit=limit))
    return data


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(msg("{path} cannot be read: {reason}", path=path, reason=error.strerror or error))


def _wrong(name: str, problem: Message) -> FormatError:
    return FormatError(name, problem)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, msg("must be a string"))
    return value


def _texts(name: str, value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise _wrong(name, msg("must be a list of strings"))
    return list(values)


def _bytes(name: str, value: Any) -> bytes:
    found = _HEX.fullmatch(_text(name, value))
    if found is None:
        raise _wrong(name, msg("must be hexadecimal"))
    return bytes.fromhex(found[1])


def _byte_strings(name: str, value: Any) -> frozenset[bytes]:
    return frozenset(_bytes(name, one) for one in _texts(name, value))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, msg("must be true or false"))
    return value


def _number(limit: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise _wrong(name, msg("must be an integer from 0 to {limit}", limit=limit))
        return value

    return read


def _statuses(name: str, value: Any) -> frozenset[TcbStatus]:
    by_name = {status.value.lower(): status for status in TcbStatus}
    texts = _texts(name, value)
    for text in texts:
        if text.lower() not in by_name:
            raise FormatError(
                name,
                msg("{text} is not a TCB status", text=text),
                hint=msg("one of: {names}", names=", ".join(status.value for status in TcbStatus)),
            )
    return frozenset(by_name[text.lower()] for text in texts)


def _advisories(name: str, value: Any) -> frozenset[str]:
    return frozenset(_texts(name, value))


def _sgx_types(name: str, value: Any) -> frozenset[SgxType]:
    by_name = {kind.name.lower(): kind for kind in SgxType}
    texts = [text.lower().replace(" ", "_") for text in _texts(name, value)]
    if not set(texts) <= by_name.keys():
        raise FormatError(name, msg("not an SGX type"), hint=msg("one of: {names}", names=", ".join(sorted(by_name))))
    return frozenset(by_name[text] for text in texts)


def _duration(name: str, value: Any) -> timedelta:
    found = _DURATION.fullmatch(_text(name, value))
    if found is None:
        raise _wrong(name, msg('must be a number of days or hours, as "30d" or "12h"'))
    return timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))


def _reportdata(name: str, value: Any) -> bytes:
    data = _bytes(name, value)
    if not data:
        raise _wrong(name, msg("it is empty"))
    if len(data) > 64:
        raise _wrong(name, msg("{size} bytes, at most {limit} are read", size=len(data), limit=64))
    return data.ljust(64, b"\0")


def _masked_word(name: str, value: Any) -> tuple[int, int]:
    word, slash, mask = _text(name, value).partition("/")
    try:
        numbers = int(word, 16), int(mask, 16) if slash else _U64
    except ValueError:
        numbers = -1, -1
    if not all(0 <= number <= _U64 for number in numbers):
        raise _wrong(name, msg('must be a hexadecimal word, with a mask if only some bits count, as "0x0/0xff"'))
    return numbers


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "accepted_statuses": _statuses,
    "accepted_advisories": _advisories,
    "minimum_tcb_evaluation_data_number": _number(2**32 - 1),
    "platform_grace_period": _duration,
    "collateral_grace_period": _duration,
    "allow_debug": _flag,
    "reportdata": _reportdata,
    "sgx_types": _sgx_types,
    "platform_instance_ids": _byte_strings,
    "dynamic_platform": _flag,
    "cached_keys": _flag,
    "smt_enabled": _flag,
    "mrenclave": _byte_strings,
    "mrsigner": _byte_strings,
    "isvprodid": _number(0xFFFF),
    "minimum_isvsvn": _number(0xFFFF),
    "mrtd": _byte_strings,
    "mrseam": _byte_strings,
    "rtmr0": _byte_strings,
    "rtmr1": _byte_strings,
    "rtmr2": _byte_strings,
    "rtmr3": _byte_strings,
    "tdattributes": _masked_word,
    "mrservicetd": _byte_strings,
    "require_sept_ve_disable": _flag,
}

POLICY_KEYS = (*(field.name for field in fields(Policy) if field.init), "reportdata_file", "trust_anchor")
"""Every key that a policy file may have."""


def _did_you_mean(name: str) -> Message:
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    close = get_close_matches(name, POLICY_KEYS, n=1)
    if close:
        return msg("did you mean {name}?", name=close[0])
    return msg("one of: {names}", names=", ".join(POLICY_KEYS))
