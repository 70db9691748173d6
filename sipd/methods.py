"""Which methods the edge takes (RFC 3261 8.2.1)."""

from __future__ import annotations

from sipd.message.build import Header

ALLOWED = (
    "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "UPDATE", "PRACK", "INFO", "MESSAGE", "REFER", "NOTIFY",
    "SUBSCRIBE", "PUBLISH",
)  # fmt: skip
ALLOW: Header = ("Allow", ", ".join(ALLOWED))


def not_taken(method: str) -> int:
    """What to answer to this method, with Allow; 0: we take it. 405 is for methods in the wrong place."""
    return 0 if method in ALLOWED else 501
