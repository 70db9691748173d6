"""sipp, bounded: so many calls, so many seconds, and its log at hand."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.peers.wire import Hop, free_port

SCENARIOS = Path(__file__).with_name("scenarios")
SECONDS = 20
"""After which sipp gives up by itself."""
GRACE = 5.0
"""Seconds more, after which it is ended."""
MAX_SHOWN = 4000
"""Characters of sipp's screen in an error."""


class SippError(AssertionError):
    """The scenario did not go through; the text holds what sipp said and the messages."""


@dataclass(frozen=True)
class Sipp:
    """What all runs of one test share."""

    folder: Path
    """For logs."""
    host: str = "127.0.0.1"

    def start(
        self,
        scenario: str | Path,
        remote: Hop,
        *,
        port: int = 0,
        calls: int = 1,
        rate: int = 10,
        seconds: int = SECONDS,
        service: str = "",
        user: str = "",
        password: str = "",
        keys: Mapping[str, str] | None = None,
    ) -> SippRun:
        """Begin a scenario: a name in `scenarios/`, or a path."""
        port = port or free_port(self.host)
        path = scenario if isinstance(scenario, Path) else SCENARIOS / f"{scenario}.xml"
        stem = self.folder / f"sipp-{path.stem}-{port}"
        command = ["sipp", f"{remote.host}:{remote.port}", "-sf", str(path), "-i", self.host, "-p", str(port)]
        command += ["-t", "t1" if remote.transport == "tcp" else "u1", "-m", str(calls), "-r", str(rate)]
        command += ["-timeout", f"{seconds}s", "-timeout_error", "-nostdin", "-max_socket", "1000"]
        command += ["-trace_msg", "-message_file", f"{stem}.messages", "-trace_err", "-error_file", f"{stem}.errors"]
        for option, value in (("-s", service), ("-au", user), ("-ap", password)):
            command += [option, value] if value else []
        for name, value in (keys or {}).items():
            command += ["-key", name, value]
        return SippRun(command, stem, port, seconds)

    def run(self, scenario: str | Path, remote: Hop, **options: object) -> SippRun:
        """Run a scenario to its end. Raises `SippError`."""
        with self.start(scenario, remote, **options) as run:  # type: ignore[arg-type]
            run.wait()
        return run

    def register(
        self, user: str, domain: str, password: str, remote: Hop, *, contact: str = "", port: int = 0
    ) -> SippRun:
        """Register a Contact URI; by default the one of this address and port."""
        port = port or free_port(self.host)
        suffix = ";transport=tcp" if remote.transport == "tcp" else ""
        keys = {"domain": domain, "contact_uri": contact or f"sip:{user}@{self.host}:{port}{suffix}"}
        return self.run("register", remote, port=port, service=user, user=user, password=password, keys=keys)

    def phone(
        self, user: str, domain: str, password: str, remote: Hop, *, contact: str = "", calls: int = 1
    ) -> SippRun:
        """A phone that registered, and answers `calls` calls: leave the context, or `wait`, for its end."""
        registered = self.register(user, domain, password, remote, contact=contact)
        return self.start("answer", remote, port=registered.port, calls=calls, service=user)

    def call(self, user: str, domain: str, remote: Hop, *, caller: str = "sip:caller@public.example") -> SippRun:
        """Call `sip:user@domain` and hang up."""
        return self.run("call", remote, service=user, keys={"domain": domain, "caller": caller})


class SippRun:
    """One sipp process; a context manager that leaves no process behind."""

    def __init__(self, command: list[str], stem: Path, port: int, seconds: int) -> None:
        self.port = port
        self._stem = stem
        self._limit = seconds + GRACE
        self._screen = stem.with_suffix(".screen").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._screen, stderr=subprocess.STDOUT, cwd=stem.parent
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Until it ended by itself. Raises `SippError` unless all calls went through."""
        try:
            code = self._process.wait(self._limit)
        except subprocess.TimeoutExpired:
            code = -1
        self.stop()
        if code != 0:
            raise SippError(
                f"sipp ended with {code}\n{self.errors()}\n{self.messages()}\n{self._text('.screen')[-4000:]}"
            )

    def stop(self) -> None:
        """End it now; may be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(GRACE)
        self._screen.close()

    def messages(self) -> str:
        """All that was sent and received."""
        return self._text(".messages")

    def errors(self) -> str:
        return self._text(".errors")

    def _text(self, suffix: str) -> str:
        path = self._stem.with_name(self._stem.name + suffix)
        return path.read_text(errors="replace") if path.exists() else ""
