"""What survives a restart: bindings and upstream registrations, events, and the last good table.

`state.db` is written by the event loop, one short transaction per batch; `table.db` by the thread that
loads tables. Two files, so that neither waits for the other.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipd import spool
from sipd.disk import Database, is_broken

log = logging.getLogger("sipd.store")

Change = tuple[str, str, dict[str, Any] | None]
"""(kind, key, record); None removes."""
Doc = dict[str, Any]

STATE_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS state (
    kind TEXT NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
    + spool.SCHEMA
)
RETRY_SECONDS = 5.0
"""After disk trouble the store waits this long before it tries again."""
WAITING_CHANGES = 500_000
"""State changes held in memory while the disk fails, one per key; beyond, the oldest are dropped and counted."""
WAITING_EVENTS = 100_000
"""Events held in memory while the disk fails; beyond, the oldest are dropped and counted."""


class Store:
    """State and events of the node in one file, committed together.

    Disk trouble stops nothing: what could not be written waits in memory, and is tried again.
    """

    def __init__(self, path: Path, counters: dict[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError or sqlite3.Error when the directory cannot be written at all."""
        self._database = Database(path, STATE_SCHEMA)
        self._counters = counters
        self._clock = clock
        self._changes: dict[tuple[str, str], str | None] = {}
        self._events: deque[str] = deque()
        self._retry_at = 0.0
        self._failing = False
        for name in ("store.commits", "store.failures", "store.dropped"):
            counters.setdefault(name, 0)
        self.spool = spool.Spool(self._database, counters)

    def changes(self) -> list[Change]:
        """All state, for `Edge.restore`. A record that cannot be read is left out, and logged."""
        found: list[Change] = []
        for kind, key, record in self._database.connection.execute("SELECT kind, key, record FROM state"):
            try:
                found.append((kind, key, json.loads(record)))
            except ValueError:
                log.error("stored record left out kind=%s key=%r", kind, key)
        return found

    def commit(self, changes: Iterable[Change], events: Iterable[Doc]) -> bool:
        """Store a batch; whether it is on disk. Never raises for disk trouble."""
        self._take(changes, events)
        if not self._changes and not self._events:
            return True
        if self._failing and self._clock() < self._retry_at:
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
        self._counters["store.commits"] += 1
        if self._failing:
            self._failing = False
            log.warning("store works again path=%s", self._database.path)
        return True

    @property
    def failing(self) -> bool:
        """Whether state could not be written, and waits in memory."""
        return self._failing

    def close(self) -> None:
        """Write what waits, if the disk takes it, and close the file."""
        self._retry_at = 0.0
        if not self.commit((), ()):
            log.error("state lost at stop changes=%d events=%d", len(self._changes), len(self._events))
        self._database.close()

    def _take(self, changes: Iterable[Change], events: Iterable[Doc]) -> None:
        """Encode at once: what is no JSON is a fault of ours, and must not stop what comes after it."""
        for kind, key, record in changes:
            try:
                self._changes[kind, key] = None if record is None else _text(record)
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
        self.spool.append_encoded(self._events)

    def _failed(self, error: OSError | sqlite3.Error) -> None:
        self._counters["store.failures"] += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._failing:
            self._failing = True
            log.error("store failed, going on from memory path=%s error=%r", self._database.path, str(error))
        self._bound()
        if is_broken(error):
            try:
                self._database.begin_anew(error)
                self.spool.mark = self.spool.find_mark()
            except (OSError, sqlite3.Error) as again:
                log.error("no new state file path=%s error=%r", self._database.path, str(again))

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
            else:
                for _ in range(excess):
                    waiting.popleft()


TABLE_SCHEMA = """
CREATE TABLE IF NOT EXISTS part (hash TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS live (
    one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, since REAL NOT NULL, release TEXT NOT NULL,
    manifest BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    one INTEGER PRIMARY KEY CHECK (one = 1), hash TEXT NOT NULL, release TEXT NOT NULL, problems TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """The last good table, as bytes of canonical JSON."""

    version: int
    since: float
    """Epoch seconds."""
    release: str
    """Of the daemon that accepted it."""
    manifest: bytes
    parts: Mapping[str, bytes]
    """By hash."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The last table that was refused, and why."""

    hash: str
    release: str
    """Of the daemon that refused it: another release may think otherwise."""
    problems: list[Doc]


class TableStore:
    """The last good table and the last refused one. Raises sqlite3.Error; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, TABLE_SCHEMA, synchronous="FULL")

    def read(self) -> StoredTable | None:
        """The last good table."""
        connection = self._database.connection
        row = connection.execute("SELECT version, since, release, manifest FROM live").fetchone()
        if row is None:
            return None
        version, since, release, manifest = row
        return StoredTable(version, since, release, manifest, dict(connection.execute("SELECT hash, body FROM part")))

    def keep(self, table: StoredTable, names: set[str]) -> None:
        """Make a table the last good one: `names` are all its parts, `table.parts` those that may not be stored yet."""
        with self._database.transaction() as connection:
            stored = {name for (name,) in connection.execute("SELECT hash FROM part")}
            connection.executemany("INSERT OR REPLACE INTO part VALUES (?, ?)", table.parts.items())
            connection.executemany("DELETE FROM part WHERE hash = ?", [(name,) for name in stored - names])
            connection.execute(
                "INSERT OR REPLACE INTO live VALUES (1, ?, ?, ?, ?)",
                (table.version, table.since, table.release, table.manifest),
            )

    def remember_refused(self, refused: Refused) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO refused VALUES (1, ?, ?, ?)",
                (refused.hash, refused.release, _text(refused.problems)),
            )

    def refused(self) -> Refused | None:
        row = self._database.connection.execute("SELECT hash, release, problems FROM refused").fetchone()
        return Refused(row[0], row[1], json.loads(row[2])) if row else None

    def close(self) -> None:
        self._database.close()


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
