"""The durable event spool: ids rise by one and never repeat, whatever happens to the process or the file.

The first id of a new file is the time in microseconds. So a spool that was lost with its disk begins above
every id that it ever gave, and a panel that asks after its old cursor misses nothing.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sipd.disk import Database, summed, unsummed

log = logging.getLogger("sipd.spool")

Event = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""
EVENT_LIMIT = 1_000_000
"""Events kept for a panel that does not come for them; beyond, the oldest are dropped and counted."""
TRIM = 1000
"""The spool is trimmed when it is this much over its limit, or a tenth of it, so that not each append deletes."""
EVENT_BYTES = 16 * 1024
"""Longest event; a longer one keeps its keys and loses its detail."""
READ_LIMIT = 500
"""Most events in one answer."""
FORGET_LIMIT = 10_000
"""Most events deleted at one time; the next `forget` goes on."""

ID_LIMIT = 2**53
"""Ids are below: what every JSON reader takes as a whole number."""
FUTURE_SECONDS = 86_400.0
"""An id is the time in microseconds at most, and this much later; higher ones were never given."""


class Mark(NamedTuple):
    """Where the spool stands."""

    first: int
    """Lowest id that is kept; `next` when there is none."""
    next: int
    """The id of the event that comes next."""


class Spool:
    """Events of one node. Raises sqlite3.Error when the disk does not do its part."""

    def __init__(
        self,
        database: Database,
        counters: dict[str, int],
        limit: int = EVENT_LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives the wall clock's time."""
        self._counters = counters
        self._clock = clock
        for name in ("spool.dropped", "spool.unreadable", "spool.renumbered"):
            counters.setdefault(name, 0)
        self.use(database, limit)

    def use(self, database: Database, limit: int = EVENT_LIMIT) -> None:
        """Go on in another file."""
        self._database = database
        self._limit = limit
        self.mark = self.find_mark()
        self._began = self.mark.next
        self._given = self.mark.next - 1
        """The highest id that was read since then."""

    def find_mark(self) -> Mark:
        """Read from the file where the spool stands; a new file gets its first id."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
            first, last = connection.execute("SELECT min(id), max(id) FROM event").fetchone()
            if row is None:
                last = max(last or 0, int(self._clock() * 1_000_000))
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", (last,))
            elif isinstance(row[0], int) and row[0] > 0:
                connection.execute("DELETE FROM event WHERE id > ?", (row[0],))  # a spoilt id: none was given above it
                last = row[0]
        return Mark(first or last + 1, last + 1)

    def append(self, events: Sequence[Event]) -> None:
        """Store events and give them their ids."""
        self.append_encoded([encode(event) for event in events])

    def append_encoded(self, bodies: Sequence[str]) -> None:
        """`append` for what `encode` made. Whoever rolls back a transaction around it sets `mark` back."""
        if not bodies:
            return
        first, following = self.mark
        with self._database.transaction() as connection:
            connection.executemany("INSERT INTO event (id, body) VALUES (?, ?)", enumerate(bodies, following))
            following += len(bodies)
            if following - first - self._limit > min(TRIM, self._limit // 10):
                first, following = self._trim(connection, first, following)
        self.mark = Mark(first, following)

    def _trim(self, connection: sqlite3.Connection, first: int, following: int) -> Mark:
        """Drop what is over the limit, and say so; a file that was spoilt may have fewer events than its ids tell."""
        (count,) = connection.execute("SELECT count(*) FROM event").fetchone()
        excess = count - self._limit
        if excess <= 0:
            return Mark(first, following)
        rows = connection.execute("SELECT id FROM event ORDER BY id LIMIT 1 OFFSET ?", (excess,)).fetchone()
        gone, first = first, rows[0]
        connection.execute("DELETE FROM event WHERE id < ?", (first,))
        said = self.dropped(excess, "nobody came for them", first=gone, last=first - 1)
        connection.execute("INSERT INTO event (id, body) VALUES (?, ?)", (following, encode(said)))
        self._counters["spool.dropped"] += excess
        return Mark(first, following + 1)

    def answer(self, after: int, limit: int) -> tuple[list[Event], int]:
        """To who has stored all up to `after`: what comes next, and the id up to which this goes."""
        self._stay_above(after)
        self.forget(after)
        events = self.read(after, limit)
        return events, events[-1]["id"] if events else after

    def read(self, after: int, limit: int) -> list[Event]:
        """Up to `limit` events with ids above `after`, in order."""
        rows = self._database.connection.execute(
            "SELECT id, CAST(body AS BLOB) FROM event WHERE id > ? ORDER BY id LIMIT ?",
            (after, max(0, min(limit, READ_LIMIT))),
        ).fetchall()
        if rows:
            self._given = max(self._given, rows[-1][0])
        return [self._decoded(number, body) for number, body in rows]

    def _decoded(self, number: int, body: bytes) -> Event:
        text = unsummed(body)
        try:
            found = json.loads(text) if text is not None else None
        except ValueError:
            found = None
        if isinstance(found, dict):
            return {"id": number, **found}
        self._counters["spool.unreadable"] += 1
        return {"id": number, **self.dropped(1, "the disk spoilt it", first=number, last=number)}

    def dropped(self, count: int, why: str, **ids: int) -> Event:
        """The event that says that events were lost."""
        detail = {"count": count, "reason": why, **ids}
        return {"at": round(self._clock(), 3), "kind": "events.dropped", "detail": detail}

    def _stay_above(self, after: int) -> None:
        """Who has stored ids that this file never gave has them from before it lost its end: ours come behind those."""
        if not max(self._given, self._began - 1) < after <= int((self._clock() + FUTURE_SECONDS) * 1_000_000):
            return
        shift = after + 1 - self._began
        first, following = self.mark
        with self._database.transaction() as connection:
            ours = connection.execute("SELECT id, body FROM event WHERE id >= ?", (self._began,)).fetchall()
            connection.execute("DELETE FROM event WHERE id >= ?", (self._began,))
            connection.executemany("INSERT INTO event VALUES (?, ?)", [(number + shift, body) for number, body in ours])
            connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", (following + shift - 1,))
        self._counters["spool.renumbered"] += len(ours)
        log.warning("events are numbered anew, as higher ids were given before after=%d events=%d", after, len(ours))
        self.mark = Mark(first if first < self._began else first + shift, following + shift)
        self._began += shift
        self._given = after

    def forget(self, upto: int) -> None:
        """Events up to this id are stored elsewhere."""
        first, following = self.mark
        end = min(upto + 1, following, first + FORGET_LIMIT)
        if end <= first:
            return
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM event WHERE id < ?", (end,))
        self.mark = Mark(end, following)


_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode(event: Event) -> str:
    """An event as it is stored. Raises TypeError or ValueError for what is no JSON."""
    body = _encode(event)
    if len(body) > EVENT_BYTES:
        body = _encode({**event, "detail": {"cut": f"more than {EVENT_BYTES} bytes"}})
    return summed(body)


def plausible(rows: Sequence[tuple[int, bytes | None]], ever: Sequence[object]) -> tuple[list[tuple[int, bytes]], int]:
    """Of events read from a broken file those that can be ours, in order, and the highest id that was given; `ever` is
    what the file says of that. An id that is far from most others is spoilt."""
    ids = sorted(number for number, _ in rows)
    given = [number for number in ever if isinstance(number, int) and 0 < number < ID_LIMIT]
    if not ids:
        return [], max(given, default=0)
    middle = ids[len(ids) // 2]
    near = [number for number in given if abs(number - middle) <= EVENT_LIMIT]
    last = max(near, default=middle + EVENT_LIMIT)
    found = sorted((n, b) for n, b in rows if middle - EVENT_LIMIT <= n <= last and b is not None)
    return found, max(near, default=found[-1][0] if found else 0)
