"""What the core counts: requests by method, answer and rule, calls by how they end, tenants up to a bound."""

from __future__ import annotations

import pytest

from sipd.settings import Settings
from sipd.tally import MAX_REQUESTS, MAX_RULES, OTHER, Histogram, Tally, outcome
from tests.unit.core.bench import PBX, Bench, ack_of, table, tenant, two_tenants


def ended(**more: object) -> dict[str, object]:
    return {"code": 200, "answered": None, "by": "callee", "direction": "in", "ended": 9.0, **more}


def seconds_apart(bench: Bench, by: float) -> None:
    bench.now += by


def test_a_call_and_a_registration_by_method_answer_and_rule() -> None:
    bench = Bench(two_tenants())
    pbx, phone = bench.end(PBX), bench.end("203.0.113.1", 5062)
    phone.register("acme.example")
    pbx.send(pbx.request("INVITE", "sip:101@acme.example", from_="sip:1@x", to="sip:101@acme.example", call_id="c"))
    got = phone.take("INVITE")
    seconds_apart(bench, 0.4)
    phone.answer(got, 180, "a1")
    phone.answer(got, 180, "a1")
    seconds_apart(bench, 3.0)
    phone.answer(got, 200, "a1")
    ok = next(message for message in pbx.taken() if message.status == 200)
    pbx.send(pbx.within(ok, "ACK", 1))
    seconds_apart(bench, 40.0)
    pbx.send(pbx.within(ok, "BYE", 2))
    tally = bench.edge.tally
    assert tally.requests == {
        ("REGISTER", 401, "challenge"): 1, ("REGISTER", 200, "register"): 1,
        ("INVITE", 200, "user"): 1, ("BYE", 200, "in-dialog"): 1,
    }  # fmt: skip
    assert tally.calls == {("in", "answered"): 1}
    assert (sum(tally.ringing.counts), round(tally.ringing.total, 3)) == (1, 0.4)
    assert (sum(tally.answering.counts), round(tally.answering.total, 3)) == (1, 3.4)
    assert (sum(tally.durations.counts), round(tally.durations.total, 3)) == (1, 40.0)


def test_the_answer_of_a_request_is_counted_once_however_often_it_is_sent() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    invite = pbx.request("INVITE", "sip:9@acme.example", from_="sip:1@x", to="sip:9@acme.example", call_id="c")
    for _ in range(3):
        pbx.send(invite)
    bench.pass_time(3)
    refusal = pbx.taken()[-1]
    pbx.send(ack_of(refusal, "sip:9@acme.example"))
    assert bench.edge.tally.requests == {("INVITE", 404, "unknown-user"): 1}
    assert bench.edge.tally.refusals == {"unknown-user": 1}


def test_what_gets_no_answer_is_counted_as_such() -> None:
    bench = Bench(two_tenants(), Settings(Bench().settings.listeners, mute_after=2))
    stranger = bench.end("203.0.113.66")
    for number in range(5):
        stranger.send(stranger.request("INVITE", "sip:1@x.y", from_="sip:1@x", to="sip:1@x", call_id=f"c{number}"))
    requests = bench.edge.tally.requests
    assert requests == {("INVITE", 403, "unknown-source"): 2, ("INVITE", 0, "muted"): 3}


def test_a_peer_makes_up_no_label() -> None:
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    for number in range(20):
        made_up = f"X{number}"
        pbx.send(pbx.request(made_up, "sip:101@acme.example", from_="sip:1@x", to="sip:1@x", call_id=made_up))
    assert bench.edge.tally.requests == {(OTHER, 501, "unfit"): 20}
    tally = Tally()
    for code in range(400, 500):
        tally.request("INVITE", code, "user")
    assert len(tally.requests) < 50
    assert tally.requests["INVITE", 4, "user"] > 50


def test_more_rules_and_requests_than_there_can_be_are_one() -> None:
    tally = Tally()
    for number in range(MAX_REQUESTS + 50):
        tally.request("INVITE", 404, f"rule-{number}")
        tally.event("refused", "", f"rule-{number}", {})
    assert len(tally.requests) == MAX_REQUESTS + 1
    assert tally.requests[OTHER, 0, OTHER] == 50
    assert len(tally.refusals) == MAX_RULES + 1
    assert tally.refusals.total() == MAX_REQUESTS + 50


@pytest.mark.parametrize(
    ("detail", "word"),
    [
        (ended(answered=3.0), "answered"),
        (ended(code=487, by="caller"), "cancelled"),
        (ended(code=486), "busy"),
        (ended(code=600), "busy"),
        (ended(code=480), "unanswered"),
        (ended(code=408), "unanswered"),
        (ended(code=404), "refused"),
        (ended(code=603), "failed"),
        (ended(code=503), "failed"),
    ],
)
def test_how_a_call_ended(detail: dict[str, object], word: str) -> None:
    assert outcome(detail) == word


def test_the_first_tenants_have_numbers_of_their_own_and_the_rest_is_summed() -> None:
    tally = Tally(tenants=2)
    for name in ("a", "b", "c", "d", "a", "c"):
        tally.event("refused", name, "rule", {})
        tally.event("call.ended", name, "", ended())
    assert {name: (of.refusals, of.calls) for name, of in tally.tenants.items()} == {"a": (2, 2), "b": (1, 1)}
    assert (tally.others.refusals, tally.others.calls) == (3, 3)
    tally.keep({"a", "c"})
    assert list(tally.tenants) == ["a"]
    assert (tally.others.refusals, tally.others.calls) == (4, 4)
    tally.event("refused", "d", "rule", {})
    assert list(tally.tenants) == ["a", "d"]


def test_no_numbers_of_tenants_when_they_are_off() -> None:
    tally = Tally(tenants=0)
    tally.event("refused", "a", "rule", {})
    assert not tally.tenants
    assert tally.others.refusals == 1


def test_events_that_find_no_room_are_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipd.events.MAX_WAITING", 0)
    bench = Bench(two_tenants())
    pbx = bench.end(PBX)
    pbx.send(pbx.request("INVITE", "sip:9@acme.example", from_="sip:1@x", to="sip:9@x", call_id="c"))
    assert bench.events() == []
    assert bench.edge.tally.refusals == {"unknown-user": 1}


def test_a_histogram_counts_up_to_and_with_its_bounds() -> None:
    histogram = Histogram((1.0, 5.0))
    for value in (0.0, 1.0, 1.1, 5.0, 99.0):
        histogram.note(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 106.1)


def test_the_census_counts_in_steps_and_bears_change_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipd.census.STEP", 2)
    names = [f"t{number}" for number in range(5)]
    tenants = [tenant(name, strategy="on_behalf", of_connection={"registrar_domain": name}) for name in names]
    settings = Settings(Bench().settings.listeners, metrics_tenants=3)
    bench = Bench(table(*tenants), settings)
    for number, name in enumerate(names):
        bench.end(f"203.0.113.{number + 1}").register(f"{name}.example")
    census, steps = bench.edge.census()
    assert sum(1 for _ in steps) == 2 + 5
    assert census.bindings == {"udp": 5}
    assert census.upstream == {"trying": 10}
    assert {name: of.bindings for name, of in census.tenants.items()} == {"t0": 1, "t1": 1, "t2": 1}
    assert census.others.bindings == 2
    census, steps = bench.edge.census()
    next(steps)
    bench.load(table())
    for _ in steps:
        pass
    assert census.bindings.total() <= 5
    census, steps = bench.edge.census()
    assert list(steps) == []
    assert not census.tenants
