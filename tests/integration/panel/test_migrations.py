"""Migrations lead up to what the models say and back down to nothing, also with data, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from panel import migrate
from panel.db import make_engine
from tests.cast import cast_of, close, config_of

THEN = "'2026-01-01 00:00:00+00:00'"
ROWS_OF_BEFORE = (
    f"INSERT INTO tenants (id, slug, name, status, suspended_reason, created_at) "
    f"VALUES ('t', 'acme', 'Acme', 'active', '', {THEN})",
    "INSERT INTO users (id, tenant_id, extension, name, enabled, aliases, sip_password, forward_always, forward_busy, "
    "forward_no_answer, forward_unreachable, ring_seconds, max_bindings, created_at) "
    f"VALUES ('u', 't', '101', '', true, '[]', '', '', '', '', '', 60, 10, {THEN})",
    "INSERT INTO connections (id, tenant_id, name, enabled, multi_tenant, registrar_domain, host, port, transport, "
    "outbound_proxy, sources, strategy, expires, internal_calls, created_at) VALUES ('c', 't', 'Main', true, false, "
    f"'pbx.example', '192.0.2.1', 0, 'udp', '', '[]', 'on_behalf', 600, 'through_pbx', {THEN})",
    "INSERT INTO upstream_accounts (id, tenant_id, user_id, connection_id, username, auth_username, password) "
    "VALUES ('a', 't', 'u', 'c', '101', '', '')",
)


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


def test_rows_from_before_groups_and_hours_stay_and_mean_the_same(url: str) -> None:
    engine = make_engine(url)
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        for statement in ROWS_OF_BEFORE:
            connection.execute(text(statement))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        (user,) = connection.execute(text("SELECT * FROM users")).mappings()
        (pbx,) = connection.execute(text("SELECT * FROM connections")).mappings()
        assert len(connection.execute(text("SELECT * FROM upstream_accounts")).all()) == 1
    assert (user["fork"], user["do_not_disturb"], user["caller_id"], user["serial_seconds"]) == ("parallel", 0, "", 15)
    assert (pbx["tls_verify"], pbx["caller_id"]) == (1, "account")
    for column, value in (("transport", "sctp"), ("strategy", "x"), ("internal_calls", "x"), ("caller_id", "x")):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(f"UPDATE connections SET {column} = '{value}'"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE connections SET transport = 'tls'"))
    migrate.downgrade(engine, "0001")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT transport FROM connections")).scalar() == "tcp"
        assert len(connection.execute(text("SELECT * FROM upstream_accounts")).all()) == 1
    migrate.downgrade(engine)
    engine.dispose()


def test_rows_from_before_relaying_stay_and_a_relay_is_disabled_on_the_way_back(url: str) -> None:
    engine = make_engine(url)
    migrate.upgrade(engine, "0001")
    with engine.begin() as connection:
        for statement in ROWS_OF_BEFORE:
            connection.execute(text(statement))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        (pbx,) = connection.execute(text("SELECT * FROM connections")).mappings()
        assert (pbx["media"], pbx["alternates"] in ("[]", []), pbx["enabled"]) == ("direct", True, 1)
        connection.execute(text("UPDATE connections SET strategy = 'relay', media = 'relay'"))
        connection.execute(
            text(
                "INSERT INTO guards (id, tenant_id, prefix, calls_per_hour, created_at) "
                f"VALUES ('g', 't', '00882', 5, {THEN})"
            )
        )
        connection.execute(
            text(
                "INSERT INTO source_rules (id, network, kind, note, created_at) "
                f"VALUES ('s', '192.0.2.0/24', 'blocked', '', {THEN})"
            )
        )
    for statement in (
        "UPDATE connections SET media = 'x'",
        "UPDATE source_rules SET kind = 'x'",
        f"INSERT INTO guards (id, tenant_id, prefix, calls_per_hour, created_at) VALUES ('h', 't', '00882', 1, {THEN})",
    ):
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text(statement))
    migrate.downgrade(engine, "0003")
    assert "guards" not in tables(engine)
    with engine.connect() as connection:
        (pbx,) = connection.execute(text("SELECT * FROM connections")).mappings()
        assert (pbx["strategy"], pbx["enabled"]) == ("on_behalf", 0)
        assert len(connection.execute(text("SELECT * FROM upstream_accounts")).all()) == 1
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    engine.dispose()
