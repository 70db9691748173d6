"""What a scrape costs calls: how long the event loop is held up, with many tenants, phones and registrations.

`python bench/scrape.py [TENANTS [USERS]]`: each user has a phone and a registration at a PBX. Milliseconds of
processor time: what else the machine does is not in them.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sipd.flow import Flow
from sipd.registrar import Binding
from sipd.scrape import Scrape
from sipd.settings import Settings
from tests.unit.core.bench import Bench, table, tenant

ROUNDS = 5
MOST_TENANTS = 1000
"""With metrics of their own, the most that can be set."""


def filled(tenants: int, users: int) -> Bench:
    """An edge with a phone and a registration for each user."""
    extensions = tuple(str(100 + number) for number in range(users))
    settings = Settings(Bench().settings.listeners, metrics_tenants=MOST_TENANTS)
    link = {"strategy": "on_behalf"}
    bench = Bench(table(*(tenant(f"t{n}", extensions=extensions, **link) for n in range(tenants))), settings)
    for number, index in enumerate(bench.edge.compiled.tenants.values()):
        for place, user in enumerate(index.tenant.users):
            flow = Flow("udp", f"10.{place}.{number // 250}.{number % 250}", 5060, 0)
            contact, owner = f"sip:{user.extension}@{flow.host}", index.tenant.id
            record = Binding(owner, user.id, contact, {}, contact, 1, bench.now + 3600, flow, "bench").record()
            bench.edge.registrar.restore(record, bench.now)
    return bench


def status(bench: Bench) -> dict[str, Any]:
    return {
        "node": "n1", "release": "1.0", "uptime": 5.0, "hash": "ab", "version": 3, "since": 17.0, "load_ms": 2.5,
        "stale": False, "loop_lag": {"last": 0.0, "worst": 0.0}, "vitals": bench.edge.vitals(), "queues": {},
        "connections": 0, "store": {"waiting": {}},
        "counters": dict(bench.edge.counters), "not_ready": [],
    }  # fmt: skip


async def held_up(work: Awaitable[bytes]) -> tuple[float, float, int]:
    """Milliseconds: the longest turn of the loop meanwhile, and all of it; and the bytes that came."""
    task = asyncio.ensure_future(work)
    began = before = time.process_time()
    longest = 0.0
    while not task.done():
        await asyncio.sleep(0)
        now = time.process_time()
        longest, before = max(longest, now - before), now
    return longest * 1000, (time.process_time() - began) * 1000, len(await task)


async def main(tenants: int, users: int) -> None:
    """Scrape several times, each as if nobody had asked before."""
    bench = filled(tenants, users)
    turns = []
    for _ in range(ROUNDS):
        scrape = Scrape(bench.edge, lambda: status(bench), lambda: bench.edge.compiled, dict, lambda: 0.0)
        turns.append(await held_up(scrape.metrics()))
    longest, whole, size = (statistics.median(column) for column in zip(*turns, strict=True))
    print(
        f"{tenants} tenants, {len(bench.edge.registrar)} phones, {len(bench.edge.upstream)} registrations, {size} bytes"
    )
    print(f"longest step {longest:.2f} ms, whole scrape {whole:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in [*sys.argv[1:], "10000", "10"][:2])))
