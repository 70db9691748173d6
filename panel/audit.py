"""The audit: who did what to what, from where, and what changed. Written with the change, in its transaction."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlmodel import Session, SQLModel

from panel.actor import Actor
from panel.models import AuditEntry
from panel.scope import TenantScope, scope_of

SECRET_FIELDS = frozenset({"sip_password", "password", "password_hash", "token", "token_hash"})
"""Of these the audit keeps only that they are set, and that they changed."""
HIDDEN = "(set)"
CHANGED = "(changed)"
LABEL_FIELDS = ("label", "slug", "email", "extension", "number", "prefix", "network", "name")


def record(
    session: Session,
    actor: Actor,
    action: str,
    subject: SQLModel | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    tenant_id: str | None = None,
) -> AuditEntry:
    """Add an entry such as `user.updated`; the service's commit keeps it.

    `before` and `after` are what `snapshot` made, or plain values; only what differs is kept. The
    tenant is `tenant_id`, else the subject's own, else the one whose scope is active.
    """
    was, now = difference(before or {}, after or {})
    entry = AuditEntry(
        account_id=actor.account_id,
        label=actor.label,
        support=actor.support,
        ip=actor.ip,
        tenant_id=tenant_id or _tenant_of(subject) or _tenant_in_scope(session),
        action=action,
        subject_kind="" if subject is None else type(subject).__name__.lower(),
        subject_id="" if subject is None else str(getattr(subject, "id", "")),
        subject_label="" if subject is None else label(subject),
        before=was,
        after=now,
    )
    session.add(entry)
    return entry


def snapshot(row: SQLModel) -> dict[str, Any]:
    """The row's values as the audit may keep them. Take one before the change and one after it."""
    return row.model_dump(exclude={"id", "tenant_id", "created_at"})


def difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides, without what is equal on both and without secrets."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    was = {name: _shown(name, before[name], HIDDEN) for name in names if name in before}
    now = {name: _shown(name, after[name], CHANGED if name in before else HIDDEN) for name in names if name in after}
    return was, now


def label(subject: SQLModel) -> str:
    """What a person would call it."""
    for name in LABEL_FIELDS:
        value = getattr(subject, name, "")
        if value:
            return str(value)
    return ""


def _shown(name: str, value: Any, hidden: str) -> Any:
    if name in SECRET_FIELDS:
        return hidden if value else ""
    return value.isoformat() if isinstance(value, date | datetime) else value


def _tenant_of(subject: SQLModel | None) -> str | None:
    if subject is None:
        return None
    name = "id" if getattr(subject, "__tablename__", "") == "tenants" else "tenant_id"
    found: str | None = getattr(subject, name, None)
    return found


def _tenant_in_scope(session: Session) -> str | None:
    scope = scope_of(session)
    return scope.tenant_id if isinstance(scope, TenantScope) else None
