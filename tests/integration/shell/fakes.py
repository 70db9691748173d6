"""A core that answers each request with itself, and a table for it; for tests of the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sipd.config import Config, ListenOn, parse_listen
from sipd.flow import Answer, Flow, Query, TlsName
from sipd.message.framing import FramingError
from sipd.routing import codec
from sipd.routing.lookup import EMPTY, Compiled, compile_table
from sipd.routing.model import Connection, Installation, Table, Tenant, User
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.store import Change

KEY_PREFIX = "told/"


class FakeCore:
    """Sends back what it receives, and remembers each call that the shell makes.

    A message that begins with `STORE` is also kept as state, `RESOLVE host` starts a look-up, `TIMER` arms
    a timer that answers, `FAULT` raises, `SEND host port text` goes elsewhere, `SILENT` gets no answer.
    """

    def __init__(self, settings: Settings, cipher: Cipher, random_bytes: Callable[[int], bytes]) -> None:
        self.settings = settings
        self.compiled: Compiled = compile_table(EMPTY)
        self.faults: list[BaseException] = []
        self.tracer = None
        self.counters: dict[str, int] = {"received": 0}
        self.told: list[tuple[Any, ...]] = []
        self.out: list[tuple[bytes, Flow]] = []
        self.queries: list[Query] = []
        self.media_out: list[tuple[bytes, int]] = [(b"hello %d" % n, n) for n, _ in enumerate(settings.media)]
        self.events: list[dict[str, Any]] = []
        self.changes: list[Change] = []
        self.timers: list[tuple[float, bytes, Flow]] = []
        self.asking: dict[Query, Flow] = {}
        self.in_progress = 1
        self.ahead = 0.0
        self.tls_names: dict[tuple[str, str, int], TlsName] = {}

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.counters["received"] += 1
        word, *rest = data.split()
        if word == b"FAULT":
            raise RuntimeError("a fault of the core")
        if word == b"STORE":
            self.changes.append(("binding", KEY_PREFIX + data.decode("latin-1"), {"host": flow.host}))
            self.events.append({"at": now, "kind": "binding.added", "detail": {"contact": data.decode("latin-1")}})
        if word == b"RESOLVE":
            query = Query(rest[0].decode(), 5060, flow.transport)
            self.asking[query] = flow
            self.queries.append(query)
        elif word == b"TIMER":
            self.timers.append((now + 0.05, data, flow))
        elif word == b"SEND":
            self.out.append((rest[2], Flow(flow.transport, rest[0].decode(), int(rest[1]), flow.listener)))
        elif word != b"SILENT":
            self.out.append((data, flow))

    def bad_frame(self, error: FramingError, flow: Flow, now: float) -> None:
        self.told.append(("bad_frame", error.status, flow))
        self.out.append((b"SIP/2.0 %d Broken\r\n\r\n" % error.status, flow))

    def flow_lost(self, flow: Flow, now: float) -> None:
        self.told.append(("flow_lost", flow))

    def peer_verified(self, flow: Flow, names: frozenset[str]) -> None:
        self.told.append(("peer_verified", flow, names))

    def resolved(self, query: Query, answer: Answer, now: float) -> None:
        hosts = [target.host for target in answer.targets]
        self.out.append((" ".join(["RESOLVED", *hosts]).encode(), self.asking.pop(query)))

    def handle_timer(self, now: float) -> None:
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        self.out += [(data, flow) for _, data, flow in due]

    def next_timer(self) -> float | None:
        return min((timer[0] for timer in self.timers), default=None)

    def load(self, compiled: Compiled, now: float) -> None:
        self.compiled = compiled

    def restore(self, changes: list[Change], now: float) -> None:
        self.told += [("restore", key) for _, key, _ in changes]

    def restate(self) -> None:
        self.told.append(("restate",))

    def set_wall(self, ahead: float) -> None:
        self.ahead = ahead

    def refuse_calls(self, retry_after: int) -> None:
        self.told.append(("refuse_calls", retry_after))

    def hang_up_all(self, reason: str, now: float) -> int:
        self.told.append(("hang_up_all", reason))
        self.in_progress = 0
        return 1

    def datagrams_to_send(self) -> list[tuple[bytes, Flow]]:
        taken, self.out = self.out, []
        return taken

    def lookups_to_start(self) -> list[Query]:
        taken, self.queries = self.queries, []
        return taken

    def take_events(self) -> list[dict[str, Any]]:
        taken, self.events = self.events, []
        return taken

    def take_changes(self) -> list[Change]:
        taken, self.changes = self.changes, []
        return taken

    def registrations(self, tenant: str | None, now: float) -> dict[str, Any]:
        return {"upstream": [], "bindings": [{"tenant": tenant or "all", "user": "u1", "expires": now + 60}]}

    def calls(self, tenant: str | None, now: float) -> list[dict[str, Any]]:
        return [{"id": "c1", "from": "101", "to": "102", "state": "ringing", "since": now}]

    def hang_up(self, name: str, tenant: str | None, code: int, reason: str, now: float) -> str:
        self.told.append(("hang_up", name, tenant, code, reason))
        return name if name == "c1" and tenant in (None, "t-acme") else ""

    def shuts_out(self, host: str, transport: str) -> bool:
        return False

    def bans(self) -> list[dict[str, Any]]:
        return [{"source": "192.0.2.9", "since": 1.0, "until": 61.0, "reason": "malformed", "times": 1}]

    def unban(self, source: str, now: float) -> bool:
        self.told.append(("unban", source))
        return source == "192.0.2.9"

    def media_received(self, data: bytes, instance: int, now: float) -> None:
        """What a relay says goes back to it the other way round."""
        self.told.append(("media_received", data, instance))
        self.media_out.append((data[::-1], instance))

    def media_to_send(self) -> list[tuple[bytes, int]]:
        taken, self.media_out = self.media_out, []
        return taken

    def media_relays(self) -> list[dict[str, Any]]:
        return [{"address": name, "up": True, "since": 0.0, "sessions": 0} for name in self.settings.media]

    def vitals(self) -> dict[str, int]:
        return {"calls": self.in_progress, "client_transactions": 0}

    def renew(self, tenant: str, connection: str | None, now: float) -> int:
        self.told.append(("renew", tenant, connection))
        return 3


class Cores:
    """Makes cores for daemons, and keeps the last one at hand."""

    def __init__(self) -> None:
        self.last: FakeCore

    def __call__(self, *arguments: Any) -> FakeCore:
        self.last = FakeCore(*arguments)
        return self.last


def config(state: Path, *listen: str, **changed: Any) -> Config:
    """Settings of a node in a directory of its own."""
    found: tuple[ListenOn, ...] = tuple(map(parse_listen, listen))
    values: dict[str, Any] = {
        "listen": found,
        "advertise_host": "",
        "advertise_port": 0,
        "state": state,
        "control": state / "control.sock",
        "control_tcp": None,
        "control_token_file": None,
        "key_file": state / "key",
        "node": "n1",
        "log_level": "info",
    }
    return Config(**{**values, **changed})


def table(*extensions: str, slug: str = "acme") -> Table:
    """One tenant with a connection, and a user for each extension."""
    users = tuple(User(f"u{extension}", extension, "", True, "", "") for extension in extensions)
    pbx = Connection("c1", "pbx", True, True, "pbx.example", "192.0.2.1", 0, "udp", sources=("192.0.2.1",))
    tenant = Tenant(f"t-{slug}", slug, slug, False, f"{slug}.example", users=users, connections=(pbx,))
    return Table(Installation("voice.example"), (tenant,))


def load_request(table: Table, version: int, parts: bool = True) -> dict[str, Any]:
    """The control request that makes a table live."""
    encoded = codec.encode(table)
    return {
        "do": "load",
        "version": version,
        "manifest": encoded.manifest,
        "parts": encoded.parts if parts else {},
    }


def message(text: str = "OPTIONS", body: bytes = b"") -> bytes:
    """A framed SIP message that begins with `text`."""
    head = (
        f"{text} sip:example SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"\r\n" + body


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.005)
