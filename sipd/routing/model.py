"""The routing table: frozen values, everything an engine needs to decide and nothing else.

A table is one `Installation` and its `Tenant`s. All collections are tuples; `codec` orders them, so
that the order of database rows never shows in the bytes. Secrets are sealed text (see `seal`), opaque
to everything but the engine that uses them.

An empty string means "not set" for text, `None` means "no limit" for numbers in `Limits`.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = 1
"""Version of the table's shape. An engine refuses a format that it does not know."""

TRANSPORTS = ("udp", "tcp", "tls", "auto")
"""Towards a PBX; `auto` lets its DNS records choose (RFC 3263 section 4.1)."""
STRATEGIES = ("on_behalf", "relay", "none")
MEDIA = ("direct", "relay")
INTERNAL_CALLS = ("through_pbx", "direct_when_possible", "always_direct")
FORKS = ("parallel", "serial")
GROUP_STRATEGIES = ("all", "in_turn", "round_robin")
CALLER_IDS = ("account", "from", "asserted", "both")

# Named limits of the contract; the validator quotes them.
MAX_NAME = 200
MAX_USER_PART = 64
MAX_DOMAIN = 253
MAX_CALLS = 100_000
MAX_CALLS_PER_SECOND = 10_000
MAX_RING_SECONDS = 600
MIN_RING_SECONDS = 5
MAX_BINDINGS = 32
MIN_EXPIRES = 60
MAX_EXPIRES = 86_400
MAX_SOURCES = 64
MAX_MEMBERS = 100
MAX_OPENINGS = 100
MAX_HOLIDAYS = 400
MAX_ALTERNATES = 8
MAX_GUARDS = 100
MAX_CALLS_PER_HOUR = 100_000
MAX_NETWORKS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds; `None` is no bound."""

    calls: int | None = None
    """Concurrent calls."""
    calls_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamAccount:
    """What one user is at the PBX of one connection (RFC 3261 section 22 credentials)."""

    connection: str
    """Id of the connection."""
    username: str
    """User part of To and From at the PBX."""
    auth_username: str
    """Digest user name; empty: same as `username`."""
    password: str
    """Sealed."""


@dataclass(frozen=True, slots=True)
class User:
    """A person or device account. `extension` is unique in the tenant only."""

    id: str
    extension: str
    name: str
    """Display name."""
    enabled: bool
    ha1_md5: str
    """Sealed MD5(extension:primary domain:password), RFC 7616 section 3.4.2; lower-case hex inside."""
    ha1_sha256: str
    """Sealed SHA-256 of the same."""
    aliases: tuple[str, ...] = ()
    """Further user parts that reach this user, and that it may use in From."""
    upstream: tuple[UpstreamAccount, ...] = ()
    forward_always: str = ""
    """What to dial instead: an extension, alias or number, as this user would dial it."""
    forward_busy: str = ""
    forward_no_answer: str = ""
    forward_unreachable: str = ""
    do_not_disturb: bool = False
    """Calls are answered 486 without ringing, and take `forward_busy` if there is one."""
    schedule: str = ""
    """Id of the schedule outside of which calls take `forward_closed`; empty: always open."""
    forward_closed: str = ""
    fork: str = "parallel"
    """One of `FORKS`: all phones at once, or one after the other by preference (q, RFC 3261 section 16.6)."""
    serial_seconds: int = 15
    """How long each phone rings when `fork` is serial; `ring_seconds` bounds the whole."""
    ring_seconds: int = 60
    """How long the phones ring before the call counts as not answered."""
    max_bindings: int = 10
    caller_id: str = ""
    """Number shown to those called through a PBX; empty: the tenant's, else the account's user name."""
    hide_caller_id: bool = False
    """Calls go out with `Privacy: id` and an anonymous From (RFC 3323, RFC 3325)."""
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Alternate:
    """A further place where a PBX is, tried when those before it do not serve."""

    position: int
    """The lowest first; among equals, by host and port."""
    host: str
    """As `Connection.host`."""
    port: int
    """As `Connection.port`."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The link from one tenant to one PBX."""

    id: str
    name: str
    enabled: bool
    multi_tenant: bool
    """The switch: the tenant's domain in the Contact of each REGISTER, and as key of each INVITE."""
    registrar_domain: str
    """Host of Request-URI, To and From towards the PBX."""
    host: str
    """Where the PBX is: IP address or name. IPv6 without brackets."""
    port: int
    """0: that of the DNS records, else 5060, or 5061 over TLS."""
    transport: str
    """One of `TRANSPORTS`."""
    outbound_proxy: str = ""
    """SIP URI; when set, requests go there and not to `host`."""
    sources: tuple[str, ...] = ()
    """Where the PBX sends from: network (`192.0.2.0/24`), address, or `address:port`."""
    strategy: str = "on_behalf"
    """One of `STRATEGIES`. `on_behalf`: the edge registers each user with the user's account. `relay`: the phone holds
    the account, and its REGISTER goes through. `none`: a trunk that wants no REGISTER."""
    expires: int = 600
    """Seconds asked for in each upstream REGISTER."""
    internal_calls: str = "through_pbx"
    """One of `INTERNAL_CALLS`: how a call to a user of the same tenant goes."""
    tls_verify: bool = True
    """Whether the PBX's certificate is checked, against the node's authorities and for the name of its host."""
    tls_client: str = ""
    """DNS name that the PBX's client certificate must have when it connects; empty: none is asked for."""
    caller_id: str = "account"
    """One of `CALLER_IDS`: where the number shown goes. `account`: nowhere, From is the account; `from`: into From;
    `asserted`: into P-Asserted-Identity; `both`."""
    alternates: tuple[Alternate, ...] = ()
    """Where else the PBX is, in order; with the same transport as `host`."""
    media: str = "direct"
    """One of `MEDIA`. `direct`: bodies pass untouched; `relay`: media goes through the node's media relay."""
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """A user of a ring group and its turn."""

    position: int
    user: str
    """Id of the user."""


@dataclass(frozen=True, slots=True)
class Group:
    """A ring group: an extension that rings several users. Their own forwards do not apply, do-not-disturb does."""

    id: str
    extension: str
    """Unique in the tenant, together with the extensions and aliases of users."""
    name: str
    """Display name."""
    enabled: bool
    strategy: str
    """One of `GROUP_STRATEGIES`: all at once, always from the first on, or from the one after who rang first last."""
    members: tuple[Member, ...] = ()
    member_seconds: int = 15
    """How long each member rings when they ring in turn."""
    ring_seconds: int = 60
    """How long the group rings before the call counts as not answered."""
    forward_no_answer: str = ""
    """What to dial when nobody answers, all are busy, or nobody has a phone."""
    schedule: str = ""
    """Id of the schedule outside of which calls take `forward_closed`; empty: always open."""
    forward_closed: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """One stretch of time in each week."""

    day: int
    """0 is Monday, 6 is Sunday."""
    opens: str
    """Local time, `HH:MM`, included."""
    closes: str
    """Local time, `HH:MM` up to `24:00`, not included; later than `opens`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Business hours: open in any of the openings, but not on holidays."""

    id: str
    name: str
    time_zone: str
    """IANA name, such as `Europe/Berlin`."""
    openings: tuple[Opening, ...] = ()
    holidays: tuple[str, ...] = ()
    """Local dates, `YYYY-MM-DD`."""


@dataclass(frozen=True, slots=True)
class Number:
    """A public number of the tenant. Exactly one of `user`, `group` and `forward` is set."""

    id: str
    number: str
    """E.164 with leading +, or digits as the PBX sends them."""
    user: str = ""
    """Id of the user that it rings."""
    group: str = ""
    """Id of the ring group that it rings."""
    forward: str = ""
    """What to dial instead."""
    schedule: str = ""
    """Id of the schedule outside of which calls take `forward_closed`; empty: always open."""
    forward_closed: str = ""


@dataclass(frozen=True, slots=True)
class OutboundRule:
    """Which connection takes a dialled number. The rule with the lowest position that matches wins."""

    id: str
    position: int
    prefix: str
    """Dialled digits that this rule matches from the left; empty matches all."""
    strip: int
    """How many leading characters are removed."""
    prepend: str
    connection: str
    """Id of the connection."""
    pattern: str = ""
    """Matched in whole, beside `prefix`; empty matches all. `X` is a digit, `Z` 1 to 9, `N` 2 to 9, `[1-35]` one of
    these, a `.` at the end one character or more, a `!` at the end any number of characters."""
    fallback: str = ""
    """Id of the connection that is tried when the first one fails (no way there, 408, 5xx); empty: none."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard against toll fraud: calls of one user to expensive numbers."""

    id: str
    prefix: str
    """What the dialled number begins with, as users dial it and as it goes out: digits, `*`, `+` in front."""
    calls_per_hour: int
    """Of one user, in any 60 minutes; 0: such calls are refused."""
    schedule: str = ""
    """Id of the schedule outside of which such calls are refused; empty: they are allowed at any time."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One organisation: one part of the table."""

    id: str
    slug: str
    name: str
    suspended: bool
    primary_domain: str
    """Also the digest realm of its users."""
    alias_domains: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    connections: tuple[Connection, ...] = ()
    groups: tuple[Group, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    numbers: tuple[Number, ...] = ()
    outbound: tuple[OutboundRule, ...] = ()
    default_connection: str = ""
    """Id of the connection for calls that no outbound rule takes; empty: such calls get 404."""
    caller_id: str = ""
    """Number shown for users that have none of their own."""
    limits: Limits = Limits()
    guards: tuple[Guard, ...] = ()
    """All that match a dialled number hold, the installation's too."""

    @property
    def domains(self) -> tuple[str, ...]:
        """All SIP domains of the tenant, the primary one first."""
        return (self.primary_domain, *self.alias_domains)


@dataclass(frozen=True, slots=True)
class Installation:
    """What belongs to no tenant: one part of the table."""

    platform_domain: str
    """Tenants get `<slug>.<platform domain>` at sign-up."""
    edge_hosts: tuple[str, ...] = ()
    """Names and addresses that are the edge itself; no tenant's domain may be one of them."""
    limits: Limits = Limits()
    guards: tuple[Guard, ...] = ()
    """For the users of all tenants; without schedules."""
    allowed: tuple[str, ...] = ()
    """Networks and addresses that are never banned, and whose rates are not limited."""
    blocked: tuple[str, ...] = ()
    """Networks and addresses that get no answer."""


@dataclass(frozen=True, slots=True)
class Table:
    """A whole routing table."""

    installation: Installation
    tenants: tuple[Tenant, ...] = ()
