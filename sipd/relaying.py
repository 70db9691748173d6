"""Registrations that phones make at a PBX through the edge (wire.md: strategy relay; docs/decisions/0016).

One registration per user and connection at the PBX, whatever number of phones the user has: always the same
Call-ID, a rising CSeq, and the Contact by the edge's rule. Each REGISTER of a phone becomes one of it, as only the
phone can answer the PBX's challenge; what it asks for is kept here when the PBX has said 2xx.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from typing import Any

from sipd.calls import Core
from sipd.events import legible
from sipd.flow import Flow, may_go, shown
from sipd.guard import Guard
from sipd.message import build
from sipd.message.auth import Challenge, Credentials, parse_challenges
from sipd.message.build import Header
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.register import contacts, least_of, register
from sipd.registrar import Binding, Owner, Refused
from sipd.relayed import CHALLENGES, CREDENTIALS, Line, credentials_of, line_of, untouched
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.sending import Sending
from sipd.timers import Timer
from sipd.transaction.layer import ClientTransaction, ServerTransaction
from sipd.wayout import connection_hops, contact_of, granted_of, service_route_of

MAX_WAITING = 8
"""REGISTERs of one user that wait while one is under way; more: 503 with Retry-After."""
ANSWER_SECONDS = 25.0
"""From a phone's REGISTER to its answer, in which the PBX must have answered: the phone gives up after 32 seconds (RFC
3261 17.1.2.2, timer F), and is to hear of it before."""
RETRY_AFTER = 10
"""Seconds, where there is no way to the PBX, or too much is waiting."""
CSEQ_BLOCK = 100
"""CSeq numbers that are stored as used at a time, so that a stranger's requests are not a write to disk each."""
PASSED = (*CHALLENGES, "authentication-info", "min-expires", "retry-after", "unsupported", "warning")
"""Headers of a PBX's answer that a phone gets: nothing in them names other contacts."""

Home = tuple[str, str, str]
"""Registrar, user name there, and hop: another one is another registration."""


def home_of(line: Line) -> Home:
    hop = connection_hops(line.connection)[0][0]
    return line.connection.registrar_domain, line.account.username, " ".join(map(str, hop))


class RelayedRegistration:
    """What a PBX has been told for one user, and how that stands."""

    __slots__ = (
        "asked", "at", "call_id", "code", "connection", "cseq", "expires_at", "from_tag", "held", "home", "least",
        "nonce", "nonce_to", "owner", "reason", "service_route", "since", "state", "stored_cseq", "waiting",
    )  # fmt: skip

    def __init__(self, owner: Owner, connection: str, home: Home, call_id: str, from_tag: str) -> None:
        self.owner = owner
        self.connection = connection
        """Id."""
        self.home = home
        self.call_id = call_id
        self.from_tag = from_tag
        self.cseq = self.stored_cseq = 0
        self.held = ""
        """The Contact that the PBX has accepted, with angle brackets; empty: none."""
        self.at = ""
        """The place of the PBX that has accepted it, for people."""
        self.expires_at: float | None = None
        """When the PBX forgets it, if no phone refreshes it."""
        self.service_route = ""
        """Of the last 2xx (RFC 3608)."""
        self.state = ""
        """As of an upstream registration (docs/architecture.md); empty: there is nothing to tell."""
        self.code = 0
        self.reason = ""
        self.since = 0.0
        self.least = 0
        """Seconds that the PBX demanded with 423."""
        self.nonce = self.nonce_to = ""
        """Of the last challenge that was passed, until one is answered; and the address that it went to."""
        self.asked: Asked | None = None
        """Under way: one at a time (RFC 3261 10.2)."""
        self.waiting: deque[Asked] = deque()

    @property
    def key(self) -> str:
        """Name in the store."""
        return " ".join((*self.owner, self.connection))

    def stands(self, now: float) -> bool:
        return bool(self.held) and self.expires_at is not None and self.expires_at > now

    def is_of_interest(self, now: float) -> bool:
        """Whether there is something to tell: not when its time is over, as phones come and go."""
        return bool(self.state) and (self.state != "registered" or self.stands(now))

    def record(self) -> dict[str, Any]:
        names = ("at", "call_id", "from_tag", "held", "state", "code", "reason", "since", "expires_at", "service_route")
        who = {"tenant": self.owner[0], "user": self.owner[1], "connection": self.connection}
        return {name: getattr(self, name) for name in names} | who | {"home": self.home, "cseq": self.stored_cseq}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RelayedRegistration:
        """Goes on with CSeq numbers that were not used."""
        owner, home = (record["tenant"], record["user"]), tuple(record["home"])
        made = cls(owner, record["connection"], home, record["call_id"], record["from_tag"])
        for name in ("at", "held", "state", "code", "reason", "since", "expires_at", "service_route", "cseq"):
            setattr(made, name, record[name])
        made.stored_cseq = made.cseq
        return made

    def state_dict(self) -> dict[str, Any]:
        """For people: docs/architecture.md, `registrations`."""
        return {
            "tenant": self.owner[0],
            "user": self.owner[1],
            "connection": self.connection,
            "state": self.state,
            "code": self.code,
            "reason": self.reason,
            "contact": self.held,
            "since": self.since,
            "next": None,
            "expires": self.expires_at,
            "at": self.at if self.state == "registered" else "",
        }


class Asked:
    """A phone's REGISTER that waits for its turn, or for the PBX's answer."""

    __slots__ = (
        "contact", "headers", "index", "line", "registration", "seconds", "sending", "timer", "tx", "wanted",
    )  # fmt: skip

    def __init__(
        self, registration: RelayedRegistration, tx: ServerTransaction, index: TenantIndex, line: Line,
        headers: list[Header],
    ) -> None:  # fmt: skip
        self.registration = registration
        self.tx = tx
        self.index = index
        self.line = line
        self.headers = headers
        """Of our 200, beside the Contacts."""
        self.wanted: list[Binding] = []
        """Bindings to make and to remove, as by a 2xx at once."""
        self.seconds: int | None = None
        """Asked of the PBX; 0 takes the Contact back, None asks what there is."""
        self.contact = ""
        self.sending: Sending | None = None
        self.timer: Timer | None = None

    @property
    def request(self) -> Message:
        return self.tx.request


class Relaying:
    """Passes phones' REGISTERs to PBXs, and answers back."""

    def __init__(self, core: Core, guard: Guard) -> None:
        self._core = core
        self._guard = guard
        self._registrations: dict[str, RelayedRegistration] = {}

    def __len__(self) -> int:
        return len(self._registrations)

    def describe(self, tenant: str | None, now: float) -> Iterator[dict[str, Any]]:
        """Those that a person should see: in force, refused, or without a way to the PBX."""
        for registration in self._registrations.values():
            if registration.is_of_interest(now) and tenant in (None, registration.owner[0]):
                yield registration.state_dict()

    def states(self, now: float) -> Iterator[tuple[str, str]]:
        """Tenant and state of each of these, while others may come and go."""
        for registration in list(self._registrations.values()):
            if registration.is_of_interest(now):
                yield registration.owner[0], registration.state

    # -- what the table wants

    def restore(self, record: dict[str, Any]) -> None:
        """From before a restart; to be followed by `load`."""
        registration = RelayedRegistration.from_record(record)
        self._registrations[registration.key] = registration
        self._core.ways.keep_service_route(*registration.owner, registration.connection, registration.service_route)

    def restate(self) -> None:
        """Store all once more."""
        for registration in self._registrations.values():
            self._save(registration)

    def load(self, compiled: Compiled, changed: Set[str], now: float) -> None:
        """In the tenants that changed: forget the registrations whose user, account or PBX is another one now. They
        cannot be taken back, as that takes the phone's password; the PBX forgets them in time."""
        for key, registration in list(self._registrations.items()):
            tenant, user = registration.owner
            index = compiled.tenants.get(tenant)
            if tenant not in changed or (index is not None and self._stays(registration, index)):
                continue
            del self._registrations[key]
            while registration.waiting:
                self._answer(registration.waiting.popleft(), 503, None, [("Retry-After", str(RETRY_AFTER))], now)
            self._core.events.change("relayed", key, None)
            self._core.registrar.withdraw((tenant, user), registration.connection, now)
            self._core.ways.keep_service_route(tenant, user, registration.connection, "")

    def _stays(self, registration: RelayedRegistration, index: TenantIndex) -> bool:
        line = line_of(index, index.users_by_id.get(registration.owner[1]))
        if line is None or index.tenant.suspended or line.connection.id != registration.connection:
            return False
        return home_of(line) == registration.home

    # -- a phone's REGISTER

    def register(
        self, tx: ServerTransaction, index: TenantIndex, line: Line, headers: list[Header], now: float
    ) -> None:
        """Pass it on; our 200 to it has `headers` and its Contacts. Raises Refused or BadMessage for what is not
        passed."""
        owner = index.tenant.id, line.user.id
        self._core.registrar.wanted(tx.request, owner, tx.source, now)  # what cannot be kept is not asked of the PBX
        registration = self._registration(owner, line)
        if len(registration.waiting) >= MAX_WAITING:
            raise Refused(503, "Service Unavailable", ("Retry-After", str(RETRY_AFTER)))
        asked = Asked(registration, tx, index, line, headers)
        asked.timer = self._core.timers.set(now + ANSWER_SECONDS, lambda at: self._silent(asked, at))
        registration.waiting.append(asked)
        if registration.asked is None:
            self._next(registration, now)

    def _registration(self, owner: Owner, line: Line) -> RelayedRegistration:
        key = " ".join((*owner, line.connection.id))
        registration = self._registrations.get(key)
        if registration is None:
            wire = self._core.wire
            registration = RelayedRegistration(owner, line.connection.id, home_of(line), wire.token(16), wire.token())
            self._registrations[key] = registration
        return registration

    def _next(self, registration: RelayedRegistration, now: float) -> None:
        """The one that waits for longest."""
        registration.asked = None
        while registration.waiting and registration.asked is None:
            self._begin(registration.waiting.popleft(), now)

    def _begin(self, asked: Asked, now: float) -> None:
        registration, core = asked.registration, self._core
        if asked.tx.terminated:  # its stream ended meanwhile
            core.timers.cancel(asked.timer)
            return
        try:
            asked.wanted = self._wanted(asked, now)
        except (Refused, BadMessage) as refused:  # by what came before it
            self._answer(asked, refused.status, refused.reason, list(getattr(refused, "headers", ())), now)
            return
        asked.seconds = self._seconds(asked, now)
        registration.asked = asked

        def ready(flows: Sequence[Flow], then: float) -> None:
            usable = [flow for flow in flows if may_go(asked.request.uri, flow)]
            if registration.asked is not asked:  # silent for too long
                return
            if usable:
                self._send(asked, usable, then)
            else:
                self._unreachable(asked, then)

        core.ways.find(asked.index.tenant.id, asked.line.connection, ready, now)

    def _wanted(self, asked: Asked, now: float) -> list[Binding]:
        """What it asks for. With * all of its own, and none of other phones of the user."""
        found = self._core.registrar.wanted(asked.request, asked.registration.owner, asked.tx.source, now)
        if any(contact.star for contact in asked.request.contacts):
            return [binding for binding in found if self._is_own(binding, asked)]
        return found

    def _is_own(self, binding: Binding, asked: Asked) -> bool:
        """Whether a binding is of the phone that asks: by its Call-ID (RFC 3261 10.2.4), its device or Contact, or by
        where it is, if no proxy is there in its place."""
        if binding.relay != asked.line.connection.id:
            return False
        there = not binding.path and binding.flow[:3] == asked.tx.source[:3]
        return (
            binding.call_id == asked.request.call_id
            or there
            or any(binding.device == new.device for new in asked.wanted)
        )

    def _seconds(self, asked: Asked, now: float) -> int | None:
        """For how long the PBX is asked: as the phone does, and as long as other phones of the user need it."""
        if not asked.request.contacts:
            return None
        registrar, registration = self._core.registrar, asked.registration
        gone = {old.key for new in asked.wanted for old in registrar.replaced(new)}
        others = [b for b in registrar.live(registration.owner, now) if b.relay == registration.connection]
        new = max((binding.expires - now for binding in asked.wanted), default=0.0)
        left = max((b.expires - now for b in others if b.key not in gone), default=0.0)
        if new <= 0 < left:  # ours to say, and no phone is to hear that it is too brief
            left = max(left, self._core.settings.min_expires, registration.least)
        return math.ceil(max(new, left, 0.0))

    def _send(self, asked: Asked, flows: Sequence[Flow], now: float) -> None:
        registration = asked.registration
        registration.cseq += 1
        if registration.cseq > registration.stored_cseq:
            registration.stored_cseq = registration.cseq + CSEQ_BLOCK
            self._save(registration)
        tenant, user = registration.owner
        self._core.events.leg(
            registration.call_id, asked.request.call_id, tenant=tenant, user=user, connection=registration.connection
        )

        def over(flow: Flow, branch: str) -> bytes:
            connection, tenant = asked.line.connection, asked.index.tenant
            extension, wire = asked.line.user.extension, self._core.wire
            asked.contact = contact_of(extension, tenant.primary_domain, connection.multi_tenant, wire, flow)
            return self._register_over(asked, flow, branch)

        # However large, it stays on the transport that its Contact names.
        asked.sending = self._core.sender.request("REGISTER", flows, over, (self, asked), now, switch=False)

    def _register_over(self, asked: Asked, flow: Flow, branch: str) -> bytes:
        line, wire = asked.line, self._core.wire
        _, route = connection_hops(line.connection)
        headers = [*_contacts(asked), *credentials_of(asked.request)]
        return register(
            asked.registration, line.connection.registrar_domain, line.account.username, route,
            wire.via(flow, branch), headers, self._core.settings.user_agent,
        )  # fmt: skip

    # -- answers

    def on_response(self, tx: ClientTransaction, asked: Asked, response: Message, now: float) -> None:
        if response.status < 200 or asked.registration.asked is not asked:
            return
        if response.status < 300:
            asked.registration.at = shown(tx.flow)
            self._accepted(asked, response, now)
        else:
            self._refused(asked, response, now)
        self._next(asked.registration, now)

    def on_failure(self, sending: Sending, asked: Asked, reason: str, now: float) -> None:
        if asked.registration.asked is not asked:
            return
        if reason == "timeout":
            self._silent(asked, now)
        else:
            self._unreachable(asked, now)

    def _accepted(self, asked: Asked, response: Message, now: float) -> None:
        """The PBX has it: now the edge keeps what the phone asked for, for no longer than the PBX does."""
        registration, registrar = asked.registration, self._core.registrar
        if self._registrations.get(registration.key) is not registration:  # the table has changed meanwhile
            self._answer(asked, 503, None, [("Retry-After", str(RETRY_AFTER))], now)
            return
        if self._is_proven(asked):
            self._guard.prove(asked.tx.source, now)
        registration.nonce = registration.nonce_to = ""
        if asked.seconds is not None:
            granted = granted_of(response, asked.contact, asked.seconds)
            registration.held = asked.contact if granted else ""
            registration.expires_at = now + granted if granted else None
            self._keep(asked, granted, now)
            self._keep_service_route(registration, response)
            self._move(registration, "registered" if granted else "", response.status, response.reason, now)
            self._save(registration)
        self._core.events.count("relayed")
        own = [binding for binding in registrar.live(registration.owner, now) if self._is_own(binding, asked)]
        bound: list[Header] = [("Contact", registrar.answer(binding, now)) for binding in own]
        info = untouched(response, ("authentication-info",))
        self._answer(asked, 200, None, [*bound, *asked.headers, *info], now)

    def _keep(self, asked: Asked, granted: int, now: float) -> None:
        """A phone whose stream ended while the PBX was asked is not there any more."""
        until, relay = now + granted, asked.line.connection.id
        wanted = [
            replace(binding, expires=min(binding.expires, until), relay=relay)
            for binding in asked.wanted
            if binding.expires <= now or not asked.tx.terminated
        ]
        self._core.registrar.apply(asked.registration.owner, wanted, asked.line.user.max_bindings, now)

    def _keep_service_route(self, registration: RelayedRegistration, response: Message) -> None:
        """For the user's calls; one that cannot be followed is as none (RFC 3608 6.1)."""
        try:
            registration.service_route = service_route_of(response)
        except BadMessage:
            registration.service_route = ""
        self._core.ways.keep_service_route(*registration.owner, registration.connection, registration.service_route)

    def _refused(self, asked: Asked, response: Message, now: float) -> None:
        """Its word passes. A redirection does not: it names what is none of the phone's."""
        registration, status = asked.registration, response.status
        if status == 423:
            registration.least = least_of(response)
        proven = self._is_proven(asked)
        told = not registration.stands(now) or self._is_known(asked, now)  # strangers do not change what people see
        if self._says_no(asked, response) and told:
            self._move(registration, "refused", status, response.reason, now)
            self._save(registration)
        if not self._is_heard(asked, response, now, proven=proven):
            self._drop(asked)
        elif status < 400:
            self._answer(asked, 480, None, [], now)
        else:
            self._answer(asked, status, response.reason, untouched(response, PASSED), now)

    def _is_proven(self, asked: Asked) -> bool:
        """Whether it was sent from there indeed: over a stream, or with the nonce of the challenge that went there."""
        registration, source = asked.registration, asked.tx.source
        there = registration.nonce and registration.nonce_to == source.host
        return source.reliable or (bool(there) and registration.nonce in nonces_of(asked.request))

    def _is_heard(self, asked: Asked, response: Message, now: float, *, proven: bool) -> bool:
        """Whether who asked gets an answer: not who has guessed at passwords too often, by whatever nonce."""
        source, line = asked.tx.source, asked.line
        guessed = response.status in (401, 407) and nonces_of(asked.request) and not is_stale(response)
        if guessed or response.status in (403, 404):
            return self._guard.wrong(source, asked.index.tenant.id, line.user.extension, now, proven=proven)
        return self._guard.blame(source, "challenge", now)

    def _drop(self, asked: Asked) -> None:
        self._core.timers.cancel(asked.timer)
        self._core.layer.drop(asked.tx)

    def _is_known(self, asked: Asked, now: float) -> bool:
        registration = asked.registration
        return self._core.registrar.accepted_at(registration.owner, registration.connection, asked.tx.source, now)

    def _says_no(self, asked: Asked, response: Message) -> bool:
        """Whether it is a refusal: a challenge is one only to what answers the last challenge, as phones begin with the
        nonce of last time."""
        if response.status not in (401, 407):
            return True
        registration = asked.registration
        answered = registration.nonce and registration.nonce in nonces_of(asked.request)
        registration.nonce = next((challenge.nonce for challenge in challenges_in(response)), "")
        registration.nonce_to = asked.tx.source.host
        return bool(answered) and not is_stale(response)

    def _silent(self, asked: Asked, now: float) -> None:
        """RFC 3261 21.5.5: the server behind us gave no answer in time."""
        registration = asked.registration
        if asked in registration.waiting:
            registration.waiting.remove(asked)
            self._answer(asked, 504, None, [], now)
        elif registration.asked is asked:
            if asked.sending is not None:
                self._core.sender.abandon(asked.sending, now)
            self._failed(asked, 504, [], now)

    def _unreachable(self, asked: Asked, now: float) -> None:
        """RFC 3261 21.5.4: nobody can be asked now."""
        self._failed(asked, 503, [("Retry-After", str(RETRY_AFTER))], now)

    def _failed(self, asked: Asked, status: int, headers: list[Header], now: float) -> None:
        registration = asked.registration
        self._answer(asked, status, None, headers, now)
        self._move(registration, "unreachable", status, "PBX Silent" if status == 504 else "PBX Unreachable", now)
        self._save(registration)
        self._next(registration, now)

    def _answer(self, asked: Asked, status: int, reason: str | None, headers: Sequence[Header], now: float) -> None:
        self._core.timers.cancel(asked.timer)
        tag, source = self._core.wire.token(), asked.tx.source[1:3]
        data = build.response(asked.request, status, reason, tag, headers, b"", source)
        asked.tx.rule = "relay"
        self._core.layer.respond(asked.tx, status, data, now)
        if status >= 300 and self._guard.is_stranger(asked.tx.source):  # nothing is kept for who has proved nothing
            self._core.layer.destroy(asked.tx)

    # -- what people see, and what is stored

    def _move(self, registration: RelayedRegistration, state: str, code: int, reason: str, now: float) -> None:
        changed = registration.state != state
        if not changed and (registration.code, registration.reason) == (code, reason):
            return
        if changed:
            registration.since = now
        registration.state, registration.code, registration.reason = state, code, legible(reason)
        if state:
            tenant, user = registration.owner
            self._core.events.add(
                now, "registration.changed", tenant=tenant, user=user, connection=registration.connection,
                state=state, code=code, reason=reason,
            )  # fmt: skip

    def _save(self, registration: RelayedRegistration) -> None:
        if self._registrations.get(registration.key) is registration:
            self._core.events.change("relayed", registration.key, registration.record())


def _contacts(asked: Asked) -> list[Header]:
    """What the PBX is asked for. A Contact that it holds and that leads here no more, as the mode was switched or the
    transport is another, is taken back by the same request: only the phone could send another one."""
    if asked.seconds is None:
        return []
    held = asked.registration.held
    old: list[Header] = [("Contact", f"{held};expires=0")] if held not in ("", asked.contact) else []
    return [*old, *contacts(asked.contact, asked.seconds)]


def nonces_of(request: Message) -> list[str]:
    """Those of a phone's credentials."""
    values = (value for name in CREDENTIALS for value in request.all(name) if value[:6].lower() == "digest")
    return [Credentials.parse(value).nonce for value in values]


def challenges_in(response: Message) -> list[Challenge]:
    """Those that can be read."""
    return parse_challenges(value for name in CHALLENGES for value in response.all(name))


def is_stale(response: Message) -> bool:
    """Whether a challenge says that only the nonce was wrong (RFC 7616 3.3)."""
    return any(challenge.stale for challenge in challenges_in(response))
