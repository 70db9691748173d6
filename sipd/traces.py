"""Traces on disk: a file of their own, written by a thread of its own, bounded in bytes and age.

Nothing that happens here has an effect on calls. The event loop hands batches over and forgets them; when the disk
is full, broken or too slow, batches are dropped and counted, one line is logged, and tracing goes on in memory.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sipd.disk import Database, is_broken
from sipd.flow import shown
from sipd.trace import Batch, Trace, scrub_all

log = logging.getLogger("sipd.traces")

SCHEMA = """
CREATE TABLE IF NOT EXISTS trace (
    id TEXT PRIMARY KEY, shelf TEXT NOT NULL, tenant TEXT NOT NULL, user TEXT NOT NULL, parties TEXT NOT NULL,
    code INTEGER NOT NULL, since REAL NOT NULL, bytes INTEGER NOT NULL, about TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trace_since ON trace (shelf, since);
CREATE TABLE IF NOT EXISTS leg (call_id TEXT NOT NULL, trace TEXT NOT NULL, PRIMARY KEY (call_id, trace)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS piece (
    trace TEXT NOT NULL, no INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (trace, no)
) WITHOUT ROWID;
"""
INSERT_TRACE = "INSERT OR REPLACE INTO trace VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
QUEUE_LIMIT = 64
"""Hand-overs that may wait for the disk; one more is dropped and counted."""
BATCH_LIMIT = 20_000
"""Traces in one hand-over; of more the last are dropped and counted."""
TRACE_BYTES = 2 * 1024 * 1024
"""Compressed bytes of one trace; further messages of it are not stored, and counted."""
ROW_BYTES = 600
"""What a trace takes beside its messages, about."""
CALLS_SHARE = 0.75
"""Share of the bytes that calls have; the rest is for all else, so that strangers push no call out."""
SLICE_SHARE = 0.05
"""Of the bytes, what one transaction may add before the oldest go."""
RING_KINDS = ("registration", "upstream", "subscription")
RING_PIECES = 10
"""Of these kinds the newest hand-overs are kept."""
RETRY_SECONDS = 30.0
"""After disk trouble, before the disk is tried again."""
AGE_SECONDS = 3600.0
"""Between two looks for traces that are too old."""
FIND_LIMIT = 500
"""Most traces in one list."""
STOP_SECONDS = 3.0
"""For the thread to write what waits when the daemon stops."""

Doc = dict[str, Any]

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is kept, and what of it."""

    megabytes: int = 256
    """Of the file. 0: traces are in memory only."""
    days: float = 7.0
    bodies: str = "sdp"
    """One of `redact.BODIES`."""


KEEPING = Keeping()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list of traces is to hold. Empty and None: does not matter."""

    tenant: str | None = None
    user: str = ""
    number: str = ""
    """Part of who called or was called."""
    kind: str = ""
    code: int = 0
    """A status, or its class: 4 is all from 400 to 499."""
    since: float = 0.0
    before: float = 0.0
    limit: int = 50

    def takes(self, trace: Trace) -> bool:
        """The same as `TraceStore.find`, for a trace in memory."""
        low, high = self.codes
        return (
            self.tenant in (None, trace.tenant)
            and self.user in ("", trace.user)
            and self.kind in ("", trace.kind)
            and low <= trace.code <= high
            and trace.since >= self.since
            and (not self.before or trace.since < self.before)
            and (self.number in trace.from_text or self.number in trace.to_text)
        )

    @property
    def codes(self) -> tuple[int, int]:
        if not self.code:
            return 0, 999
        return (self.code, self.code) if self.code >= 100 else (self.code * 100, self.code * 100 + 99)


class Kept(NamedTuple):
    """A trace as it is on disk."""

    about: Doc
    messages: list[Doc]
    steps: list[Doc]


class TraceStore:
    """`put` and `close` are for the event loop; `find` and `read` for any thread."""

    def __init__(
        self, path: Path, counters: dict[str, int], keeping: Keeping, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._counters = counters
        self._keeping = keeping
        self._clock = clock
        for name in ("traces.stored", "traces.unstored", "traces.failures", "traces.removed"):
            counters.setdefault(name, 0)
        self._queue: queue.Queue[list[Batch] | None] = queue.Queue(QUEUE_LIMIT)
        self._database: Database | None = None
        self._sizes = {"calls": 0, "others": 0}
        self._failing = False
        self._retry_at = 0.0
        self._aged_at = 0.0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    # -- for the event loop

    def put(self, batches: list[Batch]) -> None:
        """Have these written soon. Never waits, never raises."""
        if len(batches) > BATCH_LIMIT:
            self._counters["traces.unstored"] += len(batches) - BATCH_LIMIT
            del batches[BATCH_LIMIT:]
        try:
            self._queue.put_nowait(batches)
        except queue.Full:
            self._counters["traces.unstored"] += len(batches)

    @property
    def waiting(self) -> int:
        """Hand-overs that wait for the disk."""
        return self._queue.qsize()

    @property
    def held(self) -> int:
        """About how many bytes are kept."""
        return sum(self._sizes.values())

    def close(self) -> None:
        """Write what waits, for a while at most."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
            self._thread.join(STOP_SECONDS)

    # -- the thread

    def _run(self) -> None:
        while (batches := self._queue.get()) is not None:
            try:
                self._take(batches)
            except Exception:  # a fault of ours costs this hand-over, and no later one
                self._counters["traces.failures"] += 1
                log.exception("traces not stored")
        if self._database is not None:
            self._database.close()

    def _take(self, batches: list[Batch]) -> None:
        """Secrets go here, also out of what stays in memory, and whether or not there is a disk."""
        rows = [(batch, self._encoded(batch)) for batch in batches]
        if not self._keeping.megabytes:
            return
        if self._failing and self._clock() < self._retry_at:
            self._counters["traces.unstored"] += len(rows)
            return
        try:
            self._write(rows)
        except (OSError, sqlite3.Error) as error:
            self._failed(error, len(rows))
        else:
            if self._failing:
                self._failing = False
                log.warning("traces are stored again path=%s", self._path)

    def _encoded(self, batch: Batch) -> bytes:
        """A line of JSON with all but the messages, and these as they are: JSON would look at each of their bytes."""
        messages = batch.messages
        scrub_all(messages, self._keeping.bodies)
        told = [
            (said.no, round(said.at, 6), said.way, shown(said.flow), said.flow.listener, said.leg, len(said.data))
            for said in messages
        ]
        head = _json({"of": told, "steps": batch.steps}).encode()
        return zlib.compress(b"\n".join([head, *(said.data for said in messages)]), 1)

    def _write(self, rows: Sequence[tuple[Batch, bytes]]) -> None:
        """In slices, each with its own trimming, so that no hand-over is too large for the file."""
        database = self._opened()
        done = 0
        while done < len(rows):
            upto, size = done, 0
            while upto < len(rows) and (upto == done or size < self._budget * SLICE_SHARE):
                size += len(rows[upto][1]) + ROW_BYTES
                upto += 1
            sizes = dict(self._sizes)
            try:
                with database.transaction() as connection:
                    self._write_slice(connection, rows[done:upto])
                    self._trim(connection)
            except BaseException:
                self._sizes = sizes
                raise
            self._counters["traces.stored"] += upto - done
            done = upto

    def _write_slice(self, connection: sqlite3.Connection, rows: Sequence[tuple[Batch, bytes]]) -> None:
        """Calls of which nothing is here yet go in together, without a look: their ids are drawn, and nobody's else."""
        new: list[tuple[Doc, bytes]] = []
        for batch, body in rows:
            if batch.first and batch.about["kind"] == "call" and len(body) <= TRACE_BYTES:
                new.append((batch.about, body))
            else:
                self._write_one(connection, batch.about, body)
        if not new:
            return
        connection.executemany("INSERT OR REPLACE INTO piece VALUES (?, 1, ?)", [(a["id"], body) for a, body in new])
        sized = [(about, len(body) + ROW_BYTES) for about, body in new]
        connection.executemany(INSERT_TRACE, [_row(about["id"], "calls", about, size) for about, size in sized])
        legs = [(name, about["id"]) for about, _ in new for name in about["legs"]]
        connection.executemany("INSERT OR IGNORE INTO leg VALUES (?, ?)", legs)
        self._sizes["calls"] += sum(size for _, size in sized)

    def _write_one(self, connection: sqlite3.Connection, about: Doc, body: bytes) -> None:
        shelf = "calls" if about["kind"] == "call" else "others"
        id_ = about["id"]
        rows = "SELECT bytes, tenant FROM trace WHERE id = ?"
        row = connection.execute(rows, (id_,)).fetchone()
        if (
            row and row[1] != about["tenant"]
        ):  # somebody else used that Call-ID: what was said then is not this tenant's
            id_ = f"{id_} {about['tenant']}"
            about = {**about, "id": id_}
            row = connection.execute(rows, (id_,)).fetchone()
        size, more = (row[0], 0) if row else (ROW_BYTES, ROW_BYTES)
        if size + len(body) <= TRACE_BYTES:
            (no,) = connection.execute("SELECT coalesce(max(no), 0) FROM piece WHERE trace = ?", (id_,)).fetchone()
            connection.execute("INSERT INTO piece VALUES (?, ?, ?)", (id_, no + 1, body))
            size += len(body)
            more += len(body)
            if about["kind"] in RING_KINDS and no >= RING_PIECES:
                gone = (id_, no + 1 - RING_PIECES)
                lengths = "SELECT coalesce(sum(length(body)), 0) FROM piece WHERE trace = ? AND no <= ?"
                (freed,) = connection.execute(lengths, gone).fetchone()
                connection.execute("DELETE FROM piece WHERE trace = ? AND no <= ?", gone)
                size -= freed
                more -= freed
        else:
            self._counters["traces.unstored"] += 1
        connection.execute(INSERT_TRACE, _row(id_, shelf, about, size))
        connection.executemany("INSERT OR IGNORE INTO leg VALUES (?, ?)", [(name, id_) for name in about["legs"]])
        self._sizes[shelf] += more

    def _trim(self, connection: sqlite3.Connection) -> None:
        """The oldest go: those beyond the age, and those beyond the bytes of their shelf."""
        now = self._clock()
        if now - self._aged_at >= AGE_SECONDS:
            self._aged_at = now
            old = now - self._keeping.days * 86_400
            for shelf in self._sizes:
                rows = "SELECT id, bytes FROM trace WHERE shelf = ? AND since < ?"
                self._remove(connection, shelf, connection.execute(rows, (shelf, old)).fetchall())
        for shelf, share in (("calls", CALLS_SHARE), ("others", 1 - CALLS_SHARE)):
            limit = self._budget * share
            while self._sizes[shelf] > limit:
                rows = "SELECT id, bytes FROM trace WHERE shelf = ? ORDER BY since LIMIT 100"
                found = connection.execute(rows, (shelf,)).fetchall()
                if not found:
                    self._sizes[shelf] = 0
                    break
                excess = self._sizes[shelf] - limit
                while excess > 0 and found:
                    row = found.pop(0)
                    excess -= row[1]
                    self._remove(connection, shelf, [row])

    @property
    def _budget(self) -> float:
        """Of the file's bytes, what traces may have: pages are not always full."""
        return self._keeping.megabytes * 1024 * 1024 * 0.7

    def _remove(self, connection: sqlite3.Connection, shelf: str, rows: Iterable[tuple[str, int]]) -> None:
        for id_, size in rows:
            (about,) = connection.execute("SELECT about FROM trace WHERE id = ?", (id_,)).fetchone()
            legs = [(name, id_) for name in json.loads(about)["legs"]]
            connection.executemany("DELETE FROM leg WHERE call_id = ? AND trace = ?", legs)
            connection.execute("DELETE FROM piece WHERE trace = ?", (id_,))
            connection.execute("DELETE FROM trace WHERE id = ?", (id_,))
            self._sizes[shelf] -= size
            self._counters["traces.removed"] += 1

    def _opened(self) -> Database:
        if self._database is None:
            database = Database(self._path, SCHEMA)
            try:
                self._begin(database)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _begin(self, database: Database) -> None:
        """Our own thread may wait for the disk, so the log is emptied here; the file has a hard end."""
        connection = database.connection
        connection.execute("PRAGMA wal_autocheckpoint=500")
        connection.execute("PRAGMA journal_size_limit=1048576")
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count={max(64, self._keeping.megabytes * 1024 * 1024 // page)}")
        for shelf in self._sizes:
            rows = "SELECT coalesce(sum(bytes), 0) FROM trace WHERE shelf = ?"
            (self._sizes[shelf],) = connection.execute(rows, (shelf,)).fetchone()
        for aside in self._path.parent.glob(f"{self._path.name}.broken-*"):  # of no use to anybody, and unbounded
            aside.unlink(missing_ok=True)

    def _failed(self, error: OSError | sqlite3.Error, count: int) -> None:
        self._counters["traces.failures"] += 1
        self._counters["traces.unstored"] += count
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._failing:
            self._failing = True
            log.error("traces cannot be stored, tracing goes on in memory path=%s error=%r", self._path, str(error))
        if self._database is not None:
            self._database.close()
            self._database = None
        if is_broken(error):
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    # -- for any thread

    def find(self, wanted: Wanted) -> list[Doc]:
        """What is known of traces, newest first; nothing when the file cannot be read."""
        low, high = wanted.codes
        query = (
            "SELECT about FROM trace WHERE (?1 IS NULL OR tenant = ?1) AND (?2 = '' OR user = ?2)"
            " AND (?3 = '' OR instr(parties, ?3)) AND code BETWEEN ?4 AND ?5 AND since >= ?6"
            " AND (?7 = 0 OR since < ?7) AND (?8 = '' OR json_extract(about, '$.kind') = ?8)"
            " ORDER BY since DESC LIMIT ?9"
        )
        values = (
            wanted.tenant, wanted.user, wanted.number, low, high, wanted.since, wanted.before, wanted.kind,
            max(0, min(wanted.limit, FIND_LIMIT)),
        )  # fmt: skip
        return [json.loads(about) for (about,) in self._asked(query, values)]

    def read(self, name: str, tenant: str | None = None) -> Kept | None:
        """By id, or by a Call-ID: then the newest that has it. Of this tenant, if one is given."""
        query = (
            "SELECT id, about FROM trace WHERE (?2 IS NULL OR tenant = ?2)"
            " AND (id = ?1 OR id IN (SELECT trace FROM leg WHERE call_id = ?1))"
            " ORDER BY id = ?1 DESC, since DESC LIMIT 1"
        )
        for id_, about in self._asked(query, (name, tenant)):
            kept = Kept(json.loads(about), [], [])
            for (body,) in self._asked("SELECT body FROM piece WHERE trace = ? ORDER BY no", (id_,)):
                messages, steps = decoded(body)
                kept.messages.extend(messages)
                kept.steps.extend(steps)
            return kept
        return None

    def beginning(self, name: str, tenant: str | None) -> list[str]:
        """Up to two ids that begin like this."""
        query = "SELECT id FROM trace WHERE substr(id, 1, length(?1)) = ?1 AND (?2 IS NULL OR tenant = ?2) LIMIT 2"
        return [id_ for (id_,) in self._asked(query, (name, tenant))]

    def _asked(self, query: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        """Rows by a connection of their own; none when the file is not there or broken."""
        if not self._path.exists():
            return iter(())
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
                return iter(connection.execute(query, values).fetchall())
        except sqlite3.Error as error:
            self._counters["traces.failures"] += 1
            log.warning("traces cannot be read path=%s error=%r", self._path, str(error))
            return iter(())


def decoded(body: bytes) -> tuple[list[Doc], list[Doc]]:
    """Messages and steps of a piece, as docs/architecture.md has them at `trace`."""
    head, _, text = zlib.decompress(body).partition(b"\n")
    piece = json.loads(head)
    if "messages" in piece:  # as an earlier release wrote them
        return piece["messages"], piece["steps"]
    messages, begin = [], 0
    for no, at, way, flow, listener, leg, size in piece["of"]:
        said = text[begin : begin + size].decode("utf-8", "replace")
        messages.append({"no": no, "at": at, "way": way, "flow": flow, "listener": listener, "leg": leg, "text": said})
        begin += size + 1
    return messages, piece["steps"]


def _row(id_: str, shelf: str, about: Doc, size: int) -> tuple[object, ...]:
    """For `INSERT_TRACE`."""
    whose = about["tenant"], about["user"], parties(about)
    return (id_, shelf, *whose, about["code"], about["since"], size, _json(about))


def parties(about: Doc) -> str:
    """Who called and who was called, as text to look for numbers in."""
    return f"{about['from']} {about['to']}"
