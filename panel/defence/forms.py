"""What the pages on protection take. What a network or prefix may be is the routing's to say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from panel.forms import Input, Prefix
from panel.models import InstallationGuard
from panel.models.installation import MAX_NETWORK, MAX_NOTE
from panel.models.tenancy import MAX_NUMBER
from sipd.routing.checks_text import control_fault, network_fault
from sipd.routing.model import MAX_CALLS_PER_HOUR


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def network(text: str) -> str:
    """In lower case, as all are kept."""
    if fault := network_fault(text.lower()):
        raise ValueError(fault)
    return text.lower()


Note = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(checked)]
Network = Annotated[str, Field(min_length=1, max_length=MAX_NETWORK), AfterValidator(network)]


class NetworkInput(Input):
    """A network or address that is never banned, or gets no answer."""

    kind: Literal["blocked", "allowed"] = "blocked"
    network: Network
    note: Note = ""


class GuardInput(Input):
    """A guard for the users of all tenants."""

    prefix: Annotated[str, Field(min_length=1, max_length=MAX_NUMBER), Prefix]
    calls_per_hour: Annotated[int, Field(ge=0, le=MAX_CALLS_PER_HOUR)]
    note: Note = ""


class Unban(Input):
    """Whose ban is to end."""

    source: Network


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""


def values_of(guard: InstallationGuard) -> dict[str, Any]:
    """A saved guard as the form shows it."""
    values = {name: getattr(guard, name) for name in GuardInput.model_fields}
    return {**values, "calls_per_hour": str(guard.calls_per_hour)}
