"""Several places of one PBX: which of them a registration goes to, and when it returns."""

from __future__ import annotations

import pytest

from sipd.routing.lookup import compile_table
from sipd.routing.model import Alternate, Table
from sipd.wayout import connection_hops
from tests.unit.core.bench import PBX, START, Bench, connection, credentials, found, table, tenant
from tests.unit.core.scripted_pbx import Headers, ScriptedPbx, World, many

FIRST, SECOND = PBX, "198.51.100.20"
ALTERNATES = (Alternate(1, SECOND, 5060),)
INTERVAL = 10


def two_places(count: int = 60, **settings: object) -> tuple[World, ScriptedPbx, ScriptedPbx]:
    """All registered at the first of two places."""
    first, second = ScriptedPbx(FIRST, granted=120), ScriptedPbx(SECOND, granted=120)
    options = {"options_interval": INTERVAL, "upstream_rate": 20, **settings}
    world = World(many(count, tenants=3, alternates=ALTERNATES), first, second, **options)
    world.run(30)
    assert (first.standing(world.now), second.standing(world.now)) == (count, 0)
    return world, first, second


def where(world: World) -> set[str]:
    return {row["at"] for row in world.bench.edge.registrations(None, world.now)["upstream"]}


def busiest(pbx: ScriptedPbx, world: World) -> int:
    return max(pbx.per_second(START, world.now).values())


def test_the_places_of_a_connection_in_order() -> None:
    others = (Alternate(2, "c", 0), Alternate(1, "b", 5070), Alternate(2, "a", 0))
    hops, route = connection_hops(connection("x", alternates=others))
    assert hops == ((PBX, 5060, "udp"), ("b", 5070, "udp"), ("a", 0, "udp"), ("c", 0, "udp"))
    assert not route


def test_an_outbound_proxy_is_the_only_way() -> None:
    hops, route = connection_hops(connection("x", alternates=ALTERNATES, outbound_proxy="sip:198.51.100.77:5070;lr"))
    assert hops == (("198.51.100.77", 5070, "udp"),)
    assert route == "<sip:198.51.100.77:5070;lr>"


def test_registrations_go_on_at_the_alternate_and_return() -> None:
    world, first, second = two_places()
    first.up = False
    first.restart()
    world.run(120)
    assert second.standing(world.now) == 60
    assert world.states() == {"registered": 60}
    assert where(world) == {f"udp:{SECOND}:5060"}
    first.up = True
    world.run(60)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)
    assert where(world) == {f"udp:{FIRST}:5060"}
    taken_back = {call_id for _, call_id, expires in second.registers if expires == 0}
    assert len(taken_back) == 60
    assert busiest(first, world) <= 20
    assert busiest(second, world) <= 20
    world.run(300)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)
    assert not world.bench.edge.faults


def test_each_is_taken_back_before_it_returns() -> None:
    """Both places may share what they know: the same Contact must not be taken back after it came home."""
    world, first, second = two_places(3)
    first.up = False
    world.run(150)
    first.up = True
    first.registers, second.registers = [], []
    world.run(60)
    left = {call_id: at for at, call_id, expires in second.registers if expires == 0}
    came = {call_id: at for at, call_id, expires in first.registers if expires}
    assert len(left) == 3
    assert all(came[call_id] > at for call_id, at in left.items())


def test_one_finds_out_whether_the_better_place_serves_again() -> None:
    """OPTIONS is answered, and REGISTER is not: nobody leaves where it stands."""
    world, first, second = two_places()
    first.up = False
    world.run(120)
    first.up = True
    first.script = lambda headers: None
    first.registers = []
    world.run(100)
    assert second.standing(world.now) == 60
    assert 1 <= len({call_id for _, call_id, _ in first.registers}) <= 3
    assert not [1 for _, _, expires in second.registers if expires == 0]
    first.script = lambda headers: (503, {})
    world.run(100)
    assert second.standing(world.now) == 60
    first.script = None
    world.run(60)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


def test_503_goes_on_at_the_alternate() -> None:
    world, first, second = two_places()
    first.script = lambda headers: (503, {"Retry-After": "40"})
    world.run(120)
    assert second.standing(world.now) == 60
    first.script = None
    world.run(120)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


def test_a_refusal_does_not_go_on() -> None:
    """403 is the PBX's word, whichever of its places says it."""
    world, first, second = two_places(3)
    first.script = lambda headers: (403, {})
    world.run(120)
    assert not second.registers
    assert world.states() == {"refused": 3}


def test_none_serves() -> None:
    world, first, second = two_places()
    first.up = second.up = False
    world.run(300)
    assert world.states() == {"unreachable": 60}
    second.up = True
    world.run(60)
    assert second.standing(world.now) == 60
    first.up = True
    world.run(60)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


def test_the_first_is_down_from_the_beginning() -> None:
    first, second = ScriptedPbx(FIRST), ScriptedPbx(SECOND)
    first.up = False
    world = World(
        many(60, tenants=3, alternates=ALTERNATES), first, second, options_interval=INTERVAL, upstream_rate=20
    )
    world.run(60)
    assert second.standing(world.now) == 60
    first.up = True
    world.run(60)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


@pytest.mark.parametrize("before", [True, False])
def test_one_that_leaves_options_unanswered_is_returned_to(before: bool) -> None:
    first, second = ScriptedPbx(FIRST, granted=120), ScriptedPbx(SECOND, granted=120)
    first.answers_options = before
    routing = many(60, tenants=3, alternates=ALTERNATES)
    world = World(routing, first, second, options_interval=INTERVAL, upstream_rate=20)
    world.run(60)
    first.answers_options = first.up = False
    world.run(150)
    assert second.standing(world.now) == 60
    first.up = True
    world.run(120)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


def test_a_restart_of_the_node_knows_where_each_stands() -> None:
    world, first, second = two_places(6)
    edge, changes = world.bench.edge, []
    take = edge.take_changes
    edge.take_changes = lambda: changes.extend(take()) or []  # type: ignore[method-assign,func-returns-value]
    first.up = False
    world.run(150)
    again = World(None, first, second, options_interval=INTERVAL)
    again.bench.now = world.now
    again.bench.edge.restore({key: (kind, key, record) for kind, key, record in changes}.values(), again.now)
    again.bench.edge.load(compile_table(many(6, tenants=3, alternates=ALTERNATES)), again.now)
    assert where(again) == {f"udp:{SECOND}:5060"}
    first.up = True
    again.run(150)
    assert where(again) == {f"udp:{FIRST}:5060"}
    assert (first.standing(again.now), second.standing(again.now)) == (6, 0)


def test_an_alternate_that_comes_or_goes_in_the_table_costs_no_registration() -> None:
    world, first, second = two_places()
    first.registers = []
    world.bench.load(many(60, tenants=3))
    world.run(20)
    assert first.standing(world.now) == 60
    assert not [1 for _, _, expires in first.registers if expires == 0]
    assert not second.registers


def test_what_stands_at_an_alternate_that_goes_from_the_table_is_taken_back_there() -> None:
    world, first, second = two_places()
    first.up = False
    world.run(120)
    first.up = True
    world.bench.load(many(60, tenants=3))
    world.run(60)
    assert (first.standing(world.now), second.standing(world.now)) == (60, 0)


def test_a_user_that_goes_is_taken_back_where_it_stands() -> None:
    world, first, second = two_places()
    first.up = False
    world.run(120)
    assert second.standing(world.now) == 60
    world.bench.load(table(tenant("other", extensions=())))
    world.run(60)
    assert second.standing(world.now) == 0
    assert world.bench.edge.registrations(None, world.now)["upstream"] == []


@pytest.mark.parametrize("interval", [0, INTERVAL])
def test_names_with_several_addresses_and_an_alternate_by_name(interval: int) -> None:
    routing = many(3, tenants=1, host="pbx.example.com", port=0, alternates=(Alternate(1, "b.example.com", 0),))
    first, second = ScriptedPbx(FIRST), ScriptedPbx(SECOND)
    third = ScriptedPbx("198.51.100.30")
    first.up = second.up = False
    world = World(routing, first, second, third, options_interval=interval)
    world.run(0.1)
    edge = world.bench.edge

    def resolve() -> None:
        for query in edge.lookups_to_start():
            places = (FIRST, SECOND) if query.host == "pbx.example.com" else (third.host,)
            edge.resolved(query, found(*places, ttl=3600), world.now)

    resolve()
    for _ in range(60):
        world.run(1)
        resolve()
    assert third.standing(world.now) == 3
    assert first.registers == second.registers == []


def test_equal_targets_drawn_anew_move_nobody() -> None:
    """RFC 2782: the weights are drawn at each look-up."""
    routing = many(1, tenants=1, host="pbx.example.com", port=0)
    pbxs = {host: ScriptedPbx(host, granted=60) for host in (FIRST, SECOND)}
    world = World(routing, *pbxs.values())
    edge = world.bench.edge
    for step in range(600):
        world.run(1)
        for query in edge.lookups_to_start():
            places = (FIRST, SECOND) if step % 2 else (SECOND, FIRST)
            edge.resolved(query, found(*places, ttl=10), world.now)
    assert sorted(bool(pbx.registers) for pbx in pbxs.values()) == [False, True]


class TestCalls:
    """Requests out through a connection use the same places in the same order."""

    def routing(self, **more: object) -> Table:
        return table(tenant("acme", of_connection={"alternates": ALTERNATES, **more}))

    def test_a_call_goes_on_at_the_alternate(self) -> None:
        bench = Bench(self.routing())
        phone = bench.end("203.0.113.1", 5062)
        phone.register()
        phone.call("555")
        bench.end(FIRST).answer(bench.end(FIRST).take("INVITE"), 503, "a")
        bench.end(SECOND).take("INVITE")

    def test_message_and_subscribe_go_on_at_the_alternate(self) -> None:
        for method, headers in (("MESSAGE", {}), ("SUBSCRIBE", {"Event": "presence", "Contact": "<sip:1@10.0.0.9>"})):
            bench = Bench(self.routing())
            phone = bench.end("203.0.113.1", 5062)
            phone.register()
            aor, uri = "sip:101@acme.example", "sip:555@acme.example"
            phone.send(phone.request(method, uri, from_=aor, to=uri, call_id="m", **headers))
            signed = {**headers, "Authorization": credentials(phone.take(401), "101", method, uri)}
            phone.send(phone.request(method, uri, from_=aor, to=uri, call_id="m", **signed))
            bench.end(FIRST).answer(bench.end(FIRST).take(method), 503, "a")
            bench.end(SECOND).take(method)

    def test_a_call_goes_first_where_the_pbx_answers(self) -> None:
        """What OPTIONS found out spares each call the wait."""
        world, first, _ = two_places()
        first.up = False
        world.run(120)
        flows: list[str] = []
        (acme, *_) = many(60, tenants=3, alternates=ALTERNATES).tenants
        link = acme.connections[0]
        edge = world.bench.edge
        edge.upstream.ways.find(acme.id, link, lambda found, now: flows.extend(flow.host for flow in found), world.now)
        assert flows == [FIRST, SECOND]
        ordered = edge.sender.in_order([world.bench.end(host).flow for host in flows], world.now)
        assert [flow.host for flow in ordered] == [SECOND, FIRST]

    def test_a_call_from_an_alternate_that_is_no_source_is_refused(self) -> None:
        bench = Bench(self.routing())
        alternate = bench.end(SECOND)
        uri = "sip:101@acme.example"
        alternate.send(
            alternate.request("INVITE", uri, from_="sip:1@x", to=uri, call_id="c", Contact="<sip:198.51.100.20>")
        )
        alternate.take(403)


def test_a_challenge_is_answered_where_it_came_from() -> None:
    asked: list[Headers] = []

    def challenge(headers: Headers) -> tuple[int, Headers]:
        asked.append(headers)
        if "authorization" not in headers:
            return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'}
        return 0, {}

    first, second = ScriptedPbx(FIRST), ScriptedPbx(SECOND)
    first.up = False
    second.script = challenge
    world = World(many(1, tenants=1, alternates=ALTERNATES), first, second)
    world.run(30)
    assert second.standing(world.now) == 1
    assert ["authorization" in headers for headers in asked] == [False, True]
