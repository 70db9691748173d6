"""The client of the control channel against a node that only remembers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.publishing.fake import FakeNode
from panel.publishing.node import NodeAwayError, NodeClient, NodeError, NodeRefusedError, parse_address

pytestmark = pytest.mark.integration

PARTS = {"aa": {"installation": 1}, "bb": {"tenant": 1}, "cc": {"tenant": 2}}
MANIFEST = {"format": 1, "installation": "aa", "tenants": {"t1": "bb", "t2": "cc"}}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with FakeNode(tmp_path / "node.sock") as fake:
        yield fake


@pytest.fixture
def client(node: FakeNode) -> Iterator[NodeClient]:
    with NodeClient(f"unix:{node.path}", connect_seconds=1, answer_seconds=2) as client:
        yield client


def fetch(names: object) -> dict[str, object]:
    return {name: PARTS[name] for name in names}  # type: ignore[attr-defined]


def test_status(client: NodeClient, node: FakeNode) -> None:
    status = client.status()
    assert (status.version, status.hash, status.counters) == (0, "", {"calls": 3})


def test_a_first_load_sends_what_is_missing(client: NodeClient, node: FakeNode) -> None:
    loaded = client.load(7, MANIFEST, fetch)
    assert (loaded.version, loaded.ms) == (7, 1.5)
    assert client.status().hash == loaded.hash
    assert [sorted(request["parts"]) for request in node.requests[:2]] == [[], ["aa", "bb", "cc"]]


def test_a_later_load_sends_only_what_is_new(client: NodeClient, node: FakeNode) -> None:
    client.load(1, {"format": 1, "installation": "aa", "tenants": {"t1": "bb"}}, fetch)
    node.requests.clear()
    client.load(2, MANIFEST, fetch, likely={"cc"})
    assert [sorted(request["parts"]) for request in node.requests] == [["cc"]]


def test_a_node_that_forgot_gets_everything(client: NodeClient, node: FakeNode) -> None:
    client.load(1, MANIFEST, fetch)
    node.forget()
    assert client.load(2, MANIFEST, fetch, likely={"cc"}).version == 2


def test_a_refusal_carries_the_problems(client: NodeClient, node: FakeNode) -> None:
    node.refuse = [{"path": "tenants[acme]", "message": "no", "severity": "error"}]
    with pytest.raises(NodeRefusedError) as caught:
        client.load(1, MANIFEST, fetch)
    assert caught.value.problems[0].message == "no"


def test_a_node_that_asks_forever_is_left(client: NodeClient, node: FakeNode) -> None:
    node.raw_answers = [b'{"ok":false,"missing":["aa"]}\n'] * 5
    with pytest.raises(NodeRefusedError):
        client.load(1, MANIFEST, fetch)
    assert len(node.raw_answers) == 3


def test_events_come_from_the_cursor(client: NodeClient, node: FakeNode) -> None:
    for _ in range(3):
        node.happened("refused", rule="source")
    events, cursor = client.events(1, 1)
    assert ([event["id"] for event in events], cursor) == ([2], 2)
    assert client.events(3, 10) == ([], 3)


def test_registrations_calls_and_renew(client: NodeClient, node: FakeNode) -> None:
    node.upstream = [{"tenant": "t1", "state": "registered"}, {"tenant": "t2", "state": "trying"}]
    upstream, bindings = client.registrations("t1")
    assert (upstream, bindings) == ([{"tenant": "t1", "state": "registered"}], [])
    assert client.renew("t1", "c1") == 1
    assert client.calls() == []


@pytest.mark.parametrize(
    "answer",
    [b"nonsense\n", b"[]\n", b'{"ok":false}\n', b'{"ok":"true"}\n', b"null\n"],
)
def test_a_bad_answer_is_an_error_with_a_sentence(client: NodeClient, node: FakeNode, answer: bytes) -> None:
    node.raw_answers = [answer]
    with pytest.raises(NodeError, match=r"\.$"):
        client.status()
    assert client.status().version == 0, "the next request works again"


def test_fields_of_a_wrong_type_are_not_believed(client: NodeClient, node: FakeNode) -> None:
    node.raw_answers = [b'{"ok":true,"version":"x","hash":3,"problems":{"a":1},"counters":[],"spool":{"next":"y"}}\n']
    status = client.status()
    assert (status.version, status.hash, status.problems, status.counters) == (0, "", (), {})


def test_a_node_that_is_away(tmp_path: Path) -> None:
    with NodeClient(str(tmp_path / "nothing.sock")) as client, pytest.raises(NodeAwayError, match="cannot be reached"):
        client.status()


def test_a_node_that_hangs_up_can_be_asked_again(client: NodeClient, node: FakeNode) -> None:
    client.status()
    node.stop()
    with pytest.raises(NodeAwayError):
        client.status()
    node.start()
    assert client.status().version == 0


def test_a_node_that_does_not_answer(node: FakeNode) -> None:
    hold = threading.Event()
    node._do_status = lambda request: hold.wait(5) and {}  # type: ignore[method-assign,assignment]
    with (
        NodeClient(str(node.path), answer_seconds=0.05) as client,
        pytest.raises(NodeAwayError, match="no answer in time"),
    ):
        client.status()
    hold.set()


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("unix:/run/sipd.sock", ("/run/sipd.sock", "", 0, False)),
        ("/run/sipd.sock", ("/run/sipd.sock", "", 0, False)),
        ("tcp:192.0.2.1:5070", ("", "192.0.2.1", 5070, False)),
        ("node.example:5070", ("", "node.example", 5070, False)),
        ("[2001:db8::1]:5070", ("", "2001:db8::1", 5070, False)),
        ("tls:node.example:5070", ("", "node.example", 5070, True)),
        ("tls:[2001:db8::1]:5070", ("", "2001:db8::1", 5070, True)),
    ],
)
def test_addresses(address: str, parsed: tuple[str, str, int, bool]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    ("address", "open_"),
    [("/run/x", False), ("tls:192.0.2.1:1", False), ("tcp:127.0.0.1:1", False), ("[::1]:1", False),
     ("localhost:1", False), ("tcp:192.0.2.1:1", True), ("node.example:1", True)],
)  # fmt: skip
def test_where_others_could_read_along(address: str, open_: bool) -> None:
    assert parse_address(address).is_open is open_


@pytest.mark.parametrize("address", ["", "node", "node:", "node:x", ":5070", "node:0", "node:70000", "node:²"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(NodeError, match="is no address of a node"):
        parse_address(address)
