"""The migrations have one head, bring an empty database to what the models say, and lead back to nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from panel import migrate
from panel.db import make_engine

BOOKKEEPING = {"alembic_version"}


def problems(folder: str) -> Iterator[str]:
    heads = ScriptDirectory(str(migrate.MIGRATIONS)).get_heads()
    if len(heads) != 1:
        yield f"migrations: {len(heads)} heads ({', '.join(heads)}); the later one must follow the other"
        return
    engine = make_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
    migrate.upgrade(engine)
    for difference in migrate.differences(engine):
        yield f"migrations: the models and an upgraded database differ in {difference}"
    migrate.downgrade(engine)
    if left := set(inspect(engine).get_table_names()) - BOOKKEEPING:
        yield f"migrations: a downgrade to nothing leaves {', '.join(sorted(left))}"
    engine.dispose()


def main() -> int:
    """Print every problem."""
    with TemporaryDirectory() as folder:
        found = list(problems(folder))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
