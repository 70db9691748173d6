"""What a node tells of itself in numbers: each metric's name, type and meaning, and its samples. Pure.

Label values are words of ours, names of counters, slugs of tenants and names of files: no peer can make a new one.
`sipd.scrape` writes them in the form that Prometheus reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from sipd.census import Census, Present
from sipd.readiness import SENTENCES
from sipd.tally import Histogram, OfTenant, Tally

MAX_COUNTERS = 1000
"""Counters that are told by name; the rest, in the order of their names, is not."""
OTHER_TENANTS = "_other"
"""Label of the tenants that have no numbers of their own; no slug has an underscore."""
NO_CODE = "none"
"""Where no answer was given."""

Doc = dict[str, Any]
Sample = tuple[tuple[str, ...], float]
"""Label values, in the order of `Metric.labels`, and the value."""


class Metric(NamedTuple):
    """What a name means."""

    type: str
    """gauge, counter, histogram, or info, whose value is always 1."""
    what: str
    labels: tuple[str, ...] = ()


NAMES: Mapping[str, Metric] = {
    "sipd_node_info": Metric("info", "the node and its release", ("node", "release")),
    "sipd_uptime_seconds": Metric("gauge", "since the node started"),
    "sipd_ready": Metric("gauge", "1 when the node can serve calls, as /readyz says"),
    "sipd_not_ready": Metric("gauge", "1 for each reason why it is not ready", ("reason",)),
    "sipd_requests_total": Metric(
        "counter", "requests by method, code of the final answer and deciding rule", ("method", "code", "rule")
    ),
    "sipd_refusals_total": Metric("counter", "refused requests, calls and log-ins by rule", ("rule",)),
    "sipd_bindings": Metric("gauge", "phones that can be reached, by transport", ("transport",)),
    "sipd_upstream_registrations": Metric("gauge", "registrations at PBXs by state", ("state",)),
    "sipd_calls": Metric("gauge", "calls in progress by direction and state", ("direction", "state")),
    "sipd_calls_ended_total": Metric("counter", "calls by direction and how they ended", ("direction", "outcome")),
    "sipd_call_setup_seconds": Metric("histogram", "from INVITE to the first ringing, and to the answer", ("until",)),
    "sipd_call_duration_seconds": Metric("histogram", "from answer to end"),
    "sipd_tenant_calls": Metric("gauge", "calls in progress by tenant", ("tenant",)),
    "sipd_tenant_calls_ended_total": Metric("counter", "calls that ended by tenant", ("tenant",)),
    "sipd_tenant_bindings": Metric("gauge", "phones that can be reached by tenant", ("tenant",)),
    "sipd_tenant_upstream_registered": Metric("gauge", "registrations at PBXs that stand, by tenant", ("tenant",)),
    "sipd_tenant_refusals_total": Metric("counter", "refusals by tenant", ("tenant",)),
    "sipd_table_info": Metric("info", "hash of the table that is enforced", ("hash",)),
    "sipd_table_version": Metric("gauge", "its version; 0: none yet"),
    "sipd_table_since_timestamp_seconds": Metric("gauge", "when it was taken"),
    "sipd_table_load_seconds": Metric("gauge", "from the first byte of the last table to its enforcement"),
    "sipd_table_refused": Metric("gauge", "1 when the newest table was refused and an older one stays"),
    "sipd_tenants": Metric("gauge", "tenants in the table"),
    "sipd_loop_lag_seconds": Metric("gauge", "how late the event loop ran: last, worst of a minute", ("of",)),
    "sipd_held": Metric("gauge", "how many there are of what a node holds in memory", ("what",)),
    "sipd_connections": Metric("gauge", "open streams of phones and PBXs"),
    "sipd_queue": Metric("gauge", "what waits, by queue", ("queue",)),
    "sipd_dropped_total": Metric("counter", "what was dropped because a queue or store was full", ("what",)),
    "sipd_store_failing": Metric("gauge", "1 while state cannot be written and is held in memory"),
    "sipd_store_failures_total": Metric("counter", "writes of state that failed"),
    "sipd_faults_total": Metric("counter", "errors of the daemon's own; each cost one message at most"),
    "sipd_media_up": Metric("gauge", "1 while a media relay answers", ("relay",)),
    "sipd_media_sessions": Metric("gauge", "calls whose media it relays", ("relay",)),
    "sipd_certificate_expiry_seconds": Metric(
        "gauge", "until the certificate ends; negative: it has", ("certificate",)
    ),
    "sipd_events_total": Metric("counter", "each counter of `sipd status` by its name", ("name",)),
    "process_resident_memory_bytes": Metric("gauge", "memory in use"),
    "process_cpu_seconds_total": Metric("counter", "processor time, user and system"),
    "process_open_fds": Metric("gauge", "open file descriptors"),
    "process_max_fds": Metric("gauge", "how many there may be"),
    "process_start_time_seconds": Metric("gauge", "when the process started"),
    "python_gc_collections_total": Metric("counter", "runs of the garbage collector", ("generation",)),
}
"""By name, as Prometheus shows it."""
REASONS = tuple(SENTENCES)
"""Why a node is not ready (`sipd.readiness`)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that the numbers are taken from."""

    status: Doc
    """As `sipd status` has it."""
    tally: Tally
    census: Census
    slugs: Callable[[str], str | None]
    """Slug of a tenant by its id."""
    tenants: int
    """In the table."""
    reasons: frozenset[str]
    """Words of `REASONS`; empty: ready."""
    certificates: Mapping[str, float]
    """Seconds until they end, by file."""
    process: Mapping[str, float]
    """By name."""
    collections: tuple[int, ...]
    """Of the garbage collector, by generation."""


def samples(seen: Seen) -> Iterator[tuple[str, list[Sample]]]:
    """Each metric with its samples, group by group, so that something else may be done in between."""
    for group in (_node, _requests, _calls, _tenants, _table, _health, _process):
        yield from ((name, list(found)) for name, found in group(seen))
    yield "sipd_events_total", _counters(seen.status["counters"])


Group = Iterator[tuple[str, Iterable[Sample]]]


def _one(value: float) -> list[Sample]:
    return [((), value)]


def _by(counts: Mapping[str, float]) -> list[Sample]:
    return [((name,), value) for name, value in sorted(counts.items())]


def _node(seen: Seen) -> Group:
    status = seen.status
    yield "sipd_node_info", [((str(status["node"]), str(status["release"])), 1)]
    yield "sipd_uptime_seconds", _one(status["uptime"])
    yield "sipd_ready", _one(not seen.reasons)
    yield "sipd_not_ready", [((reason,), reason in seen.reasons) for reason in REASONS]


def _requests(seen: Seen) -> Group:
    found = sorted(seen.tally.requests.items())
    yield "sipd_requests_total", [((method, code_text(code), rule or NO_CODE), n) for (method, code, rule), n in found]
    yield "sipd_refusals_total", _by(seen.tally.refusals)
    yield "sipd_bindings", _by(seen.census.bindings)
    yield "sipd_upstream_registrations", _by(seen.census.upstream)


def _calls(seen: Seen) -> Group:
    tally = seen.tally
    yield "sipd_calls", list(seen.census.calls.items())
    yield "sipd_calls_ended_total", sorted(tally.calls.items())
    yield "sipd_call_setup_seconds", [*histogram(tally.ringing, "ringing"), *histogram(tally.answering, "answer")]
    yield "sipd_call_duration_seconds", histogram(tally.durations)


def code_text(code: int) -> str:
    """A code as `Tally.requests` has it: `404`, `4xx` or `none`."""
    return f"{code}xx" if 0 < code < 100 else str(code or NO_CODE)


def histogram(values: Histogram, *labels: str) -> list[Sample]:
    """Cumulated counts by upper bound, and under "sum" the sum."""
    bounds = [*map(str, values.bounds), "+Inf"]
    counted = zip(bounds, accumulate(values.counts), strict=True)
    return [((*labels, bound), count) for bound, count in counted] + [((*labels, "sum"), values.total)]


def _tenants(seen: Seen) -> Group:
    now, ever = seen.census.tenants, seen.tally.tenants
    names = {tenant: seen.slugs(tenant) or OTHER_TENANTS for tenant in {**now, **ever}}
    names[""] = OTHER_TENANTS

    def by_slug(of: Mapping[str, Any], others: Present | OfTenant, field: str) -> list[Sample]:
        counts: Counter[str] = Counter()
        for tenant, counted in (*of.items(), ("", others)):
            counts[names[tenant]] += getattr(counted, field)
        return _by(counts)

    yield "sipd_tenant_calls", by_slug(now, seen.census.others, "calls")
    yield "sipd_tenant_bindings", by_slug(now, seen.census.others, "bindings")
    yield "sipd_tenant_upstream_registered", by_slug(now, seen.census.others, "registered")
    yield "sipd_tenant_calls_ended_total", by_slug(ever, seen.tally.others, "calls")
    yield "sipd_tenant_refusals_total", by_slug(ever, seen.tally.others, "refusals")


def _table(seen: Seen) -> Group:
    status = seen.status
    yield "sipd_table_info", [((status["hash"],), 1)] if status["hash"] else []
    yield "sipd_table_version", _one(status["version"])
    yield "sipd_table_since_timestamp_seconds", _one(status["since"])
    yield "sipd_table_load_seconds", _one(status["load_ms"] / 1000)
    yield "sipd_table_refused", _one(status["stale"])
    yield "sipd_tenants", _one(seen.tenants)


def _health(seen: Seen) -> Group:
    status, counters = seen.status, seen.status["counters"]
    yield "sipd_loop_lag_seconds", _by(status["loop_lag"])
    yield "sipd_held", _by(status["vitals"])
    yield "sipd_connections", _one(status["connections"])
    waiting = {f"store_{what}": count for what, count in status["store"]["waiting"].items()}
    yield "sipd_queue", _by({**status["queues"], **waiting})
    yield "sipd_dropped_total", _by(dropped(counters))
    yield "sipd_store_failing", _one("store" in seen.reasons)
    yield "sipd_store_failures_total", _one(counters.get("store.failures", 0))
    yield "sipd_faults_total", _one(counters.get("faults", 0) + counters.get("shell.faults", 0))
    media = status.get("media", ())
    yield "sipd_media_up", [((relay["address"],), relay["up"]) for relay in media]
    yield "sipd_media_sessions", [((relay["address"],), relay["sessions"]) for relay in media]
    yield "sipd_certificate_expiry_seconds", _by(seen.certificates)


def dropped(counters: Mapping[str, int]) -> Counter[str]:
    """Of the counters those that say what was dropped, by what it was: `udp.dropped`, `trace.steps_dropped`."""
    found: Counter[str] = Counter()
    for name, count in counters.items():
        if name.endswith(("dropped", "unstored")):
            found[name.rpartition(".")[0] or name] += count
    return found


def _process(seen: Seen) -> Group:
    for name, value in seen.process.items():
        yield name, _one(value)
    yield "python_gc_collections_total", [((str(n),), count) for n, count in enumerate(seen.collections)]


def _counters(counters: Mapping[str, int]) -> list[Sample]:
    return [((name,), count) for name, count in sorted(counters.items())[:MAX_COUNTERS]]
