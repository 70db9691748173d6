"""Registrations that the edge keeps at PBXs on behalf of users (wire.md, RFC 3261 section 10.2).

One registration per user and connection, whatever number of phones the user has: always the same
Call-ID, a rising CSeq, and a Contact that says where the tenant's calls go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from sipd.auth import PbxAccount, Proof, account_of
from sipd.events import Events, legible
from sipd.flow import DEFAULT_PORTS, Flow
from sipd.message import build
from sipd.message.address import Address
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.uri import Uri, same_uri
from sipd.routing.lookup import Compiled, TenantIndex
from sipd.routing.model import Connection, User
from sipd.routing.seal import Cipher
from sipd.sending import Sender, Sending, retry_after
from sipd.settings import Settings
from sipd.timers import Timer, Timers
from sipd.transaction.layer import ClientTransaction
from sipd.wire import Wire, bracketed, next_hop, transport_param

REFRESH_EARLIEST, REFRESH_SPREAD = 0.75, 0.15
"""A refresh is sent after 75 to 90 % of the granted time, so that registrations do not move together."""
REFRESH_AT_LEAST = 5.0
"""Seconds between two refreshes, however little a PBX grants."""
SLOT_MEMORY = 10_000
"""PBX addresses whose pace is remembered."""


Place = tuple[str, str, tuple[str, int, str]]
"""Registrar, user and hop."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the table asks for: all that is in a REGISTER but its numbers."""

    account: PbxAccount
    registrar: str
    """Host of Request-URI, To and From."""
    contact_user: str
    contact_domain: str
    multi_tenant: bool
    hop: tuple[str, int, str]
    """Host, port (0: default), transport."""
    route: str
    """Route header value for a loose-routing outbound proxy, or empty."""
    expires: int
    tls_verify: bool = True
    """Whether the PBX's certificate is checked."""

    @property
    def key(self) -> str:
        return _key(self.account.tenant, self.account.user, self.account.connection)

    @property
    def place(self) -> Place:
        """Which address of record at which PBX."""
        return self.registrar, self.account.username, self.hop


def _key(tenant: str, user: str, connection: str) -> str:
    """Name in the store."""
    return f"{tenant} {user} {connection}"


def wanted_of(index: TenantIndex, user: User, account: PbxAccount, connection: Connection) -> Wanted:
    """The registration that one account of a user asks for."""
    hop, route = connection_hop(connection)
    return Wanted(
        account=account,
        registrar=connection.registrar_domain,
        contact_user=user.extension,
        contact_domain=index.tenant.primary_domain,
        multi_tenant=connection.multi_tenant,
        hop=hop,
        route=route,
        expires=connection.expires,
        tls_verify=connection.tls_verify,
    )


def connection_hop(connection: Connection) -> tuple[tuple[str, int, str], str]:
    """Where requests for this PBX go, and the Route value if the outbound proxy is a loose router."""
    if not connection.outbound_proxy:
        return (connection.host, connection.port, connection.transport), ""
    hop = next_hop(connection.outbound_proxy, connection.transport)
    loose = "lr" in Uri.parse(connection.outbound_proxy).params
    return hop, f"<{connection.outbound_proxy}>" if loose else ""


def contact_of(extension: str, domain: str, multi_tenant: bool, wire: Wire, flow: Flow) -> str:
    """The Contact rule: the tenant's domain as host with the mode on, as parameter with it off."""
    user = Uri.build(extension, "x")
    name = str(user)[len("sip:") : -len("@x")]
    listener = wire.listener(flow)
    if not multi_tenant:
        return f"<sip:{name}@{wire.hostport(flow)};local-domain={domain}>"
    own = DEFAULT_PORTS[flow.transport]
    port = f":{listener.advertised_port}" if listener.advertised_port != own else ""
    return f"<sip:{name}@{domain}{port}{transport_param(flow.transport)}>"


class Sent(NamedTuple):
    """What a REGISTER says, also when it is sent once more with credentials."""

    wanted: Wanted
    contact: str
    expires: int
    """0 takes the Contact back."""


class Registration:
    """One upstream registration and how it stands."""

    __slots__ = (
        "attempts",
        "call_id",
        "code",
        "contact",
        "cseq",
        "expires_at",
        "flow",
        "from_tag",
        "granted",
        "held",
        "lengthened",
        "min_expires",
        "next_at",
        "proof",
        "reason",
        "removing",
        "sending",
        "sent",
        "since",
        "state",
        "timer",
        "waiting",
        "wanted",
    )  # fmt: skip

    def __init__(self, wanted: Wanted, call_id: str, from_tag: str, now: float) -> None:
        self.wanted = wanted
        self.call_id = call_id
        self.from_tag = from_tag
        self.cseq = 0
        self.contact = ""
        """As last sent to be bound, with angle brackets."""
        self.held = ""
        """The Contact that the PBX has, or may have, accepted: to be taken back before another takes its place."""
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
        self.attempts = 0
        """Failures in a row."""
        self.sent: Sent | None = None
        """What the REGISTER under way says."""
        self.sending: Sending | None = None
        self.proof: Proof | None = None
        """Of the REGISTER under way."""
        self.removing = False
        """No longer wanted: to be taken back, and then forgotten."""
        self.waiting = False
        """A REGISTER, or the look-up for it, is under way: one at a time, as they share Call-ID and CSeq."""
        self.flow: Flow | None = None
        """How the last REGISTER went out; a stream is also how the PBX's calls come in."""
        self.timer: Timer | None = None

    def record(self) -> dict[str, Any]:
        """For the store: enough to go on with the same Call-ID and a rising CSeq."""
        names = ("call_id", "from_tag", "cseq", "contact", "state", "code", "reason", "since", "expires_at", "granted")
        wanted = self.wanted
        account = wanted.account
        who = {"tenant": account.tenant, "user": account.user, "connection": account.connection}
        where = {"registrar": wanted.registrar, "username": account.username, "hop": list(wanted.hop)}
        last = {"next_at": self.next_at, "contact_key": list(_contact_key(wanted))}
        return {name: getattr(self, name) for name in names} | who | where | last

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
        }


class Upstream:
    """All upstream registrations of a node, paced per PBX."""

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
        self._registrations: dict[str, Registration] = {}
        self._leaving: dict[tuple[str, Place], Registration] = {}
        """No longer wanted, not yet taken back."""
        self._slots: dict[tuple[str, int, str], float] = {}
        self._next_of_node = 0.0
        self._by_stream: dict[Flow, set[Registration]] = {}
        self._kept: dict[str, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[Registration]:
        yield from self._registrations.values()
        yield from self._leaving.values()

    def __len__(self) -> int:
        return len(self._registrations)

    # -- what the table wants

    def restore(self, record: dict[str, Any], key: str = "") -> None:
        """Keep a record, `key` in the store, from before a restart until the table says whether it is still wanted."""
        name = _key(record["tenant"], record["user"], record["connection"])
        self._kept[name] = record
        if key not in ("", name):  # as an earlier release named it
            self._events.change("upstream", key, None)

    def load(self, compiled: Compiled, changed: Set[str], now: float) -> None:
        """In the tenants that changed: register what is new, renew what changed, remove what is gone."""
        wanted = {w.key: w for tenant in changed for w in _wanted_of_tenant(compiled.tenants.get(tenant))}
        ours = [r for r in self._registrations.values() if r.wanted.account.tenant in changed]
        for registration in ours:
            if registration.wanted.key not in wanted:
                del self._registrations[registration.wanted.key]
                self._leave(registration, now)
        for key, new in wanted.items():
            known = self._registrations.get(key)
            if known is None:
                self._begin(new, now)
            elif known.wanted != new:
                self._change(known, new, now)
        if compiled.table.tenants:  # what is still kept from before a restart is wanted no more
            for key in self._kept:
                self._events.change("upstream", key, None)
            self._kept.clear()

    def _begin(self, wanted: Wanted, now: float) -> None:
        leaving = self._leaving.pop((wanted.key, wanted.place), None)
        if leaving is not None:  # wanted again before it was gone
            leaving.removing = False
            self._registrations[wanted.key] = leaving
            self._renew(leaving, wanted, now)
            return
        registration = Registration(wanted, self._wire.token(16), self._wire.token(), now)
        self._registrations[wanted.key] = registration
        record = self._kept.pop(wanted.key, None)
        at = now
        if record is not None:
            for name in ("call_id", "from_tag", "cseq"):
                setattr(registration, name, record[name])
            if _same_place(record, wanted):
                at = self._resume(registration, record, now)
        self._schedule(registration, at, now)

    def _resume(self, registration: Registration, record: dict[str, Any], now: float) -> float:
        """Go on as before the restart; when to send. What is still registered at the PBX is not registered again."""
        for name in ("contact", "state", "code", "reason", "since", "expires_at", "granted"):
            setattr(registration, name, record[name])
        if record["state"] != "registered" or (record["expires_at"] or 0) <= now + 1:
            registration.state = "trying"
            return now
        registration.held = record["contact"]
        unchanged = tuple(record["contact_key"]) == _contact_key(registration.wanted)
        over_stream = registration.wanted.hop[2] != "udp"  # the old one ended with the old process
        return max(now, record["next_at"] or now) if unchanged and not over_stream else now

    def _change(self, registration: Registration, new: Wanted, now: float) -> None:
        """Another place or user at the PBX: leave there, and begin here. Else go on with what is wanted now."""
        if registration.wanted.place == new.place:
            self._renew(registration, new, now)
            return
        del self._registrations[new.key]
        self._leave(registration, now)
        self._begin(new, now)

    def _renew(self, registration: Registration, wanted: Wanted, now: float) -> None:
        registration.wanted = wanted
        registration.attempts = 0
        self._schedule(registration, now, now)

    def _leave(self, registration: Registration, now: float) -> None:
        """Have the PBX forget what it holds; once, and without insisting."""
        wanted = registration.wanted
        self._events.change("upstream", wanted.key, None)
        self._timers.cancel(registration.timer)
        registration.timer = None
        registration.removing = True
        if registration.held or registration.waiting:
            self._leaving[wanted.key, wanted.place] = registration
        if registration.held:
            self._schedule(registration, now, now)

    def _left(self, registration: Registration) -> None:
        """Nothing more is known of it."""
        self._timers.cancel(registration.timer)
        key = registration.wanted.key, registration.wanted.place
        if self._leaving.get(key) is registration:
            del self._leaving[key]

    def flow_lost(self, flow: Flow, now: float) -> None:
        """A stream to a PBX ended, and with it the way that calls came in: register again, at the pace."""
        for registration in self._by_stream.pop(flow, ()):
            current = self._registrations.get(registration.wanted.key) is registration
            if current and registration.flow == flow and registration.state == "registered":
                self._schedule(registration, now, now)

    def renew(self, tenant: str, connection: str | None, now: float) -> int:
        """Send these again now, at the PBX's pace; how many."""
        chosen = [
            r
            for r in self._registrations.values()
            if r.wanted.account.tenant == tenant and connection in (None, r.wanted.account.connection)
        ]
        for registration in chosen:
            registration.attempts = 0
            self._schedule(registration, now, now)
        return len(chosen)

    # -- sending

    def _schedule(self, registration: Registration, at: float, now: float) -> None:
        """Send at `at`; the pace of the PBX may make it later."""
        if registration.timer is not None:
            self._timers.cancel(registration.timer)
        if at <= now:
            at = self._slot(registration.wanted.hop, now)
        registration.next_at = at
        registration.timer = self._timers.set(at, lambda fired: self._due(registration, fired))

    def _slot(self, hop: tuple[str, int, str], now: float) -> float:
        """The next free moment at this PBX, and of this node."""
        if len(self._slots) > SLOT_MEMORY:
            self._slots = {h: at for h, at in self._slots.items() if at > now}
        at = max(now, self._next_of_node, self._slots.get(hop, 0.0))
        self._slots[hop] = at + 1.0 / self._settings.upstream_rate
        self._next_of_node = max(now, self._next_of_node) + 1.0 / self._settings.upstream_total_rate
        return at

    def _due(self, registration: Registration, now: float) -> None:
        registration.timer = None
        if registration.waiting:  # the answer to the last one comes first
            self._schedule(registration, now + 1.0, now)
            return
        registration.waiting = True
        registration.proof = Proof(registration.wanted.account, self._cipher)

        def ready(flows: Sequence[Flow], then: float) -> None:
            if not flows:
                self._failed(registration, "unreachable", 0, "No address for the PBX", then)
                return
            if registration.removing:  # first where it was left
                flows = sorted(flows, key=lambda flow: flow != registration.flow)
            self._send(registration, flows, [], then)

        wanted = registration.wanted
        self._wire.find(*wanted.hop, ready, now, verify=wanted.tls_verify)

    def _next(self, registration: Registration, wanted: Wanted, flow: Flow) -> Sent:
        """What there is to say now: another Contact comes only after the old one was taken back."""
        contact = contact_of(wanted.contact_user, wanted.contact_domain, wanted.multi_tenant, self._wire, flow)
        if registration.removing or registration.held not in ("", contact):
            return Sent(wanted, registration.held or contact, 0)
        return Sent(wanted, contact, max(wanted.expires, registration.min_expires))

    def _send(
        self, registration: Registration, flows: Sequence[Flow], credentials: list[tuple[str, str]], now: float
    ) -> None:
        """To one target after the other under the same CSeq; the Contact says how each of them reaches us.

        Without `credentials` it is a new request; with them it says the same as the one that was challenged.
        """
        again, sent_over = registration.sent if credentials else None, registration.flow
        wanted = again.wanted if again is not None else registration.wanted
        registration.cseq += 1

        def over(flow: Flow, branch: str) -> bytes:
            sent = again if again is not None and flow == sent_over else self._next(registration, wanted, flow)
            registration.sent, registration.flow = sent, flow
            if sent.expires:
                registration.contact = sent.contact
            if flow.reliable:
                self._by_stream.setdefault(flow, set()).add(registration)
            return self._register_over(registration, sent, flow, branch, credentials)

        # However large, it stays on the transport that its Contact names.
        owner = self, registration
        registration.sending = self._sender.request("REGISTER", flows, over, owner, now, switch=False)
        if registration.sent is not None and registration.sent.expires and registration.state != "registered":
            self._move(registration, "trying", registration.code, registration.reason, now)
        self._save(registration)

    def _register_over(
        self, registration: Registration, sent: Sent, flow: Flow, branch: str, credentials: list[tuple[str, str]]
    ) -> bytes:
        wanted, contact, expires = sent
        identity = f"<{Uri.build(wanted.account.username, wanted.registrar)}>"
        self._events.count("upstream.sent")
        account = wanted.account
        self._events.leg(
            registration.call_id, registration.call_id,
            tenant=account.tenant, user=account.user, connection=account.connection,
        )  # fmt: skip
        return build.request(
            "REGISTER",
            self._request_uri(wanted),
            [
                ("Via", self._wire.via(flow, branch)),
                ("Max-Forwards", "70"),
                *([("Route", wanted.route)] if wanted.route else []),
                ("From", f"{identity};tag={registration.from_tag}"),
                ("To", identity),
                ("Call-ID", registration.call_id),
                ("CSeq", f"{registration.cseq} REGISTER"),
                ("Contact", f"{contact};expires={expires}"),
                ("Expires", str(expires)),
                *credentials,
                ("User-Agent", self._settings.user_agent),
            ],
        )

    def _request_uri(self, wanted: Wanted) -> str:
        return f"sip:{bracketed(wanted.registrar)}"

    # -- answers

    def on_response(self, tx: ClientTransaction, registration: Registration, response: Message, now: float) -> None:
        if response.status < 200:
            return
        if response.status in (401, 407) and self._answer(tx, registration, response, now):
            return
        ok = 200 <= response.status < 300
        if registration.sent is not None and registration.sent.expires == 0:
            self._taken_back(registration, now)
        elif response.status == 423 and self._lengthen(registration, response, now):
            return
        elif ok and registration.sent is not None:
            self._granted(registration, registration.sent, response, now)
        else:
            self._failed(registration, "refused", response.status, response.reason, now, retry_after(response))

    def on_failure(self, sending: Sending, registration: Registration, reason: str, now: float) -> None:
        """Time-out or transport error."""
        if registration.sent is not None and registration.sent.expires == 0:
            self._taken_back(registration, now)
            return
        if registration.sent is not None and not registration.removing:
            registration.held = registration.sent.contact  # the answer may have been lost, and not the request
        self._failed(registration, "unreachable", 408, reason, now)

    def _answer(self, tx: ClientTransaction, registration: Registration, response: Message, now: float) -> bool:
        """Answer a challenge; a second one with the same nonce is a refusal (wire.md)."""
        if registration.proof is None or registration.sent is None or registration.sending is None:
            return False
        uri = self._request_uri(registration.sent.wanted)
        found = registration.proof.headers(response, "REGISTER", uri, self._wire.token())
        if found is not None:
            self._send(registration, registration.sending.onward, found, now)
        return found is not None

    def _lengthen(self, registration: Registration, response: Message, now: float) -> bool:
        """423: ask for as long as the PBX demands (RFC 3261 10.2.8), once at once; one that goes on to demand more
        counts as refusing, and is asked with what it demanded at the pace of refusals."""
        text = response.get("min-expires") or ""
        least = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
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
        registration.waiting = False
        registration.held = ""
        if registration.removing:
            self._left(registration)
            return
        self._move(registration, "trying", 0, "", now)
        self._schedule(registration, now, now)

    def _granted(self, registration: Registration, sent: Sent, response: Message, now: float) -> None:
        granted = self._lifetime(sent, response)
        if granted == 0:
            self._failed(registration, "refused", response.status, "The PBX granted no time", now)
            return
        registration.waiting = False
        registration.held = sent.contact
        if registration.removing:
            self._schedule(registration, now, now)
            return
        registration.granted = granted
        registration.attempts = 0
        registration.lengthened = False
        registration.expires_at = now + granted
        self._move(registration, "registered", response.status, response.reason, now)
        share = REFRESH_EARLIEST + REFRESH_SPREAD * self._fraction()
        if registration.timer is None:  # else a change is waiting to be sent
            self._schedule(registration, now + max(REFRESH_AT_LEAST, granted * share), now)
        self._save(registration)

    def _lifetime(self, sent: Sent, response: Message) -> int:
        """Seconds that the PBX granted to our Contact (RFC 3261 10.2.4)."""
        try:
            ours = _ours_among(response.contacts, Uri.parse(sent.contact[1:-1]))
            text = (ours.params.get("expires") or "").strip('"') if ours is not None else ""
            if text.isascii() and text.isdigit():
                return min(int(text), sent.expires) if len(text) < 10 else sent.expires
            return min(response.expires or sent.expires, sent.expires)
        except BadMessage:
            return sent.expires

    def _failed(
        self, registration: Registration, state: str, code: int, reason: str, now: float, retry_after: int = 0
    ) -> None:
        """Wait longer after each failure, up to the cap, or as long as the PBX says."""
        registration.waiting = False
        if registration.removing:
            if registration.timer is None:  # else what it holds is still to be taken back
                self._left(registration)
            return
        first, cap = self._settings.retry_first, self._settings.retry_cap
        wait = min(cap, first * 2.0 ** min(registration.attempts, 20))
        wait = max(wait * (0.8 + 0.4 * self._fraction()), float(retry_after))
        registration.attempts += 1
        registration.expires_at = None
        self._move(registration, state, code, reason, now)
        if registration.timer is None:
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


def _wanted_of_tenant(index: TenantIndex | None) -> Iterator[Wanted]:
    if index is None or index.tenant.suspended:
        return
    for user in index.users_by_id.values():
        for entry in user.upstream:
            connection = index.connections.get(entry.connection)
            if connection is None or connection.strategy != "on_behalf":
                continue
            account = account_of(index, user, connection)
            if account is not None:
                yield wanted_of(index, user, account, connection)


def _ours_among(contacts: Sequence[Address], sent: Uri) -> Address | None:
    """Our Contact among all that a PBX has for the address of record (RFC 3261 10.3, step 8).

    Some write there what they saw in place of what we said: the only one is ours, and the only one with our user part.
    """
    same = [contact for contact in contacts if same_uri(contact.uri, sent)]
    named = same or [contact for contact in contacts if contact.uri.user == sent.user]
    found = named or contacts
    return found[0] if same or len(found) == 1 else None


def _contact_key(wanted: Wanted) -> tuple[str, str, bool]:
    return wanted.contact_user, wanted.contact_domain, wanted.multi_tenant


def _same_place(record: dict[str, Any], wanted: Wanted) -> bool:
    return (record["registrar"], record["username"], tuple(record["hop"])) == wanted.place
