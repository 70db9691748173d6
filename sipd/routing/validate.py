"""Everything that is wrong with a table, as sentences. Pure; the same checks for page, publication and engine.

Three parts, so that a change costs what changed: the installation, one tenant alone, and what tenants
share, on an index of small contributions.
"""

from __future__ import annotations

from collections.abc import Iterable

from sipd.routing.checks_across import Contribution, Index, contribution
from sipd.routing.checks_tenant import installation_problems, problems_of
from sipd.routing.model import Installation, Table, Tenant
from sipd.routing.problem import Problem, Spot, show

__all__ = [
    "Contribution",
    "Index",
    "Problem",
    "check_across",
    "check_blocked",
    "check_installation",
    "check_tenant",
    "contribution",
    "suits_alike",
    "validate",
]


def validate(table: Table) -> list[Problem]:
    """All problems of a whole table; errors keep it from going live, warnings do not."""
    problems = check_installation(table.installation)
    seen: set[str] = set()
    for place, tenant in enumerate(table.tenants):
        problems += check_tenant(tenant, table.installation, place)
        if tenant.id in seen:
            spot = Spot().of_tenant(tenant.slug, place, tenant.id).at("id")
            problems.append(spot.error(f"The id {show(tenant.id)} is another tenant's; give each its own."))
        seen.add(tenant.id)
    index = Index(contribution(tenant, place) for place, tenant in enumerate(table.tenants))
    return problems + check_across(index) + check_blocked(index, table.installation)


def check_installation(installation: Installation) -> list[Problem]:
    """What belongs to no tenant."""
    return list(installation_problems(installation))


def check_tenant(tenant: Tenant, installation: Installation, place: int = 0) -> list[Problem]:
    """One tenant alone; `place` is its index in the table, for paths where its slug cannot be shown."""
    return list(problems_of(tenant, installation, place))


def check_across(index: Index, tenants: Iterable[str] | None = None) -> list[Problem]:
    """What tenants share and must not: problems of `tenants` (ids that are in the index), or of all."""
    return [problem for tenant in (index if tenants is None else tenants) for problem in index.problems_of(tenant)]


def check_blocked(index: Index, installation: Installation, tenants: Iterable[str] | None = None) -> list[Problem]:
    """Warnings for PBXs in networks that the installation blocks; `tenants` as for `check_across`."""
    if not installation.blocked:
        return []
    return [p for tenant in (index if tenants is None else tenants) for p in index.blocked_of(tenant, installation)]


def suits_alike(one: Installation, other: Installation) -> bool:
    """Whether `check_tenant` says the same with either: it looks at names and addresses, not at guards and networks."""
    return (one.platform_domain, one.edge_hosts) == (other.platform_domain, other.edge_hosts)
