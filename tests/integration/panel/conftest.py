"""The cast on both databases. Without PostgreSQL its half is skipped, and says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.cast import Cast, SqliteTemplates, cast_of, close, config_of
from tests.panel_fixtures import *  # noqa: F403
from tests.panel_fixtures import _quick_passwords  # noqa: F401

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("initdb", "postgres"))]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(
    postgres_server: postgres.Postgres, sqlite_templates: SqliteTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """With the same keys as the SQLite one."""
    folder = sqlite_templates.copy(tmp_path_factory.mktemp("postgresql") / "state", members=True)
    with postgres.with_cast(postgres_server, folder) as url:
        yield url


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    made = server.database()
    yield made
    server.drop(made)


@pytest.fixture(params=BOTH)
def cast(request: pytest.FixtureRequest, sqlite_templates: SqliteTemplates, tmp_path: Path) -> Iterator[Cast]:
    """Everybody of the cast, on a database of the test's own; once for each kind of database."""
    folder = sqlite_templates.copy(tmp_path / "state", members=True)
    if request.param == "sqlite":
        made = cast_of(config_of(folder), members=False)
        yield made
        close(made)
        return
    template: str = request.getfixturevalue("postgres_template")
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    copy = server.database(postgres.name_of(template))
    made = cast_of(config_of(folder, copy), members=False)
    yield made
    close(made)
    server.drop(copy)
