"""The same text read by our parsers and by sipmessage, as values that can be compared.

sipmessage reads neither folds nor blanks before a colon, so it gets lines without them; and it raises one exception
object again and again, whose traceback grows with every raise: it is cleared each time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

import sipmessage

from sipd.message.address import Address
from sipd.message.cseq import CSeq
from sipd.message.errors import BadMessage
from sipd.message.grammar import split_list
from sipd.message.uri import Uri
from sipd.message.via import Via

Params = dict[str, str | None]
REFUSED = "refused"
"""What a reader says of what it does not take."""


def of_oracle(read: Callable[[], object]) -> object:
    """Its value, or REFUSED; a crash of its own counts as that."""
    try:
        return read()
    except (ValueError, IndexError, KeyError, AssertionError) as error:
        error.__traceback__ = error.__context__ = None
        return REFUSED


def of_ours(read: Callable[[], object]) -> object:
    try:
        return read()
    except BadMessage:
        return REFUSED


def params_of(params: Mapping[str, str | None], *, escapes: bool) -> Params:
    """Names in lower case and without escapes; header parameters have none (RFC 3261 25.1), but sipmessage takes them
    away all the same: so they are taken from both."""
    plain = unquote if escapes else str
    return {plain(name).lower(): None if value is None else plain(bare(value)) for name, value in params.items()}


def bare(value: str) -> str:
    """Without its quotes, if it has them."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def our_uri(uri: Uri) -> object:
    if uri.scheme not in ("sip", "sips"):
        return uri.scheme
    return uri.scheme, uri.user, uri.password, uri.host, uri.port, dict(uri.params)


def their_uri(uri: sipmessage.URI) -> object:
    if uri.scheme not in ("sip", "sips"):
        return uri.scheme
    host = uri.host[1:-1] if uri.host[:1] == "[" else uri.host
    params = params_of(uri.parameters, escapes=False)
    return uri.scheme, uri.user, uri.password, host.lower(), uri.port, params


def our_address(address: Address) -> object:
    return " ".join(address.display.split()), our_uri(address.uri), params_of(address.params, escapes=True)


def their_address(address: sipmessage.Address) -> object:
    return " ".join(address.name.split()), their_uri(address.uri), params_of(address.parameters, escapes=False)


def our_via(via: Via) -> object:
    return via.transport, via.host.lower(), via.port, params_of(via.params, escapes=True)


def their_via(via: sipmessage.Via) -> object:
    host = via.host[1:-1] if via.host[:1] == "[" else via.host
    return via.transport.upper(), host.lower(), via.port, params_of(via.parameters, escapes=False)


class Kind(NamedTuple):
    """One kind of value and its two readers."""

    ours: Callable[[str], object]
    theirs: Callable[[str], object]


KINDS = {
    "uri": Kind(lambda text: our_uri(Uri.parse(text)), lambda text: their_uri(sipmessage.URI.parse(text))),
    "address": Kind(
        lambda text: our_address(Address.parse(text)), lambda text: their_address(sipmessage.Address.parse(text))
    ),
    "addresses": Kind(
        lambda text: [our_address(Address.parse(part)) for part in split_list(text)],
        lambda text: [their_address(one) for one in sipmessage.Address.parse_many(text)],
    ),
    "via": Kind(lambda text: our_via(Via.parse(text)), lambda text: their_via(sipmessage.Via.parse(text))),
    "vias": Kind(
        lambda text: [our_via(Via.parse(part)) for part in split_list(text)],
        lambda text: [their_via(one) for one in sipmessage.Via.parse_many(text)],
    ),
    "cseq": Kind(lambda text: tuple(CSeq.parse(text)), lambda text: dataclasses.astuple(sipmessage.CSeq.parse(text))),
}


def both(kind: str, text: str) -> tuple[object, object]:
    """What either makes of `text`."""
    ours, theirs = KINDS[kind]
    return of_ours(lambda: ours(text)), of_oracle(lambda: theirs(text))
