"""Names to places to send to, by RFC 3263: NAPTR, SRV, addresses. Literal addresses never come here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sipd.flow import DEFAULT_PORTS, Answer, Listener, Query, Target
from sipd.net.names import PARTIAL_TTL, Names, NameServer, NamesFailed, Records, family_of

log = logging.getLogger("sipd.net.resolve")

RESOLVE_SECONDS = 8.0
"""For one name altogether; after that the look-up counts as failed."""
QUEUE_LIMIT = 1000
"""Look-ups under way or waiting; further ones fail at once."""
LEAST_TTL = 1.0
"""Seconds: 0 is what a failure says."""
TARGET_LIMIT = 16
"""Places handed on from one look-up, and names of one SRV answer whose addresses are asked for."""
PREFERENCE = ("udp", "tcp", "tls")
"""Where the records leave the choice to us (RFC 3263 4.1: a client may use any that it supports)."""
SERVICES = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
"""NAPTR services (RFC 3263 4.1), lower-case."""
SRV_PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}

Draw = Callable[[int], int]
"""A random number from 0 up to, and without, the argument."""


class Srv(NamedTuple):
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str
    """Without the final dot; empty: the service is decidedly not offered."""


class Resolver:
    """Answers each query once by `answered(query, answer)`. `listeners` say over what we can send."""

    def __init__(
        self,
        answered: Callable[[Query, Answer], None],
        counters: dict[str, int],
        listeners: Sequence[Listener],
        draw: Draw,
        servers: Sequence[NameServer] = (),
    ) -> None:
        self._answered = answered
        self._counters = counters
        self._names = Names(servers)
        self._search = Search(self._names, listeners, draw)
        self._tasks: set[asyncio.Task[None]] = set()
        for name in ("resolve.started", "resolve.failed", "resolve.nothing"):
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

    @property
    def waiting(self) -> int:
        """Look-ups under way."""
        return len(self._tasks)

    def close(self) -> None:
        """Forget what is under way; nothing is answered any more."""
        for task in self._tasks:
            task.cancel()
        self._names.close()

    async def _look_up(self, query: Query) -> None:
        answer = Answer()
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._search.find(query)
            answer = found._replace(ttl=max(found.ttl, LEAST_TTL))
            if not answer.targets:
                self._counters["resolve.nothing"] += 1
        except (NamesFailed, TimeoutError) as error:
            self._counters["resolve.failed"] += 1
            log.debug("look-up failed host=%s error=%s", query.host, error)
        except Exception:
            self._counters["resolve.failed"] += 1
            log.exception("fault in a look-up host=%s", query.host)
        self._answered(query, answer)


class Search:
    """The steps of RFC 3263 section 4."""

    def __init__(self, names: Names, listeners: Sequence[Listener], draw: Draw) -> None:
        self._names = names
        self._draw = draw
        self._families: dict[str, tuple[int, ...]] = {}
        for listener in listeners:
            family = 6 if ":" in listener.host else 4
            known = self._families.get(listener.transport, ())
            self._families[listener.transport] = (*known, *(() if family in known else (family,)))

    async def find(self, query: Query) -> Answer:
        """All places in order. Raises NamesFailed when the name service does."""
        transports = self._transports(query.transport)
        if not transports:
            return Answer((), PARTIAL_TTL)
        if query.port or self._names.in_hosts(query.host):  # the hosts file knows addresses only
            return await self._at_addresses(query.host, query.port, transports[0])
        if query.transport == "auto":
            answer = await self._by_naptr(query.host)
            if answer is not None:
                return answer
        offered = None
        for transport in transports:
            prefix = SRV_PREFIXES.get(transport)
            answer = await self._by_srv(prefix + query.host, transport) if prefix else None
            if answer is not None and answer.targets:
                return answer
            offered = offered or answer
        return offered or await self._at_addresses(query.host, 0, transports[0])

    def _transports(self, wanted: str) -> list[str]:
        """Those to try, of what our listeners support."""
        return [one for one in (PREFERENCE if wanted == "auto" else (wanted,)) if one in self._families]

    async def _by_naptr(self, host: str) -> Answer | None:
        """RFC 3263 4.1: the service that the domain prefers among those that we can use; None: no such record."""
        try:
            found = await self._names.records(host, "NAPTR")
        except NamesFailed:  # some name servers and filters choke on the type alone: SRV tells us
            return None
        for name, transport in self._services(found):
            answer = await self._by_srv(name, transport)
            if answer is not None and answer.targets:
                return answer._replace(ttl=min(answer.ttl, found.ttl))
        return None

    def _services(self, found: Records) -> Iterable[tuple[str, str]]:
        """(name of SRV records, transport) in order; flag "s" is the only one that RFC 3263 knows."""
        for record in sorted(found.records, key=lambda record: (record.order, record.preference)):
            transport = SERVICES.get(record.service.decode("latin-1").lower(), "")
            if transport in self._families and record.flags.lower() == b"s" and not record.regexp:
                yield record.replacement.to_text(), transport

    async def _by_srv(self, name: str, transport: str) -> Answer | None:
        """RFC 3263 4.2 and RFC 2782; None: no such record, so that the host's own addresses count."""
        found = await self._names.records(name, "SRV")
        if not found.records:
            return None
        records = [Srv(r.priority, r.weight, r.port, r.target.to_text().rstrip(".")) for r in found.records]
        ordered = [record for record in in_order(records, self._draw) if record.host and record.port][:TARGET_LIMIT]
        tasks = (self._addresses(record.host, transport) for record in ordered)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        places: list[Target] = []
        ttl = found.ttl
        for record, answer in zip(ordered, answers, strict=True):
            if isinstance(answer, Records):
                places += (Target(address, record.port, transport) for address in answer.records)
                ttl = min(ttl, answer.ttl)
            elif isinstance(answer, NamesFailed):
                ttl = min(ttl, PARTIAL_TTL)
            else:
                raise answer
        if not places:
            for answer in answers:
                if isinstance(answer, NamesFailed):
                    raise answer
        return Answer(tuple(dict.fromkeys(places))[:TARGET_LIMIT], ttl)

    async def _at_addresses(self, host: str, port: int, transport: str) -> Answer:
        found = await self._addresses(host, transport)
        port = port or DEFAULT_PORTS.get(transport, 5060)
        return Answer(tuple(Target(address, port, transport) for address in found.records)[:TARGET_LIMIT], found.ttl)

    async def _addresses(self, host: str, transport: str) -> Records:
        families = self._families[transport]
        if family := family_of(host):  # not allowed as the target of an SRV record, and seen there
            return Records((host,) if family in families else (), float("inf"))
        return await self._names.addresses(host, families)


def in_order(records: Sequence[Srv], draw: Draw) -> list[Srv]:
    """By priority, and within one by weighted chance (RFC 2782, "Usage rules": weight)."""
    ordered: list[Srv] = []
    for priority in sorted({record.priority for record in records}):
        group = sorted((r for r in records if r.priority == priority), key=lambda r: r.weight)
        while group:
            chosen = draw(sum(record.weight for record in group) + 1)
            running = 0
            for record in group:
                running += record.weight
                if running >= chosen:
                    break
            ordered.append(record)
            group.remove(record)
    return ordered
