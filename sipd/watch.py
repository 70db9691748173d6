"""A node's watchers: the service manager, those who ask over HTTP, and who reads the log."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sipd.clock import Clock
from sipd.config import Config, read_token
from sipd.core import Core
from sipd.faults import Faults
from sipd.logs import EventLog
from sipd.message.grammar import bracketed
from sipd.net.http import HttpServer
from sipd.notify import Notifier
from sipd.reload import Reloader

log = logging.getLogger("sipd.watch")

Doc = dict[str, Any]


class Watch:
    """Told by the daemon of what happens. `status` is how the node is, `late` how many seconds its tick is overdue."""

    def __init__(
        self,
        config: Config,
        sock: socket.socket | None,
        clock: Clock,
        reloader: Reloader,
        status: Callable[[], Doc],
        late: Callable[[], float],
    ) -> None:
        """`sock` is bound for HTTP; None: nobody may ask. Raises ConfigError for a token that cannot be used."""
        self._reloader = reloader
        self._status = status
        self._late = late
        self._notifier = Notifier()
        self._token = read_token(config.metrics_token_file) if config.metrics_token_file else ""
        self._socket = sock
        self._server: HttpServer | None = None
        self.lines = EventLog(clock.now, self._named, calls=config.log_calls)
        """Lines of the log for what the core tells."""

    async def serve(
        self, core: Core, certificates: Callable[[], Mapping[str, float]], counters: dict[str, int], faults: Faults
    ) -> None:
        """Answer over HTTP from now on, if that is wanted; the node need not be ready."""
        if self._socket is None:
            return
        from sipd.scrape import Scrape  # the library takes a while to load, and is not needed without this

        def left() -> dict[str, float]:
            now = time.time()
            return {path: round(end - now) for path, end in certificates().items()}

        scrape = Scrape(core, self._status, lambda: self._reloader.running.compiled, left, self._late, self._token)
        self._server = HttpServer(scrape.handle, counters, faults.note)
        await self._server.listen(self._socket)
        host, port = self._socket.getsockname()[:2]
        log.info("metrics at=http://%s:%d/metrics", bracketed(host), port)

    def take(self, events: Sequence[Doc]) -> None:
        """What happened."""
        self.lines.take(events)

    def started(self) -> None:
        """The node can be reached; also to be called after `reloading`."""
        if self._notifier.wanted:
            self._notifier.ready(self._line())

    def reloading(self) -> None:
        self._notifier.reloading()

    def tick(self) -> None:
        """Each second, from the event loop's own timer."""
        self.lines.tick()
        if self._notifier.wanted:
            self._notifier.turned(self._line())

    def stopping(self) -> None:
        """The node ends; the watchdog waits no longer."""
        self._notifier.stopping()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        self._notifier.close()

    def _line(self) -> str:
        """For `systemctl status`."""
        status = self._status()
        state = "ready" if status["ready"] else "not ready: " + ", ".join(status["not_ready"])
        return f"{state}; table version {status['version']}, {status['vitals'].get('calls', 0)} calls in progress"

    def _named(self, tenant: str) -> str:
        index = self._reloader.running.compiled.tenants.get(tenant)
        return index.tenant.slug if index is not None else tenant
