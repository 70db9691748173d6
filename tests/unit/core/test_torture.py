"""RFC 4475 messages, answered by the whole core: over UDP as one datagram, over TCP framed by Content-Length."""

from __future__ import annotations

import pytest

from sipd.flow import Flow
from sipd.message.errors import BadMessage
from sipd.message.framing import Framer, FramingError
from sipd.message.scanner import scan
from tests.unit.core.bench import Bench, two_tenants
from tests.unit.message.torture import CASES, MISSING, OVER_A_STREAM, Case, expected

pytestmark = pytest.mark.skipif(not CASES, reason=MISSING)


def status_of(bench: Bench) -> str:
    """The first final answer, or NONE."""
    codes = [data.split(b" ", 2)[1].decode() for data, _ in bench.sent if data.startswith(b"SIP/2.0 ")]
    return next((code for code in codes if code >= "200"), "NONE")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_over_udp(case: Case) -> None:
    bench = Bench(two_tenants())
    bench.edge.receive(case.data, Flow("udp", "203.0.113.5", 5060, 0), bench.now)
    bench.collect()
    assert expected(case, status_of(bench)), status_of(bench)
    assert bench.edge.counters["faults"] == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_over_tcp(case: Case) -> None:
    bench = Bench(two_tenants())
    flow = Flow("tcp", "203.0.113.5", 40000, 1)
    framer = Framer()
    try:
        messages = framer.feed(case.data)
    except FramingError as error:
        messages = error.before
        bench.edge.bad_frame(error, flow, bench.now)
    for message in messages:
        if isinstance(message, bytes):
            bench.edge.receive(message, flow, bench.now)
    bench.collect()
    got = status_of(bench)
    assert expected(case, got, stream=True), got
    assert framer.unfinished or OVER_A_STREAM.get(case.name) != "NONE"
    assert bench.edge.counters["faults"] == 0


def test_two_registers_in_one_datagram_are_one() -> None:
    (case,) = [case for case in CASES if case.name == "dblreq"]
    bench = Bench(two_tenants())
    bench.edge.receive(case.data, Flow("udp", "203.0.113.5", 5060, 0), bench.now)
    bench.collect()
    assert len(bench.sent) == 1


def test_every_message_is_scanned_or_refused_without_a_fault() -> None:
    for case in CASES:
        for end in range(0, len(case.data), 7):
            try:
                scan(case.data[:end])
            except BadMessage:
                continue
