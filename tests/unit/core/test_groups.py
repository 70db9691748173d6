"""Ring groups: who rings when, who is passed over, and what comes when nobody answers."""

from __future__ import annotations

import pytest

from sipd.rounds import MAX_BRANCHES
from sipd.routing.model import Limits, Number
from tests.unit.core.bench import End, credentials
from tests.unit.core.house import EXTENSIONS, House, acme, group, kinds, refuse


def who_rings(phones: dict[str, End]) -> list[str]:
    """The extensions whose phones got an INVITE since the last look."""
    return [name for name, phone in phones.items() if any(m.method == "INVITE" for m in phone.taken() if not m.status)]


def all_phones(on: House) -> dict[str, End]:
    return {extension: on.phone(extension) for extension in EXTENSIONS}


class TestAll:
    def test_all_members_ring_and_the_others_are_told_that_it_is_done(self) -> None:
        on = House(acme(groups=(group("all"),)))
        one, two, three = on.phones()
        on.rings("600")
        invites = [phone.take("INVITE") for phone in (one, two, three)]
        for phone, invite in zip((one, two, three), invites, strict=True):
            phone.answer(invite, 180, "r")
        two.answer(invites[1], 200, "r")
        assert on.told() == [180, 180, 180, 200]
        for phone in (one, three):
            assert "completed elsewhere" in (phone.take("CANCEL").get("reason") or "")

    def test_a_phone_sees_the_caller_and_the_group(self) -> None:
        on = House(acme(groups=(group("all"),)))
        one = on.phone()
        on.rings("600")
        invite = one.take("INVITE")
        assert invite.from_.uri_text == "sip:+4930@pbx.example"
        assert str(invite.to) == '"Sales" <sip:600@acme.example>'
        assert invite.split("history-info") == [
            "<sip:600@acme.example>;index=1",
            "<sip:101@acme.example>;index=1.1;mp=1",
        ]
        assert not invite.has("diversion")

    def test_who_answers_is_in_the_record(self) -> None:
        on = House(acme(groups=(group("all"),)))
        one, two, _ = on.phones()
        on.rings("600")
        one.take("INVITE")
        two.answer(two.take("INVITE"), 200, "two")
        ok = on.pbx.taken()[-1]
        on.pbx.send(on.pbx.within(ok, "ACK", 1))
        on.pbx.send(on.pbx.within(ok, "BYE", 2))
        (ended,) = on.bench.events("call.ended")
        assert ended["user"] == "acme-102"
        assert ended["detail"]["group"] == "600"  # type: ignore[index]
        assert ended["detail"]["rang"] == ["102"]  # type: ignore[index]

    @pytest.mark.parametrize("status", [603, 486, 302])
    def test_one_member_speaks_for_that_member_only(self, status: int) -> None:
        """A decline ends the member's own phones; a redirect is a forward of the member's own, and does not count."""
        on = House(acme(groups=(group("all", "101", "102"),)))
        desk, mobile, two = on.phone("101", 1), on.phone("101", 2), on.phone("102")
        on.rings("600")
        mobile.answer(mobile.take("INVITE"), 180, "m")
        refuse(desk, status, Contact="<sip:103@acme.example>")
        assert [m.method for m in mobile.taken()] == (["CANCEL"] if status == 603 else [])
        two.answer(two.take("INVITE"), 200, "two")
        assert on.told() == [180, 200]

    def test_when_all_decline_the_caller_is_told(self) -> None:
        on = House(acme(groups=(group("all", "101", "102"),)))
        one, two = on.phone("101"), on.phone("102")
        on.rings("600")
        refuse(one, 603)
        refuse(two, 603)
        assert on.told() == [603]

    def test_two_members_answer_at_once(self) -> None:
        on = House(acme(groups=(group("all", "101", "102"),)))
        one, two = on.phone("101"), on.phone("102")
        on.rings("600")
        first, second = one.take("INVITE"), two.take("INVITE")
        one.answer(first, 200, "one")
        two.answer(second, 200, "two")
        assert kinds(two.taken()) == ["ACK", "BYE"]
        assert on.told() == [200]

    def test_no_more_phones_than_allowed_ring_and_the_preferred_ones_do(self) -> None:
        on = House(acme({e: {"max_bindings": 32} for e in EXTENSIONS}, groups=(group("all"),)))
        phones = [on.phone(e, place, q="0.9" if place % 2 else "0.1") for e in EXTENSIONS for place in range(1, 21)]
        on.rings("600")
        rung = [phone for phone in phones if phone.taken()]
        assert len(rung) == MAX_BRANCHES
        assert sum(int(phone.flow.host.split(".")[2]) % 2 for phone in rung) == 30

    def test_a_member_who_calls_the_group_does_not_ring(self) -> None:
        on = House(acme(groups=(group("all"),)))
        one, two, _ = on.phones()
        one.call("600")
        one.nothing()
        assert two.take("INVITE").from_.uri_text == "sip:101@acme.example"


class TestInTurn:
    def test_each_rings_for_its_time(self) -> None:
        on = House(acme(groups=(group("in_turn", member_seconds=10),)))
        one, two, three = on.phones()
        on.rings("600")
        two.nothing()
        invite = one.take("INVITE")
        one.answer(invite, 180, "one")
        on.passes(10.1)
        one.take("CANCEL")
        refuse(two, 486)
        three.answer(three.take("INVITE"), 200, "three")
        assert on.told() == [180, 200]

    def test_it_begins_with_the_first_each_time(self) -> None:
        on = House(acme(groups=(group("in_turn"),)))
        phones = all_phones(on)
        for _ in range(2):
            on.rings("600")
            assert who_rings(phones) == ["101"]
            on.gives_up()

    def test_ring_seconds_bound_the_whole(self) -> None:
        on = House(acme(groups=(group("in_turn", member_seconds=10, ring_seconds=15),)))
        one, two, three = on.phones()
        on.rings("600")
        one.answer(one.take("INVITE"), 180, "one")
        on.passes(10.1)
        two.answer(two.take("INVITE"), 180, "two")
        on.passes(5.1)
        two.take("CANCEL")
        three.nothing()
        assert on.told()[-1] == 480
        assert on.refusals() == ["no-answer"]

    def test_a_member_who_is_gone_when_its_turn_comes_is_passed_over(self) -> None:
        on = House(acme(groups=(group("in_turn"),)))
        one, two, three = on.phones()
        on.rings("600")
        two.register(extension="102", Contact="<sip:102@10.0.0.9:5062>;expires=0")
        refuse(one, 486)
        two.nothing()
        three.take("INVITE")


class TestRoundRobin:
    def test_it_begins_after_who_was_first_last(self) -> None:
        on = House(acme(groups=(group("round_robin"),)))
        phones = all_phones(on)
        begun = []
        for _ in range(5):
            on.rings("600")
            begun += who_rings(phones)
            on.gives_up()
        assert begun == ["101", "102", "103", "101", "102"]

    def test_it_goes_round(self) -> None:
        on = House(acme(groups=(group("round_robin"),)))
        phones = all_phones(on)
        on.rings("600")
        who_rings(phones)
        on.gives_up()
        on.rings("600")
        for extension in ("102", "103", "101"):
            refuse(phones[extension], 486)
        assert on.told()[-1] == 486

    def test_the_turn_outlives_a_new_table_and_a_member_who_left(self) -> None:
        routing = acme(groups=(group("round_robin"),))
        on = House(routing)
        phones = all_phones(on)
        on.rings("600")
        assert who_rings(phones) == ["101"]
        on.gives_up()
        on.bench.load(on.bench.edge.compiled.table)
        on.rings("600")
        assert who_rings(phones) == ["102"]

    def test_who_is_passed_over_loses_nothing(self) -> None:
        on = House(acme({"102": {"do_not_disturb": True}}, groups=(group("round_robin"),)))
        phones = all_phones(on)
        begun = []
        for _ in range(3):
            on.rings("600")
            begun += who_rings(phones)
            on.gives_up()
        assert begun == ["101", "103", "101"]


class TestPassedOver:
    @pytest.mark.parametrize("strategy", ["all", "in_turn", "round_robin"])
    def test_do_not_disturb_no_phone_and_busy(self, strategy: str) -> None:
        of_users = {"101": {"do_not_disturb": True}, "103": {"limits": Limits(calls=0)}}
        on = House(acme(of_users, groups=(group(strategy),)))
        one, three = on.phone("101"), on.phone("103")
        on.rings("600")
        one.nothing()
        three.nothing()
        assert on.told() == [486]
        assert on.refusals() == ["group-busy"]

    @pytest.mark.parametrize(
        ("of_users", "registered", "told", "rule"),
        [
            ({}, False, 480, "group-no-phone"),
            ({e: {"do_not_disturb": True} for e in EXTENSIONS}, True, 486, "group-busy"),
        ],
    )
    def test_nobody_is_left(
        self, of_users: dict[str, dict[str, object]], registered: bool, told: int, rule: str
    ) -> None:
        on = House(acme(of_users, groups=(group("all"),)))
        if registered:
            on.phones()
        on.rings("600")
        assert on.told() == [told]
        assert on.refusals() == [rule]
        on.assert_nothing_left()

    def test_members_own_forwards_do_not_apply(self) -> None:
        of_users = {"101": {"forward_always": "103", "forward_busy": "103"}}
        on = House(acme(of_users, groups=(group("all", "101"),)))
        one, three = on.phone("101"), on.phone("103")
        on.rings("600")
        refuse(one, 486)
        three.nothing()
        assert on.told() == [486]

    def test_a_member_on_a_call_is_busy_by_its_limit_and_free_again_after_it(self) -> None:
        on = House(acme({"101": {"limits": Limits(calls=1)}}, groups=(group("all", "101", "102"),)))
        one, two = on.phone("101"), on.phone("102")
        on.rings("101")
        invite = one.take("INVITE")
        on.rings("600")
        one.nothing()
        refuse(two, 486)
        one.answer(invite, 486, "x")
        one.take("ACK")
        on.rings("600")
        one.take("INVITE")


class TestAfterwards:
    @pytest.mark.parametrize("why", ["nobody answers", "all busy", "no phone"])
    def test_the_groups_forward(self, why: str) -> None:
        sales = group("all", "101", forward_no_answer="103", ring_seconds=10)
        on = House(acme(groups=(sales,)))
        one, three = on.bench.end("203.0.0.101", 5062), on.phone("103")
        if why != "no phone":
            on.phone("101")
        on.rings("600")
        if why == "nobody answers":
            one.answer(one.take("INVITE"), 180, "one")
            on.passes(10.1)
        elif why == "all busy":
            refuse(one, 486)
        invite = three.take("INVITE")
        assert invite.split("diversion") == ["<sip:600@acme.example>;reason=no-answer;counter=1"]
        assert on.told()[-1] == 181

    def test_a_forward_out_uses_a_members_account(self) -> None:
        on = House(acme(groups=(group("all", "102", forward_no_answer="+49170"),)))
        on.rings("600")
        invite = next(m for m in on.pbx.taken() if m.method == "INVITE" and not m.status)
        assert invite.from_.uri_text == "sip:102@pbx.example"

    def test_cancel_while_a_group_rings(self) -> None:
        on = House(acme(groups=(group("in_turn"),)))
        one, two, _ = on.phones()
        on.rings("600")
        refuse(one, 486)
        invite = two.take("INVITE")
        two.answer(invite, 180, "two")
        on.gives_up()
        assert on.told() == [180, 200, 487]
        two.take("CANCEL")
        two.answer(invite, 487, "two")
        on.assert_nothing_left()

    def test_groups_that_forward_to_each_other(self) -> None:
        first = group("all", "101", forward_no_answer="700")
        second = group("all", "101", extension="700", forward_no_answer="600")
        on = House(acme(groups=(first, second)))
        on.rings("600")
        assert on.told() == [181, 181, 480]
        assert on.refusals() == ["forward-loop"]


class TestHowItIsReached:
    def test_by_number(self) -> None:
        on = House(acme(groups=(group("all"),), numbers=(Number("n", "+4930123", group="group-600"),)))
        one = on.phone()
        on.rings("+4930123")
        assert one.take("INVITE").to.uri_text == "sip:600@acme.example"

    def test_by_phones_whatever_the_rule_for_internal_calls(self) -> None:
        on = House(acme(groups=(group("all", "102"),)))
        one, two = on.phone("101"), on.phone("102")
        one.call("600")
        two.take("INVITE")
        on.pbx.nothing()

    @pytest.mark.parametrize("by", ["pbx", "phone"])
    def test_a_message_goes_to_all_members(self, by: str) -> None:
        on = House(acme(groups=(group("all", "102", "103"),)))
        one, two, three = on.phones()
        uri = "sip:600@acme.example"
        if by == "pbx":
            on.pbx.send(on.pbx.request("MESSAGE", uri, from_="sip:9@pbx.example", to=uri, call_id="m"))
        else:
            aor = "sip:101@acme.example"
            one.send(one.request("MESSAGE", uri, from_=aor, to=uri, call_id="m"))
            answer = credentials(one.take(401), "101", "MESSAGE", uri)
            one.send(one.request("MESSAGE", uri, from_=aor, to=uri, call_id="m", Authorization=answer))
        for phone in (two, three):
            message = phone.take("MESSAGE")
            assert message.to.uri_text == uri
            phone.answer(message, 200, "x")
        (on.pbx if by == "pbx" else one).take(200)

    def test_a_message_to_a_group_without_phones(self) -> None:
        on = House(acme(groups=(group("all"),)))
        uri = "sip:600@acme.example"
        on.pbx.send(on.pbx.request("MESSAGE", uri, from_="sip:9@pbx.example", to=uri, call_id="m"))
        on.pbx.take(480)
        assert on.refusals() == ["no-binding"]
