"""How things stand at the nodes right now, for pages that ask again every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlmodel import select

from panel.errors import Invalid
from panel.models import Node
from panel.publishing import at_hand
from panel.publishing.node import NodeClient, NodeError
from panel.scope import TenantScope, system_scope
from panel.secrets import vault

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 3.0
A = TypeVar("A")
UPSTREAM_STATES = ("registered", "trying", "refused", "unreachable", "removing")


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream registration."""

    user: str
    connection: str
    state: str
    code: int
    reason: str
    contact: str
    since: datetime | None
    next: datetime | None
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Phone:
    """One binding: where a phone can be reached."""

    user: str
    contact: str
    source: str
    transport: str
    expires: datetime | None
    user_agent: str


@dataclass(frozen=True, slots=True)
class State:
    """Of one tenant, over all nodes."""

    upstream: list[Upstream] = field(default_factory=list)
    phones: list[Phone] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    """Names of nodes that did not answer: what they know is missing here."""

    def of_user(self, user_id: str) -> State:
        upstream = [row for row in self.upstream if row.user == user_id]
        return State(upstream, [row for row in self.phones if row.user == user_id], self.away)

    def of_connection(self, connection_id: str) -> State:
        return State([row for row in self.upstream if row.connection == connection_id], [], self.away)

    def count(self, state: str) -> int:
        return sum(row.state == state for row in self.upstream)


def registrations(scope: TenantScope) -> State:
    """Upstream registrations and phones of the tenant."""
    answers, away = _ask(scope, lambda client: client.registrations(scope.tenant_id))
    upstream = [_upstream(row) for rows, _ in answers for row in rows if row.get("tenant") == scope.tenant_id]
    phones = [_phone(row) for _, rows in answers for row in rows if row.get("tenant") == scope.tenant_id]
    return State(upstream, phones, away)


def calls(scope: TenantScope) -> tuple[list[dict[str, Any]], list[str]]:
    """Calls in progress, and the nodes that did not answer."""
    answers, away = _ask(scope, lambda client: client.calls(scope.tenant_id))
    rows = [row for rows in answers for row in rows if row.get("tenant") == scope.tenant_id]
    return [{**row, "since": moment(row.get("since"))} for row in rows], away


def renew(scope: TenantScope, connection_id: str) -> int:
    """Ask the nodes to register the connection's users again now; how many will be. Raises `Invalid`."""
    answers, away = _ask(scope, lambda client: client.renew(scope.tenant_id, connection_id))
    if not answers:
        raise Invalid(renew=f"No node answers ({', '.join(away)}). Try again when it is back.")
    return sum(answers)


def _ask(scope: TenantScope, question: Callable[[NodeClient], A]) -> tuple[list[A], list[str]]:
    answers: list[A] = []
    away: list[str] = []
    trusted = at_hand.config().control_authorities
    for name, control, token in _nodes(scope):
        timing = {"connect_seconds": CONNECT_SECONDS, "answer_seconds": ANSWER_SECONDS}
        try:
            with NodeClient(control, token, authorities=trusted, **timing) as client:
                answers.append(question(client))
        except NodeError:
            away.append(name)
    return answers, away


def _nodes(scope: TenantScope) -> Iterable[tuple[str, str, str]]:
    with system_scope(scope.session, "find the nodes"):
        nodes = scope.session.exec(select(Node).order_by(Node.name)).all()
        found = [(n.name, n.control, vault().unseal(("node", n.id, "token"), n.token)) for n in nodes]
    return found or [("local", at_hand.config().control, "")]


def _upstream(row: dict[str, Any]) -> Upstream:
    return Upstream(
        user=_text(row, "user"),
        connection=_text(row, "connection"),
        state=_text(row, "state") if _text(row, "state") in UPSTREAM_STATES else "trying",
        code=row["code"] if isinstance(row.get("code"), int) else 0,
        reason=_text(row, "reason"),
        contact=_text(row, "contact"),
        since=moment(row.get("since")),
        next=moment(row.get("next")),
        expires=moment(row.get("expires")),
    )


def _phone(row: dict[str, Any]) -> Phone:
    return Phone(
        user=_text(row, "user"),
        contact=_text(row, "contact"),
        source=_text(row, "source"),
        transport=_text(row, "transport"),
        expires=moment(row.get("expires")),
        user_agent=_text(row, "user_agent"),
    )


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value[:300] if isinstance(value, str) else ""


def moment(value: object) -> datetime | None:
    """A node's epoch seconds as a time; None for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
