"""Users whose phone holds the account at the PBX (wire.md: strategy relay): who they are, and what passes for them.

The edge cannot answer a challenge for them, nor check what the phone answers: both pass as they came.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sipd.auth import PbxAccount, account_of
from sipd.message.auth import Credentials
from sipd.message.message import Message
from sipd.message.uri import Uri
from sipd.routing.decision import Dialled, destination, outbound_routes
from sipd.routing.lookup import TenantIndex
from sipd.routing.model import Connection, User

CREDENTIALS = ("authorization", "proxy-authorization")
INSIDE = "relay-internal"
"""Rule of a call to somebody of the tenant that goes through the PBX all the same."""
CHALLENGES = ("www-authenticate", "proxy-authenticate")


class Line(NamedTuple):
    """A user whose phone registers at a PBX itself, and where."""

    user: User
    connection: Connection
    account: PbxAccount


def line_of(index: TenantIndex, user: User | None) -> Line | None:
    """The first account of a user at a connection in use with strategy relay; None: the edge knows the user itself."""
    for entry in user.upstream if user is not None else ():
        connection = index.connections.get(entry.connection)
        if connection is not None and connection.strategy == "relay" and entry.username and user is not None:
            account = account_of(index, user, connection)
            if account is not None:
                return Line(user, connection, account)
    return None


def line_named(index: TenantIndex, uri: Uri) -> Line | None:
    """That of the user whom a From or To names in one of the tenant's domains."""
    return line_of(index, index.user(uri.user or "")) if uri.host in index.tenant.domains else None


def passes(account: PbxAccount | None) -> bool:
    """Whether challenges to this account are for the phone to answer."""
    return account is not None and account.relayed


def untouched(message: Message, names: Iterable[str]) -> list[bytes]:
    """The lines of these headers as they came; but none with a NUL, which may be quoted and is not to be carried on."""
    lines = (message.lines(name) for name in names if message.has(name))
    return [line for line in lines if b"\0" not in line]


def credentials_of(request: Message) -> list[bytes]:
    """A phone's answers to challenges."""
    return untouched(request, CREDENTIALS)


def challenges_of(response: Message) -> list[bytes]:
    """A PBX's challenges."""
    return untouched(response, CHALLENGES)


def speaks_as(request: Message, line: Line) -> bool:
    """Whether all digest credentials of a request are of the user's own account. A PBX should find out by itself that
    another's are used, but not all do. Raises BadMessage for those that cannot be read, as one may read them that way
    and another this way."""
    account, host = line.account, line.connection.registrar_domain
    own = {name for user in (account.username, account.auth_username) for name in (user, f"{user}@{host}")}
    values = [value for name in CREDENTIALS for value in request.all(name)]
    digests = [value for value in values if value[:6].lower() == "digest"]
    return all(Credentials.parse(value).username in own for value in digests)


def dial(index: TenantIndex, line: Line, number: str) -> Dialled:
    """Where what such a user dials goes: to its PBX, which alone can tell who it is, also for another user of the
    tenant. The outbound rules that lead there make the number."""
    if not number:
        return Dialled("no-number", 404)
    if destination(index, number, None) is not None:
        return Dialled(INSIDE, connection=line.connection, number=number)
    routes = outbound_routes(index, number)
    sent = next((to for connection, to in routes if connection is line.connection), number)
    return Dialled("relay", connection=line.connection, number=sent)


class StableNames:
    """Call-ID and tag of what is passed on outside of a dialog: the same when a phone sends it once more with
    credentials, as a PBX may know its nonce in that Call-ID only (RFC 3261 8.1.3.5)."""

    def __init__(self, token: Callable[[int], str]) -> None:
        """`token` makes random text; it is asked when there is something to name."""
        self._token = token
        self._key = b""

    def of(self, request: Message) -> tuple[str, str]:
        """Call-ID and tag."""
        self._key = self._key or self._token(16).encode()
        text = f"{request.call_id}\n{request.from_.tag}\n{request.from_.uri_text}"
        name = hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
        return name[:32], name[32:48]
