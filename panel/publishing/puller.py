"""The loop that keeps panel and nodes together: pulls events, brings publications to nodes that were away.

One runs per installation, however many processes there are: whoever holds the lock file. If that process
ends, however it ends, the system frees the lock and another one takes over.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flask import Flask

from panel.config import Config
from panel.db import Database, database
from panel.models import EventCursor
from panel.publishing import at_hand, events, store
from panel.publishing.delivery import Delivery, Target
from panel.publishing.node import NodeClient, NodeError, NodeStatus
from panel.scope import system_scope
from panel.secrets import Vault, vault

log = logging.getLogger("tenantry.puller")

PAUSE = 1.0
"""Seconds between two rounds."""
NOTED_EVERY = 10.0
"""Seconds after which a node that goes on as before is noted as seen again."""
LOCK_PAUSE = 5.0
"""Seconds until a process asks again whether the lock is free."""
MAX_BATCHES = 20
"""Batches of events from one node in one round, so that the others get their turn."""
LOCK = "puller.lock"


class Puller:
    """One round after another with each node; connections stay open between rounds."""

    def __init__(self, database: Database, vault: Vault, config: Config) -> None:
        self._database = database
        self._delivery = Delivery(database, vault, config)
        self._clients: dict[Target, NodeClient] = {}
        self._noted: dict[str, tuple[float, tuple[object, ...]]] = {}

    def round(self, now: float) -> int:
        """Speak with each node once; how many events were stored. `now` is any clock in seconds."""
        targets = self._delivery.targets()
        for gone in self._clients.keys() - set(targets):
            self._clients.pop(gone).close()
        return sum(self._visit(target, now) for target in targets)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _visit(self, target: Target, now: float) -> int:
        client = self._clients.setdefault(target, self._delivery.client(target))
        try:
            status, newest = client.status(), self._newest()
            if newest is not None and _is_behind(status, newest):
                self._delivery.deliver_to(target, client)
                status = client.status()
            stored = self._pull(target, client, status)
        except NodeError as error:
            client.close()
            self._note(target, None, str(error), now)
            return 0
        if newest is None or status.refused_hash != newest.hash:
            self._note(target, status, status.trouble, now)
        return stored

    def _newest(self) -> store.Live | None:
        with self._database.session(writing=False) as session, system_scope(session, "compare with a node"):
            return store.live(session)

    def _pull(self, target: Target, client: NodeClient, status: NodeStatus) -> int:
        stored = 0
        with self._database.session(writing=False) as session, system_scope(session, "read a cursor"):
            cursor = session.get(EventCursor, target.id)
            after = cursor.after if cursor else 0
        following = status.spool.get("next", after + 1)
        for _ in range(MAX_BATCHES):
            if following <= after + 1:
                break
            batch, after_batch = client.events(after, events.BATCH)
            with self._database.session() as session, system_scope(session, "store events"):
                stored += events.keep(session, target.id, batch, after_batch)
            if after_batch <= after:
                break
            after = after_batch
        return stored

    def _note(self, target: Target, status: NodeStatus | None, error: str, now: float) -> None:
        """Written when something changed, and now and then, not each second."""
        state = (error, status and (status.version, status.hash, status.refused_hash))
        noted = self._noted.get(target.id)
        if noted is None or noted[1] != state or now - noted[0] >= NOTED_EVERY:
            self._noted[target.id] = (now, state)
            self._delivery.seen(target, status, error)


def run(database: Database, vault: Vault, config: Config, stop: threading.Event) -> None:
    """Wait for the lock, then go round until `stop` is set. A round that fails is logged, and the next one comes."""
    while not stop.is_set():
        with lock(config) as held:
            if held:
                _go_round(Puller(database, vault, config), stop)
        stop.wait(LOCK_PAUSE)


def start(database: Database, vault: Vault, config: Config) -> threading.Event:
    """Run in a thread that ends with the process; set what this returns to end it before."""
    stop = threading.Event()
    arguments = (database, vault, config, stop)
    threading.Thread(target=run, args=arguments, name="puller", daemon=True).start()
    return stop


def start_for(app: Flask) -> threading.Event:
    """`start`, with what the application has."""
    with app.app_context():
        return start(database(), vault(), at_hand.config())


def run_for(app: Flask) -> None:
    """`run` in the foreground, until Ctrl-C."""
    with app.app_context():
        arguments = (database(), vault(), at_hand.config())
    with suppress(KeyboardInterrupt):
        run(*arguments, threading.Event())


def _is_behind(status: NodeStatus, newest: store.Live) -> bool:
    """Whether the newest publication is to be sent: not again if the node refused just that one."""
    if status.refused_hash == newest.hash:
        return False
    return (status.hash, status.version) != (newest.hash, newest.version)


@contextmanager
def lock(config: Config) -> Iterator[bool]:
    """Whether this process is the one that pulls, for as long as the block lasts."""
    with (Path(config.state_dir) / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _go_round(puller: Puller, stop: threading.Event) -> None:
    try:
        while not stop.is_set():
            try:
                puller.round(time.monotonic())
            except Exception:  # the loop must outlive a locked database and our own bugs
                log.exception("a round failed")
            stop.wait(PAUSE)
    finally:
        puller.close()
