"""Via (RFC 3261 20.42, RFC 3581)."""

from __future__ import annotations

import re
from typing import NamedTuple

from sipd.message.errors import BadMessage
from sipd.message.grammar import HOST, TOKEN, format_params, number, parse_params, unbracketed

_match = re.compile(
    rf"SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*({TOKEN})[ \t]+({HOST})(?:[ \t]*:[ \t]*([0-9]+))?[ \t]*(?=;|\Z)", re.IGNORECASE
).match

MAGIC_COOKIE = "z9hG4bK"
"""Begins the branch of every RFC 3261 client (8.1.1.7)."""


class Via(NamedTuple):
    """One hop. Immutable: `_replace` makes another."""

    transport: str
    """Upper-case."""
    host: str
    """Sent-by as written, IPv6 without brackets."""
    port: int | None
    params: dict[str, str | None]

    @property
    def branch(self) -> str | None:
        return self.params.get("branch")

    @classmethod
    def parse(cls, text: str) -> Via:
        found = _match(text)
        if found is None:
            raise BadMessage(400, "Malformed Via")
        transport, host, port = found.groups()
        end = found.end()
        return cls(
            transport.upper(),
            unbracketed(host),
            None if port is None else number(port, 65535, "Via Port"),
            parse_params(text, end) if end < len(text) else {},
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {host}{port}{format_params(self.params)}"
