"""The daemon's clock."""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds that never go back: the wall clock once, plus a monotonic clock."""

    def __init__(self) -> None:
        self.base = time.time() - time.monotonic()

    def now(self) -> float:
        return self.base + time.monotonic()
