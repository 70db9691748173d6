"""sipp as phone, caller and PBX straight at the edge: scenarios of this folder, and phones that stay registered."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.kamailio.sipp import SCENARIOS as COMMON
from tests.integration.kamailio.sipp import SECONDS, SippRun
from tests.integration.node import Node, wait_for
from tests.integration.sip.conftest import PBX_HOST
from tests.peers.wire import Hop, free_port
from tests.unit.core.bench import PASSWORD

SCENARIOS = Path(__file__).with_name("scenarios")


@dataclass(frozen=True)
class SippAtEdge:
    """Starts sipp against one node over one transport."""

    folder: Path
    """For logs."""
    node: Node
    transport: str = "udp"

    @property
    def edge(self) -> Hop:
        return Hop(self.transport, self.node.host, self.node.port)

    def start(
        self,
        scenario: str,
        *options: str,
        host: str = "127.0.0.1",
        port: int = 0,
        calls: int = 1,
        rate: int = 10,
        seconds: int = SECONDS,
        user: str = "101",
        domain: str = "acme.example",
        service: str = "",
        **keys: str,
    ) -> SippRun:
        """Begin a scenario; `options` are sipp's own."""
        port = port or free_port(host)
        stem = self.folder / f"{scenario}-{port}"
        command = ["sipp", f"{self.edge.host}:{self.edge.port}", "-sf", str(scenario_file(scenario))]
        command += ["-i", host, "-p", str(port), "-t", "t1" if self.transport == "tcp" else "u1"]
        command += ["-m", str(calls), "-r", str(rate), "-timeout", f"{seconds}s", "-timeout_error", "-nostdin"]
        command += ["-max_socket", "1000", "-s", service or user, "-au", user, "-ap", PASSWORD]
        command += ["-trace_msg", "-message_file", f"{stem}.messages", "-trace_err", "-error_file", f"{stem}.errors"]
        for name, value in {
            "domain": domain,
            "user": user,
            "caller": "sip:caller@public.example",
            "q": "1.0",
            **keys,
        }.items():
            command += ["-key", name, value]
        return SippRun([*command, *options], stem, port, seconds)

    def run(self, scenario: str, *options: str, **more: object) -> SippRun:
        """Run a scenario to its end. Raises `SippError`."""
        with self.start(scenario, *options, **more) as run:  # type: ignore[arg-type]
            run.wait()
        return run

    def call(self, scenario: str = "call", *options: str, **more: object) -> SippRun:
        """Play the PBX: call `user` at `domain`, to the end."""
        return self.run(scenario, *options, host=PBX_HOST, **more)

    @contextlib.contextmanager
    def phone(
        self, calls: str = "answer", user: str = "101", domain: str = "acme.example", q: str = "1.0"
    ) -> Iterator[SippRun]:
        """A registered phone; what calls it gets the scenario `calls`. It is ended, not waited for."""
        others = len(self.node.bindings())
        with self.start("phone", "-oocsf", str(scenario_file(calls)), user=user, domain=domain, seconds=60, q=q) as run:
            wait_for(lambda: len(self.node.bindings()) > others)
            yield run


def scenario_file(name: str) -> Path:
    """From this folder, or of those that other tests use too."""
    own = SCENARIOS / f"{name}.xml"
    return own if own.exists() else COMMON / f"{name}.xml"


def wait_until_bound(transport: str, host: str, port: int) -> None:
    """Until a server that was just started has its socket."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM

    def bound() -> bool:
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return True
        return False

    wait_for(bound)


def count(run: SippRun, start: str) -> int:
    """How many messages of a run began so, sent and received, retransmissions included."""
    return sum(line.startswith(start) for line in run.messages().splitlines())
