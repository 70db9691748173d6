"""Publications as pages show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from panel.errors import NotFound
from panel.models import Node, NodeApplied, Publication
from panel.paging import Page, paged

SEARCHED = 50
"""Newest publications that are searched for those that changed one tenant."""
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One publication and what the nodes did with it."""

    publication: Publication
    changes: list[dict[str, Any]]
    applied: list[tuple[str, NodeApplied]]
    """Names of nodes, and what each did."""

    @property
    def ms(self) -> float | None:
        return max((done.ms for _, done in self.applied if done.ms is not None), default=None)

    @property
    def state(self) -> str:
        """live (on all nodes that were told), refused, or waiting."""
        outcomes = {done.outcome for _, done in self.applied}
        if "refused" in outcomes:
            return "refused"
        return "live" if outcomes == {"applied"} else "waiting"

    @property
    def summary(self) -> str:
        """The first few changes."""
        said = [f"{change['subject']} {change['verb']}" for change in self.changes[:2]]
        more = len(self.changes) - len(said)
        return "; ".join(said) + (f"; and {more} more" if more > 0 else "") if said else "no change of words"

    @property
    def errors(self) -> int:
        return sum(problem["severity"] == "error" for problem in self.publication.problems)


def listing(session: Session, number: int) -> Page[Line]:
    """All publications, the newest first."""
    found = paged(session, select(Publication), number, (col(Publication.version).desc(),))
    return Page(_lines(session, found.rows), found.number, found.total)


def of_tenant(session: Session, tenant_id: str) -> list[Line]:
    """The newest publications that changed this tenant; nothing of others is in them."""
    newest = select(Publication).order_by(col(Publication.version).desc()).limit(SEARCHED)
    lines = _lines(session, session.exec(newest).all(), tenant_id)
    return [line for line in lines if line.changes][:SHOWN]


def one(session: Session, version: int) -> Line:
    publication = session.exec(select(Publication).where(Publication.version == version)).first()
    if publication is None:
        raise NotFound(f"no publication {version}")
    return _lines(session, [publication])[0]


def newest_version(session: Session) -> int:
    return session.exec(select(Publication.version).order_by(col(Publication.version).desc()).limit(1)).first() or 0


def _lines(session: Session, publications: Sequence[Publication], tenant_id: str = "") -> list[Line]:
    ids = [publication.id for publication in publications]
    rows = session.exec(
        select(NodeApplied, Node.name)
        .join(Node, col(Node.id) == NodeApplied.node_id)
        .where(col(NodeApplied.publication_id).in_(ids))
        .order_by(Node.name)
    ).all()
    applied: dict[str, list[tuple[str, NodeApplied]]] = defaultdict(list)
    for done, name in rows:
        applied[done.publication_id].append((name, done))
    return [Line(each, _changes(each, tenant_id), applied[each.id]) for each in publications]


def _changes(publication: Publication, tenant_id: str) -> list[dict[str, Any]]:
    return [change for change in publication.diff if not tenant_id or change["tenant_id"] == tenant_id]
