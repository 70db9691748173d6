"""The small files: settings, secrets, passwords, paging, database, ids and times."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlmodel import select

from panel import page, paging, passwords
from panel.config import ConfigError, database_url, from_env
from panel.models import Domain
from panel.models.base import ID_LENGTH, UtcDateTime, new_id, utc_now
from panel.secrets import Vault, load_key
from sipd.routing.seal import KEY_BYTES, SealError
from tests.cast import Cast


def test_settings_have_defaults_and_make_what_is_missing(tmp_path: Path) -> None:
    config = from_env({"TENANTRY_STATE_DIR": str(tmp_path / "state")})
    assert config.database_url == f"sqlite:///{tmp_path / 'state' / 'tenantry.db'}"
    assert config.platform_domain == "tenantry.example"
    assert (config.smtp, config.https, config.trusted_proxies) == (None, False, 0)
    key = tmp_path / "state" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(config.secret_key) >= 32
    assert from_env({"TENANTRY_STATE_DIR": str(tmp_path / "state")}).secret_key == config.secret_key


def test_settings_are_read(tmp_path: Path) -> None:
    config = from_env(
        {
            "TENANTRY_STATE_DIR": str(tmp_path),
            "TENANTRY_DATABASE_URL": "postgresql://me@db/tenantry",
            "TENANTRY_BASE_URL": "https://panel.example/",
            "TENANTRY_PLATFORM_DOMAIN": "Voice.Example.",
            "TENANTRY_EDGE_HOSTS": "edge.example, 192.0.2.1",
            "TENANTRY_SMTP_HOST": "mail.example",
            "TENANTRY_SMTP_SECURITY": "tls",
            "TENANTRY_TRUSTED_PROXIES": "1",
        }
    )
    assert config.database_url == "postgresql+psycopg://me@db/tenantry"
    assert (config.base_url, config.https, config.trusted_proxies) == ("https://panel.example", True, 1)
    assert (config.platform_domain, config.edge_hosts) == ("voice.example", ("edge.example", "192.0.2.1"))
    assert config.smtp is not None
    assert (config.smtp.host, config.smtp.port) == ("mail.example", 465)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TENANTRY_DATABASE_URL", "mysql://x"),
        ("TENANTRY_BASE_URL", "panel.example"),
        ("TENANTRY_TRUSTED_PROXIES", "many"),
        ("TENANTRY_SMTP_SECURITY", "maybe"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, name: str, value: str) -> None:
    env = {"TENANTRY_STATE_DIR": str(tmp_path), "TENANTRY_SMTP_HOST": "mail.example", name: value}
    with pytest.raises(ConfigError, match=name):
        from_env(env)


def test_every_spelling_of_postgresql_means_psycopg() -> None:
    wanted = "postgresql+psycopg://a/b"
    assert {database_url(url) for url in ("postgres://a/b", "postgresql://a/b", wanted)} == {wanted}


def test_the_installation_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "installation.key"
    key = load_key(path)
    assert (len(key), path.stat().st_mode & 0o777) == (KEY_BYTES, 0o600)
    assert load_key(path) == key


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"short").decode()])
def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "installation.key"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"installation\.key"):
        load_key(path)


def test_a_secret_opens_at_its_place_only() -> None:
    vault = Vault(bytes(range(KEY_BYTES)))
    sealed = vault.seal(("t", "u", "sip_password"), "secret")
    assert vault.unseal(("t", "u", "sip_password"), sealed) == "secret"
    assert sealed == vault.seal(("t", "u", "sip_password"), "secret")
    with pytest.raises(SealError):
        vault.unseal(("t", "other", "sip_password"), sealed)
    with pytest.raises(SealError):
        Vault(bytes(KEY_BYTES)[:-1] + b"x").unseal(("t", "u", "sip_password"), sealed)


@pytest.mark.parametrize("password", ["quiet lantern over river", "Tr0ub4dor&3-and-more", "пароль для проверки"])
def test_strong_passwords(password: str) -> None:
    assert passwords.weakness(password, "Acme", "alice@acme.example") == ""


@pytest.mark.parametrize(
    "password", ["", "short", "aaaaaaaaaaaa", "password1234", "Password Password", "alice.acme.12", "x" * 201]
)
def test_weak_passwords(password: str) -> None:
    assert passwords.weakness(password, "Acme", "alice@acme.example")


def test_a_broken_hash_matches_nothing() -> None:
    assert not passwords.matches("no hash", "x")
    assert not passwords.matches(None, "x")
    assert passwords.matches(passwords.hash_password("x"), "x")


def test_ids_are_opaque() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(one) == ID_LENGTH and one.isalnum() and one == one.lower() for one in made)


def test_times_are_utc_whatever_comes_in(cast: Cast) -> None:
    east = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    domain_id = cast.add(Domain(tenant_id=cast.tenant_id("acme"), name="time.example", created_at=east))
    with cast.looking() as session:
        kept = session.exec(select(Domain).where(Domain.id == domain_id)).one().created_at
    assert (kept, kept.tzinfo) == (datetime(2030, 1, 1, 10, tzinfo=UTC), UTC)


def test_a_time_without_zone_is_refused(cast: Cast) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        UtcDateTime().process_bind_param(datetime(2030, 1, 1), cast.database.engine.dialect)  # noqa: DTZ001


def test_sqlite_waits_and_keeps_its_foreign_keys(cast: Cast) -> None:
    with cast.database.engine.connect() as connection:
        wanted = {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}
        assert {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "number"), [(None, 1), ("", 1), ("3", 3), ("0", 1), ("-1", 1), ("x", 1), ("٣", 1), ("9" * 30, 1)]
)
def test_page_numbers(text: str | None, number: int) -> None:
    assert paging.page_number(text) == number


def test_patterns_take_signs_as_they_are() -> None:
    assert paging.like(" 50%_\\ ") == "%50\\%\\_\\\\%"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "just now"), (90, "1 minute ago"), (7200, "2 hours ago"), (86400 * 3, "3 days ago")]
)
def test_how_long_since(seconds: int, text: str) -> None:
    assert page.ago(utc_now() - timedelta(seconds=seconds)) == text
