"""Reading the audit."""

from __future__ import annotations

from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from panel.models import AuditEntry, Tenant
from panel.paging import Page, like, paged
from panel.scope import TenantScope

NEWEST_FIRST = (col(AuditEntry.at).desc(), col(AuditEntry.id))


def of_tenant(scope: TenantScope, search: str, number: int) -> Page[AuditEntry]:
    return paged(scope.session, _matching(scope.select(AuditEntry), search), number, NEWEST_FIRST)


def of_all(session: Session, search: str, number: int) -> Page[AuditEntry]:
    return paged(session, _matching(select(AuditEntry), search), number, NEWEST_FIRST)


def tenant_names(session: Session, entries: list[AuditEntry]) -> dict[str, str]:
    """Names by id, of those tenants that still exist."""
    ids = {entry.tenant_id for entry in entries if entry.tenant_id}
    return dict(session.exec(select(Tenant.id, Tenant.name).where(col(Tenant.id).in_(ids))).all())


def _matching(statement: SelectOfScalar[AuditEntry], search: str) -> SelectOfScalar[AuditEntry]:
    if not search:
        return statement
    pattern = like(search)
    searched = (AuditEntry.label, AuditEntry.action, AuditEntry.subject_label)
    return statement.where(or_(*(col(column).ilike(pattern, escape="\\") for column in searched)))
