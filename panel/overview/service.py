"""The state of a tenant, read live: nothing of the checklist is stored."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import col

from panel.models import Connection, Domain, Event, UpstreamAccount, User
from panel.models.history import CallRecord
from panel.models.publishing import Part
from panel.publishing.live import State
from panel.scope import TenantScope

RECENT_CHANGES = 1000
"""Newest changes of registrations that are looked at; older ones are long overtaken."""
DONE, NEXT, LATER = "done", "next", "later"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the overview goes by."""

    users: int
    connections: int
    switched_on: int
    credentials: int
    published: bool
    pending: bool
    """Something is saved that is not yet live."""
    registered: int
    failing: int
    """Upstream registrations that the PBX refuses, or that do not reach it."""
    phones: int
    """Phones that can be reached now."""
    calls: int


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the checklist."""

    key: str
    title: str
    text: str
    endpoint: str
    """Where it is done; without a page there is no link."""
    state: str
    """done, next (the first that is not) or later."""


def facts(scope: TenantScope, pending: bool, now: State) -> Facts:
    """`now` is how things stand at the nodes; of those that do not answer, the last events tell."""
    return Facts(
        users=scope.count(User),
        connections=scope.count(Connection),
        switched_on=scope.count(Connection, col(Connection.multi_tenant)),
        credentials=scope.count(UpstreamAccount),
        published=scope.count(Part) > 0,
        pending=pending,
        registered=registered(scope) if now.away else now.count("registered"),
        failing=now.count("refused") + now.count("unreachable"),
        phones=len(now.phones),
        calls=scope.count(CallRecord),
    )


def registered(scope: TenantScope) -> int:
    """Upstream registrations that the PBX has accepted, as the last events tell."""
    statement = (
        scope.select(Event)
        .where(Event.kind == "registration.changed")
        .order_by(col(Event.at).desc(), col(Event.event_id).desc())
        .limit(RECENT_CHANGES)
    )
    newest: dict[tuple[str | None, str | None], str] = {}
    for event in scope.all(statement):
        newest.setdefault((event.user_id, event.connection_id), str(event.detail.get("state")))
    return sum(state == "registered" for state in newest.values())


def steps(known: Facts) -> list[Step]:
    """The way from sign-up to the first call; pure."""
    found: list[Step] = []
    for key, title, text, endpoint, done in _plan(known):
        open_before = any(step.state != DONE for step in found)
        state = DONE if done else LATER if open_before else NEXT
        found.append(Step(key, title, text, endpoint, state))
    return found


def domains(scope: TenantScope) -> list[Domain]:
    """The primary one first."""
    return scope.all(scope.select(Domain).order_by(col(Domain.is_primary).desc(), Domain.name))


def _plan(known: Facts) -> list[tuple[str, str, str, str, bool]]:
    return [
        ("verify", "Confirm your e-mail address", "Done when you followed the link in our mail.", "", True),
        (
            "connect",
            "Connect your PBX",
            "Tell us where your PBX is, and which addresses it sends calls from.",
            "connections.listing",
            known.connections > 0,
        ),
        (
            "users",
            "Add your users",
            "Each person or device gets an extension, and its credentials at the PBX.",
            "users.listing",
            known.users > 0,
        ),
        (
            "mode",
            "Switch multi-tenant mode on",
            "Your domain then stands in the Contact of every registration, and the PBX sends it back with each call.",
            "connections.listing",
            known.switched_on > 0,
        ),
        (
            "publish",
            "Publish",
            "Nothing that you save touches a call until you publish it.",
            "publishing.page",
            known.published and not known.pending,
        ),
        (
            "registrations",
            "See the registrations turn green",
            "Your PBX has accepted at least one of your users.",
            "connections.listing",
            known.registered > 0,
        ),
        ("call", "Make the first call", "Call one of your users through the PBX.", "live.calls", known.calls > 0),
    ]
