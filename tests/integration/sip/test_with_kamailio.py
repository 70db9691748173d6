"""The edge between phones and a real Kamailio: two tenants, each with a 101, in one registrar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from sipd.routing.model import Table
from tests.integration.kamailio.registrar import KamailioRegistrar, kamailio_for_tests
from tests.integration.kamailio.sipp import Sipp
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import faults, registered, two_tenants
from tests.integration.sip.sipp import SCENARIOS, SippAtEdge, count
from tests.peers.agent import Agent
from tests.peers.loop import in_loop
from tests.peers.phone import Phone
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

pytestmark = pytest.mark.needs("kamailio", "sipp")
ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}
CALLER = "sip:caller@public.example"

both_transports = pytest.mark.parametrize("transport", ["udp", "tcp"])


@pytest.fixture
def kamailio(tmp_path: Path) -> Iterator[KamailioRegistrar]:
    yield from kamailio_for_tests(tmp_path / "kamailio", accounts=ACCOUNTS)


@pytest.fixture
def sipp(tmp_path: Path) -> Sipp:
    folder = tmp_path / "sipp"
    folder.mkdir()
    return Sipp(folder)


def routing(kamailio: KamailioRegistrar, transport: str) -> Table:
    source = f"{kamailio.host}:{kamailio.port}"
    return two_tenants(kamailio.port, transport, host=kamailio.host, sources=(source,))


def without_mode(table: Table, slug: str) -> Table:
    """The same table with the mode off in one tenant's connection."""
    tenants = [
        replace(tenant, connections=tuple(replace(link, multi_tenant=False) for link in tenant.connections))
        if tenant.slug == slug
        else tenant
        for tenant in table.tenants
    ]
    return replace(table, tenants=tuple(tenants))


def load(node: Node, table: Table) -> None:
    assert node.load(table)["ok"]
    wait_for(lambda: registered(node) == 4)


class Stage(NamedTuple):
    """101 of either tenant, registered and answering."""

    acme: Phone
    globex: Phone

    def invites(self) -> tuple[int, int]:
        """How many calls each of them got so far."""
        return len(self.acme.received("INVITE")), len(self.globex.received("INVITE"))


@asynccontextmanager
async def phones(node: Node, transport: str) -> AsyncIterator[Stage]:
    edge = Hop(transport, node.host, node.port)
    async with (
        Phone("101", "acme.example", PASSWORD, edge, on_call="answer") as acme,
        Phone("101", "globex.example", PASSWORD, edge, on_call="answer") as globex,
    ):
        for phone in (acme, globex):
            assert (await phone.register()).status == 200
        yield Stage(acme, globex)
    assert faults(node) == 0


@both_transports
def test_the_contacts_of_both_are_kept_whole(node: Node, kamailio: KamailioRegistrar, transport: str) -> None:
    load(node, routing(kamailio, transport))
    suffix = ";transport=tcp" if transport == "tcp" else ""
    for name in ("acme", "globex"):
        for user in ("101", "102"):
            contact = f"sip:{user}@{name}.example:{node.port}{suffix}"
            assert kamailio.contacts(f"{user}@{name}.pbx.example") == [contact]


@both_transports
@in_loop
async def test_only_the_right_phone_rings(node: Node, kamailio: KamailioRegistrar, sipp: Sipp, transport: str) -> None:
    """The caller hangs up, then the phone does."""
    load(node, routing(kamailio, transport))
    hop = kamailio.hop(transport)
    async with phones(node, transport) as stage:
        await asyncio.to_thread(sipp.call, "101", "acme.pbx.example", hop)
        assert stage.invites() == (1, 0)
        assert await stage.acme.calls[-1].ended() == "remote"
        await asyncio.to_thread(sipp.call, "101", "globex.pbx.example", hop)
        assert stage.invites() == (1, 1)
        keys = {"domain": "globex.pbx.example", "caller": CALLER}
        with sipp.start(SCENARIOS / "call_and_wait.xml", hop, service="101", keys=keys) as caller:
            await stage.globex.incoming()  # the one before
            call = await stage.globex.incoming()
            await call.acknowledged()
            assert (await call.bye()).status == 200
            await asyncio.to_thread(caller.wait)
        assert stage.invites() == (1, 2)


@both_transports
def test_sipp_phones_behind_the_edge(
    md5_node: Node, kamailio: KamailioRegistrar, sipp: Sipp, tmp_path: Path, transport: str
) -> None:
    load(md5_node, routing(kamailio, transport))
    at_edge = SippAtEdge(tmp_path, md5_node, transport)
    with at_edge.phone(domain="acme.example") as acme, at_edge.phone(domain="globex.example") as globex:
        sipp.call("101", "globex.pbx.example", kamailio.hop(transport))
        assert [count(phone, "INVITE ") for phone in (acme, globex)] == [0, 1]
        sipp.call("101", "acme.pbx.example", kamailio.hop(transport))
        assert [count(phone, "INVITE ") for phone in (acme, globex)] == [1, 1]


@both_transports
@in_loop
async def test_calls_in_the_dialog_and_those_that_fail(node: Node, kamailio: KamailioRegistrar, transport: str) -> None:
    """A re-INVITE from each side, a busy phone, and a caller that gives up, all through Kamailio."""
    load(node, routing(kamailio, transport))
    hop = kamailio.hop(transport)
    async with phones(node, transport) as stage, Agent("caller", transport=transport) as caller:
        to = "sip:101@acme.pbx.example"
        call = caller.begin_call(to, hop, local=f"<{CALLER}>", remote=f"<{to}>")
        await call.answered()
        there = await stage.acme.incoming()
        await there.acknowledged()
        assert (await call.reinvite()).status == 200
        assert (await there.reinvite()).status == 200
        assert (await call.bye()).status == 200
        assert await there.ended() == "remote"
        stage.acme.on_call = "busy"
        assert (await caller.begin_call(to, hop, local=f"<{CALLER}>", remote=f"<{to}>").final()).status == 486
        stage.acme.on_call = "ring"
        call = caller.begin_call(to, hop, local=f"<{CALLER}>", remote=f"<{to}>")
        await call.ringing()
        assert (await call.cancel()).status == 487
        assert await stage.acme.calls[-1].ended() == "cancelled"


@both_transports
@in_loop
async def test_a_phone_calls_another_user_through_the_pbx(
    node: Node, kamailio: KamailioRegistrar, transport: str
) -> None:
    """The edge answers Kamailio's 407 with the user's account; what comes back finds the other user's phone."""
    load(node, routing(kamailio, transport))
    edge = Hop(transport, node.host, node.port)
    async with phones(node, transport) as stage:
        async with Phone("102", "acme.example", PASSWORD, edge, on_call="answer") as other:
            assert (await other.register()).status == 200
            call = stage.acme.call("102")
            await call.answered()
            there = await other.incoming()
            await there.acknowledged()
            assert there.invite.from_.uri.aor == "101@acme.pbx.example"
            assert (await there.reinvite()).status == 200
            assert (await call.bye()).status == 200
            assert await there.ended() == "remote"
            assert (await stage.globex.call("102").final()).status == 480  # its 102 has no phone
            assert len(other.received("INVITE")) == 1
        assert stage.invites() == (1, 0)  # the re-INVITE of the other


@both_transports
@in_loop
async def test_after_a_restart_of_the_pbx_renewal_brings_the_calls_back(
    node: Node, kamailio: KamailioRegistrar, sipp: Sipp, transport: str
) -> None:
    load(node, routing(kamailio, transport))
    async with phones(node, transport) as stage:
        await asyncio.to_thread(kamailio.restart)
        if transport == "udp":  # a stream that ends tells by itself that there is something to renew
            assert kamailio.contacts("101@acme.pbx.example") == []
            for tenant in ("acme", "globex"):
                assert node.ask("renew", tenant=tenant)["renewed"] == 2
        aors = [f"{user}@{name}.pbx.example" for name in ("acme", "globex") for user in ("101", "102")]
        await asyncio.to_thread(wait_for, lambda: all(len(kamailio.contacts(aor)) == 1 for aor in aors))
        await asyncio.to_thread(sipp.call, "101", "acme.pbx.example", kamailio.hop(transport))
        assert stage.invites() == (1, 0)


@both_transports
@in_loop
async def test_mode_off_beside_mode_on(node: Node, kamailio: KamailioRegistrar, sipp: Sipp, transport: str) -> None:
    """With the mode off the tenant's domain is the local-domain of the Contact, which comes back with the call."""
    load(node, without_mode(routing(kamailio, transport), "acme"))
    suffix = ";transport=tcp" if transport == "tcp" else ""
    contact = f"sip:101@{node.host}:{node.port}{suffix};local-domain=acme.example"
    assert kamailio.contacts("101@acme.pbx.example") == [contact]
    assert kamailio.contacts("101@globex.pbx.example") == [f"sip:101@globex.example:{node.port}{suffix}"]
    async with phones(node, transport) as stage:
        await asyncio.to_thread(sipp.call, "101", "acme.pbx.example", kamailio.hop(transport))
        assert stage.invites() == (1, 0)
        await asyncio.to_thread(sipp.call, "101", "globex.pbx.example", kamailio.hop(transport))
        assert stage.invites() == (1, 1)


@both_transports
def test_switching_the_mode_leaves_one_contact(node: Node, kamailio: KamailioRegistrar, transport: str) -> None:
    table = routing(kamailio, transport)
    load(node, table)
    for changed, host in ((without_mode(table, "acme"), node.host), (table, "acme.example")):
        assert node.load(changed)["ok"]

        def moved(host: str = host) -> bool:
            contacts = kamailio.contacts("101@acme.pbx.example")
            return len(contacts) == 1 and f"@{host}:" in contacts[0]

        wait_for(moved)
        wait_for(lambda: registered(node) == 4)


@both_transports
@in_loop
async def test_messages_both_ways(node: Node, kamailio: KamailioRegistrar, transport: str) -> None:
    """Outside a dialog: through Kamailio to the one phone, and a phone's own to another user of its tenant; the edge
    answers Kamailio's 407 for it. Nothing reaches the other tenant's 101 or 102."""
    load(node, routing(kamailio, transport))
    edge = Hop(transport, node.host, node.port)
    async with phones(node, transport) as stage, Phone("102", "acme.example", PASSWORD, edge) as other:
        assert (await other.register()).status == 200
        outside = Hop(transport, kamailio.host, kamailio.port)
        async with Phone("caller", "public.example", "", outside) as caller:
            answer = await caller.ask("MESSAGE", "sip:101@acme.pbx.example", body=b"from outside")
            assert answer.status == 200
        assert [message.body for message in stage.acme.received("MESSAGE")] == [b"from outside"]
        assert (await stage.acme.ask("MESSAGE", "sip:102@acme.example", body=b"inside")).status == 200
        assert [message.body for message in other.received("MESSAGE")] == [b"inside"]
        assert not stage.globex.received("MESSAGE")


@in_loop
async def test_a_call_outlives_a_restart_of_the_pbx(node: Node, kamailio: KamailioRegistrar) -> None:
    """Kamailio keeps no call: who talks can hang up through it when it is back, by its Record-Route. UDP only: over TCP
    it would need the caller's stream, which ended with it."""
    load(node, routing(kamailio, "udp"))
    hop = kamailio.hop("udp")
    async with phones(node, "udp") as stage, Agent("caller", transport="udp") as caller:
        to = "sip:101@acme.pbx.example"
        call = caller.begin_call(to, hop, local=f"<{CALLER}>", remote=f"<{to}>")
        await call.answered()
        there = await stage.acme.incoming()
        await there.acknowledged()
        await asyncio.to_thread(kamailio.restart)
        assert (await there.bye()).status == 200
        assert await call.ended() == "remote"
    await asyncio.to_thread(wait_for, lambda: node.events("call.ended"))
