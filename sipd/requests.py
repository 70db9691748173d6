"""What can be asked of a running node, and its answers (docs/architecture.md, "Control channel")."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from sipd.control import Handler, RequestError, mapping, optional_text, text, whole
from sipd.reload import Reloader
from sipd.routing.model import FORMAT
from sipd.spool import READ_LIMIT, Spool

VERSION_LIMIT = 2**53 - 1
"""Highest version and cursor: what every JSON reader takes as a whole number."""

Doc = dict[str, Any]


class Asked(Protocol):
    """The part of the core that people ask."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    def registrations(self, tenant: str | None, now: float) -> Doc: ...

    def calls(self, tenant: str | None, now: float) -> list[Doc]: ...

    def renew(self, tenant: str, connection: str | None, now: float) -> int: ...


class Requests:
    """One method per request. `acted` is called after what makes the core want to send."""

    def __init__(
        self,
        node: str,
        core: Asked,
        reloader: Reloader,
        spool: Spool,
        counters: Mapping[str, int],
        clock: Callable[[], float],
        acted: Callable[[], None],
        reload_certificates: Callable[[], str] = str,
    ) -> None:
        self._node = node
        self._core = core
        self._reloader = reloader
        self._spool = spool
        self._counters = counters
        self._clock = clock
        self._acted = acted
        self._reload_certificates = reload_certificates
        self._started = clock()

    def handlers(self) -> dict[str, Handler]:
        """By the request's `do`."""
        return {
            "hello": self.hello,
            "status": self.status,
            "load": self.load,
            "events": self.events,
            "registrations": self.registrations,
            "calls": self.calls,
            "renew": self.renew,
            "reload-certificates": self.reload_certificates,
        }

    async def hello(self, request: Doc, began: float) -> Doc:
        return {"node": self._node, "format": FORMAT, "release": release()}

    async def status(self, request: Doc, began: float) -> Doc:
        running, refused = self._reloader.running, self._reloader.refused
        return {
            "version": running.version,
            "hash": running.hash,
            "since": running.since,
            "problems": refused.problems if refused else [],
            "refused_hash": refused.hash if refused else "",
            "uptime": round(self._clock() - self._started, 3),
            "counters": {**self._core.counters, **self._counters},
            "spool": self._spool.mark._asdict(),
        }

    async def load(self, request: Doc, began: float) -> Doc:
        number = whole(request, "version", 0, VERSION_LIMIT)
        return await self._reloader.load(number, mapping(request, "manifest"), mapping(request, "parts"), began)

    async def events(self, request: Doc, began: float) -> Doc:
        after = whole(request, "after", 0, VERSION_LIMIT)
        limit = whole(request, "limit", 1, VERSION_LIMIT, default=READ_LIMIT)
        try:
            self._spool.forget(after)
            events = self._spool.read(after, limit)
        except sqlite3.Error as error:
            raise RequestError(f"The spool cannot be read now ({error}); ask again.") from error
        return {"events": events, "next": events[-1]["id"] if events else after}

    async def registrations(self, request: Doc, began: float) -> Doc:
        return self._core.registrations(optional_text(request, "tenant"), self._clock())

    async def calls(self, request: Doc, began: float) -> Doc:
        return {"calls": self._core.calls(optional_text(request, "tenant"), self._clock())}

    async def renew(self, request: Doc, began: float) -> Doc:
        tenant, connection = text(request, "tenant"), optional_text(request, "connection")
        renewed = self._core.renew(tenant, connection, self._clock())
        self._acted()
        return {"renewed": renewed}

    async def reload_certificates(self, request: Doc, began: float) -> Doc:
        problem = self._reload_certificates()
        if problem:
            raise RequestError(f"{problem} The certificates in use stay.")
        return {}


def release() -> str:
    """Version of the installed package."""
    try:
        return version("tenantry")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"
