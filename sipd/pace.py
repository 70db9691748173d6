"""When registrations may be sent: in turn at each PBX, and spread over the time in which they are due.

A PBX address has a line of registrations that wait for their turn. Refreshes of what stands take turns with all the
rest, so that a table with many new users lets none lapse. Where nobody answers, the line stops: what is repeated to a
PBX that comes back must not be more than the pace. Refreshes to come are planned by the second.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sipd.flow import Place
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.transaction.layer import T2

CHOICES = 4
"""Random seconds of which the one with the fewest refreshes is taken."""
WINDOW = 100
"""The most sendings whose times are kept, so that a late timer is made up for and no second has more than the rate."""
CATCH_UP = 0.25
"""Seconds of lateness that are made up for."""
SILENCE = T2
"""Seconds: so far apart are requests repeated over UDP. At so many seconds of the rate in registrations without an
answer no more are sent, so that what is repeated has the rate at most; and after as long a silence a line that stopped
waits as long again, until all of these have come."""
GRAIN = 1e-6
"""Seconds: more than what epoch seconds in floating point lose."""

Item = TypeVar("Item")


class Line(Generic[Item]):
    """Who waits at one PBX address."""

    __slots__ = ("answered_at", "due", "flying", "others", "refreshes", "sent", "timer", "turn_of_others", "turning")

    def __init__(self, window: int, now: float) -> None:
        self.refreshes: OrderedDict[Item, None] = OrderedDict()
        self.others: OrderedDict[Item, None] = OrderedDict()
        self.turn_of_others = False
        self.due = now
        """When the next one may go, by the rate."""
        self.sent: deque[float] = deque(maxlen=window)
        self.flying = 0
        """How many were sent and have no answer yet."""
        self.answered_at = now
        self.timer: Timer | None = None
        self.turning = False
        """A turn is being taken: who joins or is done meanwhile leaves the rest to it."""

    def __len__(self) -> int:
        return len(self.refreshes) + len(self.others)

    def pop(self) -> Item:
        """Whose turn it is."""
        first, second = self.refreshes, self.others
        if self.turn_of_others:
            first, second = second, first
        self.turn_of_others = not self.turn_of_others
        return (first or second).popitem(last=False)[0]


class Pace(Generic[Item]):
    """The pace of each PBX address, `upstream_rate`, and of the node, `upstream_total_rate`.

    `turn(item, place, now)` is called when it is an item's turn; `done` is to be called when that is over.
    """

    def __init__(
        self,
        settings: Settings,
        timers: Timers,
        fraction: Callable[[], float],
        turn: Callable[[Item, Place, float], None],
    ) -> None:
        self._rate = settings.upstream_rate
        self._window = max(1, min(WINDOW, int(self._rate)))
        self._flight = max(2, int(self._rate * SILENCE))
        self._total_step = 1.0 / settings.upstream_total_rate
        self._timers = timers
        self._fraction = fraction
        self._turn = turn
        self._lines: dict[Place, Line[Item]] = {}
        self._where: dict[Item, Place] = {}
        self._flying: dict[Item, Place] = {}
        self._next_of_node = 0.0
        self._planned: Counter[tuple[Place, int]] = Counter()

    # -- turns

    def __contains__(self, item: Item) -> bool:
        """Whether it waits for its turn."""
        return item in self._where

    def out_at(self, item: Item) -> Place | None:
        """Where it has had its turn that is not over; None: it has none."""
        return self._flying.get(item)

    def join(self, place: Place, item: Item, now: float, *, refresh: bool) -> float:
        """Wait for a turn at this PBX; about when that is. Who waits there already keeps its turn.

        Where nobody waits, and nobody was sent just now, the turn comes before this returns.
        """
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = Line(self._window, now)
        if self._where.get(item) != place:
            self.leave(item)
            self._where[item] = place
            (line.refreshes if refresh else line.others)[item] = None
        if line.timer is None and not line.turning:
            self._go_on(place, line, now)
        return max(now, line.due) + max(0, len(line) - 1) / self._rate

    def leave(self, item: Item) -> None:
        """Wait no more; allowed for who does not."""
        place = self._where.pop(item, None)
        if place is not None:
            self._lines[place].refreshes.pop(item, None)
            self._lines[place].others.pop(item, None)

    def done(self, item: Item, now: float, *, answered: bool) -> None:
        """What its turn was for is over; allowed for who had none."""
        place = self._flying.pop(item, None)
        if place is None:
            return
        line = self._lines[place]
        line.flying -= 1
        if answered:
            stopped = line.flying + 1 >= self._flight
            if stopped and place[0] == "udp" and now - line.answered_at > SILENCE:
                line.due = max(line.due, now + SILENCE)
            line.answered_at = now
        if line.timer is None and not line.turning:
            self._go_on(place, line, now)

    def _go_on(self, place: Place, line: Line[Item], now: float, *, reserved: bool = False) -> None:
        """Those whose turn it is; then wait for the next turn. A line where nobody waits is forgotten when the pace
        would allow one. `reserved`: the first has its moment in the node's pace."""
        line.timer = None
        while line.timer is None and line.flying < self._flight:
            at = max(line.due, 0.0 if reserved or not line else self._next_of_node)
            if len(line.sent) == self._window:
                at = max(at, line.sent[0] + self._window / self._rate + GRAIN)
            if at > now:
                self._wake_at(at, place, line, now, reserved=reserved)
            elif line:
                if not reserved:
                    self._reserve(now)
                reserved = False
                self._take_turn(place, line, now)
            else:
                if not line.flying:
                    del self._lines[place]
                return

    def _wake_at(self, at: float, place: Place, line: Line[Item], now: float, *, reserved: bool) -> None:
        if line and not reserved:
            self._reserve(now)
            reserved = True
        line.timer = self._timers.set(at, lambda fired: self._go_on(place, line, fired, reserved=reserved))

    def _reserve(self, now: float) -> None:
        self._next_of_node = max(now, self._next_of_node) + self._total_step

    def _take_turn(self, place: Place, line: Line[Item], now: float) -> None:
        item = line.pop()
        del self._where[item]
        self._flying[item] = place
        line.flying += 1
        line.sent.append(now)
        line.due = max(line.due, now - CATCH_UP) + 1.0 / self._rate
        line.turning = True
        try:
            self._turn(item, place, now)
        except Exception:  # the others wait for no fault of theirs
            self.done(item, now, answered=False)
            self._wake_at(max(now, line.due), place, line, now, reserved=False)
            raise
        finally:
            line.turning = False

    # -- seconds

    def choose(self, place: Place, earliest: float, latest: float) -> float:
        """A moment between these, in the emptiest of a few random seconds; to be given to `note`."""
        moments = [earliest + (latest - earliest) * self._fraction() for _ in range(CHOICES)]
        return min(moments, key=lambda moment: self._planned.get((place, int(moment)), 0))

    def note(self, place: Place, at: float) -> None:
        """One more is planned for then; to be given back with `forget`."""
        self._planned[place, int(at)] += 1

    def forget(self, place: Place, at: float) -> None:
        """What was planned for then has come, or will not."""
        key = place, int(at)
        self._planned[key] -= 1
        if self._planned[key] <= 0:
            del self._planned[key]
