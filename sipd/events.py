"""What happened, for the spool: plain dicts, and counters beside them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sipd.tally import Tally
from sipd.trace import Tracer

Event = dict[str, Any]
Change = tuple[str, str, dict[str, Any] | None]
"""(kind, key, record): state for the store; None removes it."""

MAX_WAITING = 100_000
"""Events not yet taken by the shell. More are dropped and counted as `events.dropped`."""

TIMES = ("started", "answered", "ended")
"""What in an event's detail is a moment."""


def legible(text: str) -> str:
    """Text of a message, for records: what was no UTF-8 is replaced, as no database takes it."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Events:
    """The core's outbox: events and state changes, taken by the shell after each batch."""

    __slots__ = ("ahead", "changes", "counters", "tally", "tracer", "waiting")

    def __init__(self, tracer: Tracer | None = None, tally: Tally | None = None) -> None:
        self.tracer = tracer
        """Who is told of events, legs and steps as well; None: tracing is off."""
        self.ahead = 0.0
        """Seconds from the core's time, which runs on steadily, to the wall clock's, by which people read events."""
        self.waiting: list[Event] = []
        self.changes: list[Change] = []
        self.counters: Counter[str] = Counter()
        self.tally = Tally() if tally is None else tally

    def add(
        self,
        now: float,
        kind: str,
        *,
        tenant: str = "",
        connection: str = "",
        user: str = "",
        rule: str = "",
        **detail: object,
    ) -> None:
        """Append one event; empty keys are left out (docs/architecture.md lists the kinds)."""
        self.counters[kind] += 1
        self.tally.event(kind, tenant, rule, detail)
        if len(self.waiting) >= MAX_WAITING:
            self.counters["events.dropped"] += 1
            return
        for name, value in detail.items():
            if isinstance(value, str):
                detail[name] = legible(value)
            elif isinstance(value, list | tuple):
                detail[name] = [legible(each) if isinstance(each, str) else each for each in value]
        if self.ahead:  # all by the same difference: what lasted a minute, lasted a minute
            times = ((name, detail.get(name)) for name in TIMES)
            detail |= {name: self.wall(at) for name, at in times if isinstance(at, float)}
        event: Event = {"at": round(self.wall(now), 3), "kind": kind, "detail": detail}
        for key, value in (("tenant", tenant), ("connection", connection), ("user", user), ("rule", rule)):
            if value:
                event[key] = value
        self.waiting.append(event)
        if self.tracer is not None:
            self.tracer.event(event)

    def wall(self, at: float) -> float:
        """A moment of the core's, by the wall clock."""
        return at + self.ahead

    def leg(
        self, call_id: str, of: str, *, tenant: str = "", user: str = "", connection: str = "", call: bool = False
    ) -> None:
        """For the trace: a leg begins. It is one of `of`, a call's id (`call`: it begins the call) or the Call-ID of
        the leg that it goes on from.
        """
        if self.tracer is not None:
            self.tracer.leg(call_id, of, tenant, user, connection, call=call)

    def step(self, of: str, rule: str, sentence: str, *, passed: bool = True) -> None:
        """For the trace: what was done with a call, or with a request by its Call-ID, and by which rule."""
        if self.tracer is not None:
            self.tracer.step(of, rule, passed, sentence)

    def count(self, name: str) -> None:
        self.counters[name] += 1

    def change(self, kind: str, key: str, record: dict[str, Any] | None) -> None:
        """Note state that must survive a restart. Texts in it are `legible`."""
        self.changes.append((kind, key, record))

    def take_events(self) -> list[Event]:
        taken, self.waiting = self.waiting, []
        return taken

    def take_changes(self) -> list[Change]:
        taken, self.changes = self.changes, []
        return taken
