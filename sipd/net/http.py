"""A small HTTP/1.1 server for those who watch a node: GET and HEAD, one request for each connection (RFC 9112).

What others send can cost little: the size of a request, its time and the number of connections are bounded, and a
newcomer takes the place of the one that has waited longest without asking.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

REQUEST_BYTES = 8192
"""Of a request, with its header; a longer one is answered 431."""
REQUEST_SECONDS = 5.0
"""For a request to be whole; then 408."""
ANSWER_SECONDS = 15.0
"""For the answer to be made and taken; then the connection is cut."""
CONNECTION_LIMIT = 32
"""Connections. For a further one the oldest whose request is not whole is cut; when there is none, 503."""
BACKLOG = 64
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
           408: "Request Timeout", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip
COUNTERS = ("http.requests", "http.bad_requests", "http.cut_slow", "http.refused_full")


class Request(NamedTuple):
    """What was asked for."""

    method: str
    path: str
    """Without its query."""
    authorization: str


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes = b""
    type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class BadRequest(ValueError):
    """What is no request, with its status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


Handler = Callable[[Request], Awaitable[Reply]]


class HttpServer:
    """Serves `handle` on one address. `failed` is told of its faults."""

    def __init__(self, handle: Handler, counters: dict[str, int], failed: Callable[[str, BaseException], None]) -> None:
        self._handle = handle
        self._counters = counters
        self._failed = failed
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: dict[asyncio.Task[None], None] = {}
        """Whose request is not whole, the oldest first."""
        for name in COUNTERS:
            counters.setdefault(name, 0)

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound socket."""
        self._server = await asyncio.start_server(self._serve, sock=sock, limit=REQUEST_BYTES, backlog=BACKLOG)

    def close(self) -> None:
        """Stop; requests under way are not answered."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served in a task")
        full = len(self._tasks) >= CONNECTION_LIMIT
        self._tasks.add(task)
        try:
            if full and not self._make_room():
                self._counters["http.refused_full"] += 1
                await self._send(writer, Reply(503), head=False)
            else:
                self._asking[task] = None
                await self._answer(task, reader, writer)
        except (OSError, asyncio.CancelledError):  # gone, made to go, or we are stopping
            pass
        finally:
            self._tasks.discard(task)
            self._asking.pop(task, None)
            writer.close()

    def _make_room(self) -> bool:
        """Cut the oldest that has not asked for anything yet."""
        oldest = next(iter(self._asking), None)
        if oldest is None:
            return False
        del self._asking[oldest]
        self._counters["http.cut_slow"] += 1
        return oldest.cancel()

    async def _answer(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = False
        try:
            request = parse(await self._read(reader))
        except BadRequest as bad:
            self._counters["http.bad_requests"] += 1
            reply = Reply(bad.status, headers=(("Allow", "GET, HEAD"),) if bad.status == 405 else ())
        else:
            self._asking.pop(task, None)
            self._counters["http.requests"] += 1
            head = request.method == "HEAD"
            reply = await self._handled(request)
        await self._send(writer, reply, head=head)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """A request up to the end of its header. Raises BadRequest, and ConnectionError for one that ended before."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise BadRequest(431) from error
        except TimeoutError as error:
            self._counters["http.cut_slow"] += 1
            raise BadRequest(408) from error
        except asyncio.IncompleteReadError as error:
            raise ConnectionError("the request ended early") from error

    async def _handled(self, request: Request) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._handle(request)
        except Exception as error:  # noqa: BLE001 - `failed` is loud about it
            self._failed("http", error)
            return Reply(500)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply, *, head: bool) -> None:
        writer.write(encode(reply, head=head))
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await writer.drain()


def parse(data: bytes) -> Request:
    """A request's first line, and what is used of its header. Raises BadRequest."""
    first, *lines = data[:-4].split(b"\r\n")
    method, target, version = (*first.split(b" "), b"", b"", b"")[:3]
    if first.count(b" ") != 2 or version not in (b"HTTP/1.0", b"HTTP/1.1") or not target.startswith(b"/"):
        raise BadRequest(400)
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        fields.setdefault(name.lower(), value.strip())
    if version == b"HTTP/1.1" and b"host" not in fields:
        raise BadRequest(400)
    if method not in (b"GET", b"HEAD"):
        raise BadRequest(405)
    path, authorization = target.partition(b"?")[0], fields.get(b"authorization", b"")
    return Request(method.decode(), path.decode("latin-1"), authorization.decode("latin-1"))


def encode(reply: Reply, *, head: bool) -> bytes:
    """The answer's bytes; to HEAD without its body."""
    reason = REASONS.get(reply.status, "")
    body = reply.body or f"{reply.status} {reason}\n".encode()
    lines = [
        f"HTTP/1.1 {reply.status} {reason}", f"Content-Type: {reply.type}", f"Content-Length: {len(body)}",
        "Cache-Control: no-store", "Connection: close", *(f"{name}: {value}" for name, value in reply.headers),
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else body)
