"""Our own faults: each costs the one message that met it, and is loud."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("sipd.faults")

FAULT_LOG_SECONDS = 1.0
"""At most one traceback in this time; all faults are counted."""


class Faults:
    """Calls what may raise, counts and logs what it raises."""

    def __init__(self, counters: dict[str, int]) -> None:
        self._counters = counters
        self._logged = 0.0
        counters.setdefault("shell.faults", 0)

    def tell(self, what: str, call: Callable[..., None], *arguments: object) -> None:
        """Call it; `what` names it in the log."""
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - `note` is loud about it
            self.note(what, error)

    def note(self, what: str, error: BaseException) -> None:
        """A fault that was caught elsewhere."""
        self._counters["shell.faults"] += 1
        now = time.monotonic()
        if now - self._logged >= FAULT_LOG_SECONDS:
            self._logged = now
            log.error("fault in the core at=%s faults=%d", what, self._counters["shell.faults"], exc_info=error)
