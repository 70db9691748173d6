"""A soak on real sockets: `make soak`. Mixed traffic over a bad network, while memory and descriptors are watched.

Phones and a PBX register, call, hang up, cancel, are busy and send messages through a real node. Of all datagrams, in
both directions, one in a hundred is lost and one in a hundred comes twice, so that everything is retransmitted now and
then. Tracing is off: what it keeps has limits of its own, and filling them is no leak. At the end each call has one
record, nobody is left in the node, and memory and open files are what they were before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.node import AS_FAST_AS_IT_GOES, Node
from tests.integration.sip.conftest import PBX_HOST
from tests.peers.agent import Agent
from tests.peers.call import CallFailedError
from tests.peers.phone import Phone
from tests.peers.sip import MalformedError
from tests.peers.standin_pbx import StandinPbx
from tests.peers.transaction import PeerTimeoutError
from tests.peers.wire import Hop
from tests.unit.core.bench import PASSWORD, table, tenant

TRANSACTIONS = 200_000
LOSS = 0.01
TWICE = 0.01
TENANTS = 100
EXTENSIONS = ("101", "102")
SAMPLES = 40
"""Looks at memory and descriptors, in equal parts of the work."""
PATIENCE = 40.0
"""Seconds for one transaction: more than SIP's own 32, so that it is the edge that gives up."""
DRAIN_SECONDS = 120.0
"""For the last retransmissions and dialogs to end."""
GROWTH = 0.10
"""Of memory, from the second quarter to the last, that still counts as flat: the allocator's doing."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Sample:
    """The node, seen from outside."""

    done: int
    """Transactions so far."""
    memory: int
    """Bytes."""
    files: int


@dataclass
class Result:
    """How it went."""

    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """Transactions of peers, by method."""
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    twice: int = 0
    seconds: float = 0.0
    started: int = 0
    ended: int = 0
    """Call events of the node."""
    doubled: int = 0
    left: dict[str, int] = field(default_factory=dict)
    """What the node still held at the end."""
    faults: int = 0

    @property
    def transactions(self) -> int:
        return self.done.total()

    @property
    def growth(self) -> float:
        """Of memory, as a share: the last quarter of the samples beside the second."""
        quarter = max(1, len(self.samples) // 4)
        before = statistics.median(sample.memory for sample in self.samples[quarter : 2 * quarter])
        return statistics.median(sample.memory for sample in self.samples[-quarter:]) / before - 1

    @property
    def more_files(self) -> int:
        quarter = max(1, len(self.samples) // 4)
        return self.samples[-1].files - max(sample.files for sample in self.samples[:quarter])

    def problems(self) -> Iterator[str]:
        """Sentences; none: all held."""
        if self.growth > GROWTH:
            yield f"memory grew by {self.growth:.1%}; the limit is {GROWTH:.0%}"
        if self.more_files > 0:
            yield f"{self.more_files} more files are open than in the first quarter"
        if self.started != self.ended or self.doubled:
            yield f"{self.started} calls began and {self.ended} ended, {self.doubled} of them twice"
        if any(self.left.values()):
            yield f"the node still holds {self.left}"
        if self.faults:
            yield f"the node counted {self.faults} faults of its own"


class Bad:
    """A bad network between an agent and the edge."""

    def __init__(self, agent: Agent, chance: random.Random, result: Result) -> None:
        self._chance = chance
        self._result = result
        wire = agent.wire
        self._send, self._take = wire.send, wire.receive
        wire.send, wire.receive = self.send, self.receive  # type: ignore[method-assign]
        start = agent.start
        agent.start = lambda request, *rest: (self.count(request.method), start(request, *rest))[1]  # type: ignore[method-assign]
        agent.log = deque(maxlen=50)
        agent.calls = deque(maxlen=2000)

    def count(self, method: str) -> None:
        self._result.done[method] += 1

    def send(self, data: bytes, hop: Hop) -> None:
        for _ in range(self._copies()):
            self._send(data, hop)

    def receive(self, data: bytes, hop: Hop) -> None:
        for _ in range(self._copies()):
            self._take(data, hop)

    def _copies(self) -> int:
        drawn = self._chance.random()
        if drawn < LOSS:
            self._result.lost += 1
            return 0
        if drawn < LOSS + TWICE:
            self._result.twice += 1
            return 2
        return 1


class Soak:
    """The node, its peers, and what they do to each other."""

    def __init__(self, node: Node, total: int, seed: int, drain: float = DRAIN_SECONDS) -> None:
        self._drain_seconds = drain
        self._node = node
        self._total = total
        self._chance = random.Random(seed)
        self.result = Result()
        self._cursor = 0
        self._ended: set[str] = set()
        assert node.process is not None
        self._proc = Path("/proc") / str(node.process.pid)

    async def run(self) -> None:
        began = time.monotonic()
        names = [f"t{number}" for number in range(TENANTS)]
        accounts = {f"{name}.pbx.example": dict.fromkeys(EXTENSIONS, "pbx-secret") for name in names}
        hours = 24 * 3600.0
        async with contextlib.AsyncExitStack() as stack:
            pbx = await stack.enter_async_context(StandinPbx(accounts, host=PBX_HOST, lifetime=hours))
            Bad(pbx, self._chance, self.result)
            await asyncio.to_thread(self._node.load, routing(names, pbx.port))
            edge = Hop("udp", self._node.host, self._node.port)
            phones = []
            for name in names:
                for extension in EXTENSIONS:
                    phone = Phone(extension, f"{name}.example", PASSWORD, edge, on_call="answer", lifetime=hours)
                    phones.append(await stack.enter_async_context(phone))
                    Bad(phone, self._chance, self.result)
            await asyncio.gather(*(phone.register(3600, within=PATIENCE) for phone in phones))
            watching = asyncio.create_task(self._watch())
            await asyncio.gather(*(self._live(phone, pbx) for phone in phones))
            watching.cancel()
            self.result.seconds = time.monotonic() - began
            await asyncio.gather(*(phone.unregister(PATIENCE) for phone in phones))
        await self._drain()

    async def _live(self, phone: Phone, pbx: StandinPbx) -> None:
        """One phone, until the work is done. What a bad network makes of a deed is counted, and is no fault."""
        deeds: Sequence[tuple[int, Callable[[Phone, StandinPbx], Awaitable[None]]]] = (
            (3, calls_out), (3, is_called), (1, hangs_up_at_the_pbx), (1, cancels), (1, finds_it_busy), (1, reinvites),
            (4, registers), (3, writes), (2, is_written_to), (2, asks), (1, dials_nobody),
        )  # fmt: skip
        weights, choices = zip(*deeds, strict=True)
        while self.result.transactions < self._total:
            deed = self._chance.choices(choices, weights)[0]
            try:
                await deed(phone, pbx)
                self.result.outcomes["done"] += 1
            except (PeerTimeoutError, CallFailedError, KeyError, MalformedError) as error:
                what = error.status if isinstance(error, CallFailedError) else type(error).__name__
                self.result.outcomes[f"{deed.__name__}: {what}"] += 1
            phone.errors.clear()
            pbx.errors.clear()

    async def _watch(self) -> None:
        """Look at the node from outside, in equal parts of the work, and pull its events as a panel does."""
        for number in range(1, SAMPLES + 1):
            while self.result.transactions < self._total * number // SAMPLES:
                await asyncio.sleep(0.2)
                await asyncio.to_thread(self._pull)
            self._sample()

    def _sample(self) -> None:
        memory = int((self._proc / "statm").read_text().split()[1]) * PAGE
        files = len(list((self._proc / "fd").iterdir()))
        self.result.samples.append(Sample(self.result.transactions, memory, files))

    def _pull(self) -> None:
        answer = self._node.ask("events", after=self._cursor, limit=10_000)
        self._cursor = answer["next"]
        for event in answer["events"]:
            if event["kind"] == "call.started":
                self.result.started += 1
            elif event["kind"] == "call.ended":
                call = event["detail"]["call"]
                self.result.doubled += call in self._ended
                self._ended.add(call)
        self.result.ended = len(self._ended)

    async def _drain(self) -> None:
        """Until nothing is left, or the time for that is over."""
        names = ("calls", "dialogs", "client_transactions", "server_transactions", "bindings", "subscriptions")
        until = time.monotonic() + self._drain_seconds
        while True:
            status = await asyncio.to_thread(self._node.ask, "status")
            self.result.left = {name: status["vitals"][name] for name in names}
            self.result.faults = status["counters"].get("faults", 0) + status["counters"].get("shell.faults", 0)
            await asyncio.to_thread(self._pull)
            if not any(self.result.left.values()) or time.monotonic() > until:
                return
            await asyncio.sleep(1.0)


# Deeds


async def calls_out(phone: Phone, pbx: StandinPbx) -> None:
    call = phone.call("9000", within=PATIENCE)
    await call.answered(PATIENCE)
    await call.bye(PATIENCE)


async def is_called(phone: Phone, pbx: StandinPbx) -> None:
    call = pbx.call(f"{phone.user}@{phone.domain}", within=PATIENCE)
    await call.answered(PATIENCE)
    await call.bye(PATIENCE)


async def hangs_up_at_the_pbx(phone: Phone, pbx: StandinPbx) -> None:
    """The phone calls, and the PBX hangs up."""
    call = phone.call("9000", within=PATIENCE)
    await call.answered(PATIENCE)
    caller = f"{phone.user}@{phone.domain.partition('.')[0]}.pbx.example"
    there = [c for c in pbx.calls if not c.outgoing and caller in c.remote and c.state == "answered"]
    await there[-1].bye(PATIENCE)
    await call.ended(PATIENCE)


async def cancels(phone: Phone, pbx: StandinPbx) -> None:
    call = phone.call("9002", within=PATIENCE)
    with contextlib.suppress(PeerTimeoutError):  # nobody sends a lost 180 again
        await call.ringing(2.0)
    await call.cancel(PATIENCE)


async def finds_it_busy(phone: Phone, pbx: StandinPbx) -> None:
    assert (await phone.call("9001", within=PATIENCE).final(PATIENCE)).status >= 400


async def dials_nobody(phone: Phone, pbx: StandinPbx) -> None:
    assert (await phone.call("77", within=PATIENCE).final(PATIENCE)).status >= 400


async def reinvites(phone: Phone, pbx: StandinPbx) -> None:
    call = phone.call("9000", within=PATIENCE)
    await call.answered(PATIENCE)
    await call.reinvite(within=PATIENCE)
    await call.request("INFO", body=b"Signal=1", content_type="application/dtmf-relay", within=PATIENCE)
    await call.bye(PATIENCE)


async def registers(phone: Phone, pbx: StandinPbx) -> None:
    await phone.register(3600, within=PATIENCE)


async def writes(phone: Phone, pbx: StandinPbx) -> None:
    await phone.ask("MESSAGE", f"sip:9000@{phone.domain}", body=b"hello", within=PATIENCE)


async def is_written_to(phone: Phone, pbx: StandinPbx) -> None:
    target, hop = f"sip:{phone.user}@{phone.domain}", phone.edge
    request = pbx.request_message("MESSAGE", target, hop)
    who = f"<sip:9000@{pbx.host}>;tag={random.getrandbits(32):x}"
    request.headers += [("From", who), ("To", f"<{target}>"), ("Call-ID", f"{random.getrandbits(64):x}")]
    request.headers += [("CSeq", "1 MESSAGE")]
    await pbx.bounded(pbx.start(request, hop, PATIENCE).final, PATIENCE, "answer")


async def asks(phone: Phone, pbx: StandinPbx) -> None:
    await phone.ask("OPTIONS", f"sip:{phone.domain}", within=PATIENCE)


# The house


def routing(names: Sequence[str], pbx_port: int) -> Any:
    """Tenants with two users each, at one PBX."""
    tenants = []
    for name in names:
        link = {"host": PBX_HOST, "port": pbx_port, "sources": (PBX_HOST,), "registrar_domain": f"{name}.pbx.example"}
        tenants.append(tenant(name, extensions=EXTENSIONS, strategy="on_behalf", of_connection=link))
    return table(*tenants)


def soak(folder: Path, total: int, seed: int, drain: float = DRAIN_SECONDS) -> Result:
    """Run it against a node of its own; `drain`: seconds for the last retransmissions and dialogs to end."""
    node = Node(folder)
    node.start("--digest", "MD5", "--trace", "off", "--set", "upstream_rate=500", *AS_FAST_AS_IT_GOES)
    try:
        work = Soak(node, total, seed, drain)
        asyncio.run(work.run())
    finally:
        node.close()
    return work.result


def shown(result: Result) -> str:
    """As a table for people."""
    samples = [result.samples[len(result.samples) * part // 4 - 1] for part in (1, 2, 3, 4)]
    datagrams = f"{result.lost} datagrams lost, {result.twice} doubled"
    lines = [
        f"{result.transactions} transactions in {result.seconds:.0f} s; {datagrams}",
        "by method: " + ", ".join(f"{name} {count}" for name, count in sorted(result.done.items())),
        f"calls: {result.started} began, {result.ended} ended, {result.doubled} doubled",
        "transactions   memory, MiB   files",
        *(f"{s.done:12}   {s.memory / 2**20:11.1f}   {s.files:5}" for s in samples),
        f"memory from the second quarter to the last: {result.growth:+.1%}; files: {result.more_files:+}",
        f"left in the node: {sum(result.left.values())}; faults: {result.faults}",
        "what came of it: " + ", ".join(f"{what} {count}" for what, count in result.outcomes.most_common()),
    ]
    return "\n".join(lines)


def main() -> int:
    """Command line; 1 when something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transactions", type=int, default=TRANSACTIONS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tenantry-soak-") as folder:
        result = soak(Path(folder), arguments.transactions, arguments.seed)
    print(shown(result))
    problems = list(result.problems())
    for problem in problems:
        print(f"NOT HELD: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
