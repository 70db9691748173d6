"""What the provider does with its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from panel import audit
from panel.actor import Actor
from panel.errors import Invalid, NotFound
from panel.models import Node, NodeApplied, Publication
from panel.nodes.bars import Bars, bars
from panel.nodes.forms import NodeInput
from panel.publishing import store
from panel.publishing.delivery import LOCAL_NODE
from panel.secrets import vault

DRAWN = 30
"""Publications in the drawing."""
MAX_NODES = 100


@dataclass(frozen=True, slots=True)
class Line:
    """A node and its last publications."""

    node: Node
    newest: int
    is_current: bool
    """Runs the newest publication."""
    drawing: Bars

    @property
    def is_local(self) -> bool:
        return self.node.name == LOCAL_NODE


def listing(session: Session) -> list[Line]:
    live = store.live(session)
    return [_line(session, node, live) for node in session.exec(select(Node).order_by(Node.name)).all()]


def add(session: Session, actor: Actor, data: NodeInput) -> Node:
    """Enter a node; it gets the newest publication as soon as it answers. Raises `Invalid`."""
    if session.exec(select(Node.id).where(Node.name == data.name)).first():
        raise Invalid(name=f"There is a node named {data.name} already. Choose another name.")
    if len(session.exec(select(Node.id)).all()) >= MAX_NODES:
        raise Invalid(name=f"There are {MAX_NODES} nodes already, and no more can be had. Remove one.")
    node = Node(name=data.name, control=data.control)
    node.token = vault().seal(("node", node.id, "token"), data.token)
    session.add(node)
    audit.record(session, actor, "node.created", node, after=audit.snapshot(node))
    session.commit()
    return node


def remove(session: Session, actor: Actor, node_id: str) -> str:
    """Forget a node, and what it told; its name. It goes on with the table that it has."""
    node = session.get(Node, node_id)
    if node is None:
        raise NotFound("no such node")
    if node.name == LOCAL_NODE:
        raise Invalid(name="The node on this machine cannot be removed.")
    name = node.name
    audit.record(session, actor, "node.removed", node, before=audit.snapshot(node))
    session.delete(node)
    session.commit()
    return name


def _line(session: Session, node: Node, live: store.Live | None) -> Line:
    rows = session.exec(
        select(Publication.version, NodeApplied.ms)
        .join(Publication, col(Publication.id) == NodeApplied.publication_id)
        .where(NodeApplied.node_id == node.id, col(NodeApplied.ms).is_not(None))
        .order_by(col(Publication.version).desc())
        .limit(DRAWN)
    ).all()
    timed = [(version, ms) for version, ms in reversed(rows) if ms is not None]
    is_current = live is not None and (node.hash, node.version) == (live.hash, live.version)
    return Line(node, live.version if live else 0, is_current, bars(timed))
