"""An INVITE with Replaces (RFC 3891): which leg of which call it is for, and whether it may be taken.

A phone or PBX that was referred names the call as whoever referred it was told: by its name on the leg of the end that
is to be called. One that was not referred names it as it knows it itself: by its name on its own leg.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sipd.dialogs import Dialog
from sipd.message.message import Message

Find = Callable[[str, str, str], Dialog | None]
"""A dialog by Call-ID, our tag and the other end's."""


class Replaced(NamedTuple):
    """What an INVITE wants to take the place of: `leg` is our side of the dialog with the end that has it."""

    leg: Dialog | None = None
    status: int = 0
    """Why it may not: RFC 3891 section 3."""

    @property
    def names(self) -> bool:
        """Whether there is a call of ours that is meant, or a refusal."""
        return self.leg is not None or self.status != 0


NOTHING = Replaced()


def find_replaced(request: Message, tenant: str, find: Find) -> Replaced:
    """The call of this tenant that an INVITE names; nothing when it names none of ours."""
    values = request.split("replaces")
    if not values:
        return NOTHING
    if len(values) > 1 or request.has("join"):
        return Replaced(status=400)
    call_id, params = _parse(values[0])
    to_tag, from_tag = params.get("to-tag", ""), params.get("from-tag", "")
    if not (call_id and to_tag and from_tag):
        return Replaced(status=400)
    leg = _leg(find, call_id, to_tag, from_tag)
    if leg is None or leg.call.index.tenant.id != tenant:
        return NOTHING
    return Replaced(leg, _why_not(leg, early_only="early-only" in params))


def find_target(request: Message, tenant: str, find: Find) -> Dialog | None:
    """Our leg towards the end of the call that a Target-Dialog names (RFC 4538): the request is for that end alone."""
    for value in request.split("target-dialog"):
        call_id, params = _parse(value)
        one, other = params.get("local-tag", ""), params.get("remote-tag", "")
        own = find(call_id, one, other) or find(call_id, other, one)
        if own is not None and own.call.index.tenant.id == tenant:
            return own.peer
    return None


def _parse(value: str) -> tuple[str, dict[str, str]]:
    call_id, *parts = (part.strip() for part in value.split(";"))
    return call_id, {name.lower(): text for name, _, text in (part.partition("=") for part in parts)}


def _leg(find: Find, call_id: str, to_tag: str, from_tag: str) -> Dialog | None:
    own = find(call_id, to_tag, from_tag)
    return own.peer if own is not None else find(call_id, from_tag, to_tag)


def _why_not(leg: Dialog, *, early_only: bool) -> int:
    """RFC 3891 section 3, in its order; 0: nothing stands against it."""
    if leg.call.ended:
        return 603
    if leg.call.pair is not None:
        return 486 if early_only else 0
    return 481 if leg.branch is not None else 0  # only who called may have its early dialog replaced
