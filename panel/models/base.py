"""What all tables share: opaque ids, UTC times, named constraints, and the mark of tenant data."""

import base64
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

ID_LENGTH = 24
"""Characters of an id: 120 random bits in base32."""


def new_id() -> str:
    """An opaque id: says nothing, cannot be guessed."""
    return base64.b32encode(secrets.token_bytes(15)).decode().lower()


def utc_now() -> datetime:
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in Python on every database; a naive time is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """The database's own wall behind the input models."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class Row(SQLModel):
    """A row with an opaque primary key."""

    id: str = Field(default_factory=new_id, primary_key=True, max_length=ID_LENGTH)


class TenantRow(Row):
    """A row that belongs to one tenant: `panel.scope` guards every query on it and every write of it."""

    tenant_id: str = Field(foreign_key="tenants.id", ondelete="CASCADE", index=True, max_length=ID_LENGTH)


def created_at() -> Any:
    return Field(default_factory=utc_now, sa_type=UtcDateTime)
