"""Business hours in the engine: they decide calls, and nothing but calls."""

from __future__ import annotations

from dataclasses import replace

from sipd.routing.model import Number, Opening, Schedule
from tests.unit.core.bench import PBX, Bench, End, table, tenant

# The bench begins on a Tuesday, at 22:13 in UTC.
CLOSED = Schedule("hours", "Office", "UTC", (Opening(1, "08:00", "22:00"),))
OPEN = replace(CLOSED, openings=(Opening(1, "08:00", "23:00"),))


def night(schedule: Schedule, **changes: str) -> tuple[End, End, End]:
    """The PBX, and phones of 101, whom the number +4930101 rings, and of 102."""
    number = replace(Number("n", "+4930101", user="acme-101", schedule="hours"), **changes)  # type: ignore[arg-type]
    bench = Bench(table(replace(tenant("acme"), schedules=(schedule,), numbers=(number,))))
    pbx, ann, bob = bench.end(PBX), bench.end("203.0.113.1", 5062), bench.end("203.0.113.2", 5062)
    ann.register()
    bob.register(extension="102")
    pbx.taken()
    return pbx, ann, bob


def ask(pbx: End, method: str) -> None:
    uri = "sip:+4930101@acme.example"
    contact = {"Contact": f"<sip:{pbx.flow.host}:5060>"} if method == "INVITE" else {}
    pbx.send(pbx.request(method, uri, from_="sip:+4930@pbx.example", to=uri, call_id="c", **contact))


def test_within_business_hours_the_user_rings() -> None:
    pbx, ann, bob = night(OPEN, forward_closed="102")
    ask(pbx, "INVITE")
    assert ann.take("INVITE")
    bob.nothing()


def test_out_of_business_hours_who_is_named_rings() -> None:
    pbx, ann, bob = night(CLOSED, forward_closed="102")
    ask(pbx, "INVITE")
    assert bob.take("INVITE")
    ann.nothing()


def test_out_of_business_hours_the_caller_hears_it() -> None:
    pbx, ann, _ = night(CLOSED)
    ask(pbx, "INVITE")
    pbx.take(480)
    ann.nothing()


def test_a_message_is_delivered_at_any_time() -> None:
    pbx, ann, _ = night(CLOSED)
    ask(pbx, "MESSAGE")
    assert ann.take("MESSAGE")
