"""A registered phone while a flood from another source runs, as part of `make bench`: how long its answers take.

Phone, PBX, flood and edge share the machine, so the flood's own work shows in the figures, too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.integration.node import ROOT, Node
from tests.integration.sip.conftest import PBX_HOST, two_tenants
from tests.peers.phone import Phone
from tests.peers.standin_pbx import StandinPbx
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD

ATTACKER = "127.0.0.9"
ACCOUNTS = {f"{name}.pbx.example": {"101": "pbx-secret", "102": "pbx-secret"} for name in ("acme", "globex")}
PAUSE = 0.02
"""Seconds between two things that the phone does."""


@asynccontextmanager
async def flooded(node: Node, rate: int, seconds: float) -> AsyncIterator[None]:
    """A flood in another process, which ends before this does."""
    words = [node.host, str(node.port), ATTACKER, str(rate), str(seconds)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.peers.flood", *words, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        await process.wait()


async def work(phone: Phone, times: int) -> dict[str, list[float]]:
    """Registers, calls and hangs up, over and over; how long each took until its final answer. Raises if one fails."""
    spent: dict[str, list[float]] = {"REGISTER": [], "INVITE": [], "BYE": []}
    for _ in range(times):
        began = time.perf_counter()
        if (await phone.register()).status != 200:
            raise RuntimeError("not registered")
        spent["REGISTER"].append(time.perf_counter() - began)
        began = time.perf_counter()
        call = phone.call("9000")
        await call.answered()
        spent["INVITE"].append(time.perf_counter() - began)
        began = time.perf_counter()
        await call.bye()
        spent["BYE"].append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE)
    return spent


@asynccontextmanager
async def stage(node: Node) -> AsyncIterator[Phone]:
    edge = Hop("udp", node.host, node.port)
    async with (
        StandinPbx(ACCOUNTS, host=PBX_HOST) as pbx,
        Phone("101", "acme.example", PASSWORD, edge) as phone,
    ):
        await asyncio.to_thread(node.load, two_tenants(pbx.port, strategy="none"))
        await phone.register()
        yield phone


async def measure(node: Node, times: int, rate: int) -> dict[str, dict[str, list[float]]]:
    async with stage(node) as phone:
        calm = await work(phone, times)
        took = sum(map(sum, calm.values())) + times * PAUSE
        async with flooded(node, rate, min(60.0, 2 * took + 2)):
            await asyncio.sleep(0.5)
            return {"calm": calm, f"flood of {rate}/s": await work(phone, times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200, help="registrations and calls (%(default)s)")
    parser.add_argument("--rate", type=int, default=5000, help="messages of the flood a second (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        node.start()
        try:
            found = asyncio.run(measure(node, options.times, options.rate))
            counters = node.ask("status")["counters"]
        finally:
            node.close()
    print(f"{'a registered phone, milliseconds to the answer':52}{'p50':>8}{'p99':>8}{'worst':>8}")
    for when, spent in found.items():
        for method, figures in spent.items():
            cuts = statistics.quantiles(figures, n=100)
            row = (cuts[49], cuts[98], max(figures))
            print(f"{f'{method}, {when}':52}" + "".join(f"{1000 * figure:8.1f}" for figure in row))
    print(f"datagrams dropped unread: {counters['udp.shut_out']}; bans: {counters.get('guard.bans', 0)}")


if __name__ == "__main__":
    main()
