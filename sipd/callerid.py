"""Who a call is shown to be from, on each leg (RFC 3261 20.20, RFC 3323, RFC 3325).

A phone's word counts for its display name and for its wish to stay unknown. A PBX is trusted.
"""

from __future__ import annotations

from sipd.auth import at_pbx
from sipd.message.address import Address
from sipd.message.build import Header
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User

ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""From of a caller who stays unknown (RFC 3323 section 4.1)."""
PRIVATE = frozenset(("id", "user"))
"""Privacy values that hide who calls: what the network asserts, and what From says."""
PRIVACY = frozenset(("privacy",))


def privacy_of(request: Message) -> list[str]:
    """The values of Privacy, lower-case (RFC 3323 section 4.2)."""
    text = request.get("privacy")
    if not text:
        return []
    return [value for part in text.lower().replace(",", ";").split(";") if (value := part.strip())]


def is_anonymous(uri: Uri) -> bool:
    """Whether a From says that the caller stays unknown."""
    return uri.host == "anonymous.invalid" or (uri.user or "").lower() == "anonymous"


def wants_privacy(request: Message) -> bool:
    """Whether a caller wants to stay unknown."""
    return is_anonymous(request.from_.uri) or not PRIVATE.isdisjoint(privacy_of(request))


def shown_to_phone(request: Message, index: TenantIndex, caller: User | None) -> str:
    """From, without tag, as a phone of the tenant gets it: of `caller`, or as a PBX sent it (None)."""
    sender = request.from_
    if caller is not None:
        if caller.hide_caller_id or wants_privacy(request):
            return ANONYMOUS
        display = sender.display or caller.name
        return str(Address(display, Uri.build(caller.extension, index.tenant.primary_domain), {}))
    if wants_privacy(request) and not is_anonymous(sender.uri):
        return ANONYMOUS
    return sender.untagged()


def shown_to_pbx(
    connection: Connection, identity: str, number: str, display: str, *, private: bool
) -> tuple[str, list[Header]]:
    """From, without tag, and the headers that say who calls, by the connection's rule.

    `identity` is the account's user name, `number` what is to be shown. A caller who stays unknown is told to the PBX
    all the same: it is trusted to keep that to itself (RFC 3325 section 7).
    """
    asserted = number if connection.caller_id != "account" else identity
    shown = number if connection.caller_id in ("from", "both") else identity
    names = [str(Address(display, Uri.parse(at_pbx(connection, user)), {})) for user in (shown, asserted)]
    if private:
        return ANONYMOUS, [("P-Asserted-Identity", names[1])]
    if connection.caller_id in ("asserted", "both"):
        return names[0], [("P-Asserted-Identity", names[1])]
    return names[0], []


def number_of(index: TenantIndex, user: User | None, identity: str) -> str:
    """The number that a caller is shown with at a PBX."""
    return (user.caller_id if user is not None else "") or index.tenant.caller_id or identity


def with_privacy(request: Message) -> Header:
    """The Privacy of a caller who stays unknown: what the phone asked for, `id` in any case."""
    asked = [value for value in privacy_of(request) if value not in ("none", "id")]
    return ("Privacy", ";".join(["id", *asked]))
