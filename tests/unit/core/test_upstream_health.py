"""How the restart of a PBX is noticed: OPTIONS, lost streams, and what it answers to a refresh."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipd import health
from tests.unit.core.bench import PBX, START, Bench, table, tenant
from tests.unit.core.scripted_pbx import Headers, ScriptedPbx, World, many, read

COUNT = 60
INTERVAL = 30.0
RATE = 20.0
DOWN_WITHIN = INTERVAL * 1.2 + 3 * (health.SOON * 1.2 + health.PROBE_SECONDS)
UP_WITHIN = health.SOON * 1.2 + health.PROBE_SECONDS


def watched(count: int = COUNT, **more: object) -> tuple[World, ScriptedPbx]:
    """All registered at one PBX that answers OPTIONS."""
    pbx = ScriptedPbx(granted=600)
    world = World(many(count, tenants=3, **more), pbx, options_interval=INTERVAL, upstream_rate=RATE)
    world.run(count / RATE + INTERVAL + 5)
    assert pbx.standing(world.now) == count
    pbx.registers = []
    world.bench.events()
    return world, pbx


def health_of(world: World) -> health.PbxAddress:
    return world.bench.edge.upstream.health._addresses["udp", PBX, 5060]


class TestOptions:
    def test_one_for_each_address_whatever_number_of_tenants_is_there(self) -> None:
        world, pbx = watched()
        pbx.options = 0
        world.run(600)
        assert 600 / INTERVAL / 1.2 - 1 <= pbx.options <= 600 / INTERVAL / 0.8 + 1

    def test_it_names_nobody(self) -> None:
        seen: list[bytes] = []
        pbx = ScriptedPbx()
        world = World(many(3, tenants=3), pbx, options_interval=INTERVAL)
        world.lost = lambda data: seen.append(data) or False  # type: ignore[func-returns-value]
        world.run(INTERVAL * 1.3)
        options = next(data for data in seen if data.startswith(b"OPTIONS"))
        _, headers = read(options)
        assert headers["uri"] == f"sip:{PBX}:5060"
        assert b"t0" not in options
        assert b"t1" not in options

    def test_it_is_no_trace(self) -> None:
        """One every half minute would push out what people look for."""
        world = World(many(1, tenants=1), ScriptedPbx(), options_interval=INTERVAL, trace=True)
        world.run(200)
        tracer = world.bench.edge.tracer
        assert tracer is not None
        assert [batch.about["kind"] for batch in tracer.take(world.now, everything=True)] == ["upstream"]

    def test_different_addresses_are_asked_at_different_times(self) -> None:
        pbxs = [ScriptedPbx(f"198.51.100.{n}") for n in range(1, 41)]
        tenants = [
            tenant(f"t{n}", strategy="on_behalf", extensions=("101",), of_connection={"host": pbx.host})
            for n, pbx in enumerate(pbxs)
        ]
        world = World(table(*tenants), *pbxs, options_interval=INTERVAL)
        counts = []
        for _ in range(int(INTERVAL)):
            before = sum(pbx.options for pbx in pbxs)
            world.run(1)
            counts.append(sum(pbx.options for pbx in pbxs) - before)
        assert all(pbx.options for pbx in pbxs)
        assert max(counts) <= 8

    def test_a_pbx_without_registrations_and_calls_is_left_alone(self) -> None:
        pbx = ScriptedPbx()
        world = World(table(tenant("acme")), pbx, options_interval=INTERVAL)
        world.run(300)
        assert pbx.options == 0

    def test_a_trunk_is_asked_while_calls_go_there(self) -> None:
        pbx = ScriptedPbx()
        world = World(table(tenant("acme")), pbx, options_interval=INTERVAL)
        phone = world.bench.end("203.0.113.1", 5062)
        phone.register()
        phone.call("555")
        world.run(300)
        assert pbx.options >= 7
        world.run(health.USED_SECONDS)
        pbx.options = 0
        world.run(300)
        assert pbx.options == 0
        assert len(world.bench.edge.upstream.health) == 0

    def test_what_is_no_longer_used_is_no_longer_asked(self) -> None:
        world, pbx = watched(3)
        world.bench.load(table(tenant("other", extensions=())))
        world.run(60)
        pbx.options = 0
        world.run(300)
        assert pbx.options == 0
        assert len(world.bench.edge.upstream.health) == 0

    def test_none_when_it_is_switched_off(self) -> None:
        pbx = ScriptedPbx()
        world = World(many(3, tenants=3), pbx, options_interval=0)
        world.run(600)
        assert pbx.options == 0

    def test_an_answer_of_any_status_means_up(self) -> None:
        world, _ = watched()
        bench = world.bench
        world.pbxs.clear()
        world.lost = lambda data: True
        due = health_of(world).timer
        assert due is not None
        world.run(due.when - world.now - 0.001)
        bench.sent = []
        while not bench.sent:
            bench.now = max(bench.now, bench.edge.next_timer() or bench.now)
            bench.edge.handle_timer(bench.now)
            bench.collect()
        end = bench.end(PBX)
        end.answer(end.take("OPTIONS"), 405, "t")
        assert health_of(world).failures == 0
        assert not health_of(world).down

    def test_silence_once_or_twice_means_nothing(self) -> None:
        world, pbx = watched()
        pbx.up = False
        world.run(600, until=lambda: health_of(world).failures == health.FAILURES - 1)
        pbx.up = True
        pbx.registers = []
        world.run(60)
        assert not world.bench.events("pbx.down")
        assert len(pbx.registers) < COUNT

    def test_silence_several_times_means_down_and_an_answer_up(self) -> None:
        world, pbx = watched()
        pbx.up = False
        pbx.restart()
        world.run(DOWN_WITHIN)
        assert health_of(world).down
        assert world.bench.edge.vitals()["pbx_addresses_down"] == 1
        pbx.up = True
        back = world.now
        world.run(UP_WITHIN + COUNT / RATE)
        assert pbx.standing(world.now) == COUNT
        assert max(pbx.per_second(back, world.now).values()) <= RATE
        assert world.states() == {"registered": COUNT}

    def test_one_that_is_down_is_sent_options_and_now_and_then_one_registration(self) -> None:
        world, pbx = watched()
        pbx.up = False
        world.run(DOWN_WITHIN)
        sent: list[bytes] = []
        world.lost = lambda data: sent.append(data) or False  # type: ignore[func-returns-value]
        world.bench.edge.renew("t0", None, world.now)
        world.run(health.TRY_SECONDS)
        assert len({read(data)[1]["call-id"] for data in sent if data.startswith(b"REGISTER")}) <= 1
        assert sum(data.startswith(b"OPTIONS") for data in sent) >= 5

    def test_what_was_unreachable_is_sent_as_soon_as_it_is_back(self) -> None:
        """And not when its back-off is over."""
        world, pbx = watched(3)
        pbx.up = False
        world.run(3000)
        assert world.states() == {"unreachable": 3}
        pbx.up = True
        world.run(UP_WITHIN + 1)
        assert world.states() == {"registered": 3}

    def test_one_that_never_answered_options_is_not_down_by_silence(self) -> None:
        pbx = ScriptedPbx()
        pbx.answers_options = False
        world = World(many(3, tenants=3), pbx, options_interval=INTERVAL)
        world.run(1200)
        assert pbx.options > 10
        assert not world.bench.events("pbx.down")
        assert world.states() == {"registered": 3}

    def test_one_that_never_answered_options_is_back_when_a_registration_is(self) -> None:
        pbx = ScriptedPbx(granted=120)
        pbx.answers_options = False
        world = World(many(COUNT, tenants=3), pbx, options_interval=INTERVAL, upstream_rate=RATE)
        world.run(10)
        pbx.up = False
        pbx.restart()
        world.run(600)
        assert world.states() == {"unreachable": COUNT}
        pbx.up = True
        world.run(health.TRY_SECONDS + INTERVAL * 1.2 + COUNT / RATE + 10)
        assert pbx.standing(world.now) == COUNT

    def test_addresses_have_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "MAX_WATCHED", 1)
        pbxs = [ScriptedPbx(f"198.51.100.{n}") for n in range(1, 4)]
        tenants = [
            tenant(f"t{n}", strategy="on_behalf", extensions=("101",), of_connection={"host": pbx.host})
            for n, pbx in enumerate(pbxs)
        ]
        world = World(table(*tenants), *pbxs, options_interval=INTERVAL)
        world.run(100)
        assert sorted(bool(pbx.options) for pbx in pbxs) == [False, False, True]
        assert world.states() == {"registered": 3}


class TestEvents:
    def test_each_connection_hears_of_it_once_in_its_own_tenant(self) -> None:
        world, pbx = watched()
        pbx.up = False
        world.run(DOWN_WITHIN)
        pbx.up = True
        world.run(UP_WITHIN)
        events = [e for e in world.bench.events() if str(e["kind"]).startswith("pbx.")]
        for kind, reason in (("pbx.down", "silent"), ("pbx.up", "")):
            told = [e for e in events if e["kind"] == kind]
            assert sorted((e["tenant"], e["connection"]) for e in told) == [(f"t{n}", f"t{n}-pbx") for n in range(3)]
            assert {e["detail"]["address"] for e in told} == {f"udp:{PBX}:5060"}  # type: ignore[index]
            assert {e["detail"]["reason"] for e in told} == {reason}  # type: ignore[index]

    def test_so_does_a_trunk_that_calls_went_through(self) -> None:
        pbx = ScriptedPbx()
        world = World(table(tenant("acme")), pbx, options_interval=INTERVAL)
        phone = world.bench.end("203.0.113.1", 5062)
        phone.register()
        phone.call("555")
        world.run(100)
        pbx.up = False
        world.run(DOWN_WITHIN)
        (event,) = world.bench.events("pbx.down")
        assert (event["tenant"], event["connection"]) == ("acme", "acme-pbx")

    def test_they_have_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "MAX_TOLD", 2)
        world, pbx = watched()
        pbx.up = False
        world.run(DOWN_WITHIN)
        assert len(world.bench.events("pbx.down")) == 2
        assert world.bench.edge.counters["pbx.untold"] == 1


def over_tcp() -> tuple[Bench, Callable[[str], list[Headers]]]:
    link = {"transport": "tcp"}
    extensions = tuple(str(100 + n) for n in range(10))
    routing = table(tenant("acme", strategy="on_behalf", extensions=extensions, of_connection=link))
    world = World(None, options_interval=INTERVAL)
    bench = world.bench
    bench.load(routing)
    end = bench.end(PBX, 5060, "tcp")

    def taken(method: str) -> list[Headers]:
        """Answers all that came, with 200; those of this method."""
        found = []
        for message in end.taken():
            more = {"Contact": message.get("contact") or ""} if message.method == "REGISTER" else {}
            end.answer(message, 200, "t", **more)
            if message.method == method:
                found.append(read(message.data)[1])
        return found

    return bench, taken


class TestStreams:
    def test_a_lost_stream_renews_all_that_came_over_it(self) -> None:
        bench, taken = over_tcp()
        bench.pass_time(1)
        assert len(taken("REGISTER")) == 10
        bench.edge.flow_lost(bench.end(PBX, 5060, "tcp").flow, bench.now)
        bench.pass_time(1)
        assert len(taken("REGISTER")) == 10

    def test_connections_refused_twice_mean_down(self) -> None:
        bench, taken = over_tcp()
        bench.pass_time(1)
        taken("REGISTER")
        flow = bench.end(PBX, 5060, "tcp").flow
        for _ in range(20):
            bench.edge.flow_lost(flow, bench.now)
            bench.collect()
            bench.pass_time(1)
        (event,) = bench.events("pbx.down")
        assert event["detail"]["reason"] == "refused"  # type: ignore[index]
        bench.sent = []
        for _ in range(20):
            bench.pass_time(1)
            taken("OPTIONS")
        assert len(bench.events("pbx.up")) == 1
        states = {row["state"] for row in bench.edge.registrations(None, bench.now)["upstream"]}
        assert states == {"registered"}


class TestForgotten:
    @pytest.mark.parametrize("status", [403, 404, 481])
    def test_a_refresh_that_is_refused_is_sent_anew_at_once(self, status: int) -> None:
        world, pbx = watched(3)
        refused: list[str] = []

        def script(headers: Headers) -> tuple[int, Headers]:
            if headers["call-id"] in refused:
                return 0, {}
            refused.append(headers["call-id"])
            return status, {}

        pbx.script = script
        world.run(600)
        assert len(refused) == 3
        for call_id in refused:
            first, second, *_ = [at for at, one, _ in pbx.registers if one == call_id]
            assert second - first < 1
        assert world.states() == {"registered": 3}
        assert world.bench.edge.counters["upstream.forgotten"] == 3

    def test_all_are_renewed_at_the_pace_when_the_pbx_has_forgotten_more_than_one(self) -> None:
        world, pbx = watched()
        pbx.restart()
        pbx.refuses_unknown = True
        world.run(600, until=lambda: bool(pbx.registers))
        noticed = world.now
        world.run(2 * COUNT / RATE + 2)
        assert pbx.standing(world.now) == COUNT
        assert max(pbx.per_second(noticed, world.now).values()) <= RATE

    def test_one_user_that_is_gone_at_the_pbx_costs_the_others_next_to_nothing(self) -> None:
        world, pbx = watched()
        gone: list[str] = []

        def script(headers: Headers) -> tuple[int, Headers]:
            gone.append(headers["call-id"])
            return (404, {}) if headers["call-id"] == gone[0] else (0, {})

        pbx.script = script
        world.run(600, until=lambda: bool(gone))
        world.run(1)
        assert 2 + 3 <= len(pbx.registers) <= 2 + 3 + 3  # some may have been due by themselves
        assert world.states() == {"registered": COUNT - 1, "refused": 1}

    def test_a_pbx_that_refuses_all_is_not_asked_more_than_twice_each(self) -> None:
        world, pbx = watched()
        pbx.script = lambda headers: (403, {})
        world.run(600, until=lambda: bool(pbx.registers))
        world.run(2 * COUNT / RATE + 2)
        counts = [sum(one == call_id for _, one, _ in pbx.registers) for call_id in {c for _, c, _ in pbx.registers}]
        assert len(counts) == COUNT
        assert world.states() == {"refused": COUNT}
        assert max(pbx.per_second(START, world.now).values()) <= RATE

    def test_what_never_stood_was_not_forgotten(self) -> None:
        pbx = ScriptedPbx()
        pbx.script = lambda headers: (404, {})
        world = World(many(3, tenants=3), pbx)
        world.run(2)
        assert len(pbx.registers) == 3
        assert "upstream.forgotten" not in world.bench.edge.counters
