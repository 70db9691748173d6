"""Which of the new parts may go live: each tenant stands or falls alone, and none half.

Pure. A tenant whose new part has errors, or takes what is another's, keeps the part that is live.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sipd.routing import model, validate
from sipd.routing.problem import Problem


@dataclass(slots=True)
class Admission:
    """The verdict on some new parts."""

    admitted: set[str] = field(default_factory=set)
    """Ids of tenants whose new part goes live."""
    held: set[str] = field(default_factory=set)
    """Ids of tenants who stay at their last good part."""
    problems: list[Problem] = field(default_factory=list)
    """Errors of the held, warnings of all."""


def admit(
    live: Mapping[str, validate.Contribution],
    installation: model.Installation,
    changed: Mapping[str, model.Tenant],
) -> Admission:
    """Judge the `changed` parts by tenant id, against what is `live` of all others and of themselves."""
    verdict = Admission()
    new: dict[str, validate.Contribution] = {}
    for tenant_id, part in changed.items():
        problems = validate.check_tenant(part, installation)
        verdict.problems += problems
        if has_errors(problems):
            verdict.held.add(tenant_id)
        else:
            new[tenant_id] = validate.contribution(part)
    index = validate.Index({**live, **new}.values())
    for tenant_id in _by_seniority(_put_back(index, new, live), live):
        found = _try(index, tenant_id, new[tenant_id], live.get(tenant_id))
        verdict.problems += found
        if has_errors(found):
            verdict.held.add(tenant_id)
    verdict.admitted = new.keys() - verdict.held
    verdict.problems += validate.check_blocked(index, installation, sorted(verdict.admitted))
    return verdict


def has_errors(problems: Iterable[Problem]) -> bool:
    return any(problem.is_error for problem in problems)


def _put_back(
    index: validate.Index, new: Mapping[str, validate.Contribution], live: Mapping[str, validate.Contribution]
) -> set[str]:
    """Puts all new parts that share what must not be shared back to what is live, until none is left in dispute;
    gives their tenants. What comes back may dispute with a new part that took its place: hence the rounds."""
    back: set[str] = set()
    while found := _disputed(index, new.keys() - back):
        back |= found
        for tenant_id in found:
            _restore(index, tenant_id, live.get(tenant_id))
    return back


def _disputed(index: validate.Index, tenants: Iterable[str]) -> set[str]:
    return {problem.where[0] for problem in validate.check_across(index, tenants) if problem.is_error}


def _restore(index: validate.Index, tenant_id: str, old: validate.Contribution | None) -> None:
    index.remove(tenant_id)
    if old is not None:
        index.put(old)


def _by_seniority(disputed: set[str], live: Mapping[str, validate.Contribution]) -> list[str]:
    """Those who are live already go first, so that nobody can push another out by claiming what it has."""
    return sorted(disputed, key=lambda tenant_id: (tenant_id not in live, tenant_id))


def _try(
    index: validate.Index, tenant_id: str, new: validate.Contribution, old: validate.Contribution | None
) -> list[Problem]:
    index.put(new)
    problems = validate.check_across(index, [tenant_id])
    if has_errors(problems):
        _restore(index, tenant_id, old)
    return problems
