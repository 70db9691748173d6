"""baresip as a phone without a sound device: a file for a microphone, and its control socket for a hand."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
import wave
from pathlib import Path
from typing import Any, Self

from tests.peers.wire import Hop, free_port

MODULES = "/usr/lib/baresip/modules"
CONFIG = """\
poll_method epoll
sip_listen {host}:{sip}
rtp_ports {rtp}-{rtp_end}
audio_source aufile,{sound}
module_path {modules}
module g711.so
module aufile.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
"""
RTP_PORTS = 20
LIFE = 60
"""Seconds after which it ends by itself."""
PATIENCE = 10.0
"""Seconds that a test waits for what should come at once."""
STOP_SECONDS = 3.0


class BaresipError(AssertionError):
    """What was waited for did not come; the text holds its events and its log."""


class Baresip:
    """One running baresip with one account; a context manager."""

    def __init__(
        self, folder: Path, user: str, domain: str, password: str, edge: Hop, answer: str = "manual", config: str = "",
        account: str = "",
    ) -> None:  # fmt: skip
        """`config`: further lines of its configuration; `account`: further parameters of its account."""
        self._config = CONFIG + config
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = free_port(self.host)
        self.events: list[dict[str, Any]] = []
        """All that it told, the oldest first."""
        self._transport = edge.transport
        self._account = (
            f"<sip:{user}@{domain};transport={edge.transport}>;auth_pass={password};regint=120;answermode={answer}"
            f';outbound="sip:{edge.host}:{edge.port};transport={edge.transport}"{account}'
        )
        self._control_port = free_port(self.host)
        self._process: subprocess.Popen[bytes] | None = None
        self._control = socket.socket()
        self._buffer = b""
        self._taken = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        rtp = free_port(self.host) & ~1
        ports = {"sip": self.port, "control": self._control_port, "rtp": rtp, "rtp_end": min(rtp + RTP_PORTS, 65535)}
        sound = self.folder / "sound.wav"
        write_sound(sound)
        (self.folder / "config").write_text(self._config.format(host=self.host, modules=MODULES, sound=sound, **ports))
        (self.folder / "accounts").write_text(self._account + "\n")
        (self.folder / "contacts").touch()
        command = ["baresip", "-4", "-f", str(self.folder), "-s", "-t", str(LIFE)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._connect()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _connect(self) -> None:
        end = time.monotonic() + PATIENCE
        while self._control.connect_ex((self.host, self._control_port)):
            if time.monotonic() > end:
                raise BaresipError(f"no control socket\n{self.log()}")
            self._control.close()
            time.sleep(0.05)
            self._control = socket.socket()

    def stop(self) -> None:
        """End it now; may be called twice."""
        self._control.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def log(self) -> str:
        """What it wrote, all messages included."""
        return (self.folder / "log").read_text(errors="replace")

    def do(self, command: str, params: str = "") -> None:
        """One command of its menu: dial, accept, hangup, reginfo."""
        text = json.dumps({"command": command, "params": params, "token": command}).encode()
        self._control.sendall(b"%d:%s," % (len(text), text))

    def wait(self, kind: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The next event of this kind that was not waited for before; earlier ones are passed over."""
        end = time.monotonic() + patience
        while True:
            while self._taken < len(self.events):
                event = self.events[self._taken]
                self._taken += 1
                if event.get("type") == kind:
                    return event
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                seen = [event.get("type") for event in self.events]
                raise BaresipError(f"no {kind} within {patience} s; events: {seen}\n{self.log()}")

    def _read(self, patience: float) -> bool:
        """Take what its control socket has; whether there was anything."""
        if not select.select([self._control], [], [], patience)[0]:
            return False
        data = self._control.recv(65536)
        self._buffer += data
        while (colon := self._buffer.find(b":")) > 0:
            end = colon + 1 + int(self._buffer[:colon])
            if len(self._buffer) <= end:
                break
            self.events.append(json.loads(self._buffer[colon + 1 : end]))
            self._buffer = self._buffer[end + 1 :]
        return bool(data)


def write_sound(path: Path, seconds: int = 10) -> None:
    """A square wave of 400 Hz: 8000 Hz, mono, as the codec takes it."""
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes((b"\x00\x20" * 10 + b"\x00\xe0" * 10) * 400 * seconds)
