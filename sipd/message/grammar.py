"""The pieces of RFC 3261 section 25 that several headers share: tokens, quoted strings, parameters, lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address

from sipd.message.errors import BadMessage

TOKEN_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"  # noqa: S105 - a grammar rule
QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
# Wider than `gen-value`: base64, URNs and addresses are seen without quotes; structure characters are not allowed.
PLAIN = r'[^\x00-\x20\x7f;,"<>\\]'
# Looser than `hostname`: names with underscores and labels that begin with a hyphen do exist.
HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*\.?"

is_token = re.compile(TOKEN).fullmatch
match_quoted = re.compile(QUOTED, re.DOTALL).match
_is_plain = re.compile(PLAIN + "+").fullmatch
_match_param = re.compile(rf"[ \t]*;[ \t]*({TOKEN})(?:[ \t]*=[ \t]*({QUOTED}|{PLAIN}*))?", re.DOTALL).match
_list_marks = re.compile(rf"{QUOTED}|<[^>]*>|[,\"<]", re.DOTALL)
_controls = dict.fromkeys([*range(32), 127]) | {9: " "}
_escape = re.compile(r"\\(.)", re.DOTALL).sub


def unquote(text: str) -> str:
    """Content of a quoted string, escapes resolved. Control characters (legal when escaped) are dropped."""
    inner = text[1:-1]
    if "\\" in inner:
        inner = _escape(r"\1", inner)
    return inner if inner.isprintable() else inner.translate(_controls)


def quote(text: str) -> str:
    """A quoted string (RFC 3261 25.1)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_params(text: str, pos: int = 0) -> dict[str, str | None]:
    """`;name;name=value` up to the end of `text`; names lower-case, quoted values unquoted (RFC 3261 25.1).

    A name that is repeated with another value is refused: two readers could each believe another one (7.3.1).
    """
    params: dict[str, str | None] = {}
    size = len(text)
    while pos < size:
        found = _match_param(text, pos)
        if found is None:
            if text[pos:].strip(" \t"):
                raise BadMessage(400, "Malformed Header Parameter")
            break
        name, value = found.groups()
        if value is not None and value[:1] == '"':
            value = unquote(value)
        name = name.lower()
        if name in params and params[name] != value:
            raise BadMessage(400, "Conflicting Header Parameters")
        params[name] = value
        pos = found.end()
    return params


def format_params(params: Mapping[str, str | None]) -> str:
    """The other way round; values that need quotes get them."""
    if not params:
        return ""
    return "".join(
        f";{name}" if value is None else f";{name}={value if _is_plain(value) else quote(value)}"
        for name, value in params.items()
    )


def bracketed(host: str) -> str:
    """An IPv6 address as it stands in a URI or Via."""
    return f"[{host}]" if ":" in host else host


def unbracketed(host: str) -> str:
    """What HOST has matched: an IPv6 reference without its brackets, if it is one (RFC 3986 3.2.2, RFC 5118 4.10)."""
    if host[0] != "[":
        return host
    try:
        IPv6Address(host[1:-1])
    except ValueError:
        raise BadMessage(400, "Malformed IPv6 Address") from None
    return host[1:-1]


def split_list(text: str) -> list[str]:
    """Elements between commas that are not inside quotes or angle brackets (RFC 3261 7.3.1); empty ones included."""
    if "," not in text:
        return [text.strip(" \t")]
    if '"' not in text and "<" not in text:
        return [part.strip(" \t") for part in text.split(",")]
    parts, start = [], 0
    for mark in _list_marks.finditer(text):
        if mark.end() - mark.start() > 1:
            continue
        if mark.group() != ",":
            raise BadMessage(400, "Unbalanced Quotes Or Brackets")
        parts.append(text[start : mark.start()].strip(" \t"))
        start = mark.end()
    parts.append(text[start:].strip(" \t"))
    return parts


def number(text: str, limit: int, what: str) -> int:
    """Digits only, up to and including `limit`."""
    digits = text.lstrip("0") or text[-1:]
    if len(digits) > 10 or not (digits.isascii() and digits.isdigit()) or int(digits) > limit:
        raise BadMessage(400, f"Invalid {what}")
    return int(digits)
