"""What the core costs: `make bench`. Processor time per operation, in one process, without sockets.

The messages are those of a phone and a PBX, made outside the measured time. Each figure is the median of
several rounds. Without sockets and kernel, so it is a lower bound of what the daemon spends; the
shape of the work is what it shows, before and after a change.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sipd.daemon import GARBAGE
from sipd.flow import Flow
from sipd.message.message import Message
from sipd.message.scanner import scan
from tests.integration.node import RATES
from tests.unit.core.bench import PBX, Bench, credentials, request_text, table, tenant, wire

TENANTS = 1000
TAKE_SECONDS = 1.0
"""How often the daemon takes the traces; what its thread does with them then is not measured here."""
URI = "sip:101@t7.example"
SDP = (
    "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
PHONE_FLOW, PBX_FLOW = Flow("udp", "203.0.113.1", 5062, 0), Flow("udp", PBX, 5060, 0)


class Meter:
    """Hands messages to the edge and adds up the time that it takes, until what it sends is ready."""

    def __init__(self, *, tracing: bool = True) -> None:
        settings = replace(Bench().settings, **dict.fromkeys(RATES, 1_000_000))
        tenants = (tenant(f"t{number}", extensions=("101",)) for number in range(TENANTS))
        self.bench = Bench(table(*tenants), settings)
        self.bench.end(PHONE_FLOW.host, PHONE_FLOW.port).register("t7.example")
        self.spent = 0.0
        self.taken_at = self.bench.now
        if not tracing:
            self.bench.edge.tracer = self.bench.edge.events.tracer = None

    def give(self, data: bytes, flow: Flow) -> list[tuple[Message, Flow]]:
        edge, now = self.bench.edge, self.bench.now
        before = time.process_time()
        edge.receive(data, flow, now)
        out = edge.datagrams_to_send()
        edge.take_changes()
        edge.take_events()
        self.spent += time.process_time() - before
        return [(scan(sent), to) for sent, to in out]

    def tick(self) -> None:
        """A millisecond passes: timers that are due are part of the cost, and traces that are sorted each second."""
        self.bench.now += 0.001
        before = time.process_time()
        self.bench.edge.handle_timer(self.bench.now)
        self.bench.edge.datagrams_to_send()
        tracer = self.bench.edge.tracer
        if tracer is not None and self.bench.now - self.taken_at >= TAKE_SECONDS:
            self.taken_at = self.bench.now
            tracer.take(self.bench.now)
        self.spent += time.process_time() - before


def invite(number: int, uri: str = URI) -> bytes:
    headers = {"Contact": f"<sip:{PBX}:5060>", "Allow": "INVITE, ACK, CANCEL, BYE", "Content-Type": "application/sdp"}
    return from_pbx("INVITE", uri, number, 1, "a", f"<{uri}>", headers, SDP)


def from_pbx(
    method: str, uri: str, number: int, cseq: int, part: str, to: str, headers: dict[str, str], body: str = ""
) -> bytes:
    return wire(
        request_text(
            method,
            uri,
            from_=f"<sip:+4930@pbx.example>;tag=f{number}",
            to=to,
            call_id=f"c{number}@pbx",
            cseq=cseq,
            via=f"SIP/2.0/UDP {PBX}:5060",
            branch=f"z9hG4bK{number}{part}",
            headers=headers,
            body=body,
        )
    )


def answer(request: Message, status: int, tag: str, body: str = "") -> bytes:
    to = request.lines("to").rstrip() + (f";tag={tag}".encode() if b"tag=" not in request.lines("to") else b"")
    head = f"SIP/2.0 {status} OK\r\n".encode() + request.lines("via") + request.lines("from") + to + b"\r\n"
    head += request.lines("call-id") + request.lines("cseq") + b"Contact: <sip:101@10.0.0.9:5062>\r\n"
    return head + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()


def call_through(meter: Meter, number: int) -> None:
    """INVITE 100 180 200 ACK BYE 200, on both legs: 13 messages."""
    (there,) = [m for m, to in meter.give(invite(number), PBX_FLOW) if to == PHONE_FLOW]
    meter.give(answer(there, 180, "p"), PHONE_FLOW)
    ((ok, _),) = meter.give(answer(there, 200, "p", SDP), PHONE_FLOW)
    target, to = ok.contacts[0].uri_text, ok.get("to") or ""
    meter.give(from_pbx("ACK", target, number, 1, "b", to, {}), PBX_FLOW)
    sent = meter.give(from_pbx("BYE", target, number, 2, "c", to, {}), PBX_FLOW)
    (bye,) = [m for m, flow in sent if flow == PHONE_FLOW]
    meter.give(answer(bye, 200, "p"), PHONE_FLOW)
    meter.tick()


def register(meter: Meter, number: int) -> None:
    """REGISTER with digest: 401, then 200."""
    aor, domain = URI, "sip:t7.example"

    def ask(cseq: int, headers: dict[str, str]) -> Message:
        text = request_text(
            "REGISTER",
            domain,
            from_=f"<{aor}>;tag=r",
            to=f"<{aor}>",
            call_id=f"r{number}",
            cseq=cseq,
            via="SIP/2.0/UDP 203.0.113.1:5062",
            branch=f"z9hG4bKr{number}-{cseq}",
            headers=headers,
        )
        ((got, _),) = meter.give(wire(text), PHONE_FLOW)
        return got

    contact = {"Contact": "<sip:101@10.0.0.9:5062>;expires=600"}
    header = credentials(ask(1, contact), "101", "REGISTER", domain)
    if ask(2, {**contact, "Authorization": header}).status != 200:
        raise RuntimeError("not registered")
    meter.tick()


def refused(meter: Meter, number: int) -> None:
    """INVITE to an unknown domain: 404."""
    ((got, _),) = meter.give(invite(number, "sip:101@nobody.example"), PBX_FLOW)
    if got.status != 404:
        raise RuntimeError("not refused")
    meter.tick()


WORK: dict[str, Callable[[Meter, int], None]] = {
    "REGISTER with digest (401 + 200)": register,
    "call through (13 messages)": call_through,
    "INVITE refused with 404": refused,
}


def rounds(work: Callable[[Meter, int], None], count: int, times: int, *, tracing: bool) -> Iterator[float]:
    """Microseconds per operation, one figure a round; the first round warms up and is not given."""
    for number in range(times + 1):
        meter = Meter(tracing=tracing)
        gc.collect()
        gc.freeze()  # as the daemon does with a table
        for operation in range(count):
            work(meter, operation)
        if number:
            yield meter.spent / count * 1e6
        gc.unfreeze()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="operations in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (%(default)s)")
    options = parser.parse_args()
    gc.set_threshold(*GARBAGE)
    print(f"{'operation':48}{'median':>10}{'lowest':>10}   microseconds of processor time, {TENANTS} tenants")
    for name, work in WORK.items():
        for tracing in (False, True):
            figures = list(rounds(work, options.count, options.rounds, tracing=tracing))
            title = f"{name}, {'traced' if tracing else 'not traced'}"
            print(f"{title:48}{statistics.median(figures):10.0f}{min(figures):10.0f}", flush=True)


if __name__ == "__main__":
    main()
