"""The sans-IO core: bytes and time in, bytes and events out (docs/architecture.md lists the calls)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from sipd import tollguard
from sipd.auth import Authenticator
from sipd.calls import Call, Calls, Core
from sipd.census import Census
from sipd.dispatch import Dispatcher
from sipd.events import Change, Event, Events
from sipd.flow import Answer, Flow, Query, TlsName
from sipd.guard import Admission, Guard
from sipd.hunting import Hunting
from sipd.indialog import InDialog, Relay
from sipd.keepalive import KeepAlive
from sipd.keeping import KINDS
from sipd.limits import CallLimits
from sipd.media import MediaRelays
from sipd.message import build, stun
from sipd.message.check import check
from sipd.message.errors import BadMessage
from sipd.message.framing import FramingError
from sipd.message.message import Message
from sipd.message.scanner import scan
from sipd.passing import Passing
from sipd.registrar import Binding, Registrar
from sipd.relaying import Relaying
from sipd.resuming import Resuming
from sipd.routing.lookup import EMPTY, Compiled, compile_table
from sipd.routing.seal import Cipher
from sipd.sending import Sender
from sipd.settings import Settings
from sipd.subscriptions import Subscriptions
from sipd.tally import Tally
from sipd.timers import Timers
from sipd.tollguard import TollGuard
from sipd.trace import Tracer
from sipd.transaction.layer import ClientTransaction, Layer, ServerTransaction, Timing, answer_to, stateless_tag
from sipd.upstream import Upstream
from sipd.wire import Wire

KEEPING_ALIVE = frozenset((b"", b"\r", b"\n", b"\0"))
"""First octets of what is no SIP: empty datagrams, line ends and zeros, and STUN."""
IN_NO_DIALOG = (405, 481, 501)
"""Answers to what names a dialog that there is not, or a method that none has."""
MAX_FAULTS = 20
"""Unexpected errors whose text is kept; all are counted."""


class Edge:
    """One node's core. The shell owns sockets, clock and disk."""

    def __init__(
        self,
        settings: Settings,
        cipher: Cipher,
        random_bytes: Callable[[int], bytes],
        timing: Timing | None = None,
    ) -> None:
        self.compiled = compile_table(EMPTY, edge_hosts=settings.own_hosts)
        """The table in force; knows nobody before the first `load`."""
        self.tracer = Tracer(settings.trace_sample) if settings.trace else None
        """What was said, for people; None: tracing is off."""
        self.events = Events(self.tracer, Tally(settings.metrics_tenants))
        if self.tracer is not None:
            self.tracer.counters = self.events.counters
        self.timers = Timers()
        self.wire = Wire(settings, random_bytes)
        self.layer = Layer(self, self.wire.send, self.timers, timing, count=self.events.tally.request)
        self.keepalive = KeepAlive(settings, self.wire, self.timers, self.events, random_bytes)
        self.registrar = Registrar(settings, self.events, self.timers, self.keepalive)
        self.sender = Sender(self.wire, self.layer, self.timers, self.events.count)
        self.sender.on_flow_failed = self.registrar.flow_failed
        self.upstream = Upstream(settings, self.wire, self.sender, self.timers, self.events, cipher, random_bytes)
        self.media = MediaRelays(settings.media, self.timers, self.events, self.wire.token, settings.media_ping)
        self.core = core = Core(
            settings, self.wire, self.layer, self.sender, self.timers, self.events, CallLimits(), self.registrar,
            self.keepalive, cipher, lambda: self.compiled, self.upstream.ways, self.media,
        )  # fmt: skip
        self.guard = Guard(settings, self.timers, self.events, self.registrar, core.peer_names, self.compiled)
        self.tolls = TollGuard(self.timers, self.events)
        self._now = 0.0
        """When the last thing happened."""
        self._restored: set[str] = set()
        """Tenants whose phones were registered before a restart, until there is a table."""
        self.calls_ = Calls(core)
        self._in_dialog = InDialog(core, self.calls_)
        self._resuming = Resuming(core, self.calls_)
        authenticator = Authenticator(cipher, random_bytes, settings)
        self.subscriptions = Subscriptions(core, self.calls_)
        hunting, passing = Hunting(core, self.calls_, self.tolls), Passing(core, self.calls_)
        self.relaying = Relaying(core, self.guard)
        self._dispatcher = Dispatcher(
            core, hunting, passing, self.subscriptions, authenticator, self.guard, self.relaying
        )
        self.faults: list[BaseException] = []
        """Errors of our own, for the shell's log; emptied by it."""

    # -- in

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one framed message of a stream. Never raises."""
        self._now = now
        self.guard.heard(flow, len(data), now)
        if data[:1] in KEEPING_ALIVE and self._kept_alive(data, flow, now):
            return
        try:
            message = scan(data)
            check(message)
        except BadMessage as bad:
            if self.tracer is not None:
                self.tracer.received(data, flow, now, "", self.wire.outbox)
            self._malformed(bad, flow, now)
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one message, not the daemon
            self._fault(error)
            return
        if self.tracer is not None:
            self.tracer.received(data, flow, now, message.call_id, self.wire.outbox)
        if message.method == "CANCEL" and not message.status and not self.guard.blame(flow, "stray", now):
            return
        try:
            self.layer.receive(message, flow, now)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one message, not the daemon
            self._receive_failed(error, message, flow, now)

    def _kept_alive(self, data: bytes, flow: Flow, now: float) -> bool:
        """Whether this only keeps a NAT's way open. STUN is answered to phones that registered there, as it says more
        than was asked (RFC 5626 4.4.2)."""
        if not data.strip(b"\r\n\0 "):
            self.events.count("keepalives")
            self.keepalive.heard(flow, now)
            return True
        if not stun.is_request(data):
            return False
        self.events.count("keepalives")
        self.keepalive.heard(flow, now)
        if self.registrar.has_phone_at(flow):
            self.wire.send(stun.answer(data, flow.host, flow.port), flow)
        return True

    def bad_frame(self, error: FramingError, flow: Flow, now: float) -> None:
        """A stream that can no longer be framed; the shell closes it after our answer."""
        if self.tracer is not None:
            data = error.message.data if error.message is not None else b"(what cannot be framed)"
            self.tracer.received(data, flow, now, "", self.wire.outbox)
        self._malformed(BadMessage(error.status, error.reason, error.message), flow, now)

    def _malformed(self, bad: BadMessage, flow: Flow, now: float) -> None:
        """Answer what can be answered, without a transaction (RFC 3261 16.3, RFC 4475); count the rest."""
        message = bad.message
        self.events.count("malformed")
        if not self.guard.blame(flow, "malformed", now):
            return
        if message is None or message.status or message.method in ("ACK", ""):
            return
        if not all(message.has(name) for name in ("via", "from", "to", "call-id", "cseq")) and bad.status != 400:
            return
        try:
            data = build.response(message, bad.status, bad.reason, "malformed", [], b"", flow[1:3])
        except Exception as error:  # noqa: BLE001 - answering is a courtesy here: what cannot be built is not sent
            self._fault(error)
            return
        self.events.tally.request(message.method, bad.status, "malformed")
        self.wire.send(data, _answer_to(message, flow))

    def _receive_failed(self, error: Exception, message: Message, flow: Flow, now: float) -> None:
        """Answer a request that could not be dealt with."""
        if isinstance(error, BadMessage):
            self._malformed(BadMessage(error.status, error.reason, error.message or message), flow, now)
            return
        self._fault(error)
        if not message.status and message.method != "ACK":
            self._malformed(BadMessage(500, "Server Internal Error", message), flow, now)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A fault of ours costs one thing to be done, not the daemon."""
        try:
            work()
        except BadMessage:  # of an answer, say, that nobody waits for
            pass
        except Exception as error:  # noqa: BLE001 - see above
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        self.events.count("faults")
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(error)

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A stream ended: its transactions fail at once, its phones are gone."""
        self.core.peer_names.pop(flow, None)
        self._tick(now)
        self._guarded(lambda: self.layer.flow_lost(flow, now))
        self._guarded(lambda: self.registrar.flow_lost(flow, now))
        self._guarded(lambda: self.upstream.flow_lost(flow, now))
        self._guarded(lambda: self.subscriptions.flow_lost(flow, now))

    def peer_verified(self, flow: Flow, names: frozenset[str]) -> None:
        """The peer of a TLS connection has a certificate that we believe, for these DNS names; until `flow_lost`."""
        self.core.peer_names[flow] = names

    def resolved(self, query: Query, answer: Answer, now: float) -> None:
        """What a look-up found."""
        self._tick(now)
        self._guarded(lambda: self.wire.resolved(query, answer, now))

    def media_received(self, data: bytes, instance: int, now: float) -> None:
        """A datagram from a media relay, by its number in `Settings.media`."""
        self._tick(now)
        self._guarded(lambda: self.media.received(data, instance, now))

    def _tick(self, now: float) -> None:
        """Time passes. For the trace: what the core says now is no message's doing."""
        self._now = now
        if self.tracer is not None:
            self.tracer.tick(now, self.wire.outbox)

    def handle_timer(self, now: float) -> None:
        self._tick(now)
        self._guarded(lambda: self.timers.fire(now))

    def next_timer(self) -> float | None:
        """Epoch seconds; None: nothing to wait for."""
        return self.timers.next()

    def load(self, compiled: Compiled, now: float) -> None:
        """Swap the table, at the cost of what changed. Calls in progress keep what they were decided with."""
        self._tick(now)
        changed = compiled.changed_since(self.compiled)
        if compiled.tenants:  # what was restored may be of tenants that went meanwhile
            changed |= self._restored
            self._restored.clear()
        self.compiled = compiled
        self.guard.load(compiled, now)
        self.registrar.load(compiled, changed, now)
        self.upstream.load(compiled, changed, now)
        self.relaying.load(compiled, changed, now)
        self.subscriptions.load(compiled, changed, now)
        self._guarded(lambda: self._resuming.load(now))
        self.media.begin(now)

    def restore(self, changes: Iterable[Change], now: float) -> None:
        """State from before a restart; to be followed by `load`, which drops what the table no longer wants.

        A record that no part can read is left out: it is some other release's.
        """
        for kind, key, record in changes:
            if record is not None:
                try:
                    self._restore(kind, key, record, now)
                except Exception as error:  # noqa: BLE001 - one record must not keep the daemon from starting
                    self._fault(error)
                    self.events.count("restore.unreadable")
        for binding in self.registrar:
            self.guard.prove(binding.flow, now)

    def _restore(self, kind: str, key: str, record: dict[str, Any], now: float) -> None:
        if kind == "binding":
            self.registrar.restore(record, now, key)
            self._restored.add(record["tenant"])
        elif kind == "upstream":
            self.upstream.restore(record, key)
        elif kind == "relayed":
            self.relaying.restore(record)
            self._restored.add(record["tenant"])
        elif kind == "media":
            self.media.restore(key, record)
        elif kind == tollguard.KIND:
            self.tolls.restore(record, now)
        elif kind in KINDS:
            self._resuming.restore(kind, key, record)

    def restate(self) -> None:
        """Note all state once more, as changes: the store has lost what it had."""
        for binding in self.registrar:
            self.events.change("binding", binding.key, binding.record())
        self.upstream.restate()
        self.relaying.restate()
        self.media.restate()
        self.tolls.restate()
        self._resuming.restate()
        self.calls_.keeping.restate(self.calls_.calls.values())

    def set_wall(self, ahead: float) -> None:
        """The wall clock is `ahead` seconds of the time that is told here: it holds for events and business hours."""
        self.events.ahead = ahead

    def refuse_calls(self, retry_after: int) -> None:
        """Answer new calls with 503, to be tried again in so many seconds; 0: take them again. All else goes on."""
        self._dispatcher.retry_after = retry_after

    def hang_up_all(self, reason: str, now: float) -> int:
        """End all calls, each with its record; how many."""
        self._tick(now)
        calls = list(self.calls_.calls.values())
        for call in calls:
            self._guarded(partial(self.calls_.hang_up, call, 503, reason, now))
        return len(calls)

    # -- out

    def datagrams_to_send(self) -> list[tuple[bytes, Flow]]:
        said, self.wire.outbox = self.wire.outbox, []
        taken = [entry for entry in said if self.guard.lets_out(*entry, self._now)]
        if self.tracer is not None:
            self.tracer.sent(taken)
        return taken

    def lookups_to_start(self) -> list[Query]:
        taken, self.wire.lookups = self.wire.lookups, []
        return taken

    def media_to_send(self) -> list[tuple[bytes, int]]:
        """Datagrams to media relays, each with the number of the relay in `Settings.media`."""
        taken, self.media.outbox = self.media.outbox, []
        return taken

    def take_events(self) -> list[Event]:
        return self.events.take_events()

    def take_changes(self) -> list[Change]:
        self.calls_.keeping.flush()
        return self.events.take_changes()

    @property
    def tls_names(self) -> dict[tuple[str, str, int], TlsName]:
        """Whom to expect at the other end of an outgoing TLS connection, by the first three fields of its flow."""
        return self.wire.tls_names

    @property
    def counters(self) -> Counter[str]:
        return self.events.counters

    def registrations(self, tenant: str | None, now: float) -> dict[str, list[dict[str, Any]]]:
        """docs/architecture.md, `registrations`."""
        upstream = [r.state_dict() for r in self.upstream if tenant in (None, r.wanted.account.tenant)]
        upstream += self.relaying.describe(tenant, now)
        bindings = [_binding_dict(b) for b in self.registrar if tenant in (None, b.tenant) and b.expires > now]
        return {"upstream": upstream, "bindings": bindings, "subscriptions": list(self.subscriptions.describe(tenant))}

    def calls(self, tenant: str | None, now: float) -> list[dict[str, Any]]:
        """docs/architecture.md, `calls`."""
        return list(self.calls_.describe(tenant))

    def hang_up(self, name: str, tenant: str | None, code: int, reason: str, now: float) -> str:
        """End a call by its id or a leg's Call-ID, both legs properly; the call's id, empty when there is none.

        `code` and `reason` are the caller's answer when nobody answered yet.
        """
        self._tick(now)
        call = self.calls_.named(name)
        if call is None or tenant not in (None, call.index.tenant.id):
            return ""
        call.by = "operator"
        self._guarded(lambda: self.calls_.hang_up(call, code, reason, now))
        return call.id

    def vitals(self) -> dict[str, int]:
        """How many there are of what a node holds in memory."""
        return {
            "calls": len(self.calls_.calls),
            "dialogs": len(self.calls_.dialogs),
            "client_transactions": self.layer.clients,
            "server_transactions": self.layer.servers,
            "bindings": len(self.registrar),
            "upstream": len(self.upstream),
            "relayed": len(self.relaying),
            "pbx_addresses": len(self.upstream.health),
            "pbx_addresses_down": self.upstream.health.down,
            "subscriptions": len(self.subscriptions),
            "bans": self.guard.banned,
            "timers": len(self.timers),
            "traces": len(self.tracer) if self.tracer is not None else 0,
            "trace_bytes": self.tracer.held if self.tracer is not None else 0,
        }

    def shuts_out(self, host: str, transport: str) -> bool:
        """Whether nothing from there is to be read: asked by sockets for all that comes."""
        return self.guard.shuts_out(host, transport)

    def bans(self) -> list[dict[str, Any]]:
        """docs/architecture.md, `bans`."""
        return self.guard.bans()

    def unban(self, source: str, now: float) -> bool:
        """Lift the ban of a source; whether there was one."""
        self._tick(now)
        return self.guard.unban(source, now)

    def media_relays(self) -> list[dict[str, Any]]:
        """docs/architecture.md, `status`."""
        return self.media.describe()

    @property
    def tally(self) -> Tally:
        """What was counted since the start."""
        return self.events.tally

    def census(self) -> tuple[Census, Iterator[None]]:
        """What there is now, and the steps that count it; whole after the last."""
        self.events.tally.keep(self.compiled.tenants)
        census = Census(self.events.tally)
        return census, census.take(self.registrar, self.upstream, self.relaying.states(self._now), self.calls_)

    def renew(self, tenant: str, connection: str | None, now: float) -> int:
        """Send these upstream registrations again now; how many."""
        return self.upstream.renew(tenant, connection, now)

    # -- what the transaction layer tells

    def on_request(self, tx: ServerTransaction, now: float) -> None:
        try:
            admission = self.guard.admits(tx.request, tx.source, now)
            if admission is not Admission.LET_IN:
                self._dispatcher.turn_away(tx, admission, now)
            elif tx.request.to.tag and tx.method != "REGISTER":
                self._inside(tx, now)
            else:
                self._dispatcher.on_request(tx, now)
        except BadMessage as bad:
            self._give_up(tx, bad.status, bad.reason, now)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one request, not the daemon
            self._fault(error)
            self._give_up(tx, 500, None, now)

    def _inside(self, tx: ServerTransaction, now: float) -> None:
        """A request inside a dialog. Nothing is kept of a stranger's that is in none of ours."""
        tx.rule = "in-dialog"
        if not self.subscriptions.on_request(tx, now):
            self._in_dialog.on_request(tx, now)
        if tx.code in IN_NO_DIALOG and self.guard.is_stranger(tx.source):
            self.layer.destroy(tx)

    def _give_up(self, tx: ServerTransaction, status: int, reason: str | None, now: float) -> None:
        """Answer what could not be done; a call that it began ends. Nothing is kept of a stranger's."""
        if isinstance(tx.owner, Call):
            self.calls_.abandon(tx.owner, now)
        stranger = self.guard.is_stranger(tx.source)
        if stranger and not self.guard.blame(tx.source, "malformed", now):
            self.layer.drop(tx)
            return
        tag = stateless_tag(tx.request) if stranger else self.wire.token()
        data = build.response(tx.request, status, reason, tag, [], b"", tx.source[1:3])
        self.layer.respond(tx, status, data, now)
        if stranger:
            self.layer.destroy(tx)

    def on_ack(self, msg: Message, flow: Flow, now: float) -> None:
        self.guard.blame(flow, "ack", now)
        self._in_dialog.on_ack(msg, flow, now)

    def on_response(self, tx: ClientTransaction, msg: Message, now: float) -> None:
        if tx.owner is not None:  # nobody waits for the answer to a CANCEL
            user, thing = _owner(tx)
            user.on_response(tx, thing, msg, now)

    def on_stray_response(self, msg: Message, flow: Flow, now: float) -> None:
        if self.keepalive.answered(msg):
            return
        self.events.count("stray")
        self.guard.blame(flow, "stray", now)
        self.calls_.on_stray_response(msg, now)

    def on_timeout(self, tx: ClientTransaction, now: float) -> None:
        self._failed(tx, "timeout", now)

    def on_transport_error(self, tx: ClientTransaction, now: float) -> None:
        self._failed(tx, "transport error", now)

    def _failed(self, tx: ClientTransaction, reason: str, now: float) -> None:
        if tx.owner is not None:
            user, thing = _owner(tx)
            user.on_failure(tx, thing, reason, now)

    def on_cancel(self, tx: ServerTransaction, cancel_tx: ServerTransaction, now: float) -> None:
        self._cancelled(tx, cancel_tx.request.lines("reason"), now)

    def on_caller_lost(self, tx: ServerTransaction, now: float) -> None:
        self._cancelled(tx, b"", now)

    def _cancelled(self, tx: ServerTransaction, reason: bytes, now: float) -> None:
        if isinstance(tx.owner, Call):
            self.calls_.on_cancel(tx.owner, now, reason)
        elif isinstance(tx.owner, Relay):
            self._in_dialog.on_cancel(tx.owner, now, reason)


def _answer_to(message: Message, flow: Flow) -> Flow:
    try:
        return answer_to(message, flow)
    except BadMessage:
        return flow


def _owner(tx: ClientTransaction) -> tuple[Any, Any]:
    """(part of the core, what it sent the request for): both set by whoever called `Layer.request`."""
    owner: tuple[Any, Any] = tx.owner  # type: ignore[assignment]  # `object` to the layer, which does not look inside
    return owner


def _binding_dict(binding: Binding) -> dict[str, Any]:
    flow = binding.flow
    return {
        "tenant": binding.tenant,
        "user": binding.user,
        "contact": binding.contact,
        "source": f"{flow.host}:{flow.port}",
        "transport": flow.transport,
        "expires": binding.expires,
        "user_agent": binding.user_agent,
    }
