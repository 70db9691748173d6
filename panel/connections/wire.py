"""What goes on the wire, in a tenant's own values, for people to see. Pure; the rule itself is the edge's."""

from __future__ import annotations

from dataclasses import dataclass

SIP_PORT, SIP_TLS_PORT = 5060, 5061
"""What a SIP address without a port means (RFC 3261 section 19.1.2)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One user's REGISTER and the INVITE that comes back, with the mode on or off."""

    register: tuple[str, ...]
    """Request line and the lines that matter."""
    contact: str
    invite: str
    """Request line of the PBX's call."""


def wire(extension: str, domain: str, registrar: str, edge: str, port: int, transport: str, multi_tenant: bool) -> Wire:
    """The lines for one extension. `edge` is the address that PBXs reach, `port` its port for UDP and TCP.

    What the DNS of the PBX will choose is not known here: `auto` is shown as UDP.
    """
    host = f"[{edge}]" if ":" in edge else edge
    kind = "" if transport in ("udp", "auto") else f";transport={transport}"
    own = SIP_TLS_PORT if transport == "tls" else SIP_PORT
    port = SIP_TLS_PORT if transport == "tls" else port
    if multi_tenant:
        uri = f"sip:{extension}@{domain}" + (f":{port}" if port != own else "") + kind
    else:
        uri = f"sip:{extension}@{host}:{port}{kind};local-domain={domain}"
    register = (f"REGISTER sip:{registrar} SIP/2.0", f"To: <sip:{extension}@{registrar}>")
    return Wire(register, f"Contact: <{uri}>", f"INVITE {uri} SIP/2.0")
