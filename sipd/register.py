"""What a REGISTER to a PBX says (RFC 3261 10.2, wire.md)."""

from __future__ import annotations

from collections.abc import Sequence

from sipd.flow import Flow
from sipd.message import build
from sipd.message.uri import Uri
from sipd.registration import Registration, Sent, Wanted
from sipd.wayout import contact_of
from sipd.wire import Wire, bracketed


def next_to_say(registration: Registration, flow: Flow, wire: Wire) -> Sent:
    """What there is to say over this flow: another Contact comes only after the old one was taken back."""
    wanted = registration.wanted
    contact = contact_of(wanted.contact_user, wanted.contact_domain, wanted.multi_tenant, wire, flow)
    there = registration.held_at in (None, flow[:3])
    other_contact = there and registration.held not in ("", contact)
    if registration.removing or registration.moving or other_contact:
        return Sent(wanted, registration.held or contact, 0)
    return Sent(wanted, contact, max(wanted.expires, registration.min_expires))


def request_uri(wanted: Wanted) -> str:
    """The registrar, without a user part (RFC 3261 10.2)."""
    return f"sip:{bracketed(wanted.registrar)}"


def register(
    registration: Registration, sent: Sent, via: str, credentials: Sequence[build.Header], agent: str
) -> bytes:
    """The request. Its proxies may add their Path (RFC 3327)."""
    wanted, contact, expires = sent
    identity = f"<{Uri.build(wanted.account.username, wanted.registrar)}>"
    return build.request(
        "REGISTER",
        request_uri(wanted),
        [
            ("Via", via),
            ("Max-Forwards", "70"),
            *([("Route", wanted.route)] if wanted.route else []),
            ("From", f"{identity};tag={registration.from_tag}"),
            ("To", identity),
            ("Call-ID", registration.call_id),
            ("CSeq", f"{registration.cseq} REGISTER"),
            ("Contact", f"{contact};expires={expires}"),
            ("Expires", str(expires)),
            ("Supported", "path"),
            *credentials,
            ("User-Agent", agent),
        ],
    )
