"""The core, as its shell uses it (docs/architecture.md lists the calls); `sipd.edge.Edge` is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from sipd.census import Census
from sipd.flow import Answer, Flow, Query, TlsName
from sipd.message.framing import FramingError
from sipd.routing.lookup import Compiled
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.store import Change
from sipd.tally import Tally
from sipd.trace import Tracer

Doc = dict[str, Any]


class Asked(Protocol):
    """The part of the core that people ask."""

    tracer: Tracer | None
    """None: tracing is off."""

    @property
    def counters(self) -> Mapping[str, int]: ...

    def registrations(self, tenant: str | None, now: float) -> Doc: ...

    def calls(self, tenant: str | None, now: float) -> list[Doc]: ...

    def renew(self, tenant: str, connection: str | None, now: float) -> int: ...

    def hang_up(self, name: str, tenant: str | None, code: int, reason: str, now: float) -> str: ...

    def vitals(self) -> dict[str, int]: ...


class Core(Asked, Protocol):
    """All that is called on it."""

    faults: list[BaseException]
    """Errors of its own, for our log; we empty it."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...

    def bad_frame(self, error: FramingError, flow: Flow, now: float) -> None: ...

    def flow_lost(self, flow: Flow, now: float) -> None: ...

    def peer_verified(self, flow: Flow, names: frozenset[str]) -> None: ...

    @property
    def tls_names(self) -> Mapping[tuple[str, str, int], TlsName]: ...

    def resolved(self, query: Query, answer: Answer, now: float) -> None: ...

    def handle_timer(self, now: float) -> None: ...

    def next_timer(self) -> float | None: ...

    def load(self, compiled: Compiled, now: float) -> None: ...

    def restore(self, changes: list[Change], now: float) -> None: ...

    def restate(self) -> None: ...

    def set_wall(self, ahead: float) -> None: ...

    def refuse_calls(self, retry_after: int) -> None: ...

    def hang_up_all(self, reason: str, now: float) -> int: ...

    def datagrams_to_send(self) -> list[tuple[bytes, Flow]]: ...

    def lookups_to_start(self) -> list[Query]: ...

    def take_events(self) -> list[Doc]: ...

    def take_changes(self) -> list[Change]: ...

    @property
    def tally(self) -> Tally: ...

    def census(self) -> tuple[Census, Iterator[None]]: ...


MakeCore = Callable[[Settings, Cipher, Callable[[int], bytes]], Core]
