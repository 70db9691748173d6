"""Forwards as a call tells of them: Diversion (RFC 5806) and History-Info (RFC 7044)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from sipd.message.build import REASONS, Header
from sipd.message.errors import BadMessage
from sipd.message.grammar import parse_params
from sipd.message.message import Message
from sipd.message.uri import Uri

MAX_DIVERSIONS = 10
"""Forwards of a call in all, those before it came here included; more: the call ends (a loop through a PBX)."""
MAX_INDEX = 64
"""Characters of an index that is continued."""
TOLD = frozenset(("diversion", "history-info"))
"""Headers that are written anew once a call was forwarded here."""


class Why(NamedTuple):
    """Why a call is forwarded."""

    reason: str
    """RFC 5806 diversion-reason."""
    cause: int
    """RFC 4458 section 3.1."""


UNCONDITIONAL = Why("unconditional", 302)
BUSY = Why("user-busy", 486)
NO_ANSWER = Why("no-answer", 408)
UNREACHABLE = Why("unavailable", 503)
DO_NOT_DISTURB = Why("do-not-disturb", 486)
CLOSED = Why("time-of-day", 302)
DEFLECTED = Why("deflection", 480)
"""By a phone, with a 3xx."""


class Forward(NamedTuple):
    """One forward that the edge followed."""

    by: str
    """User part of who forwards: an extension or number; empty when a PBX redirects."""
    why: Why
    target: str
    """User part of what is called instead."""


def diversions_before(request: Message) -> int:
    """How often a call was forwarded before it came here, as far as it says."""
    told = sum(_counter(value) for value in values(request, "diversion"))
    return max(told, sum(";cause=" in value for value in values(request, "history-info")))


def _counter(diversion: str) -> int:
    """RFC 5806 section 4: how many diversions one entry stands for."""
    start = diversion.find(">") + 1
    try:
        text = parse_params(diversion, start).get("counter") if start else None
    except BadMessage:
        return 1
    return min(int(text), 1000) if text and text.isascii() and text.isdigit() else 1


def diversion_headers(forwards: Sequence[Forward], domain: str) -> list[Header]:
    """The last forward first (RFC 5806 section 5)."""
    return [
        ("Diversion", f"<{Uri.build(forward.by, domain)}>;reason={forward.why.reason};counter=1")
        for forward in reversed(forwards)
        if forward.by
    ]


def history_headers(
    asked: str, forwards: Sequence[Forward], reached: str, domain: str, before: Sequence[str] = ()
) -> list[Header]:
    """Entries from the one who was asked for first, over each forward, to a group's member if one is `reached`.

    `before` are the values that a trusted request came with. Each entry lies one level below the one before
    (RFC 7044 section 10.3), and says in a Reason why the call went on from there.
    """
    index = f"{last_index(before)}.1" if before else "1"
    targets = [asked, *(forward.target for forward in forwards), *([reached] if reached else [])]
    entries = list(before)
    came = ""
    for number, target in enumerate(targets):
        why = forwards[number].why if number < len(forwards) else None
        uri = str(Uri.build(target, domain)) + came
        if why is not None:
            reason = f'SIP;cause={why.cause};text="{REASONS[why.cause]}"'
            uri += "?Reason=" + quote(reason, safe="")
        parent = f";mp={index.rpartition('.')[0]}" if number else ""
        entries.append(f"<{uri}>;index={index}{parent}")
        came = f";cause={why.cause}" if why is not None else ""
        index += ".1"
    return [("History-Info", entry) for entry in entries]


def last_index(entries: Sequence[str]) -> str:
    """The index of the last entry; "1" when it has none that can be used."""
    text = entries[-1].rpartition(";index=")[2].partition(";")[0].strip()
    known = len(text) < MAX_INDEX and all(part.isascii() and part.isdigit() for part in text.split("."))
    return text if known else "1"


def values(request: Message, name: str) -> list[str]:
    """The values of a header, one by one; none when they cannot be told apart."""
    try:
        return request.split(name)
    except BadMessage:
        return []
