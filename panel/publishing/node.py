"""The control channel of one node, as a blocking client: one JSON object per line, request and answer in turn.

The shape of each request and answer is in docs/architecture.md, "Control channel". Nothing here knows the
database: a load asks its caller for the parts that the node says it lacks.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple, Self

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes in one line, both ways."""
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
MAX_ROUNDS = 3
"""How often a load is sent: once with what we think is new, again with what the node lacks, and once for luck."""
MAX_PROBLEMS = 1000
"""How many problems of one answer are kept."""

NOT_READY: Mapping[str, str] = {
    "not-listening": "It does not listen yet.",
    "store": "It cannot write its state, and holds it in memory.",
    "draining": "It drains: calls in progress go on, new ones are refused.",
}
"""Of the words in `not_ready` those that the pages do not tell already: a node without a table has no version."""

Json = dict[str, Any]


class NodeError(Exception):
    """The node did not do what was asked; the text is a sentence for people."""


class NodeAwayError(NodeError):
    """No connection, or it broke: ask again later."""


class NodeRefusedError(NodeError):
    """The node answered no."""

    def __init__(self, message: str, problems: tuple[NodeProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """One thing that a node found wrong in a table."""

    path: str
    message: str
    severity: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node says of itself."""

    version: int
    """The panel's number of the table that it runs; 0: none."""
    hash: str
    since: float
    """Epoch seconds since when it runs this table."""
    uptime: float
    refused_hash: str = ""
    problems: tuple[NodeProblem, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    spool: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Sentences: why it cannot serve calls as it should; empty: it can."""

    @property
    def running_since(self) -> datetime | None:
        """`since` as a time in UTC."""
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(self.since, UTC) if self.since else None
        return None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table is enforced."""

    version: int
    hash: str
    ms: float
    """From the first byte that the node received until it was enforced."""
    problems: tuple[NodeProblem, ...] = ()
    """Warnings."""


class NodeClient:
    """One connection to one node. Use as a context manager; not for several threads at once.

    `address` is as `parse_address` takes it; TCP and TLS need the token. `authorities` says which certificates of nodes
    are believed, see `trusting`.
    """

    def __init__(
        self,
        address: str,
        token: str = "",
        *,
        authorities: str = "",
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.address = address
        self._token = token
        self._authorities = authorities
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._socket: socket.socket | None = None
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the next request connects again."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None
        self._buffer.clear()

    # What can be asked

    def hello(self) -> Json:
        """Name, format and release of the node."""
        return self._ask({"do": "hello", "token": self._token})

    def status(self) -> NodeStatus:
        """What the node runs, and how it is."""
        answer = self._ask({"do": "status"})
        return NodeStatus(
            version=_integer(answer.get("version")),
            hash=_text(answer.get("hash")),
            since=_number(answer.get("since")),
            uptime=_number(answer.get("uptime")),
            refused_hash=_text(answer.get("refused_hash")),
            problems=_problems(answer.get("problems")),
            counters=_counts(answer.get("counters")),
            spool=_counts(answer.get("spool")),
            trouble=_trouble(answer),
        )

    def load(
        self,
        version: int,
        manifest: Json,
        parts: Callable[[Collection[str]], Mapping[str, Any]],
        likely: Collection[str] = (),
    ) -> Loaded:
        """Make a table live. `parts` fetches parts by hash; `likely` are those that the node surely lacks.

        Raises `NodeRefusedError` with the node's problems, or `NodeAwayError`; either way it keeps what it ran.
        """
        wanted = set(likely)
        for _ in range(MAX_ROUNDS):
            body = dict(parts(wanted)) if wanted else {}
            answer = self._exchange({"do": "load", "version": version, "manifest": manifest, "parts": body})
            if answer.get("ok") is True:
                return Loaded(
                    version=_integer(answer.get("version")),
                    hash=_text(answer.get("hash")),
                    ms=_number(answer.get("ms")),
                    problems=_problems(answer.get("problems")),
                )
            missing = _texts(answer.get("missing"))
            if not missing or missing <= wanted:
                raise _refusal(answer)
            wanted |= missing
        raise NodeRefusedError(f"The node still asked for parts after {MAX_ROUNDS} rounds.")

    def events(self, after: int, limit: int) -> tuple[list[Json], int]:
        """Events behind the cursor, and the next cursor. Asking says that all up to `after` are stored."""
        answer = self._ask({"do": "events", "after": after, "limit": limit})
        return _objects(answer.get("events")), _integer(answer.get("next"), after)

    def registrations(self, tenant: str = "") -> tuple[list[Json], list[Json]]:
        """Upstream registrations and bindings, of one tenant or of all."""
        answer = self._ask({"do": "registrations", "tenant": tenant} if tenant else {"do": "registrations"})
        return _objects(answer.get("upstream")), _objects(answer.get("bindings"))

    def calls(self, tenant: str = "") -> list[Json]:
        """Calls in progress, of one tenant or of all."""
        answer = self._ask({"do": "calls", "tenant": tenant} if tenant else {"do": "calls"})
        return _objects(answer.get("calls"))

    def renew(self, tenant: str, connection: str = "") -> int:
        """Send the tenant's upstream registrations again now, paced; how many."""
        body = {"do": "renew", "tenant": tenant}
        if connection:
            body["connection"] = connection
        return _integer(self._ask(body).get("renewed"))

    def bans(self) -> list[Json]:
        """Sources that get no answer now: `source`, `since`, `until`, `reason`, `times`."""
        return _objects(self._ask({"do": "bans"}).get("bans"))

    def unban(self, source: str) -> bool:
        """End a ban; False if there was none."""
        return self._ask({"do": "unban", "source": source}).get("unbanned") is True

    # How it is asked

    def _ask(self, body: Json) -> Json:
        answer = self._exchange(body)
        if answer.get("ok") is not True:
            raise _refusal(answer)
        return answer

    def _exchange(self, body: Json) -> Json:
        line = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            raise NodeError(f"The request has {len(line)} bytes; a node takes at most {LINE_LIMIT} in one line.")
        try:
            connection = self._connected()
            connection.sendall(line)
            return self._answer(connection)
        except OSError as error:
            self.close()
            raise NodeAwayError(f"The node at {self.address} cannot be reached ({_reason(error)}).") from error

    def _connected(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        unix, host, port, tls = parse_address(self.address)
        if unix:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self._connect_seconds)
            try:
                connection.connect(unix)
            except OSError:
                connection.close()
                raise
        else:
            connection = socket.create_connection((host, port), self._connect_seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                connection = self._secured(connection, host)
        connection.settimeout(self._answer_seconds)
        self._socket = connection
        if not unix:
            self._introduce()
        return connection

    def _secured(self, connection: socket.socket, host: str) -> socket.socket:
        """The connection over TLS, to whom we trust; nothing was said before that is known."""
        try:
            context, fingerprints = trusting(self._authorities)
            secured = context.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
        shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if fingerprints and shown not in fingerprints:
            secured.close()
            raise NodeError(
                f"The node at {self.address} shows a certificate with the fingerprint sha256:{shown}, which "
                "TENANTRY_CONTROL_AUTHORITIES does not name."
            )
        return secured

    def _introduce(self) -> None:
        try:
            self.hello()
        except NodeError:
            self.close()
            raise

    def _answer(self, connection: socket.socket) -> Json:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_LIMIT:
                self.close()
                raise NodeError(f"The node at {self.address} sent a line of more than {LINE_LIMIT} bytes.")
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError("it hung up")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            answer = json.loads(line)
        except ValueError as error:
            self.close()
            raise NodeError(f"The node at {self.address} did not answer with JSON.") from error
        if not isinstance(answer, dict):
            self.close()
            raise NodeError(f"The node at {self.address} did not answer with an object.")
        return answer


class NodeAddress(NamedTuple):
    """Where the control channel of a node is."""

    unix: str
    """Path of the socket, or empty."""
    host: str = ""
    port: int = 0
    tls: bool = False

    @property
    def is_open(self) -> bool:
        """Whether others can read along: neither TLS nor on this machine."""
        return not (self.unix or self.tls or is_loopback(self.host))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(address: str) -> NodeAddress:
    """`unix:/path`, `/path`, `tls:host:port`, `tcp:host:port` or `host:port`, which is TCP. Raises NodeError."""
    if address.startswith("unix:"):
        return NodeAddress(address.removeprefix("unix:"))
    if address.startswith("/"):
        return NodeAddress(address)
    tls = address.startswith("tls:")
    host, colon, port = address.removeprefix("tls:" if tls else "tcp:").rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise NodeError(f"“{address}” is no address of a node; write unix:/path or host:port.")
    return NodeAddress("", host.strip("[]"), int(port), tls)


@cache
def trusting(authorities: str) -> tuple[ssl.SSLContext, frozenset[str]]:
    """Which nodes are believed: a file of authorities, else the system's, both for the host's name; or certificates by
    their fingerprints, `sha256:` and 64 hexadecimal digits each. Raises NodeError."""
    words = authorities.replace(",", " ").split()
    prints = frozenset(word[7:].replace(":", "").lower() for word in words if word.startswith("sha256:"))
    if prints:
        if len(prints) < len(set(words)) or any(len(p) != 64 or set(p) - set("0123456789abcdef") for p in prints):
            raise NodeError(f"TENANTRY_CONTROL_AUTHORITIES “{authorities}” is no list of sha256: and 64 digits each.")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the certificate is known itself
        return context, prints
    try:
        return ssl.create_default_context(cafile=authorities or None), prints
    except (OSError, ValueError) as error:
        raise NodeError(f"TENANTRY_CONTROL_AUTHORITIES “{authorities}” cannot be used ({error}).") from error


def _refusal(answer: Json) -> NodeRefusedError:
    message = _text(answer.get("error")) or "The node refused and gave no reason."
    return NodeRefusedError(message, _problems(answer.get("problems")))


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error) or type(error).__name__


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> set[str]:
    return {item for item in value if isinstance(item, str)} if isinstance(value, list) else set()


def _integer(value: object, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _counts(value: object) -> dict[str, int]:
    return {str(name): _integer(count) for name, count in value.items()} if isinstance(value, dict) else {}


def _trouble(answer: Json) -> str:
    """What a status tells of readiness, store and media relays; older nodes tell less."""
    found = [NOT_READY[word] for word in _words(answer.get("not_ready")) if word in NOT_READY]
    store = answer.get("store")
    if isinstance(store, dict) and _text(store.get("error")):
        found.append(f"Its store says: {_text(store.get('error')).rstrip('.')}.")
    silent = [_text(relay.get("address")) for relay in _objects(answer.get("media")) if relay.get("up") is False]
    if silent:
        found.append(f"Media relays that do not answer: {', '.join(silent)}.")
    return " ".join(found)


def _words(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _problems(value: object) -> tuple[NodeProblem, ...]:
    return tuple(
        NodeProblem(_text(item.get("path")), _text(item.get("message")), _text(item.get("severity")) or "error")
        for item in _objects(value)[:MAX_PROBLEMS]
    )
