"""Digest: Authorization and WWW-Authenticate, and the arithmetic behind them (RFC 3261 22, RFC 7616, RFC 8760)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sipd.message.errors import BadMessage, LocalError
from sipd.message.grammar import QUOTED, TOKEN, quote, unquote

MAX_PARAMS = 32
"""Parameters in one header; more are refused."""


def _md5(data: bytes) -> str:
    # Digest MD5 is what phones speak (RFC 3261 22.4); SHA-256 is offered before it.
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_HASHES: dict[str, Callable[[bytes], str]] = {"SHA-256": _sha256, "MD5": _md5}
SUPPORTED = tuple(_HASHES)
"""Algorithms, the strongest first (RFC 8760 2.4)."""

_match_scheme = re.compile(rf"({TOKEN})(?:[ \t]+|\Z)").match
_match_param = re.compile(
    rf"[ \t]*({TOKEN})[ \t]*=[ \t]*({QUOTED}|[^\x00-\x20\x7f,\"]*)[ \t]*(?:,|\Z)", re.DOTALL
).match


class Credentials(NamedTuple):
    """What an Authorization or Proxy-Authorization says. Absent parameters are ""."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    """Upper-case; MD5 when not given."""
    cnonce: str = ""
    nc: str = ""
    qop: str = ""
    """Lower-case; "" also when neither nc nor cnonce is there: such clients digest as RFC 2069 had it."""
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Raises BadMessage, also for schemes other than Digest."""
        params = _parse(text)
        for name in ("username", "realm", "nonce", "uri", "response"):
            if name not in params:
                raise BadMessage(400, "Incomplete Credentials")
        return cls(
            params["username"],
            params["realm"],
            params["nonce"],
            params["uri"],
            params["response"].lower(),
            params.get("algorithm", "MD5").upper(),
            params.get("cnonce", ""),
            params.get("nc", ""),
            params.get("qop", "").lower() if params.get("nc") or params.get("cnonce") else "",
            params.get("opaque", ""),
        )

    def __str__(self) -> str:
        text = (
            f"Digest username={quote(self.username)}, realm={quote(self.realm)}, nonce={quote(self.nonce)}, "
            f'uri={quote(self.uri)}, response="{self.response}", algorithm={self.algorithm}'
        )
        if self.qop:
            text += f", qop={self.qop}, nc={self.nc}, cnonce={quote(self.cnonce)}"
        return f"{text}, opaque={quote(self.opaque)}" if self.opaque else text


class Challenge(NamedTuple):
    """What a WWW-Authenticate or Proxy-Authenticate asks for. Absent parameters are ""."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    """Upper-case; MD5 when not given."""
    qop: tuple[str, ...] = ()
    """The values offered, lower-case; empty: RFC 2069, without qop."""
    stale: bool = False
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Challenge:
        """Raises BadMessage, also for schemes other than Digest."""
        params = _parse(text)
        if "realm" not in params or "nonce" not in params:
            raise BadMessage(400, "Incomplete Challenge")
        return cls(
            params["realm"],
            params["nonce"],
            params.get("algorithm", "MD5").upper(),
            tuple(value for part in params.get("qop", "").lower().split(",") if (value := part.strip())),
            params.get("stale", "").lower() == "true",
            params.get("opaque", ""),
        )

    def __str__(self) -> str:
        text = f"Digest realm={quote(self.realm)}, nonce={quote(self.nonce)}, algorithm={self.algorithm}"
        if self.qop:
            text += f', qop="{",".join(self.qop)}"'
        if self.stale:
            text += ", stale=true"
        return f"{text}, opaque={quote(self.opaque)}" if self.opaque else text

    @property
    def supported(self) -> bool:
        """Whether `answer` can answer it."""
        return self.algorithm in _HASHES and (not self.qop or "auth" in self.qop)


def ha1(algorithm: str, user: str, realm: str, password: str) -> str:
    """Hex, lower-case."""
    return _hash(algorithm)(_bytes(f"{user}:{realm}:{password}"))


def digest_response(credentials: Credentials, ha1: str, method: str, body: bytes = b"") -> str:
    """The `response` that these credentials should carry (RFC 7616 3.4.1); `body` counts for qop auth-int only."""
    digest = _hash(credentials.algorithm)
    ha2_text = f"{method}:{credentials.uri}"
    if credentials.qop == "auth-int":
        ha2_text += ":" + digest(body)
    ha2 = digest(_bytes(ha2_text))
    if credentials.qop:
        middle = f"{credentials.nonce}:{credentials.nc}:{credentials.cnonce}:{credentials.qop}"
    else:
        middle = credentials.nonce
    return digest(_bytes(f"{ha1}:{middle}:{ha2}"))


def same_digest(a: str, b: str) -> bool:
    """Compares in constant time; any text is allowed."""
    return hmac.compare_digest(_bytes(a), _bytes(b))


def answer(
    challenge: Challenge,
    username: str,
    password: str,
    method: str,
    uri: str,
    nc: int = 1,
    cnonce: str = "",
    *,
    ha1: str | None = None,
) -> str:
    """Value of the (Proxy-)Authorization that answers `challenge`. With `ha1`, hashed for its algorithm and realm,
    the password does not count. `cnonce` is needed when the challenge offers qop."""
    if not challenge.supported:
        raise LocalError("challenge is not supported")
    if ha1 is None:
        ha1 = _hash(challenge.algorithm)(_bytes(f"{username}:{challenge.realm}:{password}"))
    credentials = Credentials(
        username, challenge.realm, challenge.nonce, uri, "", challenge.algorithm, opaque=challenge.opaque
    )
    if challenge.qop:
        if not cnonce:
            raise LocalError("qop needs a cnonce")
        credentials = credentials._replace(qop="auth", nc=f"{nc:08x}", cnonce=cnonce)
    return str(credentials._replace(response=digest_response(credentials, ha1, method)))


def pick(challenges: Iterable[Challenge]) -> Challenge | None:
    """The strongest that we can answer; the first of equals. None: none."""
    supported = [challenge for challenge in challenges if challenge.supported]
    return min(supported, key=lambda challenge: SUPPORTED.index(challenge.algorithm), default=None)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """All that can be read; other schemes and malformed ones are left out, as one must be able to ignore them."""
    challenges = []
    for value in values:
        try:
            challenges.append(Challenge.parse(value))
        except BadMessage:
            continue
    return challenges


def _hash(algorithm: str) -> Callable[[bytes], str]:
    try:
        return _HASHES[algorithm]
    except KeyError:
        raise LocalError("unsupported digest algorithm") from None


def _parse(text: str) -> dict[str, str]:
    """Parameters of a Digest header. A name given twice is refused: which one would count?"""
    scheme = _match_scheme(text)
    if scheme is None:
        raise BadMessage(400, "Malformed Authentication Header")
    if scheme[1].lower() != "digest":
        raise BadMessage(400, "Unsupported Authentication Scheme")
    params: dict[str, str] = {}
    pos = scheme.end()
    while pos < len(text):
        found = _match_param(text, pos)
        if found is None or len(params) == MAX_PARAMS:
            raise BadMessage(400, "Malformed Authentication Header")
        name, value = found[1].lower(), found[2]
        if name in params:
            raise BadMessage(400, "Repeated Authentication Parameter")
        params[name] = unquote(value) if value[:1] == '"' else value
        pos = found.end()
    return params


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
