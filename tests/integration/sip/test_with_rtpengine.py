"""The real rtpengine behind the edge: RTP passes through it both ways, SRTP is bridged, and no session stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from sipd.routing.model import Table
from tests.integration.node import Node, wait_for
from tests.integration.rtpengine import RealRtpengine
from tests.integration.sip.baresip import Baresip
from tests.integration.sip.conftest import PBX_HOST, faults, registered
from tests.integration.sip.test_over_tls import SecureNode
from tests.peers.call import Call
from tests.peers.loop import in_loop
from tests.peers.phone import Phone
from tests.peers.rtp import Rtp, protocol_of
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = pytest.mark.needs("rtpengine", "timeout")
ACCOUNTS = {"acme.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"}}
PING = "--set=media_ping=1"


@pytest.fixture
def relays(tmp_path: Path) -> Iterator[list[RealRtpengine]]:
    """Two instances."""
    with ExitStack() as stack:
        yield [stack.enter_context(RealRtpengine(tmp_path / f"rtpengine-{number}")) for number in range(2)]


@pytest.fixture
def relayed(tmp_path: Path, relays: list[RealRtpengine]) -> Iterator[Node]:
    """A node with both instances."""
    node = Node(tmp_path)
    node.start(*(f"--media={relay.address}" for relay in relays), PING, f"--listen=udp:[::1]:{node.port}")
    yield node
    node.close()


def routing(pbx_port: int = 5060, **of_connection: object) -> Table:
    """acme, whose phones call each other directly, and whose connection relays media."""
    link = {
        "host": PBX_HOST, "port": pbx_port, "sources": (PBX_HOST,), "registrar_domain": "acme.pbx.example",
        "media": "relay", "internal_calls": "always_direct", **of_connection,
    }  # fmt: skip
    made = table(tenant("acme", strategy="on_behalf" if pbx_port != 5060 else "none", of_connection=link))
    return replace(made, installation=replace(made.installation, edge_hosts=("127.0.0.1",)))


def phone(node: Node, extension: str, host: str = "127.0.0.1") -> Phone:
    return Phone(extension, "acme.example", PASSWORD, Hop("udp", host, node.port), host=host)


async def talk(caller: Phone, callee: Phone, ends: tuple[Rtp, Rtp]) -> tuple[Call, Call, list[tuple[str, int]]]:
    """102 calls 101; both ends speak, and hear each other. The calls, and where each end sends to."""
    calling = caller.call("101", body=ends[0].sdp())
    called = await callee.incoming()
    called.ring()
    called.answer(ends[1].sdp())
    answer = await calling.answered()
    places = [ends[0].speak(answer.body), ends[1].speak(called.remote_body)]
    await asyncio.gather(*(end.hears() for end in ends))
    return calling, called, places


@in_loop
async def test_two_plain_phones_hear_each_other_through_the_relay(relayed: Node, relays: list[RealRtpengine]) -> None:
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101") as bob, phone(relayed, "102") as alice, Rtp() as here, Rtp() as there:
        assert (await bob.register()).status == (await alice.register()).status == 200
        calling, called, places = await talk(alice, bob, (here, there))
        used = next(relay for relay in relays if relay.calls())
        assert all(host == "127.0.0.1" and port in used.rtp for host, port in places)
        assert {port for end in (here, there) for _, port in end.sources} <= set(used.rtp), "media came by another way"
        (shown,) = [one for one in relayed.ask("status")["media"] if one["sessions"]]
        assert (shown["address"], shown["up"]) == (used.address, True)

        assert (await called.reinvite(there.sdp())).status == 200
        here.speak(calling.remote_body)
        await asyncio.gather(here.hears(), there.hears())
        await calling.bye()
        await called.ended()
        await asyncio.to_thread(wait_for, lambda: not any(relay.calls() for relay in relays))
    assert [one["sessions"] for one in relayed.ask("status")["media"]] == [0, 0]
    assert faults(relayed) == 0


@in_loop
async def test_a_phone_with_ipv4_hears_one_with_ipv6(relayed: Node, relays: list[RealRtpengine]) -> None:
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101", "::1") as bob, phone(relayed, "102") as alice, Rtp() as here, Rtp("::1") as there:
        assert (await bob.register()).status == (await alice.register()).status == 200
        calling, _, places = await talk(alice, bob, (here, there))
        assert [host for host, _ in places] == ["127.0.0.1", "::1"]
        await calling.bye()
        await asyncio.to_thread(wait_for, lambda: not any(relay.calls() for relay in relays))


@in_loop
async def test_calls_that_are_cancelled_or_refused_leave_no_session(relayed: Node, relays: list[RealRtpengine]) -> None:
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101") as bob, phone(relayed, "102") as alice, Rtp() as here:
        await bob.register()
        await alice.register()
        calling = alice.call("101", body=here.sdp())
        await bob.incoming()
        assert sum(len(relay.calls()) for relay in relays) == 1
        assert (await calling.cancel()).status == 487
        calling = alice.call("101", body=here.sdp())
        (await bob.incoming()).reject(486)
        assert (await calling.final()).status == 486
        await asyncio.to_thread(wait_for, lambda: not any(relay.calls() for relay in relays))


@in_loop
async def test_a_relay_that_is_killed_is_passed_over_and_taken_again(
    relayed: Node, relays: list[RealRtpengine]
) -> None:
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101") as bob, phone(relayed, "102") as alice, Rtp() as here, Rtp() as there:
        await bob.register()
        await alice.register()
        calling, _, _ = await talk(alice, bob, (here, there))
        used = next(relay for relay in relays if relay.calls())
        other = next(relay for relay in relays if relay is not used)
        await asyncio.to_thread(used.end, signal.SIGKILL)
        assert (await calling.reinvite(here.sdp())).status == 200, "the call moves to the other instance"
        assert len(other.calls()) == 1
        await calling.bye()
        calling, _, _ = await talk(alice, bob, (here, there))
        assert len(other.calls()) == 1
        await calling.bye()
        await asyncio.to_thread(wait_for, lambda: relayed.events("media.down"))
        await asyncio.to_thread(used.start)
        await asyncio.to_thread(wait_for, lambda: relayed.events("media.up"))
        assert [event["detail"] for event in relayed.events("media.up")] == [{"address": used.address}]
        await asyncio.to_thread(wait_for, lambda: not any(relay.calls() for relay in relays))


@in_loop
async def test_without_any_relay_the_caller_gets_503(relayed: Node, relays: list[RealRtpengine]) -> None:
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101") as bob, phone(relayed, "102") as alice:
        await bob.register()
        await alice.register()
        for relay in relays:
            await asyncio.to_thread(relay.end)
        answer = await alice.call("101").final(15)
        assert (answer.status, answer.get("Retry-After")) == (503, "5")
        assert [event["rule"] for event in relayed.events("refused")] == ["no-media-relay"]


@in_loop
async def test_kill_9_of_the_edge_leaves_no_session(relayed: Node, relays: list[RealRtpengine]) -> None:
    """A call that talks goes on and is deleted when it ends; one that rang is deleted at the start."""
    await asyncio.to_thread(relayed.load, routing())
    async with phone(relayed, "101") as bob, phone(relayed, "102") as alice, Rtp() as here, Rtp() as there:
        await bob.register()
        await alice.register()
        calling, called, _ = await talk(alice, bob, (here, there))
        alice.call("101", body=here.sdp())
        await bob.incoming()
        assert sum(len(relay.calls()) for relay in relays) == 2
        flags = relayed.flags
        await asyncio.to_thread(relayed.end, signal.SIGKILL)
        await asyncio.to_thread(relayed.start, *flags)
        await asyncio.to_thread(wait_for, lambda: sum(len(relay.calls()) for relay in relays) == 1)
        assert (await called.reinvite(there.sdp())).status == 200
        here.speak(calling.remote_body)
        await asyncio.gather(here.hears(), there.hears())
        await calling.bye()
        await asyncio.to_thread(wait_for, lambda: not any(relay.calls() for relay in relays))


@pytest.mark.needs("baresip")
@in_loop
async def test_srtp_of_a_phone_is_bridged_to_plain_rtp_both_ways(tmp_path: Path, relays: list[RealRtpengine]) -> None:
    """A baresip over TLS that insists on SRTP with SDES talks to a PBX that knows RTP only."""
    node = SecureNode(tmp_path)
    node.start(
        f"--listen=tls:127.0.0.1:{node.tls_port}", f"--tls-certificate={node.edge.chain}",
        f"--media={relays[0].address}",
    )  # fmt: skip
    own = node.ca.pair("phone.example").chain
    config = f"sip_cafile {node.ca.file}\nsip_certificate {own}\nmodule srtp.so\n"
    edge = Hop("tls", "127.0.0.1", node.tls_port)
    baresip = Baresip(
        tmp_path / "baresip", "101", "acme.example", PASSWORD, edge, "auto", config, ";mediaenc=srtp-mand"
    )
    try:
        async with StandinPbx(ACCOUNTS, host=PBX_HOST, numbers={"9000": "manual"}) as pbx, Rtp() as end:
            await asyncio.to_thread(node.load, routing(pbx.port))
            await asyncio.to_thread(wait_for, lambda: registered(node) == 2)
            await asyncio.to_thread(baresip.__enter__)
            await asyncio.to_thread(wait_for, node.bindings)

            call = pbx.call("101@acme.pbx.example", body=end.sdp())
            answer = await call.answered()
            await both_hear(relays[0], end, answer.body)
            assert "RTP/SAVP" in baresip.log()
            await call.bye()
            await asyncio.to_thread(baresip.wait, "CALL_CLOSED")

            await asyncio.to_thread(baresip.do, "dial", "sip:9000@acme.example")
            call = await pbx.incoming()
            call.answer(end.sdp())
            await asyncio.to_thread(baresip.wait, "CALL_ESTABLISHED")
            await both_hear(relays[0], end, call.remote_body)
            await call.bye()
            await asyncio.to_thread(wait_for, lambda: not relays[0].calls())
    finally:
        await asyncio.to_thread(baresip.stop)
        node.close()


async def both_hear(relay: RealRtpengine, plain: Rtp, sdp: bytes) -> None:
    """The plain end hears G.711, and the relay forwards what it gets from both sides."""
    assert protocol_of(sdp) == "RTP/AVP"
    assert b"a=crypto" not in sdp
    plain.speak(sdp)
    await plain.hears()
    assert plain.kinds <= {0, 8}
    (name,) = relay.calls()
    await asyncio.to_thread(wait_for, lambda: min(relay.packets(name).values()) > 20)
