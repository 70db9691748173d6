"""What the service manager is told: started, ending, how it is, and that the loop still turns (sd_notify(3)).

Nothing is sent unless the manager asked for it with NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Datagrams to the service manager. What it does not take is lost: it stops nobody's calls."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._watched = mine and bool(environment.get("WATCHDOG_USEC"))
        self._said = ""
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def wanted(self) -> bool:
        """Whether there is a manager that listens."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """It can be reached now."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its files anew; `ready` follows."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=stopping")

    def turned(self, status: str) -> None:
        """The event loop has run its tick: to be called each second, and from there only."""
        news = [] if status == self._said else [f"STATUS={status}"]
        self._said = status
        self._say(*(["WATCHDOG=1"] if self._watched else []), *news)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *lines: str) -> None:
        if self._socket is not None and lines:
            with suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)
