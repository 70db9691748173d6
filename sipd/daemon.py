"""The daemon: one core, its sockets, its disk and its control channel around one event loop.

Each batch goes the same way: receive, tell the core, commit what changed, then send.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import sqlite3
import sys
from typing import Any

from sipd.clock import Clock
from sipd.config import Config, ConfigError, read_token
from sipd.control import Control
from sipd.core import MakeCore
from sipd.disk import Checkpointer
from sipd.faults import Faults
from sipd.flow import Answer, Flow, Listener, Query, TlsName, expected_at
from sipd.grounds import allow_files, lock_state
from sipd.listening import advertised, bind_all, shown, unusable
from sipd.message.framing import FramingError
from sipd.net.resolve import Resolver
from sipd.net.streams import Security, Streams
from sipd.net.tls import CertificateError, Certificates
from sipd.net.udp import Received, UdpListener
from sipd.reload import Reloader
from sipd.requests import Requests, release
from sipd.routing.lookup import Compiled
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.store import Store, TableStore
from sipd.traces import TraceStore
from sipd.vitals import Lag, limits, memory

log = logging.getLogger("sipd.daemon")

TIMER_GRAIN = 0.002
"""Seconds between two runs of the core's timers at least: SIP's shortest timer is 500 ms (RFC 3261 17)."""
TICK_SECONDS = 1.0
"""How often the store looks whether it has something to try again."""
CERTIFICATE_SECONDS = 5.0
"""How often the files of certificates are looked at."""
SWITCH_SECONDS = 0.001
"""How long a loading table may hold the interpreter while a call waits for it."""
GARBAGE = (10_000, 5, 20)
"""When the garbage collector runs: a call is many objects that live for a while, and about 70 that only it can free.

Measured with a frozen table (`sipd.reload`) of 2,000 tenants with 20 users each, traced calls, two shared cores.
Python's own (700, 10, 10): 8 full collections in 6,000 calls, up to 540 ms each, 590 us a call. These: none in 10,000
calls, the longest pause 40 ms, 87 us a call. A full collection does come, after about 13,000 calls by the counts, and
is long: with (10_000, 5, 10) one took 1.6 s, with the traces of 18,000 calls in memory, which are most of what it sees.
"""

Doc = dict[str, Any]


class Daemon:
    """One node. `run` is its life; `started` is set once it can be reached."""

    def __init__(self, config: Config, cipher: Cipher, make_core: MakeCore) -> None:
        self._config = config
        self._cipher = cipher
        self._make_core = make_core
        self._clock = Clock()
        self._counters: dict[str, int] = {}
        self._faults = Faults(self._counters)
        self._events: list[Doc] = []
        self._settling = False
        self._serving = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._ticking: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._tick_at = 0.0
        self._lag = Lag()
        self._stop = asyncio.Event()
        self.started = asyncio.Event()
        self.listeners: tuple[Listener, ...] = ()

    async def run(self) -> None:
        """Start, serve until `stop`, end cleanly. Raises ConfigError when it cannot start."""
        lock = lock_state(self._config)
        try:
            self._open()
            try:
                await self._start()
                await self._stop.wait()
            finally:
                await self._end()
        finally:
            os.close(lock)

    def stop(self) -> None:
        """End soon; may be called at any time from the loop's thread."""
        self._stop.set()

    def stop_at_signals(self) -> None:
        """SIGINT and SIGTERM stop the daemon; SIGHUP has it read its certificates anew."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload_certificates)

    def reload_certificates(self) -> str:
        """For connections made from now on; why the files could not be taken, or empty."""
        return self._certificates.reload() if self._serving else "The node is not serving."

    # Life

    def _open(self) -> None:
        """Everything that can fail for reasons that a person must mend, before the first packet."""
        config = self._config
        token = read_token(config.control_token_file) if config.control_token_file else ""
        try:
            self._certificates = Certificates(config.tls, self._counters)
        except CertificateError as error:
            raise ConfigError(str(error)) from error
        self._sockets = bind_all(config.listen)
        try:
            self._store = Store(config.state / "state.db", self._counters)
            self._tables = TableStore(config.state / "table.db")
        except (OSError, sqlite3.Error) as error:
            for sock in self._sockets:
                sock.close()
            raise ConfigError(f"The state directory {config.state} cannot be used: {error}.") from error
        self._checkpointer = Checkpointer([config.state / "state.db", config.state / "table.db"])
        self.listeners = advertised(config, self._sockets)
        self._settings = Settings(
            listeners=self.listeners, node=config.node, digest=config.digest, trace=config.trace,
            trace_sample=config.trace_sample, **config.tuned,  # type: ignore[arg-type]  # `tuning` has checked them
        )  # fmt: skip
        self._reloader = Reloader(
            self._tables, release(), self._settings.own_hosts, self._swap, self._note, self._clock.now
        )
        self._reloader.restore()
        now = self._clock.now()
        self._core = self._make_core(self._settings, self._cipher, os.urandom)
        self._core.restore(self._store.changes(), now)
        self._core.load(self._reloader.running.compiled, now)
        self._traces = TraceStore(config.state / "traces.db", self._counters, config.keeping, self._clock.now)
        self._requests = Requests(
            config.node, self._core, self._reloader, self._store.spool, self._counters, self._clock.now, self._soon,
            self.reload_certificates, self._traces, self._shell, config.keeping.bodies,
        )  # fmt: skip
        self._control = Control(self._requests.handlers(), self._counters, token)
        draw = random.SystemRandom().randrange
        self._resolver = Resolver(self._resolved, self._counters, self.listeners, draw, config.dns_servers)
        hosts = {index: listener.host for index, listener in enumerate(self.listeners)}
        security = Security(self._certificates, self._tls_name, config.ws_origins, self._core.shuts_out)
        self._streams = Streams(asyncio.get_running_loop(), self, hosts, self._counters, security=security)
        self._udp: dict[int, UdpListener] = {}

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        allow_files()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(*GARBAGE)
        await self._control.listen_unix(self._config.control)
        if self._config.control_tcp:
            address = self._config.control_tcp
            try:
                await self._control.listen_tcp(address)
            except OSError as error:
                raise ConfigError(unusable("control-tcp", f"{address.host}:{address.port}", error)) from error
        for index, sock in enumerate(self._sockets):
            if sock.type == socket.SOCK_DGRAM:
                self._udp[index] = UdpListener(loop, sock, index, self._received, self._counters, self._core.shuts_out)
                self._udp[index].start()
            else:
                await self._streams.listen(sock, index, self.listeners[index].transport)
        self._serving = True
        self._note("node.started", {"release": release(), "pid": os.getpid()})
        self._settle()
        self._tick_at = loop.time() + TICK_SECONDS
        self._ticking = loop.call_at(self._tick_at, self._tick)
        self._looking = loop.call_later(CERTIFICATE_SECONDS, self._look_at_certificates)
        log.info("started node=%s listen=%s", self._config.node, ",".join(map(shown, self.listeners)))
        self.started.set()

    async def _end(self) -> None:
        started, self._serving = self._serving, False
        self._control.close()
        for listener in self._udp.values():
            listener.close()
        await self._streams.close()
        self._resolver.close()
        for sock in self._sockets:
            sock.close()
        if started:
            for handle in (self._ticking, self._looking):
                if handle is not None:
                    handle.cancel()
            self._note("node.stopped", {"release": release(), "pid": os.getpid()})
            self._store.commit(self._core.take_changes(), [*self._core.take_events(), *self._events])
            self._events.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._keep_traces(everything=True)
        self._traces.close()
        self._requests.close()
        self._reloader.close()
        self._checkpointer.stop()
        self._store.close()
        self._tables.close()
        log.info("stopped node=%s", self._config.node)

    # What sockets bring

    def _received(self, batch: Received) -> None:
        now = self._clock.now()
        receive = self._core.receive
        for data, flow in batch:
            try:
                receive(data, flow, now)
            except Exception as error:  # noqa: BLE001 - `note` is loud about it
                self._faults.note("receive", error)
        self._settle()

    def stream_received(self, messages: list[bytes], flow: Flow) -> None:
        """Whole messages of a stream."""
        now = self._clock.now()
        for data in messages:
            self._faults.tell("receive", self._core.receive, data, flow, now)
        self._soon()

    def stream_pinged(self, flow: Flow) -> None:
        """A phone keeps its flow alive."""
        self._faults.tell("receive", self._core.receive, b"", flow, self._clock.now())

    def stream_broken(self, error: FramingError, flow: Flow) -> None:
        """Answered before the stream is closed."""
        self._faults.tell("bad_frame", self._core.bad_frame, error, flow, self._clock.now())
        self._settle()

    def stream_lost(self, flow: Flow) -> None:
        """A stream ended, or could not be opened."""
        if self._serving:
            self._faults.tell("flow_lost", self._core.flow_lost, flow, self._clock.now())
            self._soon()

    def stream_verified(self, flow: Flow, names: frozenset[str]) -> None:
        """The peer of a TLS connection has shown who it is."""
        self._faults.tell("peer_verified", self._core.peer_verified, flow, names)

    def _tls_name(self, flow: Flow) -> TlsName | None:
        """Who shall be there, as the core knows."""
        return expected_at(flow) or self._core.tls_names.get(flow[:3])

    def _resolved(self, query: Query, answer: Answer) -> None:
        self._faults.tell("resolved", self._core.resolved, query, answer, self._clock.now())
        self._soon()

    def _swap(self, compiled: Compiled) -> None:
        self._core.load(compiled, self._clock.now())
        self._soon()

    def _note(self, kind: str, detail: Doc) -> None:
        """An event of the shell's own."""
        self._events.append({"at": round(self._clock.now(), 3), "kind": kind, "detail": detail})
        self._soon()

    # What the core wants

    def _soon(self) -> None:
        """Settle once after all that this turn of the loop brings."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Commit, then send: what a peer is told survives `kill -9`."""
        self._settling = False
        if not self._serving:
            return
        core = self._core
        events = core.take_events()
        if self._events:
            events = events + self._events
            self._events = []
        self._store.commit(core.take_changes(), events)
        for data, flow in core.datagrams_to_send():
            self._send(data, flow)
        for query in core.lookups_to_start():
            self._resolver.start(query)
        if core.faults:
            self._faults.note("core", core.faults[0])
            core.faults.clear()
        self._arm()

    def _send(self, data: bytes, flow: Flow) -> None:
        if flow.transport != "udp":
            self._streams.send(data, flow)
            return
        listener = self._udp.get(flow.listener)
        if listener is None:
            self._faults.note("send", LookupError(f"no UDP listener for {flow!r}"))
        else:
            listener.send(data, flow.host, flow.port)

    def _arm(self) -> None:
        """One timer of the event loop for all timers of the core."""
        due = self._core.next_timer()
        if self._timer is not None:
            if due == self._armed:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            self._armed = due
            self._timer = loop.call_at(max(due - self._clock.base, loop.time() + TIMER_GRAIN), self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        self._faults.tell("handle_timer", self._core.handle_timer, self._clock.now())
        self._settle()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._lag.note(loop.time() - self._tick_at)
        self._tick_at = loop.time() + TICK_SECONDS
        self._ticking = loop.call_at(self._tick_at, self._tick)
        self._store.commit((), ())
        self._keep_traces()

    def _keep_traces(self, *, everything: bool = False) -> None:
        """Give to the disk what calls have said since the last time."""
        tracer = self._core.tracer
        if tracer is not None:
            try:
                batches = tracer.take(self._clock.now(), everything=everything)
            except Exception as error:  # noqa: BLE001 - `note` is loud about it
                self._faults.note("trace", error)
            else:
                if batches:
                    self._traces.put(batches)

    def _shell(self) -> Doc:
        """For `status`: what the shell knows."""
        return {
            "node": self._config.node,
            "release": release(),
            "pid": os.getpid(),
            "listeners": [shown(listener) for listener in self.listeners],
            "loop_lag": self._lag.as_dict(),
            "memory": memory(),
            "queues": {
                "traces": self._traces.waiting,
                "events": self._store.spool.mark.next - self._store.spool.mark.first,
            },
            "traces_on_disk": self._traces.held,
            "limits": limits(self._reloader.running.compiled, self._config.keeping),
        }

    def _look_at_certificates(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(CERTIFICATE_SECONDS, self._look_at_certificates)
        self._certificates.reload_if_changed()
