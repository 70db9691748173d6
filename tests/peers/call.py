"""A call of the test peers: an INVITE, its dialog (RFC 3261 section 12), and how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.peers import digest
from tests.peers.sip import Message
from tests.peers.transaction import Client, Headers, Server, token
from tests.peers.wire import Hop

if TYPE_CHECKING:
    from tests.peers.agent import Agent

TIMEOUT = 5.0
"""Seconds that the waiting methods wait unless told."""
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"


class CallFailedError(Exception):
    """The call was refused; `message` is the final answer."""

    def __init__(self, message: Message) -> None:
        super().__init__(f"{message.status} {message.reason}")
        self.message = message
        self.status = message.status


class Call:
    """One leg: an INVITE, its dialog, and how it ended."""

    def __init__(self, agent: Agent, *, outgoing: bool, call_id: str, local: str, remote: str, hop: Hop) -> None:
        self.agent = agent
        self.outgoing = outgoing
        self.call_id = call_id
        self.local = local
        """From (or To) header value of this side, without the tag."""
        self.remote = remote
        self.local_tag = token()
        self.remote_tag = ""
        self.target = ""
        """Request-URI of requests in the dialog: the other side's Contact."""
        self.routes: list[str] = []
        self.hop = hop
        self.cseq = 0
        self.state = "calling" if outgoing else "offered"
        """calling, offered, ringing, answered, ended"""
        self.ended_by = ""
        """local, remote, cancelled, refused"""
        self.invite = Message()
        """The INVITE as it was sent last, or received."""
        self.body = SDP
        """Our own description."""
        self.remote_body = b""
        """The other side's latest."""
        self.headers: list[tuple[str, str]] = []
        """For the INVITE, again when it is challenged."""
        self.auth: digest.Client | None = None
        self.reinvite_status = 200
        """What a re-INVITE is answered with."""
        self.requests: list[Message] = []
        """Received in the dialog."""
        self.server: Server | None = None
        self.client: Client | None = None
        self._ringing = asyncio.Event()
        self._acked = asyncio.Event()
        self._ended = asyncio.Event()
        self._final: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    # Waiting

    async def ringing(self, within: float = TIMEOUT) -> None:
        """Until a 180 or 183 came (or a final answer)."""
        await self.agent.bounded(self._ringing.wait(), within, "ringing")

    async def final(self, within: float = TIMEOUT) -> Message:
        """The final answer to the INVITE, whatever it is."""
        message: Message = await self.agent.bounded(asyncio.shield(self._final), within, "a final answer")
        return message

    async def answered(self, within: float = TIMEOUT) -> Message:
        """The 2xx. Raises `CallFailedError`."""
        message = await self.final(within)
        if message.status >= 300:
            raise CallFailedError(message)
        return message

    async def acknowledged(self, within: float = TIMEOUT) -> None:
        """Until the ACK to our 2xx is here."""
        await self.agent.bounded(self._acked.wait(), within, "an ACK")

    async def ended(self, within: float = TIMEOUT) -> str:
        """Until the call is over; says by whom."""
        await self.agent.bounded(self._ended.wait(), within, "the end of the call")
        return self.ended_by

    # What the caller does

    async def run(self, uri: str, to: str, within: float) -> None:
        """Send the INVITE and see it through, a challenge included."""
        credentials: list[tuple[str, str]] = []
        for _ in range(3):
            answer = await self._invite(uri, to, credentials, within)
            credentials = self.agent.credentials(answer, "INVITE", uri, self.auth, tried=bool(credentials))
            if not credentials:
                break
        self._take_final(answer)

    async def _invite(self, uri: str, to: str, credentials: Headers, within: float) -> Message:
        self.cseq += 1
        request = self.agent.request_message("INVITE", uri, self.hop, call=self, to=to)
        request.headers += [("Contact", self.agent.contact(self.hop)), *self.headers, *credentials]
        if self.body:
            request.headers.append(("Content-Type", "application/sdp"))
            request.body = self.body
        self.invite = request
        self.client = self.agent.start(request, self.hop, within)
        self.client.answered_by = self._take_provisional
        return await self.client.final

    def _take_provisional(self, answer: Message) -> None:
        if answer.status > 100 and self.state == "calling":
            self.state = "ringing"
            self.remote_body = answer.body or self.remote_body
            self._ringing.set()

    def _take_final(self, answer: Message) -> None:
        if answer.status < 300:
            self.remote_tag = answer.to.tag
            self.target = answer.contact.uri_text if answer.get("Contact") else self.invite.uri
            self.routes = answer.all("Record-Route")[::-1]
            self.remote_body = answer.body
            self.state = "answered"
            self.ended_by = ""  # a CANCEL that came too late
            self.send_ack(answer.cseq[0])
        else:
            self.finish("refused" if self.ended_by != "cancelled" else "cancelled")
        self._ringing.set()
        if not self._final.done():
            self._final.set_result(answer)

    def send_ack(self, number: int) -> None:
        """End to end, in a transaction of its own (RFC 3261 section 13.2.2.4)."""
        hop = self.agent.next_hop(self)
        self.agent.send(self.agent.request_message("ACK", self.target, hop, call=self, cseq=number), hop)

    async def cancel(self, within: float = TIMEOUT) -> Message:
        """Cancel; returns the final answer to the INVITE, 487 as a rule."""
        if self.client is None:
            raise RuntimeError("nothing was sent yet")
        if self._final.done():
            return self._final.result()
        await self.agent.bounded(self.client.provisional.wait(), within, "a provisional answer")
        self.ended_by = "cancelled"
        self.agent.start(self.client.cancel(), self.hop, within)
        return await self.final(within)

    # What the called side does

    def ring(self, status: int = 180, *, headers: Headers = (), body: bytes = b"") -> None:
        self.state = "ringing"
        self._answer(status, headers, body)

    def answer(self, body: bytes | None = None, *, headers: Headers = ()) -> None:
        """200 with our description."""
        self.body = self.body if body is None else body
        self.state = "answered"
        self._answer(200, headers, self.body)

    def reject(self, status: int = 486, *, reason: str = "", headers: Headers = ()) -> None:
        self._answer(status, headers, b"", reason)
        self.finish("refused")

    def _answer(self, status: int, headers: Headers, body: bytes, reason: str = "") -> None:
        if self.server is None:
            raise RuntimeError("only a received call is answered")
        own = [("Contact", self.agent.contact(self.hop))] if status < 300 else []
        own += [("Record-Route", value) for value in self.invite.all("Record-Route")]
        message = self.server.answer(status, headers=[*own, *headers], body=body, reason=reason)
        if status >= 200 and not self._final.done():
            self._final.set_result(message)

    # Both

    async def bye(self, within: float = TIMEOUT) -> Message:
        """Hang up; returns the answer."""
        answer = await self.request("BYE", within=within)
        self.finish("local")
        return answer

    async def reinvite(self, body: bytes = SDP, within: float = TIMEOUT) -> Message:
        """Offer a new description; returns the final answer, acknowledged."""
        answer = await self.request("INVITE", body=body, contact=True, within=within)
        if answer.status < 300:
            self.body, self.remote_body = body, answer.body
            self.send_ack(answer.cseq[0])
        return answer

    async def request(
        self,
        method: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        contact: bool = False,
        within: float = TIMEOUT,
    ) -> Message:
        """Any request in the dialog; answers a challenge."""
        hop = self.agent.next_hop(self)
        extra = [*headers, *([("Contact", self.agent.contact(hop))] if contact else [])]
        credentials: list[tuple[str, str]] = []
        for _ in range(2):
            self.cseq += 1
            request = self.agent.request_message(method, self.target, hop, call=self)
            request.headers += [*extra, *credentials, *([("Content-Type", content_type)] if body else [])]
            request.body = body
            sent = self.agent.start(request, hop, within)
            answer: Message = await self.agent.bounded(sent.final, within, f"answer to {method}")
            credentials = self.agent.credentials(answer, method, self.target, self.auth, tried=bool(credentials))
            if not credentials:
                break
        return answer

    def take_request(self, server: Server) -> None:
        """A request in this dialog."""
        request = server.request
        self.requests.append(request)
        if request.method == "BYE":
            server.answer(200)
            self.finish("remote")
        elif request.method == "INVITE":
            self.server = server
            server.call = self
            self.remote_body = request.body or self.remote_body
            if request.get("Contact"):
                self.target = request.contact.uri_text
            status = self.reinvite_status
            contact = [("Contact", self.agent.contact(self.hop))] if status < 300 else []
            server.answer(status, headers=contact, body=self.body if status < 300 else b"")
        else:
            server.answer(200)

    def take_ack(self, ack: Message) -> None:
        """The ACK to a 2xx of ours; may bring the description."""
        if self.server is not None:
            self.server.acknowledged()
        self.remote_body = ack.body or self.remote_body
        self._acked.set()

    def take_cancel(self) -> None:
        """The caller gave up before we answered (RFC 3261 section 9.2)."""
        if self.server is not None and self.state in ("offered", "ringing"):
            self.server.answer(487)
            self.finish("cancelled")

    def finish(self, by: str) -> None:
        """The call is over."""
        if self.state != "ended":
            self.state = "ended"
            self.ended_by = by
            self._ended.set()
