"""The database: one engine per process, one session per request, the same manners on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from typing import Any

from flask import Flask, current_app, g, request
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlmodel import Session

from panel.config import Config
from panel.scope import GuardedSession

BUSY_TIMEOUT = 10_000
"""Milliseconds that a writer waits for another one on SQLite."""


class Database:
    """The engine and the sessions made on it."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writing = self.engine.execution_options(tenantry_begin="IMMEDIATE")

    def session(self, writing: bool = True) -> Session:
        """A guarded session. A writing one takes SQLite's write lock at its first statement, so that
        nothing that it read can be changed under it before it writes."""
        return GuardedSession(self._writing if writing else self.engine)


def make_engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN " + connection.get_execution_options().get("tenantry_begin", "DEFERRED"))


def init_app(app: Flask, config: Config) -> None:
    app.extensions["tenantry.database"] = Database(config.database_url)
    app.teardown_appcontext(_close_session)


def database() -> Database:
    found: Database = current_app.extensions["tenantry.database"]
    return found


def get_session() -> Session:
    """The session of this request (or command), made when first asked for."""
    if "session" not in g:
        g.session = database().session(writing=not request or request.method not in ("GET", "HEAD", "OPTIONS"))
    session: Session = g.session
    return session


def _close_session(_error: BaseException | None) -> None:
    session: Session | None = g.pop("session", None)
    if session is not None:
        session.close()
