"""The core, as its shell uses it (docs/architecture.md lists the calls); `sipd.edge.Edge` is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sipd.flow import Answer, Flow, Query, TlsName
from sipd.message.framing import FramingError
from sipd.requests import Asked
from sipd.routing.lookup import Compiled
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.store import Change

Doc = dict[str, Any]


class Core(Asked, Protocol):
    """All that is called on it."""

    faults: list[BaseException]
    """Errors of its own, for our log; we empty it."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...

    def shuts_out(self, host: str, transport: str) -> bool: ...

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

    def datagrams_to_send(self) -> list[tuple[bytes, Flow]]: ...

    def lookups_to_start(self) -> list[Query]: ...

    def take_events(self) -> list[Doc]: ...

    def take_changes(self) -> list[Change]: ...


MakeCore = Callable[[Settings, Cipher, Callable[[int], bytes]], Core]
