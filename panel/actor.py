"""Who acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """An account, or a part of the system (`account_id` None)."""

    account_id: str | None
    label: str
    """The account's e-mail, or the name of the part of the system."""
    ip: str = ""
    support: bool = False
    """Inside a tenant as the provider's support."""


SYSTEM = Actor(None, "system")
