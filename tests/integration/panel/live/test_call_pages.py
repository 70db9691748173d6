"""A tenant's page on its calls. Access: test_isolation_walk.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panel.models import CallRecord
from panel.publishing.fake import FakeNode
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(cast: Cast, slug: str, call: str, caller: str, **fields: object) -> None:
    given = {"to_uri": "sip:102@acme", "direction": "in", "started_at": NOON, "ended_at": NOON + timedelta(seconds=62)}
    owner = {"tenant_id": cast.tenant_id(slug), "node_id": "n", "call": call, "from_uri": f"sip:{caller}@x"}
    cast.add(CallRecord(**{**owner, **given, **fields}))


def test_the_empty_page(alice: Browser) -> None:
    page = alice.get("/t/acme/calls").text
    assert "No calls yet" in page
    assert "No answer from local" in page


def test_own_calls_only(cast: Cast, alice: Browser) -> None:
    record(cast, "acme", "1", "mine", answered_at=NOON + timedelta(seconds=2))
    record(cast, "globex", "2", "theirs")
    page = alice.get("/t/acme/calls").text
    assert "mine" in page
    assert "theirs" not in page
    assert "talked 1:00" in page


def test_search_and_direction(cast: Cast, alice: Browser) -> None:
    record(cast, "acme", "1", "200", code=486, reason="Busy Here")
    record(cast, "acme", "2", "300", direction="out")
    assert "486 Busy Here" in alice.htmx("/t/acme/calls?q=200").text
    assert "300" not in alice.htmx("/t/acme/calls?direction=in").text
    assert "No call matches" in alice.htmx("/t/acme/calls?q=%25").text


def test_calls_in_progress(cast: Cast, alice: Browser) -> None:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as node:
        call = {"id": "1", "tenant": cast.tenant_id("acme"), "from": "sip:101@a", "to": "sip:555@a", "since": 1.7e9}
        node.calls = [{**call, "state": "answered"}, {**call, "tenant": cast.tenant_id("globex"), "to": "sip:777@a"}]
        fragment = alice.htmx("/t/acme/calls?now=1").text
    assert "555" in fragment
    assert "777" not in fragment
    assert "1 call" in fragment
