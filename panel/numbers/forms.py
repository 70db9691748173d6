"""What the pages on numbers and outbound rules take. What a number may be is the routing's to say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from panel.forms import Input, shown_number
from panel.models import Number, OutboundRule
from panel.models.base import ID_LENGTH
from panel.models.tenancy import MAX_NUMBER, MAX_TARGET
from sipd.routing.checks_text import control_fault, pattern_fault
from sipd.routing.model import MAX_USER_PART
from sipd.routing.pattern import MAX_PATTERN

MAX_POSITION = 10_000
MAX_STRIP = 32


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def digits(text: str) -> str:
    """As people write numbers: spaces, slashes, dots, dashes and brackets are for reading only."""
    return checked("".join(character for character in text if character not in " /.-()"))


def as_pattern(text: str) -> str:
    """A pattern in the letters that it is written with: x, z and n mean X, Z and N."""
    bare = "".join(text.split()).upper()
    if fault := pattern_fault(bare):
        raise ValueError(fault)
    return bare


Text = AfterValidator(checked)
Digits = AfterValidator(digits)


class NumberInput(Input):
    """A number, and what it leads to: a user, a ring group, or a forward."""

    number: Annotated[str, Field(min_length=1, max_length=MAX_NUMBER), Digits]
    user_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    group_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    forward: Annotated[str, Field(max_length=MAX_TARGET), Text] = ""
    schedule_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    forward_closed: Annotated[str, Field(max_length=MAX_TARGET), Text] = ""


class RuleInput(Input):
    """An outbound rule."""

    position: Annotated[int, Field(ge=1, le=MAX_POSITION)] = 10
    prefix: Annotated[str, Field(max_length=MAX_NUMBER), Digits] = ""
    pattern: Annotated[str, Field(max_length=MAX_PATTERN), AfterValidator(as_pattern)] = ""
    strip: Annotated[int, Field(ge=0, le=MAX_STRIP)] | None = None
    """Empty: none."""
    prepend: Annotated[str, Field(max_length=MAX_NUMBER), Digits] = ""
    connection_id: Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]
    fallback_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""

    @property
    def row(self) -> dict[str, Any]:
        return {**self.model_dump(), "strip": self.strip or 0, "fallback_id": self.fallback_id or None}


class OutsideInput(Input):
    """What holds for all calls to the outside."""

    default_connection_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    caller_id: Annotated[str, Field(max_length=MAX_USER_PART), AfterValidator(shown_number)] = ""


MAX_TRIED = 64
"""Characters of a number that is tried."""


class TryInput(Input):
    """A number that is tried, as one would dial it."""

    number: Annotated[str, Field(max_length=MAX_TRIED), Digits] = ""


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""


def values_of(number: Number) -> dict[str, Any]:
    """A saved number as the form shows it."""
    return {name: getattr(number, name) or "" for name in NumberInput.model_fields}


def values_of_rule(rule: OutboundRule) -> dict[str, Any]:
    """A saved rule as the form shows it."""
    values = {name: getattr(rule, name) for name in RuleInput.model_fields}
    return {**values, "fallback_id": rule.fallback_id or "", "strip": rule.strip or ""}
