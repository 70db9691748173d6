"""Which methods the edge takes (RFC 3261 8.2.1)."""

from __future__ import annotations

from sipd.message.build import Header
from sipd.message.message import Message

ALLOWED = (
    "INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "UPDATE", "PRACK", "INFO", "MESSAGE", "REFER", "NOTIFY",
    "SUBSCRIBE", "PUBLISH",
)  # fmt: skip
ALLOW: Header = ("Allow", ", ".join(ALLOWED))


def not_taken(method: str) -> int:
    """What to answer to this method, with Allow; 0: we take it. 405 is for methods in the wrong place."""
    return 0 if method in ALLOWED else 501


UNDERSTOOD = frozenset((
    "100rel", "199", "answermode", "early-session", "eventlist", "explicitsub", "histinfo", "norefersub", "nosub",
    "outbound", "path", "precondition", "privacy", "replaces", "resource-priority", "tdialog", "timer",
))  # fmt: skip
"""Extensions that work end to end through the edge, so that Require may name them (RFC 3261 8.2.2.3)."""
OF_PROXY = frozenset(("privacy",))
"""What Proxy-Require may ask: the edge hides what its two legs hide from each other (RFC 3323 5)."""


def not_understood(request: Message) -> list[Header] | None:
    """What to say with 420, of Require and Proxy-Require; None: all is understood."""
    if not (request.has("require") or request.has("proxy-require")):
        return None
    missing = [tag for tag in request.split("proxy-require") if tag.lower() not in OF_PROXY]
    missing += [tag for tag in request.split("require") if tag.lower() not in UNDERSTOOD]
    return [("Unsupported", ", ".join(dict.fromkeys(missing)))] if missing else None
