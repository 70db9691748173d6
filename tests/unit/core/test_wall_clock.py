"""The clock on the wall is set while the core runs: timers stay, what people read and business hours follow."""

from __future__ import annotations

from dataclasses import replace

from sipd.routing.model import Number, Opening, Schedule
from tests.unit.core.bench import PBX, START, Bench, table, tenant, two_tenants
from tests.unit.core.rtpengine import MediaHouse
from tests.unit.core.talk import Talk

HOUR = 3600.0
# The bench begins on a Tuesday, at 22:13 in UTC.
UNTIL_TEN = Schedule("hours", "Office", "UTC", (Opening(1, "08:00", "22:00"),))


def test_no_binding_expires_early_and_none_stays_for_ever() -> None:
    for step in (-24 * HOUR, 24 * HOUR):
        bench = Bench(two_tenants())
        phone = bench.end("203.0.113.1", 5062)
        phone.register(expires=600)
        bench.edge.set_wall(step)
        bench.pass_time(590)
        assert bench.edge.vitals()["bindings"] == 1
        bench.pass_time(20)
        assert bench.edge.vitals()["bindings"] == 0


def test_an_event_has_the_time_that_is_on_the_wall() -> None:
    bench = Bench(two_tenants())
    bench.edge.set_wall(-HOUR)
    bench.end("203.0.113.1", 5062).register()
    (event,) = bench.events("binding.added")
    assert event["at"] == START - HOUR


def test_a_call_lasts_as_long_as_it_did_whatever_the_clock_did_meanwhile() -> None:
    for step in (-24 * HOUR, 24 * HOUR):
        talk = Talk()
        talk.bench.pass_time(30)
        talk.bench.edge.set_wall(step)
        talk.pbx.send(talk.from_pbx("BYE", 2))
        (ended,) = talk.bench.events("call.ended")
        detail = ended["detail"]
        assert isinstance(detail, dict)
        assert detail["ended"] - detail["answered"] == 30
        assert detail["started"] <= detail["answered"]
        assert detail["ended"] == talk.bench.now + step == ended["at"]


def test_business_hours_go_by_the_clock_on_the_wall() -> None:
    number = Number("n", "+4930101", user="acme-101", schedule="hours")
    bench = Bench(table(replace(tenant("acme"), schedules=(UNTIL_TEN,), numbers=(number,))))
    pbx, ann = bench.end(PBX), bench.end("203.0.113.1", 5062)
    ann.register()

    def rings(call_id: str) -> bool:
        uri = "sip:+4930101@acme.example"
        contact = f"<sip:{PBX}:5060>"
        pbx.send(pbx.request("INVITE", uri, from_="sip:+4930@pbx.example", to=uri, call_id=call_id, Contact=contact))
        return bool(ann.taken())

    assert not rings("at-22")
    bench.edge.set_wall(-HOUR)
    assert rings("at-21")


def test_a_record_that_nobody_can_read_is_left_out_and_counted() -> None:
    bench = Bench(two_tenants())
    bench.end("203.0.113.1", 5062).register()
    good = [change for change in bench.edge.take_changes() if change[0] == "binding"]
    again = Bench()
    spoilt = [("binding", "x", {"tenant": "acme"}), ("binding", "y", {"flow": 5}), ("upstream", "z", {})]
    again.edge.restore([*spoilt, *good], again.now)
    assert len(again.edge.registrar) == 1
    assert again.edge.counters["restore.unreadable"] == 3


def test_all_state_can_be_noted_once_more() -> None:
    bench = Bench(two_tenants(strategy="on_behalf"))
    for number, extension in enumerate(("101", "102")):
        bench.end(f"203.0.113.{number}", 5062).register(extension=extension)
    last = {(kind, key): record for kind, key, record in bench.edge.take_changes() if record is not None}
    bench.edge.restate()
    told = {(kind, key): record for kind, key, record in bench.edge.take_changes()}
    assert set(told) >= set(last)
    assert {kind for kind, _ in told} == {"binding", "upstream"}
    assert all(told[place] == record for place, record in last.items() if place[0] == "binding")


def test_what_waits_for_the_first_table_can_be_noted_once_more_too() -> None:
    bench = Bench(two_tenants(strategy="on_behalf"))
    records = [change for change in bench.edge.take_changes() if change[0] == "upstream" and change[2] is not None]
    records += [("call", "c", {"head": ""}), ("call.mark", "c", {}), ("media", "udp:192.0.2.9:2223 s", {"call": "c"})]
    again = Bench()
    again.edge.restore(records, again.now)
    again.edge.restate()
    told = {(kind, key): record for kind, key, record in again.edge.take_changes()}
    assert told == {(kind, key): record for kind, key, record in records}


def test_since_when_a_media_relay_is_up_is_told_by_the_wall_clock() -> None:
    bench = MediaHouse().bench
    since = [relay["since"] for relay in bench.edge.media_relays()]
    bench.edge.set_wall(HOUR)
    assert [relay["since"] for relay in bench.edge.media_relays()] == [at + HOUR for at in since]
