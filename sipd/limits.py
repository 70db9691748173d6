"""Concurrent calls and calls per second, per tenant, connection and user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sipd.routing.model import Limits

Scope = tuple[str, str, str]
"""("installation" | "tenant" | "connection" | "user" | "forward", id of the tenant, id in it)."""

MAX_BUCKETS = 100_000
"""Rate buckets kept; idle ones are dropped first when there are more."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Which limit refused, and with what (wire.md: 486 for a user, 503 with Retry-After else)."""

    rule: str
    status: int
    retry_after: int


class CallLimits:
    """Counts calls in progress; a call takes all its scopes or none."""

    def __init__(self) -> None:
        self._calls: Counter[Scope] = Counter()
        self._buckets: dict[Scope, tuple[float, float]] = {}

    def take(self, scopes: Iterable[tuple[Scope, Limits]], now: float) -> LimitReached | None:
        """Count one more call in each scope, or say which limit stands against it."""
        wanted = list(scopes)
        for scope, limits in wanted:
            if limits.calls is not None and self._calls[scope] >= limits.calls:
                user = scope[0] == "user"
                return LimitReached(f"{scope[0]}-calls", 486 if user else 503, 0 if user else 10)
        for scope, limits in wanted:
            if limits.calls_per_second is not None and self._level(scope, limits.calls_per_second, now) < 1.0:
                return LimitReached(f"{scope[0]}-rate", 503, 1)
        for scope, limits in wanted:
            self._calls[scope] += 1
            if limits.calls_per_second is not None:
                level = self._level(scope, limits.calls_per_second, now)
                self._buckets[scope] = (level - 1.0, now)
        self._sweep(now)
        return None

    def resume(self, scopes: Iterable[Scope]) -> None:
        """Count a call from before a restart, whatever the limits say."""
        self._calls.update(scopes)

    def give_back(self, scopes: Iterable[Scope]) -> None:
        """A call ended."""
        for scope in scopes:
            self._calls[scope] -= 1
            if self._calls[scope] <= 0:
                del self._calls[scope]

    def _level(self, scope: Scope, per_second: int, now: float) -> float:
        """Tokens in the bucket: refilled at the rate, at most one second's worth."""
        level, then = self._buckets.get(scope, (float(per_second), now))
        return min(float(per_second), level + (now - then) * per_second)

    def _sweep(self, now: float) -> None:
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets = {s: bucket for s, bucket in self._buckets.items() if now - bucket[1] < 1.0}
