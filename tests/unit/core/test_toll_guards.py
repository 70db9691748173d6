"""Guards against toll fraud: calls of one user to expensive numbers (docs/calls.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.routing.lookup import compile_table
from sipd.routing.model import Guard, Number, Opening, OutboundRule, Schedule, Table, Tenant
from tests.unit.core.bench import PBX, Bench, table
from tests.unit.core.house import House, acme, group

WEEKDAYS = Schedule("hours", "Hours", "Etc/UTC", tuple(Opening(day, "08:00", "18:00") for day in range(5)))
NIGHT_TO_MORNING = 12 * 3600
"""From the bench's first moment, a Tuesday at 22:13 UTC."""
PREMIUM = Guard("premium", "0900", 3)


def guarded(*guards: Guard, of_users: dict[str, dict[str, object]] | None = None, **more: object) -> Tenant:
    return acme(of_users, guards=guards or (PREMIUM,), schedules=(WEEKDAYS,), **more)


class Scene(House):
    def __init__(self, of: Tenant | None = None) -> None:
        super().__init__(of or guarded())
        self.one = self.phone()

    def passes(self, seconds: float) -> None:
        super().passes(seconds)
        self.one.taken()
        self.pbx.taken()

    def dial(self, number: str = "0900123", by: str = "101") -> int:
        """The answer to a call out: 100 when it went to the PBX, where it is then refused."""
        phone = self.one if by == "101" else self.phone(by)
        phone.call(number, extension=by)
        return self.outcome(phone.taken())

    def outcome(self, answers: list) -> int:  # type: ignore[type-arg]
        went = [m for m in self.pbx.taken() if m.method == "INVITE" and not m.status]
        if not went:
            return int(next(m.status for m in answers if m.status >= 200))
        self.pbx.answer(went[0], 486, tag="busy")
        self.one.taken()
        self.pbx.taken()
        return 100


def test_so_many_calls_in_an_hour_and_no_more_and_an_event_says_so() -> None:
    on = Scene()
    assert [on.dial() for _ in range(5)] == [100] * 3 + [403] * 2
    (event, _) = on.bench.events("toll.stopped")
    assert (event["tenant"], event["user"], event["connection"], event["rule"]) == (
        "acme", "acme-101", "acme-pbx", "toll-guard"
    )  # fmt: skip
    told = event["detail"]
    assert (told["prefix"], told["count"], told["limit"], told["reason"]) == ("0900", 3, 3, "calls per hour")  # type: ignore[index]
    assert on.dial("0301") == 100
    assert on.bench.edge.counters["toll.stopped"] == 2


def test_the_hour_slides() -> None:
    on = Scene()
    for _ in range(3):
        assert on.dial() == 100
        on.passes(600)
    assert on.dial() == 403
    on.passes(3600 - 1800 + 61)
    assert [on.dial(), on.dial()] == [100, 403]


def test_each_user_has_its_own_count() -> None:
    on = Scene()
    assert [on.dial() for _ in range(4)][-1] == 403
    assert on.dial(by="102") == 100


@pytest.mark.parametrize("number", ["0-900-123", "%30900123", "0.900(1)", "0900123;phone-context=+49", "0900w"])
def test_no_way_of_writing_gets_around(number: str) -> None:
    on = Scene(guarded(replace(PREMIUM, calls_per_hour=0)))
    assert on.dial(number) == 403


def test_a_number_counts_as_it_goes_out_too() -> None:
    """The rule makes +49900 of 0900: a guard for either holds, and each call counts once."""
    rules = (OutboundRule("out", 1, "0", 1, "+49", "acme-pbx", fallback="acme-pbx"),)
    on = Scene(guarded(Guard("out", "+49900", 2), outbound=rules))
    assert [on.dial() for _ in range(3)] == [100, 100, 403]


def test_outside_of_business_hours_none_goes() -> None:
    on = Scene(guarded(Guard("closed", "0900", 5, "hours")))
    assert on.dial() == 403
    assert on.bench.events("toll.stopped")[0]["detail"]["reason"] == "closed"  # type: ignore[index]
    on.passes(NIGHT_TO_MORNING)
    assert on.dial() == 100


def test_all_guards_that_match_hold_those_of_the_installation_too() -> None:
    on = Scene(guarded(PREMIUM))
    whole = table(guarded(PREMIUM))
    strict = replace(whole, installation=replace(whole.installation, guards=(Guard("all", "09", 1),)))
    on.bench.load(strict)
    assert [on.dial(), on.dial()] == [100, 403]
    assert on.bench.events("toll.stopped")[0]["detail"]["prefix"] == "09"  # type: ignore[index]


class TestForwards:
    """Who forwards pays, and is counted: otherwise every caller would have a count of its own."""

    def test_a_user_who_forwards_is_counted_whoever_calls(self) -> None:
        on = Scene(guarded(of_users={"102": {"forward_always": "0900123"}}))
        outcomes = []
        for number in range(4):
            on.rings("102", from_=f"sip:+4930{number}@pbx.example")
            outcomes.append(self.outcome(on))
        assert outcomes == ["out"] * 3 + [403]
        assert on.bench.events("toll.stopped")[0]["user"] == "acme-102"
        assert on.dial() == 100, "the user who called is not the one who forwards"

    def test_a_number_that_forwards_is_counted_for_the_tenant(self) -> None:
        on = Scene(guarded(numbers=(Number("n", "+4930", forward="0900123"),)))
        outcomes = []
        for _ in range(4):
            on.rings("+4930", from_="sip:x@pbx.example")
            outcomes.append(self.outcome(on))
        assert outcomes == ["out"] * 3 + [403]

    def test_a_group_that_forwards_is_counted(self) -> None:
        on = Scene(guarded(groups=(group("all", "102", forward_no_answer="0900123"),)))
        outcomes = []
        for number in range(4):
            on.rings("600", from_=f"sip:+4930{number}@pbx.example")
            outcomes.append(self.outcome(on))
        assert outcomes == ["out"] * 3 + [403]

    def outcome(self, on: Scene) -> str | int:
        there = on.pbx.taken()
        went = [m for m in there if m.method == "INVITE" and not m.status]
        if not went:
            return max(m.status for m in there)
        on.pbx.answer(went[0], 486, tag="busy")
        on.pbx.taken()
        return "out"


def test_calls_between_users_are_not_counted_though_the_pbx_connects_them() -> None:
    on = Scene(guarded(Guard("all", "1", 0)))
    assert on.dial("102") == 100


def test_a_restart_is_no_way_around() -> None:
    on = Scene()
    assert [on.dial() for _ in range(3)] == [100] * 3
    state = {key: (kind, key, record) for kind, key, record in on.bench.edge.take_changes()}
    again = Bench()
    again.now = on.bench.now + 60
    again.edge.restore(state.values(), again.now)
    again.edge.load(compile_table(table(guarded())), again.now)
    on.bench, on.pbx = again, again.end(PBX)
    on.one = again.end(on.one.flow.host, on.one.flow.port)
    assert on.dial() == 403
    on.passes(3700)
    assert on.dial() == 100


def test_counts_end_with_their_hour() -> None:
    on = Scene()
    on.dial()
    on.passes(8000)
    assert len(on.bench.edge.tolls) == 0
    changes = [change for change in on.bench.edge.take_changes() if change[0] == "toll"]
    assert changes[-1] == ("toll", "acme acme-101 0900", None)


def test_a_replaces_that_names_no_call_of_ours_is_no_way_around() -> None:
    on = Scene(guarded(replace(PREMIUM, calls_per_hour=0)))
    on.one.call("0900123", Replaces="nothing;from-tag=a;to-tag=b")
    assert on.outcome(on.one.taken()) in (403, 481)


def test_a_table_is_what_holds_now() -> None:
    on = Scene()
    assert [on.dial() for _ in range(4)][-1] == 403
    loose: Table = table(guarded(replace(PREMIUM, calls_per_hour=4)))
    on.bench.load(loose)
    assert [on.dial(), on.dial()] == [100, 403]
