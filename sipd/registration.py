"""One registration at a PBX: what the table asks for, and how it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sipd.auth import Nonces, PbxAccount, Proof, account_of
from sipd.flow import SECURE, Flow, Place, shown
from sipd.health import Owner, PbxAddress
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User
from sipd.sending import Sending
from sipd.settings import Settings
from sipd.timers import Timer
from sipd.wayout import connection_hops
from sipd.wire import Groups, Hop

Home = tuple[str, str, Hop]
"""Registrar, user and the preferred hop."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the table asks for: all that is in a REGISTER but its numbers."""

    account: PbxAccount
    registrar: str
    """Host of Request-URI, To and From."""
    contact_user: str
    contact_domain: str
    multi_tenant: bool
    hops: tuple[Hop, ...]
    """Where the PBX is, the preferred place first."""
    route: str
    """Route header value for a loose-routing outbound proxy, or empty."""
    expires: int
    tls_verify: bool = True
    """Whether the PBX's certificate is checked."""

    @property
    def key(self) -> str:
        return key_of(self.account.tenant, self.account.user, self.account.connection)

    @property
    def home(self) -> Home:
        """Which address of record at which PBX."""
        return self.registrar, self.account.username, self.hops[0]

    @property
    def contact_key(self) -> tuple[str, str, bool]:
        """What the Contact depends on, besides the flow."""
        return self.contact_user, self.contact_domain, self.multi_tenant


def key_of(tenant: str, user: str, connection: str) -> str:
    """Name in the store."""
    return f"{tenant} {user} {connection}"


def wanted_of(index: TenantIndex, user: User, connection: Connection) -> Wanted | None:
    """The registration that a user's account at a connection asks for; None: it has none."""
    account = account_of(index, user, connection)
    if account is None:
        return None
    hops, route = connection_hops(connection)
    return Wanted(
        account=account,
        registrar=connection.registrar_domain,
        contact_user=user.extension,
        contact_domain=index.tenant.primary_domain,
        multi_tenant=connection.multi_tenant,
        hops=hops,
        route=route,
        expires=connection.expires,
        tls_verify=connection.tls_verify,
    )


def accounts_to_register(index: TenantIndex | None) -> Iterator[tuple[User, Connection]]:
    """Each user of a tenant with each connection that registers on behalf of its users."""
    if index is None or index.tenant.suspended:
        return
    for user in index.users_by_id.values():
        for entry in user.upstream:
            connection = index.connections.get(entry.connection)
            if connection is not None and connection.strategy == "on_behalf":
                yield user, connection


class Pbx:
    """Where the registrations of one or more connections go; those of all tenants that name the same places."""

    __slots__ = ("found_at", "groups", "hops", "registrations", "verify", "watched")

    def __init__(self, hops: tuple[Hop, ...], verify: bool) -> None:
        self.hops = hops
        self.verify = verify
        self.registrations: dict[Registration, None] = {}
        self.groups: Groups = ()
        """The flows at each hop, as last found."""
        self.found_at = 0.0
        self.watched: tuple[PbxAddress, ...] = ()

    @property
    def flows(self) -> Iterator[Flow]:
        """All of them, the preferred first."""
        return (flow for group in self.groups for flow in group)

    def flow_to(self, place: Place) -> Flow | None:
        """The flow there, if it is one of ours."""
        return next((flow for flow in self.flows if flow[:3] == place), None)

    def rank(self, place: Place | None) -> int:
        """The lower, the better; a place that is none of these comes last."""
        rank = -1
        for rank, flow in enumerate(self.flows):
            if flow[:3] == place:
                return rank
        return rank + 1

    def owners(self) -> Iterator[Owner]:
        """Tenant and connection of each."""
        return ((r.wanted.account.tenant, r.wanted.account.connection) for r in self.registrations)


class Sent(NamedTuple):
    """What a REGISTER says, also when it is sent once more with credentials."""

    wanted: Wanted
    contact: str
    expires: int
    """0 takes the Contact back."""


KEPT = (
    "call_id", "from_tag", "cseq", "contact", "state", "code", "reason", "since", "expires_at", "granted", "next_at",
    "service_route", "stray",
)  # fmt: skip
"""Fields that are stored as they are."""
RESUMED = ("contact", "state", "code", "reason", "since", "expires_at", "granted")
"""Those that a restart goes on with, besides the numbers of the REGISTER."""


class Registration:
    """One upstream registration and how it stands."""

    __slots__ = (
        "again", "attempts", "bold", "call_id", "canary", "code", "contact", "cseq", "expires_at", "flow", "from_tag",
        "goal", "granted", "held", "held_at", "lengthened", "min_expires", "moving", "next_at", "nonces", "pbx",
        "planned", "proof", "reason", "removing", "sending", "sent", "service_route", "since", "stale", "state",
        "stray", "suspect", "target", "timer", "tried", "waiting", "wanted",
    )  # fmt: skip

    def __init__(self, wanted: Wanted, pbx: Pbx, call_id: str, from_tag: str, now: float) -> None:
        self.wanted = wanted
        self.pbx = pbx
        self.call_id = call_id
        self.from_tag = from_tag
        self.cseq = 0
        self.contact = ""
        """As last sent to be bound, with angle brackets."""
        self.held = ""
        """The Contact that the PBX has, or may have, accepted: to be taken back before another takes its place."""
        self.held_at: Place | None = None
        """Where."""
        self.stray = False
        """It went there as a better place did not serve, and is to return. One that stands at the best place stays
        when the weights of DNS draw another (RFC 2782)."""
        self.state = "trying"
        self.code = 0
        self.reason = ""
        self.since = now
        """When the state last changed."""
        self.next_at: float | None = None
        self.expires_at: float | None = None
        """When the PBX forgets it, if nothing more comes."""
        self.granted = 0
        self.min_expires = 0
        self.lengthened = False
        """A 423 was answered with a longer time, and the PBX has not granted any since."""
        self.service_route = ""
        """Route value that the last 2xx asked for (RFC 3608)."""
        self.attempts = 0
        """Failures in a row."""
        self.tried: frozenset[Place] = frozenset()
        """Places that failed since the last success or pause."""
        self.again = False
        """The PBX had forgotten it, and was asked once more at once."""
        self.suspect = False
        """It is renewed because the PBX has forgotten another one."""
        self.canary: Place | None = None
        """A better place where it finds out for all whether that serves again."""
        self.moving = False
        """It is to be taken back where it is held, as it goes elsewhere."""
        self.goal: Place | None = None
        """Where it goes then."""
        self.nonces: tuple[Place, Nonces] | None = None
        """What the next REGISTER there may be signed with unasked."""
        self.stale = 0
        """How often in a row that was challenged all the same."""
        self.sent: Sent | None = None
        """What the REGISTER under way says."""
        self.sending: Sending | None = None
        self.proof: Proof | None = None
        """Of the REGISTER under way."""
        self.removing = False
        """No longer wanted: to be taken back, and then forgotten."""
        self.waiting = False
        """A REGISTER, or the look-up for it, is under way: one at a time, as they share Call-ID and CSeq."""
        self.target: Flow | None = None
        """Where the next REGISTER goes, when it is its turn."""
        self.bold = False
        """It goes there although that place does not seem to serve."""
        self.flow: Flow | None = None
        """How the last REGISTER went out; a stream is also how the PBX's calls come in."""
        self.timer: Timer | None = None
        self.planned: tuple[Place, float] | None = None
        """The refresh that is planned, and at which PBX it counts."""

    @property
    def registered(self) -> bool:
        """As far as we know."""
        return self.state == "registered" and not self.removing

    def stands_at(self, place: Place) -> bool:
        return self.held_at == place and self.registered

    def flow_held(self, settings: Settings) -> Flow | None:
        """The way to where it is held, if there is one."""
        if self.held_at is None:
            return None
        transport, host, port = self.held_at
        known = self.pbx.flow_to(self.held_at)
        if known is not None or transport in SECURE:  # whom to expect there, only the table can say
            return known
        return settings.flow_to(host, port, transport)

    def resume(self, record: dict[str, Any], now: float) -> float:
        """Go on as before a restart; when to send. What is still registered at the PBX is not registered again."""
        for name in RESUMED:
            setattr(self, name, record[name])
        if record["state"] != "registered" or (record["expires_at"] or 0) <= now + 1:
            self.state = "trying"
            return now
        self.held = record["contact"]
        self.service_route = record.get("service_route", "")
        self.stray = record.get("stray", False)
        if record.get("held_at"):
            transport, host, port = record["held_at"]
            self.held_at = transport, host, port
        unchanged = tuple(record["contact_key"]) == self.wanted.contact_key
        over_stream = self.wanted.hops[0][2] != "udp"  # the old one ended with the old process
        return max(now, record["next_at"] or now) if unchanged and not over_stream else now

    def record(self) -> dict[str, Any]:
        """For the store: enough to go on with the same Call-ID and a rising CSeq."""
        wanted = self.wanted
        account = wanted.account
        who = {"tenant": account.tenant, "user": account.user, "connection": account.connection}
        where = {"registrar": wanted.registrar, "username": account.username, "hop": list(wanted.hops[0])}
        held_at = list(self.held_at) if self.held_at is not None else None
        last = {"contact_key": list(wanted.contact_key), "held_at": held_at}
        return {name: getattr(self, name) for name in KEPT} | who | where | last

    def state_dict(self) -> dict[str, Any]:
        """For people: docs/architecture.md, `registrations`."""
        account = self.wanted.account
        return {
            "tenant": account.tenant,
            "user": account.user,
            "connection": account.connection,
            "state": "removing" if self.removing else self.state,
            "code": self.code,
            "reason": self.reason,
            "contact": self.contact,
            "since": self.since,
            "next": self.next_at,
            "expires": self.expires_at,
            "at": shown(self.held_at) if self.held_at is not None and self.state == "registered" else "",
        }


def same_home(record: dict[str, Any], wanted: Wanted) -> bool:
    """Whether a stored registration is at the PBX that is wanted now."""
    return (record["registrar"], record["username"], tuple(record["hop"])) == wanted.home
