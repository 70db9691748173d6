"""How long a node is away when it is killed: `make bench`. From the start of the process until it serves again.

10,000 users in 50 tenants, each with a phone that registered with digest and a registration that the edge keeps at a
PBX (a stand-in that says yes), all over UDP on loopback. Then `kill -9`, start, and wait until the node answers that it
has all of them; so again and again.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sipd.message import build
from sipd.message.message import Message
from sipd.message.scanner import scan
from tests.integration.node import AS_FAST_AS_IT_GOES, Node, wait_for
from tests.unit.core.bench import credentials, request_text, table, tenant, wire

PBX_HOST, PHONE_HOST = "127.0.0.4", "127.0.0.3"
FAST = ("--set", "upstream_rate=100000", "--set", "upstream_total_rate=100000", "--digest", "MD5", *AS_FAST_AS_IT_GOES)
PATIENCE = 120.0
"""Seconds for all to be registered the first time."""


@contextmanager
def pbx() -> Iterator[tuple[str, int]]:
    """Answers each REGISTER with 200; where it listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        sock.bind((PBX_HOST, 0))
        sock.settimeout(0.2)
        stop = threading.Event()
        thread = threading.Thread(target=say_yes, args=(sock, stop), daemon=True)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            stop.set()
            thread.join()


def say_yes(sock: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            data, source = sock.recvfrom(65_535)
        except TimeoutError:
            continue
        request = scan(data)
        headers = [("Contact", request.get("contact") or ""), ("Expires", "3600")]
        sock.sendto(build.response(request, 200, None, "pbx", headers, b"", source), source)


def register_phones(node: Node, tenants: int, users: int) -> None:
    """One phone for each user, each from a port of its own as far as the edge is concerned: its Contact."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((PHONE_HOST, 0))
        sock.connect((node.host, node.port))
        sock.settimeout(2)
        for number in range(tenants):
            for extension in range(100, 100 + users):
                register(sock, str(extension), f"t{number}.example")


def register(sock: socket.socket, extension: str, domain: str) -> None:
    host, port = sock.getsockname()
    contact = {"Contact": f"<sip:{extension}-{domain}@{host}:{port}>;expires=3600"}

    def ask(cseq: int, headers: dict[str, str]) -> Message:
        aor, name = f"<sip:{extension}@{domain}>", f"{extension}-{domain}"
        text = request_text(
            "REGISTER", f"sip:{domain}", from_=f"{aor};tag=r", to=aor, call_id=name, cseq=cseq,
            via=f"SIP/2.0/UDP {host}:{port}", branch=f"z9hG4bK{name}-{cseq}", headers=headers,
        )  # fmt: skip
        while True:
            sock.send(wire(text))
            try:
                return scan(sock.recv(65_535))
            except TimeoutError:
                continue

    proof = credentials(ask(1, contact), extension, "REGISTER", f"sip:{domain}")
    answer = ask(2, {**contact, "Authorization": proof})
    if answer.status != 200:
        raise RuntimeError(f"{extension}@{domain} is not registered: {answer.status}")


def is_whole(node: Node, count: int) -> bool:
    """Whether all phones and registrations are there."""
    upstream = sum(row["state"] == "registered" for row in node.upstream())
    return upstream == count and node.ask("status")["vitals"]["bindings"] == count


def has_all(node: Node, count: int) -> bool:
    """Whether the node counts all of them."""
    vitals = node.ask("status")["vitals"]
    return vitals["bindings"] == vitals["upstream"] == count


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tenants", type=int, default=50)
    options.add_argument("--users", type=int, default=200, help="of each tenant")
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    count = asked.tenants * asked.users
    extensions = tuple(str(number) for number in range(100, 100 + asked.users))
    with tempfile.TemporaryDirectory() as name, pbx() as (host, port):
        link = {"host": host, "port": port, "sources": (host,)}
        tenants = [
            tenant(f"t{n}", extensions=extensions, strategy="on_behalf", of_connection=link)
            for n in range(asked.tenants)
        ]
        node = Node(Path(name))
        node.start(*FAST)
        try:
            node.load(table(*tenants))
            register_phones(node, asked.tenants, asked.users)
            wait_for(lambda: is_whole(node, count), PATIENCE)
            rounds = [restart(node, count) for _ in range(asked.rounds)]
        finally:
            node.close()
    print(f"\nkill -9 and start, with {count} bindings and {count} upstream registrations")
    took, spent = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    print(f"  {took:.2f} s from the start of the process until it answers that it has all of them,")
    print(f"  {spent:.2f} s of processor time in these; medians of {asked.rounds}")


def restart(node: Node, count: int) -> tuple[float, float]:
    """Seconds that it took, and seconds of processor time."""
    node.end(signal.SIGKILL)
    began = time.monotonic()
    node.start(*FAST)
    wait_for(lambda: has_all(node, count))
    took = time.monotonic() - began
    assert node.process is not None
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    if not is_whole(node, count):
        raise RuntimeError("some are lost")
    return took, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
