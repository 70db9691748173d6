"""A flood of SIP from one loopback address: `python -m tests.peers.flood HOST PORT SOURCE RATE SECONDS`.

It stops by itself. A mix of what floods are made of: scans, guesses, calls, junk and large messages.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import time

KINDS = ("REGISTER", "INVITE", "OPTIONS", "BYE", "junk", "large")
TURN = 0.01
"""Seconds between two bursts."""
MOST_RATE, MOST_SECONDS = 50_000, 60.0


def message(number: int, source: str) -> bytes:
    kind = KINDS[number % len(KINDS)]
    if kind == "junk":
        return bytes(range(256)) * 2
    method = "INVITE" if kind == "large" else kind
    domain = ("acme.example", "127.0.0.1", "nowhere.example")[number % 3]
    lines = [
        f"{method} sip:{number % 1000}@{domain} SIP/2.0", f"Via: SIP/2.0/UDP {source};branch=z9hG4bK{number};rport",
        f"From: <sip:{number % 1000}@{domain}>;tag={number}", f"To: <sip:{number % 1000}@{domain}>",
        f"Call-ID: {number}@{source}", f"CSeq: 1 {method}", "Max-Forwards: 70", "User-Agent: a phone",
    ]  # fmt: skip
    if kind == "large":
        lines += [f"X-Header-{n}: {'x' * 200}" for n in range(20)]
    return ("\r\n".join(lines) + "\r\nContent-Length: 0\r\n\r\n").encode()


def flood(host: str, port: int, source: str, rate: int, seconds: float) -> int:
    """Send `rate` messages a second for `seconds`; how many went out. Raises ValueError beyond the bounds."""
    if not (0 < rate <= MOST_RATE and 0 < seconds <= MOST_SECONDS and host.startswith("127.")):
        raise ValueError("a flood is for loopback, and bounded")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((source, 0))
        prepared = [message(number, source) for number in range(3000)]
        began, sent = time.monotonic(), 0
        for data in itertools.cycle(prepared):
            now = time.monotonic() - began
            if now >= seconds:
                return sent
            if sent >= now * rate:
                time.sleep(TURN)
            try:
                sock.sendto(data, (host, port))
            except BlockingIOError:
                continue
            sent += 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("host", str), ("port", int), ("source", str), ("rate", int), ("seconds", float)):
        parser.add_argument(name, type=kind)
    asked = parser.parse_args()
    print(flood(asked.host, asked.port, asked.source, asked.rate, asked.seconds))


if __name__ == "__main__":
    main()
