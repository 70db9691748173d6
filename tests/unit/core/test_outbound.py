"""Calls out: which connection, as whom, and what comes when it fails; and calls inside by the connection's rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sipd.flow import Answer
from sipd.message.message import Message
from sipd.routing.model import Limits, OutboundRule, Tenant
from tests.unit.core.bench import End, connection, user
from tests.unit.core.house import House, acme

SECOND = "198.51.100.20"


def two_ways(*, accounts: tuple[str, ...] = ("acme-pbx", "second"), **first: object) -> Tenant:
    """acme, whose calls to 0... go through its PBX as the number behind it, and else through a second one."""
    made = acme(of_connection=first)
    second = connection("second", source=SECOND, registrar_domain="second.example", caller_id="from")
    rule = OutboundRule("out", 1, "0", 1, "+49", "acme-pbx", fallback="second")
    users = tuple(user("acme", e, "acme.example", accounts, caller_id=f"+4930{e}") for e in ("101", "102", "103"))
    return replace(made, users=users, connections=(*made.connections, second), outbound=(rule,))


class Ways(House):
    """A phone of 101 that calls 0170."""

    def __init__(self, of: Tenant | None = None) -> None:
        super().__init__(of or two_ways())
        self.second = self.bench.end(SECOND)
        self.one = self.phone()

    def call_out(self) -> Message:
        self.one.call("0170")
        return self.pbx.take("INVITE")


def invite_at(end: End) -> Message:
    return next(m for m in end.taken() if m.method == "INVITE" and not m.status)


class TestFallback:
    def test_the_number_is_as_the_rule_makes_it(self) -> None:
        assert Ways().call_out().uri == "sip:+49170@pbx.example"

    @pytest.mark.parametrize("status", [408, 500, 503, 504])
    def test_each_goes_out_with_its_own_account_and_caller_id(self, status: int) -> None:
        on = Ways()
        first = on.call_out()
        on.pbx.answer(first, status, "x")
        on.pbx.take("ACK")
        second = invite_at(on.second)
        assert first.from_.uri_text == "sip:101@pbx.example"
        assert second.uri == "sip:+49170@second.example"
        assert second.from_.uri_text == "sip:+4930101@second.example"
        assert second.call_id != first.call_id

    @pytest.mark.parametrize("status", [403, 404, 486, 603])
    def test_an_answer_of_the_called_is_none_of_the_connection(self, status: int) -> None:
        on = Ways()
        on.pbx.answer(on.call_out(), status, "x")
        assert not any(m.method == "INVITE" for m in on.second.taken())
        assert on.one.taken()[-1].status == status

    def test_early_media_of_the_first_does_not_stand_for_the_second(self) -> None:
        on = Ways()
        first = on.call_out()
        on.pbx.answer(first, 183, "x", body="early")
        early = on.one.take(183)
        on.pbx.answer(first, 503, "x")
        second = invite_at(on.second)
        on.second.answer(second, 180, "y")
        on.second.answer(second, 200, "y", body="answer")
        ringing, ok = on.one.taken()
        assert ringing.to.tag == ok.to.tag != early.to.tag

    def test_silence(self) -> None:
        """A PBX that says nothing is not waited for until timer B, as there is another."""
        on = Ways()
        on.call_out()
        on.passes(7)
        second = invite_at(on.second)
        on.second.answer(second, 200, "y")
        assert on.one.taken()[-1].status == 200

    def test_the_silent_one_is_asked_no_more(self) -> None:
        on = Ways()
        on.call_out()
        on.passes(7)
        on.second.answer(invite_at(on.second), 200, "y")
        on.pbx.taken()
        on.passes(40)
        assert on.pbx.taken() == []

    def test_a_late_answer_of_the_first_is_hung_up(self) -> None:
        on = Ways()
        first = on.call_out()
        on.passes(7)
        second = invite_at(on.second)
        on.pbx.taken()
        on.pbx.answer(first, 200, "late")
        assert [m.method for m in on.pbx.taken()][:2] == ["ACK", "BYE"]
        on.second.answer(second, 200, "y")
        assert on.one.taken()[-1].status == 200

    def test_a_slow_one_that_is_alive_is_waited_for(self) -> None:
        on = Ways()
        first = on.call_out()
        on.pbx.answer(first, 100)
        on.passes(20)
        assert not any(m.method == "INVITE" for m in on.second.taken())

    def test_no_way_there(self) -> None:
        on = Ways(two_ways(host="gone.example"))
        on.one.call("0170")
        for query in on.bench.edge.lookups_to_start():
            on.bench.edge.resolved(query, Answer((), 5.0), on.bench.now)
        on.bench.collect()
        assert invite_at(on.second).uri == "sip:+49170@second.example"

    def test_both_fail(self) -> None:
        on = Ways()
        on.pbx.answer(on.call_out(), 500, "x")
        on.second.answer(invite_at(on.second), 503, "y")
        assert on.one.taken()[-1].status == 500  # 503 would say that the edge has no room (RFC 3261 16.7)

    def test_without_an_account_at_the_first_it_is_passed_over(self) -> None:
        made = two_ways(accounts=("second",))
        first = replace(made.connections[0], strategy="on_behalf")
        on = Ways(replace(made, connections=(first, made.connections[1])))
        on.one.call("0170")
        assert not any(m.method == "INVITE" for m in on.pbx.taken())
        invite_at(on.second)

    def test_without_an_account_anywhere(self) -> None:
        made = two_ways(accounts=())
        strict = tuple(replace(c, strategy="on_behalf") for c in made.connections)
        on = Ways(replace(made, connections=strict))
        on.one.call("0170")
        on.one.take(403)
        assert on.refusals() == ["no-account"]

    def test_a_full_connection(self) -> None:
        on = Ways(two_ways(limits=Limits(calls=0)))
        on.one.call("0170")
        invite_at(on.second)

    def test_cancel_after_the_fall_back(self) -> None:
        on = Ways()
        on.pbx.answer(on.call_out(), 500, "x")
        second = invite_at(on.second)
        on.second.answer(second, 180, "y")
        on.one.take(180)
        on.bench.edge.calls_.hang_up(next(iter(on.bench.edge.calls_.calls.values())), 487, "Gone", on.bench.now)
        on.bench.collect()
        on.second.take("CANCEL")


class TestInternal:
    @pytest.mark.parametrize(
        ("rule", "registered", "through"),
        [
            ("through_pbx", True, True),
            ("direct_when_possible", True, False),
            ("direct_when_possible", False, True),
            ("always_direct", True, False),
            ("always_direct", False, None),
        ],
    )
    def test_by_the_connections_rule(self, rule: str, registered: bool, through: bool | None) -> None:
        on = House(acme({}, {"internal_calls": rule}))
        one = on.phone()
        two = on.phone("102") if registered else on.bench.end("203.0.0.102", 5062)
        one.call("102")
        if through:
            invite = on.pbx.take("INVITE")
            assert invite.uri == "sip:102@pbx.example"
            assert invite.from_.uri_text == "sip:101@pbx.example"
        else:
            on.pbx.nothing()
        if through is False:
            two.take("INVITE")
        elif through is None:
            one.take(480)

    def test_through_the_pbx_and_back(self) -> None:
        on = House()
        one, two = on.phone(), on.phone("102")
        one.call("102")
        out = on.pbx.take("INVITE")
        on.rings("102")
        back = two.take("INVITE")
        two.answer(back, 200, "two")
        on.pbx.answer(out, 200, "out")
        assert one.taken()[-1].status == 200
