"""Things that fall due a fixed time after they began: start, drop and sweep cost the same for any number."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Keys with the time each falls due, the earliest first; all wait equally long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def start(self, key: T, now: float) -> None:
        """Begin waiting for `key`, unless that has begun already."""
        if key not in self._due:
            self._due[key] = now + self.seconds

    def restart(self, key: T, now: float) -> None:
        """Begin waiting for `key` anew."""
        self._due.pop(key, None)
        self._due[key] = now + self.seconds

    def drop(self, key: T) -> None:
        """Wait for `key` no longer."""
        self._due.pop(key, None)

    def take_due(self, now: float) -> list[T]:
        """The keys whose time has come; they are dropped."""
        due = []
        for key, at in self._due.items():
            if at > now:
                break
            due.append(key)
        for key in due:
            del self._due[key]
        return due
