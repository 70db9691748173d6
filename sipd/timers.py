"""All timers of the core in one heap, so that the shell needs to arm only one."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Timer:
    """Handle of one timer; only to be given to `Timers.cancel`."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[float], None]) -> None:
        self.when = when
        """Epoch seconds."""
        self.callback: Callable[[float], None] | None = callback
        """None once it has fired or was cancelled."""


class Timers:
    """Cancelled timers stay in the heap until they are due, or until they are more than half of it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._set = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Timers that will fire."""
        return len(self._heap) - self._cancelled

    def set(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Call `callback(now)` at `when`. Timers of the same moment fire in the order in which they were set."""
        timer = Timer(when, callback)
        self._set += 1
        heapq.heappush(self._heap, (when, self._set, timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Allowed at any time, also for a timer that has fired."""
        if timer is None or timer.callback is None:
            return
        timer.callback = None
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def fire(self, now: float) -> None:
        """Run all that are due. One that is set meanwhile waits for the next call, so that this one ends."""
        last = self._set
        due = []
        try:
            while self._heap and self._heap[0][0] <= now:
                entry = heapq.heappop(self._heap)
                if entry[1] > last:
                    due.append(entry)
                    continue
                timer = entry[2]
                callback, timer.callback = timer.callback, None
                if callback is None:
                    self._cancelled -= 1
                else:
                    callback(now)
        finally:  # one that raises takes no other along
            for entry in due:
                heapq.heappush(self._heap, entry)

    def next(self) -> float | None:
        """When `fire` has something to do; None: never."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None
