"""name-addr and addr-spec with parameters: From, To, Contact, Route (RFC 3261 20.10, 20.20, 20.39)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from sipd.message.errors import BadMessage
from sipd.message.grammar import format_params, match_quoted, parse_params, quote, split_list, unquote
from sipd.message.uri import LONGEST_REMEMBERED, NO_PARAMS, REMEMBERED, Uri

# Only tokens may stand unquoted; names in UTF-8 or with a stray bracket are common enough to be let in.
_bad_display = re.compile(r'[\x00-\x08\x0a-\x1f\x7f",;:<>\\]').search


class Address:
    """Not to be changed once made: parsed values are shared, and their `params` are read-only."""

    __slots__ = ("display", "params", "star", "uri", "uri_text")

    def __init__(
        self, display: str, uri: Uri, params: Mapping[str, str | None], uri_text: str | None = None, star: bool = False
    ) -> None:
        self.display = display
        """Unquoted, unescaped; "" when there is none."""
        self.uri = uri
        self.uri_text = str(uri) if uri_text is None else uri_text
        """The URI exactly as received, without angle brackets."""
        self.params = params
        self.star = star
        """`Contact: *` (RFC 3261 10.2.2); the URI is empty then."""

    @property
    def tag(self) -> str | None:
        return self.params.get("tag")

    @classmethod
    def parse(cls, text: str) -> Address:
        return _remembered(text) if len(text) <= LONGEST_REMEMBERED else _parse(text)

    @classmethod
    def parse_list(cls, lines: Iterable[str]) -> list[Address]:
        """Every element of every line."""
        return [cls.parse(element) for line in lines for element in split_list(line)]

    def untagged(self) -> str:
        """As text, without the tag: who it is, for another dialog."""
        params = {name: value for name, value in self.params.items() if name != "tag"}
        return str(Address(self.display, self.uri, params, self.uri_text))

    def __str__(self) -> str:
        if self.star:
            return "*"
        display = quote(self.display) + " " if self.display else ""
        return f"{display}<{self.uri_text}>{format_params(self.params)}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """By value as parsed; use `same_uri` for the comparison of RFC 3261 19.1.4."""
        if not isinstance(other, Address):
            return NotImplemented
        return (self.display, self.uri, self.params, self.star) == (
            other.display,
            other.uri,
            other.params,
            other.star,
        )

    __hash__ = None  # type: ignore[assignment]


def _parse(text: str) -> Address:
    text = text.strip(" \t")
    if text[:1] == '"':
        quoted = match_quoted(text)
        if quoted is None:
            raise BadMessage(400, "Unbalanced Quotes")
        display = unquote(quoted.group())
        start = quoted.end()
        while text[start : start + 1] in (" ", "\t"):
            start += 1
        if text[start : start + 1] != "<":
            raise BadMessage(400, "Malformed Address")
    else:
        start, quote_mark = text.find("<"), text.find('"')
        if start < 0 or 0 <= quote_mark < start:  # a bracket inside quotes is a parameter's
            return _parse_addr_spec(text)
        display = text[:start].rstrip(" \t").replace("\t", " ")
        if display and _bad_display(display):
            raise BadMessage(400, "Malformed Display Name")
    end = text.find(">", start)
    if end < 0:
        raise BadMessage(400, "Unbalanced Angle Brackets")
    uri_text = text[start + 1 : end]
    return Address(display, Uri.parse(uri_text), _params(text, end + 1), uri_text)


# A dialog repeats its From and To in every message; why it pays: see `uri`.
_remembered = lru_cache(REMEMBERED)(_parse)


def _params(text: str, pos: int) -> Mapping[str, str | None]:
    return MappingProxyType(parse_params(text, pos)) if pos < len(text) else NO_PARAMS


def _parse_addr_spec(text: str) -> Address:
    """Without angle brackets all parameters belong to the header, and `?` and `,` are not allowed (RFC 3261 20)."""
    if text == "*":
        return Address("", Uri("", None, None, "", None, NO_PARAMS), NO_PARAMS, "", star=True)
    semicolon = text.find(";")
    if semicolon < 0:
        semicolon = len(text)
    uri_text = text[:semicolon].rstrip(" \t")
    if "?" in uri_text or "," in uri_text:
        raise BadMessage(400, "URI Needs Angle Brackets")
    return Address("", Uri.parse(uri_text), _params(text, semicolon), uri_text)
