"""Tenants and what is theirs: domains, users, connections, ring groups, business hours, numbers, rules, guards.

The rows behind the routing table; what a field means is said in `sipd.routing.model`.
"""

from datetime import datetime

from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field

from panel.models.base import ID_LENGTH, Row, TenantRow, created_at, one_of
from sipd.routing.hours import MAX_ZONE
from sipd.routing.model import (
    CALLER_IDS,
    FORKS,
    GROUP_STRATEGIES,
    INTERNAL_CALLS,
    MAX_DOMAIN,
    MAX_NAME,
    MAX_USER_PART,
    MEDIA,
    STRATEGIES,
    TRANSPORTS,
)
from sipd.routing.pattern import MAX_PATTERN

TENANT_STATES = ("active", "suspended")
MAX_TARGET = 128
"""Characters of what a forward dials."""
MAX_SEALED = 1024
MAX_NUMBER = 32


class Tenant(Row, table=True):
    """One organisation."""

    __tablename__ = "tenants"
    __table_args__ = (one_of("status", TENANT_STATES),)

    slug: str = Field(unique=True, max_length=63)
    name: str = Field(max_length=MAX_NAME)
    status: str = Field(default="active", max_length=16)
    suspended_reason: str = Field(default="", max_length=500)
    default_connection_id: str | None = Field(default=None, max_length=ID_LENGTH)
    """Takes the calls that no outbound rule takes."""
    caller_id: str = Field(default="", max_length=MAX_USER_PART)
    limit_calls: int | None = None
    limit_calls_per_second: int | None = None
    created_at: datetime = created_at()


class Domain(TenantRow, table=True):
    """A SIP domain; unique in the installation, always lower-case."""

    __tablename__ = "domains"

    name: str = Field(unique=True, max_length=MAX_DOMAIN)
    is_primary: bool = False
    created_at: datetime = created_at()


def hours() -> ForeignKeyConstraint:
    """A row's business hours are its own tenant's; what is in use cannot be removed."""
    return ForeignKeyConstraint(["tenant_id", "schedule_id"], ["schedules.tenant_id", "schedules.id"])


class Schedule(TenantRow, table=True):
    """Business hours."""

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("tenant_id", "name"), UniqueConstraint("tenant_id", "id"))

    name: str = Field(max_length=MAX_NAME)
    time_zone: str = Field(max_length=MAX_ZONE)
    openings: list[str] = Field(default_factory=list, sa_type=JSON)
    """Each as `0 09:00-12:30`: day (0 is Monday), opens, closes."""
    holidays: list[str] = Field(default_factory=list, sa_type=JSON)
    """Each as `YYYY-MM-DD`."""
    created_at: datetime = created_at()


class User(TenantRow, table=True):
    """A person or device account; the extension is unique in the tenant only."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("tenant_id", "extension"),
        UniqueConstraint("tenant_id", "id"),
        hours(),
        one_of("fork", FORKS),
    )

    extension: str = Field(max_length=MAX_USER_PART)
    name: str = Field(max_length=MAX_NAME)
    enabled: bool = True
    aliases: list[str] = Field(default_factory=list, sa_type=JSON)
    sip_password: str = Field(max_length=MAX_SEALED)
    """Sealed at (tenant id, user id, "sip_password")."""
    forward_always: str = Field(default="", max_length=MAX_TARGET)
    forward_busy: str = Field(default="", max_length=MAX_TARGET)
    forward_no_answer: str = Field(default="", max_length=MAX_TARGET)
    forward_unreachable: str = Field(default="", max_length=MAX_TARGET)
    do_not_disturb: bool = False
    schedule_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    forward_closed: str = Field(default="", max_length=MAX_TARGET)
    fork: str = Field(default="parallel", max_length=16)
    serial_seconds: int = 15
    ring_seconds: int = 60
    max_bindings: int = 10
    caller_id: str = Field(default="", max_length=MAX_USER_PART)
    hide_caller_id: bool = False
    limit_calls: int | None = None
    created_at: datetime = created_at()


class Connection(TenantRow, table=True):
    """The link from the tenant to one PBX. Field by field `sipd.routing.model.Connection`."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        UniqueConstraint("tenant_id", "id"),
        one_of("transport", TRANSPORTS),
        one_of("strategy", STRATEGIES),
        one_of("internal_calls", INTERNAL_CALLS),
        one_of("caller_id", CALLER_IDS),
        one_of("media", MEDIA),
    )

    name: str = Field(max_length=MAX_NAME)
    enabled: bool = True
    multi_tenant: bool = False
    """The switch: the tenant's domain in the Contact of each REGISTER, and as key of each INVITE."""
    registrar_domain: str = Field(max_length=MAX_DOMAIN)
    host: str = Field(max_length=MAX_DOMAIN)
    port: int = 0
    """0: the transport's own port."""
    transport: str = Field(default="udp", max_length=8)
    outbound_proxy: str = Field(default="", max_length=300)
    sources: list[str] = Field(default_factory=list, sa_type=JSON)
    """Where the PBX sends from: network, address, or address:port."""
    strategy: str = Field(default="on_behalf", max_length=16)
    expires: int = 600
    """Seconds asked for in each upstream REGISTER."""
    internal_calls: str = Field(default="through_pbx", max_length=32)
    tls_verify: bool = True
    tls_client: str = Field(default="", max_length=MAX_DOMAIN)
    caller_id: str = Field(default="account", max_length=16)
    alternates: list[str] = Field(default_factory=list, sa_type=JSON)
    """Where else the PBX is, in order: `host`, `host:port`, `2001:db8::1` or `[2001:db8::1]:port`."""
    media: str = Field(default="direct", max_length=16)
    limit_calls: int | None = None
    limit_calls_per_second: int | None = None
    created_at: datetime = created_at()


class UpstreamAccount(TenantRow, table=True):
    """What one user is at the PBX of one connection. The keys hold user, connection and tenant together."""

    __tablename__ = "upstream_accounts"
    __table_args__ = (
        UniqueConstraint("user_id", "connection_id"),
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"], ondelete="CASCADE"
        ),
    )

    user_id: str = Field(max_length=ID_LENGTH)
    connection_id: str = Field(max_length=ID_LENGTH, index=True)
    username: str = Field(max_length=MAX_USER_PART)
    auth_username: str = Field(default="", max_length=MAX_USER_PART)
    """Empty: the same as `username`."""
    password: str = Field(default="", max_length=MAX_SEALED)
    """Sealed at (tenant id, user id, connection id, "upstream_password")."""


class Group(TenantRow, table=True):
    """A ring group; its extension is unique in the tenant, together with those of users (the services see to that)."""

    __tablename__ = "groups"
    __table_args__ = (
        UniqueConstraint("tenant_id", "extension"),
        UniqueConstraint("tenant_id", "id"),
        hours(),
        one_of("strategy", GROUP_STRATEGIES),
    )

    extension: str = Field(max_length=MAX_USER_PART)
    name: str = Field(max_length=MAX_NAME)
    enabled: bool = True
    aliases: list[str] = Field(default_factory=list, sa_type=JSON)
    strategy: str = Field(default="all", max_length=16)
    member_seconds: int = 15
    ring_seconds: int = 60
    forward_no_answer: str = Field(default="", max_length=MAX_TARGET)
    schedule_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    forward_closed: str = Field(default="", max_length=MAX_TARGET)
    created_at: datetime = created_at()


class GroupMember(TenantRow, table=True):
    """A user of a ring group and its turn. The keys hold user, group and tenant together."""

    __tablename__ = "group_members"
    __table_args__ = (
        UniqueConstraint("group_id", "user_id"),
        ForeignKeyConstraint(["tenant_id", "group_id"], ["groups.tenant_id", "groups.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
    )

    group_id: str = Field(max_length=ID_LENGTH)
    user_id: str = Field(max_length=ID_LENGTH, index=True)
    position: int


ONE_TARGET = " + ".join(
    f"(CASE WHEN {one} THEN 0 ELSE 1 END)" for one in ("user_id IS NULL", "group_id IS NULL", "forward = ''")
)


class Number(TenantRow, table=True):
    """A public number; exactly one of user, group and forward is set."""

    __tablename__ = "numbers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "number"),
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"]),
        ForeignKeyConstraint(["tenant_id", "group_id"], ["groups.tenant_id", "groups.id"]),
        hours(),
        CheckConstraint(f"{ONE_TARGET} = 1", name="target"),
    )

    number: str = Field(max_length=MAX_NUMBER)
    user_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    group_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    forward: str = Field(default="", max_length=MAX_TARGET)
    schedule_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    forward_closed: str = Field(default="", max_length=MAX_TARGET)
    created_at: datetime = created_at()


class OutboundRule(TenantRow, table=True):
    """Which connection takes a dialled number; the lowest position that matches wins."""

    __tablename__ = "outbound_rules"
    __table_args__ = (
        UniqueConstraint("tenant_id", "position"),
        ForeignKeyConstraint(["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"]),
        ForeignKeyConstraint(["tenant_id", "fallback_id"], ["connections.tenant_id", "connections.id"]),
    )

    position: int
    prefix: str = Field(default="", max_length=MAX_NUMBER)
    pattern: str = Field(default="", max_length=MAX_PATTERN)
    strip: int = 0
    prepend: str = Field(default="", max_length=MAX_NUMBER)
    connection_id: str = Field(max_length=ID_LENGTH, index=True)
    fallback_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    """Tried when the first one fails."""


class Guard(TenantRow, table=True):
    """A guard against toll fraud: how often one user may call numbers that begin so."""

    __tablename__ = "guards"
    __table_args__ = (UniqueConstraint("tenant_id", "prefix"), hours())

    prefix: str = Field(max_length=MAX_NUMBER)
    calls_per_hour: int
    """0: such calls are refused."""
    schedule_id: str | None = Field(default=None, max_length=ID_LENGTH, index=True)
    """Out of these hours such calls are refused."""
    created_at: datetime = created_at()
