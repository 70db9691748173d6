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

NAMING = {"replaces": "Replaces", "target-dialog": "Target-Dialog", "refer-to": "Refer-To"}
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


def renamed(message: Message, rename: Rename) -> list[Header]:
    """These headers of a request as they pass to the other leg."""
    headers: list[Header] = []
    for name, title in NAMING.items():
        for text in message.all(name):
            value = _refer_to(text, rename) if name == "refer-to" else _dialog(title, text, rename)
            headers.append((title, value))
    return headers


def _refer_to(text: str, rename: Rename) -> str:
    """A Replaces in the URI of a Refer-To: an attended transfer (RFC 3891 section 6)."""
    try:
        address = Address.parse(text)
    except BadMessage:
        return text
    if not address.uri.headers:
        return text
    headers = []
    for pair in address.uri.headers.split("&"):
        name, _, value = pair.partition("=")
        if name.lower() == "replaces":
            value = quote(_dialog("Replaces", unquote(value), rename), safe="")
            headers.append(f"{name}={value}")
        else:
            headers.append(pair)
    return str(Address(address.display, address.uri._replace(headers="&".join(headers)), address.params))


def _dialog(title: str, text: str, rename: Rename) -> str:
    """`call-id;to-tag=a;from-tag=b;early-only`, or the like of Target-Dialog."""
    call_id, *pairs = (part.strip() for part in text.split(";"))
    params = dict(pair.partition("=")[::2] for pair in pairs)
    asked, asking = TAGS[title]
    other = rename(DialogName(call_id, params.get(asked, ""), params.get(asking, "")))
    if other is None:
        return text
    params |= {asked: other.asked, asking: other.asking}
    return ";".join([other.call_id, *(f"{name}={value}" if value else name for name, value in params.items())])
