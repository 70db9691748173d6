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
import sys
from collections.abc import Coroutine
from typing import Any

from sipd.chores import TICK_SECONDS, Chores
from sipd.clock import Clock, Kept
from sipd.config import Config, ConfigError, read_token
from sipd.control import Control, ControlCertificate, NoPlaceError
from sipd.core import MakeCore
from sipd.disk import Checkpointer
from sipd.drain import Drain
from sipd.faults import Faults
from sipd.flow import Answer, Flow, Listener, Query, TlsName, expected_at, shown
from sipd.grounds import allow_files, lock_state
from sipd.listening import advertised, bind_all, bind_metrics, unusable
from sipd.message.framing import FramingError
from sipd.net.relays import RelaySockets
from sipd.net.resolve import Resolver
from sipd.net.streams import Security, Streams
from sipd.net.tls import CertificateError, Certificates
from sipd.net.udp import Received, UdpListener
from sipd.readiness import reasons
from sipd.reload import Reloader
from sipd.requests import Requests, release
from sipd.routing.lookup import Compiled
from sipd.routing.seal import Cipher
from sipd.settings import Settings
from sipd.store import Change, Store
from sipd.tables import TableStore
from sipd.traces import TraceStore
from sipd.vitals import limits, memory
from sipd.watch import Watch

log = logging.getLogger("sipd.daemon")

TIMER_GRAIN = 0.002
"""Seconds between two runs of the core's timers at least: SIP's shortest timer is 500 ms (RFC 3261 17)."""
OFTEN, SELDOM = 5, 60
"""Seconds between two looks at files, and between two notes of the clock."""
SWITCH_SECONDS = 0.001
"""How long a loading table may hold the interpreter while a call waits for it."""
GARBAGE = (10_000, 5, 20)
"""When the garbage collector runs: a call is many objects that live for a while, and about 70 that only it can free.

Measured with a frozen table (`sipd.reload`) of 2,000 tenants with 20 users each, traced calls, two shared cores.
Python's own (700, 10, 10): 8 full collections in 6,000 calls, up to 540 ms each, 590 us a call. These: none in 10,000
calls, the longest pause 40 ms, 87 us a call. A full collection does come, after about 13,000 calls by the counts, and
is long: with (10_000, 5, 10) one took 1.6 s, with the traces of 18,000 calls in memory, which are most of what it sees.
"""

CLOCK = "clock"
"""Kind of the record that says by which clock the others were stored."""

Doc = dict[str, Any]


class Daemon:
    """One node. `run` is its life; `started` is set once it can be reached."""

    def __init__(self, config: Config, cipher: Cipher, make_core: MakeCore, clock: Clock | None = None) -> None:
        self._config = config
        self._cipher = cipher
        self._make_core = make_core
        self._clock = clock or Clock()
        self._counters: dict[str, int] = {"clock.steps": 0}
        self._faults = Faults(self._counters)
        self._events: list[Doc] = []
        self._settling = False
        self._serving = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0
        self._chores = Chores(self._faults)
        self._leaving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self.started = asyncio.Event()
        self.listeners: tuple[Listener, ...] = ()

    async def run(self) -> None:
        """Start, serve until `stop`, end cleanly. Raises ConfigError when it cannot start."""
        lock = lock_state(self._config)
        try:
            gc.disable()  # it would look at all that is restored again and again, and find nothing
            try:
                self._open()
            finally:
                gc.enable()
            try:
                await self._start()
                await self._stop.wait()
            finally:
                await self._end()
        finally:
            if lock is not None:
                os.close(lock)

    def stop(self) -> None:
        """End soon; may be called at any time from the loop's thread."""
        self._stop.set()

    def leave(self) -> None:
        """End when no call is left, or the time for that is over; asked once more, at once."""
        self._watch.stopping()
        if self._leaving is None and self._serving and self._config.drain:
            self._leaving = asyncio.get_running_loop().create_task(self._drain.finish(self._config.drain))
            self._leaving.add_done_callback(lambda _: self.stop())
        else:
            self.stop()

    def stop_at_signals(self) -> None:
        """SIGINT and SIGTERM stop the daemon; SIGHUP has it read its certificates anew."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.leave)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read the certificates anew, and tell the service manager."""
        if self._serving:
            self._watch.reloading()
            self.reload_certificates()
            self._watch.started()

    def reload_certificates(self) -> str:
        """For connections made from now on; why the files could not be taken, or empty."""
        if not self._serving:
            return "The node is not serving."
        asked = self._control_certificate.reload() if self._control_certificate is not None else ""
        return " ".join(filter(None, (self._certificates.reload(), asked)))

    # Life

    def _open(self) -> None:
        """Everything that can fail for reasons that a person must mend, before the first packet."""
        config = self._config
        token = read_token(config.control_token_file) if config.control_token_file else ""
        self._open_certificates()
        self._sockets = bind_all(config.listen)
        watching = bind_metrics(config.metrics, self._sockets)
        self._store = Store(config.state / "state.db", self._counters)
        self._tables = TableStore(config.state / "table.db")
        self._checkpointer = Checkpointer([config.state / "state.db", config.state / "table.db"])
        self.listeners = advertised(config, self._sockets)
        self._settings = Settings(
            listeners=self.listeners, node=config.node, digest=config.digest, trace=config.trace,
            trace_sample=config.trace_sample, media=tuple(shown(("udp", *relay)) for relay in config.media),
            **config.tuned,  # type: ignore[arg-type]  # `tuning` has checked them
        )  # fmt: skip
        self._reloader = Reloader(
            self._tables, release(), self._settings.own_hosts, self._swap, self._note, self._clock.shown
        )
        self._reloader.restore()
        self._core = self._make_core(self._settings, self._cipher, os.urandom)
        self._restore(self._store.changes())
        self._drain = Drain(self._core, self._clock.now, self._note, self._soon)
        self._traces = TraceStore(config.state / "traces.db", self._counters, config.keeping, self._clock.now)
        self._requests = Requests(
            config.node, self._core, self._reloader, self._store, self._counters, self._clock, self._soon, self._drain,
            self.reload_certificates, self._traces, self._shell, config.keeping.bodies,
        )  # fmt: skip
        self._control = Control(self._requests.handlers(), self._counters, token)
        draw = random.SystemRandom().randrange
        self._resolver = Resolver(self._resolved, self._counters, self.listeners, draw, config.dns_servers)
        hosts = {index: listener.host for index, listener in enumerate(self.listeners)}
        security = Security(self._certificates, self._tls_name, config.ws_origins, self._core.shuts_out)
        self._streams = Streams(
            asyncio.get_running_loop(), self, hosts, self._counters, security=security, limit=allow_files()
        )
        self._udp: dict[int, UdpListener] = {}
        self._media = RelaySockets(asyncio.get_running_loop(), config.media, self._media_received, self._counters)
        self._watch = Watch(config, watching, self._clock, self._reloader, self._requests.state, self._chores.overdue)

    def _open_certificates(self) -> None:
        shown_to_panel = self._config.control_certificate
        self._control_certificate = ControlCertificate(shown_to_panel) if shown_to_panel is not None else None
        try:
            self._certificates = Certificates(self._config.tls, self._counters)
        except CertificateError as error:
            raise ConfigError(str(error)) from error

    def _restore(self, changes: list[Change]) -> None:
        """State and table from before; a clock that goes on with what they were stored by."""
        for kind, _, record in changes:
            if kind == CLOCK and record is not None:
                self._faults.tell("clock", lambda record=record: self._clock.go_on(Kept(**record)))
        self._core.set_wall(self._clock.ahead)
        now = self._clock.now()
        self._core.restore([change for change in changes if change[0] != CLOCK], now)
        self._faults.tell("load", self._core.load, self._reloader.running.compiled, now)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        await self._watch.serve(self._core, self._certificates.expiries, self._counters, self._faults)
        await self._listen_control()
        if self._config.control_tcp:
            address = self._config.control_tcp
            try:
                await self._control.listen_tcp(address, self._control_certificate)
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
        self._keep_clock()
        for ticks, work in (
            (1, self._look_at_clock), (1, self._keep_state), (1, self._keep_traces), (1, self._drain.look),
            (1, self._watch.tick), (OFTEN, self._look_at_files), (SELDOM, self._keep_clock),
        ):  # fmt: skip
            self._chores.every(ticks, work)
        self._chores.start()
        self._watch.started()
        log.info("started node=%s listen=%s", self._config.node, ",".join(map(shown, self.listeners)))
        self.started.set()

    async def _listen_control(self) -> None:
        """A state directory that takes no socket now may take one later; a place that was chosen must be right."""
        try:
            await self._control.listen_unix(self._config.control)
        except NoPlaceError as error:
            if self._config.control.parent != self._config.state:
                raise
            log.error("the node cannot be asked for now error=%r", str(error))

    async def _end(self) -> None:
        started, self._serving = self._serving, False
        self._watch.stopping()
        self._chores.stop()
        for task in (*self._tasks, *([self._leaving] if self._leaving else ())):
            task.cancel()
        self._control.close()
        for listener in self._udp.values():
            listener.close()
        await self._streams.close()
        self._media.close()
        self._resolver.close()
        for sock in self._sockets:
            sock.close()
        if started:
            self._note("node.stopped", {"release": release(), "pid": os.getpid()})
            last = (CLOCK, "", self._clock.keep()._asdict())
            self._store.commit([*self._core.take_changes(), last], [*self._core.take_events(), *self._events])
            self._events.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._keep_traces(everything=True)
        self._traces.close()
        self._requests.close()
        self._reloader.close()
        self._watch.close()
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

    def _media_received(self, batch: list[tuple[bytes, int]]) -> None:
        now = self._clock.now()
        for data, number in batch:
            self._faults.tell("media_received", self._core.media_received, data, number, now)
        self._settle()

    def _resolved(self, query: Query, answer: Answer) -> None:
        self._faults.tell("resolved", self._core.resolved, query, answer, self._clock.now())
        self._soon()

    def _swap(self, compiled: Compiled) -> None:
        self._core.load(compiled, self._clock.now())
        self._soon()

    def _note(self, kind: str, detail: Doc) -> None:
        """An event of the shell's own."""
        self._events.append({"at": round(self._clock.shown(), 3), "kind": kind, "detail": detail})
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
        if events:
            self._watch.take(events)
        for data, flow in core.datagrams_to_send():
            self._send(data, flow)
        for data, number in core.media_to_send():
            self._media.send(data, number)
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
            self._timer = loop.call_later(max(due - self._clock.now(), TIMER_GRAIN), self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        self._faults.tell("handle_timer", self._core.handle_timer, self._clock.now())
        self._settle()

    # What comes again and again

    def _look_at_clock(self) -> None:
        """Tell of a wall clock that was set. Timers of a machine that was suspended are due by now, by our clock."""
        step = self._clock.look()
        if step:
            self._counters["clock.steps"] += 1
            log.warning("the clock was set seconds=%+.1f ahead=%+.1f", step, self._clock.ahead)
            self._core.set_wall(self._clock.ahead)
            self._note("clock.stepped", {"seconds": round(step, 3), "ahead": round(self._clock.ahead, 3)})
            self._keep_clock()
        due = self._core.next_timer()
        if due is not None and due + TICK_SECONDS < self._clock.now():
            self._run_timers()

    def _keep_clock(self) -> None:
        self._store.commit([(CLOCK, "", self._clock.keep()._asdict())], ())

    def _keep_state(self) -> None:
        """Try again what could not be written; fill a file that had to be begun anew."""
        self._store.commit((), ())
        if self._store.to_be_filled:
            self._store.lacking = False
            self._core.restate()
            self._keep_clock()
            self._soon()

    def _look_at_files(self) -> None:
        self._store.look()
        self._certificates.reload_if_changed()
        if self._reloader.unstored:
            self._in_background(self._reloader.keep_again())
        if not self._control.by_socket:
            self._in_background(self._listen_control())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        not_ready = reasons(
            listening=self._serving, table=bool(self._reloader.running.parts), store=not self._store.failing,
            draining=self._drain.since is not None,
        )  # fmt: skip
        return {
            "ready": not not_ready,
            "not_ready": not_ready,
            "node": self._config.node,
            "release": release(),
            "pid": os.getpid(),
            "listeners": [shown(listener) for listener in self.listeners],
            "loop_lag": self._chores.lag.as_dict(),
            "memory": memory(),
            "connections": len(self._streams),
            "queues": {
                "traces": self._traces.waiting,
                "events": self._store.spool.mark.next - self._store.spool.mark.first,
                "udp": sum(listener.waiting for listener in self._udp.values()),
                "streams": self._streams.opening,
                "lookups": self._resolver.waiting,
            },
            "traces_on_disk": self._traces.held,
            "store": {**self._store.state(self._clock.shown()), "table": not self._reloader.unstored},
            "drain": self._drain.state(),
            "clock": {"ahead": round(self._clock.ahead, 3)},
            "limits": limits(self._reloader.running.compiled, self._config.keeping, self._streams.limit),
        }
