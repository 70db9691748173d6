"""Samples and their text, read by the parser of Prometheus' own library."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from sipd import readiness
from sipd.metrics import MAX_COUNTERS, NAMES, REASONS, Seen, dropped, samples
from sipd.net.http import Request
from sipd.scrape import Scrape, parts, text
from sipd.vitals import process
from tests.unit.core.bench import PBX, Bench, two_tenants

ROOT = Path(__file__).parents[3]


def status(**more: Any) -> dict[str, Any]:
    return {
        "node": "n1", "release": "1.0", "uptime": 5.0, "hash": "ab", "version": 3, "since": 17.0, "load_ms": 2.5,
        "stale": False, "loop_lag": {"last": 0.001, "worst": 0.2}, "vitals": {"timers": 4}, "queues": {"udp": 1},
        "connections": 5, "store": {"waiting": {"changes": 6, "events": 7}},
        "counters": {"udp.dropped": 2, "traces.unstored": 1, "store.failures": 3, "faults": 1, "shell.faults": 2},
        "media": [{"address": "udp:127.0.0.1:22222", "up": True, "sessions": 7}], "ready": True, "not_ready": [],
        **more,
    }  # fmt: skip


def seen(bench: Bench, **more: Any) -> Seen:
    census, steps = bench.edge.census()
    for _ in steps:
        pass
    tenants = bench.edge.compiled.tenants
    doc = status(**more)
    return Seen(
        doc, bench.edge.tally, census, lambda t: tenants[t].tenant.slug if t in tenants else None, len(tenants),
        frozenset(doc["not_ready"]), {"/etc/chain.pem": 3600.0}, process(), (1, 2, 3),
    )  # fmt: skip


def read(written: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(written.decode())
        for sample in family.samples
    }


def written(of: Seen) -> bytes:
    return b"".join(text(name, found) for name, found in samples(of))


@pytest.fixture
def bench() -> Bench:
    made = Bench(two_tenants())
    made.end("203.0.113.1").register("acme.example")
    return made


def test_all_names_are_written_once_with_their_type_and_meaning(bench: Bench) -> None:
    lines = written(seen(bench)).decode().splitlines()
    types = [line.split()[2:4] for line in lines if line.startswith("# TYPE")]
    assert {name: "gauge" if m.type == "info" else m.type for name, m in NAMES.items()} == dict(types)
    assert len(types) == len(NAMES)
    meanings = [line.split(maxsplit=3)[2:] for line in lines if line.startswith("# HELP")]
    assert dict(meanings) == {name: metric.what for name, metric in NAMES.items()}


def test_numbers_come_out_as_they_went_in(bench: Bench) -> None:
    pbx = bench.end(PBX)
    pbx.send(pbx.request("INVITE", "sip:9@acme.example", from_="sip:1@x", to="sip:9@x", call_id="c"))
    found = read(written(seen(bench)))
    assert found["sipd_node_info", (("node", "n1"), ("release", "1.0"))] == 1
    assert found["sipd_requests_total", (("code", "404"), ("method", "INVITE"), ("rule", "unknown-user"))] == 1
    assert found["sipd_bindings", (("transport", "udp"),)] == 1
    assert found["sipd_tenant_bindings", (("tenant", "acme"),)] == 1
    assert found["sipd_tenant_refusals_total", (("tenant", "acme"),)] == 1
    assert found["sipd_tenant_refusals_total", (("tenant", "_other"),)] == 0
    assert found["sipd_table_load_seconds", ()] == 0.0025
    assert found["sipd_dropped_total", (("what", "udp"),)] == 2
    assert found["sipd_dropped_total", (("what", "traces"),)] == 1
    assert found["sipd_faults_total", ()] == 3
    assert found["sipd_queue", (("queue", "udp"),)] == 1
    assert found["sipd_queue", (("queue", "store_changes"),)] == 6
    assert found["sipd_connections", ()] == 5
    assert found["sipd_events_total", (("name", "store.failures"),)] == 3
    assert found["sipd_certificate_expiry_seconds", (("certificate", "/etc/chain.pem"),)] == 3600
    assert found["sipd_call_setup_seconds_count", (("until", "answer"),)] == 0
    assert found["python_gc_collections_total", (("generation", "2"),)] == 3
    assert found["process_open_fds", ()] > 2
    assert found["sipd_media_up", (("relay", "udp:127.0.0.1:22222"),)] == 1
    assert found["sipd_media_sessions", (("relay", "udp:127.0.0.1:22222"),)] == 7


def test_each_reason_why_a_node_is_not_ready_has_a_sample_and_a_sentence(bench: Bench) -> None:
    assert set(REASONS) == set(readiness.SENTENCES)
    found = read(written(seen(bench, not_ready=["store"])))
    assert [found["sipd_not_ready", (("reason", reason),)] for reason in REASONS] == [0, 0, 1, 0]
    assert (found["sipd_ready", ()], found["sipd_store_failing", ()]) == (0, 1)


def test_text_in_labels_is_escaped(bench: Bench) -> None:
    of = seen(bench, node='a"b\\c\nd')
    assert read(written(of))["sipd_node_info", (("node", 'a"b\\c\nd'), ("release", "1.0"))] == 1


def test_counters_are_bounded(bench: Bench) -> None:
    found = read(written(seen(bench, counters={f"n{number}": number for number in range(MAX_COUNTERS + 9)})))
    assert sum(name == "sipd_events_total" for name, _ in found) == MAX_COUNTERS


def test_a_long_metric_is_written_in_parts_and_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [((f"n{number}",), float(number)) for number in range(10)]
    whole = text("sipd_events_total", found)
    monkeypatch.setattr("sipd.scrape.PART", 4)
    assert len(list(parts("sipd_events_total", found))) == 3
    assert b"".join(parts("sipd_events_total", found)) == whole
    assert list(parts("sipd_events_total", [])) == [text("sipd_events_total", [])]


def test_what_counts_as_dropped() -> None:
    counters = {"tcp.dropped": 1, "trace.steps_dropped": 2, "trace.dropped": 3, "udp.sent": 4, "traces.unstored": 5}
    assert dropped(counters) == {"tcp": 1, "trace": 5, "traces": 5}


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({}, []),
        ({"listening": False, "table": False}, ["not-listening", "no-table"]),
        ({"store": False}, ["store"]),
        ({"draining": True}, ["draining"]),
    ],
)
def test_why_a_node_is_not_ready(has: dict[str, bool], words: list[str]) -> None:
    good = {"listening": True, "table": True, "store": True, "draining": False}
    assert readiness.reasons(**{**good, **has}) == words
    assert readiness.answer({"not_ready": words})["ready"] is not bool(words)


def test_a_loop_that_is_long_overdue_is_not_alive() -> None:
    assert readiness.alive(readiness.STALLED_SECONDS)["alive"]
    dead = readiness.alive(readiness.STALLED_SECONDS + 1)
    assert (dead["alive"], list(dead["reasons"])) == (False, ["loop"])


def scrape(bench: Bench, token: str = "", **more: Any) -> Scrape:
    return Scrape(bench.edge, lambda: status(**more), lambda: bench.edge.compiled, dict, lambda: 0.0, token)


def get(of: Scrape, path: str, authorization: str = "") -> tuple[int, bytes]:
    reply = asyncio.run(of.handle(Request("GET", path, authorization)))
    return reply.status, reply.body


def test_the_token_is_asked_for_metrics_only(bench: Bench) -> None:
    of = scrape(bench, token="a-long-enough-token")
    assert get(of, "/metrics")[0] == 401
    assert get(of, "/metrics", "Bearer a-long-enough-toke")[0] == 401
    assert get(of, "/metrics", "Bearer \xff")[0] == 401
    assert get(of, "/metrics", "Bearer a-long-enough-token")[0] == 200
    assert get(of, "/healthz")[0] == get(of, "/readyz")[0] == 200
    assert get(of, "/other")[0] == 404


def test_readiness_has_its_reasons(bench: Bench) -> None:
    code, body = get(scrape(bench, not_ready=["draining"]), "/readyz")
    assert code == 503
    assert json.loads(body) == {"ready": False, "reasons": {"draining": readiness.SENTENCES["draining"]}}


def test_who_asks_at_once_again_gets_the_same(bench: Bench) -> None:
    async def whole() -> tuple[bytes, bytes, bytes]:
        of = scrape(bench)
        first, second = await asyncio.gather(of.metrics(), of.metrics())
        bench.end("203.0.113.7").register("globex.example")
        return first, second, await of.metrics()

    assert len(set(asyncio.run(whole()))) == 1


def test_between_two_steps_others_have_their_turn(bench: Bench) -> None:
    async def whole() -> int:
        turns, done = 0, asyncio.create_task(scrape(bench).metrics())
        while not done.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(whole()) >= len(NAMES)


def test_nothing_is_in_the_registry_that_all_share(bench: Bench) -> None:
    before = {family.name for family in REGISTRY.collect()}
    written(seen(bench))
    assert {family.name for family in REGISTRY.collect()} == before
    assert not [name for name in before if name.startswith("sipd")]


def test_the_operators_guide_lists_each_metric_with_its_labels() -> None:
    text_ = (ROOT / "docs" / "operators.md").read_text()
    for name, metric in NAMES.items():
        labels = "{" + ", ".join(metric.labels) + "}" if metric.labels else ""
        assert re.search(rf"^\| `{re.escape(name + labels)}` \|", text_, re.MULTILINE), name + labels
