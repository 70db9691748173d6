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
from typing import NamedTuple

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
from sipd.routing.seal import Cipher, SealError, is_sealed, seal, unseal
from sipd.settings import Settings

FIELD = {"SHA-256": "ha1_sha256", "MD5": "ha1_md5"}
HEAD = struct.Struct(">Q6s6s")
"""Of a nonce: milliseconds since the epoch, what makes it unique, and whom it is for."""
MAC_BYTES = 12
WINDOW = 64
"""Counts of one nonce that may come in another order than they were sent, as requests overtake each other."""
MOST_COUNT = 0xFFFFFFFF


class Verdict(Enum):
    """What became of a request's credentials."""

    ABSENT = "absent"
    STALE = "stale"
    """Right nonce of ours, but too old or used before: to be asked again with stale=true."""
    WRONG = "wrong"
    """Unknown user and wrong password alike."""
    GOOD = "good"


class Checked(NamedTuple):
    """What was found of a request's credentials."""

    verdict: Verdict
    user: User | None = None
    """Who it is, if they are good."""
    username: str = ""
    """Who it says that it is, with a nonce of ours for that place."""


class Made(NamedTuple):
    """A nonce of ours."""

    at: float
    """Epoch seconds."""
    here: bool
    """Whether it was made for the place that it comes from now."""


class Uses:
    """The counts that one nonce has come with."""

    __slots__ = ("highest", "made", "seen")

    def __init__(self, made: float) -> None:
        self.made = made
        self.highest = 0
        self.seen = 0
        """Bit n: `highest` less n has been used."""

    def take(self, count: int) -> bool:
        """Whether this count is used for the first time, as far as that can be known."""
        ahead = count - self.highest
        if ahead > 0:
            self.seen = ((self.seen << min(ahead, WINDOW)) | 1) & ((1 << WINDOW) - 1)
            self.highest = count
            return True
        if -ahead >= WINDOW or self.seen >> -ahead & 1:
            return False
        self.seen |= 1 << -ahead
        return True


class Challenges:
    """Nonces that are signed, so that nothing is kept of those that nobody uses; of the others, which counts were.

    A nonce is for one realm and one place, and each of its counts is good once.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], memory: int) -> None:
        self._random = random_bytes
        self._secret = random_bytes(32)
        self._memory = memory
        self._uses: OrderedDict[str, Uses] = OrderedDict()
        self._forgotten = 0.0
        """The newest of those whose uses were forgotten: what was made until then may have been used."""

    def make(self, realm: str, place: str, now: float) -> str:
        head = HEAD.pack(int(now * 1000), self._random(6), self._mark(place))
        return base64.urlsafe_b64encode(head + self._mac(head, realm)).decode().rstrip("=")

    def read(self, nonce: str, realm: str, place: str) -> Made | None:
        """None: it is not ours, or for another realm."""
        try:
            data = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            return None
        head, mac = data[: HEAD.size], data[HEAD.size :]
        if len(head) != HEAD.size or not hmac.compare_digest(mac, self._mac(head, realm)):
            return None
        milliseconds, _, mark = HEAD.unpack(head)
        return Made(milliseconds / 1000, hmac.compare_digest(mark, self._mark(place)))

    def use(self, credentials: Credentials, made: float) -> bool:
        """Note that a nonce was used; whether it could be. Without qop there is no count, and it serves once."""
        nonce, uses = credentials.nonce, self._uses.get(credentials.nonce)
        count = _count(credentials.nc) if credentials.qop else MOST_COUNT
        if not count or (uses is None and made <= self._forgotten) or (uses is not None and not credentials.qop):
            return False
        if uses is None:
            uses = self._uses[nonce] = Uses(made)
            if not credentials.qop:
                uses.seen = (1 << WINDOW) - 1  # no count is left
        self._uses.move_to_end(nonce)
        while len(self._uses) > self._memory:
            self._forgotten = max(self._forgotten, self._uses.popitem(last=False)[1].made)
        return uses.take(count)

    def _mark(self, place: str) -> bytes:
        return hmac.new(self._secret, place.encode(), hashlib.sha256).digest()[:6]

    def _mac(self, head: bytes, realm: str) -> bytes:
        return hmac.new(self._secret, head + realm.encode(), hashlib.sha256).digest()[:MAC_BYTES]


def _count(text: str) -> int:
    """`nc`, eight hexadecimal digits as written by those who keep to RFC 7616 3.4; 0 for what is none."""
    return int(text, 16) if 0 < len(text) <= 8 and not set(text) - HEX else 0


HEX = frozenset("0123456789abcdefABCDEF")


class Authenticator:
    """Challenges, and compares digests with the same work for every cause of failure."""

    def __init__(self, cipher: Cipher, random_bytes: Callable[[int], bytes], settings: Settings) -> None:
        self._cipher = cipher
        self._offered = settings.digest
        self._md5_only = settings.md5_only_agents
        self._life = settings.nonce_life
        self._memory = settings.nonce_memory
        self._nonces = Challenges(random_bytes, settings.nonce_memory)
        self._opened: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        """By tenant, user and sealed text: a seal holds for one place, and opens nowhere else."""
        nobody = base64.b16encode(random_bytes(16)).decode()
        self._nobody = {name: seal(cipher, ("", "", FIELD[name]), ha1(name, "", "", nobody)) for name in FIELD}
        """What is opened and compared when there is no user."""

    def challenges(
        self, realm: str, agent: str, place: str, *, stale: bool, now: float, web: bool = False
    ) -> list[tuple[str, str]]:
        """WWW-Authenticate headers, the preferred first (RFC 8760 2.4), all with one nonce for `place`.

        `agent` is the request's User-Agent: some give up at what they do not know, instead of passing it over. `web`:
        it came over a WebSocket, where the stacks of browsers read one challenge only and do MD5 alone.
        """
        nonce = self._nonces.make(realm, place, now)
        only_md5 = "MD5" in self._offered and (web or any(name in agent.lower() for name in self._md5_only))
        flag = ", stale=true" if stale else ""
        return [
            ("WWW-Authenticate", f'Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{flag}')
            for name in (("MD5",) if only_md5 else self._offered)
        ]

    def check(self, request: Message, index: TenantIndex, place: str, now: float) -> Checked:
        """Whose request this is, by its Authorization or Proxy-Authorization for the tenant's realm.

        Credentials with a nonce that was made for another place are stale if they are right, as a phone may have moved;
        else they count as none, as anybody can send them in somebody's name.
        """
        realm = index.tenant.primary_domain
        credentials = find_credentials(request, realm)
        if credentials is None or credentials.algorithm not in self._offered:
            return Checked(Verdict.ABSENT)
        made = self._nonces.read(credentials.nonce, realm, place)
        if made is None:
            return Checked(Verdict.ABSENT)
        user = index.user(credentials.username)
        if not self._right(credentials, index, user, request):
            return Checked(Verdict.WRONG, None, credentials.username) if made.here else Checked(Verdict.ABSENT)
        if now - made.at > self._life or not made.here or not self._nonces.use(credentials, made.at):
            return Checked(Verdict.STALE)
        return Checked(Verdict.GOOD, user, credentials.username)

    def _right(self, credentials: Credentials, index: TenantIndex, user: User | None, request: Message) -> bool:
        """Whether the digest is the user's. Wherever it is not, as much was done: one seal opened, one digest made."""
        algorithm = credentials.algorithm
        field = FIELD[algorithm]
        sealed = getattr(user, field) if user is not None else ""
        key = (index.tenant.id, user.id if user is not None else "", sealed)
        remembered = self._opened.get(key) if is_sealed(sealed) else None
        secret = remembered or (self._open(key[:2], field, sealed) if is_sealed(sealed) else "")
        known = secret or self._open(("", ""), field, self._nobody[algorithm])
        expected = digest_response(credentials, known, request.method, request.body)
        right = bool(same_digest(expected, credentials.response) and secret)
        if right and remembered is None:
            self._remember(key, secret)
        elif not right and remembered is not None:
            self._open(("", ""), field, self._nobody[algorithm])
        return right

    def _open(self, owner: tuple[str, str], field: str, sealed: str) -> str:
        """An HA1; "" when it does not open."""
        try:
            return unseal(self._cipher, (*owner, field), sealed)
        except SealError:
            return ""

    def _remember(self, key: tuple[str, str, str], secret: str) -> None:
        self._opened[key] = secret
        if len(self._opened) > self._memory:
            self._opened.popitem(last=False)


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
