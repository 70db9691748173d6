"""Emptying a node: new calls are refused, those in progress go on until they end, or for so long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sipd.core import Core

RETRY_AFTER = 30
"""Seconds after which whoever was refused may try again (RFC 3261 20.33): by then a restart is done."""
LOOK_SECONDS = 0.1
"""How often a stop looks whether the calls have ended."""
GOODBYE_SECONDS = 2.0
"""For the last BYEs to be answered, and to be sent again when they were lost, before a stop is done."""
REASON = "Node Is Stopping"
"""Of the BYE to those who are left."""

Doc = dict[str, Any]


class Drain:
    """Whether new calls are taken. `clock` is the core's; `note` takes an event; `acted` is called when the core wants
    to send."""

    def __init__(
        self, core: Core, clock: Callable[[], float], note: Callable[[str, Doc], None], acted: Callable[[], None]
    ) -> None:
        self._core = core
        self._clock = clock
        self._note = note
        self._acted = acted
        self.since: float | None = None
        """Since when new calls are refused, by `clock`; None: they are taken."""
        self._until: float | None = None
        """When those that are left are hung up; None: never."""

    @property
    def calls(self) -> int:
        """In progress."""
        return self._core.vitals()["calls"]

    def begin(self, seconds: float | None) -> None:
        """Refuse new calls from now on; hang up what is left after `seconds`, if that is not None."""
        now = self._clock()
        self._until = None if seconds is None else now + seconds
        if self.since is None:
            self.since = now
            self._core.refuse_calls(RETRY_AFTER)
            self._note("node.draining", {"calls": self.calls, "seconds": seconds})

    def resume(self) -> None:
        """Take new calls again."""
        if self.since is not None:
            self.since = self._until = None
            self._core.refuse_calls(0)
            self._note("node.resumed", {"calls": self.calls})

    def look(self) -> None:
        """To be called now and then."""
        if self._until is not None and self._clock() >= self._until:
            self._until = None
            self._core.hang_up_all(REASON, self._clock())
            self._acted()

    async def finish(self, seconds: float) -> None:
        """Return when there is no call left, in `seconds` and `GOODBYE_SECONDS` at the latest."""
        self.begin(seconds)
        if not self.calls:
            return
        while self.calls:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)
        end = self._clock() + GOODBYE_SECONDS
        while self._core.vitals()["client_transactions"] and self._clock() < end:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_SECONDS)

    def state(self) -> Doc:
        """docs/architecture.md, `status`."""
        now = self._clock()
        return {
            "draining": self.since is not None,
            "seconds": round(now - self.since, 3) if self.since is not None else 0.0,
            "left": round(max(0.0, self._until - now), 3) if self._until is not None else None,
            "calls": self.calls,
        }
