"""SQLite files of the state directory: opened or set aside, written in transactions, checkpointed apart.

WAL with synchronous=NORMAL: a commit costs tens of microseconds and survives `kill -9`; a power cut can
take the last moments before it, but leaves the file whole.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger("sipd.disk")

BUSY_SECONDS = 0.25
"""How long a commit waits for the checkpointer's lock before it counts as failed."""
CHECKPOINT_SECONDS = 5.0
WAL_BYTES = 64 * 1024 * 1024
"""A write-ahead log that is longer is emptied with the writers held for a moment."""
ASIDE_LIMIT = 3
"""Broken files kept for inspection, the newest."""
BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
SUM = b'{"~":"%08x",'
"""How a record begins that carries its checksum: SQLite has none for what is in its pages."""
SUM_BYTES = len(SUM % 0)


class Database:
    """One SQLite file with one writing connection, for one thread at a time; without a path it is in memory."""

    def __init__(self, path: Path | None, schema: str, synchronous: str = "NORMAL") -> None:
        """Open `path`, or set it aside when it is broken, or no file of ours, and begin a new one.

        Raises OSError or sqlite3.Error when there can be no such file now: no directory, no space, no permission.
        """
        self.path = path
        self._schema = schema
        self._synchronous = synchronous
        self._depth = 0
        self.aside: Path | None = None
        """Where the file was moved that was found broken."""
        try:
            self.connection = self._open()
        except (OSError, sqlite3.Error) as error:
            if path is None or not path.exists() or not (is_broken(error) or not _is_ours(path)):
                raise
            self.set_aside(error)
            self.connection = self._open()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; a transaction within another belongs to it. Raises sqlite3.Error."""
        if self._depth:
            yield self.connection
            return
        self.connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def begin_anew(self, error: Exception) -> None:
        """Set the broken file aside at run time, and open a new one. Raises as the constructor does."""
        with suppress(sqlite3.Error):
            self.connection.close()
        self.set_aside(error)
        self.connection = self._open()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.connection.close()

    def set_aside(self, error: Exception) -> None:
        """Rename the file and its log, if it is there, so that the next open begins a new one. Raises OSError."""
        if self.path is None or not self.path.exists():
            return
        aside = self.path.with_name(f"{self.path.name}.broken-{time.time_ns()}")
        self.path.rename(aside)
        log.error("state file set aside path=%s error=%r moved_to=%s", self.path, str(error), aside)
        self.aside = aside
        for suffix in ("-wal", "-shm"):
            beside = self.path.with_name(self.path.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
        kept = sorted(p for p in self.path.parent.glob(f"{self.path.name}.broken-*") if p.name[-1].isdigit())
        for old in kept[:-ASIDE_LIMIT]:
            for path in (old, old.with_name(old.name + "-wal"), old.with_name(old.name + "-shm")):
                path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        place = ":memory:" if self.path is None else self.path
        connection = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if self.path is not None:
                self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("PRAGMA temp_store=MEMORY")  # no file that would need a descriptor, or space
            verdict: Sequence[str] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict[0] != "ok":
                raise BrokenFile(verdict[0])
            connection.executescript(self._schema)
        except BaseException:
            connection.close()
            raise
        return connection


class BrokenFile(sqlite3.DatabaseError):
    """The file opened, but its pages contradict each other."""


def is_broken(error: Exception) -> bool:
    """Whether the file itself is at fault, rather than the disk, a lock or a limit."""
    return isinstance(error, BrokenFile) or _code(error) in BROKEN


def _is_ours(path: Path) -> bool:
    """Whether there is a file that we are let at."""
    return path.is_file() and os.access(path, os.R_OK | os.W_OK)


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def summed(text: str) -> str:
    """A JSON object in ASCII with its checksum in front of its first key; it stays a JSON object."""
    if text == "{}":
        return text
    return (SUM % zlib.crc32(text.encode())).decode() + text[1:]


def unsummed(data: bytes) -> bytes | None:
    """What `summed` was given, or what an earlier release wrote without a sum; None when it was spoilt since."""
    if not data.startswith(SUM[:6]):
        return data
    text = b"{" + data[SUM_BYTES:]
    return text if data[:SUM_BYTES] == SUM % zlib.crc32(text) else None


class Checkpointer:
    """A thread that moves what is in the write-ahead logs into the files, so that commits never wait for the disk."""

    def __init__(self, paths: Sequence[Path], seconds: float = CHECKPOINT_SECONDS) -> None:
        self._paths = paths
        self._seconds = seconds
        self._stop = threading.Event()
        self._failing: set[Path] = set()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for path in self._paths:
                try:
                    checkpoint(path)
                except (OSError, sqlite3.Error) as error:
                    if path not in self._failing:
                        log.warning("checkpoint failed path=%s error=%r", path, str(error))
                    self._failing.add(path)
                else:
                    self._failing.discard(path)


def checkpoint(path: Path) -> None:
    """Checkpoint one file. Raises OSError or sqlite3.Error."""
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or not wal.stat().st_size:
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if wal.stat().st_size > WAL_BYTES:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
