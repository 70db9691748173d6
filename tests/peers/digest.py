"""Digest authentication of the test peers, both sides (RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}
MAX_NONCES = 1000


def fields_of(header: str) -> dict[str, str]:
    """`Digest name="value", name=value` as a dict; names in lower case."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "digest":
        return {}
    pairs = re.findall(r'([A-Za-z0-9_-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,]+)', rest)
    return {name.lower(): re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value for name, value in pairs}


def response(fields: dict[str, str], method: str, password: str) -> str:
    """The response that belongs to the other fields of an Authorization header."""
    digest = HASHES[fields.get("algorithm", "MD5").upper()]
    ha1 = digest(f"{fields['username']}:{fields['realm']}:{password}".encode())
    ha2 = digest(f"{method}:{fields['uri']}".encode())
    middle = f"{fields['nonce']}:"
    if "qop" in fields:
        middle += f"{fields['nc']}:{fields['cnonce']}:{fields['qop']}:"
    return digest(f"{ha1}:{middle}{ha2}".encode())


@dataclass
class Client:
    """Answers challenges for one user; counts the uses of each nonce."""

    username: str
    password: str
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")
    """What this client can do."""
    uses: dict[str, int] = field(default_factory=dict)

    def answer(self, challenges: Iterable[str], method: str, uri: str) -> str | None:
        """The Authorization value for the first challenge that this client can answer (RFC 8760 section 2.4)."""
        for challenge in map(fields_of, challenges):
            if challenge.get("algorithm", "MD5").upper() in self.algorithms and "nonce" in challenge:
                return self._answer(challenge, method, uri)
        return None

    def _answer(self, challenge: dict[str, str], method: str, uri: str) -> str:
        nonce = challenge["nonce"]
        self.uses[nonce] = self.uses.get(nonce, 0) + 1
        fields = {"username": self.username, "realm": challenge["realm"], "nonce": nonce, "uri": uri}
        if "algorithm" in challenge:
            fields["algorithm"] = challenge["algorithm"]
        if "auth" in re.split(r"[\s,]+", challenge.get("qop", "")):
            fields |= {"qop": "auth", "nc": f"{self.uses[nonce]:08x}", "cnonce": secrets.token_hex(8)}
        fields["response"] = response(fields, method, self.password)
        if "opaque" in challenge:
            fields["opaque"] = challenge["opaque"]
        bare = ("algorithm", "qop", "nc")
        return "Digest " + ", ".join(f"{k}={v}" if k in bare else f'{k}="{v}"' for k, v in fields.items())


@dataclass
class Server:
    """Challenges, and checks answers. A nonce holds for `uses_per_nonce` requests, then it is stale."""

    algorithms: tuple[str, ...] = ("MD5",)
    qop: bool = True
    uses_per_nonce: int = 1000
    nonces: dict[str, set[str]] = field(default_factory=dict)
    """Nonce, and the counts that were used with it."""

    def challenges(self, realm: str, stale: bool = False) -> list[str]:
        """One challenge for each algorithm, all with one nonce."""
        if len(self.nonces) >= MAX_NONCES:
            self.nonces.clear()
        nonce = secrets.token_hex(16)
        self.nonces[nonce] = set()
        extra = (', qop="auth"' if self.qop else "") + (", stale=true" if stale else "")
        return [f'Digest realm="{realm}", nonce="{nonce}", algorithm={name}{extra}' for name in self.algorithms]

    def check(self, header: str, method: str, password_of: Callable[[str, str], str | None]) -> str:
        """ "ok", "stale", "replayed", or "wrong". `password_of` takes user name and realm."""
        fields = fields_of(header)
        needed = {"username", "realm", "nonce", "uri", "response"} | ({"qop", "nc", "cnonce"} if self.qop else set())
        if not needed <= fields.keys() or fields.get("algorithm", "MD5").upper() not in self.algorithms:
            return "wrong"
        password = password_of(fields["username"], fields["realm"])
        if password is None or not secrets.compare_digest(
            response(fields, method, password).encode(), fields["response"].lower().encode()
        ):
            return "wrong"
        counts = self.nonces.get(fields["nonce"])
        if counts is None or len(counts) >= self.uses_per_nonce:
            return "stale"
        count = fields.get("nc", str(len(counts)))
        if count in counts:
            return "replayed"
        counts.add(count)
        return "ok"
