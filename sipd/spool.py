"""The durable event spool: ids rise by one and never repeat, whatever happens to the process or the file.

The first id of a new file is the time in microseconds. So a spool that was lost with its disk begins above
every id that it ever gave, and a panel that asks after its old cursor misses nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sipd.disk import Database

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
        self._database = database
        self._counters = counters
        self._limit = limit
        self._clock = clock
        counters.setdefault("spool.dropped", 0)
        self.mark = self.find_mark()

    def find_mark(self) -> Mark:
        """Read from the file where the spool stands; a new file gets its first id."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()
            if row is None:
                last = int(self._clock() * 1_000_000)
                connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", (last,))
            else:
                last = row[0]
            (first,) = connection.execute("SELECT min(id) FROM event").fetchone()
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
            excess = following - first - self._limit
            if excess > min(TRIM, self._limit // 10):
                first += excess
                connection.execute("DELETE FROM event WHERE id < ?", (first,))
                self._counters["spool.dropped"] += excess
        self.mark = Mark(first, following)

    def read(self, after: int, limit: int) -> list[Event]:
        """Up to `limit` events with ids above `after`, in order."""
        rows = self._database.connection.execute(
            "SELECT id, body FROM event WHERE id > ? ORDER BY id LIMIT ?", (after, max(0, min(limit, READ_LIMIT)))
        )
        return [{"id": event_id, **json.loads(body)} for event_id, body in rows]

    def forget(self, upto: int) -> None:
        """Events up to this id are stored elsewhere."""
        first, following = self.mark
        end = min(upto + 1, following, first + FORGET_LIMIT)
        if end <= first:
            return
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM event WHERE id < ?", (end,))
        self.mark = Mark(end, following)


def encode(event: Event) -> str:
    """An event as it is stored. Raises TypeError or ValueError for what is no JSON."""
    body = json.dumps(event, separators=(",", ":"))
    if len(body) > EVENT_BYTES:
        return json.dumps({**event, "detail": {"cut": f"more than {EVENT_BYTES} bytes"}}, separators=(",", ":"))
    return body
