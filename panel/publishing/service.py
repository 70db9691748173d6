"""Publishing: what is saved becomes what is enforced, whole or not at all, tenant by tenant.

`publish` and `roll_back` work in two steps: the publication is stored and committed, then it is brought to the
nodes. If a node is away in the second step, the puller brings it there as soon as the node is back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import Session, col, select

from panel import audit, secrets
from panel.actor import Actor
from panel.config import Config
from panel.errors import Invalid, NotFound
from panel.models import AuditEntry, Part, Publication, Tenant
from panel.publishing import admission, diff, store
from panel.publishing.delivery import Delivery, Outcome
from panel.publishing.rows import installation_of, tenant_rows
from panel.publishing.snapshot import Sealer, tenant_part
from panel.scope import TenantScope, system_scope
from sipd.routing import codec, model, validate
from sipd.routing.problem import Problem

SLACK = timedelta(seconds=60)
"""A change may be noted this long before it is committed, and be missed by a snapshot between the two."""
OWN_ACTIONS = "publication.%"
"""Audit entries of publishing itself change no tenant."""
MAX_KEPT_PROBLEMS = 1000
MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Pending:
    """What is saved and not yet live. Falsy when nothing is."""

    changes: list[diff.Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Of what is saved: errors keep it from going live."""

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_error]


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publication."""

    version: int
    """The version that is newest now; 0: none yet."""
    changed: bool
    """Whether it is a new one."""
    summary: str
    problems: list[Problem] = field(default_factory=list)
    held: frozenset[str] = frozenset()
    """Ids of tenants who stay at their last good part."""
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def ms(self) -> float | None:
        """Milliseconds until the last node enforced it; None if no node told."""
        return max((outcome.ms for outcome in self.outcomes if outcome.ms is not None), default=None)

    @property
    def waiting(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.outcome == "unreachable"]

    @property
    def refused(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.outcome == "refused"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A table that could be made live, and what keeps some of it back."""

    installation: model.Installation
    tenants: dict[str, model.Tenant | None]
    """New parts by tenant id; None: the tenant is gone."""
    live: store.Live | None
    verdict: admission.Admission
    changes: list[diff.Change]
    """All of them, those of held tenants included."""

    @property
    def admitted(self) -> list[diff.Change]:
        return [change for change in self.changes if change.tenant_id not in self.verdict.held]


# What is not yet live


def pending(scope: TenantScope, vault: Sealer | None = None) -> Pending:
    """What the tenant saved and did not publish. Costs one small query where nothing was changed since."""
    vault = vault or secrets.vault()
    with system_scope(scope.session, "compare a tenant with what is live"):
        live = store.live(scope.session)
        name = live.tenants.get(scope.tenant_id) if live else None
        if name and not _touched(scope.session, scope.tenant_id, name):
            return Pending()
        part = _part(scope.session, scope.tenant_id, vault)
        if part is None or store.part_name(part) == name:
            return Pending()
        before = store.tenant(scope.session, name)
        return Pending(diff.diff_tenants(before, part))


def draft_of(scope: TenantScope, vault: Sealer, config: Config) -> Draft:
    """One tenant's draft with its problems, those with other tenants included."""
    with system_scope(scope.session, "check a tenant's draft against all others"):
        return _draft(scope.session, vault, config, [scope.tenant_id])


def draft_of_all(session: Session, vault: Sealer, config: Config) -> Draft:
    """The installation's draft: every tenant that was changed since its part was made."""
    with system_scope(session, "check all drafts"):
        return _draft(session, vault, config, None)


# Making it live


def publish_tenant(
    scope: TenantScope, vault: Sealer, config: Config, delivery: Delivery, reason: str = ""
) -> Published:
    """Make one tenant's saved changes live, and nobody else's."""
    if not scope.may("admin"):
        raise PermissionError(f"role {scope.role} cannot publish")
    with system_scope(scope.session, "publish a tenant"):
        published = _publish(scope.session, scope.actor, vault, config, [scope.tenant_id], reason)
    return replace(published, outcomes=delivery.deliver())


def publish_all(
    session: Session, actor: Actor, vault: Sealer, config: Config, delivery: Delivery, reason: str = ""
) -> Published:
    """Make all saved changes live, of the installation and of each tenant that was changed."""
    with system_scope(session, "publish everything"):
        published = _publish(session, actor, vault, config, None, reason)
    return replace(published, outcomes=delivery.deliver())


def publish_tenants(
    session: Session,
    actor: Actor,
    vault: Sealer,
    config: Config,
    delivery: Delivery,
    tenant_ids: list[str],
    reason: str,
) -> Published:
    """Make the saved changes of some tenants live: for those who suspend or remove one."""
    with system_scope(session, "publish some tenants"):
        published = _publish(session, actor, vault, config, tenant_ids, reason)
    return replace(published, outcomes=delivery.deliver())


def publish_installation(
    session: Session, actor: Actor, vault: Sealer, config: Config, delivery: Delivery, reason: str = ""
) -> Published:
    """Make what belongs to no tenant live at once, and nothing that tenants saved."""
    return publish_tenants(session, actor, vault, config, delivery, [], reason)


def publish_status(session: Session, actor: Actor, delivery: Delivery, tenant_id: str, reason: str = "") -> Published:
    """Make a tenant's suspension, or the end of it, live at once; none of its other saved changes, and whatever
    problems those may have."""
    with system_scope(session, "suspend or resume a tenant"):
        published = _publish_status(session, actor, tenant_id, reason)
    return replace(published, outcomes=delivery.deliver() if published.changed else [])


def roll_back(session: Session, actor: Actor, delivery: Delivery, version: int, reason: str = "") -> Published:
    """Make an old version live again, as a new publication. Tenants that are gone stay gone, and who is
    suspended now stays suspended."""
    with system_scope(session, "roll back"):
        published = _roll_back(session, actor, version, reason)
    return replace(published, outcomes=delivery.deliver())


def roll_back_changes(session: Session, version: int) -> list[diff.Change]:
    """What going back to `version` would change."""
    with system_scope(session, "compare an old version"):
        live, old = store.live(session), _version(session, version)
        return _changes(session, live, *_restored(session, old))


def _publish(
    session: Session, actor: Actor, vault: Sealer, config: Config, tenant_ids: Collection[str] | None, reason: str
) -> Published:
    draft = _draft(session, vault, config, tenant_ids)
    verdict, live = draft.verdict, draft.live
    held = frozenset(verdict.held)
    if "" in held and live is None:
        return Published(0, False, "nothing could go live", verdict.problems, held)
    parts = dict(live.tenants) if live else {}
    for tenant_id, part in draft.tenants.items():
        if part is None:
            parts.pop(tenant_id, None)
        elif tenant_id in verdict.admitted:
            parts[tenant_id] = store.keep(session, part)
    installation = live.installation if live and "" in held else store.keep(session, draft.installation)
    version = _store(session, actor, live, installation, parts, draft.admitted, verdict.problems, reason, tenant_ids)
    changed = version != (live.version if live else 0)
    summary = diff.summary(draft.admitted)
    session.commit()
    return Published(version, changed, summary, verdict.problems, held)


def _publish_status(session: Session, actor: Actor, tenant_id: str, reason: str) -> Published:
    live = store.live(session)
    name = live.tenants.get(tenant_id) if live else None
    before = store.tenant(session, name)
    if live is None or name is None or before is None:
        return Published(live.version if live else 0, False, "nothing of it is live")
    status = session.exec(select(Tenant.status).where(Tenant.id == tenant_id)).one()
    part = replace(before, suspended=status == "suspended")
    changes = diff.diff_tenants(before, part)
    parts = {**live.tenants, tenant_id: store.keep(session, part, like=name)}
    version = _store(session, actor, live, live.installation, parts, changes, [], reason, [tenant_id])
    session.commit()
    return Published(version, version != live.version, diff.summary(changes))


def _roll_back(session: Session, actor: Actor, version: int, reason: str) -> Published:
    live, old = store.live(session), _version(session, version)
    installation, tenants = _restored(session, old)
    changes = _changes(session, live, installation, tenants)
    problems = validate.validate(model.Table(installation, tuple(tenants.values())))
    if admission.has_errors(problems):
        first = next(problem for problem in problems if problem.is_error)
        raise Invalid(version=f"Version {version} cannot be made live again: {first.message}")
    parts = {tenant_id: store.keep(session, part) for tenant_id, part in tenants.items()}
    said = reason or f"Rolled back to version {version}"
    name = store.keep(session, installation)
    new = _store(session, actor, live, name, parts, changes, problems, said, None)
    changed = new != (live.version if live else 0)
    session.commit()
    return Published(new, changed, diff.summary(changes), problems)


def _draft(session: Session, vault: Sealer, config: Config, tenant_ids: Collection[str] | None) -> Draft:
    live = store.live(session)
    installation = installation_of(session, config)
    before = store.installation(session, live.installation) if live else None
    parts = _changed_parts(session, vault, live, _candidates(session, live) if tenant_ids is None else tenant_ids)
    verdict = _judge(session, live, before, installation, parts)
    changes = diff.diff_installations(before, installation) + _tenant_changes(session, live, parts)
    return Draft(installation, parts, live, verdict, changes)


def _judge(
    session: Session,
    live: store.Live | None,
    before: model.Installation | None,
    installation: model.Installation,
    parts: Mapping[str, model.Tenant | None],
) -> admission.Admission:
    """The verdict; the installation is held as tenant "" if it has errors, alone or with a tenant that stays."""
    known = store.contributions(session, live.tenants) if live else {}
    for tenant_id in [tenant_id for tenant_id, part in parts.items() if part is None]:
        known.pop(tenant_id, None)
    faults = validate.check_installation(installation)
    if before is not None and not validate.suits_alike(before, installation):
        faults += _faults_of_staying(session, live, installation, parts)
    held = admission.has_errors(faults)
    judge = before if held and before is not None else installation
    verdict = admission.admit(known, judge, {key: part for key, part in parts.items() if part is not None})
    verdict.problems = faults + verdict.problems
    if held:
        verdict.held.add("")
    return verdict


def _faults_of_staying(
    session: Session, live: store.Live | None, installation: model.Installation, parts: Mapping[str, object]
) -> list[Problem]:
    """A new installation part must suit the tenants whose parts stay."""
    names = {name for tenant_id, name in live.tenants.items() if tenant_id not in parts} if live else set()
    staying = store.tenants(session, names).values()
    return [fault for part in staying for fault in validate.check_tenant(part, installation) if fault.is_error]


def _changed_parts(
    session: Session, vault: Sealer, live: store.Live | None, tenant_ids: Collection[str]
) -> dict[str, model.Tenant | None]:
    """New parts of those whose rows differ from what is live; None for those that are gone."""
    names = live.tenants if live else {}
    parts: dict[str, model.Tenant | None] = {tenant_id: None for tenant_id in tenant_ids if tenant_id in names}
    for rows in tenant_rows(session, tenant_ids):
        part = tenant_part(rows, vault)
        parts[part.id] = part
        if store.part_name(part) == names.get(part.id):
            del parts[part.id]
    return parts


def _part(session: Session, tenant_id: str, vault: Sealer) -> model.Tenant | None:
    return next((tenant_part(rows, vault) for rows in tenant_rows(session, [tenant_id])), None)


def _candidates(session: Session, live: store.Live | None) -> set[str]:
    """Tenants that may differ from what is live: the new, the gone, and those with a change in the audit that is
    younger than their part. Each service notes each change there, so no other tenant needs to be looked at."""
    existing = set(session.exec(select(Tenant.id)))
    names = live.tenants if live else {}
    changed = _last_changes(session)
    made = _made(session, names.values())
    old = {
        tenant_id
        for tenant_id, name in names.items()
        if tenant_id in changed and (name not in made or changed[tenant_id] > made[name] - SLACK)
    }
    return old | (existing ^ names.keys())


def _last_changes(session: Session) -> dict[str, datetime]:
    newest = (
        select(AuditEntry.tenant_id, func.max(AuditEntry.at))
        .where(col(AuditEntry.tenant_id).is_not(None), col(AuditEntry.action).not_like(OWN_ACTIONS))
        .group_by(col(AuditEntry.tenant_id))
    )
    return {tenant_id: at for tenant_id, at in session.exec(newest) if tenant_id}


def _made(session: Session, names: Iterable[str]) -> dict[str, datetime]:
    wanted = set(names)
    rows = session.exec(select(Part.hash, Part.created_at).where(Part.kind == "tenant"))
    return {name: at for name, at in rows if name in wanted}


def _touched(session: Session, tenant_id: str, name: str) -> bool:
    """As `_candidates`, for one tenant."""
    at = session.exec(select(Part.created_at).where(Part.hash == name)).first()
    if at is None:
        return True
    entries = select(AuditEntry.id).where(
        AuditEntry.tenant_id == tenant_id, AuditEntry.at > at - SLACK, col(AuditEntry.action).not_like(OWN_ACTIONS)
    )
    return session.exec(entries.limit(1)).first() is not None


def _tenant_changes(
    session: Session, live: store.Live | None, parts: Mapping[str, model.Tenant | None]
) -> list[diff.Change]:
    names = live.tenants if live else {}
    before = store.tenants(session, [names[tenant_id] for tenant_id in parts if tenant_id in names])
    changes: list[diff.Change] = []
    for tenant_id, part in parts.items():
        changes += diff.diff_tenants(before.get(names.get(tenant_id, "")), part)
    return sorted(changes, key=lambda change: change.tenant)


def _version(session: Session, version: int) -> store.Live:
    found = session.exec(select(Publication).where(Publication.version == version)).first()
    if found is None:
        raise NotFound(f"no publication {version}")
    return store.of(found)


def _restored(session: Session, old: store.Live) -> tuple[model.Installation, dict[str, model.Tenant]]:
    """An old table as it may come back."""
    installation = store.installation(session, old.installation)
    if installation is None:
        raise NotFound("a part of this version is not there any more")
    parts = store.tenants(session, old.tenants.values())
    states = dict(session.exec(select(Tenant.id, Tenant.status)).all())
    tenants = {tenant_id: parts[name] for tenant_id, name in old.tenants.items() if tenant_id in states}
    for tenant_id, part in tenants.items():
        tenants[tenant_id] = replace(part, suspended=states[tenant_id] == "suspended")
    return installation, tenants


def _changes(
    session: Session, live: store.Live | None, installation: model.Installation, tenants: Mapping[str, model.Tenant]
) -> list[diff.Change]:
    names = live.tenants if live else {}
    parts: dict[str, model.Tenant | None] = dict.fromkeys(names)
    parts |= {key: part for key, part in tenants.items() if store.part_name(part) != names.get(key)}
    parts = {key: part for key, part in parts.items() if part is not None or key not in tenants}
    before = store.installation(session, live.installation) if live else None
    return diff.diff_installations(before, installation) + _tenant_changes(session, live, parts)


def _store(
    session: Session,
    actor: Actor,
    live: store.Live | None,
    installation: str,
    parts: Mapping[str, str],
    changes: list[diff.Change],
    problems: list[Problem],
    reason: str,
    tenant_ids: Collection[str] | None,
) -> int:
    """Add the publication unless it would be what is live; the version that is newest now."""
    manifest = {"format": model.FORMAT, "installation": installation, "tenants": dict(sorted(parts.items()))}
    name = codec.part_hash(manifest)
    if live is not None and live.hash == name:
        return live.version
    publication = Publication(
        version=live.version + 1 if live else 1,
        hash=name,
        manifest=manifest,
        parent_version=live.version if live else None,
        account_id=actor.account_id,
        by_label=actor.label,
        reason=reason[:MAX_REASON],
        diff=[asdict(change) for change in changes[: diff.MAX_SHOWN]],
        problems=[{**problem.as_dict(), "where": list(problem.where)} for problem in problems[:MAX_KEPT_PROBLEMS]],
    )
    session.add(publication)
    only = next(iter(tenant_ids)) if tenant_ids is not None and len(tenant_ids) == 1 else None
    after = {"version": publication.version, "changes": diff.summary(changes), "reason": publication.reason}
    audit.record(session, actor, "publication.created", publication, after=after, tenant_id=only)
    return publication.version
