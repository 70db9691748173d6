"""What RFC 3261 demands of a message before it is processed (8.1.1, 8.2, 16.3, 18.1.2)."""

from __future__ import annotations

import re

from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import KNOWN_METHODS, _is_answerable
from sipd.message.uri import Uri

_REQUIRED = (("from", "From"), ("to", "To"), ("call-id", "Call-ID"), ("cseq", "CSeq"))
_AT_MOST_ONE = dict(_REQUIRED) | {
    name.lower(): name
    for name in ("Content-Type", "Date", "Event", "Expires", "Max-Forwards", "Min-Expires", "Reply-To", "Subject")
}

# RFC 3261 20.17: RFC 1123 with GMT, nothing else.
_is_date = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT",
    re.IGNORECASE,
).fullmatch


def check(msg: Message) -> None:
    """Raise BadMessage when `msg` must not be processed: answer a request with its status, discard a response.

    Not decided here, because it is not a matter of form: unknown methods, schemes and extensions, Max-Forwards 0.
    """
    try:
        _check(msg)
    except BadMessage as bad:
        answerable = not msg.status and _is_answerable(msg)
        raise BadMessage(bad.status, bad.reason, msg if answerable else None) from None


def _check(msg: Message) -> None:
    names = msg._index
    _check_counts(msg)
    if not msg.vias:
        raise BadMessage(400, "Missing Via")
    _ = msg.from_, msg.to, msg.call_id, msg.cseq
    if msg.status:
        _check_response(msg)
        return
    _check_request_line(msg)
    if "contact" in names:
        _check_contacts(msg)
    if "max-forwards" in names:
        _ = msg.max_forwards
    if "expires" in names:
        _ = msg.expires
    if "date" in names and not _is_date(msg.get("date") or ""):
        raise BadMessage(400, "Malformed Date")


def _check_counts(msg: Message) -> None:
    for name, title in _REQUIRED:
        if name not in msg._index:
            raise BadMessage(400, f"Missing {title}")
    for name in msg._repeated:
        if name in _AT_MOST_ONE:
            raise BadMessage(400, f"Repeated {_AT_MOST_ONE[name]}")


def _check_request_line(msg: Message) -> None:
    if msg.cseq.method != msg.method:
        if msg.method not in KNOWN_METHODS:
            raise BadMessage(501, "Not Implemented")
        raise BadMessage(400, "CSeq Method Does Not Match")
    if Uri.parse(msg.uri).headers:
        raise BadMessage(400, "Headers In Request-URI")


def _check_response(msg: Message) -> None:
    """Only what we read of it: a wrong Date must not make a PBX silent. That to a REGISTER lists what others bound."""
    if msg.cseq.method == "REGISTER":
        return
    if "contact" in msg._index:
        _check_contacts(msg)
    if "expires" in msg._index:
        _ = msg.expires


def _check_contacts(msg: Message) -> None:
    """`*` stands alone, and only in a REGISTER (RFC 3261 10.2.2, 20.10)."""
    contacts = msg.contacts
    if any(contact.star for contact in contacts) and (len(contacts) > 1 or msg.method != "REGISTER"):
        raise BadMessage(400, "Malformed Contact")
