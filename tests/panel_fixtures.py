"""Fixtures of the panel's tests; imported by the conftest of each folder that needs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Browser, Cast, SqliteTemplates, cast_of, close, config_of, quick_passwords


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    yield from quick_passwords()


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplates:
    return SqliteTemplates(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def cast(sqlite_templates: SqliteTemplates, tmp_path: Path) -> Iterator[Cast]:
    """Everybody of the cast, on a database of the test's own."""
    made = cast_of(config_of(sqlite_templates.copy(tmp_path / "state", members=True)), members=False)
    yield made
    close(made)


@pytest.fixture
def bare(sqlite_templates: SqliteTemplates, tmp_path: Path) -> Iterator[Cast]:
    """An installation with nobody in it."""
    made = cast_of(config_of(sqlite_templates.copy(tmp_path / "state", members=False)), members=False)
    yield made
    close(made)


@pytest.fixture
def nobody(cast: Cast) -> Browser:
    return cast.browser()


@pytest.fixture
def alice(cast: Cast) -> Browser:
    return cast.browser("alice")


@pytest.fixture
def bob(cast: Cast) -> Browser:
    return cast.browser("bob")


@pytest.fixture
def carol(cast: Cast) -> Browser:
    return cast.browser("carol")


@pytest.fixture
def root(cast: Cast) -> Browser:
    return cast.browser("root")
