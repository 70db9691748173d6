"""The database's shape over time: Alembic, driven from here, so that there is no second place for settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

import panel.models  # noqa: F401  so that all tables are known

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
NEWEST, NOTHING = "head", "base"


def upgrade(engine: Engine, revision: str = NEWEST) -> None:
    with _changing(engine) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str = NOTHING) -> None:
    with _changing(engine) as connection:
        command.downgrade(_config(connection), revision)


@contextmanager
def _changing(engine: Engine) -> Iterator[Connection]:
    """One transaction for all steps. SQLite changes a table by making it anew, and dropping the old one would take
    along every row that refers to it: so it looks at foreign keys before the end, and not on the way."""
    with engine.connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        driver = connection.connection.dbapi_connection
        if sqlite and driver is not None:
            driver.cursor().execute("PRAGMA foreign_keys = OFF")  # heeded outside of a transaction only
        try:
            with connection.begin():
                yield connection
                if sqlite and (torn := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                    raise RuntimeError(f"rows refer to what is not there: {torn[:5]}")
        finally:
            if sqlite and driver is not None:
                driver.cursor().execute("PRAGMA foreign_keys = ON")


def revise(engine: Engine, message: str, revision_id: str) -> None:
    """Write a new migration from what the models and the database differ in."""
    with engine.begin() as connection:
        command.revision(_config(connection), message=message, rev_id=revision_id, autogenerate=True)


def differences(engine: Engine) -> list[Any]:
    """What the models have and the database lacks, or the other way round; empty when they agree."""
    with engine.connect() as connection:
        found: list[Any] = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    return found


def is_current(engine: Engine) -> bool:
    """Whether the database is at the newest migration."""
    from alembic.script import ScriptDirectory

    with engine.connect() as connection:
        at = MigrationContext.configure(connection).get_current_revision()
        return at == ScriptDirectory.from_config(_config(connection)).get_current_head()


def _config(connection: Connection) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
