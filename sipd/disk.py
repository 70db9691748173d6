"""SQLite files of the state directory: opened or set aside, written in transactions, checkpointed apart.

WAL with synchronous=NORMAL: a commit costs tens of microseconds and survives `kill -9`; a power cut can
take the last moments before it, but leaves the file whole.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
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
UNREADABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}


class Database:
    """One SQLite file with one writing connection, for one thread at a time."""

    def __init__(self, path: Path, schema: str, synchronous: str = "NORMAL") -> None:
        """Open `path`, or set it aside when it is broken or unreadable and begin a new one.

        Raises OSError or sqlite3.Error when the directory cannot be written at all.
        """
        self.path = path
        self._schema = schema
        self._synchronous = synchronous
        self._depth = 0
        self._aside = False
        try:
            self.connection = self._open()
        except (OSError, sqlite3.Error) as error:
            if not path.exists() or not (is_broken(error) or is_unreadable(error)):
                raise
            self.set_aside(error)
            self.connection = self._open()

    @property
    def was_set_aside(self) -> bool:
        """Whether the file was found broken, and what it held is gone."""
        return self._aside

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
        """Rename the file and its log, so that the next open begins a new one."""
        aside = self.path.with_name(f"{self.path.name}.broken-{time.time_ns()}")
        log.error("state file set aside path=%s error=%r moved_to=%s", self.path, str(error), aside)
        self._aside = True
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            beside = self.path.with_name(self.path.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
        kept = sorted(p for p in self.path.parent.glob(f"{self.path.name}.broken-*") if p.name[-1].isdigit())
        for old in kept[:-ASIDE_LIMIT]:
            for path in (old, old.with_name(old.name + "-wal"), old.with_name(old.name + "-shm")):
                path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint=0")
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


def is_unreadable(error: Exception) -> bool:
    """Whether we are not let at the file."""
    return isinstance(error, OSError) or _code(error) in UNREADABLE


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


class Checkpointer:
    """A thread that moves what is in the write-ahead logs into the files, so that commits never wait for the disk."""

    def __init__(self, paths: Sequence[Path], seconds: float = CHECKPOINT_SECONDS) -> None:
        self._paths = paths
        self._seconds = seconds
        self._stop = threading.Event()
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
                    log.warning("checkpoint failed path=%s error=%r", path, str(error))


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
