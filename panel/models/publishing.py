"""Tables made live: parts, publications, and what each node runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, UniqueConstraint
from sqlmodel import Field, SQLModel

from panel.models.base import ID_LENGTH, Row, UtcDateTime, created_at, one_of, utc_now

PART_KINDS = ("installation", "tenant")
NODE_STATES = ("unknown", "up", "down", "refused")
OUTCOMES = ("applied", "refused", "unreachable")
MAX_HASH = 64


class Part(SQLModel, table=True):
    """One part of a table, by its sha256: canonical JSON, secrets sealed. Never changed."""

    __tablename__ = "parts"
    __table_args__ = (one_of("kind", PART_KINDS),)

    hash: str = Field(primary_key=True, max_length=MAX_HASH)
    kind: str = Field(max_length=16)
    tenant_id: str | None = Field(default=None, index=True, max_length=ID_LENGTH)
    body: str
    created_at: datetime = created_at()


class Publication(Row, table=True):
    """A table made live: who, when, why, and its difference from the one before."""

    __tablename__ = "publications"

    version: int = Field(unique=True)
    hash: str = Field(index=True, max_length=MAX_HASH)
    manifest: dict[str, Any] = Field(sa_type=JSON)
    parent_version: int | None = None
    account_id: str | None = Field(default=None, max_length=ID_LENGTH)
    by_label: str = Field(default="", max_length=300)
    reason: str = Field(default="", max_length=500)
    diff: list[Any] = Field(default_factory=list, sa_type=JSON)
    problems: list[Any] = Field(default_factory=list, sa_type=JSON)
    created_at: datetime = created_at()


class Node(Row, table=True):
    """One running engine, as the panel last saw it."""

    __tablename__ = "nodes"
    __table_args__ = (one_of("state", NODE_STATES),)

    name: str = Field(unique=True, max_length=100)
    control: str = Field(max_length=300)
    """`unix:/path` or `tcp:host:port`."""
    token: str = Field(default="", max_length=1024)
    """Sealed at ("node", node id, "token"); empty for a Unix socket."""
    state: str = Field(default="unknown", max_length=16)
    version: int | None = None
    hash: str = Field(default="", max_length=MAX_HASH)
    since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_seen: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_error: str = Field(default="", max_length=500)
    created_at: datetime = created_at()


class NodeApplied(Row, table=True):
    """What one node did with one publication, and how long it took to enforce it."""

    __tablename__ = "node_applied"
    __table_args__ = (UniqueConstraint("publication_id", "node_id"), one_of("outcome", OUTCOMES))

    publication_id: str = Field(foreign_key="publications.id", ondelete="CASCADE", max_length=ID_LENGTH)
    node_id: str = Field(foreign_key="nodes.id", ondelete="CASCADE", index=True, max_length=ID_LENGTH)
    outcome: str = Field(max_length=16)
    ms: float | None = None
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    problems: list[Any] = Field(default_factory=list, sa_type=JSON)
