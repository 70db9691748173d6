"""Bans of sources: they grow with each offence, and all of them end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sipd.buckets import DROPS
from sipd.events import Events
from sipd.settings import Settings
from sipd.timers import Timer, Timers

MOST_BANS = 100_000
"""Bans in force, and former ones that are remembered; the oldest makes room."""
EVENTS_PER_MINUTE = 60
"""Events of bans and of their ends; all are counted."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A source that gets no answer for a while."""

    since: float
    until: float
    """Epoch seconds."""
    reason: str
    """The rule of its last offence."""
    times: int
    """How often it was banned, without long good behaviour in between."""
    everywhere: bool
    """Over all transports. Else over UDP only: the offences came from where a source can be forged."""
    timer: Timer


class Bans:
    """All bans in force, by place."""

    def __init__(self, settings: Settings, timers: Timers, events: Events, forgiven: Callable[[str], None]) -> None:
        """`forgiven` is told of each place whose ban ends."""
        self._settings = settings
        self._timers = timers
        self._events = events
        self._forgiven = forgiven
        self.in_force: dict[str, Ban] = {}
        """By place."""
        self._past: dict[str, tuple[int, float]] = {}
        """Of those that ended: how many, and when the last one did."""
        self._told = (0.0, 0)
        """Events of this minute: since when, and how many."""

    def begin(self, place: str, reason: str, now: float, *, everywhere: bool) -> None:
        """Ban a place, each time for longer; one that is banned over UDP may become banned everywhere."""
        old = self.in_force.pop(place, None)
        times, ended = self._past.pop(place, (0, now))
        if now - ended > self._settings.ban_forget:
            times = 0
        if old is not None:
            times = old.times
            self._timers.cancel(old.timer)
        seconds = min(self._settings.mute_time * 2.0 ** min(times, 30), self._settings.ban_longest)
        timer = self._timers.set(now + seconds, lambda at: self._expire(place, at))
        self.in_force[place] = Ban(now, now + seconds, reason, times + 1, everywhere, timer)
        self._events.count("guard.bans")
        self._tell("source.banned", now, source=place, reason=reason, seconds=round(seconds), times=times + 1)
        if len(self.in_force) > MOST_BANS:
            self.end(next(iter(self.in_force)), "room", now)

    def end(self, place: str, reason: str, now: float) -> bool:
        """Lift a ban; whether there was one."""
        ban = self.in_force.pop(place, None)
        if ban is None:
            return False
        self._timers.cancel(ban.timer)
        if reason != "operator":  # whom a person forgives begins anew
            self._past[place] = (ban.times, now)
        self._forget_past(now)
        self._forgiven(place)
        self._tell("source.unbanned", now, source=place, reason=reason)
        return True

    def describe(self) -> list[dict[str, Any]]:
        """docs/architecture.md, `bans`."""
        wall = self._events.wall
        return [
            {"source": place, "since": wall(ban.since), "until": wall(ban.until), "reason": ban.reason,
             "times": ban.times}
            for place, ban in self.in_force.items()
        ]  # fmt: skip

    def _expire(self, place: str, now: float) -> None:
        self.end(place, "time", now)

    def _forget_past(self, now: float) -> None:
        """Of who has behaved for long, some at a time: the first ended first."""
        for place, (_, ended) in list(islice(self._past.items(), DROPS)):
            if len(self._past) > MOST_BANS or now - ended > self._settings.ban_forget:
                del self._past[place]

    def _tell(self, kind: str, now: float, **detail: Any) -> None:
        since, number = self._told
        if now - since >= 60:
            since, number = now, 0
        self._told = (since, number + 1)
        if number < EVENTS_PER_MINUTE:
            self._events.add(now, kind, **detail)
        else:
            self._events.count(f"{kind}.untold")
