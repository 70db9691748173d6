"""What is due at once, to be looked at a few at a time, so that ten thousand do not hold up the loop."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from sipd.timers import Timer, Timers

BATCH = 500
"""Registrations that are looked at in one turn of the loop when many are due at once."""
BATCH_PAUSE = 0.02
"""Seconds between two of these turns."""

Item = TypeVar("Item")


class Backlog(Generic[Item]):
    """Calls `look(item, now)` for each item, in the order in which they were added."""

    def __init__(self, timers: Timers, look: Callable[[Item, float], None]) -> None:
        self._timers = timers
        self._look = look
        self._items: dict[Item, None] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: Item) -> bool:
        return item in self._items

    def add(self, item: Item) -> None:
        """In the next turn of the loop, or one of those that follow."""
        self._items[item] = None
        if self._timer is None:
            self._timer = self._timers.set(0.0, self._work)

    def discard(self, item: Item) -> None:
        """No more; allowed for what is not there."""
        self._items.pop(item, None)

    def _work(self, now: float) -> None:
        batch = list(islice(self._items, BATCH))
        for item in batch:
            del self._items[item]
        self._timer = self._timers.set(now + BATCH_PAUSE, self._work) if self._items else None
        for item in batch:
            self._look(item, now)
