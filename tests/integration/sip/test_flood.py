"""A registered phone is served while a flood from another source runs. How fast: bench/flood.py."""

from __future__ import annotations

import asyncio

from bench.flood import ATTACKER, flooded, stage, work
from tests.integration.node import Node
from tests.integration.sip.conftest import faults

TIMES, RATE, SECONDS = 20, 3000, 6.0


def test_every_request_of_the_phone_is_answered_and_the_flood_is_shut_out(node: Node) -> None:
    async def play() -> dict[str, list[float]]:
        async with stage(node) as phone, flooded(node, RATE, SECONDS):
            await asyncio.sleep(0.3)
            return await work(phone, TIMES)

    spent = asyncio.run(play())
    assert {method: len(figures) for method, figures in spent.items()} == {
        "REGISTER": TIMES, "INVITE": TIMES, "BYE": TIMES,
    }  # fmt: skip
    assert [ban["source"] for ban in node.ask("bans")["bans"]] == [ATTACKER]
    counters = node.ask("status")["counters"]
    assert counters["udp.shut_out"] > RATE, "what is banned is not read"
    assert [event["detail"]["source"] for event in node.events("source.banned")] == [ATTACKER]
    assert faults(node) == 0
    assert node.ask("unban", source=ATTACKER) == {"ok": True, "unbanned": True}
    assert node.ask("unban", source=ATTACKER) == {"ok": True, "unbanned": False}
