"""Guards against toll fraud: how often each user calls expensive numbers, in any 60 minutes, across restarts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sipd.events import Events
from sipd.routing.guards import guards_for
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import Guard
from sipd.timers import Timers

HOUR = 3600.0
SLOT = 60.0
"""Calls are counted by the minute: a minute that began within the last hour counts whole, so that no 60 minutes have
more calls than the guard says."""
MOST_COUNTS = 200_000
"""Users and prefixes that are counted. Beyond, guarded calls of further ones are refused."""
KIND = "toll"
"""Of the records in the store."""

Key = tuple[str, str, str]
"""Ids of a tenant and of a user in it ("" for calls that no user pays), and the guard's prefix."""


class Stopped(NamedTuple):
    """The guard that stands against a call."""

    guard: Guard
    calls: int
    """Calls of the last 60 minutes."""
    closed: bool
    """It is outside of the guard's business hours."""


class TollGuard:
    """Counts calls to guarded numbers, each for who pays it."""

    def __init__(self, timers: Timers, events: Events) -> None:
        self._timers = timers
        self._events = events
        self._calls: dict[Key, dict[int, int]] = {}
        """Calls in each minute since the epoch."""

    def __len__(self) -> int:
        return len(self._calls)

    def take(
        self, table: Compiled, index: TenantIndex, user: str, numbers: Iterable[str], now: float
    ) -> Stopped | None:
        """Count a call that `user` pays with all guards that are for it, or say which one stands against it."""
        guards = (*index.tenant.guards, *table.installation.guards)
        meant = guards_for(guards, numbers) if guards else []
        for guard in meant:
            key = (index.tenant.id, user, guard.prefix)
            count = self._count(key, now)
            closed = bool(guard.schedule) and not index.open(guard.schedule, self._events.wall(now))
            full = key not in self._calls and len(self._calls) >= MOST_COUNTS
            if closed or full or count >= guard.calls_per_hour:
                return Stopped(guard, count, closed)
        for prefix in {guard.prefix for guard in meant}:  # a tenant and its provider may guard the same one
            self._add((index.tenant.id, user, prefix), now)
        return None

    def restore(self, record: dict[str, Any], now: float) -> None:
        """Take back a count from the store."""
        key = (str(record["tenant"]), str(record["user"]), str(record["prefix"]))
        self._keep(key, {int(minute): int(count) for minute, count in record["minutes"].items()}, now)

    def restate(self) -> None:
        """Note all counts once more, as changes."""
        for key in self._calls:
            self._note(key)

    def _count(self, key: Key, now: float) -> int:
        minutes = self._calls.get(key, {})
        for minute in [minute for minute in minutes if (minute + 1) * SLOT + HOUR <= now]:
            del minutes[minute]
        return sum(minutes.values())

    def _add(self, key: Key, now: float) -> None:
        minute, minutes = int(now // SLOT), self._calls.get(key)
        if minutes is None:
            self._keep(key, {minute: 1}, now)
        else:
            minutes[minute] = minutes.get(minute, 0) + 1
        self._note(key)

    def _keep(self, key: Key, minutes: dict[int, int], now: float) -> None:
        self._calls[key] = minutes
        self._timers.set(now + HOUR + 2 * SLOT, lambda at: self._forget(key, at))

    def _forget(self, key: Key, now: float) -> None:
        """Drop a count when an hour has passed without a call."""
        if self._count(key, now):
            self._timers.set(now + HOUR, lambda at: self._forget(key, at))
            return
        del self._calls[key]
        self._events.change(KIND, " ".join(key), None)

    def _note(self, key: Key) -> None:
        tenant, user, prefix = key
        minutes = {str(minute): count for minute, count in self._calls[key].items()}
        record = {"tenant": tenant, "user": user, "prefix": prefix, "minutes": minutes}
        self._events.change(KIND, " ".join(key), record)
