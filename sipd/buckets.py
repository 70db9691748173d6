"""Bounded counts by key: token buckets, and the bytes that strangers are owed."""

from __future__ import annotations

from collections.abc import Hashable

MOST_KEYS = 100_000
"""Keys of one kind that are counted; the one used longest ago makes room."""
MOST_OWED = 65_535
"""Bytes that one stranger can save up."""
ACCOUNT_LIFE = 3600.0
"""Seconds without a word after which a stranger's account is forgotten."""
DROPS = 2
"""Entries that are over, dropped for each new one: more than come, and no pause."""


class Buckets:
    """Token buckets by key, the one used longest ago first. One that is full again is as good as none."""

    __slots__ = ("_burst", "_full_after", "_levels", "_most", "_rate")

    def __init__(self, rate: float, burst: float, most: int = MOST_KEYS) -> None:
        """`rate` tokens a second, `burst` at most."""
        self._rate, self._burst, self._most = rate, burst, most
        self._full_after = burst / rate
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, key: Hashable, now: float, cost: float = 1.0) -> bool:
        """Take `cost` tokens, or none when there are not so many; whether there were."""
        levels = self._levels
        held = levels.pop(key, None)  # so that it becomes the last
        level = self._burst if held is None else self._refilled(held, now)
        enough = level >= cost
        levels[key] = (level - cost if enough else level, now)
        for _ in range(DROPS):
            oldest = next(iter(levels))
            if len(levels) <= self._most and levels[oldest][1] + self._full_after > now:
                break
            del levels[oldest]
        return enough

    def level(self, key: Hashable, now: float) -> float:
        """Tokens that are there."""
        held = self._levels.get(key)
        return self._burst if held is None else self._refilled(held, now)

    def _refilled(self, held: tuple[float, float], now: float) -> float:
        level, then = held
        return min(self._burst, level + (now - then) * self._rate)

    def forget(self, key: Hashable) -> None:
        """It is full again."""
        self._levels.pop(key, None)


class Account:
    """What one stranger may still be sent."""

    __slots__ = ("answered", "at", "owed")

    def __init__(self, answered: bool, now: float) -> None:
        self.answered = answered
        """Whether it had its first answer, which may be larger than what it asked."""
        self.owed = 0
        """Bytes that it sent and did not get back."""
        self.at = now


class Accounts:
    """Bytes that came from each stranger over UDP, where a source can be forged, against bytes that went there.

    After its first answer, nobody gets more than came in its name (compare RFC 9000 section 8.1).
    """

    def __init__(self, most: int = MOST_KEYS) -> None:
        self._most = most
        self._accounts: dict[str, Account] = {}
        self._no_gifts_until = 0.0
        """Accounts had to make room: who seems new may be one of them, and gets no larger first answer."""

    def __len__(self) -> int:
        return len(self._accounts)

    def heard(self, place: str, size: int, now: float) -> None:
        """Bytes came."""
        account = self._account(place, now)
        account.owed = min(MOST_OWED, account.owed + size)

    def affords(self, place: str, size: int, now: float) -> bool:
        """Whether so many bytes may go there."""
        account = self._accounts.get(place)
        if account is None:
            return now >= self._no_gifts_until
        return not account.answered or account.owed >= size

    def pay(self, place: str, size: int, now: float) -> bool:
        """Bytes are about to go there; whether they may."""
        account = self._account(place, now)
        if not account.answered:
            account.answered = True
            return True
        if account.owed < size:
            return False
        account.owed -= size
        return True

    def close(self, place: str) -> None:
        """It is no stranger any more."""
        self._accounts.pop(place, None)

    def _account(self, place: str, now: float) -> Account:
        accounts = self._accounts
        account = accounts.pop(place, None) or Account(now < self._no_gifts_until, now)
        account.at = now
        accounts[place] = account
        for _ in range(DROPS):
            oldest = next(iter(accounts))
            if accounts[oldest].at + ACCOUNT_LIFE > now:
                if len(accounts) <= self._most:
                    break
                self._no_gifts_until = now + ACCOUNT_LIFE
            del accounts[oldest]
        return account
