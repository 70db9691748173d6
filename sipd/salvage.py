"""What can still be read of an SQLite file that can no longer be used."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger("sipd.salvage")

Row = tuple[Any, ...]


class Rows(NamedTuple):
    """Which rows: those of a SELECT whose first columns are the key of its table."""

    select: str
    key: tuple[str, ...]


def read(path: Path, *wanted: Rows) -> list[list[Row]]:
    """For each of `wanted` the rows that can be read, each once, perhaps none.

    Where a table cannot be read on from its beginning, it is read from its end. Never raises for what is wrong with
    the file. A copy is read, as that may take writing; where there is no place for one, the file without its log.
    """
    found: list[list[Row]] = [[] for _ in wanted]
    with ExitStack() as stack:
        uri = f"{path.absolute().as_uri()}?immutable=1"
        with suppress(OSError):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sipd-"))
            uri = _copied(path, Path(folder)).as_uri()
        try:
            connection = stack.enter_context(closing(sqlite3.connect(uri, uri=True)))
            found = [_both_ways(connection, one) for one in wanted]
        except sqlite3.Error as error:
            log.error("nothing can be read path=%s error=%r", path, str(error))
    log.warning("read what can be read path=%s rows=%s", path, ",".join(str(len(rows)) for rows in found))
    return found


def _copied(path: Path, folder: Path) -> Path:
    """A copy of the file and its log. Raises OSError."""
    copy = folder / "copy.db"
    shutil.copyfile(path, copy)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, copy.with_name(copy.name + "-wal"))
    return copy


def _both_ways(connection: sqlite3.Connection, wanted: Rows) -> list[Row]:
    seen: dict[Row, Row] = {}
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in wanted.key)
        try:
            for row in connection.execute(f"{wanted.select} ORDER BY {order}"):
                seen.setdefault(row[: len(wanted.key)], row)
            break
        except (sqlite3.Error, OverflowError):  # the page at which it is broken
            continue
    return list(seen.values())
