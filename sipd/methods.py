"""Which methods the edge takes (RFC 3261 8.2.1)."""

from __future__ import annotations

from sipd.message.build import Header

ALLOWED = (
    "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "UPDATE", "PRACK", "INFO", "MESSAGE", "REFER", "NOTIFY",
)  # fmt: skip
KNOWN = frozenset((*ALLOWED, "SUBSCRIBE", "PUBLISH"))
"""Methods that we know; others get 501, known ones that we do not take 405."""
ALLOW: Header = ("Allow", ", ".join(ALLOWED))


def not_taken(method: str) -> int:
    """What to answer to this method, with Allow; 0: we take it."""
    if method in ALLOWED:
        return 0
    return 405 if method in KNOWN else 501
