"""A user agent: sends, receives, keeps transactions and calls, and logs all messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from tests.peers import digest
from tests.peers.call import SDP, TIMEOUT, Call
from tests.peers.sip import Address, MalformedError, Message, Uri
from tests.peers.transaction import CHALLENGES, T1, Client, Headers, PeerTimeoutError, Server, token
from tests.peers.wire import Hop, Tls, Wire

LIFETIME = 120.0
"""Seconds after which a peer closes itself."""
MAX_LOG = 20_000
MAX_TRANSACTIONS = 20_000
MAX_CALLS = 10_000
MAX_QUEUE = 1000


class Logged(NamedTuple):
    """One line of the log."""

    at: float
    """Seconds of the event loop's clock."""
    received: bool
    hop: Hop
    message: Message

    def __str__(self) -> str:
        """`>>` received, `<<` sent."""
        cseq = "" if self.message.method else f" ({self.message.get('CSeq')})"
        arrow = ">>" if self.received else "<<"
        return f"{arrow} {self.hop.transport}:{self.hop.host}:{self.hop.port} {self.message.start_line}{cseq}"


class Agent:
    """The base of phone and stand-in PBX. Open it with `async with`."""

    def __init__(
        self,
        user: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        transport: str = "udp",
        lifetime: float = LIFETIME,
        on_log: Callable[[Logged], None] | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.user = user
        self.transport = transport
        self.host = host
        self.wanted_port = port
        self.lifetime = lifetime
        self.log: deque[Logged] = deque(maxlen=MAX_LOG)
        self.malformed: list[bytes] = []
        self.errors: list[Exception] = []
        """Faults of the peer itself; leaving `async with` raises the first."""
        self.answers = {"OPTIONS": 200, "MESSAGE": 200, "NOTIFY": 200, "INFO": 200}
        """What requests outside a dialog are answered with; others get 405."""
        self.silent = False
        """Receive and log, but never answer: as if the network was down."""
        self.calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._incoming: asyncio.Queue[Call] = asyncio.Queue(MAX_QUEUE)
        self._wire = Wire(self._receive, host, tls)
        self._clients: dict[tuple[str, str], Client] = {}
        self._servers: dict[tuple[str, str, str], Server] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._news = asyncio.Event()
        self._on_log = on_log
        self.closed = asyncio.Event()

    # Life

    async def __aenter__(self) -> Self:
        await self._wire.open(self.wanted_port)
        self.later(self.lifetime, lambda: self.spawn(self.close()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        if self.errors:
            raise self.errors[0]

    async def close(self) -> None:
        """Stop all; may be called twice."""
        if self.closed.is_set():
            return
        self.closed.set()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._wire.close()

    @property
    def port(self) -> int:
        return self._wire.port

    def hop(self, transport: str = "") -> Hop:
        """Where this peer is reached."""
        return Hop(transport or self.transport, self.host, self.port)

    def drop_streams(self) -> None:
        """End all TCP connections."""
        self._wire.drop_streams()

    @property
    def wire(self) -> Wire:
        return self._wire

    def later(self, delay: float, call: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """A timer that ends with the peer."""
        return asyncio.get_running_loop().call_later(delay, self._fire, call, args)

    def _fire(self, call: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self.closed.is_set():
            call(*args)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that ends with the peer; what it raises is in `errors`."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.errors.append(error)

    async def bounded(self, wait: Any, within: float, what: str) -> Any:
        """`wait`, for `within` seconds at most. Raises `PeerTimeoutError` with the ladder."""
        try:
            return await asyncio.wait_for(wait, within)
        except TimeoutError:
            raise PeerTimeoutError(f"{self.user}: no {what} within {within} s\n{self.ladder()}") from None

    # Log

    def received(self, what: str | int = "") -> list[Message]:
        """Received so far: all, requests ("INVITE"), answers with a status (200), or to a method ("200 BYE")."""
        return [entry.message for entry in self.log if entry.received and matches(entry.message, what)]

    def sent(self, what: str | int = "") -> list[Message]:
        """Sent so far, retransmissions included."""
        return [entry.message for entry in self.log if not entry.received and matches(entry.message, what)]

    async def wait_received(self, what: str | int, count: int = 1, within: float = TIMEOUT) -> Message:
        """The `count`-th such message, now or when it comes."""
        return await self._wait(self.received, what, count, within)

    async def wait_sent(self, what: str | int, count: int = 1, within: float = TIMEOUT) -> Message:
        """The `count`-th such message."""
        return await self._wait(self.sent, what, count, within)

    async def _wait(
        self, search: Callable[[str | int], list[Message]], what: str | int, count: int, within: float
    ) -> Message:
        async def found() -> Message:
            while len(messages := search(what)) < count:
                self._news.clear()
                await self._news.wait()
            return messages[count - 1]

        message: Message = await self.bounded(found(), within, f"{search.__name__} {what} number {count}")
        return message

    def ladder(self) -> str:
        """All messages, one line each."""
        return "\n".join(map(str, self.log))

    def _note(self, received: bool, hop: Hop, message: Message) -> None:
        entry = Logged(asyncio.get_running_loop().time(), received, hop, message)
        self.log.append(entry)
        self._news.set()
        if self._on_log is not None:
            self._on_log(entry)

    # Sending

    def contact(self, hop: Hop) -> str:
        """Our Contact towards a hop."""
        return f"<sip:{self.user}@{self.authority}{'' if hop.transport == 'udp' else f';transport={hop.transport}'}>"

    @property
    def authority(self) -> str:
        """Host and port as in a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def next_hop(self, call: Call) -> Hop:
        """Where requests in a dialog go: to the first route or target that is an address, else where the call went."""
        uri = Address.parse(call.routes[0]).uri if call.routes else Uri.parse(call.target)
        if not uri.host.replace(".", "").isdigit() and ":" not in uri.host:
            return call.hop
        return Hop(uri.params.get("transport", "udp").lower(), uri.host, uri.port or 5060)

    def request_message(
        self, method: str, uri: str, hop: Hop, *, call: Call | None = None, to: str = "", cseq: int = 0
    ) -> Message:
        """A request with the headers that all have (RFC 3261 section 8.1.1)."""
        message = Message(method, uri)
        message.headers = [
            ("Via", f"SIP/2.0/{hop.transport.upper()} {self.authority};branch=z9hG4bK{token()};rport"),
            ("Max-Forwards", "70"),
        ]
        if call is None:
            return message
        remote = to or call.remote
        message.headers += [("Route", route) for route in call.routes]
        message.headers += [
            ("From", f"{call.local};tag={call.local_tag}"),
            ("To", f"{remote};tag={call.remote_tag}" if call.remote_tag else remote),
            ("Call-ID", call.call_id),
            ("CSeq", f"{cseq or call.cseq} {method}"),
        ]
        return message

    def send(self, message: Message, hop: Hop) -> None:
        """Log and send."""
        if self.silent or self.closed.is_set():
            return
        self._note(False, hop, message)
        self._wire.send(bytes(message), hop)

    def start(self, request: Message, hop: Hop, within: float = TIMEOUT) -> Client:
        """Begin a client transaction."""
        client = Client(self, request, hop, within)
        _make_room(self._clients)
        self._clients[request.branch, request.method] = client
        return client

    def credentials(
        self, answer: Message, method: str, uri: str, auth: digest.Client | None, *, tried: bool
    ) -> list[tuple[str, str]]:
        """The header that answers a challenge; none if there is no challenge, or no way to answer it.

        `tried`: credentials were in the request, so that only a stale nonce is worth another try (RFC 3261 22.2).
        """
        if auth is None or answer.status not in CHALLENGES:
            return []
        asked, name = CHALLENGES[answer.status]
        challenges = answer.all(asked)
        stale = any(digest.fields_of(text).get("stale", "").lower() == "true" for text in challenges)
        value = auth.answer(challenges, method, uri) if stale or not tried else None
        return [(name, value)] if value else []

    def begin_call(
        self,
        uri: str,
        hop: Hop,
        *,
        local: str,
        remote: str,
        auth: digest.Client | None = None,
        body: bytes = SDP,
        headers: Headers = (),
        within: float = 64 * T1,
    ) -> Call:
        """Place a call; returns at once."""
        call = Call(self, outgoing=True, call_id=f"{token()}@{self.host}", local=local, remote=remote, hop=hop)
        call.auth, call.body, call.headers = auth, body, list(headers)
        self.calls.append(call)
        self.spawn(self._see_through(call, uri, remote, within))
        return call

    async def _see_through(self, call: Call, uri: str, to: str, within: float) -> None:
        try:
            await call.run(uri, to, within)
        except PeerTimeoutError:
            call._take_final(Message(status=408, reason="Request Timeout"))

    async def incoming(self, within: float = TIMEOUT) -> Call:
        """The next call that came in and that nothing else took."""
        call: Call = await self.bounded(self._incoming.get(), within, "incoming call")
        return call

    # Receiving

    def _receive(self, data: bytes, hop: Hop) -> None:
        try:
            message = Message.parse(data)
        except MalformedError:
            self.malformed.append(data)
            return
        self._note(True, hop, message)
        if self.silent:
            return
        try:
            if message.method:
                self._take_request(message, hop)
            else:
                self._take_answer(message)
        except MalformedError:
            self.malformed.append(data)
        except Exception as error:  # noqa: BLE001 - told when the peer is closed
            self.errors.append(error)

    def _take_answer(self, answer: Message) -> None:
        client = self._clients.get((answer.branch, answer.cseq[1]))
        if client is None:
            return
        repeated_2xx = client.final.done() and client.request.method == "INVITE" and 200 <= answer.status < 300
        client.take(answer)
        if repeated_2xx:
            for call in self.calls:
                if (call.call_id, call.local_tag) == (answer.call_id, answer.from_.tag) and call.target:
                    call.send_ack(answer.cseq[0])

    def _take_request(self, request: Message, hop: Hop) -> None:
        key = (request.branch, request.get("Via").partition(";")[0], request.method)
        _mark_source(request, hop)
        if request.method == "ACK":
            self._take_ack(request, key)
            return
        known = self._servers.get(key)
        if known is not None:
            known.repeated()
            return
        server = Server(self, request, hop)
        _make_room(self._servers)
        self._servers[key] = server
        if request.method == "CANCEL":
            self._take_cancel(server, key)
        elif request.to.tag:
            call = self._call_of(request)
            if call is None:
                server.answer(481)
            else:
                call.take_request(server)
        else:
            self.take_new(server)

    def _call_of(self, request: Message) -> Call | None:
        key = (request.call_id, request.to.tag, request.from_.tag)
        over = request.method == "ACK"  # also one that crosses a BYE stops the retransmissions
        for call in reversed(self.calls):
            if (call.call_id, call.local_tag, call.remote_tag) == key and (over or call.state != "ended"):
                return call
        return None

    def _take_ack(self, ack: Message, key: tuple[str, str, str]) -> None:
        server = self._servers.get((key[0], key[1], "INVITE"))
        if server is not None:
            server.acknowledged()
            return
        call = self._call_of(ack)
        if call is not None:
            call.take_ack(ack)

    def _take_cancel(self, server: Server, key: tuple[str, str, str]) -> None:
        invite = self._servers.get((key[0], key[1], "INVITE"))
        if invite is None:
            server.answer(481)
            return
        server.local_tag = invite.local_tag
        server.answer(200)
        if invite.call is not None:
            invite.call.take_cancel()

    def take_new(self, server: Server) -> None:
        """A request outside a dialog."""
        if server.request.method == "INVITE":
            server.answer(100)
            self.take_call(self.offered(server))
        else:
            server.answer(self.answers.get(server.request.method, 405))

    def offered(self, server: Server) -> Call:
        """The call that an INVITE offers."""
        request = server.request
        local, remote = request.get("To"), request.get("From")
        call = Call(
            self, outgoing=False, call_id=request.call_id, local=local, remote=_untagged(remote), hop=server.hop
        )
        call.local_tag, call.remote_tag = server.local_tag, request.from_.tag
        call.target = request.contact.uri_text if request.get("Contact") else request.from_.uri_text
        call.routes = request.all("Record-Route")
        call.invite, call.remote_body, call.server = request, request.body, server
        server.call = call
        self.calls.append(call)
        return call

    def take_call(self, call: Call) -> None:
        """What becomes of a call that came in: `incoming` gives it out."""
        if self._incoming.full():
            call.reject(503)
        else:
            self._incoming.put_nowait(call)


def matches(message: Message, what: str | int) -> bool:
    """ "" all; "INVITE" requests; 200 answers; "200 INVITE" answers to a method."""
    if isinstance(what, int):
        return message.status == what
    status, _, method = what.rpartition(" ")
    if status:
        return message.status == int(status) and message.cseq[1] == method
    return not what or message.method == what


def _untagged(value: str) -> str:
    """From or To without its parameters."""
    address = Address.parse(value)
    display = f'"{address.display}" ' if address.display else ""
    return f"{display}<{address.uri_text}>"


def _mark_source(request: Message, hop: Hop) -> None:
    """What the top Via says about where to answer (RFC 3581 section 4)."""
    via = request.get("Via")
    parts = [part for part in via.split(";") if part.split("=")[0].strip().lower() != "received"]
    if "rport" in parts:
        parts[parts.index("rport")] = f"rport={hop.port}"
    request.replace("Via", ";".join([*parts, f"received={hop.host}"]))


def _make_room(transactions: dict[Any, Any]) -> None:
    """Forget the oldest."""
    if len(transactions) >= MAX_TRANSACTIONS:
        del transactions[next(iter(transactions))]
