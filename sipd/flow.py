"""Where bytes come from and go to, as plain values that the core can hold and the store can keep."""

from __future__ import annotations

from typing import NamedTuple


class Flow(NamedTuple):
    """A remote address as seen by one of our listeners; for streams also the connection itself."""

    transport: str
    """"udp" or "tcp"."""
    host: str
    """IP address, IPv6 without brackets."""
    port: int
    listener: int
    """Index in `Settings.listeners`: the socket that received, or that shall send."""

    @property
    def reliable(self) -> bool:
        """Streams need no retransmission (RFC 3261 section 17)."""
        return self.transport != "udp"


class Listener(NamedTuple):
    """A socket that the edge listens on, and how others reach it."""

    transport: str
    host: str
    port: int
    advertised_host: str
    """What goes into Via and Contact (RFC 3261 18.1.1); differs from `host` behind NAT."""
    advertised_port: int


class Query(NamedTuple):
    """A host name that the core wants resolved before it can send."""

    host: str
    port: int
    """0: the default of the transport."""
    transport: str
