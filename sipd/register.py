"""What a REGISTER to a PBX says (RFC 3261 10.2, wire.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sipd.flow import Flow
from sipd.message import build
from sipd.message.grammar import bracketed
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.registration import Registration, Sent
from sipd.wayout import contact_of
from sipd.wire import Wire


class Numbered(Protocol):
    """A registration, by what all its REGISTERs have in common, and their count."""

    call_id: str
    from_tag: str
    cseq: int


def least_of(response: Message) -> int:
    """Seconds that a 423 demands (RFC 3261 20.23); 0: none that can be read."""
    text = response.get("min-expires") or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0


def next_to_say(registration: Registration, flow: Flow, wire: Wire) -> Sent:
    """What there is to say over this flow: another Contact comes only after the old one was taken back."""
    wanted = registration.wanted
    contact = contact_of(wanted.contact_user, wanted.contact_domain, wanted.multi_tenant, wire, flow)
    there = registration.held_at in (None, flow[:3])
    other_contact = there and registration.held not in ("", contact)
    if registration.removing or registration.moving or other_contact:
        return Sent(wanted, registration.held or contact, 0)
    return Sent(wanted, contact, max(wanted.expires, registration.min_expires))


def request_uri(registrar: str) -> str:
    """Without a user part (RFC 3261 10.2)."""
    return f"sip:{bracketed(registrar)}"


def contacts(contact: str, expires: int) -> list[build.Header]:
    """What is to be bound, for so many seconds; 0 takes it back."""
    return [("Contact", f"{contact};expires={expires}"), ("Expires", str(expires))]


def register(
    of: Numbered, registrar: str, username: str, route: str, via: str, headers: Sequence[build.Header], agent: str
) -> bytes:
    """The request, with `headers` for its Contacts and credentials. Its proxies may add their Path (RFC 3327)."""
    identity = f"<{Uri.build(username, registrar)}>"
    return build.request(
        "REGISTER",
        request_uri(registrar),
        [
            ("Via", via),
            ("Max-Forwards", "70"),
            *([("Route", route)] if route else []),
            ("From", f"{identity};tag={of.from_tag}"),
            ("To", identity),
            ("Call-ID", of.call_id),
            ("CSeq", f"{of.cseq} REGISTER"),
            *headers,
            ("Supported", "path"),
            ("User-Agent", agent),
        ],
    )
