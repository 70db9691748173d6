"""The registrar for phones: bindings of users (RFC 3261 section 10.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sipd.dialogs import target_of
from sipd.events import Events, legible
from sipd.flow import WEB, Flow
from sipd.keepalive import KeepAlive
from sipd.message.address import Address
from sipd.message.errors import BadMessage
from sipd.message.grammar import format_params
from sipd.message.message import Message
from sipd.message.uri import Uri, same_uri
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import User
from sipd.settings import Settings
from sipd.timers import Timer, Timers

MAX_CONTACT = 1024
"""Characters of one Contact that is kept; longer: 400."""

MAX_PATH = 5
"""Path values of one REGISTER (RFC 3327), each no longer than a Contact; more: 400."""
MAX_FLOWS = 4
"""Flows of one device (RFC 5626); of more, those that expire first are given up."""
MAX_REG_ID = 2**31 - 1
"""RFC 5626 4.2: from 1 on."""

MAX_MOVES = 20_000
"""Changes of address of phones, and broken streams, that are remembered, the newest."""
MOST_MOVES = 3
"""Of one phone that are followed at once."""


Owner = tuple[str, str]
"""Ids of a tenant and of a user in it: a user's id says nothing without the tenant's."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a user's phone can be reached until `expires`."""

    tenant: str
    user: str
    contact: str
    """The Contact URI as the phone wrote it."""
    params: dict[str, str | None]
    """Contact parameters except expires."""
    call_id: str
    cseq: int
    expires: float
    """Epoch seconds."""
    flow: Flow
    """Where the REGISTER came from: requests go there (RFC 3581, wire.md)."""
    user_agent: str
    path: tuple[str, ...] = ()
    """Path values of proxies between us and the phone, the nearest to us first: the Route of what goes there
    (RFC 3327)."""
    outbound: bool = False
    """It is one of the flows of its device (RFC 5626): `+sip.instance` and `reg-id` tell which."""
    relay: str = ""
    """Id of the connection whose PBX accepted it (strategy relay); empty: the edge did."""
    key: str = field(init=False, repr=False, compare=False)
    """Name in the store: one per user and contact, or per user, device and flow (RFC 5626)."""

    def __post_init__(self) -> None:
        instance = self.params.get("+sip.instance")
        number = self.params.get("reg-id") if self.outbound else None
        place = f"{instance} {number}" if instance else self.contact
        object.__setattr__(self, "key", f"{self.tenant} {self.user} {place}")

    @property
    def owner(self) -> Owner:
        return self.tenant, self.user

    @property
    def device(self) -> str:
        """What is one phone, however many flows it has: its instance (RFC 5626), else its Contact."""
        return self.params.get("+sip.instance") or self.contact

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in FIELDS}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Binding:
        return cls(**{**record, "flow": Flow(*record["flow"]), "path": tuple(record.get("path", ()))})


FIELDS = tuple(each.name for each in fields(Binding) if each.init)
"""Of a record."""


class Refused(Exception):
    """A REGISTER that is not done: status, reason phrase and headers of the answer."""

    def __init__(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(status, reason)
        self.status, self.reason, self.headers = status, reason, headers


class Registrar:
    """Bindings by user, with one timer for the next expiry of each."""

    def __init__(self, settings: Settings, events: Events, timers: Timers, keepalive: KeepAlive | None = None) -> None:
        """`keepalive`: who keeps the ways to phones open; None: nobody does."""
        self._settings = settings
        self._events = events
        self._timers = timers
        self._keepalive = keepalive
        if keepalive is not None:
            keepalive.on_silent = self._silent
        self._bindings: dict[Owner, dict[str, Binding]] = {}
        self._flows: dict[tuple[str, str, int], dict[str, Binding]] = {}
        """Bindings by where they came from, and key."""
        self._expiries: dict[str, Timer] = {}
        self._moved: dict[tuple[Owner, Flow], Flow] = {}
        """Of a user's phone: where it was, and where it is now."""
        self._lost: dict[tuple[Owner, tuple[str, str, int]], frozenset[str]] = {}
        """Of a user and a stream that broke: the bindings that were left, which are other phones'."""

    def __iter__(self) -> Iterator[Binding]:
        for of_user in self._bindings.values():
            yield from of_user.values()

    def __len__(self) -> int:
        return len(self._expiries)

    def owners(self) -> list[Owner]:
        """Who has bindings."""
        return list(self._bindings)

    def held(self, owner: Owner) -> Iterable[Binding]:
        """A user's bindings, in no order, to be counted."""
        return self._bindings.get(owner, {}).values()

    def bindings(self, owner: Owner, now: float) -> list[Binding]:
        """Where to ring: live bindings, the preferred (q) and then the newest first; of a device with several flows
        the newest, as it must not be rung twice (RFC 5626 5.3)."""
        of_device: dict[str, Binding] = {}
        for binding in self.live(owner, now):
            of_device.setdefault(binding.device, binding)
        return list(of_device.values())

    def flows_of(self, binding: Binding, now: float) -> list[Binding]:
        """All flows of a binding's device, this one first: the others are tried when it fails (RFC 5626 5.3)."""
        others = self.live(binding.owner, now) if binding.outbound else []
        return [binding, *(b for b in others if b.device == binding.device and b.key != binding.key)]

    def flow_failed(self, flow: Flow, now: float) -> None:
        """A flow leads nowhere: of devices that have others, it is forgotten until they register over it again."""
        for binding in list(self._flows.get(flow[:3], {}).values()):
            if len(self.flows_of(binding, now)) > 1:
                self._drop(binding, "flow failed", now)

    def live(self, owner: Owner, now: float) -> list[Binding]:
        """All bindings of a user, the preferred (q) and then the newest first."""
        live = [b for b in self._bindings.get(owner, {}).values() if b.expires > now]
        return sorted(live, key=_by_preference, reverse=True) if len(live) > 1 else live

    def has_phone_at(self, flow: Flow) -> bool:
        """Whether a phone registered over this flow."""
        return flow[:3] in self._flows

    def users_at(self, flow: Flow) -> set[Owner]:
        """The users whose phones registered over this flow."""
        return {binding.owner for binding in self._flows.get(flow[:3], {}).values()}

    def flow_of(self, owner: Owner, target: str, flow: Flow, now: float) -> Flow:
        """Where a phone is that was last heard of at `flow`: it may have registered anew from another port of its NAT,
        or over another stream (RFC 5626 5.3): with the same Contact, else as the only phone of the user at that address
        that came after the stream broke, as a Contact tells the port of the stream."""
        for _ in range(MOST_MOVES):
            flow = self._moved.get((owner, flow), flow)
        others = self._lost.get((owner, flow[:3]))
        if flow.reliable and (flow[:3] not in self._flows or others is not None):
            live = [binding for binding in self.live(owner, now) if binding.flow != flow]
            same = [binding.flow for binding in live if target_of(binding.contact) == target]
            back = [b.flow for b in live if others is not None and b.key not in others and b.flow[:2] == flow[:2]]
            if same or len(back) == 1:
                return (same or back)[0]
        return flow

    def accepted_at(self, owner: Owner, connection: str, flow: Flow, now: float) -> bool:
        """Whether the PBX of this connection accepted a registration of the user that came over this flow."""
        bindings = self._flows.get(flow[:3], {}).values()
        return any(b.owner == owner and b.relay == connection and b.expires > now for b in bindings)

    def withdraw(self, owner: Owner, connection: str, now: float) -> None:
        """What this connection's PBX accepted counts no more."""
        for binding in [b for b in self._bindings.get(owner, {}).values() if b.relay == connection]:
            self._drop(binding, "removed from the table", now)

    def tenant_at(self, flow: Flow) -> str:
        """Id of the tenant whose phones registered over this flow; "" for none, and for several."""
        ids = {binding.tenant for binding in self._flows.get(flow[:3], {}).values()}
        return ids.pop() if len(ids) == 1 else ""

    def register(self, request: Message, index: TenantIndex, user: User, flow: Flow, now: float) -> list[str]:
        """Do what an authenticated REGISTER asks, all of it or nothing; the Contact values of the answer.

        Raises Refused or BadMessage.
        """
        owner = index.tenant.id, user.id
        self.apply(owner, self.wanted(request, owner, flow, now), user.max_bindings, now)
        return [self.answer(binding, now) for binding in self.live(owner, now)]

    def wanted(self, request: Message, owner: Owner, flow: Flow, now: float) -> list[Binding]:
        """The bindings that a REGISTER asks for; those that are to go expire `now`. Raises Refused or BadMessage."""
        contacts = request.contacts
        if any(contact.star for contact in contacts):
            return self._all_removed(request, owner, contacts, now)
        path = path_of(request)
        new = [self._wanted(request, owner, contact, path, flow, now) for contact in contacts]
        if len(new) > 1 and any(binding.outbound and binding.expires > now for binding in new):
            raise Refused(400, "One Contact Goes With reg-id")  # RFC 5626 6
        return new

    def _wanted(
        self, request: Message, owner: Owner, contact: Address, path: tuple[str, ...], flow: Flow, now: float
    ) -> Binding:
        """The binding that one Contact asks for; `expires` not after `now` removes it."""
        if contact.uri.scheme not in ("sip", "sips") or not contact.uri.host:
            raise Refused(400, "Contact Is No SIP URI")
        if len(contact.uri_text) > MAX_CONTACT:
            raise Refused(400, "Contact Too Long")
        binding = Binding(
            tenant=owner[0],
            user=owner[1],
            contact=contact.uri_text,
            params={name: value for name, value in contact.params.items() if name != "expires"},
            call_id=request.call_id,
            cseq=request.cseq.number,
            expires=now + self._lifetime(request, contact),
            flow=flow,
            user_agent=legible((request.get("user-agent") or "")[:200]),
            path=path,
            outbound=asks_for_flow(request, contact, path),
        )
        if any(old.call_id == binding.call_id and old.cseq >= binding.cseq for old in self.replaced(binding)):
            raise Refused(500, "REGISTER Out Of Order")
        return binding

    def _lifetime(self, request: Message, contact: Address) -> int:
        """Seconds: the Contact's expires, the header's, or the default (RFC 3261 10.2.1.1)."""
        text = contact.params.get("expires")
        asked: int | None = request.expires
        if text is not None:
            asked = int(text) if text.isascii() and text.isdigit() and len(text) < 11 else None
        if asked is None:
            return self._settings.default_expires
        if 0 < asked < self._settings.min_expires:
            raise Refused(423, "Interval Too Brief", ("Min-Expires", str(self._settings.min_expires)))
        return min(asked, self._settings.max_expires)

    def replaced(self, binding: Binding) -> list[Binding]:
        """The bindings whose place this one takes: the same flow of the same device (RFC 5626 6), the same Contact by
        RFC 3261 19.1.4, or of a phone without instance the one that it had before it moved."""
        of_user = self._bindings.get(binding.owner)
        if not of_user:
            return []
        exact = of_user.get(binding.key)
        if exact is not None and len(of_user) == 1:
            return [exact]
        if binding.params.get("+sip.instance"):
            return [old for old in of_user.values() if old is exact or _is_instead(old, binding)]
        wanted = Uri.parse(binding.contact)
        return [old for old in of_user.values() if old is exact or _is_same_phone(old, binding, wanted)]

    def _all_removed(self, request: Message, owner: Owner, contacts: list[Address], now: float) -> list[Binding]:
        """Contact: * stands alone and with Expires: 0 (RFC 3261 10.3 step 6)."""
        if len(contacts) > 1 or request.expires != 0:
            raise BadMessage(400, "Contact * Goes With Expires 0 Alone")
        bindings = list(self._bindings.get(owner, {}).values())
        if any(b.call_id == request.call_id and b.cseq >= request.cseq.number for b in bindings):
            raise Refused(500, "REGISTER Out Of Order")
        return [replace(binding, expires=now) for binding in bindings]

    def apply(self, owner: Owner, wanted: Sequence[Binding], most: int, now: float) -> None:
        """Keep and remove what `wanted` says; of more than `most` phones those that expire first go."""
        for binding in wanted:
            replaced = self.replaced(binding)
            if binding.expires <= now:
                for old in replaced:
                    self._drop(old, "unregistered", now)
                continue
            for old in replaced:
                if old.key != binding.key:
                    self._forget(old)
            self._keep(binding, now)
            for old in replaced:
                if old.flow != binding.flow:
                    self._remember_move(owner, old.flow, binding.flow)
            if not any(old.flow == binding.flow for old in replaced):
                self._note(binding, "binding.added", "registered", now)
        self._bound(owner, most, now)

    def _bound(self, owner: Owner, most: int, now: float) -> None:
        """No more phones than the user may have, and no more flows than a phone may: who expires first goes first."""
        of_user = self._bindings.get(owner, {})
        if len(of_user) <= min(most, MAX_FLOWS):
            return
        devices: dict[str, list[Binding]] = {}
        for binding in sorted(of_user.values(), key=lambda b: b.expires, reverse=True):
            devices.setdefault(binding.device, []).append(binding)
        for place, flows in enumerate(devices.values()):
            for binding in flows if place >= most else flows[MAX_FLOWS:]:
                self._drop(binding, "limit of phones", now)

    def _remember_move(self, owner: Owner, old: Flow, new: Flow) -> None:
        """For what goes on with the phone that was there."""
        self._moved.pop((owner, new), None)  # it is back
        self._moved[owner, old] = new
        if len(self._moved) > MAX_MOVES:
            del self._moved[next(iter(self._moved))]

    def _keep(self, binding: Binding, now: float, *, stored: bool = False) -> None:
        of_user = self._bindings.setdefault(binding.owner, {})
        if binding.key in of_user:
            self._leave_flow(of_user[binding.key])
        of_user[binding.key] = binding
        self._flows.setdefault(binding.flow[:3], {})[binding.key] = binding
        self._lost.pop((binding.owner, binding.flow[:3]), None)
        if not stored:
            self._events.change("binding", binding.key, binding.record())
        self._cancel_expiry(binding)
        self._expiries[binding.key] = self._timers.set(binding.expires, lambda at: self._expire(binding, at))
        if self._keepalive is not None:
            self._keepalive.begin(binding, now)

    def _forget(self, binding: Binding) -> None:
        of_user = self._bindings[binding.owner]
        del of_user[binding.key]
        if not of_user:
            del self._bindings[binding.owner]
        self._leave_flow(binding)
        self._cancel_expiry(binding)
        if self._keepalive is not None:
            self._keepalive.end(binding)
        self._events.change("binding", binding.key, None)

    def _cancel_expiry(self, binding: Binding) -> None:
        timer = self._expiries.pop(binding.key, None)
        if timer is not None:
            self._timers.cancel(timer)

    def _leave_flow(self, binding: Binding) -> None:
        on_flow = self._flows[binding.flow[:3]]
        del on_flow[binding.key]
        if not on_flow:
            del self._flows[binding.flow[:3]]

    def _drop(self, binding: Binding, reason: str, now: float) -> None:
        self._forget(binding)
        self._note(binding, "binding.removed", reason, now)

    def _expire(self, binding: Binding, now: float) -> None:
        if self._bindings.get(binding.owner, {}).get(binding.key) is binding:
            self._drop(binding, "expired", now)

    def _silent(self, binding: Binding, now: float) -> None:
        """A phone that kept its flow alive does so no more (RFC 5626 4.4)."""
        if self._bindings.get(binding.owner, {}).get(binding.key) is binding:
            self._drop(binding, "flow silent", now)

    def _note(self, binding: Binding, kind: str, reason: str, now: float) -> None:
        source = f"{binding.flow.transport}:{binding.flow.host}:{binding.flow.port}"
        self._events.add(
            now, kind, tenant=binding.tenant, user=binding.user, contact=binding.contact, source=source, reason=reason
        )

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A stream ended: phones behind it cannot be reached any more (RFC 5626 4.2)."""
        lost = list(self._flows.get(flow[:3], {}).values())
        for binding in lost:
            self._drop(binding, "connection lost", now)
        for owner in {binding.owner for binding in lost}:
            self._note_lost(owner, flow)

    def _note_lost(self, owner: Owner, flow: Flow) -> None:
        """What is left of the owner's then are other phones'. Of a stream that a restart broke this is known before
        its end is noticed."""
        others = (key for key, binding in self._bindings.get(owner, {}).items() if binding.flow[:3] != flow[:3])
        self._lost.setdefault((owner, flow[:3]), frozenset(others))
        if len(self._lost) > MAX_MOVES:
            del self._lost[next(iter(self._lost))]

    def resume(self, owner: Owner, target: str, flow: Flow, now: float) -> Flow:
        """Where a phone is that was in a call at `flow` before a restart: with the same Contact, if it has moved."""
        if flow.reliable:
            self._note_lost(owner, flow)
        elif flow[:3] not in self._flows:
            live = self.bindings(owner, now)
            return next((binding.flow for binding in live if target_of(binding.contact) == target), flow)
        return flow

    def load(self, compiled: Compiled, changed: Set[str], now: float) -> None:
        """In the tenants that changed: users that are gone or disabled, and suspended tenants, lose their bindings."""
        for binding in [binding for binding in self if binding.tenant in changed]:
            index = compiled.tenants.get(binding.tenant)
            if index is None or index.tenant.suspended or binding.user not in index.users_by_id:
                self._drop(binding, "removed from the table", now)

    def restore(self, record: dict[str, Any], now: float, key: str = "") -> None:
        """Take back a binding from the store, where it has the name `key`; a stream that it used is gone, the address
        may still answer."""
        binding = Binding.from_record(record)
        if key not in ("", binding.key):  # as an earlier release named it
            self._events.change("binding", key, None)
        transport, host, port, listener = binding.flow
        flow = None
        if transport not in WEB:  # a browser connects anew, and registers then (RFC 7118)
            flow = self._settings.flow_to(host, port, transport, listener)  # there may be other listeners now
        if binding.expires > now and flow is not None:
            same = flow == binding.flow and key == binding.key
            self._keep(binding if same else replace(binding, flow=flow), now, stored=same)
        else:
            self._events.change("binding", binding.key, None)

    def answer(self, binding: Binding, now: float) -> str:
        """A Contact of the 200: the phone's own URI and parameters, with what is left of its time."""
        params = format_params(binding.params)
        return f"<{binding.contact}>{params};expires={max(1, round(binding.expires - now))}"


def path_of(request: Message) -> tuple[str, ...]:
    """Path values, the nearest to us first (RFC 3327 5.3). Raises Refused and BadMessage."""
    values = tuple(legible(value) for value in request.split("path"))
    if len(values) > MAX_PATH or any(len(value) > MAX_CONTACT for value in values):
        raise Refused(400, "Too Much Path")
    for value in values:
        Address.parse(value)
    return values


def asks_for_flow(request: Message, contact: Address, path: tuple[str, ...]) -> bool:
    """Whether a Contact is for one flow of a device (RFC 5626 6). Raises Refused and BadMessage.

    A proxy between us and the phone must keep the flow, too, which its Path says.
    """
    number = contact.params.get("reg-id")
    if number is None or not contact.params.get("+sip.instance"):
        return False
    if not (number.isascii() and number.isdigit() and len(number) < 11 and 0 < int(number) <= MAX_REG_ID):
        raise Refused(400, "reg-id Is No Number From 1")
    if len(request.vias) == 1 or (path and "ob" in Address.parse(path[-1]).uri.params):
        return True
    if "outbound" in (tag.lower() for tag in request.split("supported")):
        raise Refused(439, "First Hop Lacks Outbound Support")
    return False


def _is_instead(old: Binding, new: Binding) -> bool:
    """Whether both are of one device that has either one binding or several flows, and not both (RFC 5626 6)."""
    return old.device == new.device and not (old.outbound and new.outbound)


def _is_same_phone(old: Binding, new: Binding, contact: Uri) -> bool:
    """Whether a phone without instance was there before: by its Contact, or as it went on with its Call-ID from another
    address (RFC 3261 10.2.4)."""
    there = Uri.parse(old.contact)
    if same_uri(there, contact):
        return True
    moved = old.call_id == new.call_id and old.cseq < new.cseq and not old.params.get("+sip.instance")
    return moved and (there.scheme, there.user) == (contact.scheme, contact.user)


def _by_preference(binding: Binding) -> tuple[float, float]:
    return preference(binding), binding.expires


def preference(place: Binding | Address) -> float:
    """q, 0 to 1; without it 1 (RFC 3261 10.2.1.2)."""
    try:
        q = float(place.params.get("q") or 1.0)
    except ValueError:
        return 0.0
    return q if 0.0 <= q <= 1.0 else 0.0
