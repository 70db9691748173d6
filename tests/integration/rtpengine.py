"""The real rtpengine in user space, on loopback: started, asked by its ng protocol, killed, started again."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from sipd import ng
from tests.peers.wire import free_port

HOST = "127.0.0.1"
PORTS = 200
"""RTP ports; a call takes eight at most."""
PATIENCE = 15.0
LIFE = "120"
"""Seconds after which it is ended, should the test be killed."""


class RealRtpengine:
    """One process; a context manager. `port` and the RTP ports stay the same over restarts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = free_port(HOST)
        low = min(free_port(HOST) & ~1, 65535 - PORTS)
        self.rtp = range(low, low + PORTS)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """For `sipd run --media`."""
        return f"udp:{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Start, and wait until it answers a ping. No kernel module is asked for."""
        command = [
            "timeout", "--foreground", LIFE, "rtpengine", "--table=-1", "--foreground",
            f"--interface={HOST}", "--interface=::1",
            f"--listen-ng={HOST}:{self.port}", f"--port-min={self.rtp[0]}", f"--port-max={self.rtp[-1]}",
            "--log-stderr", "--log-level=5", f"--pidfile={self._folder / 'pid'}", "--config-file=none",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self._is_up():
            assert time.monotonic() < end, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if number == signal.SIGKILL:
            subprocess.run(["kill", "-9", (self._folder / "pid").read_text().strip()], check=True)
        else:
            process.send_signal(number)
        process.wait(PATIENCE)

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def ask(self, command: str, **fields: ng.Value) -> dict[str, Any]:
        """One ng request; raises TimeoutError."""
        cookie = secrets.token_hex(4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect((HOST, self.port))
            sock.send(ng.message(cookie, {"command": command, **fields}))
            back, reply = ng.parse(sock.recv(65_535))
        assert back == cookie
        return reply

    def calls(self) -> list[str]:
        """Names of the sessions that it has."""
        return [name.decode() for name in self.ask("list", limit=1000)["calls"]]

    def packets(self, name: str) -> dict[str, int]:
        """RTP packets that came to each side of a session, by its tag."""
        tags = self.ask("query", **{"call-id": name})["tags"]
        return {
            tag: sum(s["stats"]["packets"] for m in side["medias"] for s in m["streams"] if b"RTP" in s["flags"])
            for tag, side in tags.items()
        }

    def _is_up(self) -> bool:
        try:
            return bool(self.ask("ping")["result"] == b"pong")
        except OSError:
            return False
