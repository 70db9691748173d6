"""What can be asked of a running node, and its answers (docs/architecture.md, "Control channel")."""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sipd.clock import Clock
from sipd.config import DRAIN_LIMIT
from sipd.control import Handler, RequestError, mapping, optional_text, text, whole
from sipd.core import Asked
from sipd.drain import Drain
from sipd.net.threads import DaemonThreads
from sipd.redact import BODIES
from sipd.reload import Reloader
from sipd.routing.model import FORMAT
from sipd.spool import READ_LIMIT
from sipd.store import Store
from sipd.trace import KINDS, Trace
from sipd.traces import FIND_LIMIT, Kept, TraceStore, Wanted

VERSION_LIMIT = 2**53 - 1
"""Highest version and cursor: what every JSON reader takes as a whole number."""

Doc = dict[str, Any]


HANG_UP_CODE, HANG_UP_REASON = 480, "Hung Up By The Operator"
"""What the caller is answered when nobody has answered the call yet."""
REASON_LENGTH = 100
MOMENTS = ("since", "next", "expires")
"""What in a row is a time of the core's."""
PREFIX_LENGTH = 8
"""Characters of an id that do to find a trace by, when there is one only."""


class Requests:
    """One method per request. `acted` is called after what makes the core want to send."""

    def __init__(
        self,
        node: str,
        core: Asked,
        reloader: Reloader,
        store: Store,
        counters: Mapping[str, int],
        clock: Clock,
        acted: Callable[[], None],
        drain: Drain,
        reload_certificates: Callable[[], str] = str,
        traces: TraceStore | None = None,
        shell: Callable[[], Doc] = dict,
        bodies: str = BODIES[0],
    ) -> None:
        """`shell` tells what the shell knows for `status`; `bodies` which are shown of what is not stored yet."""
        self._node = node
        self._core = core
        self._reloader = reloader
        self._store = store
        self._counters = counters
        self._clock = clock
        self._acted = acted
        self._drain = drain
        self._reload_certificates = reload_certificates
        self._traces = traces
        self._shell = shell
        self._bodies = bodies
        self._threads = DaemonThreads(1, "read-traces")
        self._started = clock.now()

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
            "bans": self.bans,
            "unban": self.unban,
            "reload-certificates": self.reload_certificates,
            "hangup": self.hangup,
            "traces": self.traces,
            "trace": self.trace,
            "drain": self.drain,
            "resume": self.resume,
        }

    def close(self) -> None:
        self._threads.shutdown()

    async def hello(self, request: Doc, began: float) -> Doc:
        return {"node": self._node, "format": FORMAT, "release": release()}

    async def status(self, request: Doc, began: float) -> Doc:
        return self.state()

    def state(self) -> Doc:
        """How the node is, in one document."""
        running, refused = self._reloader.running, self._reloader.refused
        return {
            "version": running.version,
            "hash": running.hash,
            "since": running.since,
            "load_ms": running.ms,
            "stale": self._reloader.stale,
            "problems": refused.problems if refused else [],
            "refused_hash": refused.hash if refused else "",
            "uptime": round(self._clock.now() - self._started, 3),
            "counters": {**self._core.counters, **self._counters},
            "spool": self._store.spool.mark._asdict(),
            "vitals": self._core.vitals(),
            "media": self._core.media_relays(),
            **self._shell(),
        }

    async def load(self, request: Doc, began: float) -> Doc:
        number = whole(request, "version", 0, VERSION_LIMIT)
        return await self._reloader.load(number, mapping(request, "manifest"), mapping(request, "parts"), began)

    async def events(self, request: Doc, began: float) -> Doc:
        after = whole(request, "after", 0, VERSION_LIMIT)
        limit = whole(request, "limit", 1, VERSION_LIMIT, default=READ_LIMIT)
        try:
            events, following = self._store.events(after, limit)
        except sqlite3.Error as error:
            raise RequestError(f"The spool cannot be read now ({error}); ask again.") from error
        return {"events": events, "next": following}

    async def registrations(self, request: Doc, began: float) -> Doc:
        found = self._core.registrations(self._tenant(request), self._clock.now())
        user = optional_text(request, "user")
        return {name: [self._named(row) for row in rows if user in (None, row["user"])] for name, rows in found.items()}

    async def calls(self, request: Doc, began: float) -> Doc:
        return {"calls": [self._named(row) for row in self._core.calls(self._tenant(request), self._clock.now())]}

    async def renew(self, request: Doc, began: float) -> Doc:
        tenant, connection = text(request, "tenant"), optional_text(request, "connection")
        renewed = self._core.renew(tenant, connection, self._clock.now())
        self._acted()
        return {"renewed": renewed}

    async def bans(self, request: Doc, began: float) -> Doc:
        return {"bans": self._core.bans()}

    async def unban(self, request: Doc, began: float) -> Doc:
        unbanned = self._core.unban(text(request, "source"), self._clock.now())
        self._acted()
        return {"unbanned": unbanned}

    async def reload_certificates(self, request: Doc, began: float) -> Doc:
        problem = self._reload_certificates()
        if problem:
            raise RequestError(f"{problem} The certificates in use stay.")
        return {}

    async def hangup(self, request: Doc, began: float) -> Doc:
        name, tenant = text(request, "call"), self._tenant(request)
        code = whole(request, "code", 400, 699, default=HANG_UP_CODE)
        reason = optional_text(request, "reason") or HANG_UP_REASON
        if len(reason) > REASON_LENGTH or not reason.isprintable():
            raise RequestError(f'"reason" must be one line of at most {REASON_LENGTH} characters.')
        found = self._core.hang_up(name, tenant, code, reason, self._clock.now())
        self._acted()
        if not found:
            raise RequestError(f"There is no call {name!r} in progress; sipd calls lists them.")
        return {"call": found}

    async def drain(self, request: Doc, began: float) -> Doc:
        given = request.get("seconds") is not None
        self._drain.begin(whole(request, "seconds", 0, DRAIN_LIMIT) if given else None)
        return self._drain.state()

    async def resume(self, request: Doc, began: float) -> Doc:
        self._drain.resume()
        return self._drain.state()

    # Traces

    async def traces(self, request: Doc, began: float) -> Doc:
        wanted = wanted_of(request, self._tenant(request))
        tracer = self._core.tracer
        here: Iterable[Trace] = () if tracer is None else tracer
        found = {
            trace.id: trace.about()
            for trace in heapq.nlargest(wanted.limit, filter(wanted.takes, here), key=lambda trace: trace.since)
        }
        if self._traces is not None:
            for about in await self._in_thread(self._traces.find, wanted):
                found.setdefault(about["id"], about)
        newest = sorted(found.values(), key=lambda about: about["since"], reverse=True)
        return {
            "traces": [self._named(about) for about in newest[: wanted.limit]], "tracing": tracer is not None
        }  # fmt: skip

    async def trace(self, request: Doc, began: float) -> Doc:
        name, tenant = text(request, "trace"), self._tenant(request)
        tracer = self._core.tracer
        here = tracer.find(name, tenant) if tracer is not None else None
        kept = None
        if self._traces is not None:
            asked = (name, tenant) if here is None else (here.id, here.tenant)
            kept = await self._in_thread(self._traces.read, *asked)
        if here is None and kept is None and len(name) >= PREFIX_LENGTH:
            here, kept = await self._beginning(name.removesuffix("~"), tenant)
        whole_trace = together(here, kept, self._bodies)
        if whole_trace is None or tenant not in (None, whole_trace["tenant"]):
            why = "" if tracer is not None else " Tracing is off."
            raise RequestError(f"There is no trace of {name!r}; sipd trace lists the newest.{why}")
        if tenant is not None:
            whole_trace["steps"] = [for_tenant(step) for step in whole_trace["steps"]]
        return {"trace": self._named(whole_trace)}

    def _named(self, row: Doc) -> Doc:
        """With what people call the tenant, user and connection, as far as the table has them, and by their clock."""
        if self._clock.ahead:
            row = row | {name: row[name] + self._clock.ahead for name in MOMENTS if isinstance(row.get(name), float)}
        index = self._reloader.running.compiled.tenants.get(row.get("tenant", ""))
        if index is None:
            return row
        user, connection = index.users_by_id.get(row.get("user", "")), index.connections.get(row.get("connection", ""))
        names = {"tenant_slug": index.tenant.slug}
        names |= {"extension": user.extension} if user is not None else {}
        names |= {"connection_name": connection.name} if connection is not None else {}
        return row | names

    def _tenant(self, request: Doc) -> str | None:
        """`tenant_of`, or, for people, a tenant by id, slug or domain as `tenant_name`. Raises RequestError."""
        if "tenant_name" not in request or "tenant" in request:
            return tenant_of(request)
        name = text(request, "tenant_name").lower()
        compiled = self._reloader.running.compiled
        for id_, index in compiled.tenants.items():
            if name in (id_.lower(), index.tenant.slug.lower()) or name in index.tenant.domains:
                return id_
        raise RequestError(f"The table has no tenant {name!r}: give its id, short name or domain.")

    async def _beginning(self, name: str, tenant: str | None) -> tuple[Trace | None, Kept | None]:
        """The only trace whose id begins like this, of the tenant's own if one is given."""
        tracer = self._core.tracer
        here = {t.id: t for t in tracer or () if t.id.startswith(name) and tenant in (None, t.tenant)}
        stored = await self._in_thread(self._traces.beginning, name, tenant) if self._traces else []
        if len({*here, *stored}) != 1:
            return None, None
        (id_,) = {*here, *stored}
        kept = await self._in_thread(self._traces.read, id_, tenant) if self._traces else None
        return here.get(id_), kept

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def tenant_of(request: Doc) -> str | None:
    """The tenant that all is about, None for all of them: only when the request does not speak of any.

    An empty one is refused, so that whoever has lost the tenant is not shown everybody's. Raises RequestError.
    """
    return text(request, "tenant") if "tenant" in request else None


def wanted_of(request: Doc, tenant: str | None) -> Wanted:
    """Raises RequestError."""
    kind = optional_text(request, "kind") or ""
    if kind and kind not in KINDS:
        raise RequestError(f'"kind" is none of {", ".join(KINDS)}.')
    return Wanted(
        tenant=tenant,
        user=optional_text(request, "user") or "",
        number=optional_text(request, "number") or "",
        kind=kind,
        code=whole(request, "code", 0, 699, default=0),
        since=seconds(request, "since"),
        before=seconds(request, "before"),
        limit=whole(request, "limit", 1, FIND_LIMIT, default=50),
    )


def seconds(request: Doc, name: str) -> float:
    """Epoch seconds; 0 if absent. Raises RequestError."""
    value = request.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < VERSION_LIMIT:
        raise RequestError(f'"{name}" must be a time in epoch seconds.')
    return float(value)


def together(here: Trace | None, kept: Kept | None, bodies: str) -> Doc | None:
    """What is in memory and what is on disk of one trace: each message once, in their order."""
    if here is None:
        return None if kept is None else {**kept.about, "messages": kept.messages, "steps": kept.steps}
    messages = {(m["no"], m["at"]): m for m in (kept.messages if kept is not None else ())}
    for said in here.messages:
        message = said.as_dict(bodies)
        messages.setdefault((message["no"], message["at"]), message)
    steps = [*(kept.steps if kept is not None else ())]
    steps += [step for step in here.steps if step not in steps]
    ordered = sorted(messages.values(), key=lambda message: (message["at"], message["no"]))
    return {**here.about(), "messages": ordered, "steps": steps}


def for_tenant(step: Doc) -> Doc:
    """A step as a tenant may read it: which other tenants share a source is not for its eyes."""
    if step["rule"] != "source":
        return step
    return {**step, "sentence": step["sentence"].partition(" belongs to ")[0] + " is where a connection sends from"}


def release() -> str:
    """Version of the installed package."""
    try:
        return version("tenantry")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"
