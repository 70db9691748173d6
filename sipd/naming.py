"""Headers that name a dialog: the same call has another name on each leg (RFC 3891, RFC 4538, RFC 3515).

What names no dialog of ours passes as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote

from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.uri import Uri

NAMING = {
    "replaces": "Replaces", "target-dialog": "Target-Dialog", "refer-to": "Refer-To", "referred-by": "Referred-By",
}  # fmt: skip
TAGS = {"Replaces": ("to-tag", "from-tag"), "Target-Dialog": ("local-tag", "remote-tag")}
"""Parameters with the tags of who is asked and of who asks."""


class DialogName(NamedTuple):
    """A dialog as the one end names it to the other."""

    call_id: str
    asked: str
    """Tag of the end that reads this."""
    asking: str


Rename = Callable[[DialogName], DialogName | None]
"""The same call on the other leg, as we name it to the end there; None: no dialog of ours."""

Relocate = Callable[[Uri], str | None]
"""The host by which the end that reads a Refer-To reaches what its writer names; None: as it is."""
OURS = frozenset(("local-domain", "transport", "maddr", "lr"))
"""URI parameters that say how to reach the edge: they go with its host."""


def renamed(message: Message, rename: Rename, relocate: Relocate = lambda uri: None) -> list[Header]:
    """These headers of a request as they pass to the other leg."""
    headers: list[Header] = []
    for name, title in NAMING.items():
        for text in message.all(name) if message.has(name) else ():
            if name == "refer-to":
                value = _refer_to(text, rename, relocate)
            elif name == "referred-by":
                value = _referred_by(text)
            else:
                value = _dialog(title, text, rename)
            headers.append((title, value))
    return headers


def _referred_by(text: str) -> str:
    """Without `cid`: a signature over the headers of one leg says nothing on the other (RFC 3892 2.1)."""
    try:
        address = Address.parse(text)
    except BadMessage:
        return text
    if "cid" not in address.params:
        return text
    params = {name: value for name, value in address.params.items() if name != "cid"}
    return str(Address(address.display, address.uri, params, address.uri_text))


def _refer_to(text: str, rename: Rename, relocate: Relocate) -> str:
    """The target as the reader dials it, and a Replaces in its URI: an attended transfer (RFC 3891 section 6)."""
    try:
        address = Address.parse(text)
    except BadMessage:
        return text
    uri = address.uri
    host = relocate(uri) if uri.scheme in ("sip", "sips") and uri.user else None
    if host is not None and host != uri.host:
        params = {name: value for name, value in uri.params.items() if name not in OURS}
        address = Address(address.display, uri._replace(host=host, port=None, params=params), address.params)
    if not address.uri.headers:
        return text if address.uri == uri else str(address)
    headers = list[str]()
    for pair in address.uri.headers.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() == "replaces":
            named = unquote(value, errors="surrogateescape")
            other = _dialog("Replaces", named, rename)
            if other != named:
                headers.append(f"{name}={quote(other, safe='', errors='surrogateescape')}")
                continue
        headers.append(pair)
    if address.uri == uri and headers == uri.headers.split("&"):
        return text
    return str(Address(address.display, address.uri._replace(headers="&".join(headers)), address.params))


def _dialog(title: str, text: str, rename: Rename) -> str:
    """`call-id;to-tag=a;from-tag=b;early-only`, or the like of Target-Dialog."""
    call_id, *pairs = (part.strip() for part in text.split(";"))
    params = dict(pair.partition("=")[::2] for pair in pairs)
    asked, asking = TAGS[title]
    other = rename(DialogName(call_id, params.get(asked, ""), params.get(asking, "")))
    if other is None and title == "Target-Dialog":  # some name it as they see it themselves
        asked, asking = asking, asked
        other = rename(DialogName(call_id, params.get(asked, ""), params.get(asking, "")))
    if other is None:
        return text
    params |= {asked: other.asked, asking: other.asking}
    return ";".join([other.call_id, *(f"{name}={value}" if value else name for name, value in params.items())])
