"""Bringing the newest publication to each node. No database session is open while a node is spoken to.

A lock file keeps two processes from sending different versions at once: whoever holds it reads which one
is the newest, and so a node never goes back to an older one.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlmodel import Session, select

from panel.config import Config
from panel.db import Database
from panel.models import Node, NodeApplied, Publication
from panel.models.base import utc_now
from panel.publishing import store
from panel.publishing.node import Loaded, NodeAwayError, NodeClient, NodeError, NodeRefusedError, NodeStatus
from panel.scope import system_scope
from panel.secrets import Vault

log = logging.getLogger("tenantry.delivery")

AT_ONCE = 8
"""Nodes spoken to at the same time."""
LOCK = "delivery.lock"
LOCAL_NODE = "local"
"""The name of the node that stands beside the panel."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node, without its row."""

    id: str
    name: str
    control: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one node did with the newest publication."""

    node: str
    """Name."""
    outcome: str
    """One of `panel.models.publishing.OUTCOMES`."""
    ms: float | None = None
    message: str = ""
    problems: tuple[dict[str, str], ...] = ()


class Delivery:
    """Sends tables to nodes, and keeps what became of it."""

    def __init__(self, database: Database, vault: Vault, config: Config) -> None:
        self._database = database
        self._vault = vault
        self._config = config

    def targets(self) -> list[Target]:
        """All nodes; the local one is entered when there is none yet."""
        with self._reading() as session:
            nodes = session.exec(select(Node).order_by(Node.name)).all()
            found = [self._target(node) for node in nodes]
        return found or [self._enter_local()]

    def deliver(self) -> list[Outcome]:
        """Bring all nodes to the newest publication; one outcome for each."""
        targets = self.targets()
        with self.lock(), ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            with self._reading() as session:
                newest = store.live(session)
            if newest is None:
                return []
            return list(pool.map(lambda target: self._bring(target, newest), targets))

    def deliver_to(self, target: Target, client: NodeClient) -> Outcome | None:
        """Bring one node to the newest publication, over a connection that is open; None if there is no publication."""
        with self.lock():
            with self._reading() as session:
                newest = store.live(session)
            return self._load(target, client, newest) if newest else None

    def seen(self, target: Target, status: NodeStatus | None, error: str = "") -> None:
        """Keep what a node says of itself, or that it is away."""
        with self._writing() as session:
            node = session.get(Node, target.id)
            if node is not None:
                _note(node, status, error)
                session.commit()

    @contextmanager
    def lock(self) -> Iterator[None]:
        path = Path(self._config.state_dir) / LOCK
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def client(self, target: Target) -> NodeClient:
        """A connection to a node that we trust."""
        return NodeClient(target.control, target.token, authorities=self._config.control_authorities)

    def _bring(self, target: Target, newest: store.Live) -> Outcome:
        with self.client(target) as client:
            return self._load(target, client, newest)

    def _load(self, target: Target, client: NodeClient, newest: store.Live) -> Outcome:
        try:
            status = client.status()
            if status.hash == newest.hash and status.version == newest.version:
                outcome = Outcome(target.name, "applied")
            else:
                outcome = _applied(
                    target, client.load(newest.version, newest.manifest, self._fetch(), self._new(newest))
                )
            status = client.status()
            error = ""
        except NodeAwayError as problem:
            outcome, status, error = Outcome(target.name, "unreachable", message=str(problem)), None, str(problem)
        except NodeRefusedError as problem:
            outcome, error = _refused(target, problem), str(problem)
        except NodeError as problem:
            outcome, error = Outcome(target.name, "refused", message=str(problem)), str(problem)
        self._keep(target, newest, outcome, status, error)
        return outcome

    def _fetch(self) -> Callable[[Any], dict[str, Any]]:
        return store.fetcher(self._reading)

    def _new(self, newest: store.Live) -> set[str]:
        """Parts that the publication before did not have."""
        with self._reading() as session:
            before = session.exec(select(Publication).where(Publication.version == newest.version - 1)).first()
            known = {*before.manifest["tenants"].values(), before.manifest["installation"]} if before else set()
        return {newest.installation, *newest.tenants.values()} - known

    def _keep(
        self, target: Target, newest: store.Live, outcome: Outcome, status: NodeStatus | None, error: str
    ) -> None:
        with self._writing() as session:
            node = session.get(Node, target.id)
            publication = session.exec(select(Publication).where(Publication.version == newest.version)).one()
            if node is None:
                return
            _note(node, status, error, refused=outcome.outcome == "refused")
            kept = session.exec(
                select(NodeApplied).where(
                    NodeApplied.publication_id == publication.id, NodeApplied.node_id == target.id
                )
            ).first() or NodeApplied(publication_id=publication.id, node_id=target.id, outcome=outcome.outcome)
            _write(kept, outcome)
            session.add(kept)
            session.commit()

    def _enter_local(self) -> Target:
        with self._writing() as session:
            node = session.exec(select(Node).where(Node.name == LOCAL_NODE)).first()
            if node is None:
                node = Node(name=LOCAL_NODE, control=self._config.control)
                session.add(node)
                session.commit()
            return self._target(node)

    def _target(self, node: Node) -> Target:
        control = self._config.control if node.name == LOCAL_NODE else node.control
        return Target(node.id, node.name, control, self._vault.unseal(("node", node.id, "token"), node.token))

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._database.session(writing=False) as session, system_scope(session, "bring tables to nodes"):
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._database.session() as session, system_scope(session, "keep what nodes did"):
            yield session


def _applied(target: Target, loaded: Loaded) -> Outcome:
    problems = tuple({"path": p.path, "message": p.message, "severity": p.severity} for p in loaded.problems)
    return Outcome(target.name, "applied", loaded.ms, problems=problems)


def _refused(target: Target, refusal: NodeRefusedError) -> Outcome:
    log.error("node %s refused a table: %s", target.name, refusal)
    problems = tuple({"path": p.path, "message": p.message, "severity": p.severity} for p in refusal.problems)
    return Outcome(target.name, "refused", message=str(refusal), problems=problems)


def _note(node: Node, status: NodeStatus | None, error: str, refused: bool = False) -> None:
    node.last_error = error[:500]
    node.state = "refused" if refused else "down" if status is None else "up"
    if status is not None:
        node.version, node.hash, node.last_seen = status.version, status.hash[:64], utc_now()
        node.since = status.running_since


def _write(kept: NodeApplied, outcome: Outcome) -> None:
    """What was measured stays: a node that runs the table already is not asked to load it again."""
    if kept.outcome != "applied" or kept.ms is None or outcome.ms is not None:
        kept.ms, kept.at = outcome.ms, utc_now()
    kept.outcome = outcome.outcome
    kept.problems = [*outcome.problems] or ([{"message": outcome.message}] if outcome.message else [])
