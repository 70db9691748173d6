"""The cast of the panel's tests: root (provider), alice (owner of acme), bob (read-only member of acme), carol
(owner of globex); both tenants have users 101 and 102. And a browser for each of them."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from sqlmodel import Session, select
from werkzeug.test import TestResponse

from panel import migrate, passwords, seeding
from panel.actor import Actor
from panel.app import create_app
from panel.config import Config, database_url
from panel.db import Database, make_engine
from panel.models import Account, AuditEntry, Connection, Tenant, User
from panel.scope import TenantScope, system_scope, tenant_scope

PASSWORD = "quiet lantern over river"
PLATFORM = "tenantry.example"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""argon2id at its cheapest: tests sign in hundreds of times."""
CSRF_SECRET = "of the test"
TESTER = Actor(None, "test")


class Browser(FlaskClient):
    """A client that sends the CSRF token with every form, as the pages do; `with_csrf = False` forgets it."""

    with_csrf = True

    def open(self, *args: Any, **options: Any) -> TestResponse:
        if self.with_csrf and options.get("method", "GET") not in ("GET", "HEAD", "OPTIONS"):
            options["headers"] = {**(options.get("headers") or {}), "X-CSRFToken": self._token()}
        return super().open(*args, **options)

    def htmx(self, path: str, **options: Any) -> TestResponse:
        """A GET as HTMX makes it."""
        return self.get(path, headers={"HX-Request": "true"}, **options)

    def sign_in(self, email: str, password: str = PASSWORD) -> TestResponse:
        return self.post("/sign-in", data={"email": email, "password": password})

    def _token(self) -> str:
        with self.session_transaction() as session:
            raw = session.setdefault("csrf_token", hashlib.sha1(CSRF_SECRET.encode()).hexdigest())
        secret: str = self.application.config["SECRET_KEY"]
        return str(URLSafeTimedSerializer(secret, salt="wtf-csrf-token").dumps(raw))


@dataclass(frozen=True)
class Cast:
    """An installation with everybody in it."""

    app: Flask
    config: Config
    database: Database

    def browser(self, name: str | None = None) -> Browser:
        """A browser; of one of the cast, signed in, or of nobody."""
        client = self.app.test_client()
        assert isinstance(client, Browser)
        if name is not None:
            assert client.sign_in(f"{name}@{PLATFORM}").status_code == 303
        return client

    @contextmanager
    def everything(self) -> Iterator[Session]:
        """A session that sees all tenants."""
        with self.database.session() as session, system_scope(session, "test"):
            yield session

    @contextmanager
    def looking(self) -> Iterator[Session]:
        """The same to look things up, beside a session that writes."""
        with self.database.session(writing=False) as session, system_scope(session, "test"):
            yield session

    @contextmanager
    def scope(self, slug: str = "acme", role: str = "owner", actor: Actor = TESTER) -> Iterator[TenantScope]:
        """A session inside one tenant."""
        with self.database.session() as session, tenant_scope(session, actor, self.tenant_id(slug), role) as scope:
            yield scope

    def tenant_id(self, slug: str) -> str:
        with self.looking() as session:
            return session.exec(select(Tenant.id).where(Tenant.slug == slug)).one()

    def user_id(self, slug: str, extension: str = "101") -> str:
        with self.looking() as session:
            owned = select(User.id).where(User.tenant_id == self.tenant_id(slug), User.extension == extension)
            return session.exec(owned).one()

    def account(self, name: str) -> Account:
        with self.looking() as session:
            found = session.exec(select(Account).where(Account.email == f"{name}@{PLATFORM}")).one()
            session.expunge(found)
            return found

    def add(self, row: Any) -> str:
        """Store a row; returns its id."""
        with self.everything() as session:
            session.add(row)
            session.commit()
            return str(row.id)

    def add_connection(self, slug: str = "acme", name: str = "Main", **fields: Any) -> str:
        values = {"host": "192.0.2.10", "registrar_domain": "pbx.example", "sources": ["192.0.2.10"], **fields}
        return self.add(Connection(tenant_id=self.tenant_id(slug), name=name, **values))

    def audit(self) -> list[AuditEntry]:
        """All entries, oldest first."""
        with self.looking() as session:
            found = list(session.exec(select(AuditEntry).order_by(AuditEntry.at)).all())
            for entry in found:
                session.expunge(entry)
            return found

    def actions(self) -> list[str]:
        return [entry.action for entry in self.audit()]


def config_of(folder: Path, url: str | None = None, **changed: Any) -> Config:
    made = Config(
        state_dir=folder,
        database_url=database_url(url or f"sqlite:///{folder / 'tenantry.db'}"),
        key_file=folder / "installation.key",
        base_url="http://localhost",
        platform_domain=PLATFORM,
        edge_hosts=("192.0.2.1",),
        control=f"unix:{folder / 'sipd.sock'}",
        secret_key="secret of the tests",
        testing=True,
    )
    return replace(made, **changed)


def cast_of(config: Config, members: bool = True) -> Cast:
    """Start the application on a migrated database, and let the cast in."""
    app = create_app(config)
    app.test_client_class = Browser
    found = Cast(app, config, app.extensions["tenantry.database"])
    if members:
        with app.app_context(), found.database.session() as session:
            seeding.seed(session, TESTER, config, PASSWORD)
    return found


class SqliteTemplates:
    """Migrated databases, and ones with the cast, made once and then copied."""

    def __init__(self, folder: Path) -> None:
        self.empty, self.full = folder / "empty", folder / "full"
        self.empty.mkdir()
        config = config_of(self.empty)
        engine = make_engine(config.database_url)
        migrate.upgrade(engine)
        engine.dispose()
        shutil.copytree(self.empty, self.full)
        close(cast_of(config_of(self.full)))

    def copy(self, target: Path, members: bool) -> Path:
        shutil.copytree(self.full if members else self.empty, target, dirs_exist_ok=True)
        return target


def close(cast: Cast) -> None:
    cast.database.engine.dispose()


def quick_passwords() -> Iterator[None]:
    """Let hashing cost nothing for as long as the fixture lasts."""
    kept = passwords._hasher, passwords._nobody
    passwords._hasher, passwords._nobody = QUICK, QUICK.hash("nobody")
    yield
    passwords._hasher, passwords._nobody = kept


def link_in(text: str, path: str) -> str:
    """The first link to `path` in a mail or page, without its host."""
    found = re.search(rf"https?://[^/\s]+({re.escape(path)}[^\s\"<]+)", text)
    assert found, f"no link to {path} in {text!r}"
    return found[1]
