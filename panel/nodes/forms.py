"""What the pages on nodes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.publishing.node import NodeError, parse_address
from sipd.routing.checks_text import name_fault

MAX_TOKEN = 200
KINDS = ("unix:", "/", "tcp:", "tls:")
"""How addresses begin that say themselves what they are."""


def checked_name(text: str) -> str:
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


def checked_address(text: str) -> str:
    """Over TLS unless the text says otherwise; between machines it is TLS or nothing, as secrets go there."""
    try:
        place = parse_address(text if text.startswith(KINDS) else f"tls:{text}")
    except NodeError as error:
        raise ValueError(str(error)) from error
    if place.unix:
        raise ValueError("A node elsewhere is reached at host:port. The one on this machine is entered by itself.")
    if place.is_open:
        raise ValueError("Without TLS, others could read the token and all secrets on the way. Leave out tcp: here.")
    return text if text.startswith(KINDS) else f"tls:{text}"


class NodeInput(Input):
    """A node on another machine."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(checked_name)]
    control: Annotated[str, Field(min_length=1, max_length=300), AfterValidator(checked_address)]
    token: Annotated[str, Field(min_length=16, max_length=MAX_TOKEN)]
