"""JsSIP in Chromium talks to a phone that knows plain RTP only, through the real rtpengine: each hears the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.authority import Authority
from tests.e2e.web_phone import ORIGIN, PATIENCE, heard
from tests.integration.node import Node, free_port, wait_for
from tests.integration.rtpengine import RealRtpengine
from tests.peers.phone import Phone
from tests.peers.rtp import Rtp, protocol_of
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant

pytestmark = pytest.mark.needs("rtpengine", "timeout")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RealRtpengine]:
    with RealRtpengine(tmp_path / "rtpengine") as relay:
        yield relay


@pytest.fixture
def node(tmp_path: Path, relay: RealRtpengine) -> Iterator[Node]:
    """With secure WebSocket, phones that call each other directly, and their media relayed."""
    node = Node(tmp_path)
    node.web_port = free_port()
    pair = Authority(tmp_path).pair("edge.example", "127.0.0.1")
    node.start(
        f"--listen=wss:127.0.0.1:{node.web_port}", f"--tls-certificate={pair.chain}", f"--ws-origin={ORIGIN}",
        f"--media={relay.address}",
    )  # fmt: skip
    made = table(tenant("acme", of_connection={"internal_calls": "always_direct", "media": "relay"}))
    routing = replace(made, installation=replace(made.installation, edge_hosts=("127.0.0.1",)))
    assert node.load(routing)["ok"]
    yield node
    node.close()


def beside(play: Callable[[Phone, Rtp], Awaitable[None]], node: Node, pool: ThreadPoolExecutor) -> Future[None]:
    """102, a plain phone over UDP with a socket for RTP, in a thread of its own: the browser's driver has this one."""

    async def whole() -> None:
        async with Phone("102", "acme.example", PASSWORD, Hop("udp", "127.0.0.1", node.port)) as bob, Rtp() as end:
            assert (await bob.register()).status == 200
            await play(bob, end)

    return pool.submit(lambda: asyncio.run(whole()))


def both_hear(page: Page, relay: RealRtpengine, packets: int = 50) -> None:
    """Wait until the browser's own statistics say that media came, and the relay has passed it on from both sides."""
    page.wait_for_function(f"async () => (await phone.packets()) > {packets}", timeout=PATIENCE * 1000)
    wait_for(lambda: min(relay.packets(relay.calls()[0]).values()) > packets)


def test_the_browser_calls(node: Node, relay: RealRtpengine, open_phone: Callable[..., Page]) -> None:
    async def play(bob: Phone, end: Rtp) -> None:
        call = await bob.incoming(PATIENCE)
        assert protocol_of(call.remote_body) == "RTP/AVP"
        assert b"a=candidate" not in call.remote_body
        assert b"a=fingerprint" not in call.remote_body
        call.ring()
        call.answer(end.sdp())
        end.speak(call.remote_body)
        await end.hears()
        assert {port for _, port in end.sources} <= set(relay.rtp)
        await call.ended(PATIENCE)

    alice = open_phone("101")
    with ThreadPoolExecutor(1) as pool:
        played = beside(play, node, pool)
        wait_for(lambda: len(node.bindings()) == 2)
        alice.evaluate("phone.call('sip:102@acme.example')")
        heard(alice, "confirmed")
        both_hear(alice, relay)
        alice.evaluate("phone.session.terminate()")
        played.result(60)
    wait_for(lambda: not relay.calls())


def test_the_browser_is_called(node: Node, relay: RealRtpengine, open_phone: Callable[..., Page]) -> None:
    async def play(bob: Phone, end: Rtp) -> None:
        call = bob.call("101", body=end.sdp())
        answer = await call.answered(PATIENCE)
        assert protocol_of(answer.body) == "RTP/AVP"
        end.speak(answer.body)
        await end.hears()
        assert {port for _, port in end.sources} <= set(relay.rtp)
        await call.ended(PATIENCE)

    alice = open_phone("101")
    with ThreadPoolExecutor(1) as pool:
        played = beside(play, node, pool)
        heard(alice, "remote call: 102")
        alice.evaluate("phone.answer()")
        heard(alice, "confirmed")
        both_hear(alice, relay)
        alice.evaluate("phone.session.terminate()")
        played.result(60)
    wait_for(lambda: not relay.calls())


def test_the_browser_holds_and_resumes(node: Node, relay: RealRtpengine, open_phone: Callable[..., Page]) -> None:
    """Its re-INVITEs, with ICE and DTLS, come to the plain phone as plain as its first one."""

    async def play(bob: Phone, end: Rtp) -> None:
        call = await bob.incoming(PATIENCE)
        call.answer(end.sdp())
        end.speak(call.remote_body)
        for number, direction in ((2, b"a=sendonly"), (3, b"a=sendrecv")):
            reinvite = await bob.wait_received("INVITE", number, PATIENCE)
            assert direction in reinvite.body
            assert protocol_of(reinvite.body) == "RTP/AVP"
            await bob.wait_received("ACK", number, PATIENCE)
        await end.hears(50)
        await call.bye()

    alice = open_phone("101")
    with ThreadPoolExecutor(1) as pool:
        played = beside(play, node, pool)
        wait_for(lambda: len(node.bindings()) == 2)
        alice.evaluate("phone.call('sip:102@acme.example')")
        heard(alice, "confirmed")
        alice.evaluate("phone.session.hold()")
        heard(alice, "hold by local")
        wait_for(lambda: alice.evaluate("phone.session.isReadyToReOffer()"))
        alice.evaluate("phone.session.unhold()")
        heard(alice, "ended")
        played.result(60)
    wait_for(lambda: not relay.calls())


def test_two_browsers_through_the_relay(node: Node, relay: RealRtpengine, open_phone: Callable[..., Page]) -> None:
    alice, bob = open_phone("101"), open_phone("102")
    alice.evaluate("phone.call('sip:102@acme.example')")
    heard(bob, "remote call: 101")
    bob.evaluate("phone.answer()")
    heard(alice, "confirmed")
    for page in (alice, bob):
        both_hear(page, relay)
    bob.evaluate("phone.session.terminate()")
    heard(alice, "ended: Terminated")
    wait_for(lambda: not relay.calls())
