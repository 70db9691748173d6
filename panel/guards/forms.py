"""What the pages on guards take. What a prefix may be is the routing's to say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from panel.forms import Input, Prefix
from panel.models import Guard
from panel.models.base import ID_LENGTH
from panel.models.tenancy import MAX_NUMBER
from sipd.routing.model import MAX_CALLS_PER_HOUR


class GuardInput(Input):
    """A guard as the form gives it."""

    prefix: Annotated[str, Field(min_length=1, max_length=MAX_NUMBER), Prefix]
    calls_per_hour: Annotated[int, Field(ge=0, le=MAX_CALLS_PER_HOUR)]
    schedule_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""

    @property
    def row(self) -> dict[str, Any]:
        """The values as the row takes them."""
        return {**self.model_dump(), "schedule_id": self.schedule_id or None}


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""


def values_of(guard: Guard) -> dict[str, Any]:
    """A saved guard as the form shows it."""
    values = {name: getattr(guard, name) for name in GuardInput.model_fields}
    return {**values, "calls_per_hour": str(guard.calls_per_hour), "schedule_id": guard.schedule_id or ""}
