"""Keeps the ways to phones open, and notices those that are gone.

A phone with flows of its own sends keep-alives over them (RFC 5626 4.4), as often as `Flow-Timer` told it; when they
stop, the flow is dead. A phone behind NAT that does not is asked with OPTIONS, over UDP: its answer keeps the NAT's way
open in both directions (RFC 4787 4.3). OPTIONS is sent once, and no transaction waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sipd.dialogs import target_of
from sipd.events import Events
from sipd.flow import Flow, Place
from sipd.message import build
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.trace import UNTRACED
from sipd.wire import Wire

if TYPE_CHECKING:
    from sipd.registrar import Binding

SILENT_AFTER = 2.0
"""Flow timers without a keep-alive after which a flow is dead, and a grace for what was lost on the way."""
GRACE = 10.0


class Kept:
    """One binding whose way is looked after."""

    __slots__ = ("asked", "call_id", "place", "timer")

    def __init__(self, call_id: str, place: Place | None) -> None:
        self.call_id = call_id
        self.place = place
        """Of a flow on which keep-alives are expected; None: we ask."""
        self.asked = 0
        """OPTIONS sent."""
        self.timer: Timer | None = None


class KeepAlive:
    """`begin` and `end` are called by the registrar for each binding, `heard` for each keep-alive that comes."""

    def __init__(
        self, settings: Settings, wire: Wire, timers: Timers, events: Events, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._settings = settings
        self._wire = wire
        self._timers = timers
        self._events = events
        self._random = random_bytes
        self._kept: dict[str, Kept] = {}
        """By the binding's key."""
        self._heard: dict[Place, float] = {}
        """When the last keep-alive came over a flow that has bindings of its own; 0: none yet."""
        self._bindings_on: dict[Place, int] = {}
        self.on_silent: Callable[[Binding, float], None] = lambda binding, now: None
        """Told of a binding whose flow is dead."""

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, binding: Binding, now: float) -> None:
        """Look after a new binding, or one that was registered again."""
        self.end(binding)
        seconds = self._seconds(binding)
        if not seconds:
            return
        place = binding.flow[:3] if binding.outbound else None
        kept = self._kept[binding.key] = Kept(f"{UNTRACED}{self._wire.token(16)}", place)
        if place is not None:
            self._bindings_on[place] = self._bindings_on.get(place, 0) + 1
            self._heard.setdefault(place, 0.0)
            kept.timer = self._timers.set(now + seconds, lambda at: self._listen(binding, kept, at))
        else:
            first = seconds * int.from_bytes(self._random(2)) / 65536  # so that not all are asked at once
            kept.timer = self._timers.set(now + first, lambda at: self._ask(binding, kept, at))

    def end(self, binding: Binding) -> None:
        """A binding is gone, or another stands in its place."""
        kept = self._kept.pop(binding.key, None)
        if kept is None:
            return
        self._timers.cancel(kept.timer)
        if kept.place is not None:
            self._bindings_on[kept.place] -= 1
            if not self._bindings_on[kept.place]:
                del self._bindings_on[kept.place], self._heard[kept.place]

    def heard(self, flow: Flow, now: float) -> None:
        """A keep-alive came: STUN or line ends (RFC 5626 4.4)."""
        if flow[:3] in self._heard:
            self._heard[flow[:3]] = now

    def answered(self, response: Message) -> bool:
        """Whether a response to no transaction is to one of our questions."""
        ours = response.method == "OPTIONS" and response.call_id.startswith(UNTRACED)
        if ours:
            self._events.count("keepalives.answered")
        return ours

    def flow_timer(self, flow: Flow) -> int:
        """Seconds in which a phone is to send a keep-alive over its flow (RFC 5626 5.4): more often over UDP, as NATs
        forget it soon."""
        settings = self._settings
        return settings.flow_timer if flow.reliable else settings.flow_timer_udp

    def _seconds(self, binding: Binding) -> float:
        """How often to look after a binding; 0: never."""
        if binding.outbound:
            return SILENT_AFTER * self.flow_timer(binding.flow) + GRACE
        return self._settings.nat_ping if is_behind_nat(binding) else 0.0

    def _listen(self, binding: Binding, kept: Kept, now: float) -> None:
        """A flow that never sent a keep-alive is left alone: its phone keeps it in another way, or not at all."""
        last, seconds = self._heard[binding.flow[:3]], self._seconds(binding)
        if last and now - last >= seconds:
            self._events.count("keepalives.missed")
            self.on_silent(binding, now)
            return
        at = last + seconds if last else now + seconds
        kept.timer = self._timers.set(at, lambda then: self._listen(binding, kept, then))

    def _ask(self, binding: Binding, kept: Kept, now: float) -> None:
        kept.timer = self._timers.set(now + self._seconds(binding), lambda at: self._ask(binding, kept, at))
        kept.asked += 1
        self._events.count("keepalives.asked")
        wire, flow = self._wire, binding.flow
        own = f"<sip:{wire.hostport(flow)}>"
        request = build.request(
            "OPTIONS",
            target_of(binding.contact),
            [
                ("Via", wire.via(flow, wire.branch())),
                ("Max-Forwards", "70"),
                *(("Route", value) for value in binding.path),
                ("From", f"{own};tag={kept.call_id[len(UNTRACED) :]}"),
                ("To", f"<{target_of(binding.contact)}>"),
                ("Call-ID", kept.call_id),
                ("CSeq", f"{kept.asked} OPTIONS"),
                ("Contact", own),
            ],
        )
        wire.send(request, flow)


def is_behind_nat(binding: Binding) -> bool:
    """Whether a phone over UDP is not where its Contact says (RFC 3581), so that only traffic keeps the way there
    open."""
    contact = Uri.parse(binding.contact)
    there = contact.host, contact.port or 5060
    return binding.flow.transport == "udp" and not binding.path and there != (binding.flow.host, binding.flow.port)
