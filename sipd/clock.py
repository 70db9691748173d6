"""The daemon's clock: its own time for timers, which only runs on, and the wall clock, which people may set.

Own time is epoch seconds too. It begins as the wall clock, goes on steadily whatever is done to that, and across
restarts: what was stored with a time means the same after one (`Clock.go_on`). `ahead` says by how much the wall
clock differs from it: for the times that people read, and for business hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

STEP_SECONDS = 0.5
"""A wall clock that differs by more than it did has been set; less is its drift."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def steady() -> float:
    """Seconds since the machine was started, time suspended included: what a peer has waited, we have waited too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Names the time since the machine was started; empty where the system does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class Kept(NamedTuple):
    """What is stored of a clock, for the next start."""

    boot: str
    """`boot_id`: as long as it is the same, `steady` has run on."""
    base: float
    """Own time when `steady` was 0."""
    ahead: float
    seen: float
    """Own time at which this was stored."""


class Clock:
    """`wall` is the clock that people set; `since_boot` the one that nobody sets."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = steady,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._wall = wall
        self._steady = since_boot
        self._boot = boot()
        self._base = wall() - since_boot()
        self.ahead = 0.0
        """Seconds from own time to the wall clock's."""

    def now(self) -> float:
        """Own time: epoch seconds that never go back."""
        return self._base + self._steady()

    def shown(self) -> float:
        """The wall clock's time, as far as it was looked at: for people."""
        return self.now() + self.ahead

    def go_on(self, kept: Kept) -> None:
        """Go on with the time of the process before; to be called before any time was taken from this.

        After a start of the machine only the wall clock can say how long it was off. When it says less than nothing, it
        is wrong, and no time has passed: who was granted an hour keeps what was left of it, and no more.
        """
        wall, since_boot = self._wall(), self._steady()
        same = kept.boot == self._boot != "" and kept.base + since_boot >= kept.seen
        base = kept.base if same else max(kept.seen, wall - kept.ahead) - since_boot
        self._base, self.ahead = base, kept.ahead
        self.look()

    def look(self) -> float:
        """By how many seconds the wall clock has been set since the last look; 0 when it was not."""
        found = self._wall() - self.now()
        step = found - self.ahead
        if abs(step) < STEP_SECONDS:
            return 0.0
        self.ahead = found
        return step

    def keep(self) -> Kept:
        """To be stored."""
        return Kept(self._boot, self._base, self.ahead, self.now())
