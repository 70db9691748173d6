"""What the provider's pages on tenants take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from panel.forms import Input
from sipd.routing.checks_text import control_fault

MAX_REASON = 500


def checked_reason(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


Reason = Annotated[str, Field(min_length=4, max_length=MAX_REASON), AfterValidator(checked_reason)]


class Suspend(Input):
    reason: Reason


class Enter(Input):
    reason: Reason
    minutes: Literal["15", "60", "240"] = "60"


class Filter(Input):
    """The list's address: anything odd falls back to the default, it is only a view."""

    q: str = ""
    status: str = ""
    sort: str = "name"
