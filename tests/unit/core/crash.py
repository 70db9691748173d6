"""A node that is killed, and started again with what its store had: for tests of what survives."""

from __future__ import annotations

import json

from sipd.edge import Edge
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from tests.unit.core.bench import CIPHER, Bench

State = dict[tuple[str, str], str]


def commit(edge: Edge, state: State) -> None:
    """What `sipd.store` does with a batch: JSON by kind and key."""
    for kind, key, record in edge.take_changes():
        if record is None:
            state.pop((kind, key), None)
        else:
            state[kind, key] = json.dumps(record, separators=(",", ":"), ensure_ascii=True)


def start_again(bench: Bench, state: State, routing: Table) -> None:
    """A new core with this state and table; what it says at once is collected. The tracer forgets, so it has none."""
    bench.edge = Edge(bench.settings, CIPHER, bench.random)
    bench.edge.restore([(kind, key, json.loads(text)) for (kind, key), text in sorted(state.items())], bench.now)
    bench.edge.load(compile_table(routing), bench.now)


class Life:
    """The lives of one node: its store, and the events of all lives."""

    def __init__(self, bench: Bench, routing: Table) -> None:
        self.bench = bench
        self.routing = routing
        self.state: State = {}
        self.events: list[dict[str, object]] = []

    def commit(self) -> None:
        self.events += self.bench.edge.take_events()
        commit(self.bench.edge, self.state)

    def restart(self, away: float = 3.0, routing: Table | None = None) -> None:
        """Killed right after a commit, and started again a while later."""
        self.commit()
        self.bench.now += away
        start_again(self.bench, self.state, routing or self.routing)
        self.commit()
        self.bench.collect()

    def kinds(self) -> list[str]:
        """Of the records of calls in the store."""
        return sorted(kind for kind, _ in self.state if kind.startswith("call"))

    def told(self, kind: str) -> list[dict[str, object]]:
        """The details of events of a kind, over all lives."""
        self.commit()
        found: list[dict[str, object]] = []
        for event in self.events:
            detail = event["detail"]
            assert isinstance(detail, dict)
            if event["kind"] == kind:
                found.append(detail)
        return found

    def end(self) -> dict[str, object]:
        """The only `call.ended`; each call that began has one."""
        (ended,) = self.told("call.ended")
        assert [start["call"] for start in self.told("call.started")] == [ended["call"]]
        return ended
