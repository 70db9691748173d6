"""What the pages on users take. What an extension or a forward may be is the routing's to say (see service)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from panel.forms import Input, shown_number
from panel.models import Connection, UpstreamAccount, User
from panel.models.base import ID_LENGTH
from panel.models.tenancy import MAX_TARGET
from sipd.routing.checks_text import control_fault
from sipd.routing.model import MAX_BINDINGS, MAX_CALLS, MAX_NAME, MAX_RING_SECONDS, MAX_USER_PART, MIN_RING_SECONDS

MAX_PASSWORD = 200
MAX_ALIASES = 20


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def words(value: Any) -> list[str]:
    """A list written with commas or spaces."""
    return [str(item) for item in value] if isinstance(value, list) else str(value).replace(",", " ").split()


Target = Annotated[str, Field(max_length=MAX_TARGET), AfterValidator(checked)]


class UserInput(Input):
    """A user as the form gives it."""

    extension: Annotated[str, Field(min_length=1, max_length=MAX_USER_PART), AfterValidator(checked)]
    name: Annotated[str, Field(max_length=MAX_NAME), AfterValidator(checked)] = ""
    enabled: bool = True
    aliases: Annotated[str, Field(max_length=MAX_USER_PART * MAX_ALIASES), AfterValidator(checked)] = ""
    forward_always: Target = ""
    forward_busy: Target = ""
    forward_no_answer: Target = ""
    forward_unreachable: Target = ""
    do_not_disturb: bool = False
    schedule_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    forward_closed: Target = ""
    fork: Literal["parallel", "serial"] = "parallel"
    serial_seconds: Annotated[int, Field(ge=MIN_RING_SECONDS, le=MAX_RING_SECONDS)] = 15
    ring_seconds: Annotated[int, Field(ge=MIN_RING_SECONDS, le=MAX_RING_SECONDS)] = 60
    max_bindings: Annotated[int, Field(ge=1, le=MAX_BINDINGS)] = 10
    caller_id: Annotated[str, Field(max_length=MAX_USER_PART), AfterValidator(shown_number)] = ""
    hide_caller_id: bool = False
    limit_calls: Annotated[int, Field(ge=1, le=MAX_CALLS)] | None = None

    @property
    def row(self) -> dict[str, Any]:
        """The values as the row takes them."""
        return {
            **self.model_dump(),
            "schedule_id": self.schedule_id or None,
            "aliases": list(dict.fromkeys(words(self.aliases))),
        }


@dataclass(frozen=True, slots=True)
class AccountInput:
    """What a user is at one PBX; an empty user name: nothing."""

    connection_id: str
    username: str
    auth_username: str
    password: str = field(repr=False)
    """Empty: as it was."""


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""
    sort: str = "extension"


def account_field(connection_id: str, name: str) -> str:
    """The form's name of a field of the account at a connection."""
    return f"upstream-{connection_id}-{name}"


def account_inputs(sent: Mapping[str, str], connections: Iterable[Connection]) -> list[AccountInput]:
    """The accounts that were sent. Connections are the tenant's own; what is sent for others is not looked at, and
    neither is a password that is the phone's alone."""
    found = []
    for connection in connections:
        values = {
            name: sent.get(account_field(connection.id, name), "") for name in ("username", "auth_username", "password")
        }
        username, auth_username = values["username"].strip(), values["auth_username"].strip()
        password = "" if connection.strategy == "relay" else values["password"]
        found.append(AccountInput(connection.id, username, auth_username, password))
    return found


def account_faults(accounts: Iterable[AccountInput]) -> dict[str, str]:
    """What cannot even be stored, by field."""
    faults: dict[str, str] = {}
    for account in accounts:
        for name, limit in (("username", MAX_USER_PART), ("auth_username", MAX_USER_PART), ("password", MAX_PASSWORD)):
            text = getattr(account, name)
            fault = f"At most {limit} characters; this has {len(text)}." if len(text) > limit else control_fault(text)
            if fault and name == "password":
                fault = f"A password takes at most {limit} characters, and no control characters."
            if fault:
                faults[account_field(account.connection_id, name)] = fault
    return faults


def values_of(user: User, accounts: Iterable[UpstreamAccount]) -> dict[str, Any]:
    """A saved user as the form shows it; never a password."""
    values = {name: getattr(user, name) for name in UserInput.model_fields}
    values["aliases"] = ", ".join(user.aliases)
    values["schedule_id"] = user.schedule_id or ""
    for account in accounts:
        values[account_field(account.connection_id, "username")] = account.username
        values[account_field(account.connection_id, "auth_username")] = account.auth_username
        values[account_field(account.connection_id, "has_password")] = bool(account.password)
    return values


def sent_values(accounts: Iterable[AccountInput]) -> dict[str, Any]:
    """What was typed, without passwords: those are typed again."""
    return {
        account_field(account.connection_id, name): getattr(account, name)
        for account in accounts
        for name in ("username", "auth_username")
    }
