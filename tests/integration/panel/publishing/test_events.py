"""Events of a node are stored once, in order of the cursor, and calls become records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from panel.models import CallRecord, Event, EventCursor, Node
from panel.publishing import events, puller
from panel.publishing.fake import FakeNode
from panel.secrets import vault
from tests.cast import Cast

pytestmark = pytest.mark.integration
NOON = 1_750_000_000.0


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


@pytest.fixture
def pulling(cast: Cast) -> Iterator[puller.Puller]:
    with cast.app.app_context():
        made = puller.Puller(cast.database, vault(), cast.config)
    yield made
    made.close()


def ended(node: FakeNode, call: str = "c1", **detail: object) -> None:
    given = {"call": call, "from": "sip:101@acme", "to": "sip:102@acme", "direction": "internal", "started": NOON}
    given |= {"answered": NOON + 2, "ended": NOON + 44, "code": 200, "reason": "OK", "by": "caller", **detail}
    node.happened("call.ended", at=NOON + 44, tenant="t1", user="u1", detail=given)


def rows(cast: Cast, model: type) -> list:  # type: ignore[type-arg]
    with cast.looking() as session:
        found = list(session.exec(select(model)))
        session.expunge_all()
        return found


def test_a_round_stores_what_is_new(cast: Cast, node: FakeNode, pulling: puller.Puller) -> None:
    node.happened("refused", at=NOON, rule="source", detail={"code": 403})
    ended(node)
    assert pulling.round(0.0) == 2
    assert pulling.round(1.0) == 0
    assert [(row.event_id, row.kind) for row in rows(cast, Event)] == [(1, "refused"), (2, "call.ended")]
    assert rows(cast, EventCursor)[0].after == 2


def test_a_call_becomes_a_record(cast: Cast, node: FakeNode, pulling: puller.Puller) -> None:
    ended(node)
    pulling.round(0.0)
    (record,) = rows(cast, CallRecord)
    assert (record.call, record.tenant_id, record.direction, record.code, record.ended_by) == (
        "c1",
        "t1",
        "internal",
        200,
        "caller",
    )
    assert (record.ended_at - record.answered_at).total_seconds() == 42


def test_repeated_events_are_stored_once(cast: Cast, node: FakeNode) -> None:
    ended(node)
    ended(node, "c2", answered=None)
    with cast.everything() as session:
        session.add(Node(id="n1", name="n", control="unix:/x"))
        session.commit()
        assert events.keep(session, "n1", [*node.events, *node.events], 2) == 2
        assert events.keep(session, "n1", node.events, 2) == 0
    assert len(rows(cast, CallRecord)) == 2


def test_the_cursor_never_goes_back(cast: Cast, node: FakeNode, pulling: puller.Puller) -> None:
    ended(node)
    pulling.round(0.0)
    with cast.everything() as session:
        events.keep(session, rows(cast, EventCursor)[0].node_id, [], 0)
    assert rows(cast, EventCursor)[0].after == 1


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"id": "x", "at": NOON, "kind": "refused"},
        {"id": 1, "at": "noon", "kind": "refused"},
        {"id": 1, "at": 1e300, "kind": "refused"},
        {"id": 1, "at": float("nan"), "kind": "refused"},
        {"id": 1, "at": NOON, "kind": ""},
    ],
)
def test_a_malformed_event_stops_nothing(cast: Cast, event: dict[str, object]) -> None:
    with cast.everything() as session:
        session.add(Node(id="n1", name="n", control="unix:/x"))
        session.commit()
        good = {"id": 2, "at": NOON, "kind": "refused", "tenant": "x" * 99, "detail": "none"}
        assert events.keep(session, "n1", [event, good], 2) == 1
    (stored,) = rows(cast, Event)
    assert (stored.event_id, stored.tenant_id, stored.detail) == (2, None, {})


def test_ids_may_be_as_large_as_a_new_spool_begins(cast: Cast, node: FakeNode, pulling: puller.Puller) -> None:
    node.events.append({"id": 1_795_000_000_000_000, "at": NOON, "kind": "node.started"})
    node._do_status = lambda request: {"ok": True, "spool": {"next": 1_795_000_000_000_001}}  # type: ignore[method-assign]
    assert pulling.round(0.0) == 1
    assert pulling.round(1.0) == 0


def test_only_one_process_pulls(cast: Cast) -> None:
    with puller.lock(cast.config) as first, puller.lock(cast.config) as second:
        assert (first, second) == (True, False)
    with puller.lock(cast.config) as again:
        assert again
