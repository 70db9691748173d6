"""Who is banned at the nodes right now: asked of each node, kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from panel import audit
from panel.actor import Actor
from panel.errors import Invalid, NotFound
from panel.models import Node
from panel.publishing import at_hand
from panel.publishing.live import ANSWER_SECONDS, CONNECT_SECONDS, moment
from panel.publishing.node import NodeAwayError, NodeClient, NodeError
from panel.secrets import vault

MAX_SHOWN = 100
"""Bans of one node on the page; the others are counted, and found by searching."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A source that gets no answer for a while."""

    source: str
    since: datetime | None
    until: datetime | None
    reason: str
    """The rule of its last offence."""
    times: int
    """How often it was banned lately."""


@dataclass(frozen=True, slots=True)
class NodeBans:
    """What one node says."""

    node_id: str
    name: str
    bans: list[Ban] = field(default_factory=list)
    """The newest first, up to `MAX_SHOWN`."""
    total: int = 0
    """All that match."""
    problem: str = ""
    """Why nothing is known of it, as a sentence."""


def bans(session: Session, wanted: str) -> list[NodeBans]:
    """Of all nodes, by name; with `wanted` only sources that hold this text."""
    return [_ask(node, wanted) for node in session.exec(select(Node).order_by(Node.name)).all()]


def unban(session: Session, actor: Actor, node_id: str, source: str) -> str:
    """End a ban at one node; what happened, as a sentence. Raises `Invalid` with the node's answer."""
    node = session.get(Node, node_id)
    if node is None:
        raise NotFound("no such node")
    try:
        with _client(node) as client:
            lifted = client.unban(source)
    except NodeError as error:
        raise Invalid(source=f"The ban of {source} goes on. {error}") from error
    if not lifted:
        return f"{source} was not banned at {node.name} any more."
    audit.record(session, actor, "source.unbanned", node, after={"source": source})
    session.commit()
    return f"{source} is not banned at {node.name} any more."


def _ask(node: Node, wanted: str) -> NodeBans:
    try:
        with _client(node) as client:
            found = [_ban(row) for row in client.bans()]
    except NodeAwayError as error:
        return NodeBans(node.id, node.name, problem=str(error))
    except NodeError as error:
        told = f"{node.name} does not tell who is banned; it may run an older release. It answered: {error}"
        return NodeBans(node.id, node.name, problem=told)
    matching = [ban for ban in found if wanted.lower() in ban.source]
    matching.sort(key=lambda ban: ban.since.timestamp() if ban.since else 0.0, reverse=True)
    return NodeBans(node.id, node.name, matching[:MAX_SHOWN], len(matching))


def _client(node: Node) -> NodeClient:
    token = vault().unseal(("node", node.id, "token"), node.token)
    trusted = at_hand.config().control_authorities
    timing = {"connect_seconds": CONNECT_SECONDS, "answer_seconds": ANSWER_SECONDS}
    return NodeClient(node.control, token, authorities=trusted, **timing)


def _ban(row: dict[str, Any]) -> Ban:
    times = row.get("times")
    return Ban(
        source=str(row.get("source", "")),
        since=moment(row.get("since")),
        until=moment(row.get("until")),
        reason=str(row.get("reason", "")),
        times=times if isinstance(times, int) else 1,
    )
