"""SIP and SIPS URIs (RFC 3261 19.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from sipd.message.errors import BadMessage, LocalError
from sipd.message.grammar import HOST, unbracketed

USER_SAFE = "-_.!~*'()&=+$,;?/"
PASSWORD_SAFE = "-_.!~*'()&=+$,"  # noqa: S105 - characters, not a password
PARAM_SAFE = "-_.!~*'()[]/:&+$"
REMEMBERED = 4096
"""Parsed values that are kept for their text."""
LONGEST_REMEMBERED = 256
"""Characters; longer texts are parsed each time, so that the memory has a bound."""
NO_PARAMS: Final[Mapping[str, str | None]] = MappingProxyType({})

# `#` is not in the grammar, but phones do send it bare in feature codes.
_match_sip = re.compile(
    r"(sips?):"
    r"(?:([A-Za-z0-9\-_.!~*'()%&=+$,;?/#]+)(?::([A-Za-z0-9\-_.!~*'()%&=+$,]*))?@)?"
    rf"({HOST})(?::([0-9]{{1,5}}))?"
    r"((?:;[A-Za-z0-9\-_.!~*'()%\[\]/:&+$=]+)*)"
    r"(?:\?([!#-;=?-~]*))?\Z",
    re.IGNORECASE,
).match
_match_other = re.compile(r"([A-Za-z][A-Za-z0-9+\-.]*):([!#-;=?-~]*)\Z").match
_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_is_number = re.compile(r"\+?[0-9*#().\-]+").fullmatch
_SEPARATORS: Final = dict.fromkeys(map(ord, "-.()"))
_is_domain = re.compile(r"[a-z0-9.\-]*[a-z][a-z0-9.\-]*").fullmatch
_is_host = re.compile(r"[A-Za-z0-9_.\-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*").fullmatch

# RFC 3261 19.1.4: these never match a URI that has none; the last three because they choose another destination.
_SIGNIFICANT = ("user", "ttl", "method", "maddr", "transport")


class Uri(NamedTuple):
    """Immutable: `_replace` makes another."""

    scheme: str
    """Lower-case. Other than sip and sips: everything else is empty but `opaque`."""
    user: str | None
    """Unescaped."""
    password: str | None
    host: str
    """Lower-case, IPv6 without brackets."""
    port: int | None
    params: Mapping[str, str | None]
    """Unescaped, names lower-case. Read-only: parsed URIs are shared."""
    headers: str = ""
    """As received, without the question mark. Never honoured in a Request-URI."""
    opaque: str = ""
    """What follows the colon of a scheme that is not ours."""

    @classmethod
    def parse(cls, text: str) -> Uri:
        return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _parse(text)

    @classmethod
    def build(
        cls, user: str | None, host: str, port: int | None = None, params: Mapping[str, str | None] | None = None
    ) -> Uri:
        """A sip URI of our own making; `user` is given unescaped."""
        if not _is_host(host):
            raise LocalError(f"not a host: {host!r}")
        return cls("sip", user or None, None, host.lower(), port, dict(params or {}))

    def param(self, name: str) -> str | None:
        """Value of a parameter; None when absent or without value."""
        return self.params.get(name)

    def __str__(self) -> str:
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.opaque}"
        text = f"{self.scheme}:"
        if self.user is not None:
            text += quote_user(self.user)
            if self.password is not None:
                text += ":" + quote(self.password, PASSWORD_SAFE, errors="surrogateescape")
            text += "@"
        text += f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            text += f":{self.port}"
        for name, value in self.params.items():
            text += ";" + quote(name, PARAM_SAFE, errors="surrogateescape")
            if value is not None:
                text += "=" + quote(value, PARAM_SAFE, errors="surrogateescape")
        return f"{text}?{self.headers}" if self.headers else text


def called(uri: Uri) -> Uri:
    """Who is called, as a sip URI that a tenant's user or number can be looked up by.

    A tel URI (RFC 3966) becomes one with the host of its phone-context, "" where that is no domain. The parameters of
    a number in a user part go (RFC 3261 19.1.6), and so do the dots and dashes that people read it by.
    """
    if uri.scheme == "tel":
        number, _, rest = unquote(uri.opaque, errors="surrogateescape").partition(";")
        _, found, host = f";{rest.lower()}".partition(";phone-context=")
        host = host.partition(";")[0] if found else ""
        return Uri("sip", _spoken(number), None, host if _is_domain(host) else "", None, NO_PARAMS)
    if uri.user is None:
        return uri
    number, parameters, _ = uri.user.partition(";")
    if _is_number(number) and (parameters or (uri.params.get("user") or "").lower() == "phone"):
        return uri._replace(user=_spoken(number))
    return uri


def _spoken(number: str) -> str:
    """Without visual separators, if it is a number at all (RFC 3966 3)."""
    return number.translate(_SEPARATORS) if _is_number(number) else number


def _parse(text: str) -> Uri:
    found = _match_sip(text)
    if found is None:
        return _parse_other(text)
    scheme, user, password, host, port, param_text, headers = found.groups()
    if "%" in text:
        if _bad_escape(text):
            raise BadMessage(400, "Malformed Escape In URI")
        if user:
            user = unquote(user, errors="surrogateescape")
        if password:
            password = unquote(password, errors="surrogateescape")
    host = unbracketed(host).lower()
    number = None
    if port is not None:
        number = int(port)
        if not 0 < number < 65536:
            raise BadMessage(400, "Invalid Port In URI")
    params = MappingProxyType(_parse_params(param_text)) if param_text else NO_PARAMS
    return Uri(scheme.lower(), user, password, host, number, params, headers or "")


# The same few URIs come in every message of a call and in every refresh. Measured on an INVITE of 820 bytes: scan and
# check take 39 us without memory, 23 us with it (here and in `address`).
_remembered = lru_cache(REMEMBERED)(_parse)


def _parse_other(text: str) -> Uri:
    """Another scheme is well-formed: that we cannot route it is not the parser's to say (RFC 3261 8.2.2.1)."""
    found = _match_other(text)
    if found is None or found[1].lower() in ("sip", "sips"):
        raise BadMessage(400, "Malformed URI")
    return Uri(found[1].lower(), None, None, "", None, NO_PARAMS, "", found[2])


def _parse_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    for part in text[1:].split(";"):
        name, equals, raw = part.partition("=")
        value = raw if equals else None
        if "%" in part:
            name = unquote(name, errors="surrogateescape")
            value = None if value is None else unquote(value, errors="surrogateescape")
        name = name.lower()
        if not name or params.get(name, value) != value:
            raise BadMessage(400, "Malformed URI Parameter")
        params[name] = value
    return params


def quote_user(text: str) -> str:
    """A user part as it is written in a URI (RFC 3261 25.1 `user`)."""
    return quote(text, USER_SAFE, errors="surrogateescape")


def same_uri(a: Uri, b: Uri) -> bool:
    """RFC 3261 19.1.4. A missing port is not the default port; most parameters count only when both have them."""
    if a[:5] != b[:5] or a.opaque != b.opaque:
        return False
    if a.params != b.params:
        for name in _SIGNIFICANT:
            if (name in a.params) != (name in b.params):
                return False
        for name in a.params.keys() & b.params.keys():
            if (a.params[name] or "").lower() != (b.params[name] or "").lower():
                return False
    return a.headers == b.headers or _header_set(a.headers) == _header_set(b.headers)


def _header_set(text: str) -> set[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split("&"))
    return {(unquote(name).lower(), unquote(value)) for name, _, value in pairs}
