"""Requests on their way: one target after the other (RFC 3263 4.3), and over TCP when too large for UDP.

A request of the core's has targets in order of preference. Each try is a transaction of its own with a new branch;
Call-ID, From tag and CSeq stay, as it is the same request. Who asked hears of answers, and of a failure only when
the last target has failed. Targets that were silent, or asked to be left alone (503 with Retry-After), come last
for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sipd.flow import Flow, Place
from sipd.message.build import Header
from sipd.message.errors import LocalError
from sipd.message.message import Message
from sipd.timers import Timer, Timers
from sipd.transaction.layer import ClientTransaction, Layer
from sipd.wire import Wire

INVITE_SECONDS = 5.0
"""For a target to show a sign of life when there is another one: an INVITE gets its 100 in 0.2 s (RFC 3261 17.2.1)."""
OTHER_SECONDS = 10.0
"""The same for other requests, which are answered when they are done."""
SWITCHED_SECONDS = 2.0
"""The same for an INVITE over TCP in place of UDP: a filter that swallows TCP must not cost the caller much."""
DOWN_SECONDS = 30.0
"""How long a target that was silent, or could not be connected to, comes last."""
MAX_DOWN_SECONDS = 300.0
"""The most that a Retry-After makes of that."""
NO_TCP_SECONDS = 600.0
"""How long large requests stay on UDP towards an address where TCP did not work."""
MEMORY = 10_000
"""Addresses remembered for each of these reasons; the oldest makes room."""
LARGE_REQUEST = 1300
"""Bytes from which on a request is too large for UDP, as the path's MTU is not known (RFC 3261 18.1.1)."""
MAX_RETRY_AFTER = 86_400
FLOW_FAILED = 430
"""From a proxy between us and a phone: that flow is gone (RFC 5626 5.3)."""
"""Seconds."""

Build = Callable[[Flow, str], bytes]
"""The request for a flow and a branch: its Via, and its Contact where that says how we are reached."""


class Sending:
    """One request, from its first target to its last answer."""

    __slots__ = (
        "alive", "build", "cancelled", "left", "method", "owner", "patience", "pinned", "ringing", "switch", "timer",
        "twin", "tx",
    )  # fmt: skip

    def __init__(
        self, method: str, targets: list[Flow], build: Build, owner: tuple[Any, Any], *, pinned: bool, switch: bool
    ) -> None:
        self.method = method
        self.left = targets
        """Not tried yet, best first."""
        self.build = build
        self.owner = owner
        """Part of the core, and what it sent this for."""
        self.pinned = pinned
        """Towards a phone: its flow is the only way there (RFC 5626), and stays as it is."""
        self.switch = switch
        """Whether it goes over TCP in place of UDP when it is large."""
        self.patience = 0.0
        """Seconds to wait for a sign of life of the last target; 0: as long as the transaction does."""
        self.tx: ClientTransaction | None = None
        """The try under way, or the last one."""
        self.twin: Flow | None = None
        """The UDP flow in whose place TCP is tried."""
        self.alive = False
        """The target has answered anything."""
        self.ringing = False
        """It has answered more than 100: no other is tried when the stream breaks now."""
        self.cancelled = False
        self.timer: Timer | None = None

    @property
    def onward(self) -> tuple[Flow, ...]:
        """The target in use and those behind it: where the same request goes once more, with credentials."""
        return (self.tx.flow, *self.left) if self.tx is not None else tuple(self.left)


class Memory:
    """Places of which something is known for a while."""

    def __init__(self) -> None:
        self._until: dict[Place, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def keep(self, place: Place, until: float) -> None:
        self._until.pop(place, None)
        if len(self._until) >= MEMORY:
            del self._until[next(iter(self._until))]
        self._until[place] = until

    def forget(self, place: Place) -> None:
        self._until.pop(place, None)

    def holds(self, place: Place, now: float) -> bool:
        return self._until.get(place, 0.0) > now

    def expired(self, place: Place, now: float) -> bool:
        """Kept once, and the time is over."""
        until = self._until.get(place)
        return until is not None and until <= now


class Sender:
    """Sends requests to targets. Stands between the parts of the core and the transaction layer.

    The part of the core that asked is called with what it sent the request for:
    `on_response(tx, thing, response, now)`; `on_failure(sending, thing, reason, now)` when no target is left, where
    the reason is "timeout" or "transport error"; for an INVITE also `on_late_answer(tx, thing, response, now)` with
    a 2xx from a target that was given up.
    """

    def __init__(self, wire: Wire, layer: Layer, timers: Timers, count: Callable[[str], None]) -> None:
        self._wire = wire
        self._layer = layer
        self._timers = timers
        self._count = count
        self._down = Memory()
        self._no_tcp = Memory()
        self.on_flow_failed: Callable[[Flow, float], None] = lambda flow, now: None
        """Told of a phone's flow that failed while the phone has others (RFC 5626 5.3)."""

    def request(
        self,
        method: str,
        flows: Sequence[Flow],
        build: Build,
        owner: tuple[Any, Any],
        now: float,
        *,
        pinned: bool = False,
        switch: bool = True,
        patience: float = 0.0,
    ) -> Sending:
        """Send a request, not an ACK or CANCEL, to the first of `flows` that takes it.

        `pinned`: a phone's flow, which is the only way there. `switch`: over TCP if it is too large for UDP.
        `patience`: seconds after which the last target has failed, too, when it says nothing; 0: its transaction's.
        """
        if not flows:
            raise LocalError("a request without a target")
        targets = list(flows) if pinned else self.in_order(flows, now)
        sending = Sending(method, targets, build, owner, pinned=pinned, switch=switch and not pinned)
        sending.patience = patience
        self._try_next(sending, now)
        return sending

    def cancel(self, sending: Sending, headers: Sequence[Header], now: float) -> None:
        """Give up an INVITE at the target that is being tried; no other is tried any more (RFC 3261 9.1).

        `headers` may say why (RFC 3326). Who asked is told how it ends: by an answer, or by `on_failure`.
        """
        sending.cancelled = True
        self._timers.cancel(sending.timer)
        if sending.tx is not None:
            self._layer.cancel(sending.tx, headers, now)

    def abandon(self, sending: Sending, now: float) -> None:
        """Give up an INVITE at a target that has shown no sign of life: it is sent no more, and no other is tried."""
        sending.cancelled = True
        self._timers.cancel(sending.timer)
        if sending.tx is not None:
            self._layer.abandon(sending.tx, now)
            self._down.keep(sending.tx.flow[:3], now + DOWN_SECONDS)

    def in_order(self, flows: Sequence[Flow], now: float) -> list[Flow]:
        """Those known to be down come last, and are tried all the same.

        When the time of one is over, one request finds out whether it is back; the others wait for what that finds.
        """
        ordered = sorted(flows, key=lambda flow: self._down.holds(flow[:3], now))
        first = ordered[0][:3]
        if len(ordered) > 1 and self._down.expired(first, now):
            self._down.keep(first, now + DOWN_SECONDS)
        return ordered

    def is_down(self, place: Place, now: float) -> bool:
        """Whether this place comes last now."""
        return self._down.holds(place, now)

    def keep_down(self, place: Place, until: float) -> None:
        """Somebody knows that this place does not serve."""
        self._down.keep(place, until)

    def is_back(self, place: Place) -> None:
        """It serves again."""
        self._down.forget(place)

    # -- trying

    def _try_next(self, sending: Sending, now: float) -> None:
        flow = sending.left.pop(0)
        branch = self._wire.branch()
        data = sending.build(flow, branch)
        sending.twin = None
        stream = self._in_place_of(flow, data, now) if sending.switch else None
        if stream is not None:
            sending.twin, flow, data = flow, stream, sending.build(stream, branch)
            self._count("sending.switched_to_tcp")
        sending.alive = sending.ringing = False
        tx = self._layer.request(data, sending.method, branch, flow, (self, sending), now)
        sending.tx = tx
        seconds = self._patience(sending)
        if seconds:
            sending.timer = self._timers.set(now + seconds, lambda at: self._silent(sending, tx, at))

    def _in_place_of(self, flow: Flow, data: bytes, now: float) -> Flow | None:
        """The TCP flow to the same address, when the request is too large for UDP (RFC 3261 18.1.1)."""
        if flow.transport != "udp" or len(data) <= LARGE_REQUEST or self._no_tcp.holds(flow[:3], now):
            return None
        return self._wire.settings.flow_to(flow.host, flow.port, "tcp")

    def _patience(self, sending: Sending) -> float:
        """Seconds to wait for a sign of life; 0: as long as the transaction does, as there is nothing else to try."""
        if sending.twin is None and not sending.left:
            return sending.patience
        if sending.method != "INVITE":
            return OTHER_SECONDS
        return SWITCHED_SECONDS if sending.twin is not None else INVITE_SECONDS

    def _silent(self, sending: Sending, tx: ClientTransaction, now: float) -> None:
        if sending.tx is tx and not sending.alive and not sending.cancelled:
            self._layer.abandon(tx, now)
            self.on_failure(tx, sending, "timeout", now)

    def _next(self, sending: Sending, tx: ClientTransaction, now: float) -> None:
        """The target of `tx` failed without an answer: the next one, if there is one."""
        if sending.twin is not None and not sending.alive:
            self._no_tcp.keep(sending.twin[:3], now + NO_TCP_SECONDS)
            sending.left.insert(0, sending.twin)
        elif sending.pinned:
            self.on_flow_failed(tx.flow, now)
        else:
            self._down.keep(tx.flow[:3], now + DOWN_SECONDS)
        self._go_on(sending, now)

    def _go_on(self, sending: Sending, now: float) -> None:
        """Whoever asked waits for news: a fault of ours in the next try is news, too."""
        self._count("sending.next_target")
        try:
            self._try_next(sending, now)
        except Exception:
            user, thing = sending.owner
            user.on_failure(sending, thing, "transport error", now)
            raise

    # -- what the layer tells, by way of the edge

    def on_response(self, tx: ClientTransaction, sending: Sending, response: Message, now: float) -> None:
        user, thing = sending.owner
        if tx is not sending.tx:
            if tx.method == "INVITE" and 200 <= response.status < 300:
                user.on_late_answer(tx, thing, response, now)
            return
        sending.alive = True
        sending.ringing = sending.ringing or response.status > 100
        self._timers.cancel(sending.timer)
        if sending.pinned:
            if response.status == FLOW_FAILED and sending.left and not sending.cancelled:
                self._next(sending, tx, now)
                return
        elif response.status != 503:
            self._down.forget(tx.flow[:3])
        elif self._refused(sending, tx, response, now):
            return
        user.on_response(tx, thing, response, now)
        if response.status >= 200 and sending.method != "INVITE":
            sending.tx = None  # what refers to each other would wait for the garbage collector

    def _refused(self, sending: Sending, tx: ClientTransaction, response: Message, now: float) -> bool:
        """503: whether the next target is tried in its place (RFC 3263 4.3, RFC 3261 21.5.4)."""
        seconds = min(retry_after(response), MAX_DOWN_SECONDS)
        if seconds:
            self._down.keep(tx.flow[:3], now + seconds)
        if sending.cancelled or not sending.left:
            return False
        self._go_on(sending, now)
        return True

    def on_failure(self, tx: ClientTransaction, sending: Sending, reason: str, now: float) -> None:
        """Time-out or transport error of one transaction."""
        if tx is not sending.tx:
            return  # given up before
        self._timers.cancel(sending.timer)
        more = sending.left or (sending.twin is not None and not sending.alive)
        if more and not sending.cancelled and not sending.ringing:
            self._next(sending, tx, now)
            return
        if not sending.cancelled and not sending.alive and not sending.pinned:
            self._down.keep(tx.flow[:3], now + DOWN_SECONDS)
        user, thing = sending.owner
        user.on_failure(sending, thing, reason, now)


def retry_after(response: Message) -> int:
    """Seconds of a Retry-After (RFC 3261 20.33), at most a day; 0 when there is none."""
    text = (response.get("retry-after") or "").split(";")[0].split("(")[0].strip()
    return min(int(text), MAX_RETRY_AFTER) if text.isascii() and text.isdigit() and len(text) < 10 else 0
