"""What a daemon does again and again, by one timer of its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sipd.faults import Faults
from sipd.vitals import Lag

TICK_SECONDS = 1.0
"""Between two looks at what is to be done."""


class Chores:
    """A fault in one of them is loud, and costs this one time."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._work: list[tuple[int, Callable[[], None]]] = []
        self._ticks = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.lag = Lag()

    def overdue(self) -> float:
        """Seconds since a tick should have come; 0 when it is on time."""
        return max(0.0, asyncio.get_running_loop().time() - self._due) if self._timer is not None else 0.0

    def every(self, ticks: int, work: Callable[[], None]) -> None:
        """Do this every so many ticks."""
        self._work.append((ticks, work))

    def start(self) -> None:
        """From now on."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + TICK_SECONDS
        self._timer = loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        """Allowed at any time."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.lag.note(asyncio.get_running_loop().time() - self._due)
        self.start()
        self._ticks += 1
        for ticks, work in self._work:
            if self._ticks % ticks == 0:
                self._faults.tell("chore", work)
