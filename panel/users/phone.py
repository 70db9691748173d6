"""What a phone is told: server, user, realm, and the same as a QR code. Pure."""

from __future__ import annotations

import io
from dataclasses import dataclass
from urllib.parse import quote

import segno

SIP_PORT = 5060
UNRESERVED = "-_.!~*'()&=+$,;?/"
"""May stand in the user part of a SIP URI as it is (RFC 3261 section 25.1, user-unreserved)."""
PASSWORD_UNRESERVED = "-_.!~*'()&=+$,"  # noqa: S105  an alphabet
QR_SCALE = 5


@dataclass(frozen=True, slots=True)
class PhoneSettings:
    """One user's settings; the password only at its first showing."""

    server: str
    port: int
    transport: str
    user: str
    domain: str
    password: str = ""
    pbx: str = ""
    """Name of the connection to the PBX whose account the phone uses; empty: ours. Realm and password are the PBX's."""
    sign_in: str = ""
    """User name of the digest at that PBX."""

    @property
    def realm(self) -> str:
        """Empty: what the PBX says."""
        return "" if self.pbx else self.domain

    @property
    def address(self) -> str:
        """The user's SIP address, as others call it."""
        return f"{self.user}@{self.domain}"

    @property
    def proxy(self) -> str:
        """Outbound proxy: leads the phone to the edge, whatever the domain's DNS says."""
        host = f"[{self.server}]" if ":" in self.server else self.server
        return host if self.port == SIP_PORT else f"{host}:{self.port}"

    @property
    def uri(self) -> str:
        """As softphones scan it: a SIP URI (RFC 3261 section 19.1.1)."""
        user = quote(self.user, safe=UNRESERVED)
        if self.password:
            user += ":" + quote(self.password, safe=PASSWORD_UNRESERVED)
        return f"sip:{user}@{self.domain};transport={self.transport}"


def qr_code(text: str) -> str:
    """An SVG that stands in a page by itself; without inline styles, as the page's policy wants it."""
    out = io.BytesIO()
    code = segno.make(text, error="m", micro=False)
    code.save(out, kind="svg", scale=QR_SCALE, border=3, dark="#182433", light="#ffffff", xmldecl=False, svgns=True)
    return out.getvalue().decode()
