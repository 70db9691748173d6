"""A node that runs nothing: it speaks the control channel, keeps what it is told, and lets a test decide the rest.

For tests, and for looking at pages without an edge: `python -m panel.publishing.fake /tmp/node.sock`.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]


class FakeNode:
    """Listens on a Unix socket in a thread of its own. Fields may be changed at any time by the test."""

    def __init__(self, path: Path, name: str = "fake") -> None:
        self.path = path
        self.name = name
        self.version = 0
        self.hash = ""
        self.since = 0.0
        self.ms = 1.5
        self.parts: dict[str, Json] = {}
        self.requests: list[Json] = []
        self.refuse: list[Json] = []
        """Problems with which the next loads are refused."""
        self.refused_hash = ""
        self.events: list[Json] = []
        self.upstream: list[Json] = []
        self.bindings: list[Json] = []
        self.calls: list[Json] = []
        self.bans: list[Json] | None = []
        """None: it knows of none, as a release from before."""
        self.condition: Json = {}
        """What else its status tells."""
        self.raw_answers: list[bytes] = []
        """Sent instead of an answer, one by one."""
        self._server: socketserver.ThreadingUnixStreamServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; the socket exists when this returns."""
        node = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    if node._server is None:  # stopped: hang up on those who are still connected
                        return
                    with suppress(OSError):  # who asked may have hung up
                        self.wfile.write(node._line(line))

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            block_on_close = False

        self.path.unlink(missing_ok=True)
        self._server = Server(str(self.path), Handler)
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serve.start()

    def stop(self) -> None:
        """Go away, as a node that is switched off."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Come back with an empty disk."""
        self.version, self.hash, self.since, self.parts = 0, "", 0.0, {}

    def happened(self, kind: str, **keys: Any) -> Json:
        """Append an event; ids rise by one."""
        event = {"id": len(self.events) + 1, "at": keys.pop("at", time.time()), "kind": kind, **keys}
        self.events.append(event)
        return event

    def _line(self, line: bytes) -> bytes:
        request = json.loads(line)
        self.requests.append(request)
        if self.raw_answers:
            return self.raw_answers.pop(0)
        answer = getattr(self, f"_do_{request.get('do')}", self._unknown)(request)
        return json.dumps(answer).encode() + b"\n"

    def _unknown(self, request: Json) -> Json:
        return {"ok": False, "error": f"unknown request {request.get('do')!r}"}

    def _do_hello(self, request: Json) -> Json:
        return {"ok": True, "node": self.name, "format": 1, "release": "0.1.0"}

    def _do_status(self, request: Json) -> Json:
        spool = {"first": 1, "next": len(self.events) + 1}
        status: Json = {"version": self.version, "hash": self.hash, "since": self.since, "uptime": 12.5}
        status["refused_hash"] = self.refused_hash
        told = {**status, **self.condition}
        return {"ok": True, **told, "problems": self.refuse, "counters": {"calls": 3}, "spool": spool}

    def _do_load(self, request: Json) -> Json:
        manifest = request["manifest"]
        if self.refuse:
            self.refused_hash = _hash(manifest)
            return {"ok": False, "error": "The table was refused.", "problems": self.refuse}
        known = {**self.parts, **request["parts"]}
        needed = {manifest["installation"], *manifest["tenants"].values()}
        if missing := sorted(needed - known.keys()):
            return {"ok": False, "missing": missing}
        self.parts = {name: known[name] for name in needed}
        self.hash = _hash(manifest)
        self.version, self.since = request["version"], time.time()
        return {"ok": True, "version": self.version, "hash": self.hash, "ms": self.ms, "problems": []}

    def _do_events(self, request: Json) -> Json:
        after, limit = request["after"], request["limit"]
        batch = [event for event in self.events if event["id"] > after][:limit]
        return {"ok": True, "events": batch, "next": batch[-1]["id"] if batch else after}

    def _do_registrations(self, request: Json) -> Json:
        return {"ok": True, "upstream": self._of(self.upstream, request), "bindings": self._of(self.bindings, request)}

    def _do_calls(self, request: Json) -> Json:
        return {"ok": True, "calls": self._of(self.calls, request)}

    def _do_renew(self, request: Json) -> Json:
        return {"ok": True, "renewed": len(self._of(self.upstream, request))}

    def _do_bans(self, request: Json) -> Json:
        return self._unknown(request) if self.bans is None else {"ok": True, "bans": self.bans}

    def _do_unban(self, request: Json) -> Json:
        if self.bans is None:
            return self._unknown(request)
        left = [ban for ban in self.bans if ban["source"] != request["source"]]
        unbanned, self.bans = len(left) < len(self.bans), left
        return {"ok": True, "unbanned": unbanned}

    @staticmethod
    def _of(rows: list[Json], request: Json) -> list[Json]:
        tenant = request.get("tenant")
        return [row for row in rows if not tenant or row.get("tenant") == tenant]


def _hash(manifest: Json) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


if __name__ == "__main__":
    with FakeNode(Path(sys.argv[1])):
        threading.Event().wait()
