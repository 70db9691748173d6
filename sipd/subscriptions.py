"""Subscriptions between phones and PBXs (RFC 6665), and what a REFER outside a dialog opens (RFC 3515).

A SUBSCRIBE becomes a `Subscription`: the copies of it that were sent (an `Ask` each), and a `Fork` for each end that
took it: one dialog with the subscriber, one with the notifier. NOTIFY goes the one way, SUBSCRIBE the other. Bodies
pass as they are: a dialog-info or presence document names calls and addresses as its writer knows them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

from sipd.auth import PbxAccount, Proof, account_of, at_pbx
from sipd.callerid import shown_to_phone
from sipd.calls import Calls, Core
from sipd.dialogs import Leg, hops_left, lines_to_pass, routes, target_of
from sipd.events import legible
from sipd.flow import Flow
from sipd.message import build
from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.grammar import bracketed
from sipd.message.message import Message
from sipd.message.uri import Uri, quote_user
from sipd.methods import ALLOW
from sipd.passing import ours
from sipd.registrar import Owner
from sipd.relayed import challenges_of, credentials_of, passes
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import Connection, User
from sipd.sending import Sending
from sipd.timers import Timer
from sipd.transaction.layer import T1, ClientTransaction, ServerTransaction
from sipd.wayout import contact_of

PER_USER = 300
"""Subscriptions of one user at a time (a phone with 100 lamps has as many); more get 480 with Retry-After."""
IN_ALL = 100_000
"""Of the node; more get 503 with Retry-After."""
RETRY_AFTER = 60
FORKS = 10
"""Ends that take one SUBSCRIBE; the NOTIFYs of more get 481."""
PATIENCE = 64 * T1
"""How long NOTIFYs of new ends are taken after a SUBSCRIBE, and the last one after the end (RFC 6665 4.1.2.4)."""
DEFAULT_LIFE = 3600
"""Seconds of a subscription whose SUBSCRIBE and answer do not say how long."""
MAX_LIFE = 86_400
"""A subscription without a refresh for so long ends, whatever was granted."""
MAX_SHOWN = 200
"""Characters of a URI that people are shown."""
MAX_EVENT = 64
"""Characters of an event type; longer: 489."""
ENDS_IT = frozenset((404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604))
"""Answers to a SUBSCRIBE in a subscription that say that there is none any more (RFC 5057 5.1, RFC 6665 4.1.2.2)."""

_is_event = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+").fullmatch


class State(NamedTuple):
    """Subscription-State (RFC 6665 8.2.3)."""

    over: bool
    seconds: int | None


def state_of(notify: Message) -> State:
    """What a NOTIFY says of its subscription; without a word it goes on."""
    word, *params = (part.strip() for part in (notify.get("subscription-state") or "").split(";"))
    pairs = dict(param.partition("=")[::2] for param in params)
    text = pairs.get("expires", "").strip()
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None
    return State(word.lower() == "terminated", seconds)


def refused_subscription(response: Message) -> bool:
    """Whether the answer to a REFER says that no NOTIFY will follow (RFC 4488)."""
    return (response.get("refer-sub") or "").strip().lower().startswith("false")


class Subscription:
    """One SUBSCRIBE or REFER outside a dialog, and what became of it."""

    __slots__ = (
        "answered", "asks", "best", "connection", "flows", "from_phone", "index", "open", "over", "tx", "user",
    )  # fmt: skip

    def __init__(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection | None, *, from_phone: bool
    ) -> None:
        self.tx = tx
        self.index = index
        self.user = user
        """Who subscribes, or whom a PBX subscribes to."""
        self.connection = connection
        """Of the PBX at one of the ends; None between phones."""
        self.from_phone = from_phone
        self.asks: list[Ask] = []
        self.open = 0
        """Asks without a final answer."""
        self.best: Message | None = None
        self.answered = False
        self.over = False
        """Nobody is left who wants it."""
        self.flows: set[Flow] = set()
        """Streams of phones whose end concerns it."""

    @property
    def request(self) -> Message:
        return self.tx.request

    @property
    def owner(self) -> Owner:
        return self.index.tenant.id, self.user.id

    @property
    def event(self) -> str:
        """With its id."""
        return self.request.get("event") or "refer"


class Ask:
    """One copy of the SUBSCRIBE, and by their tags those who took it."""

    __slots__ = (
        "account", "call_id", "contact", "contact_over", "done", "flow", "forks", "from_value", "headers", "local_tag",
        "pinned", "proof", "rest", "route", "sending", "seq", "subscription", "timer", "to_value", "uri",
    )  # fmt: skip

    def __init__(self, subscription: Subscription, uri: str, from_value: str, to_value: str, *, pinned: bool) -> None:
        self.subscription = subscription
        self.uri = uri
        self.from_value = from_value
        """Without tag."""
        self.to_value = to_value
        self.pinned = pinned
        self.flow = subscription.tx.source
        """The one over which it is tried."""
        self.contact_over: Callable[[Flow], str] = lambda flow: ""
        """Our Contact as the other end of a flow reaches it."""
        self.contact = self.route = self.call_id = self.local_tag = ""
        self.sending: Sending | None = None
        self.headers: list[Header] = []
        self.rest = b""
        self.account: PbxAccount | None = None
        self.proof: Proof | None = None
        self.seq = 0
        self.forks: dict[str, Fork] = {}
        self.timer: Timer | None = None
        """While it runs, NOTIFYs of new ends are taken."""
        self.done = False
        """It has its final answer."""


class Fork:
    """The two dialogs of a subscription: `a` with the subscriber, `b` with the notifier."""

    __slots__ = ("a", "ask", "b", "closing", "timer")

    def __init__(self, ask: Ask, a: Leg, b: Leg) -> None:
        self.ask = ask
        self.a = a
        self.b = b
        self.timer: Timer | None = None
        self.closing = False
        """Ended by the edge: what still comes is answered here."""


class Relay:
    """A request inside a subscription on its way to the other leg."""

    __slots__ = ("fork", "here", "proof", "there", "tx")

    def __init__(self, fork: Fork, tx: ServerTransaction, here: Leg, there: Leg, proof: Proof) -> None:
        self.fork = fork
        self.tx = tx
        self.here = here
        self.there = there
        self.proof = proof


class Farewell:
    """Our own last request on a leg; a challenge to it is answered."""

    __slots__ = ("headers", "leg", "method", "proof")

    def __init__(self, leg: Leg, method: str, headers: list[Header], proof: Proof) -> None:
        self.leg = leg
        self.method = method
        self.headers = headers
        self.proof = proof


class Subscriptions:
    """All subscriptions of a node, found by our side of their dialogs."""

    def __init__(self, core: Core, calls: Calls) -> None:
        self._core = core
        self._calls = calls
        self._all: dict[Subscription, None] = {}
        self._of_user: Counter[Owner] = Counter()
        self._asks: dict[tuple[str, str], Ask] = {}
        """By Call-ID and our tag: the notifiers' side."""
        self._forks: dict[tuple[str, str], Fork] = {}
        """The subscribers' side."""
        self._on_flow: dict[Flow, dict[Subscription, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def describe(self, tenant: str | None) -> Iterator[dict[str, Any]]:
        """Who watches what, for people: docs/architecture.md, `registrations`."""
        for subscription in self._all:
            if tenant not in (None, subscription.index.tenant.id):
                continue
            request = subscription.request
            about = {
                "tenant": subscription.index.tenant.id,
                "user": subscription.user.id,
                "connection": subscription.connection.id if subscription.connection is not None else "",
                "event": legible(subscription.event)[:MAX_EVENT],
                "from": legible(request.from_.uri_text.partition(";")[0])[:MAX_SHOWN],
                "to": legible(request.uri.partition(";")[0])[:MAX_SHOWN],
            }
            forks = [fork for ask in subscription.asks for fork in ask.forks.values()]
            for fork in forks:
                state = "ending" if fork.closing else "active"
                yield {**about, "state": state, "expires": fork.timer.when if fork.timer is not None else None}
            if not forks:
                yield {**about, "state": "asked", "expires": None}

    def unfit(self, request: Message) -> tuple[int, list[Header]] | None:
        """What a SUBSCRIBE must have (RFC 6665 4.2.1.1, 4.1.2.1): an Event, and time enough. Any event type will do."""
        event = (request.get("event") or "").partition(";")[0].strip()
        if len(event) > MAX_EVENT or not _is_event(event):
            return 489, []
        least = self._core.settings.min_expires
        if request.expires is not None and 0 < request.expires < least:
            return 423, [("Min-Expires", str(least))]
        return None

    # -- beginning

    def to_connection(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection, uri: str, now: float
    ) -> None:
        """Of a phone: to a PBX, as the user that it knows."""
        subscription = self._begin(tx, index, user, connection, now, from_phone=True)
        if subscription is None:
            return
        account = account_of(index, user, connection)
        identity = account.username if account else user.extension
        ask = self._ask(subscription, uri, f"<{at_pbx(connection, identity)}>", f"<{uri}>", account)
        ask.route = self._core.ways.route(index.tenant.id, user.id, connection)
        domain = index.tenant.primary_domain

        def ready(flows: Sequence[Flow], then: float) -> None:
            if flows:
                self._send(ask, flows, [], then)
            else:
                self._failed(ask, None, 503, then)

        mode, wire = connection.multi_tenant, self._core.wire
        ask.contact_over = lambda flow: contact_of(user.extension, domain, mode, wire, flow)
        self._core.ways.find(index.tenant.id, connection, ready, now)

    def to_user(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection | None, now: float
    ) -> bool:
        """To all phones of a user, from a PBX or another phone; False when there are none.

        What is about a call of the user's goes to the phone that has it, and to no other (RFC 4538).
        """
        bindings = self._core.registrar.bindings((index.tenant.id, user.id), now)
        places = [(target_of(b.contact), b.flow, ", ".join(b.path)) for b in bindings]
        leg = self._calls.target_leg(tx.request, index)
        if leg is not None and leg.pinned:
            places = [(leg.target, leg.flow, "")]
        if not places:
            return False
        subscription = self._begin(tx, index, user, connection, now, from_phone=connection is None)
        if subscription is None:
            return True
        to_value = f"<{Uri.build(user.extension, index.tenant.primary_domain)}>"
        from_value = shown_to_phone(tx.request, index, None)
        wire = self._core.wire
        asks = [self._ask(subscription, uri, from_value, to_value, None) for uri, _, _ in places]
        for ask, (_, flow, route) in zip(asks, places, strict=True):
            ask.pinned, ask.route = True, route
            ask.contact_over = lambda there: f"<sip:{wire.hostport(there)}>"
            self._watch(subscription, flow)
            self._send(ask, [flow], [], now)
        return True

    def _begin(
        self, tx: ServerTransaction, index: TenantIndex, user: User, connection: Connection | None, now: float, *,
        from_phone: bool,
    ) -> Subscription | None:  # fmt: skip
        """None when a limit was reached, which is answered here. Raises BadMessage for unusable routes."""
        routes(tx.request)
        full = len(self._all) >= IN_ALL
        if full or self._of_user[index.tenant.id, user.id] >= PER_USER:
            self._core.events.count("subscriptions.refused")
            self.answer(tx, 503 if full else 480, now, [("Retry-After", str(RETRY_AFTER))])
            return None
        subscription = Subscription(tx, index, user, connection, from_phone=from_phone)
        self._all[subscription] = None
        self._of_user[subscription.owner] += 1
        if from_phone:
            self._watch(subscription, tx.source)
        return subscription

    def _ask(
        self, subscription: Subscription, uri: str, from_value: str, to_value: str, account: PbxAccount | None
    ) -> Ask:
        wire, request = self._core.wire, subscription.request
        ask = Ask(subscription, uri, from_value, to_value, pinned=False)
        ask.account, ask.proof = account, self._calls.proof(account)
        ask.call_id, ask.local_tag = wire.token(16), wire.token()
        if passes(account) and self._calls.names.of(request) not in self._asks:
            ask.call_id, ask.local_tag = self._calls.names.of(request)
            ask.seq = request.cseq.number - 1
        index = subscription.index
        self._core.events.leg(ask.call_id, request.call_id, tenant=index.tenant.id, user=subscription.user.id)
        ask.rest = lines_to_pass(request, from_phone=subscription.from_phone)
        towards = subscription.connection if subscription.from_phone else None
        ask.headers = self._calls.renamed(request, subscription.index, towards)
        if passes(account):
            ask.headers += credentials_of(request)
        subscription.asks.append(ask)
        subscription.open += 1
        self._asks[ask.call_id, ask.local_tag] = ask
        return ask

    def _send(self, ask: Ask, flows: Sequence[Flow], credentials: list[Header], now: float) -> None:
        """The copy, and again with credentials (RFC 3261 8.1.3.5). NOTIFYs are taken from now on (RFC 6665 4.4.1)."""
        ask.seq += 1
        self._core.timers.cancel(ask.timer)
        ask.timer = self._core.timers.set(now + PATIENCE, lambda at: self._no_more_forks(ask))

        def over(flow: Flow, branch: str) -> bytes:
            ask.flow, ask.contact = flow, ask.contact_over(flow)
            return self._copy_over(ask, flow, branch, credentials)

        method = ask.subscription.request.method
        ask.sending = self._core.sender.request(method, flows, over, (self, ask), now, pinned=ask.pinned)

    def _copy_over(self, ask: Ask, flow: Flow, branch: str, credentials: list[Header]) -> bytes:
        wire, request = self._core.wire, ask.subscription.request
        headers: list[Header] = [
            ("Via", wire.via(flow, branch)),
            ("Max-Forwards", hops_left(request.max_forwards)),
            *([("Route", ask.route)] if ask.route else []),
            ("From", f"{ask.from_value};tag={ask.local_tag}"),
            ("To", ask.to_value),
            ("Call-ID", ask.call_id),
            ("CSeq", f"{ask.seq} {request.method}"),
            ("Contact", ask.contact),
            *ask.headers,
            *credentials,
        ]
        return build.request(request.method, ask.uri, headers, request.body, ask.rest)

    # -- answers to the SUBSCRIBE that began it

    def on_response(self, tx: ClientTransaction, sent: Ask | Relay | Farewell, response: Message, now: float) -> None:
        if response.status < 200:
            return
        if isinstance(sent, Relay):
            self._relayed(tx, sent, response, now)
        elif isinstance(sent, Farewell):
            if response.status in (401, 407):
                self._farewell_again(sent, response, now)
        elif not sent.done:
            self._asked(tx, sent, response, now)

    def _asked(self, tx: ClientTransaction, ask: Ask, response: Message, now: float) -> None:
        if response.status in (401, 407) and ask.proof is not None and not ask.subscription.over:
            found = ask.proof.headers(response, tx.method, ask.uri, self._core.wire.token())
            if found is not None and ask.sending is not None:
                self._send(ask, ask.sending.onward, [*found], now)
                return
        if response.status < 300 and response.to.tag and _usable(response):
            self._taken(ask, response, now)
        elif response.status < 300:
            self._failed(ask, None, 502, now)
        else:
            self._failed(ask, response, response.status, now)

    def _taken(self, ask: Ask, response: Message, now: float) -> None:
        """One end has it. The first such answer is the subscriber's; more of them are heard of by their NOTIFYs."""
        subscription = ask.subscription
        ask.done = True
        subscription.open -= 1
        fork = self._fork_of(ask, response.to.tag or "", response.get("to") or "", routes(response)[::-1], now)
        fork.b.learn(response, ask.flow, self._core.wire, now)
        self._granted(fork, response, now)
        if not subscription.answered:
            subscription.answered = True
            headers: list[Header] = [
                subscription.request.lines("record-route"),
                ("Contact", fork.a.contact),
                lines_to_pass(response, from_phone=ask.pinned),
            ]
            self._respond(
                subscription.tx, response.status, response.reason, fork.a.local_tag, headers, response.body, now
            )
        if refused_subscription(response):
            self._drop(fork)
        elif subscription.over:
            self._close(fork, "", now)

    def _failed(self, ask: Ask, response: Message | None, status: int, now: float) -> None:
        """One copy came to nothing; the best answer of all is passed, when none was taken (RFC 3261 16.7)."""
        subscription = ask.subscription
        ask.done = True
        subscription.open -= 1
        best = subscription.best
        if response is not None and (best is None or _rank(response.status) < _rank(best.status)):
            subscription.best = response
        for fork in list(ask.forks.values()):
            self._drop(fork)
        self._no_more_forks(ask)
        if subscription.answered or subscription.open:
            return
        subscription.answered = True
        best = subscription.best
        if best is None:
            self.answer(subscription.tx, status, now)
        elif best.status in (401, 407) and passes(ask.account):
            self.answer(subscription.tx, best.status, now, [*challenges_of(best)])
        elif ours(best.status) != best.status:
            self.answer(subscription.tx, ours(best.status), now)
        else:
            rest: list[Header] = [lines_to_pass(best, from_phone=ask.pinned)]
            self._respond(subscription.tx, best.status, best.reason, self._core.wire.token(), rest, best.body, now)

    def on_failure(self, sending: Sending, sent: Ask | Relay | Farewell, reason: str, now: float) -> None:
        status = 408 if reason == "timeout" else 503
        if isinstance(sent, Ask) and not sent.done:
            self._failed(sent, None, status, now)
        elif isinstance(sent, Relay):
            self._respond(sent.tx, status, None, None, [], b"", now)
            if sent.tx.method == "NOTIFY":  # RFC 6665 4.2.2: whoever does not answer does not want it
                self._close(sent.fork, "", now) if status == 503 else self._drop(sent.fork)

    # -- the two dialogs

    def _fork_of(self, ask: Ask, tag: str, remote: str, route_set: list[str], now: float) -> Fork:
        """The fork of the notifier with this tag, made when new; `remote` is its From or To."""
        fork = ask.forks.get(tag)
        if fork is not None:
            return fork
        b = Leg(ask.call_id, ask.local_tag, ask.flow, pinned=ask.pinned)
        b.remote_tag, b.remote, b.local = tag, remote, f"{ask.from_value};tag={ask.local_tag}"
        b.local_seq, b.target, b.contact, b.account = ask.seq, ask.uri, ask.contact, ask.account
        b.route_set = route_set
        fork = ask.forks[tag] = Fork(ask, self._subscriber_leg(ask.subscription, now), b)
        self._forks[fork.a.call_id, fork.a.local_tag] = fork
        seconds = ask.subscription.request.expires
        self._live(fork, DEFAULT_LIFE if seconds is None else seconds, now)
        return fork

    def _subscriber_leg(self, subscription: Subscription, now: float) -> Leg:
        request, wire, source = subscription.request, self._core.wire, subscription.tx.source
        a = Leg(request.call_id, wire.token(), source, pinned=subscription.from_phone)
        a.remote_tag, a.remote_seq = request.from_.tag or "", request.cseq.number
        a.local, a.remote = f"{request.get('to')};tag={a.local_tag}", request.get("from") or ""
        a.route_set = routes(request)
        if subscription.connection is not None and not subscription.from_phone:
            a.account = account_of(subscription.index, subscription.user, subscription.connection)
        user = Uri.parse(request.uri).user
        name = f"{quote_user(user)}@" if user else ""
        a.target = f"sip:{bracketed(source.host)}:{source.port}"  # where there is no Contact
        a.contact = f"<sip:{name}{wire.hostport(source)};local-domain={subscription.index.tenant.primary_domain}>"
        a.learn(request, source, wire, now)
        return a

    def _granted(self, fork: Fork, response: Message, now: float) -> None:
        """How long it lives, by the 2xx to a SUBSCRIBE (RFC 6665 4.1.2.1). Of a REFER only the NOTIFYs say."""
        if response.expires is not None:
            self._live(fork, response.expires, now)

    def _live(self, fork: Fork, seconds: int, now: float) -> None:
        """Until then, and a while longer for what is on its way; the end of it is the subscriber's to hear."""
        self._core.timers.cancel(fork.timer)
        at = now + min(seconds, MAX_LIFE) + PATIENCE
        fork.timer = self._core.timers.set(at, lambda then: self._expired(fork, then, asleep=seconds > MAX_LIFE))

    def _expired(self, fork: Fork, now: float, *, asleep: bool) -> None:
        """Nobody refreshed it, or said that it is over."""
        if not fork.closing:
            self._say_goodbye(fork, "timeout", now, to_notifier=asleep)
        self._drop(fork)

    def _no_more_forks(self, ask: Ask) -> None:
        """Time is up for NOTIFYs of ends that were not heard of yet."""
        self._core.timers.cancel(ask.timer)
        ask.timer = None
        self._tidy(ask)

    def _drop(self, fork: Fork) -> None:
        """Forget a fork at once."""
        self._core.timers.cancel(fork.timer)
        fork.ask.forks.pop(fork.b.remote_tag, None)
        self._forks.pop((fork.a.call_id, fork.a.local_tag), None)
        if not fork.ask.forks and fork.ask.done:
            self._core.timers.cancel(fork.ask.timer)
            fork.ask.timer = None
        self._tidy(fork.ask)

    def _tidy(self, ask: Ask) -> None:
        """Forget what nothing can come for any more."""
        if ask.forks or not ask.done or ask.timer is not None:
            return
        self._asks.pop((ask.call_id, ask.local_tag), None)
        subscription = ask.subscription
        if subscription not in self._all or any((a.call_id, a.local_tag) in self._asks for a in subscription.asks):
            return
        del self._all[subscription]
        self._of_user[subscription.owner] -= 1
        if not self._of_user[subscription.owner]:
            del self._of_user[subscription.owner]
        for flow in subscription.flows:
            self._on_flow[flow].pop(subscription, None)
            if not self._on_flow[flow]:
                del self._on_flow[flow]

    def _watch(self, subscription: Subscription, flow: Flow) -> None:
        """The end of this stream, a phone's, concerns it."""
        if flow.reliable and flow not in subscription.flows:
            subscription.flows.add(flow)
            self._on_flow.setdefault(flow, {})[subscription] = None

    # -- requests inside

    def on_request(self, tx: ServerTransaction, now: float) -> bool:
        """A request with a To tag: whether it is of a subscription, and so served here."""
        request = tx.request
        key = request.call_id, request.to.tag or ""
        ask, fork = self._asks.get(key), self._forks.get(key)
        if ask is not None:
            self._from_notifier(tx, ask, now)
        elif fork is not None and fork.a.remote_tag == (request.from_.tag or ""):
            self._from_subscriber(tx, fork, now)
        elif fork is not None:
            self.answer(tx, 481, now)
        return ask is not None or fork is not None

    def _from_notifier(self, tx: ServerTransaction, ask: Ask, now: float) -> None:
        request = tx.request
        fork = ask.forks.get(request.from_.tag or "")
        if request.method != "NOTIFY":
            self.answer(tx, 405 if fork is not None else 481, now, [ALLOW])
            return
        if fork is None:
            if ask.timer is None or len(ask.forks) >= FORKS:
                self.answer(tx, 481, now)
                return
            tag = request.from_.tag or ""
            fork = self._fork_of(ask, tag, request.get("from") or "", routes(request), now)
        if not self._in_order(tx, fork.b, now):
            return
        fork.b.learn(request, tx.source, self._core.wire, now)
        state = state_of(request)
        if fork.closing:
            self.answer(tx, 200, now)
            if state.over:
                self._drop(fork)
            return
        if state.seconds is not None and not state.over:
            self._live(fork, state.seconds, now)
        self._relay(tx, fork, fork.b, fork.a, now)

    def _from_subscriber(self, tx: ServerTransaction, fork: Fork, now: float) -> None:
        """A refresh, or the end of it."""
        if tx.method != "SUBSCRIBE":
            self.answer(tx, 405, now, [ALLOW])
            return
        refusal = self.unfit(tx.request)
        if fork.closing:
            self.answer(tx, 481, now)
        elif refusal is not None:
            self.answer(tx, refusal[0], now, refusal[1])
        elif self._in_order(tx, fork.a, now):
            fork.a.learn(tx.request, tx.source, self._core.wire, now)
            if fork.a.pinned:
                self._watch(fork.ask.subscription, tx.source)
            self._relay(tx, fork, fork.a, fork.b, now)

    def _in_order(self, tx: ServerTransaction, leg: Leg, now: float) -> bool:
        """RFC 3261 12.2.2; what is not is answered. And no hop is left to pass it on (16.3)."""
        number = tx.request.cseq.number
        if number <= leg.remote_seq:
            self.answer(tx, 500, now, [("Retry-After", "1")])
            return False
        leg.remote_seq = number
        if tx.request.max_forwards == 0:
            self.answer(tx, 483, now)
            return False
        return True

    def _relay(self, tx: ServerTransaction, fork: Fork, here: Leg, there: Leg, now: float) -> None:
        self._send_on(Relay(fork, tx, here, there, self._calls.proof(there.account)), [], now)

    def _send_on(self, relay: Relay, credentials: list[Header], now: float) -> None:
        request, there, wire = relay.tx.request, relay.there, self._core.wire
        subscription, seq = relay.fork.ask.subscription, there.next_seq()
        if there.pinned:
            flow = self._core.registrar.flow_of(subscription.owner, there.target, there.flow, now)
            if flow != there.flow:
                there.send_to(flow)
        rest = lines_to_pass(request, from_phone=relay.here.pinned)
        index = subscription.index
        named = self._calls.renamed(request, index, self._calls.connection_of(there, index))
        headers = [*named, *(credentials_of(request) if passes(there.account) else credentials)]

        def over(flow: Flow, branch: str) -> bytes:
            return there.request(
                wire, request.method, branch, seq, headers, request.body, rest, flow, request.max_forwards
            )

        flows, owner = there.flows, (self, relay)
        self._core.sender.request(request.method, flows, over, owner, now, pinned=there.pinned)

    def _relayed(self, tx: ClientTransaction, relay: Relay, response: Message, now: float) -> None:
        status, there, fork = response.status, relay.there, relay.fork
        if status in (401, 407):
            found = relay.proof.headers(response, tx.method, there.request_uri, self._core.wire.token())
            if found is not None:
                self._send_on(relay, [*found], now)
                return
        headers: list[Header] = [lines_to_pass(response, from_phone=there.pinned)]
        if status in (401, 407) and passes(there.account):
            headers += challenges_of(response)
        else:
            status = ours(status)
        if status < 300:
            there.learn(response, tx.flow, self._core.wire, now)
            headers.append(("Contact", relay.here.contact))
        self._respond(relay.tx, status, response.reason, None, headers, response.body, now)
        if tx.method == "SUBSCRIBE":
            if status < 300:
                self._granted(fork, response, now)
            elif status in ENDS_IT:
                self._drop(fork)
        elif status in ENDS_IT or state_of(relay.tx.request).over:
            self._drop(fork)

    # -- ended by the edge

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A phone's stream ended: the other end of its subscriptions is told (RFC 6665 4.1.2.3, 4.2.2)."""
        for subscription in self._on_flow.pop(flow, ()):
            subscription.flows.discard(flow)
            if subscription.from_phone and subscription.tx.source == flow and not subscription.answered:
                subscription.over = True
            for ask in list(subscription.asks):
                for fork in list(ask.forks.values()):
                    if fork.a.pinned and fork.a.flow == flow:
                        self._close(fork, "", now)
                    elif fork.b.pinned and fork.b.flow == flow:
                        self._say_goodbye(fork, f"probation;retry-after={RETRY_AFTER}", now, to_notifier=False)
                        self._drop(fork)

    def load(self, compiled: Compiled, changed: Set[str], now: float) -> None:
        """In the tenants that changed: when user or connection is gone, or the tenant suspended, both ends hear."""
        for subscription in [s for s in self._all if s.index.tenant.id in changed]:
            index = compiled.tenants.get(subscription.index.tenant.id)
            if index is not None and _stays(subscription, index):
                subscription.index = index
                continue
            subscription.over = True
            for ask in list(subscription.asks):
                for fork in list(ask.forks.values()):
                    self._close(fork, "noresource", now)

    def _close(self, fork: Fork, reason: str, now: float) -> None:
        """End it towards the notifier, and with a reason the subscriber; what crosses is answered."""
        if not fork.closing:
            fork.closing = True
            self._say_goodbye(fork, reason, now, to_notifier=True)
            self._core.timers.cancel(fork.timer)
            fork.timer = self._core.timers.set(now + PATIENCE, lambda then: self._drop(fork))

    def _say_goodbye(self, fork: Fork, reason: str, now: float, *, to_notifier: bool) -> None:
        event = fork.ask.subscription.event
        if reason:
            state = ("Subscription-State", f"terminated;reason={reason}")
            self._farewell(fork.a, "NOTIFY", [("Event", event), state], now)
        if to_notifier:
            self._farewell(fork.b, "SUBSCRIBE", [("Event", event), ("Expires", "0")], now)

    def _farewell(self, leg: Leg, method: str, headers: list[Header], now: float) -> None:
        self._send_farewell(Farewell(leg, method, headers, self._calls.proof(leg.account)), [], now)

    def _send_farewell(self, farewell: Farewell, credentials: list[Header], now: float) -> None:
        leg, wire = farewell.leg, self._core.wire
        seq = leg.next_seq()

        def over(flow: Flow, branch: str) -> bytes:
            return leg.request(wire, farewell.method, branch, seq, [*farewell.headers, *credentials], flow=flow)

        owner = self, farewell
        self._core.sender.request(farewell.method, leg.flows, over, owner, now, pinned=leg.pinned)

    def _farewell_again(self, farewell: Farewell, response: Message, now: float) -> None:
        leg = farewell.leg
        found = farewell.proof.headers(response, farewell.method, leg.request_uri, self._core.wire.token())
        if found is not None:
            self._send_farewell(farewell, [*found], now)

    # -- answers

    def answer(self, tx: ServerTransaction, status: int, now: float, headers: list[Header] | None = None) -> None:
        self._respond(tx, status, None, self._core.wire.token(), headers or [], b"", now)

    def _respond(
        self, tx: ServerTransaction, status: int, reason: str | None, tag: str | None, headers: list[Header],
        body: bytes, now: float,
    ) -> None:  # fmt: skip
        data = build.response(tx.request, status, reason, tag, headers, body, tx.source[1:3])
        self._core.layer.respond(tx, status, data, now)


def _stays(subscription: Subscription, index: TenantIndex) -> bool:
    """Whether the table still has what a subscription is made of."""
    connection = subscription.connection
    known = connection is None or connection.id in index.connections
    return known and not index.tenant.suspended and subscription.user.id in index.users_by_id


def _usable(response: Message) -> bool:
    """Whether a dialog can be made of it (RFC 3261 12.1.2)."""
    try:
        routes(response)
    except BadMessage:
        return False
    return True


def _rank(status: int) -> int:
    return 0 if status >= 600 else status // 100
