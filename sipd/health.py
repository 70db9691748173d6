"""Whether the PBXs in use are there: OPTIONS to each address, and what else is heard of it (RFC 3261 11.2).

An address is asked by this node once, whatever number of tenants and connections are there. An answer of any status
means that it is up. It is down when several OPTIONS in a row fail: silence, or a connection that is refused. Silence
says nothing of one that has never answered OPTIONS, unless a REGISTER was lost there as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sipd.events import Events
from sipd.flow import Flow, Place, shown
from sipd.message import build
from sipd.message.grammar import bracketed
from sipd.message.message import Message
from sipd.sending import Sender, Sending
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.trace import UNTRACED
from sipd.transaction.layer import ClientTransaction
from sipd.wire import Wire

PROBE_SECONDS = 4.0
"""How long an OPTIONS waits for its answer."""
FAILURES = 3
"""OPTIONS in a row without an answer, after which an address is down."""
REFUSED = 2
"""What a refused connection counts: twice in a row will do."""
SOON = 5.0
"""Seconds between two OPTIONS while an address gives no answer."""
JITTER = 0.2
"""Share of the interval by which each may come earlier or later."""
USED_SECONDS = 600.0
"""How long an address without registrations is asked after the last call that went there."""
TRY_SECONDS = 60.0
"""Seconds between two REGISTERs that find out whether an address serves that leaves OPTIONS unanswered."""
MAX_WATCHED = 10_000
"""Addresses that are asked; more are not."""
MAX_TOLD = 1000
"""Connections that an event is written for when an address goes down or comes up."""

Owner = tuple[str, str]
"""Tenant and connection."""


class Using(Protocol):
    """All registrations that go to the same places."""

    watched: tuple[PbxAddress, ...]

    def owners(self) -> Iterable[Owner]:
        """Whose they are."""


class Told(Protocol):
    """Who renews registrations."""

    def pbx_is_down(self, address: PbxAddress, now: float) -> None:
        """It serves no more."""

    def pbx_is_up(self, address: PbxAddress, now: float) -> None:
        """It was down, and is back; it may have forgotten all that it knew."""

    def try_pbx(self, address: PbxAddress, now: float) -> None:
        """It may serve again, but has granted no REGISTER since it last failed: one finds out for all."""


class PbxAddress:
    """One address of a PBX, and how it stands."""

    __slots__ = (
        "answers_options", "down", "failures", "flow", "owners", "probing", "reason", "since", "suspected", "timer",
        "tried_at", "trusted", "used_by",
    )  # fmt: skip

    def __init__(self, flow: Flow, now: float) -> None:
        self.flow = flow
        self.down = False
        self.since = now
        """When it last went down or came up."""
        self.reason = ""
        """Of being down."""
        self.failures = 0
        """In a row."""
        self.answers_options = False
        """It has, at least once."""
        self.suspected = False
        """A REGISTER got no answer here, and nothing was heard since."""
        self.trusted = True
        """It has granted a REGISTER since it last failed: those that went elsewhere may come back."""
        self.tried_at = now
        """When one was last sent to find out."""
        self.used_by: dict[Using, None] = {}
        self.owners: dict[Owner, float] = {}
        """Whose calls went here, and until when that counts."""
        self.probing: Sending | None = None
        self.timer: Timer | None = None

    @property
    def place(self) -> Place:
        return self.flow[:3]

    def concerned(self, now: float) -> Iterator[Owner]:
        """All whose registrations or calls go here, each once."""
        seen: set[Owner] = set()
        calling = (owner for owner, until in self.owners.items() if until > now)
        for owners in (calling, *(using.owners() for using in self.used_by)):
            for owner in owners:
                if owner not in seen:
                    seen.add(owner)
                    yield owner


class Health:
    """All addresses of PBXs that registrations or calls go to."""

    def __init__(
        self,
        settings: Settings,
        wire: Wire,
        sender: Sender,
        timers: Timers,
        events: Events,
        fraction: Callable[[], float],
    ) -> None:
        self._interval = settings.options_interval
        self._agent = settings.user_agent
        self._wire = wire
        self._sender = sender
        self._timers = timers
        self._events = events
        self._fraction = fraction
        self._addresses: dict[Place, PbxAddress] = {}
        self.told: Told | None = None

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def down(self) -> int:
        """How many are down."""
        return sum(address.down for address in self._addresses.values())

    # -- which addresses

    def watch(self, using: Using, flows: Iterable[Flow], now: float) -> None:
        """Registrations go to these flows, and to no others."""
        watched = tuple(address for flow in flows if (address := self._address(flow, now)) is not None)
        if watched == using.watched:
            return
        for address in using.watched:
            address.used_by.pop(using, None)
        using.watched = watched
        for address in watched:
            address.used_by[using] = None

    def unwatch(self, using: Using) -> None:
        """No registrations are left."""
        for address in using.watched:
            address.used_by.pop(using, None)
        using.watched = ()

    def used(self, flows: Iterable[Flow], tenant: str, connection: str, now: float) -> None:
        """A call may go there."""
        for flow in flows:
            address = self._address(flow, now)
            if address is not None and (len(address.owners) < MAX_TOLD or (tenant, connection) in address.owners):
                address.owners[tenant, connection] = now + USED_SECONDS

    def _address(self, flow: Flow, now: float) -> PbxAddress | None:
        known = self._addresses.get(flow[:3])
        if known is None and self._interval and len(self._addresses) < MAX_WATCHED:
            known = self._addresses[flow[:3]] = PbxAddress(flow, now)
            # The first one at any time within the interval, as many begin together.
            self._probe_at(known, now + self._interval * self._fraction())
        return known

    # -- what is known

    def is_down(self, place: Place) -> bool:
        address = self._addresses.get(place)
        return address is not None and address.down

    def trusts(self, place: Place) -> bool:
        """Whether registrations that stand elsewhere may come here."""
        address = self._addresses.get(place)
        return address is None or address.trusted

    def heard(self, place: Place, now: float) -> None:
        """An answer of any status to any request."""
        address = self._addresses.get(place)
        if address is None:
            return
        address.failures = 0
        address.suspected = False
        if address.down:
            self._set(address, False, "", now)

    def granted(self, place: Place) -> PbxAddress | None:
        """A REGISTER was granted there; the address, if that was the first since it last failed."""
        address = self._addresses.get(place)
        if address is None or address.trusted:
            return None
        address.trusted = True
        return address

    def failed(self, place: Place, now: float) -> None:
        """A REGISTER found nobody there, or nobody who could serve: ask soon whether it is down."""
        address = self._addresses.get(place)
        if address is None:
            return
        address.trusted = False
        address.suspected = True
        self.ask(place, now)

    def ask(self, place: Place, now: float) -> None:
        """Something looks odd there: do not wait for the next OPTIONS."""
        address = self._addresses.get(place)
        soon = now + PROBE_SECONDS * self._fraction() / 4
        if address is None or address.probing is not None or address.failures:
            return
        if address.timer is None or address.timer.when > soon:
            self._probe_at(address, soon)

    # -- asking

    def _probe_at(self, address: PbxAddress, at: float) -> None:
        self._timers.cancel(address.timer)
        address.timer = self._timers.set(at, lambda now: self._probe(address, now))

    def _probe(self, address: PbxAddress, now: float) -> None:
        address.timer = None
        address.owners = {owner: until for owner, until in address.owners.items() if until > now}
        if not address.used_by and not address.owners:
            del self._addresses[address.place]
            return
        tag, call_id = self._wire.token(), UNTRACED + self._wire.token(16)
        self._events.count("pbx.options")
        address.probing = self._sender.request(
            "OPTIONS", [address.flow], lambda flow, branch: self._options(flow, branch, tag, call_id), (self, address),
            now, pinned=True, patience=PROBE_SECONDS,
        )  # fmt: skip

    def _options(self, flow: Flow, branch: str, tag: str, call_id: str) -> bytes:
        """To the address itself: it names no tenant, and no user."""
        uri = f"sip:{bracketed(flow.host)}:{flow.port}"
        return build.request(
            "OPTIONS",
            uri,
            [
                ("Via", self._wire.via(flow, branch)),
                ("Max-Forwards", "70"),
                ("From", f"<sip:{self._wire.hostport(flow)}>;tag={tag}"),
                ("To", f"<{uri}>"),
                ("Call-ID", call_id),
                ("CSeq", "1 OPTIONS"),
                ("Accept", "application/sdp"),
                ("User-Agent", self._agent),
            ],
        )

    def on_response(self, tx: ClientTransaction, address: PbxAddress, response: Message, now: float) -> None:
        if response.status < 200:
            return
        address.probing = None
        address.answers_options = True
        self.heard(address.place, now)
        self._probe_at(address, now + self._interval * (1 - JITTER + 2 * JITTER * self._fraction()))
        self._try(address, now)

    def on_failure(self, sending: Sending, address: PbxAddress, reason: str, now: float) -> None:
        """Silence, or a connection that was refused or lost."""
        address.probing = None
        refused = reason != "timeout"
        if refused or address.answers_options or address.suspected:
            address.failures = min(FAILURES, address.failures + (REFUSED if refused else 1))
        deaf = not address.answers_options and not refused
        wait = self._interval if deaf or not address.failures else min(SOON, self._interval)
        self._probe_at(address, now + wait * (1 - JITTER + 2 * JITTER * self._fraction()))
        if address.failures >= FAILURES:
            self._sender.keep_down(address.place, now + wait * (1 + JITTER) + 2 * PROBE_SECONDS)
            if not address.down:
                self._set(address, True, "refused" if refused else "silent", now)
        if not refused and now - address.tried_at >= TRY_SECONDS:  # some serve and leave OPTIONS unanswered
            self._try(address, now)

    def _try(self, address: PbxAddress, now: float) -> None:
        if not address.trusted and self.told is not None:
            address.tried_at = now
            self.told.try_pbx(address, now)

    def _set(self, address: PbxAddress, down: bool, reason: str, now: float) -> None:
        address.down, address.reason, address.since = down, reason, now
        self._tell(address, now)
        if down:
            address.trusted = False
        else:
            self._sender.is_back(address.place)
        if self.told is not None:
            (self.told.pbx_is_down if down else self.told.pbx_is_up)(address, now)

    def _tell(self, address: PbxAddress, now: float) -> None:
        """One event for each connection that is concerned, up to a limit."""
        kind = "pbx.down" if address.down else "pbx.up"
        for number, (tenant, connection) in enumerate(address.concerned(now)):
            if number == MAX_TOLD:
                self._events.count("pbx.untold")
                return
            self._events.add(
                now, kind, tenant=tenant, connection=connection, address=shown(address.place), reason=address.reason
            )
