"""What the pages on numbers and outbound rules take. What a number may be is the routing's to say."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.models.base import ID_LENGTH
from panel.models.tenancy import MAX_NUMBER, MAX_TARGET
from sipd.routing.checks_text import control_fault

MAX_POSITION = 10_000
MAX_STRIP = 32


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def digits(text: str) -> str:
    """As people write numbers: spaces, slashes, dots, dashes and brackets are for reading only."""
    return checked("".join(character for character in text if character not in " /.-()"))


Text = AfterValidator(checked)
Digits = AfterValidator(digits)


class NumberInput(Input):
    """A number, and either the user that it rings or what it forwards to."""

    number: Annotated[str, Field(min_length=1, max_length=MAX_NUMBER), Digits]
    user_id: Annotated[str, Field(max_length=ID_LENGTH)] = ""
    forward: Annotated[str, Field(max_length=MAX_TARGET), Text] = ""


class RuleInput(Input):
    """An outbound rule."""

    position: Annotated[int, Field(ge=1, le=MAX_POSITION)] = 10
    prefix: Annotated[str, Field(max_length=MAX_NUMBER), Digits] = ""
    strip: Annotated[int, Field(ge=0, le=MAX_STRIP)] | None = None
    """Empty: none."""
    prepend: Annotated[str, Field(max_length=MAX_NUMBER), Digits] = ""
    connection_id: Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]

    @property
    def row(self) -> dict[str, Any]:
        return {**self.model_dump(), "strip": self.strip or 0}


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""
