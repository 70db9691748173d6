"""Registrations that the edge keeps at PBXs on behalf of users (wire.md, RFC 3261 section 10.2).

One registration per user and connection, whatever number of phones the user has: always the same
Call-ID, a rising CSeq, and a Contact that says where the tenant's calls go. It stands at one place of the PBX at a
time, the preferred one that serves. `pace` says when it may be sent, `health` what is known of each place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from itertools import islice
from typing import Any

from sipd.auth import Proof
from sipd.backlog import BATCH, BATCH_PAUSE, Backlog
from sipd.events import Events, legible
from sipd.flow import Flow, Place
from sipd.health import Health, PbxAddress
from sipd.message import build
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.pace import Pace
from sipd.places import Places, better, others_than, those_at
from sipd.register import contacts, least_of, next_to_say, register, request_uri
from sipd.registration import (
    Home,
    Pbx,
    Registration,
    Sent,
    Wanted,
    accounts_to_register,
    key_of,
    same_home,
    wanted_of,
)  # fmt: skip
from sipd.routing.lookup import Compiled
from sipd.routing.seal import Cipher
from sipd.sending import OTHER_SECONDS, Sender, Sending, retry_after
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.transaction.layer import ClientTransaction
from sipd.wayout import WayOut, granted_of, service_route_of
from sipd.wire import Groups, Hop, Wire

REFRESH_EARLIEST, REFRESH_LATEST = 0.5, 0.9
"""Shares of the granted time between which a refresh is sent: wide enough that many begun at once are level soon."""
REFRESH_AT_LEAST = 5.0
"""Seconds between two refreshes, however little a PBX grants."""
FORGOTTEN = frozenset((403, 404, 481))
"""Answers to the refresh of what stood that mean: the PBX does not know it any more."""
SUSPECTS = 3
"""Registrations at a PBX that are renewed at once when it has forgotten another."""
DOUBT_SECONDS = 60.0
"""How long after that no others are suspected."""
DOUBTS = 10_000
"""Places that are remembered for it."""
STALE = 2
"""Times in a row that a nonce may be stale before no REGISTER is signed unasked any more."""


class Upstream:
    """All upstream registrations of a node."""

    def __init__(
        self,
        settings: Settings,
        wire: Wire,
        sender: Sender,
        timers: Timers,
        events: Events,
        cipher: Cipher,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._wire = wire
        self._sender = sender
        self._timers = timers
        self._events = events
        self._cipher = cipher
        self._random = random_bytes
        self.health = Health(settings, wire, sender, timers, events, self._fraction)
        self.health.told = self
        self.ways = WayOut(wire, self.health)
        self._places = Places(settings, sender, self.health)
        self._pace: Pace[Registration] = Pace(settings, timers, self._fraction, self._turn)
        self._pbxs: dict[tuple[tuple[Hop, ...], bool], Pbx] = {}
        self._registrations: dict[str, dict[str, Registration]] = {}
        """By tenant, and key in the store."""
        self._compiled: Compiled | None = None
        """The table in force."""
        self._to_compare: dict[str, None] = {}
        """Tenants that changed since they were last looked at."""
        self._comparing: Iterator[None] | None = None
        self._comparing_timer: Timer | None = None
        self._now = 0.0
        """Of the batch under way."""
        self._leaving: dict[tuple[str, Home], Registration] = {}
        """No longer wanted, not yet taken back."""
        self._backlog = Backlog(timers, self._look_at)
        """Due at once."""
        self._by_stream: dict[Flow, set[Registration]] = {}
        self._doubts: dict[Place, float] = {}
        """Places that have forgotten a registration, and until when no others are suspected."""
        self._kept: dict[str, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[Registration]:
        for of_tenant in self._registrations.values():
            yield from of_tenant.values()
        yield from self._leaving.values()

    def snapshot(self) -> list[Registration]:
        """All that there are now, at little cost, to be looked at while they change."""
        return [*self]

    def __len__(self) -> int:
        return sum(map(len, self._registrations.values()))

    # -- what the table wants

    def restore(self, record: dict[str, Any], key: str = "") -> None:
        """Keep a record, `key` in the store, from before a restart until the table says whether it is still wanted."""
        name = key_of(record["tenant"], record["user"], record["connection"])
        self._kept[name] = record
        if key not in ("", name):  # as an earlier release named it
            self._events.change("upstream", key, None)

    def restate(self) -> None:
        """Note all once more, as changes: the store has lost what it had. Also what no table has spoken of yet."""
        for key, record in self._kept.items():
            self._events.change("upstream", key, record)
        for registration in self:
            self._save(registration)

    def load(self, compiled: Compiled, changed: Set[str], now: float) -> None:
        """In the tenants that changed: register what is new, renew what changed, remove what is gone.

        What that is, is found in batches, in this turn of the loop and those that follow.
        """
        self._compiled = compiled
        self._to_compare.update(dict.fromkeys(changed))
        self._compare(now)

    def _compare(self, now: float) -> None:
        self._timers.cancel(self._comparing_timer)
        self._comparing_timer = None
        self._now = now
        if self._comparing is None:
            self._comparing = self._comparisons()
        if sum(1 for _ in islice(self._comparing, BATCH)) == BATCH:
            self._comparing_timer = self._timers.set(now + BATCH_PAUSE, self._compare)
        else:
            self._comparing = None

    def _comparisons(self) -> Iterator[None]:
        """One step for each registration of the tenants that changed."""
        while self._to_compare:
            tenant = next(iter(self._to_compare))
            del self._to_compare[tenant]
            yield from self._compare_tenant(tenant)
        if self._compiled is not None and self._compiled.table.tenants:
            for key in self._kept:  # what is still kept from before a restart is wanted no more
                self._events.change("upstream", key, None)
            self._kept.clear()

    def _compare_tenant(self, tenant: str) -> Iterator[None]:
        index = self._compiled.tenants.get(tenant) if self._compiled is not None else None
        ours = self._registrations.setdefault(tenant, {})
        keys = {key_of(tenant, user.id, connection.id) for user, connection in accounts_to_register(index)}
        for key in [key for key in ours if key not in keys]:
            self._leave(ours.pop(key))
            yield
        for user, connection in accounts_to_register(index):
            wanted = wanted_of(index, user, connection) if index is not None else None
            if wanted is None:
                continue
            known = ours.get(wanted.key)
            if known is None:
                self._begin(wanted, self._now)
            elif known.wanted != wanted:
                self._change(known, wanted, self._now)
            yield
        if not ours:
            del self._registrations[tenant]

    def _begin(self, wanted: Wanted, now: float) -> None:
        leaving = self._leaving.pop((wanted.key, wanted.home), None)
        if leaving is not None:  # wanted again before it was gone
            leaving.removing = False
            self._of_tenant(wanted)[wanted.key] = leaving
            self._renew(leaving, wanted)
            return
        registration = Registration(wanted, self._pbx(wanted), self._wire.token(16), self._wire.token(), now)
        registration.pbx.registrations[registration] = None
        self._of_tenant(wanted)[wanted.key] = registration
        record = self._kept.pop(wanted.key, None)
        at = now
        if record is not None:
            for name in ("call_id", "from_tag", "cseq"):
                setattr(registration, name, record[name])
            if same_home(record, wanted):
                at = registration.resume(record, now)
                self._keep_service_route(registration, registration.service_route)
        if at > now and registration.held_at is not None:
            self._plan_for(registration, registration.held_at, at)
        elif at > now:
            self._schedule(registration, at, now)
        else:
            self._soon(registration)

    def _change(self, registration: Registration, new: Wanted, now: float) -> None:
        """Another place or user at the PBX: leave there, and begin here. Else go on with what is wanted now."""
        if registration.wanted.home == new.home:
            self._renew(registration, new)
            return
        del self._of_tenant(new)[new.key]
        self._leave(registration)
        self._begin(new, now)

    def _of_tenant(self, wanted: Wanted) -> dict[str, Registration]:
        return self._registrations[wanted.account.tenant]

    def _renew(self, registration: Registration, wanted: Wanted) -> None:
        if registration.wanted.account != wanted.account:
            registration.nonces = None
        registration.wanted = wanted
        pbx = self._pbx(wanted)
        if pbx is not registration.pbx:
            self._forget_at_pbx(registration)
            registration.pbx = pbx
            pbx.registrations[registration] = None
        registration.attempts = 0
        self._soon(registration)

    def _leave(self, registration: Registration) -> None:
        """Have the PBX forget what it holds; once, and without insisting."""
        wanted = registration.wanted
        self._events.change("upstream", wanted.key, None)
        self._keep_service_route(registration, "")
        self._unschedule(registration)
        registration.removing = True
        if not registration.held and not registration.waiting:
            self._left(registration)
            return
        self._leaving[wanted.key, wanted.home] = registration
        if registration.held:
            self._soon(registration)

    def _left(self, registration: Registration) -> None:
        """Nothing more is known of it."""
        self._unschedule(registration)
        self._goes_over(registration, None)
        self._forget_at_pbx(registration)
        key = registration.wanted.key, registration.wanted.home
        if self._leaving.get(key) is registration:
            del self._leaving[key]

    def _pbx(self, wanted: Wanted) -> Pbx:
        key = wanted.hops, wanted.tls_verify
        pbx = self._pbxs.get(key)
        if pbx is None:
            pbx = self._pbxs[key] = Pbx(*key)
        return pbx

    def _forget_at_pbx(self, registration: Registration) -> None:
        pbx = registration.pbx
        pbx.registrations.pop(registration, None)
        if not pbx.registrations:
            self.health.unwatch(pbx)
            self._pbxs.pop((pbx.hops, pbx.verify), None)

    # -- what makes many due at once

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A stream to a PBX ended, and with it the way that calls came in: register again, at the pace."""
        for registration in self._by_stream.pop(flow, ()):
            if registration.registered and registration.flow == flow:
                self._soon(registration)
        self.health.ask(flow[:3], now)

    def renew(self, tenant: str, connection: str | None, now: float) -> int:
        """Send these again now, at the PBX's pace; how many."""
        chosen = [
            r for r in self._registrations.get(tenant, {}).values() if connection in (None, r.wanted.account.connection)
        ]
        for registration in chosen:
            registration.attempts = 0
            self._soon(registration)
        return len(chosen)

    def pbx_is_down(self, address: PbxAddress, now: float) -> None:
        """Nothing more is repeated to it; what stands there and has another place to go to, goes there."""
        place = address.place
        for registration in [r for r in those_at(address) if self._pace.out_at(r) == place]:
            if registration.sending is not None:
                self._sender.abandon(registration.sending, now)
                self.on_failure(registration.sending, registration, "timeout", now)
        self._renew_all(r for r in those_at(address) if r.stands_at(place) and others_than(r, place))

    def pbx_is_up(self, address: PbxAddress, now: float) -> None:
        """Back after it was down: it may have forgotten all that stood there, and can take what could not reach it."""
        for registration in those_at(address):
            if registration.state == "unreachable":
                registration.attempts = 0
                self._soon(registration)
            elif registration.stands_at(address.place):
                self._soon(registration)

    def try_pbx(self, address: PbxAddress, now: float) -> None:
        """One of those that would rather be there than where they stand, or stand nowhere, finds out for all."""
        place, down = address.place, address.down
        away = [r for r in those_at(address) if better(r, place) or (down and r.state == "unreachable")]
        if away and not any(r.canary == place for r in away):
            away[0].canary = place
            self._soon(away[0])

    def _come_back(self, address: PbxAddress) -> None:
        """It serves again: those that stand elsewhere for its sake return."""
        self._renew_all(r for r in those_at(address) if better(r, address.place))

    def _forgot(self, registration: Registration, place: Place, response: Message, now: float) -> None:
        """The PBX does not know what it had granted: register anew, and see whether it knows the others."""
        registration.again = True
        registration.waiting = False
        registration.held, registration.held_at, registration.expires_at = "", None, None
        self._events.count("upstream.forgotten")
        self._move(registration, "trying", response.status, response.reason, now)
        self._schedule(registration, now, now)
        others = (r for pbx in self._pbxs.values() if pbx.flow_to(place) for r in pbx.registrations)
        if registration.suspect:
            registration.suspect = False
            self._renew_all(r for r in others if r.stands_at(place))
        elif self._doubts.get(place, 0.0) <= now:
            if len(self._doubts) >= DOUBTS:
                self._doubts = {there: until for there, until in self._doubts.items() if until > now}
            if len(self._doubts) < DOUBTS:
                self._doubts[place] = now + DOUBT_SECONDS
                self._renew_some(r for r in others if r.stands_at(place))

    def _renew_some(self, registrations: Iterable[Registration]) -> None:
        for _, registration in zip(range(SUSPECTS), registrations, strict=False):
            registration.suspect = True
            self._soon(registration)

    def _renew_all(self, registrations: Iterable[Registration]) -> None:
        for registration in registrations:
            self._soon(registration)

    def _soon(self, registration: Registration) -> None:
        """It is due now."""
        if registration not in self._pace:
            self._backlog.add(registration)

    def _look_at(self, registration: Registration, now: float) -> None:
        self._schedule(registration, now, now)

    # -- when

    def _unschedule(self, registration: Registration) -> None:
        """Neither a timer, nor a turn, nor a plan is left."""
        self._timers.cancel(registration.timer)
        registration.timer = None
        self._pace.leave(registration)
        self._backlog.discard(registration)
        self._forget_plan(registration)

    def _forget_plan(self, registration: Registration) -> None:
        if registration.planned is not None:
            self._pace.forget(*registration.planned)
            registration.planned = None

    def _is_scheduled(self, registration: Registration) -> bool:
        return registration.timer is not None or registration in self._pace or registration in self._backlog

    def _schedule(self, registration: Registration, at: float, now: float) -> None:
        """Have it sent at `at`, or, where that is now, when it is its turn at the PBX. A turn is not lost."""
        if at <= now and registration in self._pace:
            return
        self._unschedule(registration)
        if at > now:
            registration.next_at = at
            registration.timer = self._timers.set(at, lambda fired: self._due(registration, fired))
        else:
            self._due(registration, now)

    def _plan(self, registration: Registration, place: Place, now: float) -> None:
        """The refresh: at a moment, of those that are early enough, when few others are due."""
        granted = registration.granted
        begun = (registration.expires_at or now) - granted
        earliest = max(now, begun + max(REFRESH_AT_LEAST, REFRESH_EARLIEST * granted))
        latest = max(earliest, begun + REFRESH_LATEST * granted)
        self._plan_for(registration, place, self._pace.choose(place, earliest, latest))

    def _plan_for(self, registration: Registration, place: Place, at: float) -> None:
        self._unschedule(registration)
        self._pace.note(place, at)
        registration.planned = place, at
        registration.next_at = at
        registration.timer = self._timers.set(at, lambda fired: self._due(registration, fired))

    def _due(self, registration: Registration, now: float) -> None:
        registration.timer = None
        refresh = registration.planned is not None or registration.suspect or registration.canary is not None
        self._forget_plan(registration)
        if registration.waiting:  # the answer to the last one comes first
            self._schedule(registration, now + 1.0, now)
            return
        registration.waiting = True
        pbx = registration.pbx

        def ready(groups: Groups, then: float) -> None:
            registration.waiting = False
            if pbx.groups != groups:
                pbx.groups = groups
            pbx.found_at = then
            self.health.watch(pbx, pbx.flows, then)
            self._wait_for_turn(registration, then, refresh=refresh)

        if pbx.found_at == now:
            ready(pbx.groups, now)
        else:
            self._wire.find_groups(pbx.hops, ready, now, verify=pbx.verify)

    def _wait_for_turn(self, registration: Registration, now: float, *, refresh: bool) -> None:
        if registration.removing and not registration.held:
            self._left(registration)
            return
        flow = registration.target = self._places.target(registration, now)
        if flow is None:
            self._failed(registration, "unreachable", 0, "No address for the PBX", now)
            return
        registration.bold = self._sender.is_down(flow[:3], now)
        self._join(registration, flow, now, refresh=refresh)

    def _join(self, registration: Registration, flow: Flow, now: float, *, refresh: bool) -> None:
        turn = self._pace.join(flow[:3], registration, now, refresh=refresh)
        if registration in self._pace:
            registration.next_at = turn

    # -- sending

    def _turn(self, registration: Registration, place: Place, now: float) -> None:
        """It is its turn at a PBX."""
        flow = registration.target
        if flow is None:
            raise LookupError("a turn without a target")
        if registration.canary is None and self._is_elsewhere_now(registration, place, now):
            return
        registration.waiting = True
        registration.next_at = None
        registration.proof = Proof(registration.wanted.account, self._cipher)
        self._send(
            registration, next_to_say(registration, flow, self._wire), flow, self._ahead(registration, flow), now
        )

    def _is_elsewhere_now(self, registration: Registration, place: Place, now: float) -> bool:
        """While it waited, the place went down: it goes to another one, or waits until somebody is heard there."""
        down = self.health.is_down(place)
        if not down and (registration.bold or not self._sender.is_down(place, now)):
            return False
        if down and (registration.moving or registration.removing):
            self._pace.done(registration, now, answered=False)
            self._taken_back(registration, now)
            return True
        other = self._places.target(registration, now)
        if other is not None and other[:3] != place:
            registration.target, registration.bold = other, True
            self._pace.done(registration, now, answered=False)
            self._join(registration, other, now, refresh=False)
            return True
        if down:
            self._pace.done(registration, now, answered=False)
            self._failed(registration, "unreachable", 408, "The PBX is down", now)
        return down

    def _ahead(self, registration: Registration, flow: Flow) -> list[build.Header]:
        """Credentials by the nonce of the last time, while the PBX takes such: half the messages (RFC 7616 3.6)."""
        place, nonces = registration.nonces or (None, {})
        if registration.proof is None or not nonces or place != flow[:3] or registration.stale >= STALE:
            return []
        uri = request_uri(registration.wanted.registrar)
        return [*registration.proof.ahead(nonces, "REGISTER", uri, self._wire.token())]

    def _send(
        self, registration: Registration, sent: Sent, flow: Flow, credentials: list[build.Header], now: float
    ) -> None:
        registration.cseq += 1
        registration.sent = sent
        self._goes_over(registration, flow)
        if sent.expires:
            registration.contact = sent.contact

        def over(there: Flow, branch: str) -> bytes:
            return self._register_over(registration, sent, there, branch, credentials)

        # However large, it stays on the transport that its Contact names.
        patience = OTHER_SECONDS if others_than(registration, flow[:3]) else 0.0
        registration.sending = self._sender.request(
            "REGISTER", [flow], over, (self, registration), now, switch=False, patience=patience
        )
        if sent.expires and registration.state != "registered":
            self._move(registration, "trying", registration.code, registration.reason, now)
        self._save(registration)

    def _goes_over(self, registration: Registration, flow: Flow | None) -> None:
        """The stream that it needs now, if it needs one."""
        old, registration.flow = registration.flow, flow
        if old is not None and old != flow and old in self._by_stream:
            self._by_stream[old].discard(registration)
            if not self._by_stream[old]:
                del self._by_stream[old]
        if flow is not None and flow.reliable:
            self._by_stream.setdefault(flow, set()).add(registration)

    def _register_over(
        self, registration: Registration, sent: Sent, flow: Flow, branch: str, credentials: list[build.Header]
    ) -> bytes:
        wanted, account = sent.wanted, registration.wanted.account
        self._events.count("upstream.sent")
        self._events.leg(
            registration.call_id, registration.call_id,
            tenant=account.tenant, user=account.user, connection=account.connection,
        )  # fmt: skip
        headers = [*contacts(sent.contact, sent.expires), *credentials]
        return register(
            registration, wanted.registrar, wanted.account.username, wanted.route, self._wire.via(flow, branch),
            headers, self._settings.user_agent,
        )  # fmt: skip

    # -- answers

    def on_response(self, tx: ClientTransaction, registration: Registration, response: Message, now: float) -> None:
        status, place, sent = response.status, tx.flow[:3], registration.sent
        if status < 200 or sent is None:
            return
        self.health.heard(place, now)
        if status in (401, 407) and self._answer(tx, registration, sent, response, now):
            return
        self._note_nonces(registration, place, status)
        self._pace.done(registration, now, answered=True)
        if sent.expires == 0:
            self._taken_back(registration, now)
        elif 200 <= status < 300:
            self._granted(registration, sent, place, response, now)
        elif registration.canary is not None:
            self._canary_failed(registration, status, response.reason, now)
        elif status == 423 and self._lengthen(registration, response, now):
            return
        elif status in FORGOTTEN and registration.stands_at(place) and not registration.again:
            self._forgot(registration, place, response, now)
        elif status != 503 or not self._try_next(registration, place, status, response.reason, now):
            self._failed(registration, "refused", status, response.reason, now, retry_after(response))

    def on_failure(self, sending: Sending, registration: Registration, reason: str, now: float) -> None:
        """Time-out or transport error."""
        sent, flow = registration.sent, registration.flow
        if sent is None or flow is None:
            return
        self._pace.done(registration, now, answered=False)
        if sent.expires == 0:
            self.health.failed(flow[:3], now)
            self._taken_back(registration, now)
        elif registration.canary is not None:
            self._canary_failed(registration, 408, reason, now)
        else:
            if not registration.removing and not registration.held:
                # The answer may have been lost, and not the request.
                registration.held, registration.held_at = sent.contact, flow[:3]
            if not self._try_next(registration, flow[:3], 408, reason, now):
                self._failed(registration, "unreachable", 408, reason, now)

    def _answer(
        self, tx: ClientTransaction, registration: Registration, sent: Sent, response: Message, now: float
    ) -> bool:
        """Answer a challenge; a second one with the same nonce is a refusal (wire.md)."""
        if registration.proof is None:
            return False
        if registration.proof.went_ahead:
            registration.stale += 1
        uri = request_uri(sent.wanted.registrar)
        found = registration.proof.headers(response, "REGISTER", uri, self._wire.token())
        if found is not None:
            self._send(registration, sent, tx.flow, [*found], now)
        return found is not None

    def _note_nonces(self, registration: Registration, place: Place, status: int) -> None:
        """After the last answer: what may serve the next time."""
        proof = registration.proof
        if proof is None or not 200 <= status < 300:
            registration.nonces = None
            return
        if proof.went_ahead:
            registration.stale = 0
            self._events.count("upstream.unchallenged")
        nonces = proof.nonces
        registration.nonces = (place, nonces) if nonces else None

    def _lengthen(self, registration: Registration, response: Message, now: float) -> bool:
        """423: ask for as long as the PBX demands (RFC 3261 10.2.8), once at once; one that goes on to demand more
        counts as refusing, and is asked with what it demanded at the pace of refusals."""
        least = least_of(response)
        if registration.removing or least <= max(registration.wanted.expires, registration.min_expires):
            return False
        registration.min_expires = least
        if registration.lengthened:
            return False
        registration.lengthened = True
        registration.waiting = False
        self._schedule(registration, now, now)
        return True

    def _taken_back(self, registration: Registration, now: float) -> None:
        """The PBX forgot a Contact, or could not be asked to: what is wanted comes next."""
        registration.waiting = registration.moving = False
        registration.held, registration.held_at, registration.expires_at = "", None, None
        if registration.removing:
            self._left(registration)
            return
        self._move(registration, "trying", 0, "", now)
        self._schedule(registration, now, now)

    def _granted(self, registration: Registration, sent: Sent, place: Place, response: Message, now: float) -> None:
        granted = granted_of(response, sent.contact, sent.expires)
        if granted == 0:
            self._failed(registration, "refused", response.status, "The PBX granted no time", now)
            return
        registration.waiting = registration.again = registration.suspect = registration.lengthened = False
        registration.tried = frozenset()
        registration.attempts = 0
        back = self.health.granted(place)
        canary, registration.canary = registration.canary, None
        if canary is None or not registration.held:  # else it is still to be taken back where it stood
            moved = registration.held_at != place
            registration.held, registration.held_at = sent.contact, place
            registration.stray = (moved or registration.stray) and registration.pbx.rank(place) > 0
        if registration.removing:
            self._schedule(registration, now, now)
            return
        registration.granted = granted
        registration.expires_at = now + granted
        self._take_service_route(registration, response)
        self._move(registration, "registered", response.status, response.reason, now)
        if back is not None:
            self._come_back(back)
        if canary is not None:
            self._renew_all([registration])
        if not self._is_scheduled(registration):  # else a change is waiting to be sent
            self._plan(registration, place, now)
        self._save(registration)

    def _canary_failed(self, registration: Registration, code: int, reason: str, now: float) -> None:
        """That place does not serve yet. It stays where it is, if it is anywhere."""
        registration.waiting = False
        registration.canary = None
        if registration.held_at is None or not registration.registered:
            self._failed(registration, "unreachable" if code == 408 else "refused", code, reason, now)
        elif not self._is_scheduled(registration):
            self._plan(registration, registration.held_at, now)

    def _try_next(self, registration: Registration, place: Place, code: int, reason: str, now: float) -> bool:
        """Go on at another place of this PBX, if there is one that was not tried."""
        self.health.failed(place, now)
        registration.tried |= {place}
        if registration.removing or all(flow[:3] in registration.tried for flow in registration.pbx.flows):
            return False
        self._events.count("upstream.next_place")
        registration.waiting = False
        self._move(registration, "trying", code, reason, now)
        self._schedule(registration, now, now)
        return True

    def _take_service_route(self, registration: Registration, response: Message) -> None:
        """Of each 2xx the route that it names, or none (RFC 3608 6.1); one that cannot be followed is as none."""
        try:
            route = service_route_of(response)
        except BadMessage:
            self._events.count("upstream.bad_service_route")
            route = ""
        self._keep_service_route(registration, route)

    def _keep_service_route(self, registration: Registration, route: str) -> None:
        account = registration.wanted.account
        registration.service_route = route
        self.ways.keep_service_route(account.tenant, account.user, account.connection, route)

    def _failed(
        self, registration: Registration, state: str, code: int, reason: str, now: float, retry_after: int = 0
    ) -> None:
        """Wait longer after each failure, up to the cap, or as long as the PBX says."""
        registration.waiting = registration.suspect = registration.again = False
        registration.tried = frozenset()
        if registration.removing:
            if not self._is_scheduled(registration):  # else what it holds is still to be taken back
                self._left(registration)
            return
        first, cap = self._settings.retry_first, self._settings.retry_cap
        wait = min(cap, first * 2.0 ** min(registration.attempts, 20))
        wait = max(wait * (0.8 + 0.4 * self._fraction()), float(retry_after))
        registration.attempts += 1
        registration.expires_at = None
        self._keep_service_route(registration, "")
        self._move(registration, state, code, reason, now)
        if not self._is_scheduled(registration):
            self._schedule(registration, now + wait, now)
        self._save(registration)

    def _move(self, registration: Registration, state: str, code: int, reason: str, now: float) -> None:
        changed = registration.state != state
        if not changed and (registration.code, registration.reason) == (code, reason) and registration.cseq:
            return
        if changed:
            registration.since = now
        registration.state, registration.code, registration.reason = state, code, legible(reason)
        if state == "trying":
            return
        account = registration.wanted.account
        self._events.add(
            now, "registration.changed", tenant=account.tenant, user=account.user, connection=account.connection,
            state=state, code=code, reason=reason,
        )  # fmt: skip

    def _save(self, registration: Registration) -> None:
        if not registration.removing:
            self._events.change("upstream", registration.wanted.key, registration.record())

    def _fraction(self) -> float:
        """Random, 0 to 1."""
        return int.from_bytes(self._random(2)) / 65535
