"""Upstream registrations when the table changes while a REGISTER is under way, and what odd PBXs grant."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sipd.message.message import Message
from sipd.routing.lookup import compile_table
from sipd.routing.model import Table
from tests.unit.core.bench import PBX, Bench, End, connection, found, table, tenant
from tests.unit.core.talk import CHALLENGE


def one_user(*, mode: bool = True, **more: object) -> Table:
    return table(tenant("acme", mode=mode, strategy="on_behalf", extensions=("101",), **more))


def without_user() -> Table:
    return table(tenant("acme", extensions=()))


def grant(pbx: End, request: Message, seconds: int = 600) -> None:
    pbx.answer(request, 200, "t", Contact=f"<{request.contacts[0].uri_text}>;expires={seconds}")


def started(mode: bool = True) -> tuple[Bench, End, Message]:
    bench = Bench(one_user(mode=mode))
    bench.pass_time(0.1)
    pbx = bench.end(PBX)
    return bench, pbx, pbx.take("REGISTER")


def next_register(bench: Bench, pbx: End, within: float = 3.0) -> Message:
    """The only new one; it may have come several times."""
    bench.pass_time(within)
    first, *again = pbx.taken()
    assert all(m.data == first.data for m in again)
    return first


def describe(request: Message) -> tuple[str, int | None]:
    return request.contacts[0].uri_text, request.expires


ON, OFF = "sip:101@acme.example", "sip:101@192.0.2.1:5060;local-domain=acme.example"


class TestWhileARegisterIsUnderWay:
    """One REGISTER at a time; what the PBX may hold is taken back before something else is put there."""

    def test_the_mode_is_switched(self) -> None:
        bench, pbx, first = started(mode=False)
        bench.load(one_user(mode=True))
        grant(pbx, first)
        leaving = next_register(bench, pbx)
        assert describe(leaving) == (OFF, 0)
        grant(pbx, leaving, 0)
        new = next_register(bench, pbx)
        assert describe(new) == (ON, 600)
        assert new.call_id == first.call_id
        assert [m.cseq.number for m in (first, leaving, new)] == [1, 2, 3]
        grant(pbx, new)
        assert bench.edge.registrations(None, bench.now)["upstream"][0]["state"] == "registered"

    def test_a_refresh_is_under_way_when_the_mode_is_switched(self) -> None:
        bench, pbx, first = started(mode=False)
        grant(pbx, first)
        bench.edge.renew("acme", None, bench.now)
        refresh = next_register(bench, pbx, 0.1)
        bench.load(one_user(mode=True))
        pbx.answer(refresh, 401, "t", WWW_Authenticate=CHALLENGE.format("pbx", "n"))
        signed = next_register(bench, pbx, 0.1)
        assert describe(signed) == (OFF, 600)  # the request that was challenged, and no other
        grant(pbx, signed)
        leaving = next_register(bench, pbx)
        assert describe(leaving) == (OFF, 0)
        grant(pbx, leaving, 0)
        assert describe(next_register(bench, pbx)) == (ON, 600)

    def test_the_mode_is_switched_and_back(self) -> None:
        bench, pbx, first = started(mode=True)
        bench.load(one_user(mode=False))
        bench.load(one_user(mode=True))
        grant(pbx, first)
        again = next_register(bench, pbx)
        assert describe(again) == (ON, 600)
        grant(pbx, again)
        bench.pass_time(100)
        pbx.nothing()

    def test_the_user_is_removed(self) -> None:
        bench, pbx, first = started()
        bench.load(without_user())
        grant(pbx, first)
        leaving = next_register(bench, pbx)
        assert describe(leaving) == (ON, 0)
        grant(pbx, leaving, 0)
        bench.pass_time(1000)
        pbx.nothing()
        assert bench.edge.registrations(None, bench.now)["upstream"] == []
        assert len(bench.edge.timers) == 0

    def test_the_user_is_removed_and_refused(self) -> None:
        bench, pbx, first = started()
        bench.load(without_user())
        pbx.answer(first, 403, "t")
        bench.pass_time(1000)
        pbx.nothing()
        assert len(bench.edge.timers) == 0

    def test_the_user_is_removed_and_comes_back_while_it_leaves(self) -> None:
        bench, pbx, first = started()
        grant(pbx, first)
        bench.load(without_user())
        leaving = next_register(bench, pbx, 0.1)
        assert describe(leaving) == (ON, 0)
        bench.load(one_user())
        bench.pass_time(0.3)
        pbx.nothing()  # after the removal, never beside it
        grant(pbx, leaving, 0)
        again = next_register(bench, pbx)
        assert describe(again) == (ON, 600)
        assert again.call_id == leaving.call_id
        assert again.cseq.number > leaving.cseq.number
        grant(pbx, again)
        assert len(bench.edge.registrations(None, bench.now)["upstream"]) == 1

    def test_the_user_moves_to_another_pbx(self) -> None:
        bench, pbx, first = started()
        other = bench.end("198.51.100.99")
        bench.load(one_user(of_connection={"host": "198.51.100.99"}))
        bench.pass_time(0.1)
        grant(other, other.take("REGISTER"))
        grant(pbx, first)
        leaving = next_register(bench, pbx)
        assert describe(leaving) == (ON, 0)
        grant(pbx, leaving, 0)
        (only,) = bench.edge.registrations(None, bench.now)["upstream"]
        assert only["state"] == "registered"

    def test_a_look_up_is_under_way(self) -> None:
        named = {"host": "sip.pbx.example", "sources": (PBX,)}
        bench = Bench(one_user(of_connection=named))
        bench.pass_time(0.1)
        (query,) = bench.edge.lookups_to_start()
        bench.load(one_user(mode=False, of_connection=named))
        bench.edge.resolved(query, found(PBX), bench.now)
        bench.collect()
        pbx = bench.end(PBX)
        assert describe(pbx.take("REGISTER")) == (OFF, 600)


def test_a_restart_that_finds_another_mode_takes_the_old_contact_back() -> None:
    bench, pbx, first = started(mode=False)
    grant(pbx, first)
    again = Bench()
    again.edge.restore(bench.edge.take_changes(), again.now)
    again.edge.load(compile_table(one_user(mode=True)), again.now)
    pbx = again.end(PBX)
    leaving = next_register(again, pbx)
    assert describe(leaving) == (OFF, 0)
    grant(pbx, leaving, 0)
    assert describe(next_register(again, pbx)) == (ON, 600)


def test_a_dead_pbx_does_not_keep_the_new_contact_waiting_for_ever() -> None:
    bench, pbx, first = started(mode=False)
    grant(pbx, first)
    bench.load(one_user(mode=True))
    leaving = next_register(bench, pbx, 0.1)
    assert leaving.expires == 0
    bench.pass_time(60)
    assert describe(pbx.taken()[-1]) == (ON, 600)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_pbx_that_grants_next_to_nothing_is_not_flooded(seconds: int) -> None:
    bench, pbx, first = started()
    grant(pbx, first, seconds)
    for _ in range(60):
        bench.pass_time(1)
        for request in pbx.taken():
            grant(pbx, request, seconds)
    assert bench.edge.counters["upstream.sent"] <= 15
    (only,) = bench.edge.registrations(None, bench.now)["upstream"]
    assert only["next"] is not None
    if seconds == 0:
        assert only["state"] == "refused"


def test_a_pbx_that_grants_a_year_is_asked_again_as_often_as_we_wanted() -> None:
    bench, pbx, first = started()
    grant(pbx, first, 31_536_000)
    bench.pass_time(600)
    pbx.take("REGISTER")


class OddPbx:
    """Grants, refuses, challenges, or keeps silent, by chance; knows what it holds."""

    def __init__(self, end: End, chance: random.Random) -> None:
        self.end = end
        self.chance = chance
        self.open: Message | None = None
        """The last REGISTER without answer."""
        self.bound: dict[str, bool] = {}

    def take(self) -> None:
        for request in self.end.taken():
            if self.open is not None and self.open.call_id == request.call_id:
                assert request.cseq.number >= self.open.cseq.number, "one at a time, in order"
            self.open = request
            if request.expires == 0:
                self.bound[request.contacts[0].uri_text] = False  # asked once is enough, whatever it answers

    def grant(self) -> None:
        request, self.open = self.open, None
        if request is not None:
            self.bound[request.contacts[0].uri_text] = bool(request.expires)
            grant(self.end, request, request.expires or 0)

    def act(self) -> None:
        act, request = self.chance.random(), self.open
        if request is None or act > 0.7:
            return
        if act < 0.5:
            self.grant()
            return
        self.open = None
        if act < 0.6:
            self.end.answer(request, self.chance.choice((403, 500, 503)), "t")
        else:
            self.end.answer(request, 401, "t", WWW_Authenticate=CHALLENGE.format("pbx", self.chance.random()))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_a_registration_goes_on(seed: int) -> None:
    """Random loads and answers: never two REGISTERs under way, CSeq rises, and at last all is as the table says."""
    chance = random.Random(seed)
    tables = [
        one_user(mode=True), one_user(mode=False), without_user(), one_user(mode=True, of_connection={"expires": 300}),
        table(replace(one_user().tenants[0], suspended=True)),
    ]  # fmt: skip
    bench = Bench(chance.choice(tables))
    pbx = OddPbx(bench.end(PBX), chance)
    for _ in range(300):
        bench.pass_time(chance.choice((0.01, 0.3, 2.0, 40.0)))
        pbx.take()
        if chance.random() < 0.3:
            bench.load(chance.choice(tables))
        pbx.act()
    bench.load(tables[0])
    for _ in range(2000):
        bench.pass_time(1)
        pbx.take()
        pbx.grant()
    (only,) = bench.edge.registrations(None, bench.now)["upstream"]
    assert only["state"] == "registered"
    assert {contact for contact, there in pbx.bound.items() if there} == {ON}
    assert len(bench.edge.timers) == 1 + bench.edge.layer.clients  # the refresh, and what the last one left
    assert not bench.edge.faults


def test_two_connections_of_a_user_are_two_registrations() -> None:
    (acme,) = one_user().tenants
    second = connection("second", source="198.51.100.99", strategy="on_behalf")
    entry = replace(acme.users[0].upstream[0], connection="second")
    users = (replace(acme.users[0], upstream=(*acme.users[0].upstream, entry)),)
    bench = Bench(table(replace(acme, connections=(*acme.connections, second), users=users)))
    bench.pass_time(0.1)
    first, other = bench.end(PBX).take("REGISTER"), bench.end("198.51.100.99").take("REGISTER")
    assert first.call_id != other.call_id
