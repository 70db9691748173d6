"""`/metrics`, `/healthz` and `/readyz`: what is asked over HTTP, and its answers.

Metrics are written in small steps of the event loop, with calls in between, and at most once a second.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sipd import readiness, vitals
from sipd.census import Census
from sipd.metrics import NAMES, Sample, Seen, samples
from sipd.net.http import Reply, Request
from sipd.routing.lookup import Compiled
from sipd.tally import Tally

PART = 100
"""Samples that are written in one step."""
FRESH_SECONDS = 1.0
"""Who asks again within this time gets the same answer."""

Doc = dict[str, Any]


class Counted(Protocol):
    """The part of the core that is counted."""

    @property
    def tally(self) -> Tally: ...

    def census(self) -> tuple[Census, Iterator[None]]: ...


class Scrape:
    """Answers those who watch. `late` is by how many seconds the loop's tick is overdue."""

    def __init__(
        self,
        core: Counted,
        status: Callable[[], Doc],
        table: Callable[[], Compiled],
        certificates: Callable[[], Mapping[str, float]],
        late: Callable[[], float],
        token: str = "",
    ) -> None:
        self._core = core
        self._status = status
        self._table = table
        self._certificates = certificates
        self._late = late
        self._expected = f"Bearer {token}".encode() if token else b""
        self._lock = asyncio.Lock()
        self._written = b""
        self._written_at = 0.0

    async def handle(self, request: Request) -> Reply:
        """For `sipd.net.http`. Health may be asked by all; metrics only with the token, if there is one."""
        if request.path == "/healthz":
            return as_reply(readiness.alive(self._late()), "alive")
        if request.path == "/readyz":
            return as_reply(readiness.answer(self._status()), "ready")
        if request.path != "/metrics":
            return Reply(404)
        if not self._may(request.authorization):
            return Reply(401, headers=(("WWW-Authenticate", "Bearer"),))
        return Reply(200, await self.metrics(), CONTENT_TYPE_LATEST)

    def _may(self, authorization: str) -> bool:
        return not self._expected or hmac.compare_digest(authorization.encode("latin-1"), self._expected)

    async def metrics(self) -> bytes:
        """The text of all metrics."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if not self._written or loop.time() - self._written_at >= FRESH_SECONDS:
                self._written = await self._write()
                self._written_at = loop.time()
            return self._written

    async def _write(self) -> bytes:
        census, steps = self._core.census()
        for _ in steps:
            await asyncio.sleep(0)
        written = []
        for name, found in samples(self._seen(census)):
            for part in parts(name, found):
                written.append(part)
                await asyncio.sleep(0)
        return b"".join(written)

    def _seen(self, census: Census) -> Seen:
        status, tenants = self._status(), self._table().tenants

        def slug(tenant: str) -> str | None:
            index = tenants.get(tenant)
            return index.tenant.slug if index is not None else None

        return Seen(
            status, self._core.tally, census, slug, len(tenants), frozenset(status["not_ready"]), self._certificates(),
            vitals.process(), tuple(generation["collections"] for generation in gc.get_stats()),
        )  # fmt: skip


def as_reply(answer: Doc, good: str) -> Reply:
    """200 when what `good` names is true, else 503; the reasons are in the JSON."""
    return Reply(200 if answer[good] else 503, json.dumps(answer).encode() + b"\n", "application/json")


def parts(name: str, found: list[Sample]) -> Iterator[bytes]:
    """One metric's text in parts that take no long time each; its type and meaning are in the first."""
    if NAMES[name].type == "histogram":  # few, and each is one whole
        yield text(name, found)
        return
    for start in range(0, max(1, len(found)), PART):
        whole = text(name, found[start : start + PART])
        yield whole if not start else b"".join(whole.splitlines(keepends=True)[2:])


class One(Collector):
    """A collector of one metric: there is no registry, and nothing global."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        yield self._family


def text(name: str, found: list[Sample]) -> bytes:
    """One metric in Prometheus' text format."""
    return generate_latest(One(family(name, found)))


def family(name: str, found: list[Sample]) -> Family:
    """One metric, for the library to write."""
    metric = NAMES[name]
    made: Family
    if metric.type == "histogram":
        return _histogram(name, found)
    if metric.type == "counter":
        made = counter = CounterMetricFamily(name.removesuffix("_total"), metric.what, labels=metric.labels)
        for labels, value in found:
            counter.add_metric(labels, value)
    elif metric.type == "info":
        made = info = InfoMetricFamily(name.removesuffix("_info"), metric.what)
        for labels, _ in found:
            info.add_metric([], dict(zip(metric.labels, labels, strict=True)))
    else:
        made = gauge = GaugeMetricFamily(name, metric.what, labels=metric.labels)
        for labels, value in found:
            gauge.add_metric(labels, value)
    return made


def _histogram(name: str, found: list[Sample]) -> Family:
    """The samples of one histogram follow each other, and end with their sum (`sipd.metrics.histogram`)."""
    made = HistogramMetricFamily(name, NAMES[name].what, labels=NAMES[name].labels)
    buckets: list[tuple[str, float]] = []
    for (*labels, bound), value in found:
        if bound == "sum":
            made.add_metric(labels, buckets, value)
            buckets = []
        else:
            buckets.append((bound, value))
    return made
