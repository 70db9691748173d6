"""Client and server transactions of the test peers (RFC 3261 section 17)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tests.peers.sip import Address, Message
from tests.peers.wire import Hop

if TYPE_CHECKING:
    from tests.peers.agent import Agent
    from tests.peers.call import Call

T1 = 0.5
"""Seconds to the first retransmission; it doubles up to T2 (RFC 3261 section 17.1.1.1)."""
T2 = 4.0

CHALLENGES = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
"""The header that asks, and the one that answers."""

Headers = Iterable[tuple[str, str]]
REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 202: "Accepted", 301: "Moved Permanently",
    302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 407: "Proxy Authentication Required", 408: "Request Timeout", 423: "Interval Too Brief",
    480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist", 486: "Busy Here",
    487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending", 500: "Server Internal Error",
    503: "Service Unavailable", 600: "Busy Everywhere", 603: "Decline",
}  # fmt: skip


class PeerTimeoutError(Exception):
    """What was waited for did not come; the text holds the ladder of all messages so far."""


def token() -> str:
    return secrets.token_hex(8)


class Client:
    """A client transaction: retransmits over UDP, and holds the final answer."""

    def __init__(self, agent: Agent, request: Message, hop: Hop, within: float) -> None:
        self.agent = agent
        self.request = request
        self.hop = hop
        self.final: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.provisional = asyncio.Event()
        self.answered_by: Callable[[Message], None] = lambda _: None
        """Called with each provisional answer."""
        self._interval = T1
        self._timer = agent.later(T1, self._again) if hop.transport == "udp" else None
        self._end = agent.later(within, self._expired)
        agent.send(request, hop)

    def _again(self) -> None:
        self.agent.send(self.request, self.hop)
        self._interval = min(self._interval * 2, T2) if self.request.method != "INVITE" else self._interval * 2
        self._timer = self.agent.later(self._interval, self._again)

    def _expired(self) -> None:
        self.stop()
        if not self.final.done():
            self.final.set_exception(PeerTimeoutError(f"no answer to {self.request.start_line}\n{self.agent.ladder()}"))
            self.final.exception()  # may have no reader, which is no fault of the peer

    def stop(self) -> None:
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        self._timer = None

    def take(self, answer: Message) -> None:
        """An answer that belongs to this transaction."""
        if answer.status < 200:
            if self._timer is not None and self.request.method == "INVITE":
                self._timer.cancel()
                self._timer = None
            self.provisional.set()
            self.answered_by(answer)
            return
        self.stop()
        self.provisional.set()
        if self.request.method == "INVITE" and answer.status >= 300:
            self.agent.send(self._ack(answer), self.hop)
        if not self.final.done():
            self.final.set_result(answer)

    def _ack(self, answer: Message) -> Message:
        """Hop by hop, in the same transaction (RFC 3261 section 17.1.1.3)."""
        headers = [("Via", self.request.get("Via")), ("Max-Forwards", "70")]
        headers += [("Route", route) for route in self.request.all("Route")]
        headers += [("From", self.request.get("From")), ("To", answer.get("To")), ("Call-ID", answer.call_id)]
        return Message("ACK", self.request.uri, headers=[*headers, ("CSeq", f"{answer.cseq[0]} ACK")])

    def cancel(self) -> Message:
        """The CANCEL for it (RFC 3261 section 9.1)."""
        kept = ("via", "route", "from", "to", "call-id")
        top = self.request.get("Via")
        headers = [(k, v) for k, v in self.request.headers if k.lower() in kept and (k.lower() != "via" or v == top)]
        headers += [("Max-Forwards", "70"), ("CSeq", f"{self.request.cseq[0]} CANCEL")]
        return Message("CANCEL", self.request.uri, headers=headers)


class Server:
    """A server transaction: repeats its last answer, and a final one to INVITE until the ACK comes."""

    def __init__(self, agent: Agent, request: Message, hop: Hop) -> None:
        self.agent = agent
        self.request = request
        self.hop = hop
        self.local_tag = token()
        self.last: Message | None = None
        self.call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None

    def answer(self, status: int, *, headers: Headers = (), body: bytes = b"", reason: str = "") -> Message:
        """Send an answer; headers that only some answers have are the caller's."""
        request = self.request
        message = Message(status=status, reason=reason or REASONS.get(status, "Other"))
        message.headers = [(key, value) for key, value in request.headers if key.lower() in ("via", "v")]
        to = request.get("To")
        if status > 100 and not Address.parse(to).tag:
            to += f";tag={self.local_tag}"
        message.headers += [("From", request.get("From")), ("To", to), ("Call-ID", request.call_id)]
        message.headers += [("CSeq", request.get("CSeq")), *headers]
        if body:
            message.headers.append(("Content-Type", "application/sdp"))
            message.body = body
        self.last = message
        self.agent.send(message, self.hop)
        if status >= 200 and request.method == "INVITE" and (self.hop.transport == "udp" or status < 300):
            self._timer = self.agent.later(T1, self._again, T1)
        return message

    def _again(self, waited: float) -> None:
        if self.last is not None:
            self.agent.send(self.last, self.hop)
            self._timer = self.agent.later(min(waited * 2, T2), self._again, min(waited * 2, T2))

    def repeated(self) -> None:
        """The same request came again."""
        if self.last is not None:
            self.agent.send(self.last, self.hop)

    def acknowledged(self) -> None:
        """The ACK is here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
