"""The publication's own checks, for the form that is being saved: same sentences, beside the field at fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from panel.errors import Invalid
from panel.models import Connection
from panel.publishing import at_hand, store
from panel.publishing.rows import installation_of, tenant_rows
from panel.publishing.snapshot import TenantRows, tenant_part
from panel.scope import TenantScope, system_scope
from panel.secrets import vault
from sipd.routing import validate
from sipd.routing.model import Tenant
from sipd.routing.problem import Problem


def problems_of(scope: TenantScope) -> list[Problem]:
    """All problems of what the tenant has in its rows now, flushed or committed, those with others included."""
    scope.session.flush()
    return _problems(scope, next(tenant_rows(scope.session, [scope.tenant_id])))


def part_of(scope: TenantScope) -> Tenant:
    """The part of the table that publishing would make of the tenant now."""
    scope.session.flush()
    return tenant_part(next(tenant_rows(scope.session, [scope.tenant_id])), vault())


def problems_with(scope: TenantScope, connection: Connection) -> list[Problem]:
    """The same, with a connection that is not saved in the place of the one with its id."""
    rows = next(tenant_rows(scope.session, [scope.tenant_id]))
    others = [row for row in rows.connections if row.id != connection.id]
    return _problems(scope, replace(rows, connections=[*others, connection]))


def _problems(scope: TenantScope, rows: TenantRows) -> list[Problem]:
    part = tenant_part(rows, vault())
    installation = installation_of(scope.session, at_hand.config())
    problems = validate.check_tenant(part, installation)
    with system_scope(scope.session, "compare a tenant with all others"):
        live = store.live(scope.session)
        others = store.contributions(scope.session, live.tenants) if live else {}
    index = validate.Index({**others, part.id: validate.contribution(part)}.values())
    problems += validate.check_across(index, [part.id])
    return problems + validate.check_blocked(index, installation, [part.id])


def of_item(problems: list[Problem], collection: str, item_id: str) -> list[Problem]:
    """Those about one user, connection, number or rule."""
    return [problem for problem in problems if problem.where[1:3] == (collection, item_id)]


def require_good(scope: TenantScope, collection: str, item_id: str, fields: Mapping[str, str]) -> None:
    """Raises `Invalid` with the errors of one item. `fields` names the form's field where the routing's name differs.

    The caller has changed the rows and not committed: nothing of it is kept.
    """
    found: dict[str, str] = {}
    for problem in of_item(problems_of(scope), collection, item_id):
        if problem.is_error:
            name = form_field(problem.where[3], fields)
            found.setdefault(name, problem.message)
    if found:
        scope.session.rollback()
        raise Invalid(**found)


def form_field(field: str, fields: Mapping[str, str]) -> str:
    """`sources[1]` is the field `sources`; what no form has is said above the form."""
    bare = field.partition("[")[0].partition(".")[0]
    return fields.get(field, fields.get(bare, bare))
