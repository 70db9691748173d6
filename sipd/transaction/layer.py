"""The transaction layer (RFC 3261 17, RFC 6026): finds the machine for a message and walks its arrows.

Which arrows there are is in `tables`. No clock and no socket: `now` comes in, bytes go out through `send`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sipd.flow import Flow
from sipd.message.build import Header
from sipd.message.build import request as build_request
from sipd.message.build import response as build_response
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.message.via import MAGIC_COOKIE
from sipd.timers import Timer, Timers
from sipd.transaction import tables

T1 = 0.5
"""Round-trip estimate (RFC 3261 17.1.1.1), seconds."""
T2 = 4.0
"""Longest interval between retransmissions other than of INVITE requests."""
T4 = 5.0
"""How long a message may stay in the network."""
TIMER_D = 32.0
"""At least, over UDP (17.1.1.2)."""
MAX_SERVER_TRANSACTIONS = 200_000
"""More are answered 503 without a transaction."""

Key = tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """The base values; all timers follow from them (RFC 3261 table 4)."""

    t1: float = T1
    t2: float = T2
    t4: float = T4

    def waits(self, reliable: bool) -> dict[str, float]:
        """Seconds for each timer that ends a state."""
        long = 64 * self.t1
        waits = {"B": long, "F": long, "H": long, "L": long, "M": long, "X": long}
        if reliable:
            return waits | {"D": 0.0, "I": 0.0, "J": 0.0, "K": 0.0}
        return waits | {"D": max(TIMER_D, long), "I": self.t4, "J": long, "K": self.t4}


class Transaction:
    """What both sides have. `owner` belongs to the transaction user."""

    __slots__ = (
        "_interval",
        "_layer",
        "_retry",
        "_table",
        "_wait",
        "_wait_name",
        "flow",
        "key",
        "method",
        "owner",
        "state",
    )

    def __init__(self, layer: Layer, table: _Compiled, key: Key, method: str, flow: Flow, owner: object = None) -> None:
        self._layer = layer
        self._table = table
        self._retry: Timer | None = None
        self._interval = 0.0
        self._wait: Timer | None = None
        self._wait_name = ""
        self.key = key
        self.method = method
        self.flow = flow
        """Where this side sends to."""
        self.owner = owner
        self.state = tables.TERMINATED

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.state}>"

    @property
    def terminated(self) -> bool:
        return self.state == tables.TERMINATED

    def _to_send(self) -> bytes:
        raise NotImplementedError

    def _on_retry(self, now: float) -> None:
        self._retry = None
        self._layer._step(self, self._retry_name, None, now)

    def _on_wait(self, now: float) -> None:
        self._wait = None
        self._layer._step(self, self._wait_name, None, now)

    @property
    def _retry_name(self) -> str:
        raise NotImplementedError


class ClientTransaction(Transaction):
    """A request that we sent."""

    __slots__ = ("_ack", "_cancel", "branch", "data")

    def __init__(
        self, layer: Layer, table: _Compiled, key: Key, method: str, flow: Flow, owner: object, data: bytes, branch: str
    ) -> None:
        super().__init__(layer, table, key, method, flow, owner)
        self.data = data
        """The request as sent."""
        self.branch = branch
        self._ack = b""
        self._cancel: Sequence[Header] | None = None
        """Headers of the CANCEL that waits for a provisional answer."""

    def _to_send(self) -> bytes:
        return self.data

    @property
    def _retry_name(self) -> str:
        return "A" if self.method == "INVITE" else "E"


class ServerTransaction(Transaction):
    """A request that we received. `flow` is where answers go (RFC 3261 18.2.2, RFC 3581)."""

    __slots__ = ("code", "last_response", "request", "rule", "source")

    def __init__(self, layer: Layer, table: _Compiled, key: Key, request: Message, source: Flow, flow: Flow) -> None:
        super().__init__(layer, table, key, request.method, flow)
        self.request = request
        self.source = source
        """Where the request came from, which may be another port than answers go to."""
        self.last_response: bytes | None = None
        self.code = 0
        """Of the first final answer."""
        self.rule = ""
        """By which the transaction user decided; for counting."""

    def _to_send(self) -> bytes:
        return self.last_response or b""

    @property
    def _retry_name(self) -> str:
        return "G"


class TransactionUser(Protocol):
    """What the core does with what the layer tells it."""

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        """A new request, neither ACK nor CANCEL."""

    def on_ack(self, msg: Message, flow: Flow, now: float) -> None:
        """An ACK that belongs to no refused INVITE: the one for a 2xx. Comes again with each retransmission."""

    def on_response(self, tx: ClientTransaction, msg: Message, now: float) -> None:
        """Each provisional response, the final one, and repeated 2xx to an INVITE."""

    def on_stray_response(self, msg: Message, flow: Flow, now: float) -> None:
        """A response to no transaction of ours: a late 2xx, or not for us at all."""

    def on_timeout(self, tx: ClientTransaction, now: float) -> None:
        """No final answer in time: to be treated as 408 (RFC 3261 8.1.3.1). After `Layer.cancel`: as 487."""

    def on_transport_error(self, tx: ClientTransaction, now: float) -> None:
        """The stream ended: to be treated as 503 (RFC 3261 8.1.3.1)."""

    def on_cancel(self, tx: ServerTransaction, cancel_tx: ServerTransaction, now: float) -> None:
        """`tx`, an INVITE, is to be given up. The CANCEL itself is answered already."""

    def on_caller_lost(self, tx: ServerTransaction, now: float) -> None:
        """The stream of an INVITE without final answer ended: for its sender it failed (RFC 3261 17.1.4)."""


Action = Callable[["Layer", Transaction, Message | None, float], None]
_Compiled = dict[str, dict[str, tuple[tuple[Action, ...], str]]]


class Layer:
    """All transactions. `send` is called with bytes and where they go."""

    def __init__(
        self,
        user: TransactionUser,
        send: Callable[[bytes, Flow], None],
        timers: Timers,
        timing: Timing | None = None,
        limit: int = MAX_SERVER_TRANSACTIONS,
        count: Callable[[str, int, str], None] = lambda method, code, rule: None,
    ) -> None:
        """`count` is told the method, the final answer and the rule of each request."""
        self._user = user
        self._send = send
        self._timers = timers
        self._timing = timing or Timing()
        self._waits = self._timing.waits(reliable=False), self._timing.waits(reliable=True)
        self._limit = limit
        self._count = count
        self._clients: dict[Key, ClientTransaction] = {}
        self._servers: dict[Key, ServerTransaction] = {}
        self._first: dict[Key, ServerTransaction] = {}
        """First of the requests that may be merged (RFC 3261 8.2.2.2)."""
        self._by_flow: dict[Flow, dict[Transaction, None]] = {}
        """Of streams only: whom the end of one concerns."""

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def servers(self) -> int:
        return len(self._servers)

    # -- in

    def receive(self, msg: Message, flow: Flow, now: float) -> None:
        """A message that `check` has let through."""
        if msg.status:
            self._receive_response(msg, flow, now)
            return
        key = server_key(msg, flow)
        tx = self._servers.get(key)
        if msg.method == "ACK":
            if tx is None:
                self._user.on_ack(msg, flow, now)
            else:
                self._step(tx, tables.ACK, msg, now)
        elif tx is not None:
            self._step(tx, tables.REQUEST, msg, now)
        else:
            self._receive_new(key, msg, flow, now)

    def _receive_response(self, msg: Message, flow: Flow, now: float) -> None:
        """17.1.3: by the branch of the top Via and the CSeq method. Our requests have one Via: an answer with more is
        not for us (8.1.3.3)."""
        tx = self._clients.get((msg.via.branch, msg.method))
        if tx is None or len(msg.vias) > 1:
            self._user.on_stray_response(msg, flow, now)
            return
        self._step(tx, _class(msg.status), msg, now)
        if tx._cancel is not None:
            self._send_cancel(tx, now)

    def _receive_new(self, key: Key, msg: Message, flow: Flow, now: float) -> None:
        answer_flow = answer_to(msg, flow)
        if len(self._servers) >= self._limit:
            headers = [("Retry-After", "5")]
            data = build_response(msg, 503, None, stateless_tag(msg), headers, received=(flow.host, flow.port))
            self._send(data, answer_flow)
            self._count(msg.method, 503, "overload")
            return
        table, start = (_INVITE_SERVER, tables.START_INVITE_SERVER) if msg.method == "INVITE" else _SERVER_START
        tx = ServerTransaction(self, table, key, msg, flow, answer_flow)
        tx.state = start[1]
        self._servers[key] = tx
        self._remember_flow(tx)
        if msg.method == "CANCEL":
            self._receive_cancel(tx, now)
            return
        if msg.to.tag is None:
            self._first.setdefault(_identity(msg), tx)
        self._user.on_request(tx, now)

    def _receive_cancel(self, cancel: ServerTransaction, now: float) -> None:
        """9.2: 200 when the INVITE is known, whatever becomes of it; 481 when not."""
        invite = self._servers.get((*cancel.key[:-1], "INVITE"))
        status = 481 if invite is None else 200
        cancel.rule = "cancel"
        tag = _answered_tag(invite) or stateless_tag(cancel.request)
        received = (cancel.source.host, cancel.source.port)
        self.respond(cancel, status, build_response(cancel.request, status, None, tag, received=received), now)
        if invite is not None:
            self._user.on_cancel(invite, cancel, now)

    def merged(self, msg: Message) -> bool:
        """8.2.2.2: the same request came by another path before, and is to be answered 482."""
        if msg.to.tag is not None:
            return False
        first = self._first.get(_identity(msg))
        return first is not None and first.request is not msg

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A stream ended."""
        for tx in list(self._by_flow.get(flow, ())):
            self._step(tx, tables.ERROR, None, now)

    # -- out

    def respond(self, tx: ServerTransaction, status: int, data: bytes, now: float) -> None:
        """Send an answer and keep it for retransmission. A second final answer is not sent, except 2xx to INVITE."""
        kind = _class(status)
        if kind in tx._table[tx.state]:
            tx.last_response = data
            if status >= 200 and not tx.code:
                tx.code = status
                self._count(tx.method, status, tx.rule)
            self._step(tx, kind, None, now)

    def request(
        self, data: bytes, method: str, branch: str, flow: Flow, owner: object, now: float
    ) -> ClientTransaction:
        """Send a request, not an ACK. `branch` is the one in its top Via; new for each but CANCEL (8.1.1.7, 9.1)."""
        key = (branch, method)
        table, arrow = (_INVITE_CLIENT, _START_INVITE_CLIENT) if method == "INVITE" else (_CLIENT, _START_CLIENT)
        tx = ClientTransaction(self, table, key, method, flow, owner, data, branch)
        self._clients[key] = tx
        self._remember_flow(tx)
        self._take(tx, arrow, None, now)
        return tx

    def cancel(self, tx: ClientTransaction, headers: Sequence[Header], now: float) -> None:
        """Give up an INVITE: CANCEL as soon as a provisional answer allows it, and once (9.1).

        `headers` may say why (RFC 3326). The user is told how it ends: by an answer, or by `on_timeout`.
        """
        tx._cancel = headers
        self._send_cancel(tx, now)

    def _send_cancel(self, tx: ClientTransaction, now: float) -> None:
        if tx.state == tables.CALLING or tx._cancel is None:
            return
        headers, tx._cancel = tx._cancel, None
        if tx.state == tables.PROCEEDING and (tx.branch, "CANCEL") not in self._clients:
            self.request(cancel_request(tx, headers), "CANCEL", tx.branch, tx.flow, None, now)
            self._step(tx, tables.CANCELLED, None, now)

    def abandon(self, tx: ClientTransaction, now: float) -> None:
        """Another target is tried instead (RFC 3263 4.3): the request is sent no more.

        An INVITE may have arrived all the same. A provisional answer is met with CANCEL, a 2xx still goes up.
        """
        if tx.method != "INVITE":
            self.destroy(tx)
            return
        self._timers.cancel(tx._retry)
        tx._retry = None
        self.cancel(tx, (), now)

    def resume_server(self, msg: Message, source: Flow, flow: Flow, owner: object) -> ServerTransaction:
        """An INVITE from before a restart that may come again, and may still be answered, over `flow`."""
        tx = ServerTransaction(self, _INVITE_SERVER, server_key(msg, source), msg, source, flow)
        tx.state, tx.owner = tables.PROCEEDING, owner
        self._servers[tx.key] = tx
        self._remember_flow(tx)
        return tx

    def resume_invite(self, data: bytes, branch: str, flow: Flow, owner: object) -> ClientTransaction:
        """An INVITE that was sent before a restart, and had a provisional answer as far as we know: to be cancelled."""
        tx = ClientTransaction(self, _INVITE_CLIENT, (branch, "INVITE"), "INVITE", flow, owner, data, branch)
        tx.state = tables.PROCEEDING
        self._clients[tx.key] = tx
        self._remember_flow(tx)
        return tx

    def destroy(self, tx: Transaction) -> None:
        """Give up a transaction without another word."""
        self._stop(tx, None, 0.0)
        tx.state = tables.TERMINATED
        self._forget(tx)

    def drop(self, tx: ServerTransaction) -> None:
        """Give a request no answer."""
        self._count(tx.method, 0, "muted")
        self.destroy(tx)

    # -- arrows

    def _step(self, tx: Transaction, happened: str, msg: Message | None, now: float) -> None:
        arrow = tx._table[tx.state].get(happened)
        if arrow is not None:
            self._take(tx, arrow, msg, now)

    def _take(self, tx: Transaction, arrow: tuple[tuple[Action, ...], str], msg: Message | None, now: float) -> None:
        """The state changes first: an action may call the user, and the user may call the layer."""
        actions, state = arrow
        tx.state = state
        if state == tables.TERMINATED:
            self._forget(tx)
        for action in actions:
            action(self, tx, msg, now)

    def _remember_flow(self, tx: Transaction) -> None:
        if tx.flow.reliable:
            self._by_flow.setdefault(tx.flow, {})[tx] = None

    def _forget(self, tx: Transaction) -> None:
        if isinstance(tx, ServerTransaction):
            if self._servers.get(tx.key) is tx:
                del self._servers[tx.key]
            if tx.request.to.tag is None:
                identity = _identity(tx.request)
                if self._first.get(identity) is tx:
                    del self._first[identity]
        elif self._clients.get(tx.key) is tx:
            del self._clients[tx.key]
        on_flow = self._by_flow.get(tx.flow)
        if on_flow is not None:
            on_flow.pop(tx, None)
            if not on_flow:
                del self._by_flow[tx.flow]

    # -- actions

    def _send_again(self, tx: Transaction, msg: Message | None, now: float) -> None:
        data = tx._to_send()
        if data:
            self._send(data, tx.flow)

    def _send_ack(self, tx: Transaction, msg: Message | None, now: float) -> None:
        if isinstance(tx, ClientTransaction) and msg is not None:
            if not tx._ack:
                tx._ack = ack_request(tx, msg)
            self._send(tx._ack, tx.flow)

    def _stop(self, tx: Transaction, msg: Message | None, now: float) -> None:
        if tx._retry is not None:
            self._timers.cancel(tx._retry)
            tx._retry = None
        if tx._wait is not None:
            self._timers.cancel(tx._wait)
            tx._wait = None

    def _pass_up(self, tx: Transaction, msg: Message | None, now: float) -> None:
        if msg is None:
            return
        if isinstance(tx, ClientTransaction):
            self._user.on_response(tx, msg, now)
        elif isinstance(tx, ServerTransaction):
            self._user.on_ack(msg, tx.source, now)

    def _timed_out(self, tx: Transaction, msg: Message | None, now: float) -> None:
        if isinstance(tx, ClientTransaction):
            self._user.on_timeout(tx, now)

    def _failed(self, tx: Transaction, msg: Message | None, now: float) -> None:
        if isinstance(tx, ClientTransaction):
            self._user.on_transport_error(tx, now)
        elif isinstance(tx, ServerTransaction):
            self._user.on_caller_lost(tx, now)

    def _start_retransmission(self, tx: Transaction, name: str, now: float) -> None:
        """A doubles without end until B fires; E and G double up to T2; E is T2 once there was an answer."""
        if tx.flow.reliable:
            return
        timing = self._timing
        interval = tx._interval * 2 if tx._interval else timing.t1
        if name != "A":
            interval = timing.t2 if tx.state == tables.PROCEEDING else min(interval, timing.t2)
        tx._interval = interval
        tx._retry = self._timers.set(now + interval, tx._on_retry)

    def _start_wait(self, tx: Transaction, name: str, now: float) -> None:
        seconds = self._waits[tx.flow.reliable][name]
        if seconds == 0:
            self._step(tx, name, None, now)
        else:
            tx._wait_name = name
            tx._wait = self._timers.set(now + seconds, tx._on_wait)


def _start(name: str) -> Action:
    if name in tables.RETRANSMISSION_TIMERS:
        return lambda layer, tx, msg, now: layer._start_retransmission(tx, name, now)
    return lambda layer, tx, msg, now: layer._start_wait(tx, name, now)


_ACTIONS: dict[str, Action] = {
    tables.SEND: Layer._send_again,
    tables.SEND_ACK: Layer._send_ack,
    tables.STOP: Layer._stop,
    tables.PASS_UP: Layer._pass_up,
    tables.TIMED_OUT: Layer._timed_out,
    tables.FAILED: Layer._failed,
} | {name: _start(name) for name in tables.RETRANSMISSION_TIMERS | tables.WAITING_TIMERS}


def _compile_arrow(arrow: tables.Arrow) -> tuple[tuple[Action, ...], str]:
    return tuple(_ACTIONS[action] for action in arrow[0]), arrow[1]


def _compile(table: tables.Table) -> _Compiled:
    return {
        state: {happened: _compile_arrow(arrow) for happened, arrow in arrows.items()}
        for state, arrows in table.items()
    }


_INVITE_CLIENT = _compile(tables.INVITE_CLIENT)
_CLIENT = _compile(tables.CLIENT)
_INVITE_SERVER = _compile(tables.INVITE_SERVER)
_SERVER_START = _compile(tables.SERVER), tables.START_SERVER
_START_INVITE_CLIENT = _compile_arrow(tables.START_INVITE_CLIENT)
_START_CLIENT = _compile_arrow(tables.START_CLIENT)


def _class(status: int) -> str:
    if status < 200:
        return tables.PROVISIONAL
    return tables.SUCCESS if status < 300 else tables.FAILURE


def server_key(msg: Message, flow: Flow) -> Key:
    """17.2.3: branch, sent-by and method, where ACK counts as INVITE. Clients of RFC 2543 have no branch of their own:
    then Request-URI, From tag, Call-ID, CSeq and the whole top Via (the To tag of the ACK is ours, so it is left out).

    The source host is part of it: phones behind different NATs have the same private sent-by, and some repeat branches.
    So is the number of the CSeq: a few keep the branch when they send a request once more, with credentials.
    """
    via = msg.via
    method = "INVITE" if msg.method == "ACK" else msg.method
    branch = via.branch
    if branch is not None and len(branch) > 7 and branch.startswith(MAGIC_COOKIE):
        return (branch, via.host.lower(), via.port, flow.host, msg.cseq.number, method)
    return (msg.uri, msg.from_.tag, msg.call_id, msg.cseq.number, str(via), flow.host, method)


def answer_to(msg: Message, source: Flow) -> Flow:
    """RFC 3261 18.2.2 and RFC 3581: over UDP to the source host, and to its port if rport asks for it.

    Without rport the port is that of sent-by, as long as sent-by is the source. Another host there means a NAT in
    between, behind which that port says nothing: then the source's port (docs/decisions). A `maddr` is not followed:
    it would let a request choose whom we send to.
    """
    if source.reliable:
        return source
    via = msg.via
    if "rport" in via.params or via.host.lower() != source.host:
        return source
    return source._replace(port=via.port or 5060)


def ack_request(tx: ClientTransaction, response: Message) -> bytes:
    """The ACK for a final response other than 2xx (17.1.1.3): of the INVITE, but with the To of the response."""
    return _follow(scan(tx.data), "ACK", response.lines("to"))


def cancel_request(tx: ClientTransaction, extra: Sequence[Header] = ()) -> bytes:
    """The CANCEL for an INVITE that we sent (9.1): to be sent on `tx.flow` with `tx.branch`, after a 1xx only.
    `extra` headers may say why (RFC 3326)."""
    invite = scan(tx.data)
    return _follow(invite, "CANCEL", invite.lines("to"), extra)


def _follow(invite: Message, method: str, to: bytes, extra: Sequence[Header] = ()) -> bytes:
    headers: list[Header] = [
        ("Via", str(invite.via)),
        invite.lines("route"),
        ("Max-Forwards", invite.get("max-forwards") or "70"),
        invite.lines("from"),
        to,
        invite.lines("call-id"),
        ("CSeq", f"{invite.cseq.number} {method}"),
        *extra,
    ]
    return build_request(method, invite.uri, headers)


def _identity(msg: Message) -> Key:
    return (msg.from_.tag, msg.call_id, *msg.cseq)


def _answered_tag(tx: ServerTransaction | None) -> str | None:
    """The tag that our answers to this request bear (9.2: that of the answer to CANCEL should be the same)."""
    if tx is None or tx.last_response is None:
        return None
    try:
        return scan(tx.last_response).to.tag
    except BadMessage:
        return None


def stateless_tag(msg: Message) -> str:
    """A tag for answers of which nothing is kept, the same for each retransmission (RFC 3261 8.2.7)."""
    text = f"{msg.call_id}\n{msg.from_.tag}\n{msg.via}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
