"""What the pages on connections take. What a host, network or URI may be is the routing's to say (see service)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from panel.forms import Input
from panel.models import Connection
from sipd.routing.checks_text import control_fault
from sipd.routing.lookup import is_address
from sipd.routing.model import MAX_CALLS, MAX_CALLS_PER_SECOND, MAX_DOMAIN, MAX_EXPIRES, MAX_NAME, MIN_EXPIRES

MAX_SOURCES_TEXT = 4000
MAX_PROXY = 300
MAX_ALTERNATES_TEXT = 2400


def checked(text: str) -> str:
    if fault := control_fault(text):
        raise ValueError(fault)
    return text


def checked_lines(text: str) -> str:
    checked(" ".join(text.split()))
    return text


def listed(text: str) -> list[str]:
    """One per line, or with commas or spaces between."""
    return text.replace(",", " ").split()


Text = AfterValidator(checked)


class ConnectionInput(Input):
    """A connection as the form gives it."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME), Text]
    host: Annotated[str, Field(min_length=1, max_length=MAX_DOMAIN), Text]
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    transport: Literal["udp", "tcp", "tls", "auto"] = "udp"
    tls_verify: bool = True
    tls_client: Annotated[str, Field(max_length=MAX_DOMAIN), Text] = ""
    registrar_domain: Annotated[str, Field(max_length=MAX_DOMAIN), Text] = ""
    """Empty: the same as `host`."""
    outbound_proxy: Annotated[str, Field(max_length=MAX_PROXY), Text] = ""
    sources: Annotated[str, Field(max_length=MAX_SOURCES_TEXT), AfterValidator(checked_lines)] = ""
    """Empty: `host`, where that is an IP address."""
    alternates: Annotated[str, Field(max_length=MAX_ALTERNATES_TEXT), AfterValidator(checked_lines)] = ""
    """In the order in which they are tried."""
    media: Literal["direct", "relay"] = "direct"
    strategy: Literal["on_behalf", "relay", "none"] = "on_behalf"
    expires: Annotated[int, Field(ge=MIN_EXPIRES, le=MAX_EXPIRES)] = 600
    internal_calls: Literal["through_pbx", "direct_when_possible", "always_direct"] = "through_pbx"
    caller_id: Literal["account", "from", "asserted", "both"] = "account"
    limit_calls: Annotated[int, Field(ge=1, le=MAX_CALLS)] | None = None
    limit_calls_per_second: Annotated[int, Field(ge=1, le=MAX_CALLS_PER_SECOND)] | None = None
    enabled: bool = True

    @property
    def row(self) -> dict[str, Any]:
        """The values as the row takes them."""
        host = self.host.lower()
        sources = list(dict.fromkeys(listed(self.sources)))
        return {
            **self.model_dump(),
            "port": self.port or 0,
            "host": host,
            "tls_client": self.tls_client.lower(),
            "registrar_domain": (self.registrar_domain or host).lower(),
            "alternates": [each.lower() for each in listed(self.alternates)],
            "sources": sources or ([host] if is_address(host) else []),
        }


class Switch(Input):
    """On or off."""

    on: bool = False


def values_of(connection: Connection) -> dict[str, Any]:
    """A saved connection as the form shows it."""
    values = {name: getattr(connection, name) for name in ConnectionInput.model_fields}
    values["sources"] = "\n".join(connection.sources)
    values["alternates"] = "\n".join(connection.alternates)
    values["port"] = connection.port or ""
    return values
