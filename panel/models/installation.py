"""What belongs to no tenant: the provider's guards against toll fraud, and the networks it allows and blocks."""

from datetime import datetime

from sqlmodel import Field

from panel.models.base import Row, created_at, one_of
from panel.models.tenancy import MAX_NUMBER

SOURCE_RULES = ("allowed", "blocked")
MAX_NETWORK = 64
MAX_NOTE = 200


class InstallationGuard(Row, table=True):
    """A guard for the users of all tenants; `sipd.routing.model.Guard` without business hours."""

    __tablename__ = "installation_guards"

    prefix: str = Field(unique=True, max_length=MAX_NUMBER)
    calls_per_hour: int
    note: str = Field(default="", max_length=MAX_NOTE)
    created_at: datetime = created_at()


class SourceRule(Row, table=True):
    """A network or address that is never banned, or gets no answer; it cannot be both."""

    __tablename__ = "source_rules"
    __table_args__ = (one_of("kind", SOURCE_RULES),)

    network: str = Field(unique=True, max_length=MAX_NETWORK)
    """In canonical form, so that each has one spelling."""
    kind: str = Field(max_length=16)
    note: str = Field(default="", max_length=MAX_NOTE)
    """Why, for people."""
    created_at: datetime = created_at()
