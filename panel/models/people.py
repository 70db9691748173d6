"""Accounts of people, their roles, and the links and sessions that let them in."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from panel.models.base import ID_LENGTH, Row, TenantRow, UtcDateTime, created_at, one_of

TENANT_ROLES = ("read_only", "admin", "owner")
"""Weakest first."""
PROVIDER_ROLES = ("read_only", "support", "admin")
"""Weakest first."""
TOKEN_PURPOSES = ("verify", "reset")


class Account(Row, table=True):
    """A person who signs in; of the provider's staff when `provider_role` is set."""

    __tablename__ = "accounts"
    __table_args__ = (one_of("provider_role", PROVIDER_ROLES),)

    email: str = Field(unique=True, max_length=254)
    """Always lower-case: two spellings are one person."""
    name: str = Field(default="", max_length=200)
    password_hash: str = Field(max_length=255)
    """argon2id."""
    email_verified_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    provider_role: str | None = Field(default=None, max_length=16)
    created_at: datetime = created_at()


class Membership(TenantRow, table=True):
    """What an account may do in a tenant."""

    __tablename__ = "memberships"
    __table_args__ = (UniqueConstraint("account_id", "tenant_id"), one_of("role", TENANT_ROLES))

    account_id: str = Field(foreign_key="accounts.id", ondelete="CASCADE", max_length=ID_LENGTH)
    role: str = Field(max_length=16)
    created_at: datetime = created_at()


class AccountSession(Row, table=True):
    """One signed-in browser. The cookie holds the token, the row only its hash; no row, no entry."""

    __tablename__ = "account_sessions"

    account_id: str = Field(foreign_key="accounts.id", ondelete="CASCADE", index=True, max_length=ID_LENGTH)
    token_hash: str = Field(unique=True, max_length=64)
    ip: str = Field(default="", max_length=45)
    user_agent: str = Field(default="", max_length=200)
    created_at: datetime = created_at()
    expires_at: datetime = Field(sa_type=UtcDateTime)


class EmailToken(Row, table=True):
    """A single-use link that was mailed; only the hash of its secret is kept."""

    __tablename__ = "email_tokens"
    __table_args__ = (one_of("purpose", TOKEN_PURPOSES),)

    account_id: str = Field(foreign_key="accounts.id", ondelete="CASCADE", index=True, max_length=ID_LENGTH)
    token_hash: str = Field(unique=True, max_length=64)
    purpose: str = Field(max_length=16)
    email: str = Field(max_length=254)
    """The address that the link proves."""
    created_at: datetime = created_at()
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SetupToken(Row, table=True):
    """The one-time link that creates the provider's first account."""

    __tablename__ = "setup_tokens"

    token_hash: str = Field(unique=True, max_length=64)
    created_at: datetime = created_at()
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SupportSession(TenantRow, table=True):
    """A member of the provider's staff inside a tenant: with a reason, for a time."""

    __tablename__ = "support_sessions"

    account_id: str = Field(foreign_key="accounts.id", ondelete="CASCADE", index=True, max_length=ID_LENGTH)
    reason: str = Field(max_length=500)
    started_at: datetime = created_at()
    expires_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class OutboxMail(Row, table=True):
    """A mail that the panel wrote. With SMTP the text is dropped once it was handed over."""

    __tablename__ = "outbox_mails"
    __table_args__ = (one_of("state", ("kept", "queued", "sent", "failed")),)

    to: str = Field(max_length=254)
    subject: str = Field(max_length=200)
    text: str
    state: str = Field(max_length=16)
    error: str = Field(default="", max_length=500)
    created_at: datetime = created_at()
