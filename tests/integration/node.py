"""A real `sipd run` process on loopback, for tests: start, load a table, ask, kill, start again."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sipd import commands
from sipd.routing import codec
from sipd.routing.model import Table
from tests.peers.wire import free_port

ROOT = Path(__file__).parents[2]
Doc = dict[str, Any]
RATES = ("register_rate", "register_burst", "request_rate", "request_burst", "pbx_rate", "pbx_burst",
         "tenant_register_rate", "tenant_register_burst", "tenant_request_rate", "tenant_request_burst")  # fmt: skip
AS_FAST_AS_IT_GOES = tuple(word for name in RATES for word in ("--set", f"{name}=1000000"))
"""For load: all of it comes from one address."""
PATIENCE = 20.0
"""Seconds that a test waits for what should come at once."""


class Node:
    """One node in a directory. `port` stays the same over restarts."""

    def __init__(self, path: Path, host: str = "127.0.0.1", key: bytes = bytes(range(64))) -> None:
        self.path = path
        self.host = host
        self.port = free_port(host)
        self.control = path / "control.sock"
        self.process: subprocess.Popen[str] | None = None
        self.log = ""
        self.flags: tuple[str, ...] = ()
        """Of the last start."""
        self.web_port = 0
        self._version = 0
        key_file = path / "key"
        key_file.write_text(base64.b64encode(key).decode() + "\n")
        key_file.chmod(0o600)

    def start(self, *flags: str) -> None:
        """Start and wait until it answers."""
        self.flags = flags
        listen = [f"--listen={transport}:{self.host}:{self.port}" for transport in ("udp", "tcp")]
        command = [sys.executable, "-m", "sipd", "run", "--state", str(self.path), "--drain=0", *listen, *flags]
        with (self.path / "log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, text=True)
        wait_for(lambda: self.control.exists() and self._answers())

    def _answers(self) -> bool:
        try:
            self.ask("status")
        except commands.UnreadableError:
            return False
        return True

    def ask(self, do: str, **rest: object) -> Doc:
        return commands.ask(self.control, {"do": do, **rest})

    def load(self, table: Table) -> Doc:
        """Load a whole table; the node's answer. Raises UnreadableError with the problems when it is refused."""
        encoded = codec.encode(table)
        self._version += 1
        return self.ask("load", version=self._version, manifest=encoded.manifest, parts=encoded.parts)

    def upstream(self) -> list[Doc]:
        found: list[Doc] = self.ask("registrations")["upstream"]
        return found

    def bindings(self) -> list[Doc]:
        found: list[Doc] = self.ask("registrations")["bindings"]
        return found

    def events(self, kind: str = "") -> list[Doc]:
        found: list[Doc] = self.ask("events", after=0, limit=10_000)["events"]
        return [event for event in found if not kind or event["kind"] == kind]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Exit code after a signal; the log so far is in `log`."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        self.log = (self.path / "log").read_text()
        self.process = None
        return code

    def close(self) -> None:
        """For fixtures: end it if it runs, and show a fault of its own."""
        if self.process is not None:
            self.end(signal.SIGTERM)
        assert "Traceback" not in self.log, self.log


def wait_for(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
