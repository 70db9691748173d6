"""Migrations lead up to what the models say and back down to nothing, also with data, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect
from sqlmodel import SQLModel

from panel import migrate
from panel.db import make_engine
from tests.cast import cast_of, close, config_of


@pytest.fixture
def engine(url: str) -> Engine:
    return make_engine(url)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_and_down(engine: Engine) -> None:
    assert not migrate.is_current(engine)
    migrate.upgrade(engine)
    assert migrate.is_current(engine)
    assert tables(engine) == set(SQLModel.metadata.tables)
    migrate.upgrade(engine)  # a second time changes nothing
    migrate.downgrade(engine)
    assert tables(engine) == set()
    engine.dispose()


def test_the_database_is_what_the_models_say(engine: Engine) -> None:
    assert migrate.differences(engine)
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    engine.dispose()


def test_with_data_in_them(url: str, tmp_path: Path) -> None:
    engine = make_engine(url)
    migrate.upgrade(engine)
    close(cast_of(config_of(tmp_path, url)))
    migrate.downgrade(engine)
    assert tables(engine) == set()
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    engine.dispose()
