"""Numbers of what the core does, for those who watch it (`sipd.metrics`): no name in them is a stranger's to choose."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

from sipd.message.build import REASONS
from sipd.methods import ALLOWED

METHODS = frozenset(ALLOWED)
"""Others are counted as `OTHER`."""
OTHER = "other"
CODES = frozenset(REASONS)
"""Others, which a PBX may have made up, are counted as their class: 4 is 4xx."""
MAX_REQUESTS = 5000
"""Different methods, codes and rules that are counted together; further ones as `OTHER`."""
MAX_RULES = 200
"""Different rules that are counted by name; further ones as `OTHER`. All are the core's own words."""
SETUP_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds from INVITE to ringing and to an answer."""
DURATION_BOUNDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds from answer to end."""
BUSY, NOBODY = frozenset((486, 600)), frozenset((408, 480))


class Histogram:
    """How often a value fell below each bound; the last count is of those above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class OfTenant:
    """What is counted for one tenant."""

    __slots__ = ("calls", "refusals")

    def __init__(self) -> None:
        self.calls = 0
        """Ended."""
        self.refusals = 0

    def add(self, other: OfTenant) -> None:
        self.calls += other.calls
        self.refusals += other.refusals


class Tally:
    """Counts since the start. The first `tenants` tenants that anything happens to have numbers of their own."""

    __slots__ = ("_most", "answering", "calls", "durations", "others", "refusals", "requests", "ringing", "tenants")

    def __init__(self, tenants: int = 0) -> None:
        self.requests: dict[tuple[str, int, str], int] = {}
        """By method, code of the final answer (0: none was given; 3 to 6: its class) and the rule that decided."""
        self.refusals: Counter[str] = Counter()
        """By rule."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """Ended, by direction and outcome."""
        self.ringing, self.answering = Histogram(SETUP_BOUNDS), Histogram(SETUP_BOUNDS)
        """From INVITE to the first sign of ringing, and to the answer."""
        self.durations = Histogram(DURATION_BOUNDS)
        self.tenants: dict[str, OfTenant] = {}
        """By id."""
        self.others = OfTenant()
        """All tenants that have no numbers of their own, together."""
        self._most = tenants

    def request(self, method: str, code: int, rule: str) -> None:
        """A request got its final answer, or, code 0, shall have none."""
        key = (method if method in METHODS else OTHER, code if code in CODES else code // 100, rule)
        count = self.requests.get(key, 0)
        if not count and len(self.requests) >= MAX_REQUESTS:
            key = (OTHER, 0, OTHER)
            count = self.requests.get(key, 0)
        self.requests[key] = count + 1

    def event(self, kind: str, tenant: str, rule: str, detail: Mapping[str, Any]) -> None:
        """What of the events counts here; the others are left alone."""
        if kind == "refused":
            self.refusals[rule if rule in self.refusals or len(self.refusals) < MAX_RULES else OTHER] += 1
            if tenant:
                self._of(tenant).refusals += 1
        elif kind == "call.ended":
            self.calls[detail["direction"], outcome(detail)] += 1
            self._of(tenant).calls += 1
            if detail["answered"] is not None:
                self.durations.note(detail["ended"] - detail["answered"])

    def has(self, tenant: str) -> bool:
        """Whether the tenant has numbers of its own, now at the latest if there is room."""
        if tenant in self.tenants:
            return True
        if len(self.tenants) >= self._most:
            return False
        self.tenants[tenant] = OfTenant()
        return True

    def _of(self, tenant: str) -> OfTenant:
        return self.tenants[tenant] if self.has(tenant) else self.others

    def keep(self, tenants: Container[str]) -> None:
        """Forget the names of those that the table has no more; their numbers go to the others."""
        for gone in [tenant for tenant in self.tenants if tenant not in tenants]:
            self.others.add(self.tenants.pop(gone))


def outcome(ended: Mapping[str, Any]) -> str:
    """How a call ended, of a `call.ended` event's detail: one of six words."""
    code: int = ended["code"]
    if ended["answered"] is not None:
        return "answered"
    if code == 487 or ended["by"] == "caller":
        return "cancelled"
    if code in BUSY:
        return "busy"
    if code in NOBODY:
        return "unanswered"
    return "failed" if code >= 500 else "refused"
