"""What the pages on ring groups take. What an extension or a forward may be is the routing's to say (see service)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.models import Group
from panel.models.base import ID_LENGTH
from panel.models.tenancy import MAX_TARGET
from sipd.routing.checks_text import control_fault
from sipd.routing.model import MAX_MEMBERS, MAX_NAME, MAX_RING_SECONDS, MAX_USER_PART, MIN_RING_SECONDS

MAX_ALIASES = 20
MAX_LINES = MAX_MEMBERS + 20
"""Lines for members in the form, the empty ones included."""


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def given(lines: list[str]) -> list[str]:
    """The extensions in their order, without empty lines. A line may go on with a name, as the form proposes it."""
    found = [checked(line).split(maxsplit=1)[0] for line in lines if line.strip()]
    if len(found) > MAX_MEMBERS:
        raise ValueError(f"There are {len(found)} members; the limit is {MAX_MEMBERS}. Remove some.")
    return found


Text = AfterValidator(checked)
Target = Annotated[str, Field(max_length=MAX_TARGET), Text]
Seconds = Annotated[int, Field(ge=MIN_RING_SECONDS, le=MAX_RING_SECONDS)]
Line = Annotated[str, Field(max_length=MAX_USER_PART + MAX_NAME + 1)]


class GroupInput(Input):
    """A ring group as the form gives it; `members` are extensions, in the order in which they ring."""

    extension: Annotated[str, Field(min_length=1, max_length=MAX_USER_PART), Text]
    name: Annotated[str, Field(max_length=MAX_NAME), Text] = ""
    enabled: bool = True
    members: Annotated[list[Line], Field(max_length=MAX_LINES), AfterValidator(given)] = []  # noqa: RUF012  copied
    strategy: Literal["all", "in_turn", "round_robin"] = "all"
    member_seconds: Seconds = 15
    ring_seconds: Seconds = 60
    forward_no_answer: Target = ""
    schedule_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    forward_closed: Target = ""
    aliases: Annotated[str, Field(max_length=MAX_USER_PART * MAX_ALIASES), Text] = ""

    @property
    def row(self) -> dict[str, Any]:
        """The values as the row takes them; members are rows of their own."""
        return {
            **self.model_dump(exclude={"members"}),
            "schedule_id": self.schedule_id or None,
            "aliases": list(dict.fromkeys(self.aliases.replace(",", " ").split())),
        }


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""


def values_of(group: Group, extensions: Iterable[str]) -> dict[str, Any]:
    """A saved group as the form shows it."""
    values = {name: getattr(group, name) for name in GroupInput.model_fields if name != "members"}
    return {
        **values,
        "schedule_id": group.schedule_id or "",
        "aliases": ", ".join(group.aliases),
        "members": list(extensions),
    }
