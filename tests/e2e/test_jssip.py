"""JsSIP in Chromium: phones of browsers register over secure WebSocket, call each other, and hear each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page

from sipd.routing.model import Table
from tests.authority import Authority
from tests.e2e.web_phone import ORIGIN, PATIENCE, heard
from tests.integration.node import Node, free_port, wait_for
from tests.peers.phone import Phone
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """With secure WebSocket for pages of one origin, and phones that call each other directly."""
    node = Node(tmp_path)
    node.web_port = free_port()
    pair = Authority(tmp_path).pair("edge.example", "127.0.0.1")
    node.start(f"--listen=wss:127.0.0.1:{node.web_port}", f"--tls-certificate={pair.chain}", f"--ws-origin={ORIGIN}")
    assert node.load(routing())["ok"]
    yield node
    node.close()


def routing() -> Table:
    acme = tenant("acme", of_connection={"internal_calls": "always_direct"})
    made = table(acme)
    return replace(made, installation=replace(made.installation, edge_hosts=("127.0.0.1",)))


def test_two_browsers_call_each_other(node: Node, open_phone: Callable[..., Page]) -> None:
    alice, bob = open_phone("101"), open_phone("102")
    assert {binding["transport"] for binding in node.bindings()} == {"wss"}
    assert all(".invalid" in binding["contact"] for binding in node.bindings())

    alice.evaluate("phone.call('sip:102@acme.example')")
    heard(bob, "remote call: 101")
    heard(alice, "progress")
    bob.evaluate("phone.answer()")
    for page in (alice, bob):
        heard(page, "confirmed")
    for page in (alice, bob):
        page.wait_for_function("async () => (await phone.packets()) > 20", timeout=PATIENCE * 1000)

    alice.evaluate("phone.session.sendInfo('text/plain', 'a word')")
    heard(bob, "remote info: a word")
    bob.evaluate("phone.session.hold()")
    heard(alice, "hold by remote")
    bob.evaluate("phone.session.terminate()")
    heard(alice, "ended: Terminated")
    wait_for(lambda: node.ask("calls")["calls"] == [])
    ended = node.events("call.ended")[-1]["detail"]
    assert (ended["code"], ended["by"]) == (200, "callee")


def test_busy_cancelled_and_gone(node: Node, open_phone: Callable[..., Page]) -> None:
    alice, bob = open_phone("101"), open_phone("102")
    alice.evaluate("phone.call('sip:102@acme.example')")
    heard(bob, "remote call")
    bob.evaluate("phone.session.terminate({status_code: 486})")
    heard(alice, "failed: Busy")

    alice.evaluate("phone.heard.length = 0")
    bob.evaluate("phone.heard.length = 0")
    alice.evaluate("phone.call('sip:102@acme.example')")
    heard(bob, "remote call")
    alice.evaluate("phone.session.terminate()")
    heard(bob, "failed: Canceled")

    bob.close()  # its stream ends, and with it its binding, at once
    wait_for(lambda: len(node.bindings()) == 1)
    alice.evaluate("phone.heard.length = 0")
    alice.evaluate("phone.call('sip:102@acme.example')")
    heard(alice, "failed: Unavailable")


def test_a_browser_and_a_phone_over_udp(node: Node, open_phone: Callable[..., Page]) -> None:
    """Between them only the media differ, so it is messages that pass, and a call that rings and is given up."""
    alice = open_phone("101")

    async def play() -> None:
        async with Phone("102", "acme.example", PASSWORD, Hop("udp", "127.0.0.1", node.port)) as bob:
            assert (await bob.register()).status == 200
            assert (await bob.ask("MESSAGE", "sip:101@acme.example", body=b"from bob")).status == 200
            call = bob.call("101")
            await call.ringing()
            assert (await call.cancel()).status == 487

    with ThreadPoolExecutor(1) as beside:  # the browser's driver has an event loop in this thread
        beside.submit(asyncio.run, play()).result(60)
    heard(alice, "message: from bob")
    heard(alice, "remote call: 102")
    heard(alice, "failed: Canceled")


def test_a_wrong_password_and_a_page_of_another_origin(open_phone: Callable[..., Page]) -> None:
    open_phone("101", "registrationFailed", password="wrong")
    open_phone("101", "disconnected", origin="https://evil.example")


def test_a_restart_is_survived(node: Node, open_phone: Callable[..., Page]) -> None:
    alice = open_phone("101", connection_recovery_min_interval=1, connection_recovery_max_interval=2)
    flags = node.flags
    node.end()
    heard(alice, "disconnected")
    alice.evaluate("phone.heard.length = 0")
    node.start(*flags)
    heard(alice, "registered")
    assert len(node.bindings()) == 1
