"""What the pages on publications take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.publishing.service import MAX_REASON
from sipd.routing.checks_text import control_fault


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


class Publish(Input):
    """Why; for the history."""

    reason: Annotated[str, Field(max_length=MAX_REASON), AfterValidator(checked)] = ""
