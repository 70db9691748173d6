"""Events of a node become rows: read from the cursor, at least once, stored once.

Called with a session in a system scope: events belong to many tenants. The cursor moves in the same
transaction as the rows, so what a node may forget is what the database holds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select

from panel.models import CallRecord, Event, EventCursor
from panel.models.base import ID_LENGTH

log = logging.getLogger("tenantry.events")

BATCH = 500
"""Events asked for at once."""
MAX_TEXT = 500
"""Characters of one text in a call record."""

Json = dict[str, Any]


def keep(session: Session, node_id: str, batch: Iterable[Json], following: int) -> int:
    """Store one batch, move the cursor to `following`, and commit; how many events were new."""
    stored = store(session, node_id, batch)
    cursor = session.get(EventCursor, node_id) or EventCursor(node_id=node_id)
    cursor.after = max(following, cursor.after)
    session.add(cursor)
    session.commit()
    return stored


def store(session: Session, node_id: str, events: Iterable[Json]) -> int:
    """Add the events that are not there yet, and what follows from them. Malformed ones are logged and skipped."""
    rows = {row.event_id: row for row in (_row(node_id, event) for event in events) if row is not None}
    if not rows:
        return 0
    known = session.exec(
        select(Event.event_id).where(Event.node_id == node_id, col(Event.event_id).in_(list(rows)))
    ).all()
    for event_id in known:
        del rows[event_id]
    session.add_all(rows.values())
    _record_calls(session, node_id, rows.values())
    return len(rows)


def _row(node_id: str, event: Json) -> Event | None:
    event_id, at, kind = event.get("id"), event.get("at"), event.get("kind")
    if not isinstance(event_id, int) or not isinstance(at, int | float) or not isinstance(kind, str) or not kind:
        log.warning("node %s sent an event without id, time or kind: %.200r", node_id, event)
        return None
    moment = _moment(at)
    if moment is None:
        log.warning("node %s sent event %d with the impossible time %r", node_id, event_id, at)
        return None
    detail = event.get("detail")
    return Event(
        node_id=node_id,
        event_id=event_id,
        at=moment,
        kind=kind[:64],
        tenant_id=_id(event.get("tenant")),
        connection_id=_id(event.get("connection")),
        user_id=_id(event.get("user")),
        rule=_text(event.get("rule"), 100),
        detail=detail if isinstance(detail, dict) else {},
    )


def _record_calls(session: Session, node_id: str, events: Iterable[Event]) -> None:
    ended = {_text(event.detail.get("call"), 200): event for event in events if event.kind == "call.ended"}
    ended.pop("", None)
    if not ended:
        return
    known = session.exec(
        select(CallRecord.call).where(CallRecord.node_id == node_id, col(CallRecord.call).in_(list(ended)))
    ).all()
    session.add_all(_call(event, call) for call, event in ended.items() if call not in set(known))


def _call(event: Event, call: str) -> CallRecord:
    detail = event.detail
    ended = _moment(detail.get("ended")) or event.at
    code = detail.get("code")
    return CallRecord(
        node_id=event.node_id,
        call=call,
        tenant_id=event.tenant_id,
        connection_id=event.connection_id,
        user_id=event.user_id,
        from_uri=_text(detail.get("from"), MAX_TEXT),
        to_uri=_text(detail.get("to"), MAX_TEXT),
        direction=_text(detail.get("direction"), 16),
        started_at=_moment(detail.get("started")) or ended,
        answered_at=_moment(detail.get("answered")),
        ended_at=ended,
        code=code if isinstance(code, int) else None,
        reason=_text(detail.get("reason"), 200),
        ended_by=_text(detail.get("by"), 16),
    )


def _moment(value: object) -> datetime | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= ID_LENGTH else None


def _text(value: object, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""
