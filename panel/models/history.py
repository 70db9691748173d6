"""What happened: events and calls pulled from the nodes, and the audit of people's deeds.

These rows outlive what they speak of, so their ids of tenants, users and connections are no foreign keys.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from panel.models.base import ID_LENGTH, Row, UtcDateTime, utc_now


class Event(Row, table=True):
    """One line of a node's spool, stored once however often it is pulled."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("node_id", "event_id"), Index(None, "tenant_id", "kind", "at"))

    node_id: str = Field(foreign_key="nodes.id", ondelete="CASCADE", max_length=ID_LENGTH)
    event_id: int = Field(sa_type=BigInteger)
    """A spool begins at the microseconds of its making, so that numbers never come again."""
    at: datetime = Field(sa_type=UtcDateTime, index=True)
    kind: str = Field(max_length=64)
    tenant_id: str | None = Field(default=None, max_length=ID_LENGTH)
    connection_id: str | None = Field(default=None, index=True, max_length=ID_LENGTH)
    user_id: str | None = Field(default=None, max_length=ID_LENGTH)
    rule: str = Field(default="", max_length=100)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class EventCursor(SQLModel, table=True):
    """All events of the node up to and with `after` are stored."""

    __tablename__ = "event_cursors"

    node_id: str = Field(foreign_key="nodes.id", ondelete="CASCADE", primary_key=True, max_length=ID_LENGTH)
    after: int = Field(default=0, sa_type=BigInteger)


class CallRecord(Row, table=True):
    """A call that ended, from the node's `call.ended`."""

    __tablename__ = "call_records"
    __table_args__ = (UniqueConstraint("node_id", "call"), Index(None, "tenant_id", "started_at"))

    node_id: str = Field(max_length=ID_LENGTH)
    call: str = Field(max_length=200)
    """The node's id of the call."""
    tenant_id: str | None = Field(default=None, max_length=ID_LENGTH)
    connection_id: str | None = Field(default=None, max_length=ID_LENGTH)
    user_id: str | None = Field(default=None, max_length=ID_LENGTH)
    from_uri: str = Field(max_length=500)
    to_uri: str = Field(max_length=500)
    direction: str = Field(max_length=16)
    started_at: datetime = Field(sa_type=UtcDateTime)
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime = Field(sa_type=UtcDateTime)
    code: int | None = None
    reason: str = Field(default="", max_length=200)
    ended_by: str = Field(default="", max_length=16)
    """caller, callee or edge."""


class AuditEntry(Row, table=True):
    """Who did what to what, from where, and what changed. Secrets show only that they changed."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index(None, "tenant_id", "at"),)

    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, index=True)
    account_id: str | None = Field(default=None, index=True, max_length=ID_LENGTH)
    label: str = Field(max_length=300)
    """The account's e-mail at that time, or the name of the part of the system that acted."""
    support: bool = False
    """Done by the provider's staff in a support session."""
    ip: str = Field(default="", max_length=45)
    tenant_id: str | None = Field(default=None, max_length=ID_LENGTH)
    action: str = Field(max_length=64)
    subject_kind: str = Field(default="", max_length=64)
    subject_id: str = Field(default="", max_length=64)
    subject_label: str = Field(default="", max_length=300)
    before: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    after: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
