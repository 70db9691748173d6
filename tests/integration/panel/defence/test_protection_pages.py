"""The provider's pages on protection. Strangers, ids, methods, CSRF: test_isolation_walk.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from panel.models import Account, InstallationGuard, Node, SourceRule
from panel.publishing.fake import FakeNode
from sipd.routing import model
from tests.cast import Browser, Cast

pytestmark = pytest.mark.integration
PAGE = "/provider/protection"
NEW_GUARD = f"{PAGE}/guards/new"


@pytest.fixture
def node(cast: Cast) -> Iterator[FakeNode]:
    with FakeNode(Path(cast.config.control.removeprefix("unix:"))) as fake:
        yield fake


@pytest.fixture
def local(cast: Cast) -> str:
    """Id of the node on this machine."""
    return cast.add(Node(name="local", control=cast.config.control))


def ban(source: str = "203.0.113.9", **changed: object) -> dict[str, object]:
    return {
        "source": source,
        "since": time.time() - 60,
        "until": time.time() + 60,
        "reason": "scanner",
        "times": 3,
        **changed,
    }


def blocked(**changed: str) -> dict[str, str]:
    return {"kind": "blocked", "network": "203.0.113.0/24", "note": "Scans every night", **changed}


def networks(cast: Cast) -> list[tuple[str, str]]:
    with cast.looking() as session:
        return [(rule.kind, rule.network) for rule in session.exec(select(SourceRule).order_by(SourceRule.network))]


def installation(node: FakeNode) -> dict[str, object]:
    (found,) = [part for part in node.parts.values() if "platform_domain" in part]
    return found


def demote(cast: Cast, role: str) -> Browser:
    """root, with a weaker role."""
    with cast.everything() as session:
        root = session.exec(select(Account).where(Account.provider_role == "admin")).one()
        root.provider_role = role
        session.commit()
    return cast.browser("root")


def test_the_empty_page_says_what_to_do(root: Browser) -> None:
    text = root.get(PAGE).text
    for words in ("No networks yet", "No guards for all tenants yet", "No node was seen yet", "Add a network"):
        assert words in text


def test_a_network_is_live_at_once(cast: Cast, root: Browser, node: FakeNode) -> None:
    answer = root.post(f"{PAGE}/networks", data=blocked())
    assert answer.location == PAGE
    assert installation(node)["blocked"] == ["203.0.113.0/24"]
    text = root.get(PAGE).text
    assert "203.0.113.0/24 is blocked. Live: version 1 is enforced" in text
    assert "Scans every night" in text
    root.post(f"{PAGE}/networks", data=blocked(kind="allowed", network="2001:DB8::/32"))
    assert installation(node)["allowed"] == ["2001:db8::/32"]
    with cast.looking() as session:
        ids = {rule.network: rule.id for rule in session.exec(select(SourceRule))}
    assert root.post(f"{PAGE}/networks/{ids['203.0.113.0/24']}/remove").status_code == 303
    assert installation(node)["blocked"] == []
    assert networks(cast) == [("allowed", "2001:db8::/32")]
    entries = [entry for entry in cast.audit() if entry.action.startswith("network.")]
    assert [entry.action for entry in entries] == ["network.blocked", "network.allowed", "network.removed"]
    assert entries[0].after["note"] == "Scans every night"
    assert entries[2].before["network"] == "203.0.113.0/24"
    assert "blocked network 203.0.113.0/24" in root.get("/provider/audit").text


def test_what_tenants_saved_does_not_go_live_with_it(cast: Cast, root: Browser, node: FakeNode) -> None:
    cast.add_connection()
    root.post(f"{PAGE}/networks", data=blocked())
    assert not [part for part in node.parts.values() if "slug" in part]


def test_a_node_that_is_away_gets_it_later(cast: Cast, root: Browser) -> None:
    root.post(f"{PAGE}/networks", data=blocked())
    assert "It goes live as soon as local is back" in root.get(PAGE).text
    assert networks(cast) == [("blocked", "203.0.113.0/24")]


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"network": ""}, "network", "Please fill this in"),
        ({"network": "pbx.example"}, "network", "is no network"),
        ({"network": "203.0.113.1/24"}, "network", "write the network as"),
        ({"network": "0.0.0.0/0"}, "network", "every address there is"),
        ({"network": "203.0.113.0/32"}, "network", "write it as"),
        ({"kind": "muted"}, "kind", "not one of the choices"),
        ({"note": "x" * 201}, "note", "At most 200"),
        ({"note": "a\x00"}, "note", "control character"),
    ],
)
def test_what_cannot_be(cast: Cast, root: Browser, changed: dict[str, str], field: str, words: str) -> None:
    answer = root.post(f"{PAGE}/networks", data=blocked(**changed))
    assert answer.status_code == 422
    where = answer.text.index(f'id="{field}-error"')
    assert words in answer.text[where : where + 300]
    assert networks(cast) == []


def test_a_network_is_in_one_list_and_once(cast: Cast, root: Browser) -> None:
    cast.add(SourceRule(kind="blocked", network="203.0.113.0/24"))
    assert "is in the list already" in root.post(f"{PAGE}/networks", data=blocked()).text
    again = root.post(f"{PAGE}/networks", data=blocked(kind="allowed")).text
    assert "already blocked; remove it there first" in again


def test_there_are_not_more_than_the_table_takes(cast: Cast, root: Browser) -> None:
    with cast.everything() as session:
        for n in range(model.MAX_NETWORKS):
            session.add(SourceRule(kind="blocked", network=f"10.0.{n // 250}.{n % 250 + 1}"))
        session.commit()
    assert "1000 networks are blocked, and no more can be" in root.post(f"{PAGE}/networks", data=blocked()).text


def test_networks_are_searched_and_turned(cast: Cast, root: Browser) -> None:
    for n in range(30):
        cast.add(SourceRule(kind="blocked", network=f"10.0.0.{n}", note="scanner" if n == 7 else ""))
    text = root.htmx(PAGE).text
    assert "<html" not in text
    assert "1–25 of 30" in text
    assert "26–30 of 30" in root.htmx(f"{PAGE}?page=2").text
    assert "1–1 of 1" in root.htmx(f"{PAGE}?q=SCAN").text
    assert "No network matches" in root.htmx(f"{PAGE}?q=192.0").text


def test_a_network_with_the_pbx_of_a_tenant_draws_a_warning(
    cast: Cast, root: Browser, alice: Browser, node: FakeNode
) -> None:
    cast.add_connection(name="Main")
    alice.post("/t/acme/publish")
    root.post(f"{PAGE}/networks", data=blocked(network="192.0.2.0/24"))
    text = root.get(PAGE).text
    assert "Mind that the PBX of Acme Ltd sends from there" in text
    assert "The PBX of Acme Ltd sends from there, and gets no answer." in text
    root.post(f"{PAGE}/networks", data=blocked(kind="allowed", network="192.0.2.10"))
    assert "gets no answer" not in root.htmx(PAGE).text


def test_guards_are_live_at_once(cast: Cast, root: Browser, node: FakeNode) -> None:
    assert root.get(NEW_GUARD).status_code == 200
    sent = {"prefix": "00 882", "calls_per_hour": "2", "note": "Satellite"}
    assert root.post(NEW_GUARD, data=sent).location == PAGE
    (found,) = installation(node)["guards"]  # type: ignore[misc]
    assert (found["prefix"], found["calls_per_hour"]) == ("00882", 2)
    assert "2 calls an hour" in root.get(PAGE).text
    with cast.looking() as session:
        address = f"{PAGE}/guards/{session.exec(select(InstallationGuard.id)).one()}"
    assert 'value="00882"' in root.get(address).text
    assert "There is a guard for 00882 already" in root.post(NEW_GUARD, data=sent).text
    assert root.post(address, data={**sent, "calls_per_hour": "0"}).status_code == 303
    assert "no calls" in root.get(PAGE).text
    assert root.post(f"{address}/remove").status_code == 303
    assert installation(node)["guards"] == []
    assert root.get(address).status_code == 404
    entries = [entry for entry in cast.audit() if entry.action.startswith("guard_for_all.")]
    assert [entry.action.partition(".")[2] for entry in entries] == ["created", "updated", "removed"]
    assert (entries[1].before, entries[1].after) == ({"calls_per_hour": 2}, {"calls_per_hour": 0})
    versions = root.get("/provider/publications/2").text
    assert "guard for 00882" in versions


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"prefix": ""}, "prefix"), ({"prefix": "abc"}, "prefix"), ({"calls_per_hour": "-1"}, "calls_per_hour")],
)
def test_what_no_guard_can_be(root: Browser, changed: dict[str, str], field: str) -> None:
    answer = root.post(NEW_GUARD, data={"prefix": "00882", "calls_per_hour": "2", **changed})
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text


def test_more_guards_than_the_table_takes(cast: Cast, root: Browser) -> None:
    with cast.everything() as session:
        session.add_all(InstallationGuard(prefix=f"1{n:03}", calls_per_hour=1) for n in range(model.MAX_GUARDS))
        session.commit()
    assert "100 guards already" in root.post(NEW_GUARD, data={"prefix": "00882", "calls_per_hour": "2"}).text


# Bans


@pytest.mark.usefixtures("local")
def test_who_is_banned_is_asked_of_the_node(root: Browser, node: FakeNode) -> None:
    assert "local: nobody is banned" in root.get(PAGE).text
    node.bans = [ban(), ban("2001:db8:1::/64", times=1, reason="no-domain", since=None, until="x")]
    text = root.htmx(f"{PAGE}?source=").text
    assert "<html" not in text
    assert "local: 2 banned" in text
    assert "3 times" in text
    assert "no domain" in text
    assert "1 minute ago" in text
    found = root.htmx(f"{PAGE}?source=DB8").text
    assert "2001:db8:1::/64" in found
    assert "203.0.113.9" not in found
    assert "no banned source matches" in root.htmx(f"{PAGE}?source=none").text


@pytest.mark.usefixtures("local")
def test_a_page_does_not_hold_all_of_an_attack(root: Browser, node: FakeNode) -> None:
    node.bans = [ban(f"10.0.{n // 250}.{n % 250 + 1}", since=1_000_000.0 + n) for n in range(1000)]
    text = root.htmx(f"{PAGE}?source=").text
    assert "local: 1000 banned, the newest 100 shown" in text
    assert text.count("<tr>") == 101
    assert "10.0.3.250<" in text
    assert "10.0.0.1<" not in text


def test_a_ban_is_ended_by_hand(cast: Cast, root: Browser, node: FakeNode, local: str) -> None:
    node.bans = [ban(), ban("203.0.113.10")]
    assert root.post(f"{PAGE}/nodes/{local}/unban", data={"source": "203.0.113.9"}).location == PAGE
    assert [each["source"] for each in node.bans] == ["203.0.113.10"]
    assert "203.0.113.9 is not banned at local any more" in root.get(PAGE).text
    entry = cast.audit()[-1]
    assert (entry.action, entry.subject_label, entry.after) == ("source.unbanned", "local", {"source": "203.0.113.9"})
    before = len(cast.audit())
    root.post(f"{PAGE}/nodes/{local}/unban", data={"source": "203.0.113.9"})
    assert "was not banned at local any more" in root.get(PAGE).text
    root.post(f"{PAGE}/nodes/{local}/unban", data={"source": "everybody"})
    assert "is no network" in root.get(PAGE).text
    assert len(cast.audit()) == before
    assert root.post(f"{PAGE}/nodes/nothing/unban", data={"source": "203.0.113.9"}).status_code == 404


def test_an_older_node_and_one_that_is_away_say_so(cast: Cast, root: Browser, node: FakeNode, local: str) -> None:
    cast.add(Node(name="second", control=f"unix:{cast.config.state_dir}/nowhere.sock"))
    node.bans = None
    text = root.htmx(f"{PAGE}?source=").text
    assert "local does not tell who is banned; it may run an older release" in text
    assert "It answered: unknown request" in text
    assert "cannot be reached" in text
    root.post(f"{PAGE}/nodes/{local}/unban", data={"source": "203.0.113.9"})
    assert "The ban of 203.0.113.9 goes on." in root.get(PAGE).text


@pytest.mark.usefixtures("local")
def test_nonsense_from_a_node_breaks_no_page(root: Browser, node: FakeNode) -> None:
    node.bans = [{}, {"source": None, "times": "many", "since": [], "until": True, "reason": 7}]
    assert root.get(PAGE).status_code == 200


@pytest.mark.parametrize("role", ["support", "read_only"])
def test_who_may_only_look_changes_nothing(cast: Cast, node: FakeNode, local: str, role: str) -> None:
    source = cast.add(SourceRule(kind="blocked", network="203.0.113.0/24"))
    guard = cast.add(InstallationGuard(prefix="00882", calls_per_hour=0))
    node.bans = [ban()]
    weak = demote(cast, role)
    text = weak.get(PAGE).text
    assert "203.0.113.0/24" in text
    assert "203.0.113.9" in text
    for offer in ("Unban", "Add a network", "Add a guard", "Remove"):
        assert offer not in text
    assert "Save" not in weak.get(f"{PAGE}/guards/{guard}").text
    assert weak.get(NEW_GUARD).status_code == 403
    before = len(cast.audit())
    for path, data in (
        ("networks", blocked(network="10.0.0.1")),
        (f"networks/{source}/remove", {}),
        (f"nodes/{local}/unban", {"source": "203.0.113.9"}),
        ("guards/new", {"prefix": "1", "calls_per_hour": "1"}),
        (f"guards/{guard}", {"prefix": "1", "calls_per_hour": "1"}),
        (f"guards/{guard}/remove", {}),
    ):
        assert weak.post(f"{PAGE}/{path}", data=data).status_code == 403, path
    assert len(node.bans) == 1
    assert networks(cast) == [("blocked", "203.0.113.0/24")]
    assert len(cast.audit()) == before


@pytest.mark.parametrize("path", ["networks/nothing/remove", "guards/nothing", "guards/nothing/remove"])
def test_ids_of_nothing_find_nothing(root: Browser, path: str) -> None:
    assert root.post(f"{PAGE}/{path}", data={"prefix": "1", "calls_per_hour": "1"}).status_code == 404
