"""Ten thousand registrations at a PBX: `make bench`. In under two minutes, on loopback UDP, with the real daemon.

First how long one call of the core takes when all are due at once, without sockets. Then the daemon beside a stand-in
PBX that grants a short time: how level the refreshes are, and how soon all are back after the PBX fell silent and
forgot everything. Seconds are those in which the PBX got the request.
"""

from __future__ import annotations

import argparse
import gc
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sipd.daemon import GARBAGE
from sipd.edge import Edge
from sipd.events import Change
from sipd.routing.lookup import compile_table
from tests.integration.node import Node
from tests.unit.core.bench import PBX, Bench
from tests.unit.core.scripted_pbx import ScriptedPbx, World, answer_to, many, read

TENANTS = 100
HOST = "127.0.0.2"
CHALLENGE = {"WWW-Authenticate": 'Digest realm="pbx.example", nonce="for-ever", algorithm=MD5, qop="auth"'}
SILENT_SECONDS = 20.0
"""Long enough to be noticed by OPTIONS every `OPTIONS_SECONDS`."""
OPTIONS_SECONDS = 2
STEADY_SECONDS = 20.0
"""For how long refreshes are counted, once the first of each is over."""
NOTICE_SECONDS = 5.0
"""Within which the first OPTIONS finds out that the PBX is back."""


class QuickPbx(threading.Thread):
    """Registrar for all comers: asks for credentials, believes them, grants a short time."""

    def __init__(self, granted: int) -> None:
        super().__init__(daemon=True)
        self.granted = granted
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((HOST, 0))
        self.port = int(self.socket.getsockname()[1])
        self.up = True
        self.bound: set[str] = set()
        self.registrations: list[float] = []
        """When each REGISTER came that was not the answer to a challenge."""
        self.challenged = 0

    def run(self) -> None:
        while True:
            data, source = self.socket.recvfrom(65535)
            reply = self.answer(data) if self.up else b""
            if reply:
                self.socket.sendto(reply, source)

    def answer(self, data: bytes) -> bytes:
        method, headers = read(data)
        if method != "REGISTER":
            return answer_to(data, 200, {})
        if "authorization" not in headers:
            self.registrations.append(time.time())
            self.challenged += 1
            return answer_to(data, 401, CHALLENGE)
        if "nc=00000001" not in headers["authorization"]:
            self.registrations.append(time.time())
        self.bound.add(headers["call-id"])
        contact = headers["contact"].partition(";expires")[0]
        return answer_to(data, 200, {"Contact": f"{contact};expires={self.granted}"})

    def per_second(self, since: float, until: float) -> Counter[int]:
        return Counter(int(at - since) for at in self.registrations if since <= at < until)


def wait(until: Callable[[], bool], patience: float) -> float:
    """Seconds that it took."""
    begun = time.monotonic()
    while not until():
        if time.monotonic() - begun > patience:
            raise RuntimeError("it did not happen in time")
        time.sleep(0.05)
    return time.monotonic() - begun


def longest_call(bench: Bench, seconds: float, first: Callable[[], object]) -> float:
    """Milliseconds of processor time of the longest call: `first`, and all timers of so many seconds."""

    def took(call: Callable[[], object]) -> float:
        before = time.thread_time()
        call()
        spent = time.thread_time() - before
        bench.edge.datagrams_to_send()
        bench.edge.take_changes()
        bench.edge.take_events()
        return spent

    gc.collect()
    gc.freeze()  # as the daemon does with a table
    longest, end = took(first), bench.now + seconds
    while (due := bench.edge.next_timer()) is not None and due <= end:
        bench.now = max(bench.now, due)
        longest = max(longest, took(lambda: bench.edge.handle_timer(bench.now)))
    bench.now = end
    return longest * 1000


def registered_world(count: int, transport: str) -> tuple[World, list[Change]]:
    """With all registered, and what the store would have of them."""
    world = World(None, ScriptedPbx(granted=3600), upstream_rate=2000, upstream_total_rate=2000)
    changes: list[Change] = []
    edge, take = world.bench.edge, world.bench.edge.take_changes

    def kept() -> list[Change]:
        changes.extend(taken := take())
        return taken

    edge.take_changes = kept  # type: ignore[method-assign]
    world.bench.load(many(count, tenants=TENANTS, transport=transport, expires=3600))
    world.run(count / 2000 + 1)
    return world, list({key: (kind, key, record) for kind, key, record in changes}.values())


def calls_of_the_core(count: int) -> None:
    compiled = compile_table(many(count, tenants=TENANTS, expires=3600))
    bench = World(None).bench
    new = longest_call(bench, 2, lambda: bench.edge.load(compiled, bench.now))
    print(f"  a table with all of them new     {new:8.0f}")
    world, changes = registered_world(count, "udp")
    again = World(None).bench
    again.now = world.now

    def restart(edge: Edge) -> None:
        edge.restore(changes, again.now)
        edge.load(compiled, again.now)

    print(f"  a restart with all of them       {longest_call(again, 2, lambda: restart(again.edge)):8.0f}")
    world, _ = registered_world(count, "tcp")
    flow, edge = world.bench.end(PBX, 5060, "tcp").flow, world.bench.edge
    lost = longest_call(world.bench, 2, lambda: edge.flow_lost(flow, world.now))
    print(f"  a stream lost that all came over {lost:8.0f}", flush=True)


def with_the_daemon(count: int, rate: int, granted: int) -> None:
    pbx = QuickPbx(granted)
    pbx.start()
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder))
        node.start(
            f"--set=upstream_rate={rate}",
            f"--set=upstream_total_rate={rate}",
            f"--set=options_interval={OPTIONS_SECONDS}",
        )
        try:
            link = {"host": HOST, "port": pbx.port, "sources": (HOST,)}
            loaded = time.time()
            node.load(many(count, tenants=TENANTS, **link))
            wait(lambda: len(pbx.bound) == count, 4 * count / rate + 10)
            begun = time.time()
            print(f"  all registered after             {begun - loaded:8.1f} s   the pace allows {count / rate:.1f}")
            time.sleep(0.9 * granted)
            challenged, since = pbx.challenged, time.time()
            time.sleep(STEADY_SECONDS)
            counts = pbx.per_second(since, time.time())
            mean = sum(counts.values()) / len(counts)
            peak = max(counts.values())
            print(f"  refreshes a second, mean         {mean:8.0f}")
            print(f"  refreshes a second, peak         {peak:8.0f}     {peak / mean:.2f} times the mean")
            unasked = 1 - (pbx.challenged - challenged) / sum(counts.values())
            print(f"  of these signed unasked          {unasked:8.0%}")
            pbx.up = False
            time.sleep(SILENT_SECONDS)
            pbx.bound.clear()
            pbx.up = True
            back = time.time()
            took = wait(lambda: len(pbx.bound) == count, 4 * count / rate + 30)
            peak = max(pbx.per_second(back, time.time()).values())
            print(
                f"  all back after a restart in      {took:8.1f} s   "
                f"the pace allows {count / rate:.1f}, and to notice {NOTICE_SECONDS:.1f}"
            )
            print(f"  registrations a second, peak     {peak:8.0f}     the pace allows {rate}")
            print(f"  the loop's longest pause         {node.ask('status')['loop_lag']['worst'] * 1000:8.0f} ms")
        finally:
            node.end(signal.SIGKILL)  # what it would still write goes with its folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="registrations (%(default)s)")
    parser.add_argument("--rate", type=int, default=600, help="pace: registrations a second (%(default)s)")
    parser.add_argument("--granted", type=int, default=36, help="seconds that the PBX grants (%(default)s)")
    options = parser.parse_args()
    gc.set_threshold(*GARBAGE)
    print(f"{options.count} registrations: the longest single call of the core, milliseconds of processor time")
    calls_of_the_core(options.count)
    print(f"{options.count} registrations at a stand-in PBX over loopback, {options.granted} s granted", flush=True)
    with_the_daemon(options.count, options.rate, options.granted)


if __name__ == "__main__":
    main()
