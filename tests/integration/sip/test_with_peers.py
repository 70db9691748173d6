"""The edge between the stand-in PBX and phones, over real sockets: both directions, both transports, kill -9."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from sipd import commands
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST, two_tenants
from tests.peers.phone import Phone
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}


class Stage(NamedTuple):
    """All that plays: the node, the PBX, and 101 of either tenant."""

    node: Node
    pbx: StandinPbx
    acme: Phone
    globex: Phone
    edge: Hop


@asynccontextmanager
async def stage(node: Node, transport: str = "udp", **pbx: Any) -> AsyncIterator[Stage]:
    edge = Hop(transport, "127.0.0.1", node.port)
    async with (
        StandinPbx(ACCOUNTS, host=PBX_HOST, transport=transport, **pbx) as standin,
        Phone("101", "acme.example", PASSWORD, edge, on_call="answer") as acme,
        Phone("101", "globex.example", PASSWORD, edge, on_call="answer") as globex,
    ):
        loaded = await asyncio.to_thread(node.load, two_tenants(standin.port, transport))
        assert loaded["ok"], loaded
        await asyncio.to_thread(wait_for, lambda: all_registered(node, 4))
        for phone in (acme, globex):
            assert (await phone.register()).status == 200
        yield Stage(node, standin, acme, globex, edge)


def all_registered(node: Node, count: int) -> bool:
    return [entry["state"] for entry in node.upstream()].count("registered") == count


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_calls_both_ways_reach_only_their_own(node: Node, transport: str) -> None:
    async def play() -> None:
        async with stage(node, transport) as on:
            contacts = {m.contact.uri.host for m in on.pbx.received("REGISTER")}
            assert contacts == {"acme.example", "globex.example"}
            for name, right, wrong in (("acme", on.acme, on.globex), ("globex", on.globex, on.acme)):
                before = len(wrong.received("INVITE"))
                call = on.pbx.call(f"101@{name}.pbx.example")
                await call.answered()
                assert len(right.received("INVITE")) == 1
                assert len(wrong.received("INVITE")) == before
                await call.bye()
                right_call = right.calls[-1]
                await right_call.ended()
            out = on.acme.call("9000")
            await out.answered()
            assert on.pbx.received("INVITE")[-1].contact.uri.host == "acme.example"
            await out.bye()
            inside = on.acme.call("102")
            assert (await inside.final()).status in (404, 480)

    asyncio.run(play())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_what_is_refused_on_the_wire(node: Node, transport: str) -> None:
    async def play() -> None:
        async with stage(node, transport) as on:
            for uri, status in (
                ("sip:101@other.example", 404),
                ("sip:999@acme.example", 404),
                (f"sip:101@127.0.0.1:{node.port}", 404),
            ):
                answer = await on.pbx.call_uri(uri, on.edge).final()
                assert answer.status == status
                assert bool(answer.get("Warning")) == ("127.0.0.1" in uri)
            async with StandinPbx(ACCOUNTS, host="127.0.0.3", transport=transport) as stranger:
                assert (await stranger.call_uri("sip:101@acme.example", on.edge).final()).status == 403
            assert not on.acme.received("INVITE")

    asyncio.run(play())


def test_a_hot_load_in_the_middle_of_a_call(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            call = on.pbx.call("101@acme.pbx.example")
            await call.answered()
            off = two_tenants(on.pbx.port, mode=False)
            with pytest.raises(commands.UnreadableError, match=r"sources\[0\].*mode off"):
                await asyncio.to_thread(node.load, off)
            changed = two_tenants(on.pbx.port, expires=300)
            assert (await asyncio.to_thread(node.load, changed))["ok"]
            await call.reinvite()
            await call.bye()
            await on.acme.calls[-1].ended()

    asyncio.run(play())


def test_kill_9_in_the_middle_of_traffic(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            registers = len(on.pbx.received("REGISTER"))
            calls = [on.pbx.call("101@acme.pbx.example") for _ in range(5)]
            node.end(signal.SIGKILL)
            await asyncio.to_thread(node.start)
            assert len(node.bindings()) == 2
            assert all_registered(node, 4)
            for call in calls:
                await call.final()
            again = on.pbx.call("101@acme.pbx.example")
            await again.answered()
            await again.bye()
            assert len(on.pbx.received("REGISTER")) == registers  # nothing was registered again
            ids = [event["id"] for event in node.events()]
            assert ids == sorted(set(ids))

    asyncio.run(play())


def test_a_pbx_that_forgets_its_bindings_gets_them_back_on_renewal(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            on.pbx.restart()
            assert node.ask("renew", tenant="acme")["renewed"] == 2
            await on.pbx.wait_sent(200, count=len(on.pbx.sent(200)) + 2)
            assert on.pbx.bindings_of("101@acme.pbx.example")

    asyncio.run(play())


def test_a_phone_cancels_and_a_busy_phone_is_busy(node: Node) -> None:
    async def play() -> None:
        async with stage(node) as on:
            on.acme.on_call = "ring"
            call = on.pbx.call("101@acme.pbx.example")
            await call.ringing()
            await call.cancel()
            assert (await call.final()).status == 487
            on.acme.on_call = "busy"
            assert (await on.pbx.call("101@acme.pbx.example").final()).status == 486
            out = on.acme.call("9002")
            await out.ringing()
            await out.cancel()
            assert (await out.final()).status == 487

    asyncio.run(play())
