"""Digest authentication of phones (RFC 7616, RFC 8760): our own signed nonces, nothing kept per challenge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sipd.message.auth import (
    Challenge,
    Credentials,
    answer,
    digest_response,
    ha1,
    parse_challenges,
    pick,
    same_digest,
)
from sipd.message.errors import BadMessage
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User
from sipd.routing.seal import Cipher, SealError, unseal
from sipd.settings import Settings

FIELD = {"SHA-256": "ha1_sha256", "MD5": "ha1_md5"}
MAC_BYTES = 12


class Verdict(Enum):
    """What became of a request's credentials."""

    ABSENT = "absent"
    STALE = "stale"
    """Right nonce of ours, but too old or used before: to be asked again with stale=true."""
    WRONG = "wrong"
    """Unknown user and wrong password alike."""
    GOOD = "good"


class Authenticator:
    """Issues and checks nonces, and compares digests in the same time for every cause of failure."""

    def __init__(self, cipher: Cipher, random_bytes: Callable[[int], bytes], settings: Settings) -> None:
        self._cipher = cipher
        self._random = random_bytes
        self._secret = random_bytes(32)
        self._offered = settings.digest
        self._md5_only = settings.md5_only_agents
        self._life = settings.nonce_life
        self._memory = settings.nonce_memory
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._nobody = ha1("MD5", "", "", base64.b16encode(random_bytes(16)).decode())
        self._opened: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        """By tenant, user and sealed text: a seal holds for one place, and opens nowhere else."""

    def challenges(
        self, realm: str, agent: str, *, stale: bool, now: float, web: bool = False
    ) -> list[tuple[str, str]]:
        """WWW-Authenticate headers, the preferred first (RFC 8760 2.4), all with one nonce.

        `agent` is the request's User-Agent: some give up at what they do not know, instead of passing it over. `web`:
        it came over a WebSocket, where the stacks of browsers read one challenge only and do MD5 alone.
        """
        nonce = self._nonce(realm, now)
        only_md5 = "MD5" in self._offered and (web or any(name in agent.lower() for name in self._md5_only))
        flag = ", stale=true" if stale else ""
        return [
            ("WWW-Authenticate", f'Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{flag}')
            for name in (("MD5",) if only_md5 else self._offered)
        ]

    def check(self, request: Message, index: TenantIndex, now: float) -> tuple[Verdict, User | None]:
        """Whose request this is, by its Authorization or Proxy-Authorization for the tenant's realm."""
        realm = index.tenant.primary_domain
        credentials = find_credentials(request, realm)
        if credentials is None:
            return Verdict.ABSENT, None
        made = self._made_at(credentials.nonce, realm)
        if made is None or credentials.algorithm not in self._offered:
            return Verdict.ABSENT, None
        user = index.user(credentials.username)
        secret = self._ha1(index, user, credentials.algorithm) if user else ""
        expected = digest_response(credentials, secret or self._nobody, request.method, request.body)
        right = same_digest(expected, credentials.response)
        if not (right and secret):
            return Verdict.WRONG, None
        if now - made > self._life or not self._fresh(credentials):
            return Verdict.STALE, None
        return Verdict.GOOD, user

    def _ha1(self, index: TenantIndex, user: User, algorithm: str) -> str:
        """The opened HA1, remembered by its sealed text; "" when there is none or it does not open."""
        sealed = getattr(user, FIELD[algorithm])
        key = (index.tenant.id, user.id, sealed)
        if key not in self._opened:
            try:
                self._opened[key] = unseal(self._cipher, (index.tenant.id, user.id, FIELD[algorithm]), sealed)
            except SealError:
                return ""
            if len(self._opened) > self._memory:
                self._opened.popitem(last=False)
        return self._opened[key]

    def _nonce(self, realm: str, now: float) -> str:
        head = struct.pack(">Q", int(now * 1000)) + self._random(6)
        return base64.urlsafe_b64encode(head + self._mac(head, realm)).decode().rstrip("=")

    def _mac(self, head: bytes, realm: str) -> bytes:
        return hmac.new(self._secret, head + realm.encode(), hashlib.sha256).digest()[:MAC_BYTES]

    def _made_at(self, nonce: str, realm: str) -> float | None:
        """When we made this nonce for this realm; None when we did not."""
        try:
            data = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            return None
        head, mac = data[:14], data[14:]
        if len(head) != 14 or not hmac.compare_digest(mac, self._mac(head, realm)):
            return None
        return float(struct.unpack(">Q", head[:8])[0]) / 1000

    def _fresh(self, credentials: Credentials) -> bool:
        """Whether the nonce counter rose; without qop there is none, and a nonce serves once."""
        try:
            count = int(credentials.nc, 16) if credentials.qop else 1
        except ValueError:
            return False
        if count <= self._counts.get(credentials.nonce, 0):
            return False
        self._counts[credentials.nonce] = count if credentials.qop else 1 << 32
        self._counts.move_to_end(credentials.nonce)
        if len(self._counts) > self._memory:
            self._counts.popitem(last=False)
        return True


def find_credentials(request: Message, realm: str) -> Credentials | None:
    """The request's digest credentials for this realm, from either header; other schemes do not count."""
    for name in ("authorization", "proxy-authorization"):
        for value in request.all(name):
            try:
                credentials = Credentials.parse(value)
            except BadMessage:
                continue
            if credentials.realm == realm:
                return credentials
    return None


def find_realms(request: Message) -> list[str]:
    """Realms for which the request carries digest credentials."""
    realms = []
    for name in ("authorization", "proxy-authorization"):
        for value in request.all(name):
            try:
                realms.append(Credentials.parse(value).realm)
            except BadMessage:
                continue
    return realms


@dataclass(frozen=True, slots=True)
class PbxAccount:
    """Who a user is at the PBX of one connection, and the sealed password that proves it."""

    tenant: str
    user: str
    connection: str
    username: str
    auth_username: str
    password: str
    """Sealed for (tenant, user, connection, "upstream")."""
    relayed: bool = False
    """The phone holds the password (strategy relay): its credentials pass, and so do challenges."""

    def open(self, cipher: Cipher) -> str:
        """The password; "" when it does not open, or is the phone's alone."""
        if self.relayed:
            return ""
        try:
            return unseal(cipher, (self.tenant, self.user, self.connection, "upstream"), self.password)
        except SealError:
            return ""


Nonces = dict[tuple[str, str], tuple[Challenge, int]]
"""By header and realm: the challenge, and how often its nonce has served."""
MAX_CHALLENGES = 4
"""Challenges to one request, of proxies and the server behind them, that are answered."""


class Proof:
    """Our answers to all that challenge one request, a proxy and the server behind it (RFC 3261 22.2, 22.3).

    Each is answered once, and again only when it says that our nonce was stale. Nonces of an earlier request may be
    answered before anybody asks (RFC 7616 3.6): whoever challenges that, asks for the first time.
    """

    __slots__ = ("_account", "_ahead", "_asked", "_cipher", "_count")

    def __init__(self, account: PbxAccount | None, cipher: Cipher) -> None:
        self._account = account
        self._cipher = cipher
        self._asked: Nonces = {}
        self._ahead: Nonces = {}
        """Answered unasked."""
        self._count = 0

    def ahead(self, nonces: Nonces, method: str, uri: str, cnonce: str) -> list[tuple[str, str]]:
        """Credentials for a request that nobody has challenged yet, by the nonces of an earlier one."""
        password = self._account.open(self._cipher) if self._account is not None else ""
        if not password:
            return []
        self._ahead = {key: (challenge, used + 1) for key, (challenge, used) in nonces.items()}
        return self._answers(self._ahead, password, method, uri, cnonce)

    @property
    def went_ahead(self) -> bool:
        """Whether credentials went out that nobody has objected to."""
        return bool(self._ahead)

    @property
    def nonces(self) -> Nonces:
        """What served, for the next request: nonces with a counter only, as others are good for once."""
        served = {**self._ahead, **self._asked}
        return {key: (challenge, used) for key, (challenge, used) in served.items() if challenge.qop}

    def headers(self, response: Message, method: str, uri: str, cnonce: str) -> list[tuple[str, str]] | None:
        """Credentials for the request once more, after this 401 or 407; None when that is of no use."""
        proxy = response.status == 407
        new = pick(parse_challenges(response.all("proxy-authenticate" if proxy else "www-authenticate")))
        password = self._account.open(self._cipher) if self._account is not None else ""
        if new is None or self._account is None or not password or self._count == MAX_CHALLENGES:
            return None
        key = ("Proxy-Authorization" if proxy else "Authorization", new.realm)
        self._ahead.pop(key, None)
        self._asked.update(self._ahead)
        self._ahead = {}
        old = self._asked.get(key)
        if old is not None and (old[0].nonce == new.nonce or not new.stale):
            return None
        self._count += 1
        self._asked[key] = (new, 0)
        self._asked = {key: (challenge, used + 1) for key, (challenge, used) in self._asked.items()}
        return self._answers(self._asked, password, method, uri, cnonce)

    def _answers(self, nonces: Nonces, password: str, method: str, uri: str, cnonce: str) -> list[tuple[str, str]]:
        username = self._account.auth_username if self._account is not None else ""
        return [
            (name, answer(challenge, username, password, method, uri, used, cnonce))
            for (name, _), (challenge, used) in nonces.items()
        ]


def at_pbx(connection: Connection, user: str) -> str:
    """The URI of a user or number at this connection's PBX."""
    return str(Uri.build(user, connection.registrar_domain))


def account_of(index: TenantIndex, user: User, connection: Connection) -> PbxAccount | None:
    """The user's account at this connection's PBX, if it has one."""
    for account in user.upstream:
        if account.connection == connection.id:
            auth_username = account.auth_username or account.username
            relayed = connection.strategy == "relay"
            return PbxAccount(
                index.tenant.id, user.id, connection.id, account.username, auth_username, account.password, relayed
            )
    return None
