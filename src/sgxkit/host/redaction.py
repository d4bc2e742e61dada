"""Takes secrets out of logs and configuration files before they are given away.

Secrets are overwritten with as many asterisks, so that lines, columns and the offsets that error messages name stay
true. It goes by names (``ApiKey``, ``user_token``, ``http_proxy``'s user and password) and by shapes (private keys,
JSON Web Tokens, keys of well known services, long random text), and takes out too much rather than too little. What
no rule can know is a secret in plain words without a name: whoever gives a bundle away looks at it first.

Every repetition is bounded: the text may be anybody's.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_PEM = 32 * 1024
"""Characters that a private key has at most; a block that does not end before is taken out so far."""

# Names of secrets. “key” alone is a word of its own: monkey, keyboard and keyring are none.
_SECRET_WORD = (
    r"(?i:passw(?:or)?d|passwd|passphrase|pwd|secret|token|credential|authori[sz]ation|cookie|apikey|subscription"  # noqa: S105
    r"|(?<![a-z])auth(?![a-z]))"
)
_KEY_WORD = r"(?:(?<![A-Za-z])[kK]ey|Key|KEY)[sS]?(?![a-z])"
_BARE_NAME = rf"[\w.-]{{0,100}}?(?:{_SECRET_WORD}|{_KEY_WORD})[\w.-]{{0,60}}"
_NAME = rf"(?<![\w.-]){_BARE_NAME}"
# What every name of a secret holds. Only the lines around are looked at more closely.
_HINT = re.compile(
    r"passw|passphrase|pwd|secret|token|key|credential|auth|cookie|subscription|bearer|basic|digest", re.IGNORECASE
)
_LINES_AROUND = 4
_QUOTE = r"\\{0,3}[\"']?"
_BETWEEN = r"[ \t]{0,40}(?:=>|:=|[:=])[ \t]{0,40}"
_VALUE = (
    r"(?:\\{1,3}\"(?P<a>[^\"\n]{0,4000}?)\\{1,3}\""
    r"|\"(?P<b>(?:[^\"\\\n]|\\.){0,4000})\"?"
    r"|'(?P<c>[^'\n]{0,4000})'?"
    r"|(?P<d>[^\s\"'\[{][^\s\"']{0,4000}))"
)

_NAMED = re.compile(rf"(?P<name>{_NAME}){_QUOTE}{_BETWEEN}{_VALUE}")
_NAMED_ON_NEXT_LINE = re.compile(rf"\"(?P<name>{_NAME})\"[ \t]{{0,40}}:\s{{1,80}}{_VALUE}")
_NAMED_LINE = re.compile(
    rf"^(?P<before>[ \t]{{0,80}}(?:[#;/-]{{1,3}}[ \t]{{0,8}})?(?:export[ \t]{{1,8}})?(?P<name>{_NAME}){_BETWEEN})"
    r"(?P<rest>[^\s\"'\[{|>][^\n]{0,4000})$",
    re.MULTILINE,
)
_HEADER = re.compile(
    r"(?i:(?:proxy-)?authorization|set-cookie|cookie|x-[a-z-]{0,40}(?:token|key|auth)|ocp-apim-subscription-key|"
    r"(?:user|admin)-token)[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?(?P<a>[^\"'\n]{1,4000})"
)
_OPTION = re.compile(rf"(?<![\w-])(?P<name>--?{_BARE_NAME})(?:[ \t]{{1,8}}|=){_VALUE}")
_USER_OPTION = re.compile(r"(?<![\w-])(?:-u|-U|--user|--proxy-user)[ \t=]{1,8}(?P<a>[^\s:]{1,200}:[^\s]{1,400})")
_NAME_AND_VALUE = re.compile(
    rf"name{_QUOTE}[ \t]{{0,20}}[:=][ \t]{{0,20}}{_QUOTE}(?P<name>{_NAME}){_QUOTE},?\s{{0,80}}"
    rf"{_QUOTE}value{_QUOTE}[ \t]{{0,20}}[:=][ \t]{{0,20}}{_VALUE}"
)
_IN_WORDS = re.compile(
    r"(?i:passw(?:or)?d|passphrase|secret|token|api[ _-]?key)[ \t]{1,4}(?i:is|was|of|for)?[ \t]{0,4}"
    r"[\"'`](?P<a>[^\"'`\n]{1,400})[\"'`]"
)
_NETRC = re.compile(
    r"(?i:\blogin[ \t]{1,8}\S{1,200}[ \t]{1,8}|^[ \t]{0,40})(?i:password)[ \t]{1,8}(?P<a>\S{1,4000})[ \t]*$",
    re.MULTILINE,
)
_ELEMENT = re.compile(rf"<(?:[\w-]{{1,40}}:)?(?P<name>{_NAME})(?:[ \t][^<>\n]{{0,400}})?>(?P<a>[^<>\n]{{1,4000}})</")
_BEARER = re.compile(r"(?i:\bbearer|\bbasic|\bdigest)[ \t]{1,4}(?P<a>[A-Za-z0-9._~+/=-]{8,4000})")
_USER_INFORMATION = re.compile(r"://(?P<a>[^\s\"'<>]{1,400})@(?=[\w.\[-])")
_QUERY = re.compile(
    r"[?&;](?i:[\w.-]{0,40}(?:key|token|secret|passw|pwd|auth|sig|code|credential)[\w.-]{0,40})="
    r"(?P<a>[^&\s\"'#;]{1,4000})"
)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_])(?P<a>eyJ[\w-]{5,8000}\.[\w-]{5,8000}(?:\.[\w-]{0,8000})?"
    r"|(?:AKIA|ASIA|AGPA|AROA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{15,255}|xox[abeoprs]-[\w-]{10,255}"
    r"|sk-[\w-]{16,255}|AIza[\w-]{30,60}|npm_[A-Za-z0-9]{30,60}|pypi-[\w-]{30,400}|hv[sb]\.[\w-]{20,255}"
    r"|ya29\.[\w-]{20,400}|AGE-SECRET-KEY-1[0-9A-Z]{20,100}|dop_v1_[0-9a-f]{40,80}"
    r"|[a-z0-9]{6}\.[a-z0-9]{16})(?![A-Za-z0-9_])"
)
_HEXADECIMAL = re.compile(r"(?<![0-9A-Za-z_-])(?P<a>[0-9a-fA-F]{32})(?![0-9A-Za-z_-])")
_RANDOM = re.compile(r"(?<![\w+/=.@:-])(?P<a>[A-Za-z0-9][A-Za-z0-9+/_=-]{39,8000})")
_PUBLIC = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----[A-Za-z0-9+/=\s\\]{0,32768}-----END (?P=label)-----")
_PRIVATE_BEGIN = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|^Private-Lines: [0-9]+", re.MULTILINE
)
_PRIVATE_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|^Private-MAC: ", re.MULTILINE)
_BLOCK = re.compile(
    rf"(?P<indent>[ \t]{{0,80}}(?:-[ \t]{{1,8}})?)[\"']?(?P<name>{_NAME})[\"']?[ \t]{{0,20}}:[ \t]{{0,20}}"
    r"[|>][-+0-9]{0,3}[ \t]*$"
)
_MULTILINE_STRING = re.compile(
    rf"(?P<name>{_NAME})[\"']?[ \t]{{0,20}}=[ \t]{{0,20}}(?P<q>\"\"\"|''')(?P<a>(?s:.){{0,20000}}?)(?P=q)"
)
_LIST = re.compile(rf"(?P<name>{_NAME})[\"']?{_BETWEEN}\[(?P<a>[^\]\[]{{1,4000}})\]")
_KUBERNETES_SECRET = re.compile(r"[\"']?\bkind[\"']?[ \t]{0,8}:\s{0,8}[\"']?Secret(?:List)?\b")
_SECRET_DATA_JSON = re.compile(r"[\"'](?:data|stringData)[\"']\s{0,8}:\s{0,8}\{[^{}]{0,20000}\}")
_SECRET_DATA_YAML = re.compile(r"(?P<indent>[ \t]{0,80})(?:data|stringData)[ \t]{0,8}:[ \t]{0,8}$")
_JSON_VALUE = re.compile(r":\s{0,8}\"(?P<a>(?:[^\"\\]|\\.){0,200000})\"")
_YAML_VALUE = re.compile(r"^[ \t]{1,80}[\w.\"'-]{1,200}[ \t]{0,8}:[ \t]{0,8}(?P<a>[^\s|>{][^\n]{0,200000})$")

# A name that says “key” and a value that is a place, a number or a word of choice: settings, not secrets.
_HARMLESS_OF_KEY = re.compile(r"[~.]{0,2}/[\w./@%+-]*|[0-9]{1,6}|(?i:true|false|yes|no|none|null)|\$\{?\w+\}?")
_HARMLESS = re.compile(r"(?i:true|false|none|null|nil)?|\*+|\$\{?\w+\}?|<[\w -]+>")


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets, and how many were taken out, by the kind of rule that found them."""

    text: str
    found: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many secrets were taken out."""
        return sum(self.found.values())


def redact(text: str, *, shapes: bool = True) -> Redacted:
    """Take the secrets out of a text; the result has the same length and the same line ends.

    `shapes` also takes out bare text that only looks random, such as 32 hexadecimal digits (the form of Intel's
    API keys). Doing it again changes nothing.
    """
    editor = _Editor(text)
    editor.spans("private key", _private_keys)
    editor.spans("named", _kubernetes_secrets)
    editor.spans("named", _blocks)
    if '"""' in text or "'''" in text:
        editor.named(_MULTILINE_STRING, [(0, len(text))])
    places = list(_hinted(text))  # every step keeps the text's length, so that these stay true
    for pattern in (_LIST, _ELEMENT, _NAME_AND_VALUE, _NAMED_LINE, _NAMED_ON_NEXT_LINE, _OPTION, _NAMED):
        editor.named(pattern, places)
    editor.plain("header", _HEADER, places)
    editor.plain("header", _BEARER, places)
    editor.plain("in words", _IN_WORDS, places)
    editor.plain("in words", _NETRC, places)
    everywhere = [(0, len(text))]
    editor.plain("named", _USER_OPTION, everywhere)
    editor.plain("address", _USER_INFORMATION, everywhere)
    editor.plain("address", _QUERY, everywhere)
    editor.plain("token", _SHAPES, everywhere)
    if shapes:
        editor.plain("random", _HEXADECIMAL, everywhere, _is_no_request_number)
        editor.plain("random", _RANDOM, everywhere, _looks_random, outside=_PUBLIC)
    return Redacted(editor.text, dict(editor.found))


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds a secret."""
    return re.fullmatch(_NAME, name) is not None


def redact_values(value: object) -> object:
    """Take the secrets out of the texts of a JSON value; a value beside a name that is a secret's goes as a whole."""
    if isinstance(value, str):
        return redact(value, shapes=False).text
    if isinstance(value, list):
        return [redact_values(item) for item in value]
    if isinstance(value, dict):
        result = {name: redact_values(item) for name, item in value.items()}
        name, content = value.get("name"), value.get("value")
        if (
            isinstance(name, str)
            and isinstance(content, str)
            and is_secret_name(name)
            and not _harmless(name, content)
        ):
            result["value"] = "*" * len(content)
        return result
    return value


class _Editor:
    """A text in the making: finds spans and overwrites them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: Counter[str] = Counter()

    def named(self, pattern: re.Pattern[str], places: Sequence[tuple[int, int]]) -> None:
        """Overwrite the value of each match in these places unless it is plainly none."""

        def secrets(text: str) -> Iterator[tuple[int, int]]:
            for match in _matches(pattern, text, places):
                for group in ("a", "b", "c", "d", "rest"):
                    value = match.groupdict().get(group)
                    if value and not _harmless(match.groupdict().get("name") or "", value.strip(" \t,;\"'")):
                        yield match.span(group)

        self.spans("named", secrets)

    def plain(
        self,
        kind: str,
        pattern: re.Pattern[str],
        places: Sequence[tuple[int, int]],
        wanted: Callable[[re.Match[str]], bool] = lambda _match: True,
        outside: re.Pattern[str] | None = None,
    ) -> None:
        """Overwrite group ``a`` of each match in these places that is wanted, outside of what `outside` finds."""

        def secrets(text: str) -> Iterator[tuple[int, int]]:
            spared = [] if outside is None else [match.span() for match in outside.finditer(text)]
            begins = [first for first, _ in spared]
            for match in _matches(pattern, text, places):
                start, end = match.span("a")
                before = bisect_right(begins, start)
                if wanted(match) and not (before and start < spared[before - 1][1]):
                    yield start, end

        self.spans(kind, secrets)

    def spans(self, kind: str, secrets: Callable[[str], Iterator[tuple[int, int]]]) -> None:
        """Overwrite what `secrets` yields; what is overwritten already is not counted again."""
        parts, position = [], 0
        for start, end in secrets(self.text):
            begin = max(start, position)
            if begin >= end:
                continue
            secret = self.text[begin:end]
            covered = re.sub(r"[^\r\n]", "*", secret)
            parts += [self.text[position:begin], covered]
            position = end
            self.found[kind] += covered != secret
        self.text = "".join((*parts, self.text[position:]))
        self.found += Counter()  # drops zeros


def _hinted(text: str) -> Iterator[tuple[int, int]]:
    """The places where a secret may have a name: the line of each hint and a few after it, joined where they meet."""
    begin = end = line_end = 0
    for hint in _HINT.finditer(text):
        if hint.start() < line_end:
            continue  # on the line of the hint before it
        start = text.rfind("\n", 0, hint.start()) + 1
        if start > end:
            if end:
                yield begin, end
            begin = start
        end = line_end = _next_line(text, hint.end())
        for _ in range(_LINES_AROUND - 1):
            end = _next_line(text, end)
    if end:
        yield begin, end


def _next_line(text: str, position: int) -> int:
    return text.find("\n", position) + 1 or len(text)


def _matches(pattern: re.Pattern[str], text: str, places: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    for begin, end in places:
        yield from pattern.finditer(text, begin, end)


def _harmless(name: str, value: str) -> bool:
    if _HARMLESS.fullmatch(value):
        return True
    return re.search(_SECRET_WORD, name) is None and _HARMLESS_OF_KEY.fullmatch(value) is not None


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    """The bodies of private keys: whole ones, and what is left of one whose begin or end is cut off."""
    if "PRIVATE KEY" not in text and "Private-" not in text:
        return
    reached = 0
    for mark in sorted(
        (*_PRIVATE_BEGIN.finditer(text), *_PRIVATE_END.finditer(text)), key=lambda match: match.start()
    ):
        if mark.start() < reached:
            continue
        if mark.re is _PRIVATE_BEGIN:
            end = _PRIVATE_END.search(text, mark.end(), mark.end() + MAX_PEM)
            reached = end.end() if end else min(len(text), mark.end() + MAX_PEM)
            yield mark.end(), end.start() if end else reached
        else:
            start = mark.start()
            while start > max(reached, mark.start() - MAX_PEM) and (
                text[start - 1].isalnum() or text[start - 1] in "+/=\r\n \\"
            ):
                start -= 1
            yield start, mark.start()
            reached = mark.end()


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """The lines of YAML block texts under the name of a secret."""
    position, depth = 0, -1
    for line in text.splitlines(keepends=True):
        content = line.strip()
        indent = len(line) - len(line.lstrip(" \t"))
        if depth >= 0 and content and indent <= depth:
            depth = -1
        if depth >= 0 and content:
            yield position + indent, position + len(line)
        elif (
            depth < 0
            and content[-3:].strip("+-0123456789")[-1:] in ("|", ">")
            and (block := _BLOCK.match(line.rstrip()))
        ):
            depth = len(block["indent"].rstrip("- \t")) if "-" in block["indent"] else len(block["indent"])
        position += len(line)


def _kubernetes_secrets(text: str) -> Iterator[tuple[int, int]]:
    """The values of Kubernetes' Secret objects, whatever their names are."""
    if not _KUBERNETES_SECRET.search(text):
        return
    for data in _SECRET_DATA_JSON.finditer(text):
        for value in _JSON_VALUE.finditer(text, *data.span()):
            yield value.span("a")
    position, depth = 0, -1
    for line in text.splitlines(keepends=True):
        content = line.strip()
        indent = len(line) - len(line.lstrip(" \t"))
        if depth >= 0 and content and indent <= depth:
            depth = -1
        if depth >= 0 and content:
            if pair := _YAML_VALUE.match(line.rstrip("\r\n")):
                yield position + pair.start("a"), position + pair.end("a")
            elif not content.endswith((":", "|", ">", "|-", ">-")):
                yield position + indent, position + len(line)
        elif depth < 0 and (data_line := _SECRET_DATA_YAML.match(line.rstrip("\r\n"))):
            depth = len(data_line["indent"])
        position += len(line)


def _is_no_request_number(match: re.Match[str]) -> bool:
    """Intel's support asks for the numbers of requests, which have the form of its API keys."""
    return "request-id" not in match.string[max(0, match.start() - 24) : match.start()].lower()


def _looks_random(match: re.Match[str]) -> bool:
    text = match["a"]
    kinds = (str.isupper, str.islower, str.isdigit)
    return all(any(kind(character) for character in text) for kind in kinds)
