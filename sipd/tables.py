"""The last good table and the last refused one on disk, written by the thread that loads tables."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sipd import salvage
from sipd.disk import Database, is_broken

log = logging.getLogger("sipd.tables")

Doc = dict[str, Any]

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
KEEP_REFUSED = "INSERT OR REPLACE INTO refused VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))"
PART_ROWS = salvage.Rows("SELECT CAST(hash AS BLOB), CAST(body AS BLOB) FROM part", ("hash",))
LIVE_ROWS = salvage.Rows(
    "SELECT one, version, since, CAST(release AS BLOB), CAST(manifest AS BLOB) FROM live", ("one",)
)
REFUSED_ROWS = salvage.Rows(
    "SELECT one, CAST(hash AS BLOB), CAST(release AS BLOB), CAST(problems AS BLOB) FROM refused", ("one",)
)


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
    """The last good table and the last refused one; for one thread at a time.

    Where there can be no file, they are kept in memory until there can be one. Methods raise OSError or sqlite3.Error
    when the disk does not do its part.
    """

    def __init__(self, path: Path) -> None:
        """Never raises for what is wrong with the disk, or with the file."""
        self._path = path
        try:
            self._database = Database(path, TABLE_SCHEMA, synchronous="FULL")
        except (OSError, sqlite3.Error) as error:
            log.error("tables are kept in memory path=%s error=%r", path, str(error))
            self._database = Database(None, TABLE_SCHEMA)
            self._save_from(path)
        else:
            if self._database.aside is not None:
                self._save_from(self._database.aside)

    def read(self) -> StoredTable | None:
        """The last good table. Raises TypeError or ValueError as well, for what is not as it was written."""
        connection = self._database.connection
        row = connection.execute("SELECT version, since, release, manifest FROM live").fetchone()
        if row is None:
            return None
        version, since, release, manifest = row
        parts = {_name(name): body for name, body in connection.execute(PART_ROWS.select)}
        return StoredTable(int(version), float(since), str(release), bytes(manifest), parts)

    def missing(self, names: Iterable[str]) -> set[str]:
        """Which of these parts are not stored."""
        stored = self._database.connection.execute("SELECT CAST(hash AS BLOB) FROM part")
        return set(names) - {_name(name) for (name,) in stored}

    def keep(self, table: StoredTable, names: set[str]) -> None:
        """Make a table the last good one: `names` are all its parts, `table.parts` those that may not be stored yet."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO part VALUES (?, ?)", table.parts.items())
            others = "DELETE FROM part WHERE hash NOT IN (SELECT value FROM json_each(?))"
            connection.execute(others, (_text(sorted(names)),))
            connection.execute(
                "INSERT OR REPLACE INTO live VALUES (1, ?, ?, ?, ?)",
                (table.version, table.since, table.release, table.manifest),
            )

    def remember_refused(self, refused: Refused) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO refused VALUES (1, ?, ?, ?)",
                (refused.hash, refused.release, _text(refused.problems)),
            )

    def refused(self) -> Refused | None:
        """Raises TypeError or ValueError as well, for what is not as it was written."""
        row = self._database.connection.execute("SELECT hash, release, problems FROM refused").fetchone()
        return Refused(str(row[0]), str(row[1]), list(json.loads(row[2]))) if row else None

    def open_again(self) -> None:
        """From memory to a file, if there can be one now; what is to be in it must be kept again. Raises."""
        if self._database.path is None:
            self._database = Database(self._path, TABLE_SCHEMA, synchronous="FULL")

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """In a file that is found broken nothing is left: a new one is begun, and the error raised all the same."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except sqlite3.Error as error:
            if is_broken(error):
                self._database.begin_anew(error)
            raise

    def _save_from(self, path: Path) -> None:
        """Into the new file, what can be read of another one; whether it is whole shows when it is loaded."""
        if not path.is_file():
            return
        parts, live, refused = salvage.read(path, PART_ROWS, LIVE_ROWS, REFUSED_ROWS)
        try:
            with self._database.transaction() as connection:
                connection.executemany("INSERT OR REPLACE INTO part VALUES (CAST(? AS TEXT), ?)", parts)
                connection.executemany("INSERT OR REPLACE INTO live VALUES (?, ?, ?, CAST(? AS TEXT), ?)", live)
                connection.executemany(KEEP_REFUSED, refused)
        except (sqlite3.Error, OverflowError) as error:
            log.error("what was read cannot be stored path=%s error=%r", self._path, str(error))


def _name(name: bytes | None) -> str:
    """Of a part, whatever the disk made of it."""
    return (name or b"").decode("utf-8", "replace")


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _text(value: object) -> str:
    return _encode(value)
