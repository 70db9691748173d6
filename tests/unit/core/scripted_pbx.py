"""PBXs that answer many REGISTERs by a script, with the fake clock of `bench`: each knows what it was sent, and when.

Messages are read by lines and not by our parser, so that ten thousand registrations take seconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from sipd.flow import Flow, Listener
from sipd.routing.model import Table, UpstreamAccount, User
from sipd.routing.seal import seal
from sipd.settings import Settings
from tests.unit.core.bench import CIPHER, EDGE, PBX, Bench, table, tenant

Place = tuple[str, str, int]
Headers = dict[str, str]
Answer = tuple[int, Headers] | None
"""Status and further headers; None: no answer."""
ROUND_TRIP = 0.002


class ScriptedPbx:
    """One address of a PBX."""

    def __init__(self, host: str = PBX, granted: int = 600) -> None:
        self.host = host
        self.granted = granted
        self.up = True
        self.bound: dict[str, float] = {}
        """By Call-ID: until when."""
        self.registers: list[tuple[float, str, int]] = []
        """When, Call-ID, Expires."""
        self.requests: list[Headers] = []
        """The last ones, whole."""
        self.options = 0
        self.answers_options = True
        self.refuses_unknown = False
        """Whether the first REGISTER of one that it does not know gets 404."""
        self.met: set[str] = set()
        self.script: Callable[[Headers], Answer] | None = None
        """Has the first word on a REGISTER; an empty answer (0) leaves it to the rest."""

    def take(self, data: bytes, now: float) -> Answer:
        method, headers = read(data)
        if not self.up:
            return None
        if method == "OPTIONS":
            self.options += 1
            return (200, {}) if self.answers_options else None
        if method != "REGISTER":
            return None if method == "ACK" else (486, {})
        self.requests = [*self.requests[-99:], headers]
        call_id, expires = headers["call-id"], int(headers["expires"])
        self.registers.append((now, call_id, expires))
        scripted = self.script(headers) if self.script is not None else (0, {})
        if scripted is None or scripted[0]:
            return scripted
        if not expires:
            self.bound.pop(call_id, None)
            return 200, {}
        if self.refuses_unknown and call_id not in self.met:
            self.met.add(call_id)
            return 404, {}
        self.bound[call_id] = now + self.granted
        return 200, {"Contact": headers["contact"].partition(";expires")[0] + f";expires={self.granted}"}

    def standing(self, now: float) -> int:
        """How many are registered here."""
        return sum(until > now for until in self.bound.values())

    def restart(self) -> None:
        self.bound.clear()

    def per_second(self, since: float, until: float) -> Counter[int]:
        """REGISTERs in each second; seconds begin at `since`."""
        return Counter(int(at - since) for at, _, _ in self.registers if since <= at < until)


class World:
    """An edge, and the PBXs that it meets."""

    def __init__(self, routing: Table | None, *pbxs: ScriptedPbx, **settings: object) -> None:
        listeners = tuple(Listener(transport, *EDGE, *EDGE) for transport in ("udp", "tcp"))
        defaults: dict[str, object] = {"options_interval": 0, "nat_ping": 0, "trace": False}
        self.bench = Bench(None, Settings(listeners, **{**defaults, **settings}))  # type: ignore[arg-type]
        self.pbxs = {pbx.host: pbx for pbx in pbxs}
        self.on_the_way: list[tuple[float, int, bytes, Flow]] = []
        self.lost: Callable[[bytes], bool] = lambda data: False
        """Whether the network loses these bytes."""
        self._count = itertools.count()
        if routing is not None:
            self.bench.load(routing)

    @property
    def now(self) -> float:
        return self.bench.now

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass: timers fire, PBXs answer after a round trip."""
        bench, edge, end = self.bench, self.bench.edge, self.bench.now + seconds
        while not until():
            timer = edge.next_timer()
            due = min(end if timer is None else timer, self.on_the_way[0][0] if self.on_the_way else end)
            if due >= end:
                bench.now = end
                return
            bench.now = max(bench.now, due)
            while self.on_the_way and self.on_the_way[0][0] <= bench.now:
                _, _, data, flow = heapq.heappop(self.on_the_way)
                edge.receive(data, flow, bench.now)
            edge.handle_timer(bench.now)
            edge.take_changes()
            self._deliver()

    def _deliver(self) -> None:
        for data, flow in self.bench.edge.datagrams_to_send():
            pbx = self.pbxs.get(flow.host)
            if pbx is None or self.lost(data):
                continue
            answer = pbx.take(data, self.now)
            if answer is not None and not self.lost(data):
                reply = answer_to(data, *answer)
                heapq.heappush(self.on_the_way, (self.now + ROUND_TRIP, next(self._count), reply, flow))

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self.bench.edge.registrations(None, self.now)["upstream"])


def read(data: bytes) -> tuple[str, Headers]:
    """Method, and headers by their lower-case names; Request-URI as `uri`."""
    first, *lines = data.decode().split("\r\n\r\n", 1)[0].split("\r\n")
    method, uri, _ = first.split(" ")
    headers = {"uri": uri}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, headers


def answer_to(data: bytes, status: int, more: Headers) -> bytes:
    _, headers = read(data)
    lines = [f"SIP/2.0 {status} Reason"]
    lines += [f"{name}: {headers[name.lower()]}" for name in ("Via", "From", "Call-ID", "CSeq")]
    lines += [f"To: {headers['to']};tag=pbx", *(f"{name}: {value}" for name, value in more.items())]
    return "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()


def many(count: int, *, tenants: int = 100, **of_connection: object) -> Table:
    """So many users, of several tenants, that are registered at one PBX."""
    each = count // tenants
    made = tenant("t0", strategy="on_behalf", extensions=("100",), of_connection=of_connection)
    template = made.users[0]

    def named(name: str, number: int) -> User:
        id_, connection = f"{name}-{number}", f"{name}-pbx"
        password = seal(CIPHER, (name, id_, connection, "upstream"), "pbx-secret")
        entry = UpstreamAccount(connection, f"{name}{number}", "", password)
        return replace(template, id=id_, extension=str(100 + number), upstream=(entry,))

    return table(
        *(
            replace(
                tenant(f"t{n}", strategy="on_behalf", extensions=(), of_connection=of_connection),
                users=tuple(named(f"t{n}", number) for number in range(each)),
            )
            for n in range(tenants)
        )
    )
