"""Two kinds of fault: theirs, which has an answer, and ours, which must be loud."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipd.message.message import Message


class BadMessage(Exception):
    """What we received breaks RFC 3261. A request is answered with `status`; a response is discarded."""

    def __init__(self, status: int, reason: str, message: Message | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        """What to answer: 400, 414, 501, 505, 513."""
        self.reason = reason
        """Names the fault, fit for the status line. Never holds bytes that were received."""
        self.message = message
        """As far as it was scanned, so that an answer can be built. None: there is nothing to answer."""

    def __str__(self) -> str:
        return f"{self.status} {self.reason}"


class LocalError(Exception):
    """Our own code asked for something that must never go on the wire. A bug, never their fault."""
