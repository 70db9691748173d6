"""The provider's page on nodes. Access: test_isolation_walk.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import select

from panel.models import Node
from panel.publishing.fake import FakeNode
from panel.publishing.puller import Puller
from panel.secrets import vault
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
SENT = {"name": "second", "control": "node2.example:5070", "token": "a token of many letters"}


def nodes(cast: Cast) -> list[Node]:
    with cast.looking() as session:
        found = list(session.exec(select(Node)))
        session.expunge_all()
        return found


def test_the_empty_page_says_what_comes(root: Browser) -> None:
    assert "No node was seen yet" in root.get("/provider/nodes").text


def test_version_hash_and_milliseconds(cast: Cast, root: Browser) -> None:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as node:
        root.post("/provider/publications")
        page = root.htmx("/provider/nodes").text
        assert node.hash[:16] in page
    assert "up to date" in page
    assert "version 1: 1.5 ms" in page


def test_what_a_node_is_in_trouble_with_until_it_is_over(cast: Cast, root: Browser) -> None:
    with cast.app.app_context():
        pulling = Puller(cast.database, vault(), cast.config)
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as node:
        node.condition = {
            "not_ready": ["draining", "store", "no-table", "of tomorrow", 7], "store": {"error": "disk <full>"},
            "media": [{"address": "udp:192.0.2.9:2223", "up": False}, {"address": "udp:192.0.2.8:2223", "up": True}],
        }  # fmt: skip
        pulling.round(1.0)
        page = root.htmx("/provider/nodes").text
        node.condition = {"not_ready": [], "store": {"error": ""}, "media": []}
        pulling.round(2.0)
        after = root.htmx("/provider/nodes").text
    pulling.close()
    for words in ("It drains", "cannot write its state", "disk &lt;full&gt;", "do not answer: udp:192.0.2.9:2223."):
        assert words in page
    assert "192.0.2.8" not in page
    assert "running" in page
    assert "It drains" not in after


def test_a_node_elsewhere_keeps_its_token_to_itself(cast: Cast, root: Browser) -> None:
    assert root.post("/provider/nodes", data=SENT).status_code == 303
    (node,) = nodes(cast)
    assert node.control == "tls:node2.example:5070"
    with cast.app.app_context():
        assert vault().unseal(("node", node.id, "token"), node.token) == SENT["token"]
    assert SENT["token"] not in root.get("/provider/nodes").text
    assert all(SENT["token"] not in str(entry.after) for entry in cast.audit())
    assert root.post(f"/provider/nodes/{node.id}/remove").status_code == 303
    assert not nodes(cast)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": "a;b"},
        {"control": "unix:/etc/x"},
        {"control": "nowhere"},
        {"control": "tcp:192.0.2.7:5070"},
        {"token": "short"},
    ],
)  # fmt: skip
def test_what_cannot_be(cast: Cast, root: Browser, changed: dict[str, str]) -> None:
    answer = root.post("/provider/nodes", data={**SENT, **changed})
    assert answer.status_code == 422
    assert f'id="{next(iter(changed))}-error"' in answer.text
    assert not nodes(cast)


def test_the_same_name_twice(root: Browser) -> None:
    root.post("/provider/nodes", data=SENT)
    assert "There is a node named second already" in root.post("/provider/nodes", data=SENT).text


def test_the_local_node_stays(cast: Cast, root: Browser) -> None:
    local = cast.add(Node(name="local", control=cast.config.control))
    root.post(f"/provider/nodes/{local}/remove")
    assert "cannot be removed" in root.get("/provider/nodes").text
    assert len(nodes(cast)) == 1
