"""Lint of the quote provider's configuration (/etc/sgx_default_qcnl.conf), reading it as Intel's library does.

Intel's QCNL parses the file with RapidJSON and its comments flag: `//` and `/* */` are allowed, trailing commas are
not, of a repeated key the first counts, and a value of the wrong type is silently ignored. When that fails in any
way it reads the file again line by line as the older `KEY=value` format, which finds nothing in a JSON file, and
goes on with its built-in defaults. Source: intel/confidential-computing.tee.dcap, QuoteGeneration/qcnl
(`qcnl_config.cpp`, `linux/qcnl_config_impl.cpp`, `inc/qcnl_config.h`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from sgxkit.host import rapidjson
from sgxkit.messages import Message, msg

DEFAULT_URL = "https://localhost:8081/sgx/certification/v4/"
LONGEST_CACHE_HOURS = 2160
INTEL_PCS = "api.trustedservices.intel.com"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings that the library works with after reading a file, its defaults included."""

    pccs_url: str = DEFAULT_URL
    use_secure_cert: bool = True
    collateral_service: str = DEFAULT_URL
    local_pck_url: str = ""
    local_cache_only: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the file says and the library does not do, or does differently."""

    severity: Literal["error", "warning"]
    code: str
    message: Message


@dataclass(frozen=True, slots=True)
class Report:
    """What the library makes of a file."""

    format: Literal["json", "legacy"]
    config: Config
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps quotes from being made as the file wants it."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def lint(text: str) -> Report:
    """Read a configuration as the library does and say where the two readings differ."""
    data = text.encode("utf-8", "surrogateescape" if _escaped(text) else "surrogatepass")
    try:
        document = rapidjson.parse(data)
    except rapidjson.ParseError as error:
        if data.startswith(b"{"):
            return _without_effect(_syntax_error(error))
        return _lint_legacy(data)
    if not isinstance(document, rapidjson.Object):
        return _without_effect(
            Finding("error", "not-object", msg("the file holds one JSON value, but not an object with settings"))
        )
    findings = tuple(_lint_members(document))
    if any(finding.code == "tcb-update-type" for finding in findings):
        return replace(_without_effect(), findings=findings)
    config = _effective(document)
    return Report("json", config, (*findings, *_lint_effect(config, given="pccs_url" in document.first)))


def _escaped(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text) and not any(
        "\ud800" <= character < "\udc80" or "\udcff" < character <= "\udfff" for character in text
    )


def _syntax_error(error: rapidjson.ParseError) -> Finding:
    return Finding(
        "error",
        "json-syntax",
        msg(
            "line {line}, column {column} (offset {offset}): {problem}; the library ignores the whole file",
            line=error.line,
            column=error.column,
            offset=error.offset,
            problem=error.problem,
        ),
    )


def _without_effect(*findings: Finding) -> Report:
    return Report("json", Config(), findings)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_int(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, rapidjson.Object)


_TEXT = (_is_text, msg("a string"))
_BOOL = (_is_bool, msg("true or false"))
_INT = (_is_int, msg("a whole number of 32 bits"))
_NUMBER = (_is_number, msg("a number"))
_TYPES: Mapping[str, tuple[Callable[[object], bool], Message]] = {
    "pccs_url": _TEXT,
    "use_secure_cert": _BOOL,
    "collateral_service": _TEXT,
    "tcb_update_type": _TEXT,
    "pccs_api_version": _TEXT,
    "retry_times": _INT,
    "retry_delay": _INT,
    "local_pck_url": _TEXT,
    "pck_cache_expire_hours": _NUMBER,
    "verify_collateral_cache_expire_hours": _NUMBER,
    "local_cache_only": _BOOL,
    "custom_request_options": (_is_object, msg("an object")),
}


def _lint_members(document: rapidjson.Object) -> Iterator[Finding]:
    seen: set[str] = set()
    for key, value in document.members:
        if key in seen:
            yield Finding("warning", "duplicate-key", msg("{key} is given twice; the first one counts", key=key))
            continue
        seen.add(key)
        if key not in _TYPES:
            yield _unknown_key(key, key.lower() if key.lower() in _TYPES else None)
            continue
        fits, wanted = _TYPES[key]
        if not fits(value):
            yield Finding(
                "warning",
                "wrong-type",
                msg(
                    "{key} must be {wanted}, but is {value}; the library ignores it without a word",
                    key=key,
                    wanted=wanted,
                    value=_as_written(value),
                ),
            )
        elif key == "tcb_update_type" and str(value).lower() not in ("standard", "early"):
            yield Finding(
                "error",
                "tcb-update-type",
                msg(
                    'tcb_update_type must be "standard" or "early", not {value}; the library ignores the whole file',
                    value=_as_written(value),
                ),
            )
        elif key.endswith("_expire_hours") and value > LONGEST_CACHE_HOURS:
            yield Finding(
                "warning",
                "cache-capped",
                msg(
                    "{key} is more than {limit} hours; the library takes {limit}", key=key, limit=LONGEST_CACHE_HOURS
                ),
            )


def _unknown_key(key: str, meant: str | None) -> Finding:
    if meant is None:
        return Finding("warning", "unknown-key", msg("{key} is not a setting; it is ignored", key=key))
    return Finding(
        "warning", "unknown-key", msg("{key} is ignored: it must be written {meant}", key=key, meant=meant)
    )


def _as_written(value: Any) -> str:
    if isinstance(value, rapidjson.Object):
        return "{...}"
    if isinstance(value, list):
        return "[...]"
    if isinstance(value, str):
        return f'"{value}"'
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _effective(document: rapidjson.Object) -> Config:
    def of(key: str, default: Any) -> Any:
        value = document.first.get(key, default)
        return value if _TYPES[key][0](value) else default

    url = of("pccs_url", DEFAULT_URL)
    return Config(
        pccs_url=url,
        use_secure_cert=of("use_secure_cert", True),
        collateral_service=of("collateral_service", url),
        local_pck_url=of("local_pck_url", ""),
        local_cache_only=of("local_cache_only", False),
    )


def _lint_effect(config: Config, *, given: bool) -> Iterator[Finding]:
    """Say what the settings lead to, whichever format they came from."""
    if not given and not config.local_cache_only:
        yield Finding(
            "warning", "no-pccs-url", msg("pccs_url is not set; the library asks {url}", url=config.pccs_url)
        )
    urls = {"pccs_url": config.pccs_url}
    if config.collateral_service != config.pccs_url:
        urls["collateral_service"] = config.collateral_service
    if config.local_pck_url:
        urls["local_pck_url"] = config.local_pck_url
    for key, url in urls.items():
        yield from _lint_url(key, url)
    if not config.use_secure_cert and _host(config.pccs_url) == INTEL_PCS:
        yield Finding(
            "warning",
            "insecure-pcs",
            msg("use_secure_cert is false although pccs_url is Intel's own service: nobody would notice an impostor"),
        )


def _lint_url(key: str, url: str) -> Iterator[Finding]:
    if _host(url) is None:
        yield Finding(
            "error", "bad-url", msg("{key} is not an http or https address: {url}", key=key, url=_as_written(url))
        )
    elif not url.endswith("/"):
        yield Finding(
            "error",
            "no-trailing-slash",
            msg(
                "{key} must end with a slash, because the library appends the request to it as it stands: {url}",
                key=key,
                url=url,
            ),
        )


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        return None


_LEGACY_KEYS = frozenset(
    {
        "PCCS_URL",
        "USE_SECURE_CERT",
        "COLLATERAL_SERVICE",
        "PCCS_API_VERSION",
        "RETRY_TIMES",
        "RETRY_DELAY",
        "LOCAL_PCK_URL",
        "PCK_CACHE_EXPIRE_HOURS",
        "VERIFY_COLLATERAL_CACHE_EXPIRE_HOURS",
        "LOCAL_CACHE_ONLY",
    }
)
_LEGACY_NUMBERS = frozenset(key for key in _LEGACY_KEYS if key.startswith("RETRY_") or key.endswith("_HOURS"))


def _lint_legacy(data: bytes) -> Report:
    """Read `KEY=value` lines: all blanks are dropped, `#` begins a comment line, other lines are passed over."""
    findings: list[Finding] = []
    settings: dict[str, str] = {}
    for number, raw in enumerate(data.split(b"\n"), 1):
        line = re.sub(rb"[ \t\n\v\f\r]", b"", raw).decode("utf-8", "replace")
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or key not in _LEGACY_KEYS:
            findings.append(
                Finding(
                    "warning", "unknown-line", msg("line {line} is not a setting; it is passed over", line=number)
                )
            )
        elif key in _LEGACY_NUMBERS and (problem := _legacy_number(key, value)) is not None:
            findings.append(problem)
        else:
            settings[key] = value
    if not settings:
        findings.insert(
            0,
            Finding(
                "error",
                "no-settings",
                msg("the file is neither JSON nor KEY=value lines; the library works with its defaults"),
            ),
        )
        return Report("legacy", Config(), tuple(findings))
    findings.insert(
        0,
        Finding(
            "warning", "legacy-format", msg("the file is in the old KEY=value format, which lacks newer settings")
        ),
    )
    url = settings.get("PCCS_URL", DEFAULT_URL)
    config = Config(
        pccs_url=url,
        use_secure_cert=settings.get("USE_SECURE_CERT") not in ("FALSE", "false"),
        collateral_service=settings.get("COLLATERAL_SERVICE", url),
        local_pck_url=settings.get("LOCAL_PCK_URL", ""),
        local_cache_only=settings.get("LOCAL_CACHE_ONLY") in ("TRUE", "true"),
    )
    findings.extend(_lint_effect(config, given="PCCS_URL" in settings))
    return Report("legacy", config, tuple(findings))


def _legacy_number(key: str, value: str) -> Finding | None:
    digits = re.match(r"[+-]?[0-9]+", value)
    if digits is None:
        return Finding(
            "warning",
            "wrong-type",
            msg(
                "{key} must be {wanted}, but is {value}; the library ignores it without a word",
                key=key,
                wanted=_INT[1],
                value=value,
            ),
        )
    # More digits than any 32-bit number has; int() refuses very long ones.
    if len(digits[0]) > 11 or not _is_int(int(digits[0])):
        return Finding(
            "error",
            "number-too-big",
            msg("{key} does not fit 32 bits, which ends the program that loads the library", key=key),
        )
    return None
