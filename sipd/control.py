"""The control channel: one JSON object per line, request and answer in turn (docs/architecture.md).

Over the Unix socket the file's mode (0600) is the permission; over TCP, which is TLS between machines, the first
request is `hello` with the token. Whatever comes in, the answer is one line; a line that cannot be answered for is the
last one.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sipd.config import Address, ConfigError
from sipd.net.threads import DaemonThreads
from sipd.net.tls import Pair

log = logging.getLogger("sipd.control")

LINE_BYTES = 64 * 1024 * 1024
"""Longest line, with its end."""
HELLO_BYTES = 4096
"""Longest line before the token was shown."""
HELLO_SECONDS = 10.0
"""Over TCP, for the token to come."""
LINE_SECONDS = 120.0
"""For one line to be complete once it has begun."""
CONNECTION_LIMIT = 32
"""Control connections; a further one takes the place of one that is quiet, else it is told so and closed."""
QUIET_SECONDS = 5.0
"""A peer that has waited so long with its next line, or with reading an answer, makes room for another."""
INLINE_BYTES = 64 * 1024
"""A longer line is read as JSON in a thread, so that calls do not wait for it."""
READ_BYTES = 256 * 1024
BACKLOG = 32

Doc = dict[str, Any]
Kind = TypeVar("Kind")
Handler = Callable[[Doc, float], Awaitable[Doc]]
"""Takes the request and the loop's time of its first byte. Raises RequestError."""


class ControlCertificate:
    """What the control channel shows over TLS, for connections made from now on."""

    def __init__(self, pair: Pair) -> None:
        """Raises ConfigError."""
        self._pair = pair
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if problem := self.reload():
            raise ConfigError(problem)

    def reload(self) -> str:
        """Read the files anew; why they could not be taken, or empty. Then those in use stay."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._pair, password=_no_password)
            self.context.load_cert_chain(*self._pair, password=_no_password)
        except (OSError, ValueError) as error:
            return f"The control certificate {self._pair.chain} cannot be used with its key {self._pair.key}: {error}."
        return ""


def _no_password() -> str:
    raise ValueError("the key is locked with a password; take one without")


class RequestError(ValueError):
    """A request that cannot be answered; a sentence."""


class NoPlaceError(ConfigError):
    """The control socket cannot be made where it is to be: the disk does not take it."""


class LineError(ValueError):
    """The peer's line is too long or took too long; a sentence. The connection ends."""


class Lines:
    """The lines of one connection, each with the loop's time of its first byte."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self._began = 0.0

    async def next(self, limit: int, patience: float | None = None) -> tuple[bytes, float] | None:
        """The next line without its end, or None at the end of the stream; waits `patience` seconds for its
        first byte. Raises LineError."""
        loop = asyncio.get_running_loop()
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched >= limit:
                break
            left = self._began + LINE_SECONDS - loop.time() if searched else patience
            try:
                async with asyncio.timeout(left):
                    data = await self._reader.read(READ_BYTES)
            except TimeoutError as error:
                raise LineError("The line did not come to its end in time.") from error
            if not data:
                return None
            if not searched:
                self._began = loop.time()
            self._buffer += data
        if end < 0 or end >= limit:
            raise LineError(f"The line has more than {limit} bytes; send less at a time.")
        line, began = bytes(self._buffer[:end]), self._began
        del self._buffer[: end + 1]
        self._began = loop.time()
        return line, began


class Control:
    """The servers, and what each connection goes through. `handlers` are by the request's `do`."""

    def __init__(self, handlers: Mapping[str, Handler], counters: dict[str, int], token: str = "") -> None:
        self._handlers = handlers
        self._counters = counters
        self._token = token
        self._threads = DaemonThreads(2, "control")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet: dict[asyncio.Task[None], float] = {}
        """Since when a connection waits for its peer, the longest first."""
        self._path: Path | None = None
        for name in ("control.requests", "control.bad_requests", "control.bad_tokens", "control.hung_up"):
            counters.setdefault(name, 0)

    async def listen_unix(self, path: Path) -> None:
        """Serve on a Unix socket that only our user can open. Raises ConfigError."""
        sock = bind_unix(path)
        self._path = path
        self._servers.append(await asyncio.start_unix_server(self._trusted, sock=sock, backlog=BACKLOG))

    async def listen_tcp(self, address: Address, certificate: ControlCertificate | None = None) -> Address:
        """Serve on TCP, by token, over TLS if there is a certificate; the address that was bound. Raises OSError."""
        if not self._token:
            raise ValueError("the control channel over TCP needs a token")
        secure: dict[str, Any] = {}
        if certificate is not None:
            secure = {"ssl": certificate.context, "ssl_handshake_timeout": HELLO_SECONDS}
        server = await asyncio.start_server(self._untrusted, address.host, address.port, backlog=BACKLOG, **secure)
        self._servers.append(server)
        return Address(*server.sockets[0].getsockname()[:2])

    @property
    def by_socket(self) -> bool:
        """Whether there is a Unix socket to ask at."""
        return self._path is not None

    def close(self) -> None:
        """Stop serving; requests under way are not answered."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _trusted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, trusted=True)

    async def _untrusted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, trusted=False)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trusted: bool) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served in a task")
        self._tasks.add(task)
        try:
            if len(self._tasks) > CONNECTION_LIMIT and not self._make_room():
                await self._answer(writer, _failure(f"There are {CONNECTION_LIMIT} control connections; close one."))
                return
            await self._converse(Lines(reader), writer, trusted)
        except LineError as error:
            with suppress(OSError):
                await self._answer(writer, _failure(str(error)))
        except OSError:  # gone
            pass
        except asyncio.CancelledError:  # it makes room, or we are stopping
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            self._quiet.pop(task, None)
            writer.close()

    def _make_room(self) -> bool:
        """Whether one that hangs could be ended."""
        for task, since in self._quiet.items():
            if asyncio.get_running_loop().time() - since < QUIET_SECONDS:
                return False
            del self._quiet[task]
            self._counters["control.hung_up"] += 1
            return task.cancel()
        return False

    async def _waited(self, work: Coroutine[Any, Any, Kind]) -> Kind:
        """What it gives, for which the peer has to do its part."""
        task = asyncio.current_task()
        if task is not None:
            self._quiet[task] = asyncio.get_running_loop().time()
        try:
            return await work
        finally:
            if task is not None:
                self._quiet.pop(task, None)

    async def _converse(self, lines: Lines, writer: asyncio.StreamWriter, trusted: bool) -> None:
        if not trusted and not await self._admitted(lines, writer):
            return
        while (item := await self._waited(lines.next(LINE_BYTES))) is not None:
            line, began = item
            if line.strip():
                await self._answer(writer, await self._handled(line, began))

    async def _admitted(self, lines: Lines, writer: asyncio.StreamWriter) -> bool:
        """Whether the first line is a hello with the token; it is answered either way."""
        item = await self._waited(lines.next(HELLO_BYTES, HELLO_SECONDS))
        if item is None:
            return False
        line, began = item
        try:
            request = _read(line)
        except RequestError:
            request = {}
        token = request.get("token")
        given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        if request.get("do") != "hello" or not hmac.compare_digest(given, self._token.encode()):
            self._counters["control.bad_tokens"] += 1
            log.warning("control connection without the token peer=%r", writer.get_extra_info("peername"))
            await self._answer(writer, _failure("The first request must be hello with the right token."))
            return False
        await self._answer(writer, await self._handled(line, began))
        return True

    async def _handled(self, line: bytes, began: float) -> Doc:
        """The answer to one line."""
        self._counters["control.requests"] += 1
        loop = asyncio.get_running_loop()
        try:
            if len(line) > INLINE_BYTES:
                request = await loop.run_in_executor(self._threads, _read, line)
            else:
                request = _read(line)
            handler = self._handlers.get(text(request, "do"))
            if handler is None:
                raise RequestError(f'"do" is none of {", ".join(self._handlers)}.')
            return {"ok": True, **await handler(request, began)}
        except RequestError as error:
            self._counters["control.bad_requests"] += 1
            return _failure(str(error))
        except Exception:
            log.exception("control request failed")
            return _failure("The node failed at this request; its log says why.")

    async def _answer(self, writer: asyncio.StreamWriter, answer: Doc) -> None:
        writer.write(await asyncio.get_running_loop().run_in_executor(self._threads, _written, answer))
        async with asyncio.timeout(LINE_SECONDS):
            await self._waited(writer.drain())


def bind_unix(path: Path) -> socket.socket:
    """A bound Unix socket of mode 0600 in place of a stale one. Raises ConfigError."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise NoPlaceError(f"The control socket {path} cannot be made: {error.strerror}.") from error
    finally:
        os.umask(mask)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise NoPlaceError(f"The control socket {path} cannot be made: {error.strerror}.") from error
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} exists and is no socket; remove it, or choose another path with --control PATH.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise NoPlaceError(f"The old control socket {path} cannot be removed: {error.strerror}.") from error
            return
        except OSError:  # somebody is there, but busy or not ours
            pass
    raise ConfigError(f"Another sipd is alive on {path}; stop it, or choose another path with --control PATH.")


# What requests hold


def text(request: Doc, name: str) -> str:
    """A text that must be there. Raises RequestError."""
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise RequestError(f'"{name}" must be a text.')
    return value


def optional_text(request: Doc, name: str) -> str | None:
    """A text, or None if absent, null or empty. Raises RequestError."""
    return text(request, name) if request.get(name) not in (None, "") else None


def whole(request: Doc, name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number between `low` and `high`. Raises RequestError."""
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f'"{name}" must be a whole number from {low} to {high}.')
    return value


def mapping(request: Doc, name: str) -> Doc:
    """An object that must be there. Raises RequestError."""
    value = request.get(name)
    if not isinstance(value, dict):
        raise RequestError(f'"{name}" must be an object.')
    return value


def _read(line: bytes) -> Doc:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError("The line is no JSON in UTF-8.") from error
    if not isinstance(request, dict):
        raise RequestError('The line is no JSON object; write it like {"do":"status"}.')
    return request


def _written(answer: Doc) -> bytes:
    try:
        return json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError):
        log.exception("control answer is no JSON")
        return b'{"ok":false,"error":"The node failed at this answer; its log says why."}\n'


def _failure(sentence: str) -> Doc:
    return {"ok": False, "error": sentence}
