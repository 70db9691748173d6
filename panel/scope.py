"""The wall between tenants: every query on tenant data, and every write of it, passes here.

A session without an active scope can neither read nor write tenant data: it raises. Inside a
`tenant_scope` each statement is narrowed to that tenant, whatever the statement says, and a row of
another tenant can neither be loaded nor written. `provider_scope` and `system_scope` see all
tenants; they are few, easy to find by their names, and each says why.

What the session's events cannot see (textual SQL, Core connections) is refused or, in
tests/unit/panel/test_scope_walls.py, searched for in the source.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Engine, Table, event, func, inspect
from sqlalchemy.orm import ORMExecuteState, UOWTransaction, with_loader_criteria
from sqlalchemy.orm import Session as PlainSession
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, TextClause
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from panel.actor import Actor
from panel.errors import NotFound
from panel.models import Tenant
from panel.models.people import TENANT_ROLES

M = TypeVar("M", bound=SQLModel)
log = logging.getLogger("tenantry.scope")


class ScopeError(RuntimeError):
    """Our own fault: tenant data was touched without a scope, or across its wall."""


@dataclass(frozen=True, slots=True)
class TenantScope:
    """One tenant as one actor may see it."""

    session: Session
    actor: Actor
    tenant_id: str
    slug: str
    role: str
    """One of `TENANT_ROLES`."""

    @property
    def tenant(self) -> Tenant:
        return self.get(Tenant, self.tenant_id)

    def select(self, model: type[M]) -> SelectOfScalar[M]:
        """All rows of this tenant; add `where`, `order_by` and `limit` to it."""
        return select(model).where(tenant_column(model) == self.tenant_id)

    def all(self, statement: SelectOfScalar[M]) -> list[M]:
        return list(self.session.exec(statement))

    def first(self, statement: SelectOfScalar[M]) -> M | None:
        return self.session.exec(statement.limit(1)).first()

    def get(self, model: type[M], row_id: str) -> M:
        """The row, or `NotFound`, which says nothing about other tenants."""
        row = self.session.exec(self.select(model).where(primary_key(model) == row_id)).first()
        if row is None:
            raise NotFound(f"no {model.__name__} {row_id!r}")
        return row

    def count(self, model: type[SQLModel], *where: Any) -> int:
        statement = select(func.count()).select_from(model).where(tenant_column(model) == self.tenant_id, *where)
        return self.session.exec(statement).one()

    def may(self, role: str) -> bool:
        return TENANT_ROLES.index(self.role) >= TENANT_ROLES.index(role)


@dataclass(frozen=True, slots=True)
class WideScope:
    """All tenants; `reason` says why."""

    session: Session
    actor: Actor | None
    reason: str


@contextmanager
def tenant_scope(session: Session, actor: Actor, tenant_id: str, role: str) -> Iterator[TenantScope]:
    """Narrow the session to one tenant until the block ends."""
    slug = _slug(session, tenant_id)
    scope = TenantScope(session, actor, tenant_id, slug, role)
    with _active(session, scope):
        yield scope


@contextmanager
def provider_scope(session: Session, actor: Actor, reason: str) -> Iterator[WideScope]:
    """All tenants, for a member of the provider's staff."""
    log.info("provider scope for %s: %s", actor.label, reason)
    scope = WideScope(session, actor, reason)
    with _active(session, scope):
        yield scope


@contextmanager
def system_scope(session: Session, reason: str) -> Iterator[WideScope]:
    """All tenants, for the system itself: signing in, publishing, pulling events, tests."""
    log.debug("system scope: %s", reason)
    scope = WideScope(session, None, reason)
    with _active(session, scope):
        yield scope


def scope_of(session: PlainSession) -> TenantScope | WideScope | None:
    found: TenantScope | WideScope | None = session.info.get("scope")
    return found


def tenant_scope_of(session: PlainSession) -> TenantScope:
    """The tenant scope that the service was called in; `ScopeError` outside of one."""
    scope = scope_of(session)
    if not isinstance(scope, TenantScope):
        raise ScopeError("this is done inside a tenant scope only")
    return scope


def tenant_models() -> dict[str, type[SQLModel]]:
    """Every table of tenant data by its name: those with a tenant_id, and the tenants themselves."""
    models = (mapper.class_ for mapper in SQLModel._sa_registry.mappers)
    return {
        model.__table__.name: model for model in models if model is Tenant or "tenant_id" in model.__table__.columns
    }


def tenant_column(model: type[SQLModel]) -> Any:
    """The column that says whose row it is."""
    if model is Tenant:
        return col(Tenant.id)
    if "tenant_id" not in model.__table__.columns:  # type: ignore[attr-defined]
        raise ScopeError(f"{model.__name__} is no tenant data")
    return model.tenant_id  # type: ignore[attr-defined]


def primary_key(model: type[SQLModel]) -> Any:
    return getattr(model, inspect(model).primary_key[0].name)


class GuardedSession(Session):
    """A session with the wall in it; `panel.db` makes no other."""

    def __init__(self, bind: Engine) -> None:
        super().__init__(bind)
        event.listen(self, "do_orm_execute", _guard_statement)
        event.listen(self, "before_flush", _guard_flush)
        event.listen(self, "loaded_as_persistent", _guard_loaded)

    def get(self, *args: Any, **options: Any) -> Any:
        """As ever; but a row that an outer scope has loaded already is held against this one too."""
        row = super().get(*args, **options)
        if row is not None:
            _guard_loaded(self, row)
        return row


@contextmanager
def _active(session: Session, scope: TenantScope | WideScope) -> Iterator[None]:
    """What was written before belongs to the outer scope, what is written inside to this one."""
    _flush(session)
    outer = scope_of(session)
    session.info["scope"] = scope
    try:
        yield
        _flush(session)
    finally:
        session.info["scope"] = outer


def _flush(session: Session) -> None:
    if session.new or session.dirty or session.deleted:
        session.flush()


def _slug(session: Session, tenant_id: str) -> str:
    with system_scope(session, "name the tenant of a scope"):
        slug = session.exec(select(Tenant.slug).where(Tenant.id == tenant_id)).first()
    if slug is None:
        raise NotFound(f"no tenant {tenant_id!r}")
    return slug


def _guard_statement(state: ORMExecuteState) -> None:
    scope = scope_of(state.session)
    if isinstance(scope, WideScope):
        return
    models, plain = _tenant_tables(state.statement)
    if scope is None and (models or plain):
        raise ScopeError(f"no scope is active for {', '.join(sorted(models | plain))}")
    if plain:
        raise ScopeError(f"use the mapped classes and add() inside a tenant scope, not {', '.join(sorted(plain))}")
    if not isinstance(scope, TenantScope):
        return
    known = tenant_models()
    for name in models:
        model = known[name]
        criteria = with_loader_criteria(model, tenant_column(model) == scope.tenant_id, include_aliases=True)
        state.statement = state.statement.options(criteria)


def _tenant_tables(statement: Any) -> tuple[set[str], set[str]]:
    """Names of the tenant tables that a statement reads through mapped classes, and of those that it
    reads or writes past them, where no criteria can be added."""
    if statement.is_insert:
        return set(), {statement.table.name} & tenant_models().keys()
    known = tenant_models().keys()
    mapped: set[str] = set()
    plain: set[str] = set()
    for element in visitors.iterate(statement):
        if isinstance(element, TextClause):
            plain.add("textual SQL")
        for table in _tables_of(element):
            if table.name in known:
                orm = "parententity" in element._annotations or "parententity" in table._annotations
                (mapped if orm else plain).add(table.name)
    if statement._propagate_attrs.get("compile_state_plugin") != "orm":
        return set(), mapped | plain
    return mapped | plain, plain - mapped


def _tables_of(element: Any) -> Iterator[Table]:
    if isinstance(element, ColumnClause) and isinstance(element.table, Table):
        yield element.table
    elif isinstance(element, Table):
        yield element


def _guard_flush(session: PlainSession, _context: UOWTransaction, _instances: Any) -> None:
    scope = scope_of(session)
    if isinstance(scope, WideScope):
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if row.__table__.name in tenant_models():
            _check_write(scope, row)


def _check_write(scope: TenantScope | None, row: Any) -> None:
    kind = type(row).__name__
    owners = {_owner(row), *_former_owners(row)}
    if scope is None:
        if owners != {None}:
            raise ScopeError(f"no scope is active to write a {kind}")
        return
    if owners != {scope.tenant_id}:
        raise ScopeError(f"a {kind} of another tenant cannot be written here")
    if not scope.may("admin") and kind not in WRITTEN_BY_ANY_ROLE:
        raise ScopeError(f"role {scope.role} cannot write a {kind}")


WRITTEN_BY_ANY_ROLE = frozenset({"AuditEntry", "SupportSession"})


def _owner(row: Any) -> str | None:
    owner: str | None = row.id if isinstance(row, Tenant) else row.tenant_id
    return owner


def _former_owners(row: Any) -> list[str | None]:
    name = "id" if isinstance(row, Tenant) else "tenant_id"
    return list(inspect(row).attrs[name].history.deleted or ())


def _guard_loaded(session: PlainSession, row: Any) -> None:
    """The second wall: should a statement slip through the first, its rows do not."""
    scope = scope_of(session)
    if isinstance(scope, WideScope) or row.__table__.name not in tenant_models():
        return
    if scope is None or _owner(row) != scope.tenant_id:
        raise ScopeError(f"a {type(row).__name__} was loaded past the scope")
