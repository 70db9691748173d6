"""What survives a restart: bindings, registrations, calls, and the events that nobody came for yet.

`state.db` is written by the event loop, one short transaction per batch. `table.db` (`sipd.tables`) is written by the
thread that loads tables: two files, so that neither waits for the other.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sipd import salvage, spool
from sipd.disk import BrokenFile, Database, is_broken, summed, unsummed

log = logging.getLogger("sipd.store")

Change = tuple[str, str, dict[str, Any] | None]
"""(kind, key, record); None removes."""
Doc = dict[str, Any]

STATE_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS state (
    kind TEXT NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (kind, key)
);
"""
    + spool.SCHEMA
)
"""With row ids: without them, a record of more than a quarter of a page costs a page of its own to write."""
STATE_ROWS = salvage.Rows(
    "SELECT CAST(kind AS BLOB), CAST(key AS BLOB), CAST(record AS BLOB) FROM state", ("kind", "key")
)
EVENT_ROWS = salvage.Rows("SELECT id, CAST(body AS BLOB) FROM event", ("id",))
SEQUENCE_ROWS = salvage.Rows("SELECT seq FROM sqlite_sequence WHERE name = 'event'", ("seq",))
RETRY_SECONDS = 5.0
"""After disk trouble the store waits this long before it tries again."""
WAITING_CHANGES = 500_000
"""State changes held in memory while the disk fails, one per key; beyond, the oldest are dropped and counted."""
WAITING_EVENTS = 100_000
"""Events held in memory while the disk fails; beyond, the oldest are dropped and counted."""


class Store:
    """State and events of the node in one file, committed together.

    Disk trouble stops nothing. What could not be written waits in memory, and is tried again; where there can be no
    file, or no longer, one in memory takes its place until there can be one. What can be read of a broken file is kept.
    """

    def __init__(self, path: Path, counters: dict[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        """Never raises for what is wrong with the disk, or with the file; `state` says so."""
        self.path = path
        self._counters = counters
        self._clock = clock
        self._changes: dict[tuple[str, str], str | None] = {}
        self._events: deque[str] = deque()
        self._lost = 0
        """Events for which there was no room while the disk failed."""
        self._retry_at = 0.0
        self._error = ""
        """Why the disk fails; empty: it does not."""
        self._since = 0.0
        self.lacking = False
        """Whether the file lacks what was stored before it broke: who knows it is asked to note it once more."""
        for name in ("store.commits", "store.failures", "store.dropped", "store.unreadable"):
            counters.setdefault(name, 0)
        try:
            self._database = Database(path, STATE_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            self._say(error)
            self._database = Database(None, STATE_SCHEMA)
            self._save_from(path)
        else:
            if self._database.aside is not None:
                self._save_from(self._database.aside)
        self.spool = spool.Spool(self._database, counters, self._limit)

    @property
    def in_memory(self) -> bool:
        """Whether there is no file now."""
        return self._database.path is None

    @property
    def _limit(self) -> int:
        """Of events."""
        return WAITING_EVENTS if self.in_memory else spool.EVENT_LIMIT

    @property
    def to_be_filled(self) -> bool:
        """Whether what it is lacking would be taken now."""
        return self.lacking and (not self._error or self.in_memory)

    def state(self, now: float) -> Doc:
        """docs/architecture.md, `status`; `now` is what the clock on the wall says."""
        changes, events = len(self._changes), len(self._events)
        if self.in_memory:
            changes += self._database.connection.execute("SELECT count(*) FROM state").fetchone()[0]
            events += self.spool.mark.next - self.spool.mark.first
        return {
            "state": "failing" if self._error else "ok",
            "since": round(now - (self._clock() - self._since), 3) if self._error else None,
            "error": self._error,
            "file": not self.in_memory,
            "waiting": {"changes": changes, "events": events},
        }

    def changes(self) -> list[Change]:
        """All state, for `Edge.restore`. A record that is not as it was written is left out, counted and logged."""
        found: list[Change] = []
        try:
            for kind, key, body in self._database.connection.execute(STATE_ROWS.select):
                record = _record(body) if kind is not None and key is not None else None
                if record is None:
                    self._counters["store.unreadable"] += 1
                    log.error("stored record left out kind=%r key=%r", kind, key)
                else:
                    found.append((kind.decode(), key.decode(), record))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            log.error("stored records cannot be read on path=%s read=%d error=%r", self.path, len(found), str(error))
        return found

    def commit(self, changes: Iterable[Change], events: Iterable[Doc]) -> bool:
        """Store a batch; whether it is on disk. Never raises for disk trouble."""
        self._take(changes, events)
        waiting = self._error and self._clock() < self._retry_at
        if self.in_memory and not waiting:
            self._come_back()
        if not self._changes and not self._events:
            return not self.in_memory
        if waiting and not self.in_memory:
            self._bound()
            return False
        before = self.spool.mark
        try:
            with self._database.transaction() as connection:
                self._write(connection)
        except (OSError, sqlite3.Error) as error:
            self.spool.mark = before
            self._failed(error)
            return False
        self._changes.clear()
        self._events.clear()
        self._lost = 0
        self._counters["store.commits"] += 1
        if self._error and not self.in_memory:
            self._works()
        return not self.in_memory

    def events(self, after: int, limit: int) -> tuple[list[Doc], int]:
        """`Spool.answer`. A file that is found broken by this is replaced. Raises sqlite3.Error."""
        try:
            return self.spool.answer(after, limit)
        except sqlite3.Error as error:
            if not is_broken(error):
                raise
            self._failed(error)
            return self.spool.answer(after, limit)

    def look(self) -> None:
        """Whether the file is still there: what is written into one that was removed is lost with the process."""
        if not self.in_memory and not self.path.exists():
            self._failed(BrokenFile("the file was removed"))

    @property
    def failing(self) -> bool:
        """Whether state could not be written, and waits in memory."""
        return bool(self._error)

    def close(self) -> None:
        """Write what waits, if the disk takes it, and close the file."""
        self._retry_at = 0.0
        if not self.commit((), ()):
            waiting = self.state(0.0)["waiting"]
            log.error("state lost at stop changes=%d events=%d", waiting["changes"], waiting["events"])
        self._database.close()

    def _take(self, changes: Iterable[Change], events: Iterable[Doc]) -> None:
        """Encode at once: what is no JSON is a fault of ours, and must not stop what comes after it."""
        for kind, key, record in changes:
            try:
                self._changes[kind, key] = None if record is None else summed(_text(record))
            except (TypeError, ValueError):
                log.exception("record cannot be stored kind=%s key=%r", kind, key)
        for event in events:
            try:
                self._events.append(spool.encode(event))
            except (TypeError, ValueError):
                log.exception("event cannot be stored kind=%r", event.get("kind"))

    def _write(self, connection: sqlite3.Connection) -> None:
        gone = [place for place, record in self._changes.items() if record is None]
        kept = [(*place, record) for place, record in self._changes.items() if record is not None]
        if gone:
            connection.executemany("DELETE FROM state WHERE kind = ? AND key = ?", gone)
        if kept:
            connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", kept)
        if self._lost:
            self.spool.append([self.spool.dropped(self._lost, "the disk did not take them in time")])
        self.spool.append_encoded(self._events)

    # Trouble

    def _failed(self, error: OSError | sqlite3.Error) -> None:
        self._say(error)
        self._bound()
        if is_broken(error):
            self._begin_anew(error)

    def _say(self, error: OSError | sqlite3.Error) -> None:
        """Count it, and log it once."""
        self._counters["store.failures"] += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._error:
            self._since = self._clock()
            log.error("store failed, going on from memory path=%s error=%r", self.path, str(error))
        self._error = str(error) or type(error).__name__

    def _works(self) -> None:
        self._error = ""
        log.warning("store works again path=%s", self.path)

    def _begin_anew(self, error: OSError | sqlite3.Error) -> None:
        """In place of a broken file: a new one, or one in memory. What the old one held comes along as far as it can be
        read; the rest of the state is still known to the core."""
        old = self._database
        old.close()
        try:
            old.set_aside(error)
            self._database = Database(self.path, STATE_SCHEMA)
            self._retry_at = self._clock()
        except (OSError, sqlite3.Error) as again:
            self._say(again)
            self._database = Database(None, STATE_SCHEMA)
        self._save_from(old.aside or self.path)
        self.spool.use(self._database, self._limit)
        self.lacking = True

    def _come_back(self) -> None:
        """From memory to a file, with all that memory holds; a file that was there before has its events and ours."""
        memory = self._database
        try:
            self._database = Database(self.path, STATE_SCHEMA)
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM state")
                _move(memory.connection, connection)
            self.spool.use(self._database, self._limit)
        except (OSError, sqlite3.Error) as error:
            if self._database is not memory:
                self._database.close()
            self._database = memory
            self.spool.use(memory, self._limit)
            self._say(error)
        else:
            memory.close()
            self._works()

    def _save_from(self, path: Path) -> None:
        """Into the new file, what can be read of another one."""
        if not path.is_file():
            return
        states, events, sequence = salvage.read(path, STATE_ROWS, EVENT_ROWS, SEQUENCE_ROWS)
        known = [row for row in states if None not in row and _record(row[2]) is not None]
        numbered, last = spool.plausible(events, [number for (number,) in sequence])
        try:
            with self._database.transaction() as connection:
                _put(connection, known, numbered[-self._limit :], last)
        except sqlite3.Error as error:
            log.error("what was read cannot be stored path=%s error=%r", self.path, str(error))

    def _bound(self) -> None:
        """Keep what waits within its limits."""
        for waiting, limit in ((self._changes, WAITING_CHANGES), (self._events, WAITING_EVENTS)):
            excess = len(waiting) - limit
            if excess <= 0:
                continue
            self._counters["store.dropped"] += excess
            if isinstance(waiting, dict):
                for place in list(waiting)[:excess]:
                    del waiting[place]
                self.lacking = True
            else:
                for _ in range(excess):
                    waiting.popleft()
                self._lost += excess


def _move(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """All rows of one file into another one."""
    states, events, sequence = (
        source.execute(rows.select).fetchall() for rows in (STATE_ROWS, EVENT_ROWS, SEQUENCE_ROWS)
    )
    _put(target, states, events, max((number for (number,) in sequence), default=0))


def _put(
    connection: sqlite3.Connection,
    states: Sequence[tuple[bytes, bytes, bytes]],
    events: Sequence[tuple[int, bytes]],
    last: int,
) -> None:
    """Rows as `salvage` reads them; `last` is the highest id of an event that was ever given."""
    state = "INSERT OR REPLACE INTO state VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))"
    connection.executemany(state, states)
    connection.executemany("INSERT OR IGNORE INTO event VALUES (?, CAST(? AS TEXT))", events)
    if last:
        ever = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'").fetchone()[0] or 0
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'event'")
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", (max(ever, last),))


def _record(body: bytes | None) -> Doc | None:
    """A stored record, None when it is not as it was written."""
    text = unsummed(body) if body is not None else None
    try:
        record = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


_text = json.JSONEncoder(separators=(",", ":")).encode
