"""Call records of a tenant."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import col, or_

from panel.forms import Input
from panel.models import CallRecord
from panel.paging import MAX_SEARCH, Page, like, paged
from panel.scope import TenantScope

DIRECTIONS = ("in", "out", "internal")


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""
    direction: str = ""


def listing(scope: TenantScope, wanted: Filter, number: int) -> Page[CallRecord]:
    """One page of ended calls, the newest first, found by who called or was called."""
    statement = scope.select(CallRecord)
    if wanted.q:
        pattern = like(wanted.q[:MAX_SEARCH])
        parties = (col(CallRecord.from_uri), col(CallRecord.to_uri))
        statement = statement.where(or_(*(party.ilike(pattern, escape="\\") for party in parties)))
    if wanted.direction in DIRECTIONS:
        statement = statement.where(CallRecord.direction == wanted.direction)
    return paged(scope.session, statement, number, (col(CallRecord.started_at).desc(), col(CallRecord.id)))


def talked(record: CallRecord) -> timedelta | None:
    """How long people spoke; None for a call that nobody took."""
    return record.ended_at - record.answered_at if record.answered_at else None


def duration(length: timedelta) -> str:
    """As people read it: `0:42`, `1:02:03`."""
    seconds = max(0, round(length.total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def party(uri: str) -> str:
    """Who it was: the user part of a SIP address, else all of it."""
    bare = uri.removeprefix("sips:").removeprefix("sip:")
    user, at, _ = bare.partition("@")
    return user if at and user else bare
