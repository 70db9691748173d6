"""Host names to addresses, away from the event loop. Literal addresses never come here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from sipd.flow import Answer, Query, Target
from sipd.net.threads import DaemonThreads

RESOLVE_SECONDS = 5.0
"""After that the look-up counts as failed, whatever the C library still does."""
THREADS = 4
QUEUE_LIMIT = 1000
"""Look-ups under way or waiting; further ones fail at once."""
ADDRESS_LIMIT = 16
"""Addresses handed on from one answer."""
DEFAULT_PORT = 5060
TYPES = {"udp": socket.SOCK_DGRAM}
"""Socket type by transport; streams for all others."""


class Resolver:
    """Answers each query once by `answered(query, answer)`."""

    def __init__(self, answered: Callable[[Query, Answer], None], counters: dict[str, int]) -> None:
        self._answered = answered
        self._counters = counters
        self._threads = DaemonThreads(THREADS, "resolve")
        self._tasks: set[asyncio.Task[None]] = set()
        for name in ("resolve.started", "resolve.failed"):
            counters.setdefault(name, 0)

    def start(self, query: Query) -> None:
        """Look the host up; the answer comes later, never from within this call."""
        self._counters["resolve.started"] += 1
        loop = asyncio.get_running_loop()
        if len(self._tasks) >= QUEUE_LIMIT:
            self._counters["resolve.failed"] += 1
            loop.call_soon(self._answered, query, Answer())
            return
        task = loop.create_task(self._look_up(query))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Forget what is under way; nothing is answered any more."""
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown()

    async def _look_up(self, query: Query) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await loop.run_in_executor(self._threads, look_up, query)
        except (OSError, UnicodeError, TimeoutError):
            self._counters["resolve.failed"] += 1
            addresses = []
        targets = tuple(Target(host, query.port or DEFAULT_PORT, query.transport) for host in addresses)
        self._answered(query, Answer(targets, 30.0))


def look_up(query: Query) -> list[str]:
    """Addresses in the system's order of preference, each once; blocks. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(
        query.host, query.port or DEFAULT_PORT, type=TYPES.get(query.transport, socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:ADDRESS_LIMIT]
