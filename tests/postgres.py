"""A private PostgreSQL from the system's own binaries, or the one that TENANTRY_TEST_POSTGRES_URL names."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sqlalchemy import make_url, text

from panel import migrate
from panel.config import database_url
from panel.db import make_engine
from tests.cast import cast_of, close, config_of
from tests.conftest import program

URL = "TENANTRY_TEST_POSTGRES_URL"
SUPERUSER = "postgres"
FEW_RESOURCES = ("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=30", "-c", "listen_addresses=")


@dataclass
class Postgres:
    """A server on which tests make databases of their own."""

    url: str
    numbers: Iterator[int] = field(default_factory=count)

    def database(self, template: str = "template0") -> str:
        """The URL of a fresh database, a copy of `template`."""
        name = f"tenantry_test_{os.getpid()}_{next(self.numbers)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{name_of(url)}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        engine = make_engine(self.url).execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def name_of(url: str) -> str:
    name = make_url(url).database
    assert name
    return name


def is_there() -> bool:
    return bool(os.environ.get(URL)) or all(program(name) for name in ("initdb", "postgres"))


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    given = os.environ.get(URL)
    if given:
        yield Postgres(database_url(given))
        return
    folder = Path(tempfile.mkdtemp(prefix="tenantry-pg-"))
    user = None if os.geteuid() else _unprivileged()
    if user:
        shutil.chown(folder, user)
    try:
        data = folder / "data"
        initdb = [program("initdb"), "-D", data, "-U", SUPERUSER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
        command = [program("postgres"), "-D", data, "-k", folder, *FEW_RESOURCES]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
        try:
            _wait(process, data)
            yield Postgres(f"postgresql+psycopg://{SUPERUSER}@/{SUPERUSER}?host={folder}")
        finally:
            process.terminate()
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def with_cast(postgres: Postgres, folder: Path) -> Iterator[str]:
    """The URL of a migrated database with the cast in it, as a template for those of the tests."""
    url = postgres.database()
    config = config_of(folder, url)
    engine = make_engine(config.database_url)
    migrate.upgrade(engine)
    engine.dispose()
    close(cast_of(config))
    yield url
    postgres.drop(url)


def _unprivileged() -> str:
    """PostgreSQL refuses to run as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return SUPERUSER if SUPERUSER in names else "nobody"


def _wait(process: subprocess.Popen[bytes], data: Path) -> None:
    state = data / "postmaster.pid"
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(data.parent / 'log').read_text()}")
        if state.exists() and "ready" in state.read_text():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise RuntimeError("PostgreSQL does not get ready")
