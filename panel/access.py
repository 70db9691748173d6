"""Who may see a page. Each view carries one of these decorators; a view without one fails the route walk.

`@tenant_page` takes the address's `slug` and gives the view a `TenantScope` as first argument. A
stranger gets 404, the same as for a tenant that does not exist; a known role that is too weak gets 403.
Reading needs `role`; every method that changes something needs `change` as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from flask import g, request
from sqlmodel import Session, col, select

from panel.db import get_session
from panel.errors import Forbidden, NotFound
from panel.models import Membership, SupportSession, Tenant
from panel.models.base import utc_now
from panel.models.people import PROVIDER_ROLES, TENANT_ROLES
from panel.scope import TenantScope, WideScope, provider_scope, system_scope, tenant_scope
from panel.signedin import account, actor, is_signed_in, to_sign_in

P = ParamSpec("P")
R = TypeVar("R")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SUPPORT_ROLE = "admin"
"""What the provider's support may do in a tenant."""


def public_page(view: Callable[P, R]) -> Callable[P, R]:
    """Anybody may see it; said out loud, so that no view is public by omission."""
    view.access = "public"  # type: ignore[attr-defined]
    return view


def account_page(view: Callable[P, R]) -> Callable[P, Any]:
    """Whoever is signed in."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        return view(*args, **kwargs) if is_signed_in() else to_sign_in()

    guarded.access = "account"  # type: ignore[attr-defined]
    return guarded


def tenant_page(
    role: str = "read_only", change: str = "admin"
) -> Callable[[Callable[Concatenate[TenantScope, P], R]], Callable[P, Any]]:
    def decorate(view: Callable[Concatenate[TenantScope, P], R]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            if not is_signed_in():
                return to_sign_in()
            slug = str(kwargs.pop("slug"))
            session = get_session()
            tenant_id, held, visit = _way_in(session, slug)
            _require(held, TENANT_ROLES, role, change)
            with tenant_scope(session, actor(support=visit is not None), tenant_id, held) as scope:
                g.scope, g.support_session = scope, visit
                return view(scope, *args, **kwargs)

        guarded.access = "tenant"  # type: ignore[attr-defined]
        return guarded

    return decorate


def provider_page(
    role: str = "read_only", change: str = "admin"
) -> Callable[[Callable[Concatenate[WideScope, P], R]], Callable[P, Any]]:
    def decorate(view: Callable[Concatenate[WideScope, P], R]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            if not is_signed_in():
                return to_sign_in()
            held = account().provider_role
            if held is None:
                raise NotFound("the provider's pages are for its staff")
            _require(held, PROVIDER_ROLES, role, change)
            with provider_scope(get_session(), actor(), f"{request.method} {request.endpoint}") as scope:
                g.scope = scope
                return view(scope, *args, **kwargs)

        guarded.access = "provider"  # type: ignore[attr-defined]
        return guarded

    return decorate


def _require(held: str, ladder: tuple[str, ...], role: str, change: str) -> None:
    needed = ladder.index(role)
    if request.method not in SAFE_METHODS:
        needed = max(needed, ladder.index(change))
    if ladder.index(held) < needed:
        raise Forbidden(f"role {held} is too weak")


def _way_in(session: Session, slug: str) -> tuple[str, str, SupportSession | None]:
    """Tenant id, role, and the support session if that is the way in; a stranger gets `NotFound`."""
    person = account()
    with system_scope(session, "find the way into a tenant"):
        tenant_id = session.exec(select(Tenant.id).where(Tenant.slug == slug)).first()
        if tenant_id is None:
            raise NotFound("no such tenant")
        role = session.exec(
            select(Membership.role).where(Membership.tenant_id == tenant_id, Membership.account_id == person.id)
        ).first()
        if role is not None:
            return tenant_id, role, None
        if person.provider_role is None:
            raise NotFound("no such tenant")
        visit = support_session(session, person.id, tenant_id)
    if visit is None or PROVIDER_ROLES.index(person.provider_role) < PROVIDER_ROLES.index("support"):
        raise Forbidden("enter this tenant as support first")
    return tenant_id, SUPPORT_ROLE, visit


def support_session(session: Session, account_id: str, tenant_id: str) -> SupportSession | None:
    """The support session that is open now."""
    return session.exec(
        select(SupportSession)
        .where(
            SupportSession.account_id == account_id,
            SupportSession.tenant_id == tenant_id,
            col(SupportSession.ended_at).is_(None),
            SupportSession.expires_at > utc_now(),
        )
        .order_by(col(SupportSession.expires_at).desc())
    ).first()
