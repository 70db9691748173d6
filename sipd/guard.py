"""Who is let in, how fast, and who gets no answer at all (docs/decisions/0018).

A *place* is what is counted and banned: an IPv4 address, or the /64 of an IPv6 address. A place is *known* for a day
after somebody there has authenticated, or was sent a request by us, and while a phone is registered there; PBXs are
known by the table. What is known is limited in its rate but never banned: anybody can send junk over UDP in its name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

from sipd.bans import Bans
from sipd.buckets import DROPS, Accounts, Buckets
from sipd.events import Events
from sipd.flow import Flow
from sipd.message.message import Message
from sipd.registrar import Registrar
from sipd.routing.lookup import NOBODY, Compiled, Source
from sipd.settings import Settings
from sipd.timers import Timers

MOST_KNOWN = 200_000
"""Places that are known; the one that authenticated longest ago makes room."""
KNOWN_LIFE = 86_400.0
"""Seconds for which a place is known after somebody there has authenticated."""
KNOWN_FACTOR = 50.0
"""How many more failures a known place may have: an office is many phones behind one address."""
MAX_USERNAME = 64
"""Characters of a user name that is counted."""
COSTS: Mapping[str, float] = {
    "challenge": 0.01,
    "ack": 0.01,
    "suspended": 0.01,
    "draining": 0.01,
    "alive": 0.1,
    "stray": 0.05,
}
"""What is no failure by itself, as a share of one: an office of 500 phones asks 500 times before the first is known."""
RETRY_AFTER = 5
"""Seconds, in a 503 to who is known and too fast."""
SCANNERS = (
    "friendly-scanner", "friendly-request", "sipvicious", "sundayddr", "sipcli", "sip-scan", "sipscan", "sivus",
    "pplsip", "warvox", "siparmyknife", "sipptk",
)  # fmt: skip
"""Parts of User-Agent, in lower case, of programs that search for PBXs to break into."""


class Admission(Enum):
    """What becomes of a request before anything else is looked at."""

    LET_IN = "in"
    BUSY = "busy"
    """503 with Retry-After."""
    SILENT = "silent"
    """No answer."""


class Guard:
    """Rates, failures and bans of sources, and what strangers may be sent."""

    def __init__(
        self,
        settings: Settings,
        timers: Timers,
        events: Events,
        registrar: Registrar,
        peer_names: Mapping[Flow, frozenset[str]],
        table: Compiled,
    ) -> None:
        self._use(table)
        self._events = events
        self._registrar = registrar
        self._peer_names = peer_names
        self._registers = Buckets(settings.register_rate, settings.register_burst)
        self._requests = Buckets(settings.request_rate, settings.request_burst)
        self._of_pbxs = Buckets(settings.pbx_rate, settings.pbx_burst)
        after, window = float(settings.mute_after), float(settings.mute_window)
        self._failures = Buckets(after / window, after)
        """By place, and whether what failed came from there indeed."""
        self._failures_of_known = Buckets(KNOWN_FACTOR * after / window, KNOWN_FACTOR * after)
        self._guesses = Buckets(after / window, after)
        """Of one user's password, by place, tenant and user name."""
        self._tenant_registers = Buckets(settings.tenant_register_rate, settings.tenant_register_burst)
        self._tenant_requests = Buckets(settings.tenant_request_rate, settings.tenant_request_burst)
        self._tenant_failures = Buckets(settings.tenant_failure_rate, settings.tenant_failure_burst)
        self._known: dict[str, float] = {}
        """Until when."""
        self._accounts = Accounts()
        self._bans = Bans(settings, timers, events, self._forgive)

    def load(self, compiled: Compiled, now: float) -> None:
        """A new table: who is allowed now, or a PBX's, is not banned any more."""
        self._use(compiled)
        pbxs = {place_of(host) for host in compiled.sources.hosts()} if self._bans.in_force else set()
        for place in [ban["source"] for ban in self._bans.describe()]:
            host = place.partition("/")[0]
            if place in pbxs or compiled.sources.covers(host) or compiled.access.of(host) == "allowed":
                self._bans.end(place, "allowed", now)

    def _use(self, compiled: Compiled) -> None:
        self._sources = compiled.sources
        self._access = compiled.access or None
        """None: the table lists nobody as allowed or blocked."""

    # -- who is it

    def whose(self, flow: Flow) -> Source:
        """The connections that may send from there, by address, transport and certificate."""
        transport, host, port, _ = flow
        names = self._peer_names.get(flow, NOBODY) if self._peer_names else NOBODY
        return self._sources.find(host, port, transport, names)

    def is_stranger(self, flow: Flow) -> bool:
        """Whether neither a PBX nor a phone is known there."""
        known = place_of(flow.host) in self._known or self.whose(flow).known
        return not (known or self._registrar.has_phone_at(flow) or self._is_allowed(flow))

    def prove(self, flow: Flow, now: float) -> None:
        """Somebody there has authenticated, or had when the node was stopped: over UDP, with a nonce made for that
        place, so that it is there indeed."""
        place, known = place_of(flow.host), self._known
        if known.pop(place, None) is None:
            self._accounts.close(place)
            self._bans.end(place, "authenticated", now)
        known[place] = now + KNOWN_LIFE
        for _ in range(DROPS):
            oldest = next(iter(known))
            if len(known) <= MOST_KNOWN and known[oldest] > now:
                break
            del known[oldest]

    def _is_known(self, place: str, flow: Flow) -> bool:
        return place in self._known or self._registrar.has_phone_at(flow)

    def _is_allowed(self, flow: Flow) -> bool:
        return self._access is not None and self._access.of(flow.host) == "allowed"

    # -- what comes in

    def shuts_out(self, host: str, transport: str) -> bool:
        """Whether it is blocked or banned: nothing from there is even read. Asked by sockets for each datagram."""
        listed = self._access.of(host) if self._access is not None else ""
        if listed or not self._bans.in_force:
            return listed == "blocked"
        ban = self._bans.in_force.get(place_of(host))
        return ban is not None and (ban.everywhere or transport == "udp")

    def admits(self, request: Message, flow: Flow, now: float) -> Admission:
        """A new request: whether its source may send so many, and is no scanner."""
        if self.shuts_out(flow.host, flow.transport):
            return self._silence("banned")
        if self._is_allowed(flow):
            return Admission.LET_IN
        place, inside = place_of(flow.host), request.to.tag is not None
        if self.whose(flow).known:
            good = inside or self._of_pbxs.take(place, now)
            return Admission.LET_IN if good else self._busy()
        phone = self._registrar.has_phone_at(flow)
        known = phone or place in self._known
        if known and inside:  # a call goes on
            return Admission.LET_IN
        if not known and is_scanner(request):
            self.blame(flow, "scanner", now)
            return self._silence("scanner")
        bucket = self._registers if request.method == "REGISTER" else self._requests
        if bucket.take(flow[:3] if phone else place, now):  # what is forged from other ports costs the phone nothing
            return Admission.LET_IN
        if phone:
            return self._busy()
        if not known:
            self._bans.begin(place, "rate", now, everywhere=flow.reliable)
        return self._silence("rate")

    def blame(self, flow: Flow, rule: str, now: float, *, proven: bool = False) -> bool:
        """Count a failure of whoever sent this; whether it gets an answer.

        `proven`: it was sent from there indeed, also if it came over UDP.
        """
        if self._is_allowed(flow) or self.whose(flow).known:
            return True
        place, cost = place_of(flow.host), COSTS.get(rule, 1.0)
        if self._is_known(place, flow):  # what is forged must not keep its phones from being challenged
            heard = cost < 1.0 or self._failures_of_known.take(place, now, cost)
        elif self.shuts_out(flow.host, flow.transport):
            heard = False
        else:
            proven = proven or flow.reliable
            heard = self._failures.take((place, proven), now, cost)
            if not heard:
                self._bans.begin(place, rule, now, everywhere=proven)
        if not heard:
            self._silence("failures")
        return heard

    # -- of tenants

    def admits_user(self, method: str, flow: Flow, tenant: str, now: float) -> bool:
        """An authenticated request: whether its tenant may send so many."""
        if self._is_allowed(flow):
            return True
        bucket = self._tenant_registers if method == "REGISTER" else self._tenant_requests
        good = bucket.take(tenant, now)
        if not good:
            self._busy()
        return good

    def wrong(self, flow: Flow, tenant: str, username: str, now: float, *, proven: bool = True) -> bool:
        """Wrong credentials; whether they get an answer. `proven`: with a nonce made for that place, or over a stream;
        else anybody may have sent them in its name, and they count as no guess from there."""
        if self._is_allowed(flow):
            return True
        if proven:
            self._guesses.take(_guess(flow, tenant, username), now)
        heard = self.blame(flow, "wrong-credentials", now, proven=proven)
        if heard and not self._tenant_failures.take(tenant, now):
            self._silence("tenant")
            return False
        return heard

    def has_guessed(self, flow: Flow, tenant: str, username: str, now: float) -> bool:
        """Whether so many passwords of this user were tried from there that none is believed for a while."""
        return self._guesses.level(_guess(flow, tenant, username), now) < 1.0

    # -- what goes out

    def heard(self, flow: Flow, size: int, now: float) -> None:
        """Bytes came; of strangers over UDP they are counted."""
        if flow.transport == "udp" and self.is_stranger(flow):
            self._accounts.heard(place_of(flow.host), size, now)

    def affords(self, flow: Flow, size: int, now: float) -> bool:
        """Whether an answer of so many bytes would go out."""
        return flow.transport != "udp" or not self.is_stranger(flow) or self._accounts.affords(
            place_of(flow.host), size, now
        )  # fmt: skip

    def lets_out(self, data: bytes, flow: Flow, now: float) -> bool:
        """Whether an answer goes out: to a stranger over UDP, after the first one, no more than came from there."""
        if not data.startswith(b"SIP/2.0"):  # who is asked by us is no stranger
            if self._known.get(place_of(flow.host), 0.0) < now + KNOWN_LIFE / 2:
                self.prove(flow, now)
            return True
        if flow.transport != "udp" or not self.is_stranger(flow):
            return True
        good = self._accounts.pay(place_of(flow.host), len(data), now)
        if not good:
            self._events.count("guard.unanswered")
        return good

    # -- for people

    @property
    def banned(self) -> int:
        """How many sources are banned now."""
        return len(self._bans.in_force)

    def bans(self) -> list[dict[str, Any]]:
        """docs/architecture.md, `bans`."""
        return self._bans.describe()

    def unban(self, source: str, now: float) -> bool:
        """Lift the ban of an address, or of an IPv6 network as `bans` shows it; whether there was one."""
        return self._bans.end(place_of(source.strip("[]").removesuffix("/64")), "operator", now)

    # -- the rest

    def _silence(self, why: str) -> Admission:
        self._events.count("guard.silent")
        self._events.count(f"guard.silent.{why}")
        return Admission.SILENT

    def _busy(self) -> Admission:
        self._events.count("guard.busy")
        return Admission.BUSY

    def _forgive(self, place: str) -> None:
        """A ban is over: what led to it does not count any more."""
        for key in (place, (place, False), (place, True)):
            for buckets in (self._failures, self._registers, self._requests):
                buckets.forget(key)


def place_of(host: str) -> str:
    """What of an address is counted: all of IPv4, the /64 of IPv6, in which one host can take any address."""
    return host if ":" not in host else _network_of(host)


@lru_cache(65_536)
def _network_of(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def is_scanner(request: Message) -> bool:
    """Whether a request says itself that it is one of `SCANNERS`."""
    agent = (request.get("user-agent") or "").lower()
    return any(name in agent for name in SCANNERS)


def _guess(flow: Flow, tenant: str, username: str) -> tuple[str, str, str]:
    return place_of(flow.host), tenant, username[:MAX_USERNAME]
