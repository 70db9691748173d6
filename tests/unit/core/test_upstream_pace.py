"""Ten thousand registrations: level refreshes, and the pace in every case in which many are due at once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from sipd import backlog, pace
from sipd.pace import Pace
from sipd.routing.lookup import compile_table
from sipd.settings import Settings
from sipd.timers import Timers
from tests.unit.core.bench import PBX, START, Bench
from tests.unit.core.scripted_pbx import Headers, ScriptedPbx, World, many

MANY = 10_000
GRANTED = 600
PLACE = ("udp", PBX, 5060)
NOTICE = 30.0
"""Seconds to notice that a PBX is back: the next OPTIONS while it is down, and some."""


def most(counts: Counter[int]) -> int:
    return max(counts.values())


def level(pbx: ScriptedPbx, since: float, until: float) -> None:
    """No second has more than three times the mean."""
    counts = pbx.per_second(since, until)
    mean = sum(counts.values()) / (until - since)
    assert mean > MANY / GRANTED
    assert most(counts) <= 3 * mean, (most(counts), mean)


def test_refreshes_are_level_when_all_were_begun_in_one_burst() -> None:
    pbx = ScriptedPbx(granted=GRANTED)
    world = World(many(MANY), pbx, upstream_rate=100_000, upstream_total_rate=100_000)
    world.run(3)
    assert pbx.standing(world.now) == MANY
    begun = world.now
    world.run(900)
    level(pbx, begun + GRANTED * 0.5, begun + GRANTED)
    level(pbx, begun + GRANTED, begun + 900)
    assert pbx.standing(world.now) == MANY


def test_after_a_restart_of_the_pbx_all_are_back_at_the_pace_and_level_again() -> None:
    rate = Settings(()).upstream_rate
    pbx = ScriptedPbx(granted=GRANTED)
    world = World(many(MANY), pbx, options_interval=30)
    world.run(MANY / rate + 1)
    assert pbx.standing(world.now) == MANY
    assert most(pbx.per_second(START, world.now)) <= rate
    world.run(100)
    pbx.up = False
    pbx.restart()
    world.run(60)
    pbx.up, pbx.registers = True, []
    back = world.now
    world.run(MANY / rate + NOTICE, until=lambda: len(pbx.bound) == MANY)
    assert pbx.standing(world.now) == MANY
    assert world.now - back <= MANY / rate + NOTICE
    assert most(pbx.per_second(back, world.now)) <= rate
    for shift in (0.25, 0.5, 0.75):
        assert most(pbx.per_second(back + shift, world.now)) <= rate
    begun = world.now
    world.run(600)
    level(pbx, begun + 200, begun + 600)
    assert most(pbx.per_second(begun, begun + 600)) <= rate


CASES = ("refused", "challenged", "renewed", "loaded", "lost stream", "forgotten", "removed")


@pytest.mark.parametrize("case", CASES)
def test_the_pace_holds_whatever_makes_many_due(case: str) -> None:
    """A registration is one REGISTER, and one more where it was challenged."""
    count, rate = 1000, 20.0
    pbx = ScriptedPbx(granted=300)
    link = {"transport": "tcp"} if case == "lost stream" else {}
    world = World(many(count, tenants=10, **link), pbx, upstream_rate=rate)
    seen: set[str] = set()

    def odd(headers: Headers) -> tuple[int, Headers]:
        if case == "refused" and headers["call-id"] not in seen:
            seen.add(headers["call-id"])
            return 500, {}
        if case == "challenged" and "authorization" not in headers:
            return 401, {"WWW-Authenticate": f'Digest realm="r", nonce="{random.random()}", algorithm=MD5'}
        return 0, {}

    pbx.script = odd
    world.run(count / rate + 25)
    assert pbx.standing(world.now) == count or case == "refused"
    edge, since = world.bench.edge, world.now
    routing = many(count, tenants=10, **link)
    if case == "renewed":
        assert sum(edge.renew(f"t{n}", None, since) for n in range(10)) == count
    elif case == "loaded":
        world.bench.load(many(count, tenants=10, expires=200))
    elif case == "removed":
        world.bench.load(replace(routing, tenants=tuple(replace(t, suspended=True) for t in routing.tenants)))
    elif case == "lost stream":
        edge.flow_lost(Bench.end(world.bench, PBX, 5060, "tcp").flow, since)
    elif case == "forgotten":
        pbx.restart()
        pbx.refuses_unknown = True
    pbx_rate = 2 * rate if case == "challenged" else rate
    world.run(count / rate + 300)
    assert most(pbx.per_second(START, world.now)) <= pbx_rate
    assert pbx.standing(world.now) == (0 if case == "removed" else count)
    assert not edge.faults


def test_refreshes_do_not_lapse_while_a_table_brings_many_more() -> None:
    """New ones and refreshes take turns."""
    rate = 20.0
    pbx = ScriptedPbx(granted=300)
    before = many(2000, tenants=20)
    world = World(replace(before, tenants=before.tenants[:10]), pbx, upstream_rate=rate)
    world.run(1000 / rate + 5)
    old = set(pbx.bound)
    assert len(old) == 1000
    world.bench.load(before)
    for _ in range(40):
        world.run(10)
        assert all(pbx.bound[call_id] > world.now for call_id in old)
    assert pbx.standing(world.now) == 2000


def test_who_asks_twice_keeps_its_turn_and_takes_no_other() -> None:
    pbx = ScriptedPbx()
    world = World(many(100, tenants=2), pbx, upstream_rate=10)
    for _ in range(20):
        world.bench.edge.renew("t0", None, world.now)
        world.run(0.1)
    world.run(9)
    assert pbx.standing(world.now) == 100
    assert len(pbx.registers) <= 110


def test_a_restart_with_ten_thousand_sends_nothing() -> None:
    pbx = ScriptedPbx(granted=GRANTED)
    routing = many(MANY)
    world = World(None, pbx, upstream_rate=100_000, upstream_total_rate=100_000)
    changes = []
    world.bench.edge.take_changes, take = lambda: changes.extend(take()) or [], world.bench.edge.take_changes  # type: ignore[method-assign,func-returns-value]
    world.bench.load(routing)
    world.run(3)
    again = World(None, pbx)
    again.bench.now = world.now
    sent = len(pbx.registers)
    again.bench.edge.restore({key: (kind, key, record) for kind, key, record in changes}.values(), again.now)
    again.bench.edge.load(compile_table(routing), again.now)
    again.run(250)
    assert len(pbx.registers) == sent
    assert again.states() == {"registered": MANY}
    begun = again.now
    again.run(350)
    level(pbx, begun + 50, begun + 350)


def test_loss_neither_breaks_the_pace_nor_loses_a_registration() -> None:
    chance = random.Random(7)
    pbx = ScriptedPbx(granted=120)
    world = World(many(500, tenants=5), pbx, upstream_rate=25, options_interval=10)
    world.lost = lambda data: chance.random() < 0.1
    world.run(600)
    first = {call_id for _, call_id, _ in pbx.registers}
    assert len(first) == 500
    world.lost = lambda data: False
    world.run(200)
    assert world.states() == {"registered": 500}
    assert not world.bench.edge.faults


class Turns:
    """A `Pace` alone: who had a turn, and when."""

    def __init__(self, rate: float = 10.0, total: float = 1000.0) -> None:
        self.timers = Timers()
        self.had: list[tuple[float, str]] = []
        self.answers = True
        settings = Settings((), upstream_rate=rate, upstream_total_rate=total)
        self.pace: Pace[str] = Pace(settings, self.timers, random.Random(1).random, self.turn)

    def turn(self, item: str, place: tuple[str, str, int], now: float) -> None:
        self.had.append((now, item))
        if self.answers:
            self.pace.done(item, now, answered=True)

    def run(self, since: float, until: float, late: float = 0.0) -> None:
        while (due := self.timers.next()) is not None and due <= until:
            self.timers.fire(max(since, due) + late)


class TestPace:
    def test_the_first_has_its_turn_at_once(self) -> None:
        turns = Turns()
        turns.pace.join(PLACE, "a", START, refresh=False)
        assert turns.had == [(START, "a")]
        assert "a" not in turns.pace

    def test_it_says_about_when_the_turn_is(self) -> None:
        turns = Turns(rate=10)
        at = [turns.pace.join(PLACE, str(n), START, refresh=False) - START for n in range(5)]
        turns.run(START, START + 9)
        assert [round(when - START, 3) for when, _ in turns.had] == [0, 0.1, 0.2, 0.3, 0.4]
        assert at[1:] == pytest.approx([0.1, 0.2, 0.3, 0.4])

    def test_late_timers_are_made_up_for_but_no_second_has_more(self) -> None:
        turns = Turns(rate=50)
        for n in range(500):
            turns.pace.join(PLACE, str(n), START, refresh=False)
        turns.run(START, START + 60, late=0.004)
        times = [when for when, _ in turns.had]
        assert times[-1] - START <= 10 * 1.05
        assert all(times[n + 50] - times[n] >= 1.0 for n in range(450))

    def test_refreshes_and_others_take_turns(self) -> None:
        turns = Turns()
        for name in ("x", "n1", "n2", "r1", "r2", "n3"):
            turns.pace.join(PLACE, name, START, refresh=name[0] == "r")
        turns.run(START, START + 9)
        assert [name for _, name in turns.had] == ["x", "n1", "r1", "n2", "r2", "n3"]

    def test_who_left_has_no_turn(self) -> None:
        turns = Turns()
        for name in "abc":
            turns.pace.join(PLACE, name, START, refresh=False)
        turns.pace.leave("b")
        turns.pace.leave("nobody")
        turns.run(START, START + 9)
        assert [name for _, name in turns.had] == ["a", "c"]

    def test_nothing_is_kept_of_a_place_where_nobody_waits(self) -> None:
        turns = Turns()
        for n in range(100):
            turns.pace.join(("udp", f"198.51.100.{n}", 5060), str(n), START, refresh=False)
        turns.run(START, START + 60)
        assert len(turns.had) == 100
        assert not turns.pace._lines
        assert not turns.pace._where
        assert len(turns.timers) == 0

    def test_a_turn_that_fails_costs_the_others_nothing(self) -> None:
        turns = Turns()
        for name in "abc":
            turns.pace.join(PLACE, name, START, refresh=False)
        failing = turns.pace._turn
        turns.pace._turn = lambda item, place, now: (_ for _ in ()).throw(ValueError(item))
        with pytest.raises(ValueError, match="b"):
            turns.run(START, START + 0.1)
        turns.pace._turn = failing
        turns.run(START, START + 9)
        assert [name for _, name in turns.had] == ["a", "c"]
        assert not turns.pace._flying

    def test_where_nobody_answers_the_line_stops_and_starts_slowly(self) -> None:
        """What is repeated when the PBX is back must not be more than the rate."""
        turns = Turns(rate=10)
        turns.answers = False
        for n in range(100):
            turns.pace.join(PLACE, str(n), START, refresh=False)
        turns.run(START, START + 30)
        unanswered = 10 * pace.SILENCE
        assert len(turns.had) == unanswered
        turns.answers = True
        back = START + 30
        for _, item in list(turns.had):
            turns.pace.done(item, back, answered=True)
        turns.run(back, back + 30)
        assert len(turns.had) == 100
        assert turns.had[int(unanswered)][0] == pytest.approx(back + pace.SILENCE)

    def test_one_that_fails_makes_room_for_one(self) -> None:
        turns = Turns(rate=10)
        turns.answers = False
        for n in range(100):
            turns.pace.join(PLACE, str(n), START, refresh=False)
        turns.run(START, START + 30)
        turns.pace.done("0", START + 30, answered=False)
        turns.pace.done("0", START + 30, answered=False)
        turns.run(START + 30, START + 40)
        assert len(turns.had) == 10 * pace.SILENCE + 1

    def test_a_thousand_turns_that_come_to_nothing_are_no_depth(self) -> None:
        """Late by the most that is made up for, at a high rate: one after the other, not one inside the other."""
        turns = Turns(rate=20_000, total=100_000)
        for n in range(4000):
            turns.pace.join(PLACE, str(n), START, refresh=False)
        due = turns.timers.next()
        assert due is not None
        turns.timers.fire(START + pace.CATCH_UP)
        turns.run(START + pace.CATCH_UP, START + 60)
        assert len(turns.had) == 4000

    def test_the_emptiest_of_a_few_seconds_is_chosen(self) -> None:
        turns = Turns()
        for _ in range(10_000):
            turns.pace.note(PLACE, turns.pace.choose(PLACE, START, START + 100))
        counts = turns.pace._planned.values()
        assert max(counts) <= 110
        by_chance = Counter(int(random.Random(2).random() * 100) for _ in range(10_000))
        assert most(by_chance) > 110
        assert pace.CHOICES < 10

    def test_what_was_planned_is_given_back(self) -> None:
        turns = Turns()
        turns.pace.note(PLACE, START)
        turns.pace.note(PLACE, START + 0.5)
        turns.pace.forget(PLACE, START)
        assert turns.pace._planned == {(PLACE, int(START)): 1}
        turns.pace.forget(PLACE, START + 0.5)
        assert not turns.pace._planned


class TestBatches:
    """Ten thousand are looked at a few at a time, so that no call of the core takes long."""

    COUNT = 4 * backlog.BATCH

    def test_a_table_of_many_is_taken_up_in_batches(self) -> None:
        pbx = ScriptedPbx()
        world = World(many(self.COUNT, tenants=1), pbx)
        assert len(world.bench.edge.upstream) == backlog.BATCH
        world.run(1)
        assert len(world.bench.edge.upstream) == self.COUNT

    def test_a_table_that_comes_meanwhile_has_the_last_word(self) -> None:
        pbx = ScriptedPbx()
        world = World(many(self.COUNT, tenants=2), pbx)
        world.bench.load(many(self.COUNT, tenants=4))
        world.bench.load(many(self.COUNT // 2, tenants=4))
        world.run(60)
        assert len(world.bench.edge.upstream) == self.COUNT // 2
        assert pbx.standing(world.now) == self.COUNT // 2
        assert not world.bench.edge.faults

    def test_what_was_stored_and_is_not_wanted_leaves_the_store_after_the_last_batch(self) -> None:
        pbx = ScriptedPbx()
        world = World(None, pbx)
        edge, changes = world.bench.edge, []
        record = {"tenant": "gone", "user": "u", "connection": "c"}
        edge.restore([("upstream", "gone u c", record)], world.now)
        take = edge.take_changes
        edge.take_changes = lambda: changes.extend(take()) or []  # type: ignore[method-assign,func-returns-value]
        world.bench.load(many(self.COUNT, tenants=1))
        world.run(1)
        assert ("upstream", "gone u c", None) in changes

    @pytest.mark.parametrize("many_due", ["lost stream", "renewed"])
    def test_many_that_are_due_at_once_are_looked_at_in_batches(self, many_due: str) -> None:
        link = {"transport": "tcp"} if many_due == "lost stream" else {}
        pbx = ScriptedPbx()
        world = World(many(self.COUNT, tenants=1, **link), pbx, upstream_rate=1000, upstream_total_rate=1000)
        world.run(10)
        if many_due == "lost stream":
            world.bench.edge.flow_lost(world.bench.end(PBX, 5060, "tcp").flow, world.now)
        else:
            world.bench.edge.renew("t0", None, world.now)
        due = world.bench.edge.upstream._backlog
        before = len(due)
        world.bench.edge.handle_timer(world.now)
        assert (before, before - len(due)) == (self.COUNT, backlog.BATCH)
        pbx.registers = []
        world.run(5)
        assert len(pbx.registers) == self.COUNT
