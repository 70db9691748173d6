"""The wall between tenants: without a scope nothing, inside of one only its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Select, delete, exists, func, insert, text, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from panel.errors import NotFound
from panel.models import Account, AuditEntry, Domain, Event, Membership, Part, Tenant, User
from panel.scope import ScopeError, TenantScope, provider_scope, scope_of, tenant_models, tenant_scope, tenant_scope_of
from tests.cast import TESTER, Cast

OWN = "acme.tenantry.example"
FOREIGN = "globex.tenantry.example"


def touches() -> dict[str, Callable[[], Any]]:
    """Ways to ask for tenant data."""
    table = User.__table__  # type: ignore[attr-defined]
    other = aliased(User)
    return {
        "rows": lambda: select(Domain),
        "one column": lambda: select(Domain.name),
        "a count": lambda: select(func.count()).select_from(User),
        "a count of a column": lambda: select(func.count(col(User.id))),
        "a table": lambda: select(table),
        "a count of a table": lambda: select(func.count()).select_from(table),
        "a table beside a class": lambda: select(Tenant.slug, table.c.name),
        "an alias": lambda: select(other),
        "a column of an alias": lambda: select(other.name),
        "an alias in a where": lambda: select(Account).where(col(Account.id).in_(select(other.id))),
        "a subquery": lambda: select(select(Domain.name).subquery()),
        "a common table": lambda: select(select(Domain.name).cte()),
        "a subquery of a subquery": lambda: select(func.count()).select_from(
            select(select(User.id).subquery()).subquery()
        ),
        "a scalar subquery": lambda: select(select(func.max(Domain.name)).scalar_subquery()),
        "exists": lambda: select(exists(select(Domain.id).where(Domain.name == FOREIGN))),
        "exists by a column": lambda: select(exists().where(Domain.name == FOREIGN)),
        "a membership test": lambda: select(Account).where(col(Account.id).in_(select(Membership.account_id))),
        "a join": lambda: select(Domain.name, User.name).join(User, User.tenant_id == Domain.tenant_id),
        "a join with anything": lambda: select(Domain.name, User.name).join(User, User.id != Domain.id),
        "a union": lambda: select(Domain.name).union(select(User.name)),
        "text": lambda: text("SELECT name FROM domains"),
        "text as rows": lambda: select(Domain).from_statement(text("SELECT * FROM domains")),
        "an update": lambda: update(Domain).values(is_primary=True),
        "a deletion": lambda: delete(Domain),
    }


TOUCHES = touches()
CHANGES = ("an update", "a deletion")


@pytest.mark.parametrize("way", TOUCHES)
def test_without_a_scope_nothing_can_be_asked(cast: Cast, way: str) -> None:
    with cast.database.session() as session, pytest.raises(ScopeError, match="no scope is active"):
        session.execute(TOUCHES[way]())


@pytest.mark.parametrize("way", TOUCHES)
def test_inside_a_scope_the_others_do_not_exist(cast: Cast, way: str) -> None:
    """Either refused, or narrowed: never a word of globex."""
    with cast.scope("acme") as scope:
        try:
            result: Any = scope.session.execute(TOUCHES[way]())
            answer = str(result.rowcount if way in CHANGES else result.all())
        except ScopeError as refusal:
            answer = str(refusal)
        assert answer == "1" if way in CHANGES else "lobex" not in answer
        assert cast.tenant_id("globex") not in answer


def test_what_is_narrowed_and_not_refused_finds_its_own(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        assert scope.session.exec(select(Domain.name)).all() == [OWN]
        assert scope.session.exec(select(func.count()).select_from(User)).one() == 2
        assert scope.session.execute(TOUCHES["exists"]()).scalar_one() is False
        assert scope.session.execute(update(Domain).values(is_primary=True)).rowcount == 1  # type: ignore[attr-defined]
        assert {name for name, _ in scope.session.execute(TOUCHES["a join with anything"]()).all()} == {OWN}


def test_the_where_of_a_statement_does_not_reach_over_the_wall(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        wanted: Select[Any] = select(User).where(User.tenant_id == cast.tenant_id("globex"))
        assert scope.session.execute(wanted).all() == []


def test_every_table_with_a_tenant_is_behind_the_wall(cast: Cast) -> None:
    with cast.database.session() as session:
        for name, model in tenant_models().items():
            with pytest.raises(ScopeError):
                session.exec(select(model)).all()
            assert name == model.__tablename__
    assert {"tenants", "users", "audit_entries", "parts", "events", "call_records"} <= tenant_models().keys()


def test_tables_without_tenants_need_no_scope(cast: Cast) -> None:
    with cast.database.session() as session:
        assert session.exec(select(func.count()).select_from(Account)).one() == 4


@pytest.mark.parametrize("model", [Tenant, User])
def test_get_gives_the_same_for_a_foreign_and_an_unknown_id(cast: Cast, model: type[Any]) -> None:
    foreign = cast.tenant_id("globex") if model is Tenant else cast.user_id("globex")
    with cast.scope("acme") as scope:
        for wanted in (foreign, "unknown"):
            with pytest.raises(NotFound):
                scope.get(model, wanted)
            assert scope.session.get(model, wanted) is None


def test_what_an_outer_scope_loaded_stays_out_of_reach(cast: Cast) -> None:
    foreign = cast.user_id("globex")
    with cast.everything() as session:
        kept = session.get(User, foreign)
        assert kept is not None
        with tenant_scope(session, TESTER, cast.tenant_id("acme"), "owner"), pytest.raises(ScopeError):
            session.get(User, foreign)


def new_rows(cast: Cast, slug: str) -> list[Any]:
    tenant_id = cast.tenant_id(slug)
    return [
        Domain(tenant_id=tenant_id, name="new.example"),
        AuditEntry(tenant_id=tenant_id, label="x", action="x.y"),
        Part(hash="0" * 64, kind="tenant", tenant_id=tenant_id, body="{}"),
    ]


def test_rows_of_another_tenant_cannot_be_written(cast: Cast) -> None:
    for row in new_rows(cast, "globex"):
        with cast.scope("acme") as scope:
            scope.session.add(row)
            with pytest.raises(ScopeError, match="another tenant"):
                scope.session.commit()
            scope.session.rollback()


def test_rows_of_nobody_cannot_be_written_inside_a_tenant(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        scope.session.add(AuditEntry(label="x", action="x.y"))
        with pytest.raises(ScopeError):
            scope.session.commit()
        scope.session.rollback()


def test_own_rows_can_be_written(cast: Cast) -> None:
    for row in new_rows(cast, "acme"):
        with cast.scope("acme") as scope:
            scope.session.add(row)
            scope.session.commit()


def test_a_row_cannot_be_moved_to_another_tenant(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        scope.get(User, cast.user_id("acme")).tenant_id = cast.tenant_id("globex")
        with pytest.raises(ScopeError, match="another tenant"):
            scope.session.commit()
        scope.session.rollback()


def test_a_row_cannot_be_taken_from_another_tenant(cast: Cast) -> None:
    with cast.everything() as session:
        row = session.get(User, cast.user_id("globex"))
        assert row is not None
        session.expunge(row)
    with cast.scope("acme") as scope:
        scope.session.add(row)
        row.tenant_id = cast.tenant_id("acme")
        with pytest.raises(ScopeError, match="another tenant"):
            scope.session.commit()
        scope.session.rollback()


def test_bulk_inserts_are_refused_inside_a_tenant(cast: Cast) -> None:
    with cast.scope("acme") as scope, pytest.raises(ScopeError):
        scope.session.execute(insert(Domain), [{"id": "x", "tenant_id": cast.tenant_id("globex"), "name": "x.example"}])


def test_without_a_scope_nothing_of_a_tenant_is_written(cast: Cast) -> None:
    with cast.database.session() as session:
        session.add(new_rows(cast, "acme")[0])
        with pytest.raises(ScopeError, match="no scope"):
            session.commit()
        session.rollback()
        session.add(AuditEntry(label="nobody", action="account.signed_in"))
        session.commit()


def test_a_read_only_role_writes_nothing_but_its_trace(cast: Cast) -> None:
    with cast.scope("acme", role="read_only") as scope:
        scope.get(User, cast.user_id("acme")).name = "Changed"
        with pytest.raises(ScopeError, match="read_only"):
            scope.session.commit()
        scope.session.rollback()
        scope.session.add(AuditEntry(tenant_id=scope.tenant_id, label="bob", action="x.seen"))
        scope.session.commit()


def test_scopes_nest_and_end(cast: Cast) -> None:
    with cast.database.session() as session:
        assert scope_of(session) is None
        with provider_scope(session, TESTER, "test") as outer:
            assert scope_of(session) is outer
            with pytest.raises(ScopeError):
                tenant_scope_of(session)
        assert scope_of(session) is None


def test_a_scope_ends_also_by_an_error(cast: Cast) -> None:
    sessions: list[Session] = []

    def fail_inside() -> None:
        with cast.scope("acme") as scope:
            sessions.append(scope.session)
            assert tenant_scope_of(scope.session) is scope
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert scope_of(sessions[0]) is None


def test_an_unknown_tenant_has_no_scope(cast: Cast) -> None:
    with cast.database.session() as session, pytest.raises(NotFound), tenant_scope(session, TESTER, "x", "owner"):
        pass


def test_select_is_for_tenant_data_only(cast: Cast) -> None:
    with cast.scope("acme") as scope:
        assert isinstance(scope, TenantScope)
        with pytest.raises(ScopeError, match="no tenant data"):
            scope.select(Account)
        assert scope.first(scope.select(Event)) is None
        assert scope.tenant.slug == scope.slug == "acme"
