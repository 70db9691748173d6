"""The test peers against each other: what they say must be right before they may judge the edge."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.peers import CallFailedError, Hop, PeerTimeoutError, Phone, StandinPbx
from tests.peers.agent import Agent
from tests.peers.loop import in_loop
from tests.peers.wire import free_port

DOMAIN = "pbx.example"
ACCOUNTS = {DOMAIN: {"101": "one", "102": "two"}, "other.example": {"101": "other"}}

both_transports = pytest.mark.parametrize("transport", ["udp", "tcp"])


class Scene(AsyncExitStack):
    """A PBX, and phones that register straight at it."""

    def __init__(self, transport: str = "udp") -> None:
        super().__init__()
        self.transport = transport

    async def pbx(self, **options: Any) -> StandinPbx:
        self.server = await self.enter_async_context(StandinPbx(ACCOUNTS, **options))
        return self.server

    async def phone(self, user: str = "101", password: str = "", *, register: bool = True, **options: Any) -> Phone:
        password = password or ACCOUNTS[DOMAIN][user]
        edge = self.server.hop(self.transport)
        phone = await self.enter_async_context(Phone(user, DOMAIN, password, edge, **options))
        if register:
            assert (await phone.register()).status == 200
        return phone


@both_transports
@pytest.mark.parametrize(
    ("algorithms", "qop"), [(("MD5",), True), (("SHA-256",), True), (("SHA-256", "MD5"), True), (("MD5",), False)]
)
@in_loop
async def test_a_phone_registers(transport: str, algorithms: tuple[str, ...], qop: bool) -> None:
    async with Scene(transport) as scene:
        pbx = await scene.pbx(algorithms=algorithms, qop=qop)
        phone = await scene.phone()
        assert [message.status for message in phone.received()] == [401, 200]
        [binding] = pbx.bindings_of("101@pbx.example")
        assert binding.contact == phone.contact(phone.edge).strip("<>")
        assert algorithms[0] in phone.sent("REGISTER")[1].get("Authorization")


@in_loop
async def test_a_contact_is_kept_whole_and_told() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone(register=False)
        answer = await phone.register(300, contact='<sip:101@acme.example;x=1;transport=udp>;+sip.instance="<urn:x>"')
        assert answer.contact.uri_text == "sip:101@acme.example;x=1;transport=udp"
        assert answer.contact.params["expires"] == "300"
        call = pbx.call("101@acme.example")
        assert (await phone.incoming()).invite.uri == "sip:101@acme.example;x=1;transport=udp"
        await call.ringing() if call.state == "ringing" else None
        assert (await call.cancel()).status == 487


@in_loop
async def test_a_pbx_that_rewrites_contacts_keeps_parameters_only() -> None:
    """As measured at Asterisk with rewrite_contact=yes: `transport=udp` is dropped, other parameters survive."""
    async with Scene() as scene:
        pbx = await scene.pbx(contact_mode="rewrite")
        phone = await scene.phone(register=False, on_call="answer")
        await phone.register(contact="<sip:101@acme.example;transport=udp;local-domain=acme.example>")
        await pbx.call("101@pbx.example").answered()
        assert phone.received("INVITE")[0].uri == f"sip:101@127.0.0.1:{phone.port};local-domain=acme.example"


@in_loop
async def test_registrations_are_refreshed_not_piled_up_and_taken_back() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        await phone.register()
        assert len(pbx.bindings_of("101@pbx.example")) == 1
        assert len({message.call_id for message in phone.sent("REGISTER")}) == 1
        assert (await phone.unregister()).all("Contact") == []
        await phone.register()
        assert (await phone.register(0, contact="*")).all("Contact") == []


@in_loop
async def test_refusals_of_registrations() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx(min_expires=60)
        wrong = await scene.phone(password="wrong", register=False)
        assert (await wrong.register()).status == 401
        assert len(wrong.sent("REGISTER")) == 2
        good = await scene.phone(register=False)
        answer = await good.register(30)
        assert (answer.status, answer.get("Min-Expires")) == (423, "60")
        pbx.refuse["101@pbx.example"] = 503
        pbx.retry_after = 7
        answer = await good.register()
        assert (answer.status, answer.get("Retry-After")) == (503, "7")
        stranger = await scene.enter_async_context(Phone("101", "no.example", "x", pbx.hop()))
        assert (await stranger.register()).status == 404
        other = await scene.enter_async_context(Phone("102", DOMAIN, "one", pbx.hop(), auth_user="101"))
        assert (await other.register()).status == 403


@in_loop
async def test_a_stale_nonce_is_answered_anew() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx(uses_per_nonce=1)
        phone = await scene.phone()
        pbx.restart()
        assert (await phone.register()).status == 200


@both_transports
@in_loop
async def test_a_call_from_the_pbx(transport: str) -> None:
    async with Scene(transport) as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        call = pbx.call("101@pbx.example")
        incoming = await phone.incoming()
        incoming.ring()
        await call.ringing()
        incoming.answer(b"v=0 phone")
        assert (await call.answered()).body == b"v=0 phone"
        await incoming.acknowledged()
        assert (await call.reinvite(b"v=0 hold")).status == 200
        assert incoming.remote_body == b"v=0 hold"
        assert (await call.request("INFO")).status == 200
        assert (await incoming.bye()).status == 200
        assert await call.ended() == "remote"


@both_transports
@in_loop
async def test_a_call_to_the_pbx_is_challenged_and_answered(transport: str) -> None:
    async with Scene(transport) as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        call = phone.call("9000")
        await call.answered()
        statuses = [message.status for message in phone.received() if message.cseq[1] == "INVITE"]
        assert statuses == [100, 407, 100, 180, 200]
        await pbx.wait_received("ACK", 2)
        assert (await call.bye()).status == 200
        assert await pbx.calls[-1].ended() == "remote"


@in_loop
async def test_refused_calls() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        for dialled, status in (("9001", 486), ("102", 480), ("999", 404)):
            with pytest.raises(CallFailedError) as caught:
                await phone.call(dialled).answered()
            assert caught.value.status == status
        busy = await scene.phone("102", on_call="busy")
        assert (await pbx.call("102@pbx.example").final()).status == 486
        await busy.wait_received("ACK")


@in_loop
async def test_a_cancelled_call() -> None:
    async with Scene() as scene:
        await scene.pbx()
        phone = await scene.phone()
        call = phone.call("9002")
        await call.ringing()
        assert (await call.cancel()).status == 487
        assert await call.ended() == "cancelled"
        assert await scene.server.calls[-1].ended() == "cancelled"
        assert len(phone.sent("ACK")) == 2, "of the challenge, and of the 487"


@both_transports
@in_loop
async def test_a_call_through_the_pbx(transport: str) -> None:
    async with Scene(transport) as scene:
        await scene.pbx()
        one, two = await scene.phone("101"), await scene.phone("102")
        call = one.call("102")
        incoming = await two.incoming()
        incoming.ring()
        await call.ringing()
        incoming.answer(b"v=0 two")
        assert (await call.answered()).body == b"v=0 two"
        await call.bye()
        assert await incoming.ended() == "remote"


@in_loop
async def test_a_bridged_call_is_refused_or_cancelled_on_both_legs() -> None:
    async with Scene() as scene:
        await scene.pbx()
        one, two = await scene.phone("101"), await scene.phone("102")
        call = one.call("102")
        (await two.incoming()).reject(603)
        assert (await call.final()).status == 603
        call = one.call("102")
        incoming = await two.incoming()
        incoming.ring()
        await call.ringing()
        await call.cancel()
        assert await incoming.ended() == "cancelled"


@in_loop
async def test_any_request_uri_can_be_called() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone(on_call="answer")
        call = pbx.call_uri("sip:999@nobody.example;x=y", phone.hop(), to="<sip:a@b.example>", caller="sip:z@q.example")
        await call.answered()
        invite = phone.received("INVITE")[-1]
        assert (invite.uri, invite.to.uri_text, invite.from_.uri_text) == (
            "sip:999@nobody.example;x=y",
            "sip:a@b.example",
            "sip:z@q.example",
        )
        with pytest.raises(KeyError, match=r"102@pbx.example is not registered"):
            pbx.call("102@pbx.example")


@in_loop
async def test_a_request_in_no_dialog_is_refused() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        await scene.phone(on_call="answer")
        call = pbx.call("101@pbx.example")
        await call.answered()
        call.remote_tag = "other"
        assert (await call.bye()).status == 481


@in_loop
async def test_other_requests() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        assert (await phone.ask("MESSAGE", "sip:102@pbx.example", body=b"hello")).status == 200
        assert pbx.received("MESSAGE")[0].body == b"hello"
        assert (await phone.ask("PUBLISH", "sip:102@pbx.example")).status == 405


@in_loop
async def test_what_is_lost_is_sent_again() -> None:
    """Over UDP requests, final answers and the 2xx are repeated (RFC 3261 sections 17 and 13.3.1.4)."""
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone(register=False)
        lose_first_copies(phone)
        assert (await phone.register()).status == 200
        call = pbx.call("101@pbx.example")
        incoming = await phone.incoming()
        incoming.answer()
        await call.answered()
        await incoming.acknowledged()
        assert (len(phone.sent("REGISTER")), len(pbx.received("REGISTER"))) == (4, 2)
        assert len(phone.sent("200 INVITE")) >= 2


def lose_first_copies(agent: Agent) -> None:
    """Lose what the agent sends, the first time."""
    send, lost = agent.wire.send, set[bytes]()

    def lossy(data: bytes, hop: Hop) -> None:
        if data in lost:
            send(data, hop)
        lost.add(data)

    agent.wire.send = lossy  # type: ignore[method-assign]


@in_loop
async def test_a_silent_peer_is_waited_for_so_long_and_no_longer() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone()
        pbx.silent = True
        with pytest.raises(PeerTimeoutError, match=r"<< udp:.* REGISTER sip:pbx\.example"):
            await phone.register(within=0.2)
        with pytest.raises(PeerTimeoutError, match=r"no incoming call within 0\.1 s"):
            await phone.incoming(0.1)
        assert (await phone.call("102", within=0.2).final()).status == 408


@in_loop
async def test_junk_is_counted_and_harms_nobody() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        phone = await scene.phone(register=False)
        for junk in (b"hello", b"\x00" * 100, b"REGISTER x SIP/2.0\r\n\r\n", b"\r\n\r\n"):
            phone.wire.send(junk, pbx.hop())
        assert (await phone.register()).status == 200
        assert len(pbx.malformed) == 2


@in_loop
async def test_peers_talk_to_this_machine_only() -> None:
    async with Scene() as scene:
        pbx = await scene.pbx()
        pbx.call_uri("sip:1@192.0.2.1", Hop("udp", "192.0.2.1", 5060))
        await pbx.wait_sent("INVITE")
        assert "192.0.2.1" in pbx.wire.dropped[0]
    with pytest.raises(ValueError, match="no loopback address"):
        StandinPbx({}, host="192.0.2.1")


@in_loop
async def test_a_peer_closes_itself() -> None:
    async with StandinPbx(ACCOUNTS, lifetime=0.05) as pbx:
        await asyncio.wait_for(pbx.closed.wait(), 5)


@in_loop
async def test_the_command_line_runs_both() -> None:
    port = free_port()
    pbx = await start("standin_pbx", "--account", "101:one@pbx.example", "--port", str(port), "--seconds", "20")
    assert pbx.stdout is not None
    assert b"stand-in PBX on" in await pbx.stdout.readline()
    where = ("--edge", f"127.0.0.1:{port}", "--seconds", "20", "--call", "9000")
    phone = await start("phone", "101@pbx.example", "--password", "one", *where)
    assert phone.stdout is not None
    lines = ""
    while "200 OK (2 INVITE)" not in lines:
        line = await asyncio.wait_for(phone.stdout.readline(), 20)
        assert line, lines
        lines += line.decode()
    assert "200 OK (2 REGISTER)" in lines
    for process in (phone, pbx):
        process.terminate()
        await process.communicate()


async def start(peer: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-m", f"tests.peers.{peer}", *arguments, stdout=asyncio.subprocess.PIPE
    )
